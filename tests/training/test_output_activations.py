"""Nets of one score and of independent classes train, are evaluated and predict by their output activation."""

import numpy as np
import pytest
from PIL import Image

from cnn import data
from cnn.nets import outputs
from cnn.runs.checkpoint import load_run
from cnn.train import train_and_evaluate
from cnn.training import evaluate, predict, steps
from tests.made import small_config


def bars(classes):
    """120 noisy 16x16 images whose class is the place of a bright bar."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, 120)
    rows = np.arange(16) // 6 == labels[:, None]
    return (rng.integers(0, 60, (120, 16, 16, 1)) + 150 * rows[:, :, None, None]).astype(np.uint8), labels


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "count", "classes"), [(None, 1, 2), ("sigmoid", None, 3)])
def test_a_run_follows_its_output_activation(activation, count, classes, tmp_path):
    config = small_config(steps=40, learning_rate=0.05, background=0.2, label_smoothing=0.05)
    config.net.num_classes, config.net.output_activation = count, activation
    config.eval.scenes = 0
    images, labels = bars(classes)
    names = ["above", "middle", "below"][:classes]
    dataset = data.from_arrays((images, labels), (images, labels), class_names=names)
    result = train_and_evaluate(config, str(tmp_path), dataset)
    run = load_run(str(tmp_path))
    assert run.net.output_activation == (activation or "softmax") and tuple(run.class_names) == tuple(names)
    scores = np.asarray(evaluate.logits(run.net, run.variables, images, run.mean, run.std), np.float64)
    assert scores.shape == (120, count or classes)
    if count == 1:
        expected = np.concatenate([1 / (1 + np.exp(scores)), 1 / (1 + np.exp(-scores))], axis=1)
        loss = -np.log(expected[np.arange(120), labels]).mean()
    else:
        expected = 1 / (1 + np.exp(-scores))
        loss = -np.log(np.where(np.eye(classes)[labels] == 1, expected, 1 - expected)).sum(axis=1).mean()
    assert result["test_accuracy"] == (expected.argmax(axis=1) == labels).mean() > 0.9
    np.testing.assert_allclose(result["test_loss"], loss, rtol=1e-4)
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for i, path in enumerate(paths):
        Image.fromarray(images[i, ..., 0]).save(path)
    for i, one in enumerate(predict.predict(run, paths)):
        np.testing.assert_allclose(one.probabilities, expected[i], rtol=1e-4)
        assert one.class_name == names[int(expected[i].argmax())]


@pytest.mark.parametrize(("activation", "count"), [("softmax", 1), ("sigmoid", 3)])
def test_the_loss_of_training(activation, count):
    """With smoothed labels, and with examples that show no object."""
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(6, count)).astype(np.float32)
    classes = outputs.class_count(count)
    labels, missed = np.arange(6) % classes, np.arange(6) < 2
    targets = np.eye(classes)[labels] * 0.9 + 0.1 / classes
    targets[missed] = 1 / classes if activation == "softmax" else 0
    wide = np.concatenate([np.zeros((6, 1)), scores], axis=1) if count == 1 else scores.astype(np.float64)
    if activation == "softmax":
        expected = -(targets * (wide - np.log(np.exp(wide).sum(1, keepdims=True)))).sum(1)
    else:
        each = 1 / (1 + np.exp(-wide))
        expected = -(targets * np.log(each) + (1 - targets) * np.log(1 - each)).sum(1)
    found = steps.measure(scores, labels, 0.1, missed, activation)
    np.testing.assert_allclose(found.loss, expected.mean(), rtol=1e-5)
    assert found.correct == ((wide.argmax(1) == labels) & ~missed).sum() and found.shown == 4
