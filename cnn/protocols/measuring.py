"""Numbers that a protocol reports: times of compiled calls, intervals of fractions, and how far two maps are apart."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

Key = TypeVar("Key")
CONFIDENCE = 0.95
TIMING_ROUNDS = 5


class MapDifference(NamedTuple):
    """How far two score maps of the same windows are apart.

    Attributes:
      windows: number of windows compared.
      difference: largest |dense - crop| of a score; NaN if a score is.
      largest: largest |score| of the crops.
      argmax_differs: number of windows whose best class differs, or that have a NaN score.
    """

    windows: int
    difference: float
    largest: float
    argmax_differs: int


class Agreement(NamedTuple):
    """How far a dense run is from the same windows cut out one by one, over all images compared.

    Attributes:
      expected: whether the two must be equal, because the net has no padding.
      windows: number of windows compared.
      difference: largest |dense - crop| of a score, as a fraction of the largest |score|; NaN if a score is.
      argmax_differs: number of windows whose best class differs, or that have a NaN score.
    """

    expected: bool
    windows: int
    difference: float
    argmax_differs: int


def map_difference(by_crops: np.ndarray, by_pass: np.ndarray) -> MapDifference:
    """Compares two score maps of the same windows.

    Args:
      by_crops: class scores of windows cut out one by one, [..., K].
      by_pass: class scores of the same windows from a dense run, [..., K].

    Returns:
      The `MapDifference`.
    """
    undefined = (np.isnan(by_crops) | np.isnan(by_pass)).any(axis=-1)
    return MapDifference(
        by_crops[..., 0].size,
        float(np.abs(by_crops - by_pass).max()),
        float(np.abs(by_crops).max()),
        int((undefined | (by_crops.argmax(axis=-1) != by_pass.argmax(axis=-1))).sum()),
    )


def agreement(differences: Sequence[MapDifference], expected: bool) -> Agreement:
    """Adds up the differences of several maps.

    Args:
      differences: at least one.
      expected: whether the maps must be equal.

    Returns:
      The `Agreement` over all of them.
    """
    # NumPy's maximum keeps a NaN wherever it stands; Python's does not.
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
      calls: the calls by name; each returns arrays, which are waited for.
      each_round: called when every call has run once more, the compiling round included.

    Returns:
      Median seconds of each call, by name.
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
      hits: examples counted, such as those classified correctly.
      examples: number of examples, at least 1.

    Returns:
      (low, high).

    Source: Wilson (1927), the score interval, without continuity correction.
    """
    from scipy.stats import binomtest  # half a second to import

    interval = binomtest(hits, examples).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)
