"""Training's step and its loop by value: loss, gradient, dtypes, and how many steps there are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn import nets
from cnn.data import augment, batch_indices
from cnn.training import steps
from configs import default
from tests.training.pieces import IMAGES, INDICES, LABELS, make_pieces, numbers


def test_accuracy_in_training_is_of_the_examples_that_show_their_object():
    logits = jnp.asarray([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    labels = jnp.asarray([0, 0, 1, 0])
    missed = jnp.asarray([False, True, False, False])
    found = steps.measure(logits, labels, 0.0, missed)
    assert (int(found.correct), int(found.shown)) == (2, 3)
    wrong, right = np.log1p(np.exp(2.0)), np.log1p(np.exp(-2.0))
    np.testing.assert_allclose(found.loss, (2 * right + wrong + (wrong + right) / 2) / 4, rtol=1e-6)


def test_epochs_or_steps_not_both():
    train = default.get_config().train
    with pytest.raises(ValueError, match="one of them, not both"):
        steps.total_steps(train, 100)
    train.epochs = 1.5
    train.batch_size = 32
    assert steps.total_steps(train, 100) == 5  # 150 examples in batches of 32
    train.steps = 7
    with pytest.raises(ValueError, match="one of them, not both"):
        steps.total_steps(train, 100)
    train.epochs = None
    assert steps.total_steps(train, 100) == 7
    train.steps = 0
    with pytest.raises(ValueError, match=r"train.steps \(=0\) must be a whole number from 1 to 2,147,483,647"):
        steps.total_steps(train, 100)


def test_loss_against_numpy():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (9, 5)), rng.integers(0, 5, 9)
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    for smoothing in (0.0, 0.1):
        targets = np.eye(5)[labels] * (1 - smoothing) + smoothing / 5
        found = steps.measure(jnp.asarray(logits, jnp.float32), jnp.asarray(labels), smoothing)
        np.testing.assert_allclose(found.loss, -(targets * log_softmax).sum(1).mean(), rtol=1e-5)
        assert (found.correct, found.shown) == ((logits.argmax(1) == labels).sum(), 9)


def assert_is_a_step_down(objective, state, run):
    """That the first step of plain SGD at a rate of 0.1 measures an objective and goes down its gradient."""
    params = jax.device_get(state.params)
    loss, gradient = jax.jit(jax.value_and_grad(objective))(params)
    state, found = run(state, jnp.asarray(IMAGES), jnp.asarray(LABELS), INDICES[:1])
    np.testing.assert_allclose(found.loss[0], loss, rtol=1e-5)
    jax.tree.map(
        lambda new, old, g: np.testing.assert_allclose(new, old - 0.1 * g, rtol=1e-4, atol=1e-6),
        jax.device_get(state.params),
        params,
        gradient,
    )


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5)])
def test_loss_of_mixed_examples_against_numpy(weights):
    """Each is measured against its own target and that of its partner, as their parts say."""
    rng = np.random.default_rng(0)
    logits, labels, own = rng.normal(0, 2, (7, 3)), rng.integers(0, 3, 7), rng.uniform(0.5, 1, 7)
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    found = steps.measure(
        jnp.asarray(logits, jnp.float32),
        jnp.asarray(labels),
        0.1,
        class_weights=None if weights is None else np.array(weights, np.float32),
        own=jnp.asarray(own, jnp.float32),
    )
    of_class = np.ones(3) if weights is None else np.array(weights)
    targets = (np.eye(3)[labels] * 0.9 + 0.1 / 3) * of_class[labels][:, None]
    mixed = own[:, None] * targets + (1 - own)[:, None] * targets[::-1]
    np.testing.assert_allclose(found.loss, -(mixed * log_softmax).sum(1).mean(), rtol=1e-5)
    assert (found.correct, found.shown) == ((logits.argmax(1) == labels).sum(), 7)


def test_a_step_on_mixed_examples_is_one_on_their_mixtures():
    """The gradient is that of the mixed loss on the mixed images."""
    config = default.get_config()
    config.train.update({"momentum": 0.0, "learning_rate": 0.1})
    config.augment.mixup = 0.4
    net = nets.create("layer_pattern", 4, features=4, width=8)
    state, run = make_pieces(config, net, False)
    key = jax.random.fold_in(state.key, 0)
    images = jnp.asarray(IMAGES[INDICES[0]], jnp.float32) / 255
    mixed, own = augment.mixup(jax.random.fold_in(key, 3), images, 0.4)

    def objective(params):
        logits = net.apply({"params": params}, (mixed - 0.5) / 0.25, train=False)
        targets = jax.nn.one_hot(LABELS[INDICES[0]], 4)
        targets = own[:, None] * targets + (1 - own)[:, None] * targets[::-1]
        return optax.softmax_cross_entropy(logits, targets).mean()

    assert_is_a_step_down(objective, state, run)


def test_turns_count_how_often_each_example_was_seen():
    """In batches that span epochs, and that are larger than the set."""
    for size, count in ((8, 20), (7, 21), (20, 8)):
        config = default.get_config()
        config.augment.flip_in_turn, config.train.batch_size = True, size
        turns, seen = steps._turns(config, count), np.zeros(count, int)
        for step in range(3 * count // size + 5):
            found = np.asarray(turns(jnp.int32(step), size))
            for index, times in zip(batch_indices(0, step, batch_size=size, num_examples=count)[0], found, strict=True):
                assert times == seen[index]
                seen[index] += 1
    far = np.asarray(turns(jnp.int32(2**31 - 2), 20)) % 2  # where step times batch is beyond 32 bits: the parity holds
    np.testing.assert_array_equal(far, ((2**31 - 2) * 20 + np.arange(20)) // 8 % 2)


def test_a_step_on_mirrored_examples_is_one_on_their_mirror_images():
    config = default.get_config()
    config.train.update({"momentum": 0.0, "learning_rate": 0.1, "batch_size": 8})
    config.augment.flip_in_turn = True
    net = nets.create("layer_pattern", 4, features=4, width=8)
    with pytest.raises(ValueError, match=r"train.batch_size \(=8\) times the number of training examples \(=None\)"):
        make_pieces(config, net, False)
    state, run = make_pieces(config, net, False, num_examples=40)
    seen = np.asarray(augment.in_turn(jax.random.fold_in(state.key, 2**31), IMAGES[INDICES[0]], np.zeros(8, int)))
    assert 0 < (seen != IMAGES[INDICES[0]]).any(axis=(1, 2, 3)).sum() < 8
    images = jnp.asarray(seen, jnp.float32) / 255

    def objective(params):
        logits = net.apply({"params": params}, (images - 0.5) / 0.25, train=False)
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS[INDICES[0]]).mean()

    assert_is_a_step_down(objective, state, run)


@pytest.mark.slow
def test_the_loop_on_the_device_takes_the_same_steps():
    """One call for many steps (accelerators) and one call a step (CPU) are the same training, to rounding."""
    config = default.get_config()
    config.augment.pad = 1
    net = nets.create("layer_pattern", 4, features=4, width=8, norm=True, dropout=0.3)
    results = []
    for looped in (False, True):
        state, run = make_pieces(config, net, looped)
        state, found = run(state, jnp.asarray(IMAGES), jnp.asarray(LABELS), INDICES)
        assert found.loss.shape == found.correct.shape == (5,)
        assert found.shown.tolist() == [8] * 5
        assert int(state.step) == 5
        results.append((jax.device_get(numbers(state)), found.loss))
    # XLA fuses the two programs differently: float32 rounding, five steps of it.
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5), results[0][0], results[1][0])
    assert len(results[0][0].statistics) == 1  # batch statistics were updated
    assert np.abs(results[0][0].statistics["batch_stats"]["bn1"]["norm"]["mean"]).max() > 0


def test_one_step_against_the_gradient_by_hand():
    """Plain SGD without augmentation: w - lr * gradient of the mean cross-entropy."""
    config = default.get_config()
    config.train.update({"momentum": 0.0, "learning_rate": 0.1})
    net = nets.create("layer_pattern", 4, features=4, width=8)
    state, run = make_pieces(config, net, False)

    def objective(params):
        x = (jnp.asarray(IMAGES[INDICES[0]], jnp.float32) / 255 - 0.5) / 0.25
        logits = net.apply({"params": params}, x, train=False)
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS[INDICES[0]]).mean()

    assert_is_a_step_down(objective, state, run)


@pytest.mark.slow
def test_bfloat16_trains_with_float32_parameters():
    config = default.get_config()
    config.train.dtype = "bfloat16"
    net = nets.create("layer_pattern", 4, features=4, width=8)
    state, run = make_pieces(config, net, False)
    images, labels = jnp.asarray(IMAGES), jnp.asarray(LABELS)
    state, found = run(state, images, labels, INDICES)
    assert found.loss.dtype == np.float32 and np.isfinite(found.loss).all()
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    config.train.dtype = "float16"
    with pytest.raises(ValueError, match="train.dtype .*'float16'.*float32, bfloat16"):
        make_pieces(config, net, False)
