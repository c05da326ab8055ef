"""The statistics of ablation studies: against SciPy called by itself, tables of quantiles, and simulated studies."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from experiments.ablation import statistics
from experiments.ablation.statistics import Difference, Summary

CELL = [0.9031, 0.9102, 0.8987, 0.9110, 0.9065, 0.9044]
BASELINE = [0.9120, 0.9155, 0.9101, 0.9148, 0.9152, 0.9139]
STUDIES, CELLS = 2000, 5


def test_summary_of_a_table_of_numbers():
    found = statistics.summarise([2, 4, 4, 4, 5, 5, 7, 9])
    # Mean 5, sum of squares 32; t of 7 degrees of freedom at 0.975 is 2.3646 in any table.
    assert found[:3] == (8, 5.0, pytest.approx(math.sqrt(32 / 7)))
    half = 2.364624 * math.sqrt(32 / 7 / 8)
    assert found[3:] == pytest.approx((5 - half, 5 + half), abs=1e-6)
    wide = statistics.summarise([2, 4, 4, 4, 5, 5, 7, 9], level=0.99)
    assert wide.high - 5 == pytest.approx(3.499483 * math.sqrt(32 / 7 / 8), abs=1e-6)


def test_paired_difference_by_hand():
    # Differences 1, 2, 3, 4, 5: mean 3, std sqrt(2.5), t = 3 / sqrt(0.5) = 4.2426 with 4 degrees of freedom.
    found = statistics.paired([11, 22, 33, 44, 55], [10, 20, 30, 40, 50])
    assert found[:3] == (5, 3.0, pytest.approx(math.sqrt(2.5)))
    half = 2.776445 * math.sqrt(0.5)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), abs=1e-6)
    # P(|T| > t) for 4 degrees of freedom in closed form: 1 - x (3 - x^2) / 2 with x = t / sqrt(t^2 + 4).
    x = math.sqrt(18 / 22)
    assert found.p == found.p_holm == pytest.approx(1 - x * (3 - x * x) / 2, rel=1e-9)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_paired_difference_is_scipys_test_of_the_differences(level):
    found = statistics.paired(CELL, BASELINE, level)
    differences = np.subtract(CELL, BASELINE)
    test = stats.ttest_1samp(differences, 0)
    low, high = stats.t.interval(level, 5, differences.mean(), differences.std(ddof=1) / math.sqrt(6))
    wanted = (6, differences.mean(), differences.std(ddof=1), low, high, test.pvalue, test.pvalue)
    assert found[:7] == pytest.approx(wanted, rel=1e-9)
    turned = statistics.paired(BASELINE, CELL, level)
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_holm_by_published_numbers():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # As R's p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm").
    assert statistics.holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert statistics.holm([0.7, 0.9, 0.0]) == pytest.approx([1, 1, 0])
    assert statistics.holm([]).shape == (0,)
    with pytest.raises(ValueError, match="within 0 and 1"):
        statistics.holm([0.5, 1.5])


def test_holm_leaves_out_what_was_not_tested():
    found = statistics.holm([0.02, math.nan, 0.03])
    assert found[[0, 2]] == pytest.approx([0.04, 0.04]) and np.isnan(found[1])
    assert np.isnan(statistics.holm([math.nan])).all()


def test_holm_is_the_closed_bonferroni_test():
    # By definition of a closed test, a hypothesis is rejected if every set of hypotheses it is in is rejected: here, by
    # Bonferroni. Its adjusted p is the largest over the sets of (size of the set) * (smallest p in it), at most 1.
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 5):
        for _ in range(10):
            p = rng.choice([0.001, 0.01, 0.02, 0.3, *rng.uniform(size=4) ** 3], size)  # with ties
            sets = [set_ for k in range(1, size + 1) for set_ in itertools.combinations(range(size), k)]
            wanted = [max(min(1, len(s) * min(p[list(s)])) for s in sets if i in s) for i in range(size)]
            assert statistics.holm(p) == pytest.approx(wanted)


def test_compare_corrects_over_all_cells():
    rng = np.random.default_rng(1)
    baseline = rng.normal(0.9, 0.01, 6)
    cells = [baseline + shift + rng.normal(0, 0.002, 6) for shift in (0, -0.004, 0.01)]
    found = statistics.compare([*((cell, baseline) for cell in cells), ([0.9], [0.91])])
    alone = [statistics.paired(cell, baseline) for cell in cells]
    assert [d._replace(p_holm=d.p) for d in found[:3]] == alone
    assert [d.p_holm for d in found[:3]] == pytest.approx(statistics.holm([d.p for d in alone]))
    assert [d.p_holm for d in found[:3]] != pytest.approx([d.p for d in alone])
    assert found[3].n == 1 and math.isnan(found[3].p_holm)  # no test was made, and none is corrected for


def test_one_seed_and_none():
    nan = pytest.approx(math.nan, nan_ok=True)
    assert statistics.summarise([]) == (0, nan, nan, nan, nan)
    assert statistics.summarise([0.5]) == (1, 0.5, nan, nan, nan)
    assert statistics.paired([], []) == (0, *[nan] * 7)
    assert statistics.paired([0.75], [0.5]) == (1, 0.25, *[nan] * 6)
    assert statistics.compare([]) == []
    assert not statistics.significant(statistics.paired([0.75], [0.5]))


@pytest.mark.parametrize("n", [2, 6])
def test_seeds_without_spread(n):
    assert statistics.summarise([0.1 + 0.2] * n) == Summary(n, 0.1 + 0.2, 0, 0.1 + 0.2, 0.1 + 0.2)
    assert statistics.paired(CELL[:n], CELL[:n]) == Difference(n, 0, 0, 0, 0, p=1, p_holm=1, detectable=0)
    assert statistics.paired([0] * n, [0] * n).p == 1
    better = statistics.paired([x + 0.125 for x in BASELINE[:n]], BASELINE[:n])
    assert better[:5] == pytest.approx((n, 0.125, 0, 0.125, 0.125), abs=1e-15)
    assert better.std == better.p == better.p_holm == better.detectable == 0


def test_intervals_of_fractions_end_at_their_bounds():
    """Two seeds of 54 % and 80 %: the t-interval is -98 % to 232 %, of which 0 to 100 % is possible."""
    whole = statistics.summarise([0.54, 0.80])
    assert whole.low < -0.9 and whole.high > 2.3
    cut = statistics.within(whole, 0, 1)
    assert cut == whole._replace(low=0, high=1)
    assert statistics.says_nothing(cut, 0, 1)
    some = statistics.within(statistics.summarise([0.97, 0.99, 0.995]), 0, 1)
    assert 0.9 < some.low < 0.98 and some.high == 1
    assert not statistics.says_nothing(some, 0, 1)
    one = statistics.within(statistics.summarise([0.5]), 0, 1)
    assert math.isnan(one.low) and math.isnan(one.high) and not statistics.says_nothing(one, 0, 1)


def test_too_few_seeds_allow_no_conclusion():
    difference = statistics.within(statistics.paired([0.9, 0.5], [0.5, 0.7]), -1, 1)
    assert (difference.low, difference.high) == (-1, 1)
    said = statistics.conclusion("a", "b", difference)
    assert said.startswith("a against b: n = 2 is too small for a conclusion; the 95 % interval")


def test_rounding_is_no_spread_and_no_difference():
    # 0.1 + 0.2 is not 0.3, and 0.9 - 0.8 is not 0.8 - 0.7: neither says anything of the seeds.
    assert statistics.paired([0.1 + 0.2, 0.7], [0.3, 0.7]).p == 1
    assert statistics.paired([0.9, 0.8, 0.4], [0.8, 0.7, 0.3]).std == 0
    assert statistics.summarise([0.1 + 0.2, 0.3]).std == 0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_smallest_spread_that_counts_is_tested_without_a_warning(scale, shift):
    ulps = np.array([0, 65, 130, 0, 65])  # one above what counts as rounding
    baseline = np.full(5, scale)
    found = statistics.paired(baseline * (1 + shift) + ulps * np.spacing(2 * scale), baseline)
    assert found.std > 0 and 0 < found.p < 1 and found.low < found.mean < found.high


def test_diverged_seeds_are_refused():
    with pytest.raises(ValueError, match=r"values: number 1 of 3 \(from 0\) is nan.*diverged.*leave the seed out"):
        statistics.paired([0.9, math.nan, 0.8], [0.9, 0.9, 0.9])
    with pytest.raises(ValueError, match=r"baseline: number 0 of 1 \(from 0\) is inf"):
        statistics.compare([([0.9], [math.inf])])
    with pytest.raises(ValueError, match="is -inf"):
        statistics.summarise([-math.inf, 1])
    with pytest.raises(ValueError, match="3 values and 2 baselines"):
        statistics.paired([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        statistics.summarise([[1, 2]])


@pytest.mark.parametrize("n", [2, 3, 5, 6, 30])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_detectable_difference_has_its_power(n, level):
    # The power as an integral over the spread that n differences happen to show, without the noncentral t.
    shift = statistics.detectable(n, 1.0, level) * math.sqrt(n)
    critical = stats.t.ppf((1 + level) / 2, n - 1)

    def density(spread):
        found = stats.norm.sf(critical * spread - shift) + stats.norm.cdf(-critical * spread - shift)
        return found * stats.chi.pdf(spread, n - 1, scale=1 / math.sqrt(n - 1))

    assert integrate.quad(density, 0, 10, limit=200)[0] == pytest.approx(0.8, abs=1e-4)
    assert statistics.detectable(n, 0.01, level) == pytest.approx(0.01 * shift / math.sqrt(n))
    assert math.isnan(statistics.detectable(1, 1.0, level))


def test_detectable_difference_by_published_numbers():
    # The textbook case: a medium effect, half the spread of the differences, takes 34 pairs for a power of 0.8.
    assert statistics.detectable(34, 1.0) == pytest.approx(0.5, abs=0.01)
    assert statistics.paired(CELL, BASELINE).detectable == statistics.detectable(
        6, float(np.subtract(CELL, BASELINE).std(ddof=1))
    )


def study(rng, n, effect=0.0):
    """Values of simulated studies [STUDIES, CELLS + 1, n], the baseline last; the seed's own effect is in all cells."""
    seeds = rng.normal(0, 0.01, (STUDIES, 1, n))
    values = 0.9 + seeds + rng.normal(0, 0.002, (STUDIES, CELLS + 1, n))
    values[:, :CELLS] += effect
    return values


def bounds(rate):
    """Counts out of STUDIES that a rate gives in all but 0.2 % of the simulations, half of that at each end."""
    return stats.binom.ppf([0.001, 0.999], STUDIES, rate)


@pytest.mark.parametrize("n", [5, 6])
def test_a_study_without_any_effect_finds_one_in_5_percent_at_most(n):
    values = study(np.random.default_rng(n), n)
    # The tests of all studies at once; a few of them must be what `compare` says.
    p = stats.ttest_rel(values[:, :CELLS], values[:, CELLS:], axis=-1).pvalue
    adjusted = np.stack([statistics.holm(row) for row in p])
    for i in range(20):
        found = statistics.compare([(cell, values[i, CELLS]) for cell in values[i, :CELLS]])
        assert [d.p for d in found] == pytest.approx(p[i]) and [d.p_holm for d in found] == pytest.approx(adjusted[i])
    corrected, plain = (adjusted.min(axis=1) < 0.05).sum(), (p.min(axis=1) < 0.05).sum()
    assert corrected <= bounds(0.05)[1]  # a true rate of 5 % goes beyond this once in a thousand
    assert corrected > 0.01 * STUDIES  # and the correction does not reach it by never finding anything
    assert plain > 2 * bounds(0.05)[1]


@pytest.mark.parametrize("n", [5, 6])
def test_a_detectable_effect_is_found_in_80_percent(n):
    spread = 0.002 * math.sqrt(2)  # of a difference: the noise of the cell and that of the baseline
    values = study(np.random.default_rng(10 + n), n, effect=-statistics.detectable(n, spread))
    low, high = bounds(0.8)
    for cell in range(CELLS):
        found = (stats.ttest_rel(values[:, cell], values[:, CELLS], axis=-1).pvalue < 0.05).sum()
        assert low <= found <= high
    # Without pairs the seeds' own effect, five times the noise, would hide it.
    assert (stats.ttest_ind(values[:, 0], values[:, CELLS], axis=-1).pvalue < 0.05).sum() < low / 2


SURE = Difference(6, -0.0081, 0.0028, -0.0110, -0.0052, p=0.0004, p_holm=0.002, detectable=0.0040)
UNSURE = Difference(6, -0.0010, 0.003, -0.0042, 0.0022, p=0.61, p_holm=0.61, detectable=0.0035)


def test_conclusion_of_a_difference_that_is_there():
    text = "average is worse than max by 0.81 points (95 % interval 0.52 to 1.10; Holm-corrected p 0.002; n = 6)."
    assert statistics.conclusion("average", "max", SURE) == text
    assert " is better than max " in statistics.conclusion("a", "max", SURE, higher_is_better=False)
    assert " is lower than max " in statistics.conclusion("a", "max", SURE, higher_is_better=None)
    up = Difference(6, 0.5, 0.1, 0.25, 0.75, p=0.001, p_holm=0.001, detectable=0.3)
    text = "a is worse than b by 0.5 nats (95 % interval 0.25 to 0.75; Holm-corrected p 0.001; n = 6)."
    assert statistics.conclusion("a", "b", up, "nats", higher_is_better=False) == text
    assert " is higher than b by 50.00 points" in statistics.conclusion("a", "b", up, higher_is_better=None)
    assert statistics.conclusion("a", "b", up, "").startswith("a is better than b by 0.5 (95 %")


def test_conclusion_of_a_difference_that_is_not():
    text = (
        "n_max: no significant difference from max at n = 6 (difference -0.10 points, 95 % interval -0.42 to 0.22, "
        "Holm-corrected p 0.61): a true difference below -0.42 or above 0.22 points would be surprising; one of "
        "0.35 points or more "
        "would have been found with 80 % probability, before correction."
    )
    assert statistics.conclusion("n_max", "max", UNSURE) == text


def test_conclusion_of_a_difference_that_does_not_outlive_the_correction():
    text = (
        "a is worse than b by 0.81 points when this comparison is taken alone (95 % interval 0.52 to 1.10; p 0.0004; "
        "n = 6), but not when it is corrected for all comparisons of the study (Holm-corrected p 0.07): no conclusion."
    )
    assert statistics.conclusion("a", "b", SURE._replace(p_holm=0.07)) == text


def test_conclusion_without_spread_or_seeds():
    text = "a equals b: the difference is exactly zero for each of n = 6 seeds."
    assert statistics.conclusion("a", "b", statistics.paired(CELL, CELL)) == text
    text = statistics.conclusion("a", "b", statistics.paired([0.75, 0.5], [0.5, 0.25]))
    assert text.startswith("a is better than b by 25.00 points for each of n = 2 seeds. The spread")
    assert "is zero, so p is 0 by the formula; check that the seeds" in text
    text = statistics.conclusion("a", "b", statistics.paired([0.75], [0.5]))
    assert text.startswith("a against b: n = 1 allows no conclusion; the one difference is 25.00 points")
    assert statistics.conclusion("a", "b", statistics.paired([], [])) == "a against b: n = 0 allows no conclusion."


@pytest.mark.parametrize("p, text", [(0.0499, "0.0499"), (0.04999, "0.04999"), (0.05, "0.05"), (2e-5, "2e-05")])
def test_a_p_value_is_not_rounded_over_the_level(p, text):
    sentence = statistics.conclusion("a", "b", SURE._replace(p_holm=p))
    assert f"Holm-corrected p {text}" in sentence
    assert ("no conclusion" in sentence) == (p >= 0.05) == (not statistics.significant(SURE._replace(p_holm=p)))


def test_nothing_but_zero_is_shown_as_zero():
    small = SURE._replace(low=-0.0110, high=-0.00002)
    assert "interval 0.002 to 1.10" in statistics.conclusion("a", "b", small)
    zero = statistics.conclusion("a", "b", UNSURE._replace(mean=0.0, high=-0.0, low=-12345.6), "s")
    assert "difference 0 s, 95 % interval -12300 to 0, " in zero


def test_cancelled_differences_are_shown_as_zero():
    assert "(difference 0.00 points, " in statistics.conclusion("a", "b", statistics.paired(CELL, CELL[::-1]))
