"""What scores mean: softmax, sigmoid, and one score for two classes, in probabilities, losses, averages and boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import convert, dense, nets
from cnn.layers import Conv, Dense, Flatten
from cnn.nets import outputs
from tests.made import draw, random_variables

SCORES = np.array([[2.0, -1.0, 0.5], [-3.0, -2.0, -4.0], [20.0, 10.0, 15.0], [0.0, 0.0, 0.0]])


def by_hand(scores, activation):
    """Probabilities in float64 from their definitions."""
    if activation == "sigmoid" and scores.shape[-1] > 1:
        return 1 / (1 + np.exp(-scores))
    if scores.shape[-1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], -1)
    return np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)


@pytest.mark.parametrize("activation", outputs.ACTIVATIONS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_probabilities_and_losses_by_definition(activation, count):
    scores = SCORES[:, :count]
    expected = by_hand(scores, activation)
    np.testing.assert_allclose(outputs.probabilities(jnp.float32(scores), activation), expected, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(np.exp(outputs.log_probabilities(scores, activation)), expected, rtol=1e-13)
    labels = np.arange(4) % outputs.class_count(count)
    targets = np.eye(outputs.class_count(count))[labels]
    if activation == "sigmoid" and count > 1:
        logs = -(targets * np.log(expected) + (1 - targets) * np.log1p(-expected)).sum(1)
    else:
        logs = -np.log(expected[np.arange(4), labels])
    found = outputs.cross_entropy(jnp.float32(scores), jnp.float32(targets), activation)
    np.testing.assert_allclose(found, logs, rtol=1e-5, atol=1e-6)  # a difference of logarithms near 1, in float32


def test_one_score_is_two_classes():
    """z counts as [0, z] in either library, and NaN leaves no class a score."""
    z = np.array([[3.0], [-np.inf], [np.nan]], np.float32)
    expected = [[0, 3], [0, -np.inf], [np.nan, np.nan]]
    for scores in (z, jnp.asarray(z)):
        widened = outputs.class_scores(scores)
        assert isinstance(widened, type(scores)) and widened.dtype == np.float32
        np.testing.assert_array_equal(widened, expected)
    np.testing.assert_array_equal(outputs.log_probabilities(np.array([[800.0], [-800.0]])), [[-800, 0], [0, -800]])
    np.testing.assert_array_equal(outputs.log_probabilities(np.array([[-800.0, 800.0]]), "sigmoid"), [[-800, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("activation", outputs.ACTIVATIONS)
@pytest.mark.parametrize("count", [1, 3])
def test_a_map_has_the_activation_of_its_net(activation, count):
    """Averages, best boxes and class maps follow it, also through conversion; the scores themselves do not change."""
    net = nets.net(Conv(4, 3), Flatten(), Dense(count), output_activation=activation)
    variables = random_variables(net, (5, 5), 1)
    images = draw(0, (2, 9, 8, 1))
    found = dense.score_map(net, variables, images, (5, 5), backend="shift")
    assert found.output_activation == activation
    assert convert.fc_to_conv(net, variables, (5, 5, 1))[0].output_activation == activation
    assert dense.score_maps(net, variables, list(images), (5, 5))[0].output_activation == activation
    other = nets.net(Conv(4, 3), Flatten(), Dense(count))
    np.testing.assert_array_equal(
        found.scores, dense.score_map(other, variables, images, (5, 5), backend="shift").scores
    )
    scores = np.asarray(found.scores, np.float64)
    probabilities = by_hand(scores, activation)
    flat = probabilities.reshape(2, -1, probabilities.shape[-1])
    np.testing.assert_allclose(dense.average(found), flat.mean(1), rtol=1e-5)
    np.testing.assert_allclose(dense.average(found.scores, output_activation=activation), flat.mean(1), rtol=1e-5)
    classes = outputs.class_scores(scores)
    np.testing.assert_allclose(dense.average(found, "max"), classes.max((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(dense.average(found, "logits"), classes.mean((1, 2)), rtol=1e-5, atol=1e-6)
    best = dense.best_boxes(found, over="probabilities")
    np.testing.assert_allclose(best.scores, flat.max((1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(best.classes, flat.max(1).argmax(1))
    for k in range(probabilities.shape[-1]):
        of_class = dense.best_boxes(found, k, "probabilities")
        np.testing.assert_allclose(of_class.scores, flat[..., k].max(1), rtol=1e-6)
    pixels = dense.class_map(np.asarray(found.scores)[0], found.grid, (9, 8))
    np.testing.assert_array_equal(pixels[2:-2, 2:-2], classes[0].argmax(-1))


def test_activations_by_name():
    assert nets.create("qa_net").output_activation == "softmax"
    assert nets.create("qa_net", 1, output_activation="sigmoid").output_activation == "sigmoid"
    for make in (
        lambda: nets.create("qa_net", output_activation="tanh"),
        lambda: nets.net(Dense(3), output_activation="tanh"),
        lambda: dense.average(jnp.zeros((1, 2, 3)), output_activation="tanh"),
    ):
        with pytest.raises(ValueError, match=r"output_activation \(='tanh'\) must be one of softmax, sigmoid"):
            make()


@pytest.mark.slow
def test_gradients_of_one_score_are_those_of_two():
    """Through [0, z] a net with one score learns as one with two, of which the first is fixed at 0."""
    z, targets = jnp.array([[0.3], [-2.0]]), jnp.array([[1.0, 0.0], [0.25, 0.75]])
    slope = jax.grad(lambda z: outputs.cross_entropy(z, targets).sum())(z)
    np.testing.assert_allclose(slope[:, 0], 1 / (1 + np.exp(-np.array([0.3, -2.0]))) - targets[:, 1], rtol=1e-6)
