"""The forward benchmark: both frameworks compute the same scores; numbers are what was counted and timed."""

import importlib.util

import numpy as np
import pytest

from benchmarks import forward_comparison as forward
from cnn import geometry, nets

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="compares with PyTorch: python -m pip install -r requirements-peers.txt",
)


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize(
    ("name", "shape", "own"),
    [("32x2", (2, 10), [forward.OURS]), ("64x1", (1, 2, 2, 10), [forward.OURS, forward.FREE])],
)
def test_contenders_agree(name, shape, own):
    found, absent = forward.contenders(forward.SMOKE_CASES[name], "float32", compiled=False)
    scores = {who: np.asarray(run()) for who, run in found.items()}
    assert list(scores) == [*own, forward.TORCH] and list(absent) == [forward.COMPILED]
    assert scores[forward.OURS].shape == shape
    # Sums of up to 4,096 products in another order, through 11 layers: float32 rounding, 1e-6 of the largest logit.
    largest = np.abs(scores[forward.OURS]).max()
    for who in scores:
        np.testing.assert_allclose(scores[who], scores[forward.OURS], rtol=0, atol=1e-5 * largest)


def test_scores_that_differ_are_refused():
    found = {"ours": lambda: np.array([[1.0, 2.0]]), "PyTorch": lambda: FakeTensor([[1.0, 2.002]])}
    assert forward.check(found, {}, tolerance=2e-3)["PyTorch"] == pytest.approx(1e-3, rel=1e-4)  # scores are float32
    with pytest.raises(ArithmeticError, match="PyTorch differs from ours by 1.0e-03"):
        forward.check(found, {}, tolerance=5e-4)


def test_a_compiler_that_fails_is_left_out():
    def fails():
        raise RuntimeError("no compiler\nand more")

    found = {"ours": lambda: np.array([[1.0]]), "PyTorch, compiled": fails}
    absent = {}
    assert forward.check(found, absent, 1e-4) == {"ours": 0.0}
    assert list(found) == ["ours"] and absent == {"PyTorch, compiled": "RuntimeError: no compiler"}


@pytest.mark.slow
def test_rows_are_what_was_timed(monkeypatch):
    """Ours takes 2, 1 and 4 seconds, PyTorch 1, 2 and 4."""
    taken = {"ours": [2.0, 1.0, 4.0], "PyTorch": [1.0, 2.0, 4.0]}

    def run():
        return np.array([[1.0]])

    monkeypatch.setattr(
        forward, "contenders", lambda *_: ({"ours": run, "PyTorch": lambda: FakeTensor([[1.0]])}, {"x": "why"})
    )
    monkeypatch.setattr(forward.timing, "alternate", lambda runs, rounds: {name: taken[name] for name in runs})
    case = forward.SMOKE_CASES["32x2"]
    measured = forward.measure(case, "float32", compiled=False, rounds=3, matrix_gflops=0.5)
    ours, torch = measured["rows"]
    macs = geometry.table(nets.create(case.net, **case.options), (32, 32, 3)).macs
    assert ours["milliseconds"] == 2000 and (ours["fastest"], ours["slowest"]) == (1000, 4000)
    assert ours["gflops"] == pytest.approx(1e-9 * 2 * 2 * macs / 2)
    assert ours["of_matrix"] == pytest.approx(ours["gflops"] / 0.5)
    assert (ours["to_torch"], ours["best_torch"]) == (1.0, "PyTorch")  # of 2, 0.5 and 1
    assert "to_torch" not in torch and measured["absent"] == {"x": "why"}


class FakeTensor:
    """As much of a torch.Tensor as `check` asks for."""

    def __init__(self, values):
        self.values = np.array(values, np.float32)

    def float(self):
        return self

    def cpu(self):
        return self.values
