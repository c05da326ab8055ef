"""Detections by the definition: the whole map at once, box by box, in plain loops; slow and obviously right."""

import numpy as np


def detect(probabilities, corners, window, thresholds, overlap, per_class, reach):
    """Local maxima over a threshold, then greedy non-maximum suppression.

    Args:
      probabilities: [h, w, K]; what is NaN holds nothing.
      corners: first pixels of the windows of each row, and of each column.
      window: (height, width), pixels.
      thresholds: the least probability of each class; None for classes that are not looked for.
      overlap: largest intersection over union.
      per_class: whether windows of different classes suppress each other not.
      reach: (rows, columns) of neighbours.

    Returns:
      Sorted list of (row, column, class).
    """
    candidates = []
    for (i, j, k), p in np.ndenumerate(probabilities):
        if thresholds[k] is None or not p >= thresholds[k]:
            continue
        neighbours = [
            (probabilities[y, x, k], (y, x))
            for y in range(max(0, i - reach[0]), min(i + reach[0] + 1, probabilities.shape[0]))
            for x in range(max(0, j - reach[1]), min(j + reach[1] + 1, probabilities.shape[1]))
            if (y, x) != (i, j)
        ]
        if not any(q > p or (q == p and at < (i, j)) for q, at in neighbours):
            candidates.append((-p, i, j, k))
    kept = []
    for _, i, j, k in sorted(candidates):
        box = corners[0][i], corners[1][j], corners[0][i] + window[0], corners[1][j] + window[1]
        if not any((not per_class or k == other) and iou(box, theirs) > overlap for theirs, other, _ in kept):
            kept.append((box, k, (i, j, k)))
    return sorted(at for _, _, at in kept)


def iou(one, other):
    """Intersection over union of two boxes (y0, x0, y1, x1)."""
    height = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    width = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return float(height * width / (areas - height * width))
