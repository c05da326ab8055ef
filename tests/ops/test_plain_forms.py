"""The fast forms together: a net trains along the same curve with them and with XLA's plain forms."""

import jax
import numpy as np
import pytest
from jax import lax

from benchmarks import training
from benchmarks.training import Case
from cnn.ops import basic, convolution, pooling
from cnn.runtime.devices import Devices

STEPS = 20
CASES = {
    "full_cnn": Case("full_cnn", (28, 28, 1), {"width": 512}, batch=16),  # patches, pools apart, a large product
    "qa_net": Case("qa_net", (32, 32, 3), batch=16),  # taps, quads, rows
    "lenet5": Case("lenet5", (32, 32, 1), batch=16),
    # Winograd's form, and a map that is smaller than the kernel; other libraries for products. At ten times this rate
    # the loss jumps about, and a difference in the last digit is ten times as large every other step, whatever made it.
    "wide": Case("layer_pattern", (16, 16, 3), {"blocks": 4, "features": (128,) * 4}, batch=16, learning_rate=1e-4),
}


def plain_max_pool(images, window, size):
    """As Flax and XLA have it; the nets here pool without padding, and side by side."""
    assert window.padding == ((0, 0), (0, 0))
    return lax.reduce_window(images, -np.inf, lax.max, (1, *window.kernel, 1), (1, *window.stride, 1), "VALID")


def losses(name):
    return training.ours(training.problem_of(CASES[name]), most_steps=STEPS)(STEPS)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the forms are for CPU; elsewhere the plain ones are used")
@pytest.mark.parametrize("name", CASES)
def test_loss_curves_agree(name, monkeypatch):
    fast = losses(name)
    taken = []

    def lowering(images_shape, kernel_shape, *_):
        taken.append(kernel_shape)
        return "plain"

    monkeypatch.setattr(convolution, "lowering", lowering)
    monkeypatch.setattr(convolution, "gradient_lowerings", lambda *_: None)
    monkeypatch.setattr(pooling, "max_pool", plain_max_pool)
    monkeypatch.setattr(basic, "LARGE_KERNEL", 2**62)
    monkeypatch.setattr(Devices, "compiler_options", lambda *_: {})
    plain = losses(name)
    assert len(set(taken)) == 2, "all kernels took the plain form"
    assert len(set(fast)) == STEPS and min(fast) < 0.9 * max(fast)
    # Sums in another order: 6e-8 of a value at each, and 20 steps in which differences add up. Measured: below 1e-6.
    np.testing.assert_allclose(fast, plain, rtol=1e-5)
