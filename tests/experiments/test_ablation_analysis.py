"""A study's records turned into numbers: means, pairs, what is left out, and how comparisons are called."""

import numpy as np
import pytest
from scipy import stats

from experiments.ablation import analysis
from experiments.ablation.study import TEST, Contrast, Measure, Outcome, Study

DISTANCE = Outcome("distance", "", higher_is_better=False)
STUDY = Study(
    question="?",
    cells={"a": {}, "b": {}, "c": {}},
    baseline="a",
    measures=(Measure((DISTANCE,), lambda trained: {}),),
    compared=(TEST, "distance"),
    contrasts=(Contrast(("b", TEST), ("c", TEST)), Contrast(("c", TEST), ("c", "distance"))),
)
RNG = np.random.default_rng(0)
VALUES = {cell: {TEST: RNG.random(5), "distance": RNG.random(5)} for cell in STUDY.cells}


def record(cell, seed, **fields):
    values = {name: float(numbers[seed]) for name, numbers in VALUES[cell].items()}
    line = {"kind": "seed", "cell": cell, "seed": seed, "chosen": 0, "values": values, "diverged": None, "curve": []}
    costs = {"parameters": 7, "multiply_adds": 11, "step_bytes": 13, "epoch_seconds": 1.0 + seed}
    return {**line, **costs, **fields}


def records(**fields):
    lines = [record(cell, seed) for cell in ("c", "a", "b") for seed in (3, 1, 0, 4, 2)]
    return [*lines, {"kind": "tuning", "cell": "a", "seed": 9, "chosen": 1, "validation_accuracy": 0.5}]


def test_cells_stand_in_the_studys_order_with_their_summaries():
    found = analysis.cells(STUDY, records(), seeds=5)
    assert [cell.name for cell in found] == ["a", "b", "c"]
    for cell in found:
        for name in (TEST, "distance"):
            values = VALUES[cell.name][name]
            assert cell.summaries[name].mean == pytest.approx(values.mean())
            assert cell.summaries[name].std == pytest.approx(values.std(ddof=1))
            assert list(cell.values[name].items()) == list(enumerate(values))
        assert (cell.parameters, cell.multiply_adds, cell.step_bytes, cell.epoch_seconds) == (7, 11, 13, 3.0)
    assert {cell.summaries[TEST].n for cell in analysis.cells(STUDY, records(), seeds=3)} == {3}


def test_comparisons_are_paired_by_seed_and_corrected_together():
    found = analysis.comparisons(STUDY, analysis.cells(STUDY, records(), seeds=5))
    assert [comparison.contrast for comparison in found] == list(STUDY.comparisons) and len(found) == 6
    p_values = []
    for comparison in found:
        one, other = (VALUES[cell][name] for cell, name in comparison.contrast)
        np.testing.assert_allclose(comparison.seeds, one - other)
        assert comparison.difference.mean == pytest.approx((one - other).mean())
        p_values.append(stats.ttest_rel(one, other).pvalue)
        assert comparison.difference.p == pytest.approx(p_values[-1])
    assert min(c.difference.p_holm for c in found) == pytest.approx(min(1, 6 * min(p_values)))
    assert [c.outcome.name for c in found] == [TEST, TEST, "distance", "distance", TEST, TEST]


def test_only_seeds_that_both_sides_have_are_paired():
    lines = [line for line in records() if (line["cell"], line["seed"]) != ("b", 1)]
    found = analysis.comparisons(STUDY, analysis.cells(STUDY, lines, seeds=5))
    assert [comparison.difference.n for comparison in found] == [4, 5, 4, 5, 4, 5]
    np.testing.assert_allclose(found[0].seeds, (VALUES["b"][TEST] - VALUES["a"][TEST])[[0, 2, 3, 4]])


def test_what_is_not_finite_is_not_compared_and_not_averaged():
    lines = records()
    lines[0]["values"]["distance"] = None  # of c
    lines[0]["diverged"] = 17
    cells = analysis.cells(STUDY, lines, seeds=5)
    assert cells[2].diverged == [3] and not cells[0].diverged
    assert "distance" not in cells[2].summaries and TEST in cells[2].summaries
    found = [comparison.contrast for comparison in analysis.comparisons(STUDY, cells)]
    assert found == [c for c in STUDY.comparisons if ("c", "distance") not in c]


def test_a_cell_without_results_is_left_out():
    lines = [line for line in records() if line["cell"] != "a"]
    cells = analysis.cells(STUDY, lines, seeds=5)
    assert [cell.name for cell in cells] == ["b", "c"]
    assert [comparison.contrast for comparison in analysis.comparisons(STUDY, cells)] == list(STUDY.contrasts)


def test_sides_are_called_no_longer_than_needed():
    assert analysis.sides(Contrast(("b", TEST), ("a", TEST)), STUDY) == ("b (test accuracy)", "a")
    assert analysis.sides(Contrast(("c", TEST), ("c", "distance")), STUDY) == ("c: test accuracy", "distance")
    assert analysis.sides(Contrast(("b", TEST), ("c", "distance")), STUDY) == ("b: test accuracy", "c: distance")
    plain = Study(question="?", cells={"a": {}, "b": {}}, baseline="a")
    assert analysis.sides(Contrast(("b", TEST), ("a", TEST)), plain) == ("b", "a")
