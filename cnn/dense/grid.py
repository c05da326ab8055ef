"""Where the windows of a score map lie."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.export import is_symbolic_dim

from cnn import windows
from cnn.dense.arguments import CONTEXT, named
from cnn.dense.prepared import PreparedNet, prepare
from cnn.nets import Net
from cnn.windows import GeometryError, Pair, as_image_shape, as_pair, shape_text


class Grid(NamedTuple):
    """Where the windows of a map lie: window (i, j) starts at pixel (i * stride, j * stride).

    With `cover` the last row or column may start elsewhere: where the stride would leave out pixels at the bottom or
    right border, one more window lies flush with it.

    Attributes:
      window: height and width of a window, pixels.
      stride: distance between neighbouring windows, pixels.
      size: number of windows along each axis, with those of `last`.
      native: native stride of the net: the distance between neighbouring scores of one pass of it, pixels.
      offset: first pixel that a score sees, relative to the first pixel of its window; negative if it sees pixels
        before its window (context "image" of a padded net).
      seen: height and width of the box of pixels that a score sees, before the box is cut at the image's border; None:
        the size of the window.
      last: along each axis, first pixel of an additional last window that lies flush with the image's border; None: all
        windows lie at multiples of the stride.
    """

    window: Pair
    stride: Pair
    size: Pair
    native: Pair
    offset: Pair = (0, 0)
    seen: Pair | None = None
    last: tuple[int | None, int | None] = (None, None)

    @property
    def regular(self) -> Pair:
        """Number of windows along each axis that lie at multiples of the stride; at least 1 of an image's map."""
        return self.size[0] - (self.last[0] is not None), self.size[1] - (self.last[1] is not None)

    def starts(self, axis: int) -> np.ndarray:
        """First pixels of the windows along one axis.

        Args:
          axis: 0 for rows of scores, 1 for columns.

        Returns:
          int64 [n], increasing.
        """
        regular, last = np.arange(self.regular[axis]) * self.stride[axis], self.last[axis]
        return regular if last is None else np.append(regular, last)

    @property
    def extent(self) -> Pair:
        """Height and width from the start of the first window to the end of the last, pixels."""
        ends = [
            ((n - 1) * stride if last is None else last) + window
            for n, stride, window, last in zip(self.size, self.stride, self.window, self.last, strict=True)
        ]
        return ends[0], ends[1]

    @property
    def step(self) -> Pair:
        """The stride that a map is computed with, pixels: the native one along an axis with a single regular window.

        Any stride gives that window, and a plan would grow with one that leads far out of the image.
        """
        return (
            self.stride[0] if self.regular[0] > 1 else self.native[0],
            self.stride[1] if self.regular[1] > 1 else self.native[1],
        )

    def spans(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """What the scores see along one axis, not cut at the image's border.

        Args:
          axis: 0 for rows of scores, 1 for columns.

        Returns:
          First pixel and end (exclusive) for each row or column of scores, int64 [n] each.
        """
        first = self.starts(axis) + self.offset[axis]
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


@named()
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


@named()
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


@named()
def plan_grid(
    net: Net,
    image_shape: Sequence[int],
    window: Sequence[int],
    stride: int | Sequence[int] | None,
    *,
    cover: bool = False,
) -> Grid:
    """Places the windows: the first at pixel (0, 0), the others every `stride` pixels as long as they fit.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      window: (height, width) that the net was trained on, pixels.
      stride: distance between windows, one number or (vertical, horizontal), pixels; None: the native stride.
      cover: whether to place one more row or column of windows flush with the bottom or right border where the stride
        leaves out pixels there.

    Returns:
      A `Grid`. Pixels beyond the last window are not seen; with `cover` there are none.

    Raises:
      GeometryError: if the window does not fit the net or is larger than the image, or the stride is below 1.
    """
    image_shape = as_image_shape(image_shape, "dense.plan_grid: image_shape")
    return lay_grid(prepare(net, as_pair(window, "window", "score_map"), image_shape[2]), image_shape, stride, cover)


def lay_grid(
    prepared: PreparedNet, image_shape: Sequence[int], stride: int | Sequence[int] | None, cover: bool = False
) -> Grid:
    """`plan_grid` for a prepared net.

    Args:
      prepared: the classifier and its window.
      image_shape: (height, width, ...), pixels.
      stride: distance between windows, pixels; None: the native stride.
      cover: as of `plan_grid`.

    Returns:
      A `Grid`.

    Raises:
      GeometryError: if the window is larger than the image, or the stride is below 1; with `cover`, if the image's size
        is symbolic.
    """
    window, native = prepared.window, prepared.native_stride
    stride = native if stride is None else as_pair(stride, "stride", "score_map")
    if window[0] > image_shape[0] or window[1] > image_shape[1]:
        raise GeometryError(
            f"score_map: the window {shape_text(window)} is larger than the image {shape_text(image_shape[:2])}; "
            f"resize or pad the image to at least {max(window[0], image_shape[0])}x{max(window[1], image_shape[1])}"
        )
    grid = Grid(window, stride, windows.counts(image_shape, window, stride), native)
    return _covering(grid, image_shape) if cover else grid


def _covering(grid: Grid, image_shape: Sequence[int]) -> Grid:
    """A grid with one more window along each axis where the image goes on behind the last one."""
    if any(is_symbolic_dim(n) for n in image_shape[:2]):
        raise GeometryError(
            f"score_map: cover=True needs to know where the image {shape_text(image_shape[:2])} ends; take sizes that "
            f"are numbers, or cover=False"
        )
    slack = [n - window for n, window in zip(image_shape, grid.window, strict=False)]
    last = tuple(n if n % stride else None for n, stride in zip(slack, grid.stride, strict=True))
    size = tuple(n + (at is not None) for n, at in zip(grid.size, last, strict=True))
    return grid._replace(size=size, last=last)


@named(context=CONTEXT)
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
        return grid._replace(
            offset=(vertical.offset, horizontal.offset), seen=prepared.converted_table[-1].receptive_field
        )
    ends = [min(o + f, n) for o, f, n in zip(last.offset, last.receptive_field, grid.window, strict=True)]
    offset = (max(last.offset[0], 0), max(last.offset[1], 0))
    return grid._replace(offset=offset, seen=(ends[0] - offset[0], ends[1] - offset[1]))
