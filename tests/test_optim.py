"""Schedules by value at their corners, optimisers against their update rules in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn import optim
from configs import default


def train_config(**fields):
    config = default.get_config().train
    config.update(fields)
    return config


def rates(total, **fields):
    schedule = optim.make_schedule(train_config(learning_rate=0.2, **fields), total)
    return np.array([float(schedule(step)) for step in range(total + 1)])


def test_constant():
    np.testing.assert_allclose(rates(7, schedule="constant"), 0.2, rtol=1e-6)


def test_step():
    expected = np.full(11, 0.2)
    expected[6:], expected[9:] = 0.1, 0.05
    found = rates(10, schedule="step", milestones=(0.5, 0.8), decay_factor=0.5)
    np.testing.assert_allclose(found[[0, 4, 6, 7, 9, 10]], expected[[0, 4, 6, 7, 9, 10]], rtol=1e-6)


def test_cosine():
    found = rates(8, schedule="cosine")
    np.testing.assert_allclose(found, 0.1 * (1 + np.cos(np.pi * np.arange(9) / 8)), atol=1e-7)


@pytest.mark.parametrize("name", optim.SCHEDULES)
def test_warmup_rises_linearly_to_the_peak(name):
    found = rates(20, schedule=name, warmup=0.2, milestones=(0.5,))
    np.testing.assert_allclose(found[:5], 0.2 * np.arange(5) / 4, atol=1e-7)
    assert found.max() == found[4]
    if name == "cosine":
        np.testing.assert_allclose(found[4:], 0.1 * (1 + np.cos(np.pi * np.arange(17) / 16)), atol=1e-7)
    if name == "step":  # a milestone is a fraction of the whole run, warm-up or not
        assert found[9] == found[4] and found[11] < found[9]


def test_bad_schedules():
    with pytest.raises(ValueError, match="train.schedule .*'linear'.*constant, step, cosine"):
        optim.make_schedule(train_config(schedule="linear"), 10)
    with pytest.raises(ValueError, match=r"train.warmup \(=2.0\)"):
        optim.make_schedule(train_config(warmup=2.0), 10)
    with pytest.raises(ValueError, match="train.optimizer .*'lion'.*sgd, adam, adamw"):
        optim.make_optimizer(train_config(optimizer="lion"), optax.constant_schedule(0.1))


PARAMS = {"fc1": {"kernel": np.array([[1.0, -2.0]], np.float32), "bias": np.array([0.5, 0.5], np.float32)}}
GRADIENTS = [
    {"fc1": {"kernel": np.array([[0.3, -0.1]], np.float32), "bias": np.array([1.0, -1.0], np.float32)}},
    {"fc1": {"kernel": np.array([[0.2, 0.4]], np.float32), "bias": np.array([0.0, 2.0], np.float32)}},
]


def run(config):
    optimizer = optim.make_optimizer(config, optax.constant_schedule(config.learning_rate))
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = optimizer.init(params)
    for gradient in GRADIENTS:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params["fc1"]


def test_sgd_is_momentum_with_l2_on_kernels():
    """v = m v + (g + wd w), w = w - lr v; biases without decay."""
    found = run(train_config(optimizer="sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.01))
    for name, decay in (("kernel", 0.01), ("bias", 0.0)):
        w, v = PARAMS["fc1"][name].astype(np.float64), 0.0
        for gradient in GRADIENTS:
            v = 0.9 * v + gradient["fc1"][name] + decay * w
            w = w - 0.1 * v
        np.testing.assert_allclose(found[name], w, rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_and_adamw(name):
    """Adam with L2 in the gradient; AdamW with the decay apart from it."""
    found = run(train_config(optimizer=name, learning_rate=0.1, weight_decay=0.1))
    for leaf, decay in (("kernel", 0.1), ("bias", 0.0)):
        w = PARAMS["fc1"][leaf].astype(np.float64)
        m = v = np.zeros_like(w)
        for t, gradient in enumerate(GRADIENTS, start=1):
            g = gradient["fc1"][leaf] + (decay * w if name == "adam" else 0)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            update = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            w = w - 0.1 * (update + (decay * w if name == "adamw" else 0))
        np.testing.assert_allclose(found[leaf], w, rtol=1e-5)


def test_clipping_scales_the_whole_gradient():
    found = run(train_config(optimizer="sgd", learning_rate=1.0, momentum=0.0, clip_norm=0.5))
    w = {name: value.astype(np.float64) for name, value in PARAMS["fc1"].items()}
    for gradient in GRADIENTS:
        norm = np.sqrt(sum((leaf.astype(np.float64) ** 2).sum() for leaf in gradient["fc1"].values()))
        w = {name: w[name] - gradient["fc1"][name] * min(1, 0.5 / norm) for name in w}
    for name in w:
        np.testing.assert_allclose(found[name], w[name], rtol=1e-5)
