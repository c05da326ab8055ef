"""The windows of a part of a score map at which a class reaches its threshold."""

from typing import Any, NamedTuple

import numpy as np

from cnn.nets import outputs

MARGIN = 1e-3  # of the first, quick look in float32, relative; its rounding is a hundred times smaller


class Points(NamedTuple):
    """Windows at which a class reaches its threshold; one entry for each window and class.

    Attributes:
      rows: row of the map, int64 [n].
      columns: column of the map, int64 [n].
      classes: index of the class, int64 [n].
      keys: what probabilities are compared by, float64 [n]: their logarithms where the map holds scores, which still
        differ where probabilities round to 1, and the probabilities themselves elsewhere.
      probabilities: float32 [n].
    """

    rows: np.ndarray
    columns: np.ndarray
    classes: np.ndarray
    keys: np.ndarray
    probabilities: np.ndarray

    def take(self, which: Any) -> "Points":
        """Some of the points.

        Args:
          which: indices or a mask, [n].

        Returns:
          The points.
        """
        return Points(*(values[which] for values in self))

    def joined(self, others: "Points") -> "Points":
        """These points, then others."""
        return Points(*(np.concatenate(pair) for pair in zip(self, others, strict=True)))


NONE = Points(*(np.empty(0, dtype) for dtype in (np.int64, np.int64, np.int64, np.float64, np.float32)))


def points(block: np.ndarray, written: str, activation: str, thresholds: np.ndarray) -> Points:
    """The windows of a part of a map at which a class is at or over its threshold.

    Args:
      block: the part, as the map holds it: scores [h, w, K], probabilities [h, w, K] (of a single one, that of the
        second of two classes), or [h, w, 2]: the winning class and its probability as a fraction of the dtype's largest
        value, or, if floating, as it is.
      written: what it holds: "scores", "probabilities" or "class".
      activation: the net's output activation, "softmax" or "sigmoid".
      thresholds: the least probability of each class, float32, above 0; NaN for classes that are not looked for.

    Returns:
      The points, in reading order; rows and columns are those of the part.
    """
    if written == "class":
        return _of_winners(block, thresholds)
    if written == "probabilities":
        p = block.astype(np.float32)
        p = np.concatenate([1 - p, p], axis=-1) if p.shape[-1] == 1 else p
        rows, columns, classes = np.nonzero(p >= thresholds)
        chosen = p[rows, columns, classes]
        return Points(rows, columns, classes, chosen.astype(np.float64), chosen)
    block = block.astype(np.float32)
    rows, columns = np.nonzero(_may_reach(block, activation, thresholds))
    logs = outputs.log_probabilities(block[rows, columns], activation)  # [n, K], exact
    p = np.exp(logs).astype(np.float32)
    entries, classes = np.nonzero(p >= thresholds)
    return Points(rows[entries], columns[entries], classes, logs[entries, classes], p[entries, classes])


def _of_winners(block: np.ndarray, thresholds: np.ndarray) -> Points:
    """The points of a map of winning classes; those that are not known, the dtype's largest value or NaN, are none."""
    winner, part = block[..., 0], block[..., 1]
    if np.issubdtype(block.dtype, np.integer):
        top = np.iinfo(block.dtype).max
        known, p = winner != top, part.astype(np.float32) / np.float32(top)
    else:
        known, p = ~np.isnan(winner), part.astype(np.float32)
    winner = np.where(known, winner, 0).astype(np.int64)
    known &= winner < len(thresholds)
    rows, columns = np.nonzero(known & (p >= thresholds[np.where(known, winner, 0)]))
    chosen = p[rows, columns]
    return Points(rows, columns, winner[rows, columns], chosen.astype(np.float64), chosen)


def _may_reach(scores: np.ndarray, activation: str, thresholds: np.ndarray) -> np.ndarray:
    """The windows that are worth an exact look, bool [h, w]: most windows of most maps hold nothing."""
    least = thresholds * np.float32(1 - MARGIN)
    with np.errstate(over="ignore", invalid="ignore"):  # of infinite scores, which get the exact look
        if activation == "sigmoid" and scores.shape[-1] != 1:
            return np.any(1 / (1 + np.exp(-scores)) >= least, axis=-1)
        scores = outputs.class_scores(scores)
        top = scores.max(axis=-1, keepdims=True)
        parts = np.exp(scores - top)
        reached = np.any(parts >= least * parts.sum(axis=-1, keepdims=True), axis=-1)
        return np.asarray(reached | np.isinf(top[..., 0]))
