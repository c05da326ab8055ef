"""Sizes, receptive fields, parameters and multiply-adds of a net, before any array exists."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.export import is_symbolic_dim

from cnn.layers import BatchNorm, Conv, Dense, Flatten, Layer, LocallyConnected, PReLU, Scale, Shape, layers_of
from cnn.windows import GeometryError, Pair, as_image_shape, shape_text

SEARCH_RADIUS = 256  # pixels; how far from a size that does not fit to search for sizes that do
SEARCH_LAYERS = 50_000  # most layers that are asked in such a search on one side, of nets of hundreds: seconds
TERMINAL = 80  # columns that a printed table tries to stay within


class UndeclaredError(GeometryError):
    """A layer that does not say whether it mixes pixels, or says it wrongly; the message names the layer."""


class VariablesError(GeometryError):
    """Variables that are not those of a net; the message names the layer, both numbers and the way out."""


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
    return [layer.name or f"layers_{i}" for i, layer in enumerate(layers_of(layers))]


def table(net: Any, input_shape: Sequence[int], variables: Mapping[str, Any] | None = None) -> Table:
    """Computes what each layer of a net does to an image of a given size.

    Multiply-adds count convolutions, locally connected and fully connected layers; everything else counts as none.
    The receptive field of a Flatten or Dense is that of the whole map it sees, and its stride is that of the map: the
    stride that the layer has as a convolution.

    Args:
      net: a `cnn.nets.Net`, or a sequence of layers.
      input_shape: (height, width, channels), pixels; the numbers of a table for symbolic sizes (`jax.export`) are
        formulas of them, and sizes of which it cannot be known are taken to fit (`cnn.windows.conditions`).
      variables: a trained net's variables; then they must be those of the net, and fit the image.

    Returns:
      A `Table` of `Row`s.

    Raises:
      GeometryError: naming the layer, the numbers, and the nearest image sizes that fit, if a size does not divide, a
        kernel is larger than its input, groups do not divide, a stride is 0, or a Dense has the wrong size; or if a
        layer does not say whether it mixes pixels (`cnn.layers.Layer`). `VariablesError`: if a layer has no variables,
        or a kernel takes another number of channels.
      TypeError: if the net is none, or the variables are not a dict.
    """
    layers = layers_of(net)
    shape = as_image_shape(input_shape)
    trained = None if variables is None else parameters(layers, variables)
    try:
        return Table(list(_walk(layers, shape, trained)), shape)
    except (UndeclaredError, VariablesError):
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
      variables: a trained net's variables; then its kernels must fit too.

    Returns:
      Up to two (height, width) within `SEARCH_RADIUS` pixels, fewer for nets of hundreds of layers; empty if there are
      none.
    """
    trained = None if variables is None else parameters(layers, variables)
    height, width, channels = as_image_shape(input_shape)
    sizes = []
    radius = min(SEARCH_RADIUS, SEARCH_LAYERS // (3 * len(layers) or 1))
    for sign in (-1, 1):
        for distance in range(1, radius + 1):
            d = sign * distance
            near = [(height + d, width + d), (height + d, width), (height, width + d)]
            fits = next((size for size in near if min(size) > 0 and _fits(layers, (*size, channels), trained)), None)
            if fits:
                sizes.append(fits)
                break
    return sizes


def parameters(layers: Sequence[Layer], variables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters and statistics of each layer, by the layer's name.

    Args:
      layers: the net's layers.
      variables: the net's variables, {"params": ..., "batch_stats": ...}, as `net.init` gives them.

    Returns:
      For each layer that has variables a dict from the name of the collection ("params", "batch_stats") to its part.

    Raises:
      TypeError: if the variables are not a dict.
      VariablesError: if they are one of the collections itself, such as `variables["params"]`.
    """
    if not isinstance(variables, Mapping):
        raise TypeError(f"variables are a {type(variables).__name__}; give the dict that net.init or a run holds")
    names = layer_names(layers)
    alone = [name for name in names if name in variables]
    if alone and "params" not in variables:
        raise VariablesError(
            f"variables hold {', '.join(alone)} themselves, and no 'params'; give all that net.init returned, not one "
            "entry of it: {'params': variables}, with 'batch_stats' if the net has them"
        )
    found: dict[str, dict[str, Any]] = {}
    for collection, tree in variables.items():
        for name in names:
            if isinstance(tree, Mapping) and name in tree:
                found.setdefault(name, {})[collection] = tree[name]
    return found


def _fits(layers: Sequence[Layer], shape: Shape, trained: Mapping[str, Any] | None) -> bool:
    try:
        for _ in _walk(layers, shape, trained):
            pass
    except GeometryError:
        return False
    return True


def _walk(layers: Sequence[Layer], shape: Shape, trained: Mapping[str, Any] | None) -> Iterator[Row]:
    """Follows a shape and its receptive field through the layers; `trained` is what `parameters` gives, if known."""
    field, stride, offset = (1, 1), (1, 1), (0, 0)
    for name, layer in zip(layer_names(layers), layers, strict=True):
        if layer.name is None:
            layer = layer.clone(name=name)
        if len(shape) == 3:
            _check_declaration(layer)
        output_shape = layer.output_shape(shape)
        if trained is not None:
            _check_trained(layer, shape, trained)
        if isinstance(layer, Flatten):
            field = _pair(f + (n - 1) * s for f, n, s in zip(field, shape[:2], stride, strict=True))
        elif len(shape) == 3:
            window = layer.window(shape)
            field = _pair(f + (e - 1) * s for f, e, s in zip(field, window.extent, stride, strict=True))
            offset = _pair(o - p[0] * s for o, p, s in zip(offset, window.padding, stride, strict=True))
            stride = _pair(s * t for s, t in zip(stride, window.stride, strict=True))
        yield Row(name, layer.kind, output_shape, layer.param_count(shape), layer.macs(shape), field, stride, offset)
        shape = output_shape


def _check_trained(layer: Layer, shape: Shape, trained: Mapping[str, Any]) -> None:
    """Refuses a layer whose trained variables are missing, or not those of a layer with such an input."""
    own = trained.get(layer.name or "", {})
    params = own.get("params", {})
    if layer.param_count(shape) and not jax.tree.leaves(params):
        others = ", ".join(name for name, found in trained.items() if "params" in found) or "no layer"
        raise VariablesError(f"{layer.label}: the variables hold no parameters of it, but of {others}; {_OWN}")
    if isinstance(layer, BatchNorm) and "batch_stats" not in own:
        raise VariablesError(
            f"{layer.label}: the variables lack its running means and variances, 'batch_stats'; give all that net.init "
            "returned, not 'params' alone"
        )
    if isinstance(layer, PReLU | Scale):
        _check_shapes(layer, params, layer.param_shapes(shape))
    if isinstance(layer, BatchNorm):
        _check_shapes(layer, params.get("norm", {}), dict.fromkeys(("scale", "bias"), shape[-1:]))
        _check_shapes(layer, own["batch_stats"].get("norm", {}), dict.fromkeys(("mean", "var"), shape[-1:]))
    if not isinstance(layer, Conv | Dense | LocallyConnected):
        return
    missing = [name for name in ("kernel", "bias")[: 1 + layer.use_bias] if name not in params]
    if missing:
        raise VariablesError(f"{layer.label}: the variables lack its {' and '.join(missing)}; {_OWN}")
    for name in ("kernel", "bias")[: 1 + layer.use_bias]:
        _check_floating(layer, name, params[name])
    biases = layer.output_shape(shape) if isinstance(layer, LocallyConnected) else (layer.features,)
    kernel = tuple(params["kernel"].shape)
    wanted: Shape = (shape[0], layer.features) if isinstance(layer, Dense) else layer.kernel_shape(shape)
    if kernel == wanted:
        if layer.use_bias and tuple(params["bias"].shape) != biases:
            found = tuple(params["bias"].shape)
            raise VariablesError(f"{layer.label}: its bias has shape {found}, the layer's would be {biases}; {_OWN}")
        return
    if isinstance(layer, Dense) and kernel[1:] == wanted[1:]:  # another size of the image may give so many values
        raise GeometryError(f"{layer.label}: its kernel takes {kernel[0]} values, got {wanted[0]}")
    if isinstance(layer, Conv) and len(kernel) == 4 and kernel[:2] + kernel[3:] == wanted[:2] + wanted[3:]:
        takes = kernel[2] * layer.groups
        raise VariablesError(
            f"{layer.label}: its kernel takes {takes} channels, got {shape[2]}; give {takes} channels, or the net and "
            f"variables of one that takes {shape[2]}"
        )
    message = f"{layer.label}: its kernel is {shape_text(kernel)}, the layer's would be {shape_text(wanted)}"
    raise (GeometryError(message) if isinstance(layer, LocallyConnected) else VariablesError(f"{message}; {_OWN}"))


def _check_shapes(layer: Layer, given: Mapping[str, Any], wanted: Mapping[str, Shape]) -> None:
    """Refuses arrays of a layer that are missing, not floating or of another shape."""
    for name, shape in wanted.items():
        if name not in given:
            raise VariablesError(f"{layer.label}: the variables lack its {name}; {_OWN}")
        _check_floating(layer, name, given[name])
        if tuple(given[name].shape) != shape:
            found = tuple(given[name].shape)
            raise VariablesError(f"{layer.label}: its {name} has shape {found}, the layer's would be {shape}; {_OWN}")


def _check_floating(layer: Layer, name: str, values: Any) -> None:
    """Whole and complex numbers would be cast: scores from rounded weights, or from their real parts."""
    if not jnp.issubdtype(getattr(values, "dtype", None) or object, jnp.floating):
        kind = getattr(values, "dtype", type(values).__name__)
        raise VariablesError(f"{layer.label}: its {name} is {kind}, not floating; {_OWN}")


_OWN = "give the variables of this net (nets.init, or those of its run)"


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
