"""What a finer stride buys on pages of digits: a measure of the ablation studies."""

import functools
from collections.abc import Sequence

import numpy as np

from cnn import data, dense
from cnn.runs.checkpoint import Run
from experiments.ablation.measures import Trained
from experiments.ablation.study import Measure, Outcome
from experiments.digit_pages import counting, measure

OVERLAP = 0.1  # largest overlap of two detections: digits do not overlap


def f1(stride: int) -> str:
    """Name of the outcome: the harmonic mean of precision and recall."""
    return f"F1, stride {stride}"


def distance(stride: int) -> str:
    """Name of the outcome: the mean distance from a right detection's centre to its digit's, pixels."""
    return f"distance, stride {stride}"


def cost(stride: int) -> str:
    """Name of the outcome: multiply-adds of a page's map, in thousand millions."""
    return f"G multiply-adds, stride {stride}"


def found(*strides: int, pages: int, choosing: int, size: int, digits: int, strokes: int) -> Measure:
    """Digits found on pages at several strides: how many, how well placed, and at what cost.

    For each stride a threshold is chosen on other pages, of digits held out from training, by the best F1.

    Args:
      *strides: distances between windows, pixels.
      pages: number of pages that are measured, of digits of MNIST's test split.
      choosing: number of pages that the threshold is chosen on.
      size: height and width of a page, pixels.
      digits: number of digits on a page.
      strokes: number of strokes on it that are none.

    Returns:
      A measure with three outcomes for each stride: `f1`, `distance` and `cost`.
    """
    outcomes: list[Outcome] = []
    for stride in strides:
        outcomes += [Outcome(f1(stride)), Outcome(distance(stride), "px", higher_is_better=False)]
        outcomes += [Outcome(cost(stride), "", higher_is_better=None)]
    marks = {"size": size, "digits": digits, "strokes": strokes}
    return Measure(
        tuple(outcomes), functools.partial(_found, strides=strides, pages=pages, choosing=choosing, marks=marks)
    )


def _found(
    trained: Trained, strides: Sequence[int], pages: int, choosing: int, marks: dict[str, int]
) -> dict[str, float]:
    dataset, config = trained.dataset, trained.config
    mnist = _digits(config.data.dir, config.data.validation_fraction)
    constants = dataset.mean, dataset.std, dataset.class_names, dataset.image_shape
    run = Run(trained.net, dict(trained.variables), config, *constants, "", 0)
    outcomes = {}
    for stride in strides:
        searched = measure.Pages(run, stride, OVERLAP, **marks)
        chosen = [searched.counts(mnist.validation, measure.CHOOSING, i, False) for i in range(choosing)]
        threshold = counting.best_threshold(chosen)
        counts = [
            counting.at(searched.counts(mnist.test, measure.MEASURING, i, False), threshold) for i in range(pages)
        ]
        kinds, away = (np.concatenate([getattr(page, name) for page in counts]) for name in ("kinds", "distances"))
        right = kinds == counting.RIGHT
        outcomes[f1(stride)] = 2 * int(right.sum()) / (len(kinds) + pages * marks["digits"])
        outcomes[distance(stride)] = float(away[right].mean()) if right.any() else float("nan")
        shape, window = (marks["size"], marks["size"], dataset.image_shape[2]), dataset.image_shape[:2]
        plan = dense.plan(trained.net, shape, stride, window=window)
        outcomes[cost(stride)] = plan[plan.chosen].macs / 1e9
    return outcomes


@functools.lru_cache(maxsize=1)
def _digits(folder: str, validation_fraction: float) -> data.Dataset:
    return data.load("mnist", dir=folder, validation_fraction=validation_fraction)
