"""The route of a converted net with its windows dilated: each layer gives one array with every wanted position.

The docstring of `cnn.dense.lattice` defines positions and spacing, and has an example.

Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation" (2015), section 3.2.
"""

import math

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
    steps, first, length, _ = _dilated(axis, start, count, stride, stride, clip)
    return Route(first, length, steps, (0,), count)


def _dilated(
    axis: Axis, first: int, length: int, spacing: int, stride: int, clip: bool
) -> tuple[tuple[Step | Fork, ...], int, int, int]:
    """The steps that give `length` values from position `first` on, `spacing` pixels apart; with them the same three
    numbers of the input that they read.
    """
    steps: list[Step | Fork] = []
    for index in reversed(range(len(axis.slides))):  # the three are those of the output of the layer at `index`
        slide = axis.slides[index]
        if slide.paths:
            fork, first, length, spacing = _dilated_fork(slide, first, length, spacing, stride, clip)
            steps.append(fork)
            continue
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
    return tuple(reversed(steps)), first, length, spacing


def _dilated_fork(
    slide: Slide, first: int, length: int, spacing: int, stride: int, clip: bool
) -> tuple[Fork, int, int, int]:
    """The paths of a layer that branches, and the union of what they read of its input."""
    found = [_dilated(path, first, length, spacing, stride, clip) for path in slide.paths]
    inner = found[0][3]  # the same for all: a path without a layer that moves is beside paths without a stride
    begin = min(at for _, at, _, _ in found)
    end = max(at + (count - 1) * inner for _, at, count, _ in found)
    routes = []
    for steps, at, count, _ in found:
        skip = (at - begin) // inner
        routes.append(PathRoute(skip, skip + count, steps, (0,)))
    return Fork(tuple(routes)), begin, (end - begin) // inner + 1, inner
