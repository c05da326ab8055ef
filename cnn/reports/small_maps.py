"""Small maps of probabilities: each pixel has the largest value of the windows centred on its part of an image.

The largest, not the mean: an object that fills a few windows of millions would fade away in a mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

NOTHING = np.float32(-np.inf)  # of windows without a score, and of pixels without a window


class Cells:
    """Which scores lie on which pixels of a small map.

    Attributes:
      size: (height, width) of the small map.
    """

    def __init__(self, opened: Any, size: tuple[int, int]) -> None:
        """Lays the pixels of a small map over the scores of a map.

        Args:
          opened: the map, a `cnn.dense.OpenedMap`.
          size: (height, width) of the small map, no larger than the image, pixels.
        """
        self.size = size
        self._spans = [_spans(opened, axis, size[axis]) for axis in range(2)]

    def part(self, place: tuple[slice, slice]) -> tuple[slice, slice]:
        """The part of the small map that a block of scores reaches.

        Args:
          place: (rows, columns) of the block.

        Returns:
          (rows, columns) of the small map.
        """
        down, across = (self._touched(axis, part) for axis, part in enumerate(place))
        return down, across

    def _touched(self, axis: int, part: slice) -> slice:
        first, last = self._spans[axis]
        touched = np.flatnonzero((last >= part.start) & (first < part.stop) & (last >= first))
        return slice(int(touched[0]), int(touched[-1]) + 1) if len(touched) else slice(0, 0)

    def reduce(self, place: tuple[slice, slice], planes: np.ndarray) -> np.ndarray:
        """The largest value on each pixel of the part that a block reaches.

        Args:
          place: (rows, columns) of the block.
          planes: its values [K, h, w], without NaN.

        Returns:
          float32 [K, *size of the part]; -inf where there is none.
        """
        for axis in (0, 1):
            touched, part = self._touched(axis, place[axis]), place[axis]
            first, last = (ends[touched] - part.start for ends in self._spans[axis])
            first, last = np.maximum(first, 0), np.minimum(last, part.stop - part.start - 1)
            # Score by score of each pixel's span: faster than ufunc.reduceat, which is slow for short spans.
            found = planes.take(first, axis + 1)
            for j in range(1, int((last - first).max(initial=0)) + 1):
                np.maximum(found, planes.take(np.minimum(first + j, last), axis + 1), out=found)
            planes = found
        return planes


def in_cells(planes: np.ndarray, cell: Sequence[int]) -> np.ndarray:
    """The largest value in each cell of some rows and columns; the last cells may be smaller.

    Args:
      planes: [K, h, w].
      cell: (rows, columns) of a cell.

    Returns:
      [K, ceil(h / rows), ceil(w / columns)].
    """
    for axis, n in enumerate(cell, start=1):
        moved = planes.swapaxes(0, axis)
        found = moved[::n].copy()
        for j in range(1, min(n, len(moved))):
            part = moved[j::n]
            np.maximum(found[: len(part)], part, out=found[: len(part)])
        planes = found.swapaxes(0, axis)
    return planes


def _spans(opened: Any, axis: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last score of each of `size` pixels of a small map; the last before the first where there is none.

    A score's cell reaches half-way to its neighbours, as in `cnn.dense.heat_map`.
    """
    corners, window, stride = opened.corners(axis), opened.window[axis], opened.stride[axis]
    count, extent = len(corners), opened.image_shape[axis]
    if count == 1:
        edges = np.array([4 * corners[0], 4 * (corners[0] + window)])
    else:
        twice = 2 * corners + window  # twice the centres, which may lie between two pixels
        edges = np.concatenate([[2 * (twice[0] - stride)], twice[:-1] + twice[1:], [2 * (twice[-1] + stride)]])
    borders = np.arange(size + 1, dtype=np.int64) * extent // size
    first = np.searchsorted(edges, 4 * borders[:-1] + 2, side="right") - 1
    last = np.searchsorted(edges, 4 * borders[1:] - 2, side="right") - 1
    seen = (last >= 0) & (first < count)
    return np.where(seen, np.maximum(first, 0), 1), np.where(seen, np.minimum(last, count - 1), 0)


class Layers:
    """The small maps of some classes, filled block by block."""

    def __init__(self, cells: Cells, classes: Sequence[int]) -> None:
        """Begins with no values.

        Args:
          cells: which scores lie on which pixels.
          classes: the classes, in the order of the planes that are added.
        """
        self._cells, self._classes = cells, list(classes)
        self._values = np.zeros((len(self._classes), *cells.size), np.uint8)

    def add(self, place: tuple[slice, slice], reduced: np.ndarray) -> None:
        """Adds a block.

        Args:
          place: its rows and columns of scores.
          reduced: what `Cells.reduce` made of its planes.
        """
        if self._classes:
            part = (slice(None), *self._cells.part(place))
            np.maximum(self._values[part], as_bytes(reduced), out=self._values[part])

    def image(self, k: int) -> np.ndarray:
        """The small map of a class, as `as_bytes` has it."""
        return self._values[self._classes.index(k)]


def as_bytes(values: np.ndarray) -> np.ndarray:
    """Probabilities in a byte: 0 for none, otherwise 1 to 255 for 0 to 1.

    Args:
      values: floating, any shape; -inf for none.

    Returns:
      uint8 of this shape.
    """
    known = np.isfinite(values)
    scaled = 1 + np.rint(254 * np.clip(np.where(known, values, 0), 0, 1))
    return np.where(known, scaled, 0).astype(np.uint8)


def class_planes(planes: np.ndarray) -> np.ndarray:
    """A plane of scores for each class: a single one tells two classes apart, with the scores [0, z].

    Args:
      planes: [K, h, w].

    Returns:
      [max(K, 2), h, w].
    """
    if len(planes) != 1:
        return planes
    return np.concatenate([np.where(np.isnan(planes), planes, np.float32(0)), planes])


def probabilities(planes: np.ndarray, activation: str) -> np.ndarray:
    """Probabilities of scores; as `cnn.nets.outputs.probabilities`, by planes, which is faster for few classes.

    Args:
      planes: scores, float32 [K, h, w], K at least 2.
      activation: "softmax" or "sigmoid".

    Returns:
      float32 [K, h, w]; NaN where a score is NaN, with a softmax in all classes.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if activation == "sigmoid":
            return 1 / (1 + np.exp(-planes))
        top = planes.max(axis=0)
        # Of infinite scores those equal to the largest share all.
        shifted = np.where(np.isinf(top), np.where(planes == top, np.float32(0), NOTHING), planes - top)
        result = np.exp(shifted, out=shifted)
        result /= result.sum(axis=0)
        result[:, np.isnan(top)] = np.nan
        return result
