"""Where the values of each layer lie, in pixels of the image, and the route of a converted net at any stride.

Along one axis, a value of a layer has a *position*: the pixel where its window would start if no layer were padded. One
pass of the net computes, in each layer, the positions that are multiples of the layer's *spacing* N, the product of the
strides of the layers before it; the spacing of the scores is the net's native stride. A score at position p needs the
positions p + (multiples of N) of every layer; scores at every multiple of `stride` therefore need the multiples of
gcd(stride, N). As an example take a max pool of 2 pixels with stride 2 and then a convolution of 2 values, on 8 pixels;
a window is 4 pixels, the native stride is 2, and scores are wanted at stride 1:

    pixels                    0 1 2 3 4 5 6 7
    first and last window    [0 1 2 3]     ...      [4 5 6 7], hence scores 0 1 2 3 4
    the pool in one pass      0   2   4   6         the value at p is the larger of pixels p and p + 1
    scores of one pass        0   2   4             the score at p is made of the values at p and p + 2
    values that are missing     1   3   5           and with them the scores 1 and 3

The missing values can be computed in three ways:

- *shifts*: the whole net runs again on the pixels from 1 on; scores 0 2 4 and 1 3 are interleaved. The first score of
  each pass is at a position below the native stride.
- *dilated* (a trous): each layer gives one array with a value at every multiple of gcd(stride, N). The pool slides by 1
  and gives 0 1 2 3 4 5 6; the convolution's two taps must then lie N / gcd = 2 values apart, and it gives 0 1 2 3 4.
  Pools are dilated as well as convolutions.
- *fragments*: the pool keeps its stride of 2 and runs from pixel 0 and from pixel 1, which gives two fragments, 0 2 4 6
  and 1 3 5; the unchanged convolution makes 0 2 4 from the first and 1 3 from the second. A layer of stride s makes s
  fragments from each fragment of its input; fragments of one length are run as one batch (`cnn.dense.fragments`).

The last layer with a window computes the wanted positions only, and leaves out fragments without any, so that every
stride works: divisors of the native stride, multiples of it, and others.

Padding lies beyond the image's border and nowhere else: positions from 0 to the layer's *limit* depend on the image,
all others are padding.

Where a net branches, every path has the same stride, so that its values lie at the positions of the other paths'
values, and the join at a position takes what each path has there. Each path is planned by itself, from the positions
that are wanted of the join back to those that it reads; the block's input holds the union of these.

Source: Giusti et al., "Fast Image Scanning with Deep Max-Pooling Convolutional Neural Networks" (2013), for the
fragments; Long, Shelhamer, Darrell (2015), section 3.2, for the equality of shifting and dilating.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cnn import geometry
from cnn.layers import AvgPool, Branches, Layer, Pool, Shape, WindowLayer
from cnn.nets import Net
from cnn.windows import GeometryError, Pair

ONLY_PADDING = "layer {index} of the converted net: some windows lie wholly in its padding; pad less than the window"


class Slide(NamedTuple):
    """One layer along one axis.

    Attributes:
      extent: length of its window including dilation, in values of its input in one pass.
      dilation: distance between the taps of its window, in values of its input in one pass.
      stride: the layer's stride as the net defines it, in values of its input in one pass.
      low: padding before its input, in values of one pass.
      padded: whether a window may see padding: the layer is padded, or its last window hangs over the edge ("ceil").
      spacing: distance N between the values of its input in one pass, pixels.
      limit: largest position of its input, pixels.
      counted: largest position that counts in the divisor of a pool that hangs over its padding, pixels; None: all do.
      paths: of a layer that branches, each path along the axis; `extent` is that of the longest, and `low` is none.
    """

    extent: int
    dilation: int
    stride: int
    low: int
    padded: bool
    spacing: int
    limit: int
    counted: int | None = None
    paths: tuple["Axis", ...] = ()

    @property
    def moves(self) -> bool:
        """Whether an output depends on more than the one input value at its own place, or the layer has a stride."""
        return self.extent > 1 or self.stride > 1 or self.padded


class Axis(NamedTuple):
    """A converted net, or a path of one of its layers, along one axis of an image.

    Attributes:
      slides: one for each layer.
      limit: largest position of a score, or of the values of the join behind a path, pixels.
      offset: where the first score's receptive field starts, pixels; negative: in padding.
      last: index of the last layer with a window, which computes the wanted positions only; -1: that layer is behind
        this path.
    """

    slides: tuple[Slide, ...]
    limit: int
    offset: int
    last: int

    def acts(self, index: int) -> bool:
        """Whether a layer needs more of a plan along this axis than to be applied value by value."""
        return index == self.last or self.slides[index].moves

    def output_limit(self, index: int) -> int:
        """Largest position of a layer's output, pixels."""
        return self.limit if index + 1 == len(self.slides) else self.slides[index + 1].limit

    def leaves(self) -> Iterator[Slide]:
        """The layers that do not branch, those of all paths among them, path by path."""
        for slide in self.slides:
            if slide.paths:
                for path in slide.paths:
                    yield from path.leaves()
            else:
                yield slide


class Group(NamedTuple):
    """Fragments that a layer runs on as one batch, cut and padded alike.

    Attributes:
      fragments: indices of the input's fragments.
      start, stop: the part of each fragment that is read, in values; `stop` is exclusive.
      padding: (before, after), number of values of padding added to that part.
      fill: number of values added after the output to make it as long as the other groups'; no score needs them.
    """

    fragments: tuple[int, ...]
    start: int
    stop: int
    padding: Pair
    fill: int


class Mask(NamedTuple):
    """Which values of a layer's input must be replaced by padding: those at positions below 0 or above a limit.

    Attributes:
      starts: position of the first value of each fragment, pixels.
      spacing: distance between neighbouring values of a fragment, pixels.
      length: number of values in each fragment.
      limit: largest position inside the image, pixels; relative to that of the image (`cnn.dense.passes.Placement`)
        in a program that serves images of all sizes.
    """

    starts: tuple[int, ...]
    spacing: int
    length: int
    limit: int


class Step(NamedTuple):
    """How one layer runs along one axis.

    Attributes:
      stride, dilation: replace the layer's stride and dilation, in values of the array that it runs on.
      groups: the groups of input fragments that it runs on, one after another; the output's fragments have that order.
      mask: which values of its input must be replaced by padding; None if none.
      counted: where the values of its input lie, and up to which position they count in the divisor of an average pool
        that counts padding and whose last window may hang over it; None for all other layers.
    """

    stride: int
    dilation: int
    groups: tuple[Group, ...]
    mask: Mask | None
    counted: Mask | None = None


class PathRoute(NamedTuple):
    """How one path of a layer that branches runs along one axis.

    Attributes:
      start, stop: the part of each fragment of the block's input that the path reads, in values; `stop` is exclusive.
      steps: one for each layer of the path.
      order: indices of the path's output fragments, in the order of those of the first path.
    """

    start: int
    stop: int
    steps: tuple["Step | Fork", ...]
    order: tuple[int, ...]


class Fork(NamedTuple):
    """How a layer that branches runs along one axis.

    Attributes:
      paths: one for each of its paths.
    """

    paths: tuple[PathRoute, ...]


class Route(NamedTuple):
    """How a net runs along one axis.

    Attributes:
      first: first pixel of the image that is read; may be negative.
      length: number of pixels that are read; pixels beyond the image are read as zeros.
      steps: one for each layer.
      order: indices of the F output fragments: the first holds the scores 0, F, 2F, ..., the second 1, F + 1, ...
      count: number of wanted scores.
      skip: number of scores before them that are computed and dropped.
    """

    first: int
    length: int
    steps: tuple[Step | Fork, ...]
    order: tuple[int, ...]
    count: int
    skip: int = 0


def axes(net: Net, table: geometry.Table, image_size: Sequence[int], padded_net: bool = True) -> tuple[Axis, Axis]:
    """Finds spacing, padding and limits of every layer of a converted net over an image.

    Args:
      net: a fully convolutional net, from `cnn.convert.convolutional`.
      table: the net's geometry at the window that it was trained on.
      image_size: (height, width), pixels; "same" padding and the limits depend on it.
      padded_net: whether any part of a window sees padding (`cnn.dense.has_padding`). If not, the image is run without
        padding too: a pool with rounding "ceil", or padding that its last window does not reach, then counts as none.

    Returns:
      The vertical and the horizontal `Axis`.

    Raises:
      GeometryError: if the net has no layer that slides.
    """
    shapes = [table.input_shape, *(row.output_shape for row in table)]
    chain = [(layer, shape) for layer, shape in zip(net.layers, shapes, strict=False)]
    both = _follow(chain, (1, 1), (image_size[0] - 1, image_size[1] - 1), padded_net)
    if not any(_slides(layer) for layer in net.layers):
        raise GeometryError("the net has no convolution, pool or fully connected layer that could slide")
    return _ending(both[0].axis, net.layers), _ending(both[1].axis, net.layers)


class _Followed(NamedTuple):
    """A chain of layers along one axis, and the distance between the values of its output, pixels."""

    axis: Axis
    spacing: int


def _follow(
    chain: Iterable[tuple[Layer, Shape]], spacing: Pair, limit: Pair, padded_net: bool
) -> tuple[_Followed, _Followed]:
    """Follows layers, each with the shape of its input at the window, from a spacing and a largest position on."""
    slides: tuple[list[Slide], list[Slide]] = ([], [])
    offset = [0, 0]
    for layer, shape in chain:
        size = (limit[0] // spacing[0] + 1, limit[1] // spacing[1] + 1, shape[2])
        if isinstance(layer, Branches):
            found = [_follow(layer.walk(i + 1, shape), spacing, limit, padded_net) for i in range(len(layer.paths))]
            made = [_joined([path[axis] for path in found], spacing[axis], limit[axis]) for axis in range(2)]
            offsets = [min(path[axis].axis.offset for path in found) for axis in range(2)]
        else:
            made = [_slide(layer, size, axis, spacing[axis], limit[axis], padded_net) for axis in range(2)]
            offsets = [-slide.low * slide.spacing for slide, _ in made]
        for axis in range(2):
            slides[axis].append(made[axis][0])
            offset[axis] += offsets[axis]
        spacing = (spacing[0] * made[0][0].stride, spacing[1] * made[1][0].stride)
        limit = (made[0][1], made[1][1])
    first, second = (
        _Followed(Axis(tuple(slides[axis]), limit[axis], offset[axis], -1), spacing[axis]) for axis in range(2)
    )
    return first, second


def _slide(layer: Layer, size: Sequence[int], axis: int, spacing: int, end: int, padded_net: bool) -> tuple[Slide, int]:
    """A layer that does not branch along one axis, and the largest position of its output."""
    seen = layer.window((size[0], size[1], size[2]))
    extent, stride, n = seen.extent[axis], seen.stride[axis], spacing
    low, high = seen.padding[axis]
    after = end + (low + high - (extent - 1)) * n
    if isinstance(layer, Pool) and layer.rounding == "ceil":
        # A last window may hang over the edge if it starts inside the input or the padding before it.
        after = max(after, min(after + (stride - 1) * n, end + low * n))
    if not padded_net:
        low, after = 0, end - (extent - 1) * n
    reach = after - low * n + (extent - 1) * n  # the last position that a window covers
    padded, counted = low > 0 or reach > end, None
    if isinstance(layer, AvgPool) and layer.count_padding and reach > end + high * n:
        counted = end + high * n
    return Slide(extent, seen.dilation[axis], stride, low, padded, n, end, counted), after


def _joined(paths: Sequence[_Followed], spacing: int, end: int) -> tuple[Slide, int]:
    """A layer that branches along one axis, and the largest position of its join: where all paths have a value."""
    after = min(path.axis.limit for path in paths)
    extents = [1 + sum((s.extent - 1) * s.spacing for s in path.axis.slides) // spacing for path in paths]
    padded = any(slide.padded for path in paths for slide in path.axis.slides)
    stride = paths[0].spacing // spacing  # that of all paths: `Branches.window` checks it
    axes = tuple(path.axis._replace(limit=after) for path in paths)
    return Slide(max(extents), 1, stride, 0, padded, spacing, end, None, axes), after


def _slides(layer: Layer) -> bool:
    """Whether a layer has a window, or a path with one."""
    return isinstance(layer, WindowLayer | Branches)


def _ending(axis: Axis, layers: Sequence[Layer]) -> Axis:
    """An axis that ends with the scores, or with the join that computes them: the last layer that moves is marked."""
    windowed = [index for index, layer in enumerate(layers) if _slides(layer)]
    last = ([index for index in windowed if axis.slides[index].moves] or windowed)[-1]
    slides, layer = list(axis.slides), layers[last]
    if isinstance(layer, Branches):
        paths = zip(slides[last].paths, layer.paths, strict=True)
        slides[last] = slides[last]._replace(paths=tuple(_ending(path, inner) for path, inner in paths))
    return axis._replace(slides=tuple(slides), last=last)


def counted_to(slide: Slide, places: Mask) -> Mask | None:
    """Which values of a layer's input count in the divisor of an average pool.

    Args:
      slide: the layer along one axis.
      places: where the values of its input lie.

    Returns:
      The same places with the largest position that counts; None if all positions do.
    """
    return None if slide.counted is None else places._replace(limit=slide.counted)


def unchanged(fragments: Iterable[int], length: int) -> Step:
    """How a layer runs that looks at one value at a time: on all fragments, each of them whole.

    Args:
      fragments: indices of the input's fragments.
      length: number of values in each fragment.

    Returns:
      The `Step`.
    """
    return Step(1, 1, (Group(tuple(fragments), 0, length, (0, 0), 0),), None)
