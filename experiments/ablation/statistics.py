"""Whether a change is significant: paired differences between seeds, corrected for the number of comparisons.

Every cell of a study is trained from the same seeds as its baseline. A cell's difference to the baseline is therefore
one number for each seed, without the seed's effect on both. This module has SciPy's t-test of those numbers, Holm's
correction over the cells of a study, which SciPy does not have, and sentences that claim no more than the numbers do.

A seed whose training diverged has no number, and the functions refuse nan: what to do with it is a decision to be
written down, not a default.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

LEVEL = 0.95  # of intervals; a p-value below 1 - LEVEL counts as significant
POWER = 0.8  # probability with which a true difference of `detectable` size gives a significant test
ROUNDING = 64 * np.finfo(np.float64).eps  # of the largest number: a spread or a difference this small is no measurement


class Summary(NamedTuple):
    """Numbers of several seeds.

    Attributes:
      n: number of seeds.
      mean: their mean; nan where n = 0.
      std: their sample standard deviation (n - 1); nan where n < 2.
      low, high: t-interval of the mean; nan where n < 2.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float


class Difference(NamedTuple):
    """Paired differences, values - baseline, of several seeds.

    Attributes:
      n: number of pairs.
      mean: mean of the differences; nan where n = 0.
      std: their sample standard deviation (n - 1); this and what follows: nan where n < 2.
      low, high: t-interval of the mean difference.
      p: p-value of the two-sided paired t-test that the mean difference is zero.
      p_holm: p, corrected for all comparisons that were made with it.
      detectable: the true difference that this test would find with a probability of `POWER`, see `detectable`.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float
    p: float
    p_holm: float
    detectable: float


Found = TypeVar("Found", Summary, Difference)


def summarise(values: ArrayLike, level: float = LEVEL) -> Summary:
    """Mean, spread, and the t-interval of the mean.

    Args:
      values: one number for each seed, [n]; n may be 0.
      level: confidence level of the interval.

    Returns:
      The `Summary`; values that are all equal have the interval mean to mean.

    Raises:
      ValueError: if a value is nan or infinite.
    """
    array = _numbers(values, "values")
    n = len(array)
    if n < 2:
        return Summary(n, float(array[0]) if n else math.nan, math.nan, math.nan, math.nan)
    if _ptp(array) <= ROUNDING * np.abs(array).max():
        mean = float(array[0])
        return Summary(n, mean, 0.0, mean, mean)
    mean = float(array.mean())
    low, high = stats.t.interval(level, n - 1, loc=mean, scale=stats.sem(array))
    return Summary(n, mean, float(array.std(ddof=1)), float(low), float(high))


def paired(values: ArrayLike, baseline: ArrayLike, level: float = LEVEL) -> Difference:
    """The paired t-test of a cell against its baseline.

    Where no chance is left, the numbers are these: all differences zero: interval 0 to 0, p = 1; all equal and not
    zero: an interval of that one number, and p = 0, which is the formula's limit and rests on a spread that was not
    seen. Differences that are as small as the rounding of the numbers (`ROUNDING`) count as zero, and as equal.

    Args:
      values: numbers of the cell, one for each seed, [n].
      baseline: numbers of the baseline, [n], the same seeds in the same order.
      level: confidence level of the interval; `detectable` is for a test at 1 - level.

    Returns:
      The `Difference`, values - baseline; p_holm is p, as this is one comparison.

    Raises:
      ValueError: if there are not as many values as baselines, or one is nan or infinite.
    """
    array, reference = _numbers(values, "values"), _numbers(baseline, "baseline")
    if len(array) != len(reference):
        raise ValueError(
            f"paired: {len(array)} values and {len(reference)} baselines; give both for the same seeds, in one order"
        )
    n = len(array)
    differences = array - reference
    if n < 2:
        return Difference(n, float(differences[0]) if n else math.nan, *[math.nan] * 6)
    rounding = ROUNDING * max(np.abs(array).max(), np.abs(reference).max())
    if np.abs(differences).max() <= rounding:
        return Difference(n, *[0.0] * 4, p=1.0, p_holm=1.0, detectable=0.0)
    if _ptp(differences) <= rounding:
        mean = float(differences.mean())
        return Difference(n, mean, 0.0, mean, mean, p=0.0, p_holm=0.0, detectable=0.0)
    test: Any = stats.ttest_rel(array, reference)
    interval = test.confidence_interval(level)
    mean = float(differences.mean()) if abs(differences.mean()) > rounding else 0.0
    std, p = float(differences.std(ddof=1)), float(test.pvalue)
    return Difference(n, mean, std, float(interval.low), float(interval.high), p, p, detectable(n, std, level))


def within(found: Found, least: float, most: float) -> Found:
    """Cuts an interval at the bounds of what is possible; few seeds have t-intervals that go beyond them.

    The cut interval holds the true value as often as the whole one, as the value is never outside of the bounds.

    Args:
      found: numbers of several seeds, or their differences.
      least, most: bounds of the mean: 0 and 1 for a fraction, -1 and 1 for the difference of two.

    Returns:
      The same numbers, with `low` and `high` within the bounds; nan stays nan.
    """
    return found._replace(low=max(found.low, least), high=min(found.high, most))


def says_nothing(found: Summary | Difference, least: float, most: float) -> bool:
    """Whether an interval covers all that is possible: n is too small to say anything of the mean."""
    return found.low <= least and found.high >= most


def holm(p_values: ArrayLike) -> np.ndarray:
    """P-values corrected for their number, so that a study finds any difference by chance at most at its level.

    Holds for comparisons that depend on each other in any way, as those against one baseline do. Not in SciPy, whose
    `false_discovery_control` bounds another error.

    Args:
      p_values: [m], each within 0 and 1; nan where no test was made, which does not count as a comparison.

    Returns:
      [m] in the order given: the k-th smallest times m + 1 - k, never below the one before it, at most 1; nan for nan.

    Raises:
      ValueError: if a p-value is not within 0 and 1.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979), section 3.
    """
    p = np.asarray(p_values, np.float64)
    tested = np.flatnonzero(~np.isnan(p))
    if np.any((p[tested] < 0) | (p[tested] > 1)):
        raise ValueError(f"holm: p-values lie within 0 and 1, got {p.tolist()}")
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def compare(pairs: Sequence[tuple[ArrayLike, ArrayLike]], level: float = LEVEL) -> list[Difference]:
    """The paired t-tests of all cells of a study, corrected for their number.

    Args:
      pairs: (values, baseline) of each cell, as `paired` takes them; all the comparisons that are looked at.
      level: confidence level of the intervals, which are not corrected.

    Returns:
      A `Difference` for each, with p_holm over all of them.

    Raises:
      ValueError: if a pair cannot be compared (`paired`).
    """
    differences = [paired(values, baseline, level) for values, baseline in pairs]
    adjusted = holm([difference.p for difference in differences])
    return [d._replace(p_holm=float(p)) for d, p in zip(differences, adjusted, strict=True)]


def detectable(n: int, std: float, level: float = LEVEL) -> float:
    """The smallest true difference that a two-sided paired t-test finds with a probability of `POWER`.

    For one test, not corrected for several: Holm's correction finds as much only with more seeds. With a spread that
    was itself estimated from n differences, it is an estimate too.

    Args:
      n: number of pairs.
      std: standard deviation of the differences.
      level: the test is at 1 - level.

    Returns:
      The difference, in the unit of `std`; nan where n < 2.

    Source: Cohen, "Statistical Power Analysis for the Behavioral Sciences" (1988), chapter 2.
    """
    return _noncentrality(n, level) * std / math.sqrt(n) if n > 1 else math.nan


@functools.lru_cache
def _noncentrality(n: int, level: float) -> float:
    """Of the t statistic that passes the two-sided test with a probability of `POWER`."""
    critical = float(stats.t.ppf((1 + level) / 2, n - 1))
    # The tail of the wrong sign adds less than 1e-6 where the power is 0.8, and is nan in places in SciPy.
    shift: Any = optimize.brentq(lambda x: stats.nct.sf(critical, n - 1, x) - POWER, 0, 2 * critical + 5)
    return float(shift)


def significant(difference: Difference, level: float = LEVEL) -> bool:
    """Whether a difference passes its test after correction.

    Args:
      difference: from `compare`, or from `paired` where it is the only one.
      level: confidence level that it was made with.

    Returns:
      Whether p_holm is below 1 - level; False where there is none.
    """
    return difference.p_holm < _alpha(level)


def conclusion(
    name: str,
    baseline: str,
    difference: Difference,
    unit: str = "points",
    higher_is_better: bool | None = True,
    level: float = LEVEL,
) -> str:
    """What can be concluded from a difference, and what cannot, in words.

    Args:
      name: name of the cell.
      baseline: its name.
      difference: cell - baseline.
      unit: unit of the values; "points": the values are fractions and are shown as percent points, with two decimals;
        any other is printed behind the values as they are, with three significant digits.
      higher_is_better: whether higher values are better; None: the sentence says higher and lower, not better and
        worse.
      level: confidence level that the difference was made with.

    Returns:
      One or two sentences.
    """
    n, mean, percent = difference.n, difference.mean, f"{100 * level:g} %"
    if n < 2:
        seen = f"; the one difference is {_quantity(mean, unit)}, and nothing is known of its spread" if n else ""
        return f"{name} against {baseline}: n = {n} allows no conclusion{seen}."
    if difference.std == 0 and mean == 0:
        return f"{name} equals {baseline}: the difference is exactly zero for each of n = {n} seeds."
    if unit == "points" and says_nothing(difference, -1, 1):
        return (
            f"{name} against {baseline}: n = {n} is too small for a conclusion; the {percent} interval of the "
            f"difference ({_quantity(mean, unit)}) covers everything from -100 to 100 points."
        )
    better = mean > 0 if higher_is_better is not False else mean < 0
    words = ("lower", "higher") if higher_is_better is None else ("worse", "better")
    ordered = f"{name} is {words[better]} than {baseline} by {_quantity(abs(mean), unit)}"
    if difference.std == 0:
        return (
            f"{ordered} for each of n = {n} seeds. The spread of the differences is zero, so p is 0 by the formula; "
            f"check that the seeds change anything at all before this is taken for certain."
        )
    corrected = f"Holm-corrected p {_p_value(difference.p_holm, level)}"
    bounds = (difference.low, difference.high) if mean > 0 else (-difference.high, -difference.low)
    interval = f"{percent} interval {_number(bounds[0], unit)} to {_number(bounds[1], unit)}"
    if significant(difference, level):
        return f"{ordered} ({interval}; {corrected}; n = {n})."
    if bounds[0] > 0:
        return (
            f"{ordered} when this comparison is taken alone ({interval}; p {_p_value(difference.p, level)}; n = {n}), "
            f"but not when it is corrected for all comparisons of the study ({corrected}): no conclusion."
        )
    low, high = _number(difference.low, unit), _number(difference.high, unit)
    return (
        f"{name}: no significant difference from {baseline} at n = {n} (difference {_quantity(mean, unit)}, "
        f"{percent} interval {low} to {high}, {corrected}): a true difference below {low} or above "
        f"{_quantity(difference.high, unit)} would be surprising; one of {_quantity(difference.detectable, unit)} or "
        f"more would have been found with {100 * POWER:g} % probability, before correction."
    )


def _numbers(values: ArrayLike, what: str) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"{what} have shape {array.shape}; give one number a seed, [n]")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(
            f"{what}: number {bad[0]} of {len(array)} (from 0) is {array[bad[0]]}: that seed's training diverged, or "
            f"has no result; leave the seed out of the cell and of its baseline, and say so, or train it in a way that "
            f"does not diverge"
        )
    return array


def _ptp(array: np.ndarray) -> float:
    return float(array.max() - array.min())


def _alpha(level: float) -> float:
    return round(1 - level, 12)  # 1 - 0.95 is above 0.05


def _p_value(p: float, level: float) -> str:
    """Two significant digits, more where they would put p on the other side of the test's level."""
    alpha = _alpha(level)
    texts = (f"{p:.{digits}g}" for digits in range(2, 18))
    return next(text for text in texts if (float(text) < alpha) == (p < alpha))


def _number(value: float, unit: str) -> str:
    """A value in its unit, without the unit's name; nothing but zero is shown as zero."""
    if value == 0:
        return "0.00" if unit == "points" else "0"
    if unit == "points":
        text = f"{100 * value:.2f}"
        return text if float(text) else f"{100 * value:.1g}"
    if 1e-4 <= abs(value) < 1e9:
        return np.format_float_positional(value, precision=3, fractional=False, unique=False, trim="-")
    return f"{value:.3g}"


def _quantity(value: float, unit: str) -> str:
    return f"{_number(value, unit)} {unit}".rstrip()
