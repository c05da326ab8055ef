"""Where the values of each layer lie, in pixels of the image, when a converted net runs at any stride.

Along one axis, a value of a layer has a *position*: the pixel where its window would start if no layer were padded. One
pass of the net computes positions that are multiples of N, the product of the strides so far. A score at position p
needs the positions p + (multiples of N) of every layer; scores at every multiple of `stride` therefore need the
multiples of gcd(stride, N). Take a max pool of 2 every 2 and then a convolution of 2 values, on 8 pixels; a window is 4
pixels, the native stride is 2, and scores are wanted at stride 1:

    pixels                    0 1 2 3 4 5 6 7
    first and last window    [0 1 2 3]     ...      [4 5 6 7], hence scores 0 1 2 3 4
    the pool in one pass      0   2   4   6         the value at p is the larger of pixels p and p + 1
    scores of one pass        0   2   4             the score at p is made of the values at p and p + 2
    values that are missing     1   3   5           and with them the scores 1 and 3

The missing values can be computed in three ways:

- *shifts*: the whole net again on the pixels from 1 on; scores 0 2 4 and 1 3 are interleaved. The first score of a
  pass is at a position between 0 and N - 1 of the last layer.
- *dilated* (a trous): one array with a value at every multiple of gcd(stride, N). The pool slides by 1 and gives
  0 1 2 3 4 5 6; the convolution's two taps must then lie N / gcd = 2 values apart, and give 0 1 2 3 4. Pools are
  dilated as well as convolutions.
- *fragments*: the pool slides by 2 as it is, once from pixel 0 and once from pixel 1, and gives two fragments, 0 2 4 6
  and 1 3 5; the convolution, as it is, makes 0 2 4 of one and 1 3 of the other. A layer of stride s makes s fragments
  of each fragment that it is given; all fragments of one length are run as one batch.

The last layer with a window jumps straight to the wanted positions, and leaves out fragments without any, so that every
stride works: divisors of the native stride, multiples of it, and others.

Padding lies beyond the image's border and nowhere else: a position is real from 0 to the layer's *limit*.

Source: Giusti et al., "Fast Image Scanning with Deep Max-Pooling Convolutional Neural Networks" (2013), for the
fragments; Long, Shelhamer, Darrell (2015), section 3.2, for the equality of shifting and dilating.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cnn import geometry
from cnn.layers import Pool, WindowLayer
from cnn.nets import Net
from cnn.windows import GeometryError, Pair

_ONLY_PADDING = "layer {index} of the converted net: some windows lie wholly in its padding; pad less than the window"


class Slide(NamedTuple):
    """One layer along one axis.

    Attributes:
      extent: length of its window, in values of one pass.
      dilation: distance between the taps of its window, in values of one pass.
      stride: the layer's own stride.
      low: padding before its input, in values of one pass.
      padded: whether a window may see padding: the layer is padded, or it is a ceil-mode pool that hangs over.
      spacing: distance between the values of its input in one pass, N, pixels.
      limit: largest position of its input, pixels.
    """

    extent: int
    dilation: int
    stride: int
    low: int
    padded: bool
    spacing: int
    limit: int

    @property
    def moves(self) -> bool:
        """Whether the layer does more than look at one value at a time."""
        return self.extent > 1 or self.stride > 1 or self.padded


class Axis(NamedTuple):
    """A converted net along one axis of an image.

    Attributes:
      slides: one for each layer.
      limit: largest position of a score, pixels.
      offset: where the first score's receptive field starts, pixels; negative: in padding.
      last: index of the last layer with a window; the layer that jumps to the wanted positions.
    """

    slides: tuple[Slide, ...]
    limit: int
    offset: int
    last: int

    def acts(self, index: int) -> bool:
        """Whether a layer does more along this axis than look at one value at a time."""
        return index == self.last or (index < self.last and self.slides[index].moves)

    def output_limit(self, index: int) -> int:
        """Largest position of a layer's output, pixels."""
        return self.limit if index + 1 == len(self.slides) else self.slides[index + 1].limit


class Group(NamedTuple):
    """Fragments that a layer runs on as one batch, cut and padded alike.

    Attributes:
      fragments: which of the input's fragments.
      start, stop: where they are cut, in values.
      padding: (before, after) that is added then, in values.
      fill: values that are added after the output to make it as long as the other groups'; no score needs them.
    """

    fragments: tuple[int, ...]
    start: int
    stop: int
    padding: Pair
    fill: int


class Mask(NamedTuple):
    """Positions of a layer's input, pixels: real from 0 to a limit, padding elsewhere.

    Attributes:
      starts: position of the first value of each fragment.
      spacing: distance between the values of a fragment.
      length: values of a fragment.
      limit: largest real position.
    """

    starts: tuple[int, ...]
    spacing: int
    length: int
    limit: int


class Step(NamedTuple):
    """How one layer runs along one axis.

    Attributes:
      stride, dilation: those with which the layer is run, in place of its own.
      groups: what it is run on; the output's fragments are theirs, one group's after the other's.
      mask: where its input lies, if values beyond the image's border must be taken as padding; None if they need not.
    """

    stride: int
    dilation: int
    groups: tuple[Group, ...]
    mask: Mask | None


class Route(NamedTuple):
    """How a net runs along one axis.

    Attributes:
      first: first pixel of the image that is read.
      length: number of pixels that are read; those beyond the image are zeros.
      steps: one for each layer.
      order: with F fragments, which one holds the scores 0, F, 2F, ..., which one 1, F + 1, ..., and so on.
      count: number of wanted scores.
    """

    first: int
    length: int
    steps: tuple[Step, ...]
    order: tuple[int, ...]
    count: int


def axes(net: Net, table: geometry.Table, image_size: Sequence[int], padded_net: bool = True) -> tuple[Axis, Axis]:
    """Walks a converted net over an image.

    Args:
      net: from `cnn.convert.convolutional`.
      table: its geometry at the window that it was trained on.
      image_size: (height, width), pixels; "same" padding and the limits depend on it.
      padded_net: whether a window sees padding anywhere (`cnn.dense.has_padding`). If not, none is seen in the image
        either: a ceil-mode pool, or padding that its last window does not reach, then counts as none.

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
                # A last window may hang over, as long as it starts inside the input or its low padding.
                after = max(after, min(after + (stride - 1) * n, end + low * n))
            if not padded_net:
                low, after = 0, end - (extent - 1) * n
            padded = low > 0 or after - low * n + (extent - 1) * n > end
            slides[axis].append(Slide(extent, seen.dilation[axis], stride, low, padded, n, end))
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
    """Runs every layer once, its taps as far apart as the wanted positions demand.

    With a multiple of the native stride nothing is dilated: it is the plain pass.

    Args:
      axis: from `axes`.
      start: position of the first score, pixels.
      stride: distance between scores, pixels.
      count: number of scores.
      clip: True: read no pixel beyond the image's border, pad the layers there; False: read as if the net had no
        padding and mark the values that must be masked.

    Returns:
      The `Route`; one fragment throughout.

    Raises:
      GeometryError: if a window lies wholly in padding.
    """
    steps: list[Step] = []
    first, length, spacing = start, count, stride  # of the output of the layer in hand
    for index in reversed(range(len(axis.slides))):
        slide = axis.slides[index]
        if not axis.acts(index):
            steps.append(_unchanged((0,), length))
            continue
        inner = math.gcd(stride, slide.spacing)
        first_in = first - slide.low * slide.spacing
        last_in = first_in + (length - 1) * spacing + (slide.extent - 1) * slide.spacing
        before = after = 0
        if clip and slide.padded:
            before = max(0, -(first_in // inner))  # values at positions below 0
            after = max(0, -((slide.limit - last_in) // inner))  # and above the limit
        length_in = (last_in - first_in) // inner + 1 - before - after
        if length_in < 1:
            raise GeometryError(_ONLY_PADDING.format(index=index))
        first_in += before * inner
        dilation = slide.dilation * slide.spacing // inner if slide.extent > 1 else 1
        group = Group((0,), 0, length_in, (before, after), 0)
        mask = Mask((first_in,), inner, length_in, slide.limit) if slide.padded and not clip else None
        steps.append(Step(spacing // inner, dilation, (group,), mask))
        first, length, spacing = first_in, length_in, inner
    return Route(first, length, tuple(reversed(steps)), (0,), count)


class _Split(NamedTuple):
    """What a layer makes of its input's fragments, before their lengths are known.

    Attributes:
      starts: position of the first value of each fragment of the input.
      stride: with which the layer is run, in values of a fragment of the input.
      spacing: distance between the values of a fragment of the output, pixels.
      runs: (j, fragments): started j values in, these fragments of the input give fragments with wanted positions.
      limit: largest position of the output.
    """

    starts: tuple[int, ...]
    stride: int
    spacing: int
    runs: tuple[tuple[int, tuple[int, ...]], ...]
    limit: int

    def output_starts(self) -> tuple[int, ...]:
        """Position of the first value of each fragment of the output."""
        inner = self.spacing // self.stride
        return tuple(self.starts[f] + j * inner for j, fragments in self.runs for f in fragments)


def fragmented(axis: Axis, stride: int, count: int, clip: bool) -> Route:
    """Runs every layer as it is, on fragments; a layer of stride s makes s fragments of each.

    Two walks: from the pixels to the scores, which fragments each layer makes; and back, how long they must be. For the
    module's example (pool of 2 every 2, convolution of 2, on 8 pixels, stride 1, 5 scores) the first walk gives the
    pool two runs, from pixel 0 and from pixel 1, and the convolution one run on both fragments. Back: two fragments
    hold 5 scores if each has 3; for these the convolution reads 4 values, and for those the pool reads pixels 0 to 7 in
    its first run and 1 to 8 in its second. Pixel 8 is read as zero, and score 5, the only one made of it, is dropped;
    with `clip` the second run would read pixels 1 to 6 instead, and its output would be filled up to the length.

    Args:
      axis: from `axes`.
      stride: distance between scores, pixels; the first is at 0.
      count: number of scores.
      clip: as in `dilated`.

    Returns:
      The `Route`.

    Raises:
      GeometryError: if a window lies wholly in padding.
    """
    splits: dict[int, _Split] = {}
    starts: tuple[int, ...] = (0,)
    for index in filter(axis.acts, range(len(axis.slides))):
        splits[index] = _split(axis, index, starts, stride, (count - 1) * stride)
        starts = splits[index].output_starts()
    order = tuple(sorted(range(len(starts)), key=starts.__getitem__))

    steps: list[Step] = []
    fragments, length = len(starts), -(-count // len(starts))
    first = 0  # position of the first value of fragment 0; below 0 where padding is read as pixels
    for index in reversed(range(len(axis.slides))):
        if index not in splits:
            steps.append(_unchanged(range(fragments), length))
            continue
        slide, split = axis.slides[index], splits[index]
        length_in = split.runs[-1][0] + (length - 1) * split.stride + slide.extent
        if clip:
            length_in = min(length_in - slide.low, slide.limit // slide.spacing + 1)
            groups = _groups_in_image(slide, split, index, length, length_in)
        else:
            first -= slide.low * slide.spacing
            groups = _groups(slide, split, length)
        mask = None
        beyond = max(split.starts) + (length_in - 1) * slide.spacing > slide.limit
        if slide.padded and (beyond or not clip):
            mask = Mask(tuple(first + start for start in split.starts), slide.spacing, length_in, slide.limit)
        steps.append(Step(split.stride, slide.dilation, groups, mask))
        fragments, length = len(split.starts), length_in
    return Route(first, length, tuple(reversed(steps)), order, count)


def _split(axis: Axis, index: int, starts: tuple[int, ...], stride: int, last: int) -> _Split:
    """Which fragments a layer makes of those that start at `starts`, for scores at multiples of `stride` up to `last`.

    Every layer but the last one that slides makes the multiples of its output's N, and keeps the fragments with
    positions that some score needs; the last one makes the wanted positions alone.
    """
    slide = axis.slides[index]
    if index == axis.last:
        spacing, wanted = math.lcm(stride, slide.spacing), stride
    else:
        spacing = slide.spacing * slide.stride
        wanted = math.gcd(stride, spacing)
    runs = []
    for j in range(spacing // slide.spacing):
        positions = [start + j * slide.spacing for start in starts]
        fragments = tuple(f for f, at in enumerate(positions) if at % wanted == 0 and at <= last)
        if fragments:
            runs.append((j, fragments))
    return _Split(starts, spacing // slide.spacing, spacing, tuple(runs), axis.output_limit(index))


def _groups(slide: Slide, split: _Split, length: int) -> tuple[Group, ...]:
    """What a layer runs on, without regard to the image's border: all outputs are of the same length."""
    reach = (length - 1) * split.stride + slide.extent
    return tuple(Group(fragments, j, j + reach, (0, 0), 0) for j, fragments in split.runs)


def _groups_in_image(slide: Slide, split: _Split, index: int, length: int, length_in: int) -> tuple[Group, ...]:
    """What a layer runs on where no value beyond the image's border is read: padded there, and cut short."""
    groups = []
    for j, fragments in split.runs:
        first = min(split.starts[f] for f in fragments) + j * slide.spacing
        fits = min(length, (split.limit - first) // split.spacing + 1)  # values up to the limit
        if fits < 1:
            raise GeometryError(_ONLY_PADDING.format(index=index))
        start = j - slide.low
        stop = start + (fits - 1) * split.stride + slide.extent
        inside = (max(start, 0), min(stop, length_in))
        groups.append(Group(fragments, *inside, (inside[0] - start, stop - inside[1]), length - fits))
    return tuple(groups)


def _unchanged(fragments: Iterable[int], length: int) -> Step:
    """A layer that looks at one value at a time: all fragments, whole."""
    return Step(1, 1, (Group(tuple(fragments), 0, length, (0, 0), 0),), None)
