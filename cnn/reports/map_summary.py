"""What a score map in a file says as a whole: averages, best windows, and small maps of probabilities to look at.

The map is read block by block, once or twice, so that one of any size is summed up in bounded memory.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn.reports import small_maps
from cnn.reports.small_maps import NOTHING, Cells

BLOCK_VALUES = 2**22  # scores of a block, of all classes
KEPT_AT_ONCE = 32  # a net of no more classes has its small maps made in the same pass as its averages
CANDIDATES = 24  # places that are kept of each class, from which its best windows are chosen
LAYERS = 12  # classes that have a small map of their own

Slices = tuple[slice, slice]


class Window(NamedTuple):
    """A window that stands out.

    Attributes:
      class_index: the class.
      probability: its probability in this window.
      box: (y0, x0, y1, x1), pixels, both ends exclusive.
    """

    class_index: int
    probability: float
    box: tuple[int, int, int, int]


class Summary(NamedTuple):
    """What a map says as a whole.

    Attributes:
      windows: number of windows.
      known: number of windows that have a score; the others are NaN, or were skipped.
      averages: "probabilities", "logits" and "max" (the largest logit) over all known windows -> float64 [K], as far as
        the map holds what they are computed from.
      shares: fraction of the known windows whose most probable class this is, float64 [K].
      peaks: the largest probability of each class, float32 [K]; -inf of a class without any.
      best: the best windows, class by class, none overlapping another of its class.
      layers: class -> its small map, uint8 [h, w]: 0 where no window is centred, otherwise 1 to 255 for the largest
        probability, from 0 to 1, of the windows that are centred on the pixel.
      winner: the most probable class that is not the background on each pixel of the small maps, int [h, w]; -1: none.
      certainty: its probability as in `layers`, uint8 [h, w].
    """

    windows: int
    known: int
    averages: Mapping[str, np.ndarray]
    shares: np.ndarray
    peaks: np.ndarray
    best: Sequence[Window]
    layers: Mapping[int, np.ndarray]
    winner: np.ndarray
    certainty: np.ndarray


def summarise(
    opened: Any, size: tuple[int, int], activation: str, classes: int, background: int | None = None
) -> Summary:
    """Sums up a map.

    Args:
      opened: the map, a `cnn.dense.OpenedMap`.
      size: (height, width) of the small maps, pixels; no larger than the image.
      activation: what the scores mean, "softmax" or "sigmoid" (`cnn.nets.outputs`).
      classes: number of classes, of which a single score tells two apart.
      background: class that is no object, and has no best windows; None: there is none.

    Returns:
      A `Summary`.
    """
    written = getattr(opened, "written", "scores")
    activation = activation if opened.shape[2] != 1 else "softmax"  # a single score tells two classes apart
    totals = _Totals(opened, size, classes, background)
    keep = range(classes) if classes <= KEPT_AT_ONCE and written != "class" else ()
    layers = small_maps.Layers(totals.cells, keep)
    for place in blocks(opened.shape):
        values = opened.read(*place)
        if written == "class":
            totals.add_winners(place, *_winners(values, classes))
            continue
        planes = np.ascontiguousarray(np.moveaxis(np.asarray(values, np.float32), -1, 0))
        if written == "scores":
            planes = small_maps.class_planes(planes)
            found = small_maps.probabilities(planes, activation)
            totals.add_scores(planes)
        else:
            found = planes
        reduced = totals.add(place, found)
        layers.add(place, reduced)
    shown = totals.order()[:LAYERS]
    if not keep:
        layers = small_maps.Layers(totals.cells, shown)
        for place in blocks(opened.shape):
            planes = probability_planes(opened, place, activation, shown)
            layers.add(place, totals.cells.reduce(place, planes))
    best = totals.best(lambda place, k: probability_planes(opened, place, activation, [k])[0], shown)
    return Summary(
        math.prod(opened.shape[:2]),
        totals.known,
        totals.averages(),
        totals.counts / max(1, totals.known),
        totals.peaks,
        best,
        {k: layers.image(k) for k in shown},
        totals.winner,
        small_maps.as_bytes(totals.certainty),
    )


def blocks(shape: Sequence[int]) -> Iterator[Slices]:
    """The blocks in which a map is read: whole rows where these are short.

    Args:
      shape: (h, w, K) of the map.

    Yields:
      (rows, columns).
    """
    height, width, depth = shape
    rows = min(height, 512, max(1, BLOCK_VALUES // max(1, width * depth)))
    rows = max(rows, min(height, 64))
    columns = min(width, max(1, BLOCK_VALUES // max(1, rows * depth)))
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield slice(top, min(top + rows, height)), slice(left, min(left + columns, width))


def probability_planes(opened: Any, place: Slices, activation: str, classes: Sequence[int]) -> np.ndarray:
    """Probabilities of some classes in a part of a map.

    Args:
      opened: the map.
      place: its rows and columns.
      activation: what scores mean.
      classes: the classes.

    Returns:
      float32 [len(classes), h, w]; -inf where a class has no value.
    """
    values = opened.read(*place)
    written = getattr(opened, "written", "scores")
    if written == "class":
        winner, probability = _winners(values, np.iinfo(values.dtype).max)
        return np.stack([np.where(winner == k, probability, NOTHING) for k in classes])
    planes = np.ascontiguousarray(np.moveaxis(np.asarray(values, np.float32), -1, 0))
    if written == "scores":
        planes = small_maps.probabilities(small_maps.class_planes(planes), activation)
    planes = planes[list(classes)]
    return np.where(np.isnan(planes), NOTHING, planes)


def _winners(values: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The winning class (-1: none) and its probability (-inf: none) of a map that holds these alone."""
    top = np.iinfo(values.dtype).max
    winner = values[..., 0].astype(np.int64)
    known = winner < min(classes, top)
    probability = np.where(known, values[..., 1] / np.float32(top), NOTHING)
    return np.where(known, winner, -1), probability.astype(np.float32)


class _Totals:
    """Sums over the blocks of a map."""

    def __init__(self, opened: Any, size: tuple[int, int], classes: int, background: int | None) -> None:
        self._opened, self._background = opened, background
        self.cells = Cells(opened, size)
        self.known, self.counts = 0, np.zeros(classes)
        self.peaks = np.full(classes, NOTHING, np.float32)
        self._sums = {"probabilities": np.zeros(classes)}
        self.winner, self.certainty = np.full(size, -1), np.full(size, NOTHING, np.float32)
        # Places of `CANDIDATES` cells a class that hold its largest probabilities: (value, row, column).
        self._values = np.full((classes, CANDIDATES), NOTHING, np.float32)
        self._places = np.zeros((classes, CANDIDATES, 2), np.int64)
        window, stride = opened.window, opened.stride
        self._cell = tuple(max(1, -(-w // s)) for w, s in zip(window, stride, strict=True))

    def add_scores(self, planes: np.ndarray) -> None:
        """Adds logits [K, h, w] to their averages."""
        if np.isnan(planes.sum()):
            known = ~np.isnan(planes).any(axis=0)
            planes = np.where(known, planes, 0)
        else:
            known = np.True_
        sums = self._sums.setdefault("logits", np.zeros(len(planes)))
        sums += planes.reshape(len(planes), -1).sum(axis=1, dtype=np.float64)
        top = self._sums.setdefault("max", np.full(len(planes), -np.inf))
        np.maximum(top, planes.max(axis=(1, 2), where=known, initial=-np.inf), out=top)

    def add(self, place: Slices, planes: np.ndarray) -> np.ndarray:
        """Adds probabilities [K, h, w]; returns them for each pixel of the small maps, without NaN."""
        known = ~np.isnan(planes.sum(axis=0))
        count = int(known.sum())
        self.known += count
        if count < known.size:
            self._sums["probabilities"] += np.where(known, planes, 0).sum(axis=(1, 2), dtype=np.float64)
            planes = np.where(known, planes, NOTHING)
        else:
            self._sums["probabilities"] += planes.reshape(len(planes), -1).sum(axis=1, dtype=np.float64)
        self.counts += np.bincount(planes.argmax(axis=0)[known], minlength=len(planes))
        self._keep_largest(place, planes)
        reduced = self.cells.reduce(place, planes)
        of_objects = reduced
        if self._background is not None:
            of_objects = reduced.copy()
            of_objects[self._background] = NOTHING
        self._crown(place, of_objects.argmax(axis=0), of_objects.max(axis=0))
        return reduced

    def add_winners(self, place: Slices, winner: np.ndarray, probability: np.ndarray) -> None:
        """Adds a block of a map that holds the winning class alone."""
        known = winner >= 0
        self.known += int(known.sum())
        self.counts += np.bincount(winner[known], minlength=len(self.counts))
        for k in np.unique(winner[known]):
            plane = np.where(winner == k, probability, NOTHING)
            self._keep_largest(place, plane[None], k)
            if k != self._background:
                top = self.cells.reduce(place, plane[None])[0]
                self._crown(place, np.full(top.shape, k), top)

    def _crown(self, place: Slices, winner: np.ndarray, certainty: np.ndarray) -> None:
        """Takes a block's winners where they are more certain than those of blocks before it."""
        part = self.cells.part(place)
        larger = certainty > self.certainty[part]
        self.winner[part] = np.where(larger, winner, self.winner[part])
        self.certainty[part] = np.where(larger, certainty, self.certainty[part])

    def _keep_largest(self, place: Slices, planes: np.ndarray, first: int = 0) -> None:
        """Keeps the cells, as large as a window, that hold the largest probabilities of each class."""
        starts = [np.arange(0, part.stop - part.start, n) for part, n in zip(place, self._cell, strict=True)]
        tops = small_maps.in_cells(planes, self._cell)
        flat = tops.reshape(len(planes), -1)
        taken = np.argpartition(-flat, min(CANDIDATES, flat.shape[1]) - 1, axis=1)[:, :CANDIDATES]
        rows, columns = np.divmod(taken, tops.shape[2])
        places = np.stack([place[0].start + starts[0][rows], place[1].start + starts[1][columns]], axis=-1)
        own = slice(first, first + len(planes))
        values = np.concatenate([self._values[own], np.take_along_axis(flat, taken, 1)], axis=1)
        places = np.concatenate([self._places[own], places], axis=1)
        order = np.argsort(-values, axis=1, kind="stable")[:, :CANDIDATES]
        self._values[own] = np.take_along_axis(values, order, 1)
        self._places[own] = np.take_along_axis(places, order[..., None], 1)
        self.peaks = self._values[:, 0]

    def averages(self) -> dict[str, np.ndarray]:
        """Averages over the known windows; NaN where there is none."""
        count = self.known or math.nan
        found = {} if self._opened_is_of_classes() else {"probabilities": self._sums["probabilities"] / count}
        if "logits" in self._sums:
            found |= {"logits": self._sums["logits"] / count, "max": self._sums["max"]}
        return found

    def _opened_is_of_classes(self) -> bool:
        return getattr(self._opened, "written", "scores") == "class"

    def order(self) -> list[int]:
        """Classes that have a value anywhere, the background last, the others from the largest probability on."""
        order = np.lexsort((-self.counts, -self.peaks))
        found = [int(k) for k in order if self.peaks[k] > NOTHING]
        return [k for k in found if k != self._background] + [k for k in found if k == self._background]

    def best(self, planes: Any, classes: Sequence[int]) -> list[Window]:
        """The best windows of some classes, the same number of each as far as there are any."""
        of_objects = [k for k in classes if k != self._background]
        most = max(1, min(8, 24 // max(1, len(of_objects))))
        return [window for k in sorted(of_objects) for window in self._best_of(planes, k, most)]

    def _best_of(self, planes: Any, k: int, most: int) -> list[Window]:
        found: list[Window] = []
        for value, (row, column) in zip(self._values[k], self._places[k].tolist(), strict=True):
            if len(found) == most or value == NOTHING:
                break
            ends = [min(at + n, m) for at, n, m in zip((row, column), self._cell, self._opened.shape, strict=False)]
            plane = planes((slice(row, ends[0]), slice(column, ends[1])), k)
            down, across = np.unravel_index(int(plane.argmax()), plane.shape)
            box = self._opened.box(row + int(down), column + int(across))
            if not any(_overlap(box, other.box) for other in found):
                found.append(Window(k, float(plane[down, across]), box))
        return found


def _overlap(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two boxes share a pixel."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
