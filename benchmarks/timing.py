"""Times of several ways to do one thing, taken in turn, so that other work on the machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

QUICK_SECONDS = 0.2  # a faster call is repeated within a round for about this time
MOST_REPEATS = 20


def alternate(
    runs: Mapping[str, Callable[[], Any]], rounds: int, slow_seconds: float = float("inf"), slow_rounds: int = 2
) -> dict[str, list[float | None]]:
    """Times functions in turn: A B C A B C ...

    Args:
      runs: functions by name, each of which returns when its work is done.
      rounds: number of turns of each function.
      slow_seconds: a function that takes longer than this has only `slow_rounds` turns, seconds.
      slow_rounds: number of turns of a slow function, at least 1.

    Returns:
      Seconds of each function in each round, by name; None for rounds in which a slow function has no turn. A function
      faster than `QUICK_SECONDS` is called several times in a turn, and the median is taken. Two calls of each function
      precede the rounds, because the first may compile.
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
    """The median over the rounds in which a function had a turn.

    Args:
      values: seconds in each round; None for a round without a turn.

    Returns:
      Median time, seconds.

    Raises:
      statistics.StatisticsError: if there is no such round.
    """
    return statistics.median(value for value in values if value is not None)


def median_ratio(slow: Sequence[float | None], fast: Sequence[float | None]) -> float:
    """The median over rounds of the quotient of two times, each quotient from times of the same round.

    Args:
      slow: seconds in each round, the numerators; None for a round without a turn.
      fast: seconds in the same rounds, the denominators.

    Returns:
      The median ratio, over the rounds in which both have a time.

    Raises:
      statistics.StatisticsError: if there is no such round.
      ValueError: if the numbers of rounds differ.
    """
    pairs = zip(slow, fast, strict=True)
    return statistics.median(a / b for a, b in pairs if a is not None and b is not None)
