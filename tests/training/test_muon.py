"""Muon against its update rule in NumPy, and which parameters it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn import geometry, nets
from cnn.layers import Branches, Conv, Dense, Flatten, LocallyConnected
from cnn.training import optimizer as optimizer_lib
from configs import default


def train_config(**fields):
    config = default.get_config().train
    config.update(fields)
    return config


def test_muon_makes_singular_values_equal_and_leaves_the_rest_to_adamw():
    """Five Newton-Schulz steps in float64 on the momentum, from all inputs of a convolution to its outputs.

    The momentum of two steps, bias-corrected, Nesterov's: m = b m + (1 - b) g, u = b m' / (1 - b^(t+1)) + (1 - b) g /
    (1 - b^t) with m' of this step, whose length the Newton-Schulz steps do not see.
    """
    rng = np.random.default_rng(0)
    shapes = {"conv1": (3, 3, 4, 8), "fc1": (6, 40), "fc2": (40, 5)}
    params = {
        name: {"kernel": rng.normal(size=shape), "bias": rng.normal(size=shape[-1])} for name, shape in shapes.items()
    }
    gradients = [jax.tree.map(lambda x: rng.normal(size=x.shape), params) for _ in range(2)]

    def trained(name):
        config = train_config(optimizer=name, learning_rate=0.1, momentum=0.6, weight_decay=0.3)
        optimizer = optimizer_lib.make_optimizer(config, optax.constant_schedule(0.1), head="fc2")
        now = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
        state = optimizer.init(now)
        for gradient in gradients:
            gradient = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), gradient)
            updates, state = optimizer.update(gradient, state, now)
            now = optax.apply_updates(now, updates)
        return now

    found, adamw = trained("muon"), trained("adamw")
    for name in ("conv1", "fc1"):
        w = params[name]["kernel"].reshape(-1, params[name]["kernel"].shape[-1])
        momentum = np.zeros_like(w)
        for t, gradient in enumerate(gradients, 1):
            g = gradient[name]["kernel"].reshape(w.shape)
            momentum = 0.6 * momentum + 0.4 * g
            x = 0.6 * momentum / (1 - 0.6 ** (t + 1)) + 0.4 * g / (1 - 0.6**t)
            x /= np.linalg.norm(x)
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
            w = w - 0.1 * (0.2 * np.sqrt(max(w.shape)) * x + 0.3 * w)
            singular = np.linalg.svd(x, compute_uv=False)
            assert 0.6 < singular.min() <= singular.max() < 1.25
        np.testing.assert_allclose(found[name]["kernel"].reshape(w.shape), w, atol=2e-5)  # float32 beside float64
    for name, part in [("fc2", "kernel"), *((name, "bias") for name in shapes)]:
        np.testing.assert_array_equal(found[name][part], adamw[name][part])
    assert not np.allclose(found["fc1"]["kernel"], adamw["fc1"]["kernel"], atol=1e-2)


def test_locally_connected_layers_are_not_one_matrix():
    """Muon leaves them to adamw, wherever in the net they are."""
    paths = ((LocallyConnected(4, 3, padding="same"),), (Conv(4, 3, padding="same"),))
    net = nets.net([Conv(4, 3), LocallyConnected(4, 1), Branches(paths)], [Flatten(), Dense(3)])
    table = geometry.table(net, (8, 8, 1))
    names = optimizer_lib.local_layers(table)
    assert names == ["local1", "block1/local1"]
    params = nets.init(net, (8, 8, 1))["params"]
    updates = {}
    for name in ("muon", "adamw"):
        config = train_config(optimizer=name, weight_decay=0.1)
        optimizer = optimizer_lib.make_optimizer(config, optax.constant_schedule(0.1), head="fc1", local=names)
        updates[name] = optimizer.update(params, optimizer.init(params), params)[0]
    same = jax.tree.map(lambda a, b: bool((a == b).all()), updates["muon"], updates["adamw"])
    kernels = {"block1/local1": same["block1"]["local1"], "block1/conv1": same["block1"]["conv1"], **same}
    assert [name for name, leaves in kernels.items() if "kernel" in leaves and leaves["kernel"]] == [
        "block1/local1",
        "fc1",
        "local1",
    ]


def test_muon_needs_to_know_the_last_layer():
    with pytest.raises(ValueError, match="needs head: train.optimizer=muon"):
        optimizer_lib.make_optimizer(train_config(optimizer="muon"), optax.constant_schedule(0.1))
