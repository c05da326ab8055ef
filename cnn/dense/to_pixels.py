"""From score maps to pixels: heat maps as large as the image, the best box of each image, a class for each pixel.

All functions are NumPy, pure, and work on one image's map [h, w] or [h, w, K], except `best_boxes`, which takes a whole
`ScoreMap`. A score belongs to the centre of its box. Boxes that are cut at the image's border are put back to where
they were before (their neighbours tell the distance); centres of cut boxes would be too close together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnn.dense.maps import ScoreMap
from cnn.windows import Pair, as_pair, shape_text

METHODS = ("cells", "bilinear")
WAY_OUT = 'take the windows themselves: dense.boxes(net, image_shape, grid, "crop")'


class Best(NamedTuple):
    """The best window of each image.

    Attributes:
      boxes: (y0, x0, y1, x1), pixels, y1 and x1 exclusive; int [N, 4].
      classes: the class whose score it is, int [N].
      scores: logits or probabilities, float32 [N].
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


class _Axis(NamedTuple):
    """Evenly spaced boxes along one axis: box i is centred on `twice_centre / 2 + i * stride` (pixel edges)."""

    twice_centre: int
    stride: int


def heat_map(scores: np.ndarray, boxes: np.ndarray, image_shape: Sequence[int], method: str = "cells") -> np.ndarray:
    """Scores upsampled to the size of the image, each at the centre of its box.

    Each score has a cell around its centre, as large as the distance between neighbouring boxes, so that cells tile the
    image without gaps; a pixel belongs to a cell if its centre lies in it (upper and left edges count as inside).
    Along an axis with a single score the cell is its whole box. At stride 1 each pixel has the score of the window
    centred on it; of the two middle pixels of an even window the first.

    Args:
      scores: [h, w] or [h, w, K], one or K numbers for each box.
      boxes: (y0, x0, y1, x1), pixels, y1 and x1 exclusive, int [h, w, 4], evenly spaced in rows and columns as
        `cnn.dense.boxes` gives them for a whole map; cut at the image's border or not. Two boxes cut by the same
        amount on opposite sides look whole, and are taken as whole.
      image_shape: (H, W, ...), pixels.
      method: "cells" gives a pixel its cell's score; "bilinear" interpolates between the four centres around it, and
        between the border of the cells and the outermost centres holds the outermost value.

    Returns:
      float32 [H, W] or [H, W, K]; NaN where no cell covers a pixel, the same pixels for both methods.

    Raises:
      ValueError: for an unknown method, if scores and boxes differ in shape, if the boxes are not evenly spaced in rows
        and columns, or if all are cut so that they no longer tell where they were.
    """
    if method not in METHODS:
        raise ValueError(f"heat_map: method (={method!r}) must be one of {', '.join(METHODS)}")
    scores = np.asarray(scores, np.float32)
    boxes = np.asarray(boxes)
    if scores.ndim not in (2, 3) or boxes.shape != (*scores.shape[:2], 4):
        raise ValueError(
            f"heat_map: scores {scores.shape} and boxes {boxes.shape} must be [h, w] or [h, w, K], and [h, w, 4]"
        )
    result = scores
    for axis, spans in enumerate(_rows_and_columns(boxes)):
        cells = _cells(spans, image_shape[axis])
        seen = cells >= 0
        if method == "cells" or len(spans) == 1:
            spread = result.take(np.maximum(cells, 0), axis)
        else:
            first, second, weight = _neighbours(spans, image_shape[axis])
            weight = np.expand_dims(weight, tuple(range(1, result.ndim - axis)))
            spread = result.take(first, axis) * (1 - weight) + result.take(second, axis) * weight
        # Set rather than multiplied: a NaN among the scores stays where it is.
        spread[(slice(None),) * axis + (~seen,)] = np.nan
        result = spread
    return result


def _rows_and_columns(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(start, end) of each row [h, 2] and of each column [w, 2]."""
    rows, columns = boxes[:, 0, 0::2], boxes[0, :, 1::2]
    if (boxes[..., 0::2] != rows[:, None]).any() or (boxes[..., 1::2] != columns[None]).any():
        raise ValueError("the boxes are not in rows and columns (y by row alone, x by column alone)")
    return rows.astype(np.int64), columns.astype(np.int64)


def _cells(spans: np.ndarray, size: int) -> np.ndarray:
    """Which cell each of `size` pixels lies in, -1: none. In whole numbers, so that no pixel falls between cells."""
    pixels = np.arange(size)
    if len(spans) == 1:
        return np.where((spans[0, 0] <= pixels) & (pixels < spans[0, 1]), 0, -1)
    axis = _axis(spans, size)
    cells = (2 * pixels + 1 - axis.twice_centre + axis.stride) // (2 * axis.stride)
    return np.where((cells >= 0) & (cells < len(spans)), cells, -1)


def _neighbours(spans: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel the boxes whose centres lie around it, and the weight of the second, float32 0 to 1."""
    axis = _axis(spans, size)
    place = (2 * np.arange(size) + 1 - axis.twice_centre) / (2 * axis.stride)
    place = np.clip(place, 0, len(spans) - 1)
    first = np.floor(place).astype(np.int64)
    return first, np.minimum(first + 1, len(spans) - 1), (place - first).astype(np.float32)


def _axis(spans: np.ndarray, size: int) -> _Axis:
    """Where boxes [n, 2], n at least 2, were before they were cut at 0 and `size`."""
    low, high = spans[:, 0], spans[:, 1]
    step = int(low[1] - low[0])
    if step > 0 and (np.diff(spans, axis=0) == step).all():
        return _Axis(int(low[0] + high[0]), step)
    # An edge inside the image has not been cut. Two of them tell the distance, one of each kind the centre.
    free_low, free_high = np.flatnonzero(low > 0), np.flatnonzero(high < size)
    pair = free_low[-2:] if len(free_low) > 1 else free_high[:2]
    if len(pair) < 2 or not len(free_low) or not len(free_high):
        raise ValueError(
            f"the {len(spans)} boxes along an axis of {size} pixels are cut at the image's border so that they no "
            f"longer tell where they were: {spans.tolist()[:4]}; {WAY_OUT}"
        )
    edge = low if len(free_low) > 1 else high
    step = int(edge[pair[1]] - edge[pair[0]])
    start, end = (int(e[i] - i * step) for e, i in ((low, free_low[-1]), (high, free_high[0])))
    whole = np.arange(len(spans)) * step
    if step < 1 or (np.maximum(whole + start, 0) != low).any() or (np.minimum(whole + end, size) != high).any():
        raise ValueError(f"the boxes are not evenly spaced along an axis of {size} pixels: {spans.tolist()[:4]}")
    return _Axis(start + end, step)


def best_boxes(score_map: ScoreMap, class_index: int | None = None, over: str = "logits") -> Best:
    """The best window of each image, for one class or over all.

    Args:
      score_map: scores [N, h, w, K] and boxes [h, w, 4] of N images.
      class_index: whose score counts; None: all classes', the largest wins.
      over: "logits", or "probabilities" (the softmax over a window's classes). They may choose different windows.

    Returns:
      A `Best`; of equal scores the first in reading order, then the lowest class. Probabilities are compared by their
      logarithm, which tells those apart that all round to 1.

    Raises:
      ValueError: for another `over`, or a class that the map does not have.
    """
    if over not in ("logits", "probabilities"):
        raise ValueError(f"best_boxes: over (={over!r}) must be 'logits' or 'probabilities'")
    scores = np.asarray(score_map.scores, np.float64)
    count, height, width, classes = scores.shape
    if class_index is not None and not 0 <= class_index < classes:
        raise ValueError(f"best_boxes: class_index (={class_index}) must be between 0 and {classes - 1}")
    if over == "probabilities":
        scores = _log_softmax(scores)
    if class_index is not None:
        scores = scores[..., class_index : class_index + 1]
    flat = scores.reshape(count, -1)
    best = flat.argmax(axis=1)
    rows, columns, found = np.unravel_index(best, (height, width, scores.shape[-1]))
    values = flat[np.arange(count), best]
    return Best(
        np.asarray(score_map.boxes)[rows, columns],
        found + (class_index or 0),
        (np.exp(values) if over == "probabilities" else values).astype(np.float32),
    )


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, exact also where they round to 1 (the largest term, exp(0), is left to log1p)."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    others = np.exp(shifted)
    np.put_along_axis(others, shifted.argmax(axis=-1, keepdims=True), 0, axis=-1)
    return shifted - np.log1p(others.sum(axis=-1, keepdims=True))


def class_map(
    scores: np.ndarray, boxes: np.ndarray, image_shape: Sequence[int], window: int | Sequence[int]
) -> np.ndarray:
    """A class for each pixel: that of the window centred on it, or of the nearest one at strides above 1.

    The middle pixel of a window of n pixels is its pixel (n - 1) // 2: of the two middle pixels of an even window the
    upper, and left, one. Between two windows equally near, the later one counts, as in `heat_map`.

    Args:
      scores: class scores (logits) of a whole map, [h, w, K]: window (i, j) starts at (i, j) times the stride.
      boxes: their boxes, [h, w, 4], as for `heat_map`.
      image_shape: (H, W, ...), pixels.
      window: height and width of a window, pixels, one number or two.

    Returns:
      int32 [H, W], the class of the largest score (of equal ones the first); -1 where a window centred on the pixel
      would reach beyond the image.

    Raises:
      ValueError: if shapes do not fit each other, or the boxes do not tell the stride (see `heat_map`).
    """
    window = as_pair(window, "window", "class_map")
    scores, boxes = np.asarray(scores), np.asarray(boxes)
    if scores.ndim != 3 or boxes.shape != (*scores.shape[:2], 4):
        raise ValueError(f"class_map: scores {scores.shape} and boxes {boxes.shape} must be [h, w, K] and [h, w, 4]")
    classes = scores.argmax(axis=-1).astype(np.int32)
    for axis, spans in enumerate(_rows_and_columns(boxes)):
        size = image_shape[axis]
        stride = _axis(spans, size).stride if len(spans) > 1 else 1
        if (len(spans) - 1) * stride + window[axis] > size:
            last: Pair = ((len(spans) - 1) * stride, (len(spans) - 1) * stride + window[axis])
            raise ValueError(
                f"class_map: the last window, {last[0]} to {last[1]}, ends beyond the image "
                f"{shape_text(image_shape[:2])}; scores must be those of a whole map of this image"
            )
        start = np.arange(size) - (window[axis] - 1) // 2  # of the window centred on a pixel
        # From centre to centre: an even window's centre is the edge between its two middle pixels.
        nearest = np.clip((2 * np.arange(size) + 1 - window[axis] + stride) // (2 * stride), 0, len(spans) - 1)
        classes = classes.take(nearest, axis)
        classes[(slice(None),) * axis + ((start < 0) | (start > size - window[axis]),)] = -1
    return classes
