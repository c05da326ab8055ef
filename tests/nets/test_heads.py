"""What scores mean: softmax, sigmoid, and one score for two classes, in probabilities, losses, averages and boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import convert, dense, nets
from cnn.layers import Conv, Dense, Flatten
from cnn.nets import heads
from tests.made import draw

SCORES = np.array([[2.0, -1.0, 0.5], [-3.0, -2.0, -4.0], [20.0, 10.0, 15.0], [0.0, 0.0, 0.0]])


def by_hand(scores, head):
    """Probabilities in float64 from their definitions."""
    if head == "sigmoid" and scores.shape[-1] > 1:
        return 1 / (1 + np.exp(-scores))
    if scores.shape[-1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], -1)
    return np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)


@pytest.mark.parametrize("head", heads.HEADS)
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_probabilities_and_losses_by_definition(head, outputs):
    scores = SCORES[:, :outputs]
    expected = by_hand(scores, head)
    np.testing.assert_allclose(heads.probabilities(jnp.float32(scores), head), expected, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(np.exp(heads.log_probabilities(scores, head)), expected, rtol=1e-13)
    labels = np.arange(4) % heads.class_count(outputs)
    targets = np.eye(heads.class_count(outputs))[labels]
    if head == "sigmoid" and outputs > 1:
        logs = -(targets * np.log(expected) + (1 - targets) * np.log1p(-expected)).sum(1)
    else:
        logs = -np.log(expected[np.arange(4), labels])
    found = heads.cross_entropy(jnp.float32(scores), jnp.float32(targets), head)
    np.testing.assert_allclose(found, logs, rtol=1e-5, atol=1e-6)  # a difference of logarithms near 1, in float32


def test_one_score_is_two_classes():
    """z counts as [0, z] in either library, and NaN leaves no class a score."""
    z = np.array([[3.0], [-np.inf], [np.nan]], np.float32)
    expected = [[0, 3], [0, -np.inf], [np.nan, np.nan]]
    for scores in (z, jnp.asarray(z)):
        widened = heads.class_scores(scores)
        assert isinstance(widened, type(scores)) and widened.dtype == np.float32
        np.testing.assert_array_equal(widened, expected)
    np.testing.assert_array_equal(heads.log_probabilities(np.array([[800.0], [-800.0]])), [[-800, 0], [0, -800]])
    np.testing.assert_array_equal(heads.log_probabilities(np.array([[-800.0, 800.0]]), "sigmoid"), [[-800, 0]])


@pytest.mark.parametrize("head", heads.HEADS)
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_map_has_the_head_of_its_net(head, outputs):
    """Averages, best boxes and class maps follow it, also through conversion; the scores themselves do not change."""
    net = nets.net(Conv(4, 3), Flatten(), Dense(outputs), head=head)
    variables = nets.init(net, (5, 5, 1))
    images = draw(0, (2, 9, 8, 1))
    found = dense.score_map(net, variables, images, (5, 5), backend="shift")
    assert found.head == head and convert.fc_to_conv(net, variables, (5, 5, 1))[0].head == head
    assert dense.score_maps(net, variables, list(images), (5, 5))[0].head == head
    other = nets.net(Conv(4, 3), Flatten(), Dense(outputs))
    np.testing.assert_array_equal(
        found.scores, dense.score_map(other, variables, images, (5, 5), backend="shift").scores
    )
    scores = np.asarray(found.scores, np.float64)
    probabilities = by_hand(scores, head)
    flat = probabilities.reshape(2, -1, probabilities.shape[-1])
    np.testing.assert_allclose(dense.average(found), flat.mean(1), rtol=1e-5)
    np.testing.assert_allclose(dense.average(found.scores, head=head), flat.mean(1), rtol=1e-5)
    classes = heads.class_scores(scores)
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


def test_heads_by_name():
    assert nets.create("qa_net").head == "softmax"
    assert nets.create("qa_net", 1, head="sigmoid").head == "sigmoid"
    for make in (
        lambda: nets.create("qa_net", head="tanh"),
        lambda: nets.net(Dense(3), head="tanh"),
        lambda: dense.average(jnp.zeros((1, 2, 3)), head="tanh"),
    ):
        with pytest.raises(ValueError, match=r"head \(='tanh'\) must be one of softmax, sigmoid"):
            make()


def test_gradients_of_one_score_are_those_of_two():
    """Through [0, z] a net with one score learns as one with two, of which the first is fixed at 0."""
    z, targets = jnp.array([[0.3], [-2.0]]), jnp.array([[1.0, 0.0], [0.25, 0.75]])
    slope = jax.grad(lambda z: heads.cross_entropy(z, targets).sum())(z)
    np.testing.assert_allclose(slope[:, 0], 1 / (1 + np.exp(-np.array([0.3, -2.0]))) - targets[:, 1], rtol=1e-6)
