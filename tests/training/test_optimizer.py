"""Schedules by value at their corners, optimisers against their update rules in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn import geometry, nets
from cnn.runs import checkpoint, ranges
from cnn.runs.config import load as load_config
from cnn.runs.config import save as save_config
from cnn.training import optimizer as optimizer_lib
from configs import default


def train_config(**fields):
    config = default.get_config().train
    config.update(fields)
    return config


def rates(total, **fields):
    schedule = optimizer_lib.make_schedule(train_config(learning_rate=0.2, **fields), total)
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


def test_linear():
    np.testing.assert_allclose(rates(8, schedule="linear"), 0.2 * (1 - np.arange(9) / 8), atol=1e-7)


@pytest.mark.parametrize("name", ranges.SCHEDULES)
def test_warmup_rises_linearly_to_the_peak(name):
    found = rates(20, schedule=name, warmup=0.2, milestones=(0.5,))
    np.testing.assert_allclose(found[:5], 0.2 * np.arange(5) / 4, atol=1e-7)
    assert found.max() == found[4]
    if name == "cosine":
        np.testing.assert_allclose(found[4:], 0.1 * (1 + np.cos(np.pi * np.arange(17) / 16)), atol=1e-7)
    if name == "linear":
        np.testing.assert_allclose(found[4:], 0.2 * (1 - np.arange(17) / 16), atol=1e-7)
    if name == "step":  # a milestone is a fraction of the whole run, warm-up or not
        assert found[9] == found[4] and found[11] < found[9]


def test_bad_schedules():
    with pytest.raises(ValueError, match="train.schedule .*'exponential'.*constant, step, linear, cosine"):
        optimizer_lib.make_schedule(train_config(schedule="exponential"), 10)
    with pytest.raises(ValueError, match=r"train.warmup \(=2.0\)"):
        optimizer_lib.make_schedule(train_config(warmup=2.0), 10)
    with pytest.raises(ValueError, match="train.optimizer .*'lion'.*sgd, adam, adamw, muon"):
        optimizer_lib.make_optimizer(train_config(optimizer="lion"), optax.constant_schedule(0.1))


PARAMS = {"fc1": {"kernel": np.array([[1.0, -2.0]], np.float32), "bias": np.array([0.5, 0.5], np.float32)}}
GRADIENTS = [
    {"fc1": {"kernel": np.array([[0.3, -0.1]], np.float32), "bias": np.array([1.0, -1.0], np.float32)}},
    {"fc1": {"kernel": np.array([[0.2, 0.4]], np.float32), "bias": np.array([0.0, 2.0], np.float32)}},
]


def run(config):
    optimizer = optimizer_lib.make_optimizer(config, optax.constant_schedule(config.learning_rate))
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


def test_nesterov_steps_from_where_the_momentum_leads():
    """v = m v + g, w = w - lr (g + m v)."""
    found = run(train_config(optimizer="sgd", learning_rate=0.1, momentum=0.9, nesterov=True))
    for name in ("kernel", "bias"):
        w, v = PARAMS["fc1"][name].astype(np.float64), 0.0
        for gradient in GRADIENTS:
            v = 0.9 * v + gradient["fc1"][name]
            w = w - 0.1 * (gradient["fc1"][name] + 0.9 * v)
        np.testing.assert_allclose(found[name], w, rtol=1e-6)


@pytest.mark.parametrize("name", ranges.OPTIMIZERS)
@pytest.mark.parametrize("frozen", [(), ("bn1",)])
def test_learning_rates_of_biases_and_of_the_last_layer(name, frozen):
    """A step is as many times as long as the rate is, decay included; nothing else changes."""
    fields = dict(optimizer=name, learning_rate=0.01, weight_decay=0.1, frozen=frozen)
    head = optimizer_lib.head_of(geometry.table(NET, (12, 12, 1)))
    assert head == "fc2"
    params = NET.init(jax.random.key(0), jnp.zeros((1, 12, 12, 1)), train=False)["params"]
    gradient = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape), params)

    def step(**more):
        rule = optimizer_lib.make_optimizer(train_config(**fields, **more), optax.constant_schedule(0.01), head=head)
        return rule.update(gradient, rule.init(params), params)[0]

    def compare(path, plain, scaled):
        factor = (8 if path[-1].key == "bias" else 1) * (0.25 if path[0].key == "fc2" else 1)
        np.testing.assert_allclose(scaled, factor * np.asarray(plain), rtol=1e-6)
        assert (np.abs(plain).max() > 0) == (path[0].key not in frozen)

    jax.tree_util.tree_map_with_path(compare, step(), step(bias_rate=8.0, head_rate=0.25))


def test_the_last_layer_must_be_known():
    with pytest.raises(ValueError, match=r"needs head: train.head_rate \(=0.1\)"):
        optimizer_lib.make_optimizer(train_config(head_rate=0.1), optax.constant_schedule(0.1))
    with pytest.raises(ValueError, match=r"train.bias_rate \(=-1.0\) must be a number, at least 0"):
        optimizer_lib.make_optimizer(train_config(bias_rate=-1.0), optax.constant_schedule(0.1))


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


# frozen layers

NET = nets.layer_pattern(blocks=2, features=4, width=8, norm=True)  # bn1 has its parameters one level deeper


def learn(config, total):
    """Parameters and optimiser states of a real net, before the first step and after each."""
    _, optimizer = optimizer_lib.for_net(config, geometry.table(NET, (12, 12, 1)), total)
    variables = NET.init(jax.random.key(0), jnp.zeros((1, 12, 12, 1)), train=False)
    rest = {"batch_stats": variables["batch_stats"]}

    @jax.jit
    def step(params, state, seed):
        images = jax.random.normal(jax.random.key(seed), (8, 12, 12, 1))

        def loss(params):
            logits, _ = NET.apply({"params": params, **rest}, images, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(8)).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    states = [(variables["params"], jax.jit(optimizer.init)(variables["params"]))]
    for i in range(total):
        states.append(step(*states[-1], i))
    return states


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.long
@pytest.mark.parametrize("name", ranges.OPTIMIZERS)
@pytest.mark.parametrize("clip_norm", [0.0, 0.1])
def test_frozen_layers_stay_to_the_bit_and_learn_afterwards(name, clip_norm):
    fields = dict(optimizer=name, learning_rate=0.003, weight_decay=0.1, clip_norm=clip_norm)
    config = train_config(frozen=("conv1", "bn1"), frozen_until=0.5, **fields)
    states = [params for params, _ in learn(config, 8)]
    for before, after in zip(states[:4], states[1:5], strict=True):  # steps 0 to 3
        assert same(before["conv1"], after["conv1"]) and same(before["bn1"], after["bn1"])
        changed = [k for k in before if not same(before[k], after[k])]
        assert sorted(changed) == ["bn2", "conv2", "fc1", "fc2"]
    for before, after in zip(states[4:-1], states[5:], strict=True):  # steps 4 to 7
        assert not any(same(before[k], after[k]) for k in before)


def test_frozen_for_all_of_the_run_needs_no_length():
    config = train_config(frozen=("fc1",), weight_decay=0.1)
    optimizer = optimizer_lib.make_optimizer(config, optax.constant_schedule(0.1))
    params = jax.tree.map(jnp.asarray, {**PARAMS, "fc2": PARAMS["fc1"]})
    state = optimizer.init(params)
    for gradient in GRADIENTS:
        updates, state = optimizer.update({**gradient, "fc2": gradient["fc1"]}, state, params)
        params = optax.apply_updates(params, updates)
    assert same(params["fc1"], PARAMS["fc1"])
    free = run(train_config(weight_decay=0.1, learning_rate=0.1))
    for leaf in ("kernel", "bias"):
        np.testing.assert_array_equal(params["fc2"][leaf], free[leaf])
    assert len(jax.tree.leaves(state)) == 2 + 1  # momentum of fc2 alone, and the schedule's count


@pytest.mark.parametrize("name", ranges.OPTIMIZERS)
def test_a_layer_that_thaws_learns_as_if_it_started_then(name):
    """No momentum and no average from before; the learning rate is the run's."""
    fields = dict(optimizer=name, learning_rate=0.1, weight_decay=0.01, schedule="cosine")
    config = train_config(frozen=("fc1",), frozen_until=0.5, **fields)
    schedule = optimizer_lib.make_schedule(config, 4)
    frozen = optimizer_lib.make_optimizer(config, schedule, total_steps=4, head="")
    late = optimizer_lib.make_optimizer(train_config(**fields), lambda step: schedule(step + 2), head="")
    params = expected = jax.tree.map(jnp.asarray, PARAMS)
    state, late_state = frozen.init(params), late.init(params)
    for step in range(4):
        updates, state = frozen.update(GRADIENTS[step % 2], state, params)
        params = optax.apply_updates(params, updates)
        if step >= 2:
            updates, late_state = late.update(GRADIENTS[step % 2], late_state, expected)
            expected = optax.apply_updates(expected, updates)
        for leaf in ("kernel", "bias"):
            np.testing.assert_allclose(params["fc1"][leaf], expected["fc1"][leaf], rtol=1e-6)
    assert not same(params, PARAMS)


def test_gradients_of_frozen_layers_do_not_count_in_the_norm():
    config = train_config(frozen=("fc2",), frozen_until=0.5, clip_norm=1.0, momentum=0.0)
    optimizer = optimizer_lib.make_optimizer(config, optax.constant_schedule(1.0), total_steps=2)
    params = {"fc1": {"kernel": jnp.zeros(2)}, "fc2": {"kernel": jnp.zeros(2)}}
    gradient = {"fc1": {"kernel": jnp.array([0.3, 0.4])}, "fc2": {"kernel": jnp.array([3.0, 4.0])}}
    updates, state = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose(updates["fc1"]["kernel"], [-0.3, -0.4], rtol=1e-6)  # norm 0.5: not clipped
    np.testing.assert_array_equal(updates["fc2"]["kernel"], [0, 0])
    updates, _ = optimizer.update(gradient, state, params)
    norm = np.sqrt(0.25 + 25)
    np.testing.assert_allclose(updates["fc2"]["kernel"], [-3 / norm, -4 / norm], rtol=1e-6)
    np.testing.assert_allclose(updates["fc1"]["kernel"], [-0.3 / norm, -0.4 / norm], rtol=1e-6)


@pytest.mark.slow
def test_a_checkpoint_holds_the_state_of_frozen_layers(tmp_path):
    states = learn(train_config(frozen=("conv1",), frozen_until=0.5, weight_decay=0.1, clip_norm=1.0), 4)
    params, state = states[3]
    with checkpoint.Checkpoints(str(tmp_path), keep=1) as checkpoints:
        checkpoints.save(3, {"params": params}, state)
    with checkpoint.Checkpoints(str(tmp_path), keep=1) as checkpoints:
        found = checkpoints.restore(3, variables={"params": params}, optimizer=states[0][1])
    assert jax.tree.structure(found["optimizer"]) == jax.tree.structure(state)
    assert same(found["optimizer"], state) and not same(state, states[0][1])


def test_bad_freezing():
    optimizer = optimizer_lib.make_optimizer(train_config(frozen=("fc1", "fc9")), optax.constant_schedule(0.1))
    with pytest.raises(ValueError, match=r"train.frozen \(=\('fc1', 'fc9'\)\) names 'fc9', .*; layers: fc1$"):
        optimizer.init(PARAMS)
    with pytest.raises(ValueError, match=r"train.frozen_until \(=1.5\) must be a fraction of the run, from 0 to 1"):
        optimizer_lib.make_optimizer(train_config(frozen_until=1.5), optax.constant_schedule(0.1))
    with pytest.raises(ValueError, match=r"needs total_steps: train.frozen_until \(=0.5\)"):
        optimizer_lib.make_optimizer(train_config(frozen=("fc1",), frozen_until=0.5), optax.constant_schedule(0.1))


def test_configs_of_older_runs_freeze_nothing(tmp_path):
    config = default.get_config()
    with config.unlocked():
        del config.train.frozen, config.train.frozen_until
    save_config(config, str(tmp_path))
    loaded = load_config(str(tmp_path)).train
    assert "frozen" not in loaded
    old, new = run(loaded), run(default.get_config().train)
    assert same(old, new)


def test_a_saved_list_of_layers_is_read_back(tmp_path):
    config = default.get_config()
    config.train.frozen = ("fc1",)
    save_config(config, str(tmp_path))
    assert same(run(load_config(str(tmp_path)).train), PARAMS["fc1"])


@pytest.mark.parametrize("name", ["('conv1')", "conv", "conv1,"])
def test_frozen_names_of_no_layer_are_refused_with_the_nearest(name):
    optimizer = optimizer_lib.make_optimizer(train_config(frozen=(name,)), optax.constant_schedule(0.1))
    params = {"conv1": {"kernel": jnp.ones(3)}, "fc1": {"kernel": jnp.ones(3)}}
    with pytest.raises(ValueError, match=r"^train.frozen .*called; did you mean conv1\?; layers: conv1, fc1$"):
        optimizer.init(params)
    with pytest.raises(ValueError, match=r"train.frozen \(='conv1'\) must be names of layers, such as \('conv1',\)"):
        ranges.check_fields("train", {"frozen": "conv1"}, "frozen")
