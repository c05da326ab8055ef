"""Where the windows of a score map lie."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnn import windows
from cnn.dense.prepared import PreparedNet, prepare
from cnn.nets import Net
from cnn.windows import GeometryError, Pair, as_image_shape, as_pair, shape_text


class Grid(NamedTuple):
    """Where the windows of a map lie: window (i, j) starts at pixel (i * stride, j * stride).

    Attributes:
      window: height and width of a window, pixels.
      stride: distance between neighbouring windows, pixels.
      size: number of windows along each axis.
      native: native stride of the net: the distance between neighbouring scores of one pass of it, pixels.
      offset: first pixel that a score sees, relative to the first pixel of its window; negative if it sees pixels
        before its window (context "image" of a padded net).
      seen: height and width of the box of pixels that a score sees, before the box is cut at the image's border; None:
        the size of the window.
    """

    window: Pair
    stride: Pair
    size: Pair
    native: Pair
    offset: Pair = (0, 0)
    seen: Pair | None = None

    @property
    def extent(self) -> Pair:
        """Height and width from the start of the first window to the end of the last, pixels."""
        return (
            (self.size[0] - 1) * self.stride[0] + self.window[0],
            (self.size[1] - 1) * self.stride[1] + self.window[1],
        )

    @property
    def step(self) -> Pair:
        """The stride that a map is computed with, pixels: the native one along an axis with a single window.

        Any stride gives that window, and a plan would grow with one that leads far out of the image.
        """
        return (
            self.stride[0] if self.size[0] > 1 else self.native[0],
            self.stride[1] if self.size[1] > 1 else self.native[1],
        )

    def spans(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """What the scores see along one axis, not cut at the image's border.

        Args:
          axis: 0 for rows of scores, 1 for columns.

        Returns:
          First pixel and end (exclusive) for each row or column of scores, int64 [n] each.
        """
        first = np.arange(self.size[axis]) * self.stride[axis] + self.offset[axis]
        return first, first + (self.seen or self.window)[axis]

    def window_boxes(self) -> np.ndarray:
        """The windows themselves, whatever their scores see.

        Returns:
          int64 [h, w, 4]: (y0, x0, y1, x1), y1 and x1 exclusive.
        """
        return self._replace(offset=(0, 0), seen=None).boxes(self.extent)

    def boxes(self, image_shape: Sequence[int]) -> np.ndarray:
        """Pixel boxes that the scores see.

        Args:
          image_shape: (height, width, ...) at which the boxes are cut, pixels.

        Returns:
          int64 [h, w, 4]: (y0, x0, y1, x1), y1 and x1 exclusive.
        """
        edges = [np.clip(edge, 0, image_shape[axis]) for axis in range(2) for edge in self.spans(axis)]
        y0, y1, x0, x1 = edges
        corners = [np.broadcast_to(edge, self.size) for edge in (y0[:, None], x0[None, :], y1[:, None], x1[None, :])]
        return np.stack(corners, axis=-1)


def native_stride(net: Net, window: Sequence[int], channels: int) -> Pair:
    """The native stride of a net: the distance between neighbouring scores of one pass of the converted net.

    Args:
      net: the classifier.
      window: (height, width) that it was trained on, pixels.
      channels: number of channels of its images.

    Returns:
      (vertical, horizontal) stride, pixels.

    Raises:
      GeometryError: if the window does not fit the net.
    """
    return prepare(net, window, channels).native_stride


def has_padding(net: Net, window: Sequence[int], channels: int) -> bool:
    """Whether a window that is cut out by itself sees padding in any layer (also beyond the edge of a "ceil" pool).

    Args:
      net: the classifier.
      window: (height, width) that it was trained on, pixels.
      channels: number of channels of its images.

    Returns:
      True if "crop" and "image" context differ.

    Raises:
      GeometryError: if the window does not fit the net.
    """
    return prepare(net, window, channels).padded


def plan_grid(net: Net, image_shape: Sequence[int], window: Sequence[int], stride: int | Sequence[int] | None) -> Grid:
    """Places the windows: the first at pixel (0, 0), the others every `stride` pixels as long as they fit.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      window: (height, width) that the net was trained on, pixels.
      stride: distance between windows, one number or (vertical, horizontal), pixels; None: the native stride.

    Returns:
      A `Grid`. Pixels beyond the last window are not seen.

    Raises:
      GeometryError: if the window does not fit the net or is larger than the image, or the stride is below 1.
    """
    image_shape = as_image_shape(image_shape, "dense.plan_grid: image_shape")
    return lay_grid(prepare(net, as_pair(window, "window", "score_map"), image_shape[2]), image_shape, stride)


def lay_grid(prepared: PreparedNet, image_shape: Sequence[int], stride: int | Sequence[int] | None) -> Grid:
    """`plan_grid` for a prepared net.

    Args:
      prepared: the classifier and its window.
      image_shape: (height, width, ...), pixels.
      stride: distance between windows, pixels; None: the native stride.

    Returns:
      A `Grid`.

    Raises:
      GeometryError: if the window is larger than the image, or the stride is below 1.
    """
    window, native = prepared.window, prepared.native_stride
    stride = native if stride is None else as_pair(stride, "stride", "score_map")
    if window[0] > image_shape[0] or window[1] > image_shape[1]:
        raise GeometryError(
            f"score_map: the window {shape_text(window)} is larger than the image {shape_text(image_shape[:2])}; "
            f"resize or pad the image to at least {max(window[0], image_shape[0])}x{max(window[1], image_shape[1])}"
        )
    return Grid(window, stride, windows.counts(image_shape, window, stride), native)


def boxes(net: Net, image_shape: Sequence[int], grid: Grid, context: str) -> np.ndarray:
    """Pixel boxes that the scores of a grid see: their receptive fields, cut at the window ("crop") or the image.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      grid: where the windows lie, from `plan_grid`.
      context: "crop", "image" or "both".

    Returns:
      int64 [h, w, 4]: (y0, x0, y1, x1), y1 and x1 exclusive. A score that sees "mean" padding also sees the means of
      whole rows and columns, beyond its box.
    """
    return with_sight(prepare(net, grid.window, image_shape[2]), image_shape, grid, context).boxes(image_shape)


def with_sight(prepared: PreparedNet, image_shape: Sequence[int], grid: Grid, context: str) -> Grid:
    """Adds to a grid which pixels its scores see.

    Args:
      prepared: the classifier and its window.
      image_shape: (height, width, channels), pixels.
      grid: where the windows lie, from `plan_grid`.
      context: "crop", "image" or "both".

    Returns:
      The grid with `offset` and `seen` set to the receptive field of a score. With "crop" and "both" the field is cut
      at the window, because a score sees nothing beyond it.
    """
    last = prepared.table[-1]
    if context == "image":
        # "same" padding of a strided layer depends on the size of its input: here the image, not the window.
        vertical, horizontal = prepared.axes(image_shape)
        return grid._replace(offset=(vertical.offset, horizontal.offset), seen=last.receptive_field)
    ends = [min(o + f, n) for o, f, n in zip(last.offset, last.receptive_field, grid.window, strict=True)]
    offset = (max(last.offset[0], 0), max(last.offset[1], 0))
    return grid._replace(offset=offset, seen=(ends[0] - offset[0], ends[1] - offset[1]))
