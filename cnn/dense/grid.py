"""Where the windows of a score map lie, and what a net says about them before it runs."""

import functools
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from cnn import convert, geometry
from cnn.dense import lattice
from cnn.nets import Net
from cnn.windows import GeometryError, Pair, as_pair, shape_text


class Grid(NamedTuple):
    """Where the windows of a map lie.

    Attributes:
      window: height and width of a window, pixels.
      stride: distance between neighbouring windows, pixels.
      size: windows along each axis.
      native: the net's own total stride, pixels.
    """

    window: Pair
    stride: Pair
    size: Pair
    native: Pair


def native_stride(net: Net, window: Sequence[int], channels: int) -> Pair:
    """Distance between neighbouring scores of one pass of the converted net.

    Args:
      net: the classifier.
      window: (height, width) that it was trained on, pixels.
      channels: of its images.

    Returns:
      (vertical, horizontal), pixels.

    Raises:
      GeometryError: if the window does not fit the net.
    """
    return geometry.table(net, (*window, channels))[-1].stride


def has_padding(net: Net, window: Sequence[int], channels: int) -> bool:
    """Whether a window cut out by itself sees padding anywhere (also under a ceil-mode pool that hangs over).

    Args:
      net: the classifier.
      window: (height, width) that it was trained on, pixels.
      channels: of its images.

    Returns:
      True if "crop" and "image" context differ.

    Raises:
      GeometryError: if the window does not fit the net.
    """
    shape = (*window, channels)
    for layer, row in zip(net.layers, geometry.table(net, shape), strict=True):
        if len(shape) == 3 and len(row.output_shape) == 3:
            seen = layer.window(shape)
            for axis in range(2):
                last = (row.output_shape[axis] - 1) * seen.stride[axis] + seen.extent[axis]
                if seen.padding[axis][0] or last > shape[axis]:
                    return True
        shape = row.output_shape
    return False


def plan_grid(net: Net, image_shape: Sequence[int], window: Sequence[int], stride: int | Sequence[int] | None) -> Grid:
    """Lays the windows out: the first at (0, 0), then every `stride` pixels as long as they fit.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      window: (height, width) that the net was trained on, pixels.
      stride: one number or (vertical, horizontal), pixels; None: the net's own.

    Returns:
      A `Grid`. Pixels beyond the last window are not seen; the boxes say which are.

    Raises:
      GeometryError: if the window does not fit the net or is larger than the image, or the stride is below 1.
    """
    window = as_pair(window, "window", "score_map")
    native = native_stride(net, window, image_shape[2])
    stride = native if stride is None else as_pair(stride, "stride", "score_map")
    if window[0] > image_shape[0] or window[1] > image_shape[1]:
        raise GeometryError(
            f"score_map: the window {shape_text(window)} is larger than the image {shape_text(image_shape[:2])}; "
            f"resize or pad the image to at least {max(window[0], image_shape[0])}x{max(window[1], image_shape[1])}"
        )
    size = tuple((n - w) // s + 1 for n, w, s in zip(image_shape[:2], window, stride, strict=True))
    return Grid(window, stride, (size[0], size[1]), native)


def boxes(net: Net, image_shape: Sequence[int], grid: Grid, context: str) -> np.ndarray:
    """Pixel boxes that the scores of a grid see: their receptive fields, cut at the window ("crop") or the image.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      grid: from `plan_grid`.
      context: "crop", "image" or "both".

    Returns:
      int64 [h, w, 4]: (y0, x0, y1, x1), y1 and x1 exclusive. A score that sees "mean" padding also sees the means of
      whole rows and columns, beyond its box.
    """
    (y0, y1), (x0, x1) = _edges(cast(Hashable, net), tuple(image_shape), grid, context)
    corners = [np.broadcast_to(edge, grid.size) for edge in (y0[:, None], x0[None, :], y1[:, None], x1[None, :])]
    return np.stack(corners, axis=-1)


@functools.lru_cache(maxsize=256)
def _edges(net: Any, image_shape: tuple[int, int, int], grid: Grid, context: str) -> list[tuple[np.ndarray, ...]]:
    """First and last pixel (exclusive) that each row of scores sees, and each column."""
    last = geometry.table(net, (*grid.window, image_shape[2]))[-1]
    edges = []
    for axis in range(2):
        start = np.arange(grid.size[axis]) * grid.stride[axis]
        if context == "image":
            # "same" padding of a strided layer depends on the size: the image's, not the window's.
            conv_net = convert.convolutional(net, (*grid.window, image_shape[2]))
            low = start + lattice.axes(conv_net, grid.window, image_shape)[axis].offset
            high = low + last.receptive_field[axis]
            edges.append((np.maximum(low, 0), np.minimum(high, image_shape[axis])))
        else:
            low = start + last.offset[axis]
            high = low + last.receptive_field[axis]
            edges.append((np.maximum(low, start), np.minimum(high, start + grid.window[axis])))
    return edges
