"""Times of several ways to do one thing, taken in turn, so that whatever else the machine does befalls all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

QUICK_SECONDS = 0.2  # a call faster than this is repeated within a round, up to as long
MOST_REPEATS = 20


def alternate(
    runs: Mapping[str, Callable[[], Any]], rounds: int, slow_seconds: float = float("inf"), slow_rounds: int = 2
) -> dict[str, list[float | None]]:
    """Times functions in turn: A B C A B C ...

    Args:
      runs: by name, a function that returns when its work is done.
      rounds: turns for each.
      slow_seconds: a function that takes longer than this has only `slow_rounds` turns.
      slow_rounds: at least 1.

    Returns:
      Seconds of each in each round, by name; None in a round that it sat out as too slow. A function faster than
      `QUICK_SECONDS` is called several times in a turn, the median counts. The first two calls of each, of which the
      first may compile, are not among the rounds.
    """
    warm = {}
    for name, run in runs.items():
        run()
        warm[name] = _seconds(run)
    taken: dict[str, list[float | None]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name, run in runs.items():
            if warm[name] > slow_seconds and turn >= slow_rounds:
                taken[name].append(None)
                continue
            repeats = int(min(MOST_REPEATS, max(1, QUICK_SECONDS / max(warm[name], 1e-9))))
            taken[name].append(statistics.median(_seconds(run) for _ in range(repeats)))
    return taken


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def median(values: Sequence[float | None]) -> float:
    """The median of the rounds that were taken.

    Args:
      values: seconds, None where a round was sat out.

    Returns:
      Seconds.

    Raises:
      statistics.StatisticsError: if there are none.
    """
    return statistics.median(value for value in values if value is not None)


def median_ratio(slow: Sequence[float | None], fast: Sequence[float | None]) -> float:
    """The median over rounds of one time over another: each quotient from one round, taken side by side.

    Args:
      slow: seconds in each round, the numerator.
      fast: the denominator, of the same rounds.

    Returns:
      The ratio, over the rounds that both took.

    Raises:
      statistics.StatisticsError: if there are none.
      ValueError: if the two have not the same number of rounds.
    """
    pairs = zip(slow, fast, strict=True)
    return statistics.median(a / b for a, b in pairs if a is not None and b is not None)
