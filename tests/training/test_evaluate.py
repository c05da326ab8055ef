"""Exact evaluation: a toy whose answer is known, and sums that do not depend on the batch."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import nets
from cnn.data import Split
from cnn.layers import AvgPool, Conv, Dense, Flatten
from cnn.runs import checkpoint, defaults, facts
from cnn.train import train_and_evaluate
from cnn.training.evaluate import Metrics, evaluate, rank
from cnn.training.predict import write_test_predictions
from tests.made import random_variables
from tests.training.tiny_runs import DATA, tiny_config, without_pictures


def lookup_net(classes):
    """A net whose logits are known: 1x1 images of `classes` channels, scores = channels."""
    net = nets.net([Conv(classes, 1, use_bias=False), AvgPool(None), Flatten()])
    return net, {"params": {"conv1": {"kernel": jnp.eye(classes).reshape(1, 1, classes, classes)}}}


def logits_as_images(scores):
    return np.asarray(scores, np.uint8)[:, None, None, :]


def test_numbers_by_hand():
    # x / 255, mean 0, std 1 / 255: the logits are the pixel values.
    scores = [[9, 1, 0], [2, 7, 5], [3, 3, 8], [4, 0, 6]]
    labels = np.array([0, 2, 2, 0], np.int32)
    net, variables = lookup_net(3)
    result = evaluate(net, variables, Split(logits_as_images(scores), labels), [0.0] * 3, [1 / 255] * 3, batch_size=3)
    assert result.examples == 4
    assert result.accuracy == 0.5
    assert result.top5 is None
    np.testing.assert_array_equal(result.confusion, [[1, 0, 1], [0, 0, 0], [0, 1, 1]])
    np.testing.assert_array_equal(result.per_class_accuracy, [0.5, np.nan, 0.5])
    s = np.array(scores, np.float64)
    expected = (np.log(np.exp(s).sum(1)) - s[np.arange(4), labels]).mean()
    np.testing.assert_allclose(result.loss, expected, rtol=1e-5)
    assert result.as_dict() == {"accuracy": 0.5, "loss": result.loss, "examples": 4}
    assert result.predictions.tolist() == s.argmax(axis=1).tolist()
    np.testing.assert_allclose(result.probabilities, np.exp(s.max(axis=1)) / np.exp(s).sum(axis=1), rtol=1e-5)


def test_balanced_accuracy_counts_each_class_alike():
    """Three of four right in one class, none of one in another, and a class without examples."""
    confusion = np.array([[3, 1, 0], [1, 0, 0], [0, 0, 0]])
    found = Metrics(5, 0.6, None, 1.0, confusion, np.array([4, 1, 0]), np.zeros(5, int), np.ones(5))
    assert found.balanced_accuracy == pytest.approx((3 / 4 + 0) / 2)


def test_top5_and_ties():
    scores = np.zeros((3, 12), np.uint8)
    scores[0] = np.arange(12)  # the label, 7, is fifth
    scores[1] = np.arange(12)  # the label, 6, is sixth
    # scores[2]: all equal; a constant score must not count as right for every label
    net, variables = lookup_net(12)
    labels = np.array([7, 6, 5], np.int32)
    result = evaluate(net, variables, Split(logits_as_images(scores), labels), [0.0] * 12, [1 / 255] * 12, batch_size=2)
    assert result.accuracy == 0
    assert result.top5 == 1 / 3
    labels[2] = 0  # the first of the equal ones is argmax's choice
    result = evaluate(net, variables, Split(logits_as_images(scores), labels), [0.0] * 12, [1 / 255] * 12, batch_size=2)
    assert result.accuracy == 1 / 3
    assert result.top5 == 2 / 3


def test_scores_of_an_image_and_its_mirror_image_are_averaged():
    """1x2 images of three channels, whose scores are 3 times the left pixel and once the right one, and a third class
    that wins in the mean only."""
    net = nets.net([Conv(3, (1, 2), use_bias=False), AvgPool(None), Flatten()])
    kernel = np.zeros((1, 2, 3, 3), np.float32)
    kernel[0, 0], kernel[0, 1] = 3 * np.eye(3), np.eye(3)
    images = np.array([[[[9, 0, 6], [0, 9, 6]]], [[[9, 0, 3], [0, 5, 3]]]], np.uint8)  # [2, 1, 2, 3]
    labels = np.array([2, 0], np.int32)
    options = dict(mean=[0.0] * 3, std=[1 / 255] * 3, batch_size=2)
    variables = {"params": {"conv1": {"kernel": jnp.asarray(kernel)}}}
    plain = evaluate(net, variables, Split(images, labels), **options)
    mirrored = evaluate(net, variables, Split(images, labels), **options, mirror=True)
    one = 3.0 * images[:, 0, 0] + images[:, 0, 1]
    other = 3.0 * images[:, 0, 1] + images[:, 0, 0]
    assert plain.predictions.tolist() == one.argmax(axis=1).tolist() == [0, 0]
    assert mirrored.predictions.tolist() == ((one + other) / 2).argmax(axis=1).tolist() == [2, 0]
    s = (one + other) / 2
    expected = (np.log(np.exp(s).sum(1)) - s[np.arange(2), labels]).mean()
    np.testing.assert_allclose(mirrored.loss, expected, atol=1e-6)  # of float32 logits of up to 18


@pytest.mark.parametrize("mirror", [False, True])
def test_scores_of_an_image_and_of_shifted_ones_are_averaged(mirror):
    """Against NumPy: a net with a weight for each pixel, so that each view has other scores."""
    rng = np.random.default_rng(0)
    net = nets.net([Flatten(), Dense(3, use_bias=False)])
    kernel = rng.normal(0, 1e-2, (5 * 6 * 2, 3))
    variables = {"params": {"fc1": {"kernel": jnp.asarray(kernel, jnp.float32)}}}
    images = rng.integers(0, 256, (4, 5, 6, 2)).astype(np.uint8)
    labels = np.array([0, 1, 2, 0], np.int32)

    def scores(rows, columns):
        views = [images[:, rows][:, :, columns]]
        views += [views[0][:, :, ::-1]] if mirror else []
        return np.mean([view.reshape(4, -1) @ kernel for view in views], axis=0)

    expected = scores([0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]) / 2
    expected += scores([2, 3, 4, 3, 2], [2, 3, 4, 5, 4, 3]) / 4  # up and to the left by two pixels
    expected += scores([2, 1, 0, 1, 2], [2, 1, 0, 1, 2, 3]) / 4
    loss = (np.log(np.exp(expected).sum(1)) - expected[np.arange(4), labels]).mean()
    options = dict(mean=[0.0] * 2, std=[1 / 255] * 2, batch_size=2)
    found = evaluate(net, variables, Split(images, labels), **options, mirror=mirror, shift=2)
    assert found.predictions.tolist() == expected.argmax(axis=1).tolist()
    np.testing.assert_allclose(found.loss, loss, atol=1e-5)  # of float32 logits of up to 20
    with pytest.raises(ValueError, match=r"eval.shift \(=5\) must be smaller than the images, which are 5x6 pixels"):
        evaluate(net, variables, Split(images, labels), **options, shift=5)


def plain_net():
    """A net whose logits are the channels of 1x1 images, each channel for itself."""
    return nets.net([AvgPool(None), Flatten()])


def score(values, labels, std):
    """Metrics of `plain_net` on values / std: of a channel with std 0, a value of 0 is NaN and a larger one is +inf."""
    split = Split(logits_as_images(values), np.array(labels, np.int32))
    return evaluate(plain_net(), {}, split, [0.0] * len(std), np.array(std) / 255, batch_size=3)


def test_a_net_that_diverged_is_right_nowhere():
    values, labels = np.zeros((4, 12), np.uint8), [0, 3, 0, 11]
    result = score(values, labels, [0.0] * 12)
    assert (result.accuracy, result.top5, result.examples) == (0, 0, 4)
    assert np.isnan(result.loss)
    assert result.confusion.sum() == 0
    np.testing.assert_array_equal(result.per_class_accuracy, [0] + [np.nan] * 2 + [0] + [np.nan] * 7 + [0])


@pytest.mark.parametrize("label", [0, 4, 11])  # the NaN's own class, and one before and behind it
def test_one_nan_makes_its_example_wrong_and_no_other(label, tmp_path):
    values = np.zeros((3, 12), np.uint8)
    values[:, label] = 9
    values[:, 4] = [9, 0, 9]  # +inf, NaN, +inf
    result = score(values, [label, label, 4], [1.0] * 4 + [0.0] + [1.0] * 7)
    assert result.accuracy == (2 if label == 4 else 1) / 3  # the first is right where +inf is the label's
    assert result.top5 == 2 / 3  # elsewhere, second of twelve
    assert result.predictions[1] == -1 and np.isnan(result.probabilities[1])
    write_test_predictions(str(tmp_path / "predictions.csv"), np.array([label] * 3), result, list("abcdefghijkl"))
    rows = (tmp_path / "predictions.csv").read_text().splitlines()
    assert rows[0] == "index,label,prediction,probability" and rows[2] == f"1,{'abcdefghijkl'[label]},,"
    assert [row.split(",")[2] for row in rows[1:]] == ["e", "", "e"]
    assert np.isnan(result.loss)
    confusion = np.zeros((12, 12), int)
    np.add.at(confusion, ([label, 4], [4, 4]), 1)
    np.testing.assert_array_equal(result.confusion, confusion)
    np.testing.assert_array_equal(result.class_examples, np.bincount([label, label, 4], minlength=12))
    np.testing.assert_array_equal(result.per_class_accuracy[[label, 4]], [2 / 3] * 2 if label == 4 else [0, 1])


@pytest.mark.parametrize("library", [np, jnp])
def test_rank_of_scores_that_are_not_finite(library):
    inf, nan = np.inf, np.nan
    scores = [[1, inf, 0], [1, inf, 0], [inf, inf, -inf], [-inf, 2, -inf], [nan, 5, 4], [5, nan, 4], [nan, nan, nan]]
    labels = [1, 0, 1, 2, 1, 1, 0]
    ranks = rank(library.asarray(scores, np.float32), library.asarray(labels))
    np.testing.assert_array_equal(ranks, [0, 1, 1, 2, 3, 3, 3])


def test_every_example_counts_once_whatever_the_batch():
    net = nets.create("layer_pattern", 4, features=4, width=8)
    images = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 1), np.uint8)
    split = Split(images, np.random.default_rng(1).integers(0, 4, 23).astype(np.int32))
    variables = random_variables(net, (8, 8), 1)
    results = [evaluate(net, variables, split, [0.5], [0.25], batch_size=size) for size in (1, 4, 23, 50)]
    for result in results:
        assert result.examples == 23 == result.confusion.sum()
        assert result.accuracy == results[0].accuracy
        np.testing.assert_array_equal(result.confusion, results[0].confusion)
        # Per-example losses may differ in the last bit between batch sizes (another blocking of the same product).
        np.testing.assert_allclose(result.loss, results[0].loss, rtol=1e-6)
    # In NumPy, from the logits.
    apply = jax.jit(lambda variables, x: net.apply(variables, x, train=False))
    logits = np.asarray(apply(variables, (images / 255.0 - 0.5).astype(np.float32) / 0.25))
    assert results[0].accuracy == (logits.argmax(1) == split.labels).mean()


@pytest.mark.slow
def test_bfloat16_scores_are_close():
    net = nets.create("layer_pattern", 4, features=4, width=8)
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    split = Split(images, np.zeros(20, np.int32))
    variables = random_variables(net, (8, 8), 1)
    full, half = (
        evaluate(net, variables, split, [0.5], [0.25], batch_size=20, dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    assert full.loss != half.loss
    np.testing.assert_allclose(half.loss, full.loss, rtol=0.02)  # bfloat16 has 8 bits: 0.4 % a value


def test_empty_and_indivisible():
    net, variables = lookup_net(3)
    empty = Split(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0, np.int32))
    with pytest.raises(ValueError, match=r"no examples.*data.validation_fraction"):
        evaluate(net, variables, empty, [0.0] * 3, [1.0] * 3, batch_size=2)
    with pytest.raises(ValueError, match=r"eval.batch_size \(=0\) must be at least 1"):
        evaluate(net, variables, empty, [0.0] * 3, [1.0] * 3, batch_size=0)


def test_rank_is_the_place_of_the_label_as_argmax_counts():
    rng = np.random.default_rng(3)
    scores, labels = rng.integers(0, 4, (200, 9)).astype(float), rng.integers(0, 9, 200)  # many ties
    order = np.argsort(-scores, axis=1, kind="stable")
    assert np.array_equal(rank(scores, labels), (order == labels[:, None]).argmax(axis=1))
    assert np.array_equal(rank(scores, labels) == 0, scores.argmax(axis=1) == labels)


def test_what_processes_compare_of_a_run_that_each_has_read():
    net, variables = lookup_net(3)
    fields = {"step": 4, "mean": (0.5,), "std": (0.25,), "class_names": ("a", "b", "c"), "net": net}

    def run(scale=1.0, batch=8):
        config = defaults.get_config()
        config.eval.batch_size = batch
        scaled = jax.tree.map(lambda x: np.asarray(x) * np.float32(scale), variables)
        return types.SimpleNamespace(**fields, variables=scaled, config=config)

    one = facts.of_run(run())
    assert one == facts.of_run(run()) and one["step"] == 4
    for other, name in ((run(scale=1 + 1e-6), "variables"), (run(batch=9), "eval.batch_size")):
        found = facts.of_run(other)
        assert [field for field in one if one[field] != found[field]] == [name]


def test_a_run_on_grey_images_is_tested_with_shifted_ones(tmp_path):
    """The limit of a shift is the images' height and width, however few channels they have."""
    config = tiny_config()
    config.eval.shift = 3
    with without_pictures():
        result = train_and_evaluate(config, str(tmp_path / "run"), DATA)
    run = checkpoint.load_run(str(tmp_path / "run"))
    expected = evaluate(run.net, run.variables, DATA.test, DATA.mean, DATA.std, batch_size=4, shift=3)
    assert DATA.image_shape == (8, 8, 1) and result["shift"] == 3
    np.testing.assert_allclose(result["test_loss"], expected.loss, rtol=1e-6)
    config.eval.shift = 8
    with pytest.raises(ValueError, match=r"eval.shift \(=8\) must be smaller than the images, which are 8x8 pixels"):
        train_and_evaluate(config, str(tmp_path / "other"), DATA)
