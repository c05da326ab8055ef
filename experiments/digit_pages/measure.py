"""Detections on pages of digits: a threshold is chosen on some pages, and measured on others, of other digits."""

import statistics
import time
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnn import dense
from cnn.data import Split, normalising
from cnn.runs.checkpoint import Run
from experiments.digit_pages import counting, pages
from experiments.digit_pages.crops import BACKGROUND

SIZE, DIGITS, STROKES = 2000, 100, 50
CHOOSING, MEASURING = 11, 12  # seeds of the pages
LOWEST = 0.3  # threshold below which no detection is looked at
PART = (37, 61)  # rows and columns of parts that a map is searched in, to be compared with the whole
TILE = 128  # scores along each axis of a tile that a page is streamed in, to be compared with the whole


class Pages:
    """Pages, their maps by one net, and their detections."""

    def __init__(self, run: Run, stride: int, overlap: float, **marks: int) -> None:
        """Prepares a net.

        Args:
          run: the trained net, with a class for the background.
          stride: distance between windows, pixels.
          overlap: largest overlap of two detections' windows (`dense.detect`).
          **marks: `size` of a page, pixels, and its numbers of `digits` and `strokes`, where they are not the module's.
        """
        self._run, self._stride, self._overlap = run, stride, overlap
        self._marks = {"size": SIZE, "digits": DIGITS, "strokes": STROKES, **marks}
        self.seconds: dict[str, list[float]] = {"page": [], "map": [], "detections": []}
        self.same_in_parts, self.same_in_tiles, self.same_in_memory = [], [], []

    def counts(self, split: Split, seed: int, number: int, compared: bool) -> counting.Counts:
        """Makes a page, runs the net over it and counts what is found at the lowest threshold.

        Args:
          split: the digits.
          seed: seed of the pages.
          number: which page.
          compared: whether the page is streamed in tiles, and run in memory as a whole, too.

        Returns:
          The `Counts`.
        """
        begin = time.perf_counter()
        page = pages.make(split.images, split.labels, seed=seed, number=number, **self._marks)
        made = time.perf_counter()
        whole = self._stream(page.image, None)
        mapped = time.perf_counter()
        found = self.detect(whole)
        self._add(begin, made, mapped, time.perf_counter())
        self.same_in_parts.append(self.detect(whole, tile=PART) == found)
        if compared:
            self.same_in_tiles.append(self.detect(self._stream(page.image, TILE)) == found)
            self.same_in_memory.append(self.detect(self._in_memory(page.image)) == found)
        return counting.compare(found, page)

    def detect(self, score_map: dense.ScoreMap, **options: Any) -> list[dense.Detection]:
        """The digits of a page; they exclude each other, so one window is one digit."""
        background = self._run.class_names.index(BACKGROUND)
        found = dense.detect(
            score_map, threshold=LOWEST, background=background, overlap=self._overlap, per_class=False, **options
        )
        return list(found)

    def _add(self, *moments: float) -> None:
        for name, start, end in zip(self.seconds, moments, moments[1:], strict=False):
            self.seconds[name].append(end - start)

    def _grid(self, image: np.ndarray) -> dense.Grid:
        return dense.plan_grid(self._run.net, image.shape, self._run.image_shape[:2], self._stride)

    def _stream(self, image: np.ndarray, tile: int | None) -> dense.ScoreMap:
        """The map of a page, streamed into memory."""
        grid = self._grid(image)
        scores = np.empty((*grid.size, len(self._run.class_names)), np.float32)
        dense.stream(
            self._run.net,
            self._run.variables,
            image,
            scores,
            window=grid.window,
            stride=self._stride,
            mean=self._run.mean,
            std=self._run.std,
            tile=tile,
            progress=False,
        )
        return dense.ScoreMap(jnp.asarray(scores[None]), grid.boxes(image.shape), "both", "auto", grid)

    def _in_memory(self, image: np.ndarray) -> dense.ScoreMap:
        """The map of a page by `dense.score_map`, as a whole."""
        normalised = normalising.normalise(jnp.asarray(image[None]), self._run.mean, self._run.std)
        return dense.score_map(
            self._run.net,
            self._run.variables,
            normalised,
            self._run.image_shape[:2],
            self._stride,
            position_invariant=True,
        )


def measure(
    run: Run,
    chosen_on: Split,
    measured_on: Split,
    *,
    choosing: int,
    count: int,
    compared: int,
    stride: int,
    overlap: float,
) -> dict[str, Any]:
    """Chooses a threshold on some pages and measures it on others.

    Args:
      run: the trained net.
      chosen_on: digits of the pages that the threshold is chosen on.
      measured_on: digits of the pages that are measured.
      choosing: number of pages that the threshold is chosen on.
      count: number of pages that are measured.
      compared: how many of these are streamed in tiles and run in memory, too.
      stride: distance between windows, pixels.
      overlap: largest overlap of two detections' windows.

    Returns:
      Threshold, `counting.results`, the number of pages with the same detections in parts and tiles as in the whole,
      and the seconds of a page.
    """
    searched = Pages(run, stride, overlap)
    chosen = [searched.counts(chosen_on, CHOOSING, number, False) for number in range(choosing)]
    threshold = counting.best_threshold(chosen)
    print(f"threshold {threshold:.2f}, chosen on {choosing} pages", flush=True)
    searched = Pages(run, stride, overlap)
    measured = []
    for number in range(count):
        measured.append(searched.counts(measured_on, MEASURING, number, number < compared))
        if number % 20 == 19:
            print(f"page {number + 1} of {count}", flush=True)
    names = [name for name in run.class_names if name != BACKGROUND]
    found = counting.results([counting.at(page, threshold) for page in measured], names)
    return {
        "threshold": threshold,
        "chosen_on": counting.results([counting.at(page, threshold) for page in chosen], names),
        **found,
        "pages_with_the_same_detections": {
            "map searched in parts": [sum(searched.same_in_parts), len(searched.same_in_parts)],
            "streamed in tiles": [sum(searched.same_in_tiles), len(searched.same_in_tiles)],
            "dense.score_map": [sum(searched.same_in_memory), len(searched.same_in_memory)],
        },
        "seconds": {name: statistics.median(values) for name, values in searched.seconds.items()},
    }
