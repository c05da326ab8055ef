"""The route of a converted net on fragments: each layer runs unchanged, on several shifted parts as one batch.

The docstring of `cnn.dense.lattice` defines positions, spacing and fragments, and has the example used here.

Source: Giusti et al., "Fast Image Scanning with Deep Max-Pooling Convolutional Neural Networks" (2013).
"""

import math
from typing import NamedTuple

from cnn.dense.lattice import (
    ONLY_PADDING,
    Axis,
    Fork,
    Group,
    Mask,
    PathRoute,
    Route,
    Slide,
    Step,
    counted_to,
    unchanged,
)
from cnn.windows import GeometryError


class _Split(NamedTuple):
    """Which fragments a layer makes from those of its input, before their lengths are known.

    Attributes:
      starts: position of the first value of each input fragment, pixels.
      stride: stride with which the layer is run, in values of an input fragment.
      spacing: distance between neighbouring values of an output fragment, pixels.
      runs: (j, fragments) for each run of the layer: it starts at value j of these input fragments, each of which gives
        one output fragment with positions that are needed.
      limit: largest position of the output, pixels.
    """

    starts: tuple[int, ...]
    stride: int
    spacing: int
    runs: tuple[tuple[int, tuple[int, ...]], ...]
    limit: int

    def output_starts(self) -> tuple[int, ...]:
        """Position of the first value of each output fragment, pixels."""
        inner = self.spacing // self.stride
        return tuple(self.starts[f] + j * inner for j, fragments in self.runs for f in fragments)


def fragmented(axis: Axis, stride: int, count: int, clip: bool) -> Route:
    """Plans a run of every layer, unchanged, on fragments; a layer of stride s makes s fragments from each one it gets.

    The plan takes two walks through the net. The walk from the pixels to the scores finds which fragments each layer
    makes; the walk back finds how long they must be. In the example of `cnn.dense.lattice` (a pool of 2 pixels with
    stride 2, then a convolution of 2 values, on 8 pixels, for 5 scores at stride 1) the first walk gives the pool two
    runs, from pixel 0 and from pixel 1, and the convolution one run on both fragments. On the way back, two fragments
    hold 5 scores if each has 3. For 3 scores the convolution reads 4 values of each fragment, and for 4 values the pool
    reads pixels 0 to 7 in its first run and 1 to 8 in its second. Pixel 8 does not exist and is read as zero; score 5,
    the only one that depends on it, is dropped. With `clip` the second run reads pixels 1 to 6 instead, and its output
    is filled up to the same length.

    Args:
      axis: the net along one axis of the image, from `cnn.dense.lattice.axes`.
      stride: distance between scores, pixels; the first score is at position 0.
      count: number of scores.
      clip: True: read no pixel beyond the image's border, and pad the layers there; False: read as if the net had no
        padding, and mark the values that must be masked (as in `cnn.dense.dilation`).

    Returns:
      The `Route`.

    Raises:
      GeometryError: if a window lies wholly in padding.
    """
    made = _split_all(axis, (0,), stride, (count - 1) * stride, _spacing_of_scores(axis, stride))
    order = tuple(sorted(range(len(made.starts)), key=made.starts.__getitem__))
    steps, first, length = _lengthened(axis, made, 0, -(-count // len(made.starts)), clip)
    return Route(first, length, steps, order, count)


class _Made(NamedTuple):
    """The fragments that a chain of layers makes, before their lengths are known.

    Attributes:
      layers: for each layer the starts of its input's fragments, its `_Split` if it makes fragments, and what each of
        its paths makes if it branches.
      starts: position of the first value of each output fragment, pixels.
    """

    layers: tuple[tuple[tuple[int, ...], _Split | None, tuple["_Made", ...]], ...]
    starts: tuple[int, ...]


def _spacing_of_scores(axis: Axis, stride: int) -> int:
    """Distance between neighbouring scores of a fragment, pixels: a common one for all paths that end in them."""
    slide = axis.slides[axis.last]
    if slide.paths:
        return math.lcm(*(_spacing_of_scores(path, stride) for path in slide.paths))
    return math.lcm(stride, slide.spacing)


def _split_all(axis: Axis, starts: tuple[int, ...], stride: int, last: int, ending: int) -> _Made:
    """The walk from the pixels to the scores, which are at multiples of `stride` up to `last`, `ending` apart in each
    fragment.
    """
    layers: list[tuple[tuple[int, ...], _Split | None, tuple[_Made, ...]]] = []
    for index, slide in enumerate(axis.slides):
        if slide.paths:
            paths = tuple(_split_all(path, starts, stride, last, ending) for path in slide.paths)
            layers.append((starts, None, paths))
            starts = paths[0].starts
        elif axis.acts(index):
            split = _split(axis, index, starts, stride, last, ending)
            layers.append((starts, split, ()))
            starts = split.output_starts()
        else:
            layers.append((starts, None, ()))
    return _Made(tuple(layers), starts)


def _lengthened(
    axis: Axis, made: _Made, first: int, length: int, clip: bool
) -> tuple[tuple[Step | Fork, ...], int, int]:
    """The walk back: the steps, and position of the first value of fragment 0 and length of the input's fragments.

    The position is below 0 where padding is read as pixels.
    """
    steps: list[Step | Fork] = []
    for index in reversed(range(len(axis.slides))):
        slide, (starts, split, paths) = axis.slides[index], made.layers[index]
        if paths:
            fork, first, length = _lengthened_fork(slide, paths, first, length, clip)
            steps.append(fork)
            continue
        if split is None:
            steps.append(unchanged(range(len(starts)), length))
            continue
        length_in = split.runs[-1][0] + (length - 1) * split.stride + slide.extent
        if clip:
            length_in = min(length_in - slide.low, slide.limit // slide.spacing + 1)
            groups = _groups_in_image(slide, split, index, length, length_in)
        else:
            first -= slide.low * slide.spacing
            groups = _groups(slide, split, length)
        places = Mask(tuple(first + start for start in split.starts), slide.spacing, length_in, slide.limit)
        beyond = max(split.starts) + (length_in - 1) * slide.spacing > slide.limit
        mask = places if slide.padded and (beyond or not clip) else None
        steps.append(Step(split.stride, slide.dilation, groups, mask, counted_to(slide, places)))
        length = length_in
    return tuple(reversed(steps)), first, length


def _lengthened_fork(
    slide: Slide, paths: tuple[_Made, ...], first: int, length: int, clip: bool
) -> tuple[Fork, int, int]:
    """The paths of a layer that branches, and the union of what they read of its input's fragments."""
    found = [_lengthened(path, made, first, length, clip) for path, made in zip(slide.paths, paths, strict=True)]
    begin = min(at for _, at, _ in found)
    routes = []
    for (steps, at, count), made in zip(found, paths, strict=True):
        skip = (at - begin) // slide.spacing
        order = tuple(made.starts.index(start) for start in paths[0].starts)
        routes.append(PathRoute(skip, skip + count, steps, order))
    return Fork(tuple(routes)), begin, max(route.stop for route in routes)


def _split(axis: Axis, index: int, starts: tuple[int, ...], stride: int, last: int, ending: int) -> _Split:
    """Which fragments a layer makes from those that start at `starts`, for scores at multiples of `stride` to `last`.

    The last layer with a window computes the wanted positions only. Every layer before it computes fragments whose
    values are its output's spacing apart, and keeps those with a position that some score needs.
    """
    slide = axis.slides[index]
    if index == axis.last:
        spacing, wanted = ending, stride
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
    """What a layer runs on if it may read beyond the image's border: all its outputs have the same length."""
    reach = (length - 1) * split.stride + slide.extent
    return tuple(Group(fragments, j, j + reach, (0, 0), 0) for j, fragments in split.runs)


def _groups_in_image(slide: Slide, split: _Split, index: int, length: int, length_in: int) -> tuple[Group, ...]:
    """What a layer runs on if it reads nothing beyond the image's border: the runs are padded there, or shorter."""
    groups = []
    for j, fragments in split.runs:
        first = min(split.starts[f] for f in fragments) + j * slide.spacing
        # How many output values have positions that do not exceed the limit.
        fits = min(length, (split.limit - first) // split.spacing + 1)
        if fits < 1:
            raise GeometryError(ONLY_PADDING.format(index=index))
        start = j - slide.low
        stop = start + (fits - 1) * split.stride + slide.extent
        inside = (max(start, 0), min(stop, length_in))
        groups.append(Group(fragments, *inside, (inside[0] - start, stop - inside[1]), length - fits))
    return tuple(groups)
