"""The fast algorithms together: a net trains along the same curve with them and within `ops.plain()`."""

import jax
import numpy as np
import pytest

from benchmarks import training
from benchmarks.training import Case
from cnn import ops
from cnn.runtime.devices import Devices

STEPS = 20
CASES = {
    "full_cnn": Case("full_cnn", (28, 28, 1), {"width": 512}, batch=16),  # im2col, pools apart, a large product
    "qa_net": Case("qa_net", (32, 32, 3), batch=16),  # direct, padded channels, banded products
    "lenet5": Case("lenet5", (32, 32, 1), batch=16),
    # Winograd's algorithm, and a map that is smaller than the kernel; other libraries for products. At ten times this
    # rate the loss jumps about, and a difference in the last digit is ten times as large every other step.
    "wide": Case("layer_pattern", (16, 16, 3), {"blocks": 4, "features": (128,) * 4}, batch=16, learning_rate=1e-4),
}


def losses(name):
    return training.ours(training.problem_of(CASES[name]), most_steps=STEPS)(STEPS)


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the algorithms are for CPU; elsewhere XLA's own are used")
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "lenet5")) for n in CASES])
def test_loss_curves_agree(name, monkeypatch):
    fast = losses(name)
    monkeypatch.setattr(Devices, "compiler_options", lambda *_: {})
    with ops.plain():
        plain = losses(name)
    assert len(set(fast)) == STEPS and min(fast) < 0.9 * max(fast)
    # Sums in another order: 6e-8 of a value at each, and 20 steps in which differences add up. Measured: below 1e-6.
    np.testing.assert_allclose(fast, plain, rtol=1e-5)
