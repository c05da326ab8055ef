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

Source: Giusti et al., "Fast Image Scanning with Deep Max-Pooling Convolutional Neural Networks" (2013), for the
fragments; Long, Shelhamer, Darrell (2015), section 3.2, for the equality of shifting and dilating.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cnn import geometry
from cnn.layers import AvgPool, Pool, WindowLayer
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
    """

    extent: int
    dilation: int
    stride: int
    low: int
    padded: bool
    spacing: int
    limit: int
    counted: int | None = None

    @property
    def moves(self) -> bool:
        """Whether an output depends on more than the one input value at its own place, or the layer has a stride."""
        return self.extent > 1 or self.stride > 1 or self.padded


class Axis(NamedTuple):
    """A converted net along one axis of an image.

    Attributes:
      slides: one for each layer.
      limit: largest position of a score, pixels.
      offset: where the first score's receptive field starts, pixels; negative: in padding.
      last: index of the last layer with a window, which computes the wanted positions only.
    """

    slides: tuple[Slide, ...]
    limit: int
    offset: int
    last: int

    def acts(self, index: int) -> bool:
        """Whether a layer needs more of a plan along this axis than to be applied value by value."""
        return index == self.last or (index < self.last and self.slides[index].moves)

    def output_limit(self, index: int) -> int:
        """Largest position of a layer's output, pixels."""
        return self.limit if index + 1 == len(self.slides) else self.slides[index + 1].limit


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
    steps: tuple[Step, ...]
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
    slides: tuple[list[Slide], list[Slide]] = ([], [])
    spacing, limit, offset = [1, 1], [image_size[0] - 1, image_size[1] - 1], [0, 0]
    channels, windowed = table.input_shape[2], []
    for index, (layer, row) in enumerate(zip(net.layers, table, strict=True)):
        size = tuple(end // n + 1 for end, n in zip(limit, spacing, strict=True))
        seen = layer.window((size[0], size[1], channels))
        for axis in range(2):
            extent, stride, n, end = seen.extent[axis], seen.stride[axis], spacing[axis], limit[axis]
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
            slides[axis].append(Slide(extent, seen.dilation[axis], stride, low, padded, n, end, counted))
            offset[axis] -= low * n
            spacing[axis], limit[axis] = n * stride, after
        channels = row.output_shape[2]
        if isinstance(layer, WindowLayer):
            windowed.append(index)
    if not windowed:
        raise GeometryError("the net has no convolution, pool or fully connected layer that could slide")
    result = []
    for axis in range(2):
        moving = [index for index in windowed if slides[axis][index].moves]
        result.append(Axis(tuple(slides[axis]), limit[axis], offset[axis], (moving or windowed)[-1]))
    return result[0], result[1]


def dilated(axis: Axis, start: int, stride: int, count: int, clip: bool) -> Route:
    """Plans one run of every layer, with its taps as far apart as the wanted positions demand.

    If the stride is a multiple of the native stride, nothing is dilated: the route is that of one ordinary pass.

    Args:
      axis: the net along one axis of the image, from `axes`.
      start: position of the first score, pixels.
      stride: distance between scores, pixels.
      count: number of scores.
      clip: True: read no pixel beyond the image's border, and pad the layers there; False: read as if the net had no
        padding, and mark the values that must be masked.

    Returns:
      The `Route`; one fragment throughout.

    Raises:
      GeometryError: if a window lies wholly in padding.
    """
    steps: list[Step] = []
    first, length, spacing = start, count, stride  # of the output of the layer that the loop has reached
    for index in reversed(range(len(axis.slides))):
        slide = axis.slides[index]
        if not axis.acts(index):
            steps.append(unchanged((0,), length))
            continue
        inner = math.gcd(stride, slide.spacing)
        first_in = first - slide.low * slide.spacing
        last_in = first_in + (length - 1) * spacing + (slide.extent - 1) * slide.spacing
        before = after = 0
        if clip and slide.padded:
            before = max(0, -(first_in // inner))  # number of values at positions below 0
            after = max(0, -((slide.limit - last_in) // inner))  # number of values above the limit
        length_in = (last_in - first_in) // inner + 1 - before - after
        if length_in < 1:
            raise GeometryError(ONLY_PADDING.format(index=index))
        first_in += before * inner
        dilation = slide.dilation * slide.spacing // inner if slide.extent > 1 else 1
        group = Group((0,), 0, length_in, (before, after), 0)
        places = Mask((first_in,), inner, length_in, slide.limit)
        mask = places if slide.padded and not clip else None
        steps.append(Step(spacing // inner, dilation, (group,), mask, counted_to(slide, places)))
        first, length, spacing = first_in, length_in, inner
    return Route(first, length, tuple(reversed(steps)), (0,), count)


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
