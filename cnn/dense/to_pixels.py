"""From score maps to pixels: heat maps as large as the image, the best box of each image, a class for each pixel.

All functions are pure functions of NumPy arrays and take the map of one image, [h, w] or [h, w, K], except
`best_boxes`, which takes a whole `ScoreMap`. The place of a score is the centre of the box of pixels that it saw,
before the box was cut at the image's border; the map's grid defines it.

A score that is NaN is not known: it stays NaN in a heat map, and a window with such a score has no class and is never
the best. Infinite scores compare as numbers do.
"""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np

from cnn.dense.arguments import named
from cnn.dense.grid import Grid
from cnn.dense.maps import ScoreMap
from cnn.nets import outputs
from cnn.nets.arrays_in import score_array
from cnn.windows import GeometryError, Pair, as_pair, shape_text

METHODS = ("cells", "bilinear")


class Best(NamedTuple):
    """The best window of each image.

    Attributes:
      boxes: box of pixels (y0, x0, y1, x1) that the best score saw, y1 and x1 exclusive; int [N, 4]. Of an image all
        of whose windows have a NaN score, the empty box (0, 0, 0, 0).
      classes: class of the best score, int [N]; -1 if there is none.
      scores: the best score, a logit or a probability, float32 [N]; NaN if there is none.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


@named(grid=None, image_shape=None)
def heat_map(scores: np.ndarray, grid: Grid, image_shape: Sequence[int], method: str = "cells") -> np.ndarray:
    """Scores upsampled to the size of the image, each at the centre of the pixels that it saw.

    Each score has a cell around its centre, which reaches half-way to the centres beside it, so that the cells have no
    gaps between them; the outermost reach half a stride outwards. A pixel belongs to a cell if its centre lies in it
    (upper and left edges count as inside). Along an axis with a single score, the cell is everything that the score
    saw. At stride 1 each pixel has the score of the window that is centred on it; a window of even size counts as
    centred on the first of its two middle pixels.

    Args:
      scores: one or K real numbers for each window, [h, w] or [h, w, K].
      grid: where the windows lie (`ScoreMap.grid`).
      image_shape: (H, W, ...), pixels.
      method: "cells" gives a pixel the score of its cell; "bilinear" interpolates between the four centres around it,
        and takes the outermost score for pixels beyond the outermost centres.

    Returns:
      float32 [H, W] or [H, W, K]; NaN where no cell covers a pixel, the same pixels for both methods, and where a score
        that counts is NaN.

    Raises:
      TypeError: if `grid` is not a `Grid`, or the scores are not numbers.
      ValueError: if the method is unknown, the scores do not have the size of the grid, or the grid belongs to a larger
        image.
    """
    if not isinstance(grid, Grid):
        raise TypeError("heat_map takes the grid of a map (ScoreMap.grid, or dense.plan_grid), not boxes")
    if method not in METHODS:
        raise ValueError(f"heat_map: method (={method!r}) must be one of {', '.join(METHODS)}")
    scores = np.asarray(score_array(scores, "heat_map"), np.float32)
    if scores.ndim not in (2, 3) or scores.shape[:2] != grid.size:
        raise ValueError(
            f"heat_map: scores have shape {scores.shape}; a grid of {shape_text(grid.size)} windows needs "
            f"({grid.size[0]}, {grid.size[1]}) or ({grid.size[0]}, {grid.size[1]}, K)"
        )
    image_size = _image_size(image_shape, grid, "heat_map")
    result = scores
    for axis in range(2):
        cells = _cells(grid, axis, image_size[axis])
        seen = cells >= 0
        if method == "cells" or grid.size[axis] == 1:
            spread = result.take(np.maximum(cells, 0), axis)
        else:
            first, second, weight = _neighbours(grid, axis, image_size[axis])
            weight = np.expand_dims(weight, tuple(range(1, result.ndim - axis)))
            lower, upper = result.take(first, axis), result.take(second, axis)
            with np.errstate(invalid="ignore"):  # of +inf and -inf there is no mean: NaN
                mixed = lower * (1 - weight) + upper * weight
            # A score of no weight does not count, not even if it is NaN or infinite.
            spread = np.where(weight == 0, lower, mixed)
        # Set, not multiplied, so that a NaN among the scores does not spread.
        spread[(slice(None),) * axis + (~seen,)] = np.nan
        result = spread
    return result


def _image_size(image_shape: Sequence[int], grid: Grid, what: str) -> Pair:
    """Height and width of the image that a map is shown on, which must hold all windows of the map."""
    try:
        size = as_pair(image_shape[:2], "image_shape", what)
    except TypeError:
        raise GeometryError(f"{what}: image_shape (={image_shape!r}) must be (height, width, ...), pixels") from None
    if len(image_shape) > 3:
        raise GeometryError(
            f"{what}: image_shape (={tuple(image_shape)}) must be (height, width, ...), that of one image: "
            "images.shape[1:]"
        )
    for axis in range(2):
        if grid.extent[axis] > size[axis]:
            raise GeometryError(
                f"{what}: the last window, {grid.extent[axis] - grid.window[axis]} to {grid.extent[axis]}, ends "
                f"beyond the image {shape_text(size)}; scores must be those of a whole map of this image"
            )
    return size


def _twice_centres(grid: Grid, axis: int) -> np.ndarray:
    """Twice the centres, in pixels, of what the scores of an axis saw; whole numbers, as centres may be halves."""
    first, end = grid.spans(axis)
    return first + end


def _cells(grid: Grid, axis: int, size: int) -> np.ndarray:
    """The cell of each of `size` pixels, -1 for none; in whole numbers, so that no pixel falls between two cells."""
    pixels = np.arange(size)
    if grid.size[axis] == 1:
        first, end = grid.spans(axis)
        return np.where((first[0] <= pixels) & (pixels < end[0]), 0, -1)
    centres, stride = _twice_centres(grid, axis), grid.stride[axis]
    # Four times the edges between cells, and the centres of pixels as often.
    edges = np.concatenate([[2 * (centres[0] - stride)], centres[:-1] + centres[1:], [2 * (centres[-1] + stride)]])
    cells = np.searchsorted(edges, 2 * (2 * pixels + 1), side="right") - 1
    return np.where(cells < grid.size[axis], cells, -1)


def _neighbours(grid: Grid, axis: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel the scores whose centres lie around it, and the weight of the second, float32 in [0, 1]."""
    centres, pixels = _twice_centres(grid, axis), 2 * np.arange(size) + 1
    first = np.maximum(np.searchsorted(centres, pixels, side="right") - 1, 0)
    second = np.minimum(first + 1, len(centres) - 1)
    gap = np.maximum(centres[second] - centres[first], 1)  # 0 behind the last centre, where its score alone counts
    weight = np.where(second > first, np.clip((pixels - centres[first]) / gap, 0, 1), 0)
    return first, second, weight.astype(np.float32)


@named()
def best_boxes(score_map: ScoreMap, class_index: int | None = None, over: str = "logits") -> Best:
    """The best window of each image, for one class or over all.

    Args:
      score_map: scores [N, h, w, K] and boxes [h, w, 4] of N images. A single score z counts as the scores [0, z] of
        two classes.
      class_index: the class whose scores are compared; None: those of all classes.
      over: "logits", or "probabilities" (by the map's output activation). The two may choose different windows.

    Returns:
      A `Best`; of equal scores the first in reading order, then the lowest class. Probabilities are compared by their
      logarithms, which still differ where several probabilities round to 1.

    Raises:
      TypeError: if it is no `ScoreMap`, or its scores are not numbers.
      ValueError: if `over` is unknown, or the map does not have the class.
    """
    if over not in ("logits", "probabilities"):
        raise ValueError(f"best_boxes: over (={over!r}) must be 'logits' or 'probabilities'")
    if not isinstance(score_map, ScoreMap):
        raise TypeError(f"best_boxes takes a map (dense.score_map), which has boxes, not a {type(score_map).__name__}")
    given = np.asarray(score_array(score_map.scores, "best_boxes"), np.float64)
    by_probability = over == "probabilities"
    scores = (
        outputs.log_probabilities(given, score_map.output_activation) if by_probability else outputs.class_scores(given)
    )
    count, height, width, classes = scores.shape
    whole = isinstance(class_index, Integral) and not isinstance(class_index, bool)
    if class_index is not None and not (whole and 0 <= class_index < classes):
        raise ValueError(f"best_boxes: class_index (={class_index!r}) must be a whole number from 0 to {classes - 1}")
    known = ~np.isnan(scores).any(axis=-1, keepdims=True)
    if class_index is not None:
        scores = scores[..., class_index : class_index + 1]
    flat = scores.reshape(count, math.prod(scores.shape[1:]))
    best = first_largest(flat, np.broadcast_to(known, scores.shape).reshape(flat.shape))
    rows, columns, classes_won = np.unravel_index(np.maximum(best, 0), (height, width, scores.shape[-1]))
    values = flat[np.arange(count), best]
    found = best >= 0
    return Best(
        np.where(found[:, None], np.asarray(score_map.boxes)[rows, columns], 0),
        np.where(found, classes_won + (class_index or 0), -1),
        np.where(found, np.exp(values) if by_probability else values, np.nan).astype(np.float32),
    )


def first_largest(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The place of the largest known value of each row, the first of equal ones.

    Args:
      values: numbers [N, M], also infinite ones; M at least 1.
      known: which of them count, bool [N, M]; NaN must not.

    Returns:
      int [N]; -1 for a row without a known value.
    """
    rows = np.arange(len(values))
    best = np.where(known, values, -np.inf).argmax(axis=1)
    best = np.where(known[rows, best], best, known.argmax(axis=1))  # where all known values are -inf, the first of them
    return np.where(known[rows, best], best, -1)


@named(grid=None, image_shape=None)
def class_map(scores: np.ndarray, grid: Grid, image_shape: Sequence[int]) -> np.ndarray:
    """A class for each pixel: that of the window centred on it or, at strides above 1, of the nearest window.

    The middle pixel of a window of n pixels is its pixel (n - 1) // 2: of the two middle pixels of a window of even
    size, the upper and the left one. Of two windows that are equally near, the later one counts, as in `heat_map`.

    Args:
      scores: class scores (logits) of a whole map, [h, w, K]. A single score z counts as the scores [0, z] of two
        classes.
      grid: where the windows lie (`ScoreMap.grid`).
      image_shape: (H, W, ...), pixels.

    Returns:
      int32 [H, W], the class of the largest score (of equal ones the first); -1 where a window centred on the pixel
      would reach beyond the image, and where a score of the window is NaN.

    Raises:
      TypeError: if `grid` is not a `Grid`, or the scores are not numbers.
      ValueError: if the scores do not have the size of the grid, or the grid belongs to a larger image.
    """
    if not isinstance(grid, Grid):
        raise TypeError("class_map takes the grid of a map (ScoreMap.grid, or dense.plan_grid), not boxes")
    scores = np.asarray(score_array(scores, "class_map"))
    if scores.ndim != 3 or scores.shape[:2] != grid.size:
        raise ValueError(
            f"class_map: scores have shape {scores.shape}; a grid of {shape_text(grid.size)} windows needs "
            f"({grid.size[0]}, {grid.size[1]}, K)"
        )
    image_size = _image_size(image_shape, grid, "class_map")
    scores = outputs.class_scores(scores)
    classes = np.where(np.isnan(scores).any(axis=-1), -1, scores.argmax(axis=-1)).astype(np.int32)
    for axis in range(2):
        size, window, starts = image_size[axis], grid.window[axis], grid.starts(axis)
        start = np.arange(size) - (window - 1) // 2  # where the window centred on a pixel starts
        # Distances are measured between centres: that of a window of even size lies between its two middle pixels.
        nearest = np.searchsorted(starts[:-1] + starts[1:], 2 * np.arange(size) + 1 - window, side="right")
        classes = classes.take(nearest, axis)
        classes[(slice(None),) * axis + ((start < 0) | (start > size - window),)] = -1
    return classes
