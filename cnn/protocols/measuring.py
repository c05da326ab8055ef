"""Measurements of the protocols: times of compiled calls, confidence intervals, and differences between score maps."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from cnn.nets import outputs

Key = TypeVar("Key")
CONFIDENCE = 0.95
TIMING_ROUNDS = 5


class MapDifference(NamedTuple):
    """The difference between two score maps of the same windows.

    Attributes:
      windows: number of windows compared.
      difference: largest absolute difference of two scores; equal infinite scores do not differ. NaN if any score is
        NaN.
      largest: largest absolute finite score of the crops.
      argmax_differs: number of windows whose best class differs, or that have a NaN score.
    """

    windows: int
    difference: float
    largest: float
    argmax_differs: int


class Agreement(NamedTuple):
    """The difference between a dense run and the same windows cut out one by one, over all images compared.

    Attributes:
      expected: whether the two must be equal, because the net has no padding.
      windows: number of windows compared.
      difference: largest absolute difference of two scores, as a fraction of the largest absolute score; NaN if any
        score is NaN.
      argmax_differs: number of windows whose best class differs, or that have a NaN score.
    """

    expected: bool
    windows: int
    difference: float
    argmax_differs: int


def map_difference(by_crops: np.ndarray, by_pass: np.ndarray) -> MapDifference:
    """Compares two score maps of the same windows.

    Args:
      by_crops: class scores of windows cut out one by one, float32 [..., K].
      by_pass: class scores of the same windows from a dense run, float32 [..., K].

    Returns:
      The `MapDifference`.
    """
    undefined = (np.isnan(by_crops) | np.isnan(by_pass)).any(axis=-1)
    first, second = (outputs.class_scores(scores).argmax(axis=-1) for scores in (by_crops, by_pass))
    with np.errstate(invalid="ignore"):
        differences = np.where(by_crops == by_pass, 0, np.abs(by_crops - by_pass))
    return MapDifference(
        by_crops[..., 0].size,
        float(differences.max()),
        float(np.abs(by_crops).max(where=np.isfinite(by_crops), initial=0)),
        int((undefined | (first != second)).sum()),
    )


def agreement(differences: Sequence[MapDifference], expected: bool) -> Agreement:
    """Combines the differences of several maps.

    Args:
      differences: the differences of at least one pair of maps.
      expected: whether the maps of each pair must be equal.

    Returns:
      The `Agreement` over all of them.
    """
    # NumPy's maximum is NaN if any value is; that of Python depends on their order.
    largest = np.max([float(np.finfo(np.float32).tiny), *(part.largest for part in differences)])
    return Agreement(
        expected,
        sum(part.windows for part in differences),
        float(np.max([part.difference for part in differences]) / largest),
        sum(part.argmax_differs for part in differences),
    )


def median_seconds(
    calls: Mapping[Key, Callable[[], Any]], each_round: Callable[[], None] = lambda: None
) -> dict[Key, float]:
    """Times compiled calls: each runs once to compile, then all of them in turn for `TIMING_ROUNDS` rounds.

    The calls take turns so that a slow moment of the machine affects all of them alike.

    Args:
      calls: the calls by name; each returns JAX arrays, which are waited for.
      each_round: called after each round, the first one, which compiles, included.

    Returns:
      Median time of each call by name, seconds.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    each_round()
    seconds: dict[Key, list[float]] = {name: [] for name in calls}
    for _ in range(TIMING_ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
        each_round()
    return {name: statistics.median(values) for name, values in seconds.items()}


def wilson(hits: int, examples: int) -> tuple[float, float]:
    """The 95 % interval of a fraction counted from independent examples.

    Args:
      hits: number of examples that are counted, for example those classified correctly.
      examples: number of examples, at least 1.

    Returns:
      Lower and upper end of the interval, fractions.

    Source: Wilson (1927), the score interval, without continuity correction.
    """
    from scipy.stats import binomtest  # half a second to import

    interval = binomtest(hits, examples).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)
