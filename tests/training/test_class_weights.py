"""Weights of classes: their values, the loss and the gradient by hand, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn.training import class_weights, evaluate, loop, steps
from tests.training.tiny_runs import DATA, tiny_config

LABELS = np.array([0] * 12 + [1] * 8 + [2] * 4, np.int32)
UNEQUAL = dataclasses.replace(DATA, train=DATA.train._replace(labels=LABELS))


def weights_of(value):
    return class_weights.of(tiny_config(class_weights=value).train, UNEQUAL)


def test_values():
    assert weights_of(()) is None
    np.testing.assert_array_equal(weights_of((1, 2, 0.5)), np.float32([1, 2, 0.5]))
    balanced = weights_of(("balanced",))
    np.testing.assert_allclose(balanced, [24 / (3 * 12), 24 / (3 * 8), 24 / (3 * 4)], rtol=1e-7)
    assert balanced.dtype == np.float32 and balanced[LABELS].mean() == pytest.approx(1)
    only_two = dataclasses.replace(DATA, train=DATA.train._replace(labels=LABELS % 2))
    found = class_weights.of(tiny_config(class_weights=("balanced",)).train, only_two)
    np.testing.assert_allclose(found[:2], [24 / (2 * 16), 24 / (2 * 8)], rtol=1e-7)
    assert np.isfinite(found).all()
    older = tiny_config().train
    with older.unlocked():
        del older.class_weights
    assert class_weights.of(older, DATA) is None


def test_one_number_for_each_class():
    message = (
        r"^train.class_weights \(=\(1, 2\)\) has 2 numbers for the 3 classes of data .*in the order ant, bee, cat, "
    )
    with pytest.raises(ValueError, match=message):
        loop.make_task(tiny_config(class_weights=(1, 2)), DATA)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "outputs"), [("softmax", 3), ("softmax", 1), ("sigmoid", 3)])
def test_the_loss_and_its_gradient(head, outputs):
    """For each head, with smoothed labels and an example that shows no object, which counts once."""
    scores = np.random.default_rng(0).normal(size=(6, outputs)).astype(np.float32)
    weights = np.float32([0.5, 3.0] if outputs == 1 else [0.5, 3.0, 1.5])
    labels, missed = jnp.arange(6) % len(weights), jnp.arange(6) == 4
    own = np.where(missed, 1, weights[labels])

    def loss(scores, weights=None):
        return steps.measure(scores, labels, 0.1, missed, head, weights).loss

    one_by_one = [steps.measure(scores[i : i + 1], labels[i : i + 1], 0.1, missed[i : i + 1], head) for i in range(6)]
    expected = (own * np.array([float(one.loss) for one in one_by_one])).mean()
    np.testing.assert_allclose(loss(scores, weights), expected, rtol=1e-6)
    gradient, weighted = jax.grad(loss)(scores), jax.grad(loss)(scores, weights)
    np.testing.assert_allclose(weighted, gradient * own[:, None], rtol=1e-5, atol=1e-8)
    found, alike = (steps.measure(scores, labels, 0.1, missed, head, w) for w in (weights, None))
    assert (found.correct, found.shown) == (alike.correct, alike.shown)


@pytest.mark.slow
def test_a_step_of_training_is_weighted_and_evaluation_is_not():
    """Two classes of weight 0.25 and 4 in one step of plain descent, against the gradient by hand."""
    config = tiny_config(class_weights=(0.25, 4, 1), momentum=0.0, learning_rate=0.1, schedule="constant")
    config.net.options.norm = False
    task = loop.make_task(config, UNEQUAL)
    state = task.first_state(0)
    images, labels = DATA.train.images[6:18], LABELS[6:18]
    x = jnp.asarray((images / np.float32(255) - np.float32(DATA.mean)) / np.float32(DATA.std))

    def objective(params):
        logits = task.net.apply({"params": params}, x, train=False)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return (losses * np.array([0.25, 4, 1])[labels]).mean()

    loss, gradient = jax.jit(jax.value_and_grad(objective))(state.params)
    after, found = jax.jit(task.step())(state, images, labels)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-5)
    jax.tree.map(
        lambda new, old, g: np.testing.assert_allclose(new, old - 0.1 * g, rtol=1e-4, atol=1e-6),
        after.params,
        state.params,
        gradient,
    )
    scored = task.score(state.variables, "train")
    alike = evaluate.evaluate(task.net, state.variables, UNEQUAL.train, DATA.mean, DATA.std, batch_size=64)
    assert scored.loss == alike.loss
