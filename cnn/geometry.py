"""Sizes, receptive fields, parameters and multiply-adds of a net, before any array exists."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jax.export import is_symbolic_dim

from cnn.layers import Dense, Flatten, Layer, Shape
from cnn.windows import GeometryError, Pair, is_sure, shape_text, whole

SEARCH_RADIUS = 256  # pixels; how far from a size that does not fit to search for sizes that do
TERMINAL = 80  # columns that a printed table tries to stay within


class UndeclaredError(GeometryError):
    """A layer that does not say whether it mixes pixels, or says it wrongly; the message names the layer."""


class Row(NamedTuple):
    """One layer in a geometry table; pairs are (vertical, horizontal), in pixels of the net's input image.

    Attributes:
      name: the layer's name, as in the parameter tree.
      kind: kind of the layer, such as "conv" or "max pool".
      output_shape: (height, width, channels), or (features,), without the batch axis.
      params: number of trained parameters.
      macs: multiply-adds for one image.
      receptive_field: size of the box of pixels that one output value sees.
      stride: distance between the boxes of neighbouring output values: the product of the strides up to this layer.
      offset: pixel at which the box of the first output value starts; negative if the box reaches into padding.
    """

    name: str
    kind: str
    output_shape: Shape
    params: int
    macs: int
    receptive_field: Pair
    stride: Pair
    offset: Pair


class Table(tuple[Row, ...]):
    """The rows of a net, one for each layer; prints as a table for a terminal of 80 columns.

    Attributes:
      input_shape: (height, width, channels) that the rows hold for.
    """

    input_shape: Shape

    def __new__(cls, rows: Sequence[Row], input_shape: Shape) -> "Table":
        table = super().__new__(cls, rows)
        table.input_shape = input_shape
        return table

    @property
    def params(self) -> int:
        """Parameters of the whole net."""
        return sum(row.params for row in self)

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole net for one image."""
        return sum(row.macs for row in self)

    def __getitem__(self, key: Any) -> Any:
        """Row by position, or by layer name."""
        if isinstance(key, str):
            for row in self:
                if row.name == key:
                    return row
            raise KeyError(f"no layer {key!r}; layers: {', '.join(row.name for row in self)}")
        return super().__getitem__(key)

    def __str__(self) -> str:
        header = ("layer", "kind", "output", "parameters", "multiply-adds", "field", "stride", "offset")
        lines = [header, ("input", "", shape_text(self.input_shape), "", "", "1", "1", "0")]
        for row in self:
            lines.append(
                (
                    row.name,
                    row.kind,
                    shape_text(row.output_shape),
                    _number_text(row.params),
                    _number_text(row.macs),
                    _pair_text(row.receptive_field, "x"),
                    _pair_text(row.stride, "x"),
                    _pair_text(row.offset, ","),
                )
            )
        lines.append(("total", "", "", _number_text(self.params) or "0", _number_text(self.macs) or "0", "", "", ""))
        widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
        # One space between columns where two would make lines longer than a terminal's.
        gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= TERMINAL else " "
        texts = []
        for name, kind, *numbers in lines:
            cells = [name.ljust(widths[0]), kind.ljust(widths[1])]
            cells += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
            texts.append(gap.join(cells).rstrip())
        return "\n".join([*texts, "field (receptive field), stride and offset are in pixels of the input image"])


def _number_text(number: int) -> str:
    """1234 -> "1,234", 0 -> "", and a formula of symbolic sizes as it is."""
    return str(number) if is_symbolic_dim(number) else f"{number:,}" if number else ""


def _pair_text(pair: Pair, between: str) -> str:
    """(5, 5) -> "5", (5, 3) -> "5x3"."""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}{between}{pair[1]}"


def layer_names(layers: Sequence[Layer]) -> list[str]:
    """Names of the layers, which are their keys in the parameter tree."""
    return [layer.name or f"layers_{i}" for i, layer in enumerate(layers)]


def table(net: Any, input_shape: Sequence[int], variables: Mapping[str, Any] | None = None) -> Table:
    """Computes what each layer of a net does to an image of a given size.

    Multiply-adds count convolutions, locally connected and fully connected layers; everything else counts as none.
    The receptive field of a Flatten or Dense is that of the whole map it sees, and its stride is that of the map: the
    stride that the layer has as a convolution.

    Args:
      net: a `cnn.nets.Net`, or a sequence of layers.
      input_shape: (height, width, channels), pixels; the numbers of a table for symbolic sizes (`jax.export`) are
        formulas of them, and sizes of which it cannot be known are taken to fit (`cnn.windows.conditions`).
      variables: a trained net's variables; then its fully connected kernels must fit too.

    Returns:
      A `Table` of `Row`s.

    Raises:
      GeometryError: naming the layer, the numbers, and the nearest image sizes that fit, if a size does not divide, a
        kernel is larger than its input, groups do not divide, a stride is 0, or a Dense has the wrong size; or if a
        layer does not say whether it mixes pixels (`cnn.layers.Layer`).
    """
    layers = net.layers if hasattr(net, "layers") else tuple(net)
    shape = tuple(whole(size) for size in input_shape)
    if len(shape) != 3 or any(is_sure(lambda size=size: size < 1) for size in shape):
        raise GeometryError(f"input_shape (={shape_text(shape)}) must be (height, width, channels), none below 1")
    inputs = _dense_inputs(layers, variables)
    try:
        return Table(list(_walk(layers, shape, inputs)), shape)
    except UndeclaredError:
        raise  # no other size would do
    except GeometryError as error:
        if any(map(is_symbolic_dim, shape)):
            raise  # there is no next number
        sizes = working_sizes(layers, shape, variables)
        if not sizes:
            raise
        texts = " or ".join(f"{shape_text(size)} pixels" for size in sizes)
        raise GeometryError(
            f"{error}, for an image of {shape_text(shape[:2])} pixels; nearest that do: {texts}"
        ) from None


def working_sizes(
    layers: Sequence[Layer], input_shape: Shape, variables: Mapping[str, Any] | None = None
) -> list[Pair]:
    """Image sizes near a given one that a net accepts: the nearest below and above, changing both sides or one.

    Args:
      layers: the net's layers.
      input_shape: (height, width, channels) to search around.
      variables: a trained net's variables; then its fully connected kernels must fit too.

    Returns:
      Up to two (height, width) within `SEARCH_RADIUS` pixels; empty if there are none.
    """
    inputs = _dense_inputs(layers, variables)
    height, width, channels = input_shape
    sizes = []
    for sign in (-1, 1):
        for distance in range(1, SEARCH_RADIUS + 1):
            d = sign * distance
            near = [(height + d, width + d), (height + d, width), (height, width + d)]
            fits = next((size for size in near if min(size) > 0 and _fits(layers, (*size, channels), inputs)), None)
            if fits:
                sizes.append(fits)
                break
    return sizes


def _fits(layers: Sequence[Layer], shape: Shape, inputs: Mapping[str, int]) -> bool:
    try:
        for _ in _walk(layers, shape, inputs):
            pass
    except GeometryError:
        return False
    return True


def _dense_inputs(layers: Sequence[Layer], variables: Mapping[str, Any] | None) -> dict[str, int]:
    """Number of input values of each trained Dense, by name."""
    params = (variables or {}).get("params", {})
    names = layer_names(layers)
    return {
        name: params[name]["kernel"].shape[0]
        for name, layer in zip(names, layers, strict=True)
        if isinstance(layer, Dense) and name in params
    }


def _walk(layers: Sequence[Layer], shape: Shape, inputs: Mapping[str, int]) -> Iterator[Row]:
    """Follows a shape and its receptive field through the layers."""
    field, stride, offset = (1, 1), (1, 1), (0, 0)
    for name, layer in zip(layer_names(layers), layers, strict=True):
        if layer.name is None:
            layer = layer.clone(name=name)
        if len(shape) == 3:
            _check_declaration(layer)
        output_shape = layer.output_shape(shape)
        wanted = inputs.get(name)
        if wanted is not None and wanted != shape[0]:
            raise GeometryError(f"{layer.label}: its kernel takes {wanted} values, got {shape[0]}")
        if isinstance(layer, Flatten):
            field = _pair(f + (n - 1) * s for f, n, s in zip(field, shape[:2], stride, strict=True))
        elif len(shape) == 3:
            window = layer.window(shape)
            field = _pair(f + (e - 1) * s for f, e, s in zip(field, window.extent, stride, strict=True))
            offset = _pair(o - p[0] * s for o, p, s in zip(offset, window.padding, stride, strict=True))
            stride = _pair(s * t for s, t in zip(stride, window.stride, strict=True))
        yield Row(name, layer.kind, output_shape, layer.param_count(shape), layer.macs(shape), field, stride, offset)
        shape = output_shape


def _check_declaration(layer: Layer) -> None:
    """Refuses layers that do not declare whether they mix pixels, or that mix pixels and declare no window."""
    if layer.mixes_pixels is None:
        raise UndeclaredError(
            f"{layer.label}: does not say whether it mixes pixels. Set mixes_pixels = False in class "
            f"{type(layer).__name__} if every output pixel depends on the input pixel at its own place alone; else "
            f"derive it from cnn.layers.WindowLayer and return its window from window()"
        )
    if isinstance(layer, Flatten | Dense):
        return
    if layer.mixes_pixels and type(layer).window is Layer.window:
        raise UndeclaredError(
            f"{layer.label}: mixes pixels and does not say over which window; class {type(layer).__name__} must return "
            f"it from window()"
        )
    if not layer.mixes_pixels and type(layer).window is not Layer.window:
        raise UndeclaredError(
            f"{layer.label}: has a window() and says mixes_pixels = False; remove one of the two from class "
            f"{type(layer).__name__}"
        )


def _pair(values: Iterator[int]) -> Pair:
    first, second = values
    return first, second
