"""Sizes, receptive fields, parameters and multiply-adds of a net, before any array exists."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jax.export import is_symbolic_dim

from cnn.geometry.declared import UndeclaredError, check_declaration
from cnn.geometry.variables import VariablesError, check_trained, layer_names, parameters
from cnn.layers import Branches, Flatten, Gate, Layer, Shape, layers_of
from cnn.windows import GeometryError, Pair, as_image_shape, shape_text

SEARCH_RADIUS = 256  # pixels; how far from a size that does not fit to search for sizes that do
SEARCH_LAYERS = 50_000  # most layers that are asked in such a search on one side, of nets of hundreds: seconds
TERMINAL = 80  # columns that a printed table tries to stay within


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
      inside: for `cnn.layers.Branches` the rows of all paths, named "branches1/conv1"; their numbers are in the row's.
    """

    name: str
    kind: str
    output_shape: Shape
    params: int
    macs: int
    receptive_field: Pair
    stride: Pair
    offset: Pair
    inside: tuple["Row", ...] = ()


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
            for row in flat(self):
                if row.name == key:
                    return row
            raise KeyError(f"no layer {key!r}; layers: {', '.join(row.name for row in self)}")
        return super().__getitem__(key)

    def __str__(self) -> str:
        header = ("layer", "kind", "output", "parameters", "multiply-adds", "field", "stride", "offset")
        lines = [header, ("input", "", shape_text(self.input_shape), "", "", "1", "1", "0")]
        for row in flat(self):
            lines.append(
                (
                    "  " * row.name.count("/") + row.name.rpartition("/")[2],
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
        last = "field (receptive field), stride and offset are in pixels of the input image"
        if sum(widths) + len(widths) - 1 > TERMINAL:  # a shorter word, where it is the word that makes them longer
            last = "field (receptive field), step (stride) and offset: pixels of the input image"
            widths[6] = max(len("step"), *(len(line[6]) for line in lines[1:]))
            lines[0] = (*header[:6], "step", header[7])
        texts = []
        for name, kind, *numbers in lines:
            cells = [name.ljust(widths[0]), kind.ljust(widths[1])]
            cells += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
            texts.append(gap.join(cells).rstrip())
        return "\n".join([*texts, last])


def _number_text(number: int) -> str:
    """1234 -> "1,234", 0 -> "", and a formula of symbolic sizes as it is."""
    return str(number) if is_symbolic_dim(number) else f"{number:,}" if number else ""


def _pair_text(pair: Pair, between: str) -> str:
    """(5, 5) -> "5", (5, 3) -> "5x3"."""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}{between}{pair[1]}"


def flat(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows with those inside of them, each after the row that it is inside of."""
    for row in rows:
        yield row
        yield from flat(row.inside)


def leaves(layers: Sequence[Layer], input_shape: Shape) -> Iterator[tuple[Layer, Shape]]:
    """The layers that do not branch, those of all paths among them, each with the shape of its input.

    Args:
      layers: the net's layers.
      input_shape: (height, width, channels), pixels.

    Yields:
      (layer, shape of its input).
    """
    shape = tuple(input_shape)
    for name, layer in zip(layer_names(layers), layers, strict=True):
        layer = layer if layer.name else layer.clone(name=name)
        if isinstance(layer, Branches):
            yield from layer.leaves(shape)
        else:
            yield layer, shape
        shape = layer.output_shape(shape)


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


def _fits(layers: Sequence[Layer], shape: Shape, trained: Mapping[str, Any] | None) -> bool:
    try:
        for _ in _walk(layers, shape, trained):
            pass
    except GeometryError:
        return False
    return True


def _walk(layers: Sequence[Layer], shape: Shape, trained: Mapping[str, Any] | None) -> Iterator[Row]:
    """Follows a shape and its receptive field through the layers; `trained` is what `parameters` gives, if known."""
    yield from _walk_from(layers, shape, trained, _Sight((1, 1), (1, 1), (0, 0)), "")


class _Sight(NamedTuple):
    """What one value sees of the image, as in `Row`; `whole`: all values see the same, which no later layer widens."""

    field: Pair
    stride: Pair
    offset: Pair
    whole: bool = False

    def through(self, layer: Layer, shape: Shape) -> "_Sight":
        """What a value sees that a layer that does not branch makes of an input of a shape."""
        if isinstance(layer, Flatten | Gate):
            whole = self if self.whole else self._wider((shape[0], shape[1]))
            return whole._replace(whole=isinstance(layer, Gate) or self.whole)
        if len(shape) != 3:
            return self
        window = layer.window(shape)
        stride = _pair(s * t for s, t in zip(self.stride, window.stride, strict=True))
        if self.whole:
            return self._replace(stride=stride)
        offset = _pair(o - p[0] * s for o, p, s in zip(self.offset, window.padding, self.stride, strict=True))
        return self._wider(window.extent)._replace(stride=stride, offset=offset)

    def _wider(self, extent: Pair) -> "_Sight":
        return self._replace(
            field=_pair(f + (e - 1) * s for f, e, s in zip(self.field, extent, self.stride, strict=True))
        )

    def joined(self, layer: Branches, shape: Shape) -> "_Sight":
        """What a value of a join sees: all that its paths see."""
        paths = []
        for number in range(1, len(layer.checked()) + 1):
            seen = self
            for inner, own in layer.walk(number, shape):
                seen = seen.joined(inner, own) if isinstance(inner, Branches) else seen.through(inner, own)
            paths.append(seen)
        first = [min(one.offset[axis] for one in paths) for axis in range(2)]
        field = _pair(max(one.offset[i] + one.field[i] for one in paths) - first[i] for i in range(2))
        return _Sight(field, paths[0].stride, (first[0], first[1]), any(one.whole for one in paths))


def _walk_from(
    layers: Sequence[Layer],
    shape: Shape,
    trained: Mapping[str, Any] | None,
    sight: _Sight,
    block: str,
) -> Iterator[Row]:
    """`_walk` from a receptive field, stride and offset on, within a block whose name all names begin with."""
    for own, layer in zip(layer_names(layers), layers, strict=True):
        name = block + own
        if layer.name != name:
            layer = layer.clone(name=name)
        if len(shape) == 3:
            check_declaration(layer)
        inside: tuple[Row, ...] = ()
        if isinstance(layer, Branches):
            paths = _walk_paths(layer, shape, trained, sight, own)
            inside = tuple(row for path in paths for row in path)
        output_shape = layer.output_shape(shape)
        if trained is not None and not inside:
            check_trained(layer, shape, trained.get(own, {}), trained)
        if isinstance(layer, Branches):
            layer.window(shape)  # names paths of different strides
        sight = sight.joined(layer, shape) if isinstance(layer, Branches) else sight.through(layer, shape)
        counts = (layer.param_count(shape), layer.macs(shape))
        yield Row(name, layer.kind, output_shape, *counts, sight.field, sight.stride, sight.offset, inside)
        shape = output_shape


def _walk_paths(
    layer: Branches, shape: Shape, trained: Mapping[str, Any] | None, sight: _Sight, own: str
) -> list[list[Row]]:
    """The rows of each path of a layer that branches; `own` is its name among the layers beside it."""
    found = []
    for path in layer.checked():
        inner = None if trained is None else parameters(path, trained.get(own, {})) if path else {}
        found.append(list(_walk_from(path, shape, inner, sight, f"{layer.name}/")))
    return found


def _pair(values: Iterator[int]) -> Pair:
    first, second = values
    return first, second
