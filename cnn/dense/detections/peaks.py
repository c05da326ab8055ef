"""Local maxima of the probability of a class, exact for every way to cut a map in parts."""

import itertools

import numpy as np

from cnn.dense.detections.regions import Points
from cnn.windows import Pair


def local_maxima(points: Points, size: Pair, reach: Pair, inside: tuple[slice, slice]) -> Points:
    """The points that are the largest of their class among their neighbours.

    Of neighbours of equal probability the first in reading order counts as the largest. A neighbour that is no point,
    because it is below the threshold, unknown or beyond the map, is smaller than every point.

    Args:
      points: points of a part of a map.
      size: rows and columns of the part.
      reach: how far neighbours lie, (rows, columns) of the map, at least 1.
      inside: rows and columns of the part whose maxima are wanted; all their neighbours within the map lie in the part.

    Returns:
      The maxima, in reading order of each class.
    """
    kept = []
    offsets = [
        (i, j)
        for i, j in itertools.product(range(-reach[0], reach[0] + 1), range(-reach[1], reach[1] + 1))
        if (i, j) != (0, 0)
    ]
    offsets.sort(key=lambda at: max(abs(at[0]), abs(at[1])))  # the nearest first: they rule out most
    keys = np.full((size[0] + 2 * reach[0], size[1] + 2 * reach[1]), -np.inf)
    order = np.argsort(points.classes, kind="stable")
    firsts = np.flatnonzero(np.diff(points.classes[order], prepend=-1))
    for own in np.split(order, firsts[1:]) if len(order) else ():
        rows, columns = points.rows[own] + reach[0], points.columns[own] + reach[1]
        keys[rows, columns] = points.keys[own]
        alive = np.flatnonzero(_within(points.rows[own], inside[0]) & _within(points.columns[own], inside[1]))
        for i, j in offsets:
            y, x = rows[alive], columns[alive]
            there, here = keys[y + i, x + j], keys[y, x]
            alive = alive[there < here] if (i, j) < (0, 0) else alive[there <= here]
        kept.append(own[alive])
        keys[rows, columns] = -np.inf
    return points.take(np.concatenate(kept) if kept else np.empty(0, np.int64))


def _within(values: np.ndarray, part: slice) -> np.ndarray:
    return (part.start <= values) & (values < part.stop)
