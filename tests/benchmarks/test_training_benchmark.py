"""The training benchmark: both frameworks train the same net on the same batches; rates are what was counted."""

import importlib.util

import numpy as np
import pytest

from benchmarks import training, training_comparison
from benchmarks.training import Case
from cnn import nets

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="compares with PyTorch: python -m pip install -r requirements-peers.txt",
)
SMALL = {
    "qa_net": Case("qa_net", (32, 32, 3), batch=16),
    "lenet5": Case("lenet5", (32, 32, 1), batch=16),
    "full_cnn": Case("full_cnn", (12, 10, 3), batch=16),
}


def test_operations_of_a_step_by_hand():
    # qa_net on 32x32x3: 28*28*3 windows of 75, 10*10*6 of 75, 150*100 and 100*10; the images have no gradient.
    first, rest = 28 * 28 * 3 * 75, 10 * 10 * 6 * 75 + 150 * 100 + 100 * 10
    assert training.flops_per_example(nets.create("qa_net"), (32, 32, 3)) == 2 * (2 * first + 3 * rest)


def test_batches_go_round():
    problem = training.problem_of(SMALL["qa_net"])
    length = len(problem.order)
    np.testing.assert_array_equal(problem.batches(length - 1, 3), problem.order[[length - 1, 0, 1]])
    # Every step has 16 different examples.
    assert all(len(set(row)) == 16 for row in problem.order)


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize("name", SMALL)
def test_pytorch_trains_the_same_net(name):
    problem = training.problem_of(SMALL[name])
    ours, theirs = training.ours(problem, 10), training.pytorch(problem)
    expected, got = np.concatenate([ours(2), ours(3)]), np.concatenate([theirs(3), theirs(2)])
    assert len(set(expected)) == 5
    # Five steps of momentum: a difference of 6e-8 in a sum of 3,000 grows by less than ten in each.
    np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.slow
@needs_torch
def test_rows_are_what_was_timed(monkeypatch):
    """Turns of 0.5 s for ours and 1 s for PyTorch, by a clock of our own: twice PyTorch's rate."""
    problem = training.problem_of(SMALL["qa_net"])
    # Warm-up says nothing of steps in a turn here: each turn is 2 steps.
    taken = {"ours": [0.5, 0.4, 0.8], "PyTorch": [1.0, 1.0, 1.2]}
    monkeypatch.setattr(training_comparison.timing, "alternate", lambda runs, rounds: {k: taken[k] for k in runs})
    monkeypatch.setattr(training_comparison.time, "perf_counter", iter([0.0, 1.5, 0.0, 1.5]).__next__)
    monkeypatch.setattr(training_comparison, "input_seconds", lambda problem: 0.01)
    rows, absent = training_comparison.measure(problem, 3, 1.0, compiled=False, matrix_gflops=2.0)
    flops = training.flops_per_example(problem.net, (32, 32, 3))
    assert [row["name"] for row in rows] == ["ours", "PyTorch"] and list(absent) == ["PyTorch, compiled"]
    assert rows[0]["images_per_second"] == pytest.approx(16 * 2 / 0.5)
    assert (rows[0]["slowest"], rows[0]["fastest"]) == (pytest.approx(16 * 2 / 0.8), pytest.approx(16 * 2 / 0.4))
    assert rows[0]["gflops"] == pytest.approx(1e-9 * flops * 64)
    assert rows[0]["of_matrix"] == pytest.approx(1e-9 * flops * 64 / 2)
    assert rows[0]["input_share"] == pytest.approx(0.01 / 0.25)
    assert rows[0]["to_torch"] == pytest.approx(2.0)  # of 2, 2.5 and 1.5
    assert rows[1]["images_per_second"] == pytest.approx(32)


@pytest.mark.slow
def test_input_is_timed():
    """All of a step's examples are drawn and gathered: for a hundred times the pixels it takes longer."""
    small = training.problem_of(SMALL["lenet5"])
    large = small._replace(images=np.zeros((64, 320, 320, 1), np.uint8), labels=small.labels[:64])
    assert 0 < training.input_seconds(small, 3) < training.input_seconds(large, 3)
