"""Detections: one window for each object that a score map shows."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple, Protocol

import numpy as np

from cnn.dense.arguments import SEVERAL_OR_NONE, YES_OR_NO, named
from cnn.dense.detections.peaks import local_maxima
from cnn.dense.detections.regions import NONE, points
from cnn.dense.detections.suppression import Suppression
from cnn.dense.maps import ScoreMap
from cnn.nets.outputs import class_count
from cnn.windows import Pair, as_pair

MOST_VALUES = 2**22  # values of a map that are read at a time: 16 MiB, and some copies of them
LEAST, MOST_ROWS = 16, 256  # of a part of a map: its border is small beside it, and chunks are read few times


class Detection(NamedTuple):
    """One window that holds an object.

    Attributes:
      class_index: index of its class.
      class_name: name of its class; the index in digits where classes have no names.
      probability: the net's probability of the class, as float32 has it.
      row: row of the map.
      column: column of the map.
      y0, x0, y1, x1: the window, pixels of the image; ends exclusive. Its centre is ((y0 + y1) / 2, (x0 + x1) / 2), the
        corner of the first pixel being (0, 0).
    """

    class_index: int
    class_name: str
    probability: float
    row: int
    column: int
    y0: int
    x0: int
    y1: int
    x1: int


class Map(Protocol):
    """What is asked of a map: `cnn.dense.OpenedMap`, or `of_score_map`."""

    shape: tuple[int, int, int]
    window: Pair
    class_names: Any

    def read(self, rows: slice = ..., columns: slice = ...) -> np.ndarray:
        """A part of the map, as it holds it."""
        ...

    def corners(self, axis: int) -> np.ndarray:
        """First pixels of the windows of each row or column."""
        ...


class _InMemory:
    """The map of one image in memory."""

    written = "scores"
    class_names = None

    def __init__(self, score_map: ScoreMap) -> None:
        if len(score_map.scores) != 1:
            raise ValueError(f"detect: a map of {len(score_map.scores)} images; give one, with scores [1, h, w, K]")
        self._scores, self._grid = np.asarray(score_map.scores[0]), score_map.grid
        self.shape: tuple[int, int, int] = (*self._scores.shape[:2], self._scores.shape[2])
        self.window, self.output_activation = score_map.grid.window, score_map.output_activation

    def read(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        return self._scores[rows, columns]

    def corners(self, axis: int) -> np.ndarray:
        return self._grid.starts(axis)


def as_map(what: Any, function: str) -> Map:
    """A map in a file, or that of one image in memory, as one kind of object.

    Args:
      what: a `cnn.dense.OpenedMap`, or the `cnn.dense.ScoreMap` of one image.
      function: name of the function that was called, for the error message.

    Returns:
      The map.

    Raises:
      TypeError: if it is neither.
    """
    if isinstance(what, ScoreMap):
        return _InMemory(what)
    if all(hasattr(what, name) for name in ("shape", "window", "read", "corners")):
        return what
    raise TypeError(
        f"{function}: opened_map is a {type(what).__name__}; give what dense.open_map(path) or dense.score_map(...) "
        "returned"
    )


def class_names_of(what: Any) -> tuple[str, ...] | None:
    """The name of each class of a map; the index in digits where classes have no names.

    Args:
      what: a map.

    Returns:
      The names; None for a map of winning classes without names, whose number of classes is not known.
    """
    names = getattr(what, "class_names", None)
    winners = getattr(what, "written", "scores") == "class"
    count = None if winners else class_count(what.shape[2])
    if names is not None and count in (None, len(names)):
        return tuple(str(name) for name in names)
    return None if count is None else tuple(str(k) for k in range(count))


@named(per_class=YES_OR_NO, classes=SEVERAL_OR_NONE)
def detect(
    opened_map: Any,
    *,
    threshold: float | Sequence[float] | Mapping[Any, float],
    background: str | int | None = None,
    classes: Sequence[str | int] | None = None,
    overlap: float = 0.3,
    per_class: bool = True,
    reach: int | Sequence[int] = 1,
    tile: int | Sequence[int] | None = None,
) -> Iterator[Detection]:
    """One window for each object that a map shows: local maxima over a threshold that overlap no better ones.

    A candidate is a window at which the probability of a class is at or over the threshold and the largest among its
    neighbours (of equal ones the first in reading order counts as the largest; NaN is never one). Then, in order of
    probability (of equal ones by row, column and class), a candidate is kept unless its window overlaps that of one
    kept before it by more than `overlap`.

    The map is read part by part, and the result is that of the whole map, whatever the parts. Memory holds one part,
    and the candidates that are not decided yet: those near its end, and chains of overlapping ones that reach it.

    Args:
      opened_map: the map: `dense.open_map(path)`, with scores, probabilities or winning classes, or the
        `dense.score_map` of one image. Probabilities follow from scores by the net's output activation. In a map of
        winning classes a class that does not win at a window is not there; from a threshold of 0.5 on, a softmax has
        no other detections either, up to the rounding of the map's probabilities.
      threshold: the least probability, above 0 and at most 1: one number, one for each class, or by the class's name or
        index, where a class without one is not looked for.
      background: name or index of the class that is no object; None: there is none.
      classes: names or indices of the classes that are looked for; None: all but the background.
      overlap: the largest intersection over union, in [0, 1], of the windows of two detections; 0: no two windows
        overlap, 1: nothing is dropped.
      per_class: whether windows are compared with those of the same class alone, so that two classes may be found at
        one place; False: with those of all classes.
      reach: how far a candidate's neighbours lie, in rows and columns of the map, one number or (rows, columns); larger
        ones leave fewer candidates on the shoulders of others.
      tile: rows and columns of the parts that are read, one number or (rows, columns); None: by memory. The result does
        not depend on it.

    Returns:
      The detections in order of rows, columns and classes; an iterator, which computes while it is read.

    Raises:
      TypeError: if the map is none.
      ValueError: if a threshold, class, overlap, reach or tile is not such a value; names it.
    """
    what = as_map(opened_map, "detect")
    limits = _thresholds(what, threshold, background, classes)
    if not _is_number(overlap) or not 0 <= overlap <= 1:
        raise ValueError(f"detect: overlap (={overlap!r}) must be a number from 0 to 1, an intersection over union")
    reaches = as_pair(reach, "reach", "detect")
    part = _part(what, reaches) if tile is None else as_pair(tile, "tile", "detect")
    return _detect(what, limits, Suppression(what.window, float(overlap), per_class, _corners(what)), reaches, part)


def _detect(what: Map, limits: np.ndarray, suppression: Suppression, reach: Pair, part: Pair) -> Iterator[Detection]:
    """Goes through the map band by band."""
    (height, width, _), (down, across) = what.shape, part
    written, activation = getattr(what, "written", "scores"), getattr(what, "output_activation", None) or "softmax"
    names, (rows, columns) = class_names_of(what), _corners(what)
    for top in range(0, height, down):
        bottom, candidates = min(top + down, height), NONE
        for left in range(0, width, across):
            right = min(left + across, width)
            y, x = max(0, top - reach[0]), max(0, left - reach[1])
            block = what.read(slice(y, min(bottom + reach[0], height)), slice(x, min(right + reach[1], width)))
            inside = slice(top - y, bottom - y), slice(left - x, right - x)
            found = local_maxima(points(block, written, activation, limits), block.shape[:2], reach, inside)
            candidates = candidates.joined(found._replace(rows=found.rows + y, columns=found.columns + x))
        kept = suppression.add(candidates, bottom)
        y0, x0 = rows[kept.rows], columns[kept.columns]
        boxes = (y0, x0, y0 + what.window[0], x0 + what.window[1])
        named_as = [names[k] if names else str(k) for k in kept.classes.tolist()]
        parts = (kept.probabilities, kept.rows, kept.columns, *boxes)
        yield from map(Detection, kept.classes.tolist(), named_as, *(values.tolist() for values in parts))


def _corners(what: Map) -> tuple[np.ndarray, np.ndarray]:
    return what.corners(0), what.corners(1)


def _part(what: Map, reach: Pair) -> Pair:
    """Rows and columns of a part: nearly square where there are many classes, else wider."""
    classes = what.shape[2]
    rows = max(LEAST, reach[0], min(MOST_ROWS, math.isqrt(MOST_VALUES // classes)))
    return rows, max(LEAST, reach[1], MOST_VALUES // (rows * classes))


def _thresholds(what: Any, threshold: Any, background: Any, classes: Any) -> np.ndarray:
    """The least probability of each class, float32 [K]; NaN for those that are not looked for."""
    names = class_names_of(what)
    if names is None:
        names = tuple(str(k) for k in range(_most_classes(what, threshold)))
    if isinstance(threshold, Mapping):
        limits = np.full(len(names), np.nan, np.float32)
        for name, value in threshold.items():
            limits[_index(name, names, "threshold")] = _probability(value, f"threshold of {name!r}")
    elif _is_number(threshold):
        limits = np.full(len(names), _probability(threshold, "threshold"), np.float32)
    else:
        if isinstance(threshold, str | bytes) or not isinstance(threshold, Sequence | np.ndarray):
            raise ValueError(f"detect: threshold (={threshold!r}) must be a number, or one for each class")
        values = list(threshold)
        if len(values) != len(names):
            raise ValueError(
                f"detect: threshold (={threshold!r}) has {len(values)} values for {len(names)} classes; give one "
                "number, or one for each class"
            )
        limits = np.asarray([_probability(v, f"threshold of {n!r}") for v, n in zip(values, names, strict=True)])
        limits = limits.astype(np.float32)
    if classes is not None:
        wanted = [_index(name, names, "classes") for name in classes]
        limits[~np.isin(np.arange(len(names)), wanted)] = np.nan
    if background is not None:
        limits[_index(background, names, "background")] = np.nan
    if np.isnan(limits).all():
        raise ValueError("detect: no class is looked for; name other classes, or another background")
    return limits


def _most_classes(what: Any, threshold: Any) -> int:
    """How many classes a map of winning classes without names can have: as many as its dtype tells apart."""
    if isinstance(threshold, Sequence | np.ndarray) and not isinstance(threshold, str):
        return len(threshold)
    dtype = what.read(slice(0, 1), slice(0, 1)).dtype
    return int(min(np.iinfo(dtype).max, 2**16)) if np.issubdtype(dtype, np.integer) else 2**16


def _index(name: Any, names: Sequence[str], what: str) -> int:
    """The index of a class that is given by name or index."""
    if isinstance(name, int | np.integer) and not isinstance(name, bool) and 0 <= name < len(names):
        return int(name)
    if isinstance(name, str) and name in names:
        if names.count(name) > 1:
            raise ValueError(f"detect: {what}: several classes are named {name!r}; give the index")
        return names.index(name)
    shown = ", ".join(itertools.islice(names, 12)) + (", ..." if len(names) > 12 else "")
    raise ValueError(f"detect: {what}: {name!r} is no class of the map; it has {len(names)}: {shown}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.number) and not isinstance(value, bool | np.bool_)


def _probability(value: Any, what: str) -> float:
    if not _is_number(value) or not (0 < value <= 1 and math.isfinite(value)):
        raise ValueError(f"detect: {what} (={value!r}) must be a probability, above 0 and at most 1")
    return float(value)
