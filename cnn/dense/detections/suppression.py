"""Greedy non-maximum suppression of windows of one size, band by band, with the result of the whole map.

In order of probability, each candidate is kept unless its window overlaps that of one kept before it by more than a
limit. All windows have one size, so whether two overlap so much depends on the distance between them alone. A candidate
is decided as soon as every candidate that could suppress it is decided; until then it waits. What waits is what lies
near the end of the rows that were seen, and what hangs on it by a chain of overlaps of growing probability.

Source: Neubeck, Van Gool, "Efficient Non-Maximum Suppression" (2006), for the greedy rule.
"""

import numpy as np

from cnn.dense.detections.regions import NONE, Points
from cnn.windows import Pair


def limits(window: Pair, overlap: float) -> np.ndarray:
    """How far apart two windows are that overlap by more than a limit.

    Args:
      window: (height, width) of the windows, pixels.
      overlap: the limit, intersection over union of two windows, in [0, 1].

    Returns:
      int64 [n]: for each vertical distance below n pixels, the largest horizontal distance at which they do; windows
      that are n pixels apart vertically never do.
    """
    height, width = window
    shared = (height - np.arange(height))[:, None] * (width - np.arange(width))
    too_much = shared / (2 * height * width - shared) > overlap
    return (too_much.sum(axis=1) - 1)[too_much.any(axis=1)]


class Suppression:
    """Candidates on their way to being kept or dropped."""

    def __init__(self, window: Pair, overlap: float, per_class: bool, corners: tuple[np.ndarray, np.ndarray]) -> None:
        """Begins with no candidates.

        Args:
          window: (height, width) of the windows, pixels.
          overlap: the largest intersection over union of two windows that are kept, in [0, 1].
          per_class: whether windows are compared with those of the same class alone.
          corners: first pixels of the windows of each row, and of each column, of the map, int64.
        """
        self._limits, self._per_class, self._corners = limits(window, overlap), per_class, corners
        self._waiting, self._kept = NONE, NONE

    def add(self, candidates: Points, seen: int) -> Points:
        """Takes the candidates of the next rows.

        Args:
          candidates: those of the rows from the last call's `seen` on, to `seen`.
          seen: number of rows of the map whose candidates are all known.

        Returns:
          What is known to be kept and was not returned before, in order of rows, columns and classes: all that lies
          above every candidate that still waits.
        """
        pool = self._waiting.joined(candidates)
        kept, waiting = self._decide(pool, seen)
        self._waiting = pool.take(waiting)
        found = self._kept.joined(pool.take(kept))
        found = found.take(np.lexsort((found.classes, found.columns, found.rows)))
        first = self._waiting.rows.min(initial=seen)
        self._kept = found.take(found.rows >= first)
        return found.take(found.rows < first)

    def _decide(self, pool: Points, seen: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the candidates that are kept, and of those that wait; all others are dropped.

        No candidate that was decided earlier is needed: when one was kept, everything that it suppresses was known.
        """
        order = np.lexsort((pool.classes, pool.columns, pool.rows, -pool.keys))
        rows, columns = self._corners
        y, x = rows[pool.rows[order]], columns[pool.columns[order]]
        # What is within the limits of a window lies in the cells around its own.
        cell = max(1, len(self._limits)), max(1, int(self._limits.max(initial=0)) + 1)
        across, down = columns[-1] // cell[1] + 3, rows[-1] // cell[0] + 3
        group = pool.classes[order] if self._per_class else 0
        cells = ((group * down + y // cell[0] + 1) * across + x // cell[1] + 1).tolist()
        around = [i * int(across) + j for i in (0, -1, 1) for j in (0, -1, 1)]
        # A row that was not seen yet is nearest to a window where it begins.
        below = rows[seen] - y if seen < len(rows) else np.full(len(y), len(self._limits))
        complete = (below >= len(self._limits)).tolist()
        limit = self._limits.tolist()
        kept_in: dict[int, list[tuple[int, int]]] = {}
        waiting_in: dict[int, list[tuple[int, int]]] = {}
        kept, waiting = [], []
        for place, (at, top, left, whole) in enumerate(zip(cells, y.tolist(), x.tolist(), complete, strict=True)):
            if _is_near(kept_in, at, around, top, left, limit):
                continue
            waits = not whole or _is_near(waiting_in, at, around, top, left, limit)
            (waiting if waits else kept).append(place)
            (waiting_in if waits else kept_in).setdefault(at, []).append((top, left))
        return order[np.asarray(kept, np.int64)], order[np.asarray(waiting, np.int64)]


def _is_near(
    cells: dict[int, list[tuple[int, int]]], at: int, around: list[int], top: int, left: int, limit: list[int]
) -> bool:
    """Whether a window overlaps one in the cells around its own by more than the limit."""
    for offset in around:
        for y, x in cells.get(at + offset, ()):
            down = y - top if y > top else top - y
            if down < len(limit) and (x - left if x > left else left - x) <= limit[down]:
                return True
    return False
