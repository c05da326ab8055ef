"""Where the values of each layer lie, in pixels of the image, when a converted net runs at any stride.

Along one axis, a value of a layer has a *position*: where its window would start in the image if no layer were padded.
One pass of the net computes positions that are multiples of the product of the strides so far, N. A score at pixel p
needs positions p + (multiples of N); scores at every multiple of `step` need the multiples of gcd(step, N). A layer
whose input has these positions, and not the multiples of N alone, can be run in two ways:

- *dilated* (a trous): one array with a value at every multiple of P = gcd(step, N); taps, of pools as well as of
  convolutions, are N / P apart;
- *fragments*: N / P arrays, each with the multiples of N plus an offset; a layer of stride s makes s of each.

The last layer with a window jumps straight to the wanted positions, so any `step` works: divisors of the net's total
stride, multiples of it, and others.

Padding lies beyond the image's border and nowhere else: a position is real from 0 to the layer's *limit*.

Source: Giusti et al., "Fast Image Scanning with Deep Max-Pooling Convolutional Neural Networks" (2013), for the
fragments; Long, Shelhamer, Darrell (2015), section 3.2, for the equality of shifting and dilating.
"""

import math
from collections.abc import Sequence
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
      dilation: distance between its taps, in values of one pass.
      stride: its own.
      low: padding before its input, in values of one pass.
      padded: whether a window may see padding: it is padded, or a ceil-mode pool hangs over.
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


class Piece(NamedTuple):
    """A part of a layer's work: some fragments, cut, padded and run as one batch.

    Attributes:
      fragments: which of the input's.
      start, stop: where they are cut, in values.
      padding: (before, after) what is left, in values.
      fill: values that are missing after the output, as no score needs them.
    """

    fragments: tuple[int, ...]
    start: int
    stop: int
    padding: Pair
    fill: int


class Step(NamedTuple):
    """How one layer runs along one axis.

    Attributes:
      stride, dilation: of the layer that is run in its place.
      pieces: what it is run on; the output's fragments are theirs, one piece's after the other's.
      mask: where its input lies, if values beyond the image's border must be taken as padding; None if they need not.
    """

    stride: int
    dilation: int
    pieces: tuple[Piece, ...]
    mask: "Mask | None"


class Mask(NamedTuple):
    """Positions of a layer's input, pixels: real from 0 to a limit, padding elsewhere.

    Attributes:
      starts: of the first value of each fragment.
      spacing: between the values of a fragment.
      length: values of a fragment.
      limit: largest real position.
    """

    starts: tuple[int, ...]
    spacing: int
    length: int
    limit: int


class Route(NamedTuple):
    """How a net runs along one axis.

    Attributes:
      first: first pixel of the image that is read.
      length: how many are read; those beyond the image are zeros.
      steps: one for each layer.
      order: which fragment holds the scores 0, F, 2F, ..., which 1, F + 1, ..., and so on.
      count: of scores that are wanted.
    """

    first: int
    length: int
    steps: tuple[Step, ...]
    order: tuple[int, ...]
    count: int


def axes(net: Net, window: Sequence[int], image_shape: Sequence[int], padded_net: bool = True) -> tuple[Axis, Axis]:
    """Walks a converted net over an image.

    Args:
      net: from `cnn.convert.convolutional`.
      window: (height, width) that it was trained on, pixels.
      image_shape: (height, width, channels), pixels; what "same" padding and the limits depend on.
      padded_net: whether a window sees padding anywhere (`cnn.dense.has_padding`). If not, none is seen in the image
        either: a ceil-mode pool, or padding that its last window does not reach, then counts as none.

    Returns:
      The vertical and the horizontal `Axis`.

    Raises:
      GeometryError: if the window does not fit the net.
    """
    rows = geometry.table(net, (*window, image_shape[2]))
    found: tuple[list[Slide], list[Slide]] = ([], [])
    spacing, limit, offset = [1, 1], [image_shape[0] - 1, image_shape[1] - 1], [0, 0]
    channels, windowed = image_shape[2], []
    for index, (layer, row) in enumerate(zip(net.layers, rows, strict=True)):
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
            found[axis].append(Slide(extent, seen.dilation[axis], stride, low, padded, n, end))
            offset[axis] -= low * n
            spacing[axis], limit[axis] = n * stride, after
        channels = row.output_shape[2]
        if isinstance(layer, WindowLayer):
            windowed.append(index)
    result = []
    for axis in range(2):
        moving = [index for index in windowed if found[axis][index].moves]
        if not windowed:
            raise GeometryError("the net has no convolution, pool or fully connected layer that could slide")
        result.append(Axis(tuple(found[axis]), limit[axis], offset[axis], (moving or windowed)[-1]))
    return result[0], result[1]


def dilated(axis: Axis, start: int, step: int, count: int, clip: bool) -> Route:
    """Runs every layer once, its taps as far apart as the wanted positions demand.

    With `step` a multiple of the net's total stride nothing is dilated: it is the plain pass.

    Args:
      axis: from `axes`.
      start: position of the first score, pixels.
      step: distance between scores, pixels.
      count: of scores.
      clip: True: read no pixel beyond the image's border, pad the layers there; False: read as if the net had no
        padding and mark what must be masked.

    Returns:
      The `Route`; one fragment throughout.

    Raises:
      GeometryError: if a window lies wholly in padding.
    """
    steps: list[Step] = []
    first, length, spacing = start, count, step  # of the output of the layer in hand
    for index in reversed(range(len(axis.slides))):
        slide = axis.slides[index]
        if not axis.acts(index):
            steps.append(_still((0,), length))
            continue
        inner = math.gcd(step, slide.spacing)
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
        piece = Piece((0,), 0, length_in, (before, after), 0)
        mask = Mask((first_in,), inner, length_in, slide.limit) if slide.padded and not clip else None
        steps.append(Step(spacing // inner, dilation, (piece,), mask))
        first, length, spacing = first_in, length_in, inner
    return Route(first, length, tuple(reversed(steps)), (0,), count)


def fragmented(axis: Axis, step: int, count: int, clip: bool) -> Route:
    """Runs every layer as it is, on fragments; a layer of stride s makes s fragments of each.

    Args:
      axis: from `axes`.
      step: distance between scores, pixels; the first is at 0.
      count: of scores.
      clip: as in `dilated`.

    Returns:
      The `Route`.

    Raises:
      GeometryError: if a window lies wholly in padding.
    """
    last = (count - 1) * step
    offsets: list[int] = [0]
    # Of each layer that acts: stride, [(j, fragments)], offsets of the input, limit and spacing of the output.
    plans = {}
    for index, slide in enumerate(axis.slides):
        if not axis.acts(index):
            continue
        n = slide.spacing
        outer = math.lcm(step, n) if index == axis.last else n * slide.stride
        wanted = step if index == axis.last else math.gcd(step, outer)
        places = []
        for j in range(outer // n):
            at = [o + j * n for o in offsets]
            fragments = tuple(f for f, position in enumerate(at) if position % wanted == 0 and position <= last)
            if fragments:
                places.append((j, fragments))
        after = axis.limit if index + 1 == len(axis.slides) else axis.slides[index + 1].limit
        plans[index] = (outer // n, places, offsets, after, outer)
        offsets = [offsets[f] + j * n for j, fragments in places for f in fragments]
    order = tuple(sorted(range(len(offsets)), key=offsets.__getitem__))
    length, fragments_in_hand = -(-count // len(offsets)), len(offsets)
    steps: list[Step] = []
    shift = 0  # position of the first value of fragment 0; below 0 where padding is read as pixels
    for index in reversed(range(len(axis.slides))):
        if index not in plans:
            steps.append(_still(tuple(range(fragments_in_hand)), length))
            continue
        slide = axis.slides[index]
        stride, places, starts, after, outer = plans[index]
        low = slide.low if clip else 0
        length_in = places[-1][0] + (length - 1) * stride + slide.extent - low
        if clip:
            length_in = min(length_in, slide.limit // slide.spacing + 1)
        shift_in = shift - (0 if clip else slide.low * slide.spacing)
        pieces = []
        for j, fragments in places:
            fits = length
            if clip:
                nearest = min(starts[f] for f in fragments) + j * slide.spacing
                fits = min(length, (after - nearest) // outer + 1)
                if fits < 1:
                    raise GeometryError(_ONLY_PADDING.format(index=index))
            begin, end = j - low, j - low + (fits - 1) * stride + slide.extent
            begin_in, end_in = max(begin, 0), min(end, length_in)
            pieces.append(Piece(fragments, begin_in, end_in, (begin_in - begin, end - end_in), length - fits))
        ragged = max(starts) + (length_in - 1) * slide.spacing > slide.limit
        mask = None
        if slide.padded and (ragged or not clip):
            mask = Mask(tuple(shift_in + start for start in starts), slide.spacing, length_in, slide.limit)
        steps.append(Step(stride, slide.dilation, tuple(pieces), mask))
        length, shift, fragments_in_hand = length_in, shift_in, len(starts)
    return Route(shift, length, tuple(reversed(steps)), order, count)


def _still(fragments: tuple[int, ...], length: int) -> Step:
    """A layer that looks at one value at a time: everything as it is."""
    return Step(1, 1, (Piece(fragments, 0, length, (0, 0), 0),), None)
