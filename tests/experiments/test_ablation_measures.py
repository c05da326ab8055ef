"""What studies measure: shifts, distances, looks at enlarged images and the order of flattening, each by value."""

import jax
import numpy as np
import pytest

from cnn import data, dense, nets
from cnn.data import Split
from cnn.layers import Conv, Dense, Flatten, MaxPool
from cnn.runtime.devices import Devices
from configs import smoke
from experiments.ablation import measures
from experiments.ablation.measures import Look, Trained
from tests.made import random_variables

RNG = np.random.default_rng(0)


def trained(net, images=40, side=12, classes=4, seed=0):
    """A net as it was initialised, with biases, over random images whose labels are what it says to half of them."""
    shown = RNG.integers(0, 256, (images, side, side, 1), np.uint8)
    variables = random_variables(net, (side, side), 1, seed)
    split = Split(shown, RNG.integers(0, classes, images).astype(np.int32))
    dataset = data.Dataset("made", split, split, split, tuple("abcd"), (0.5,), (0.25,))
    return Trained(net, variables, smoke.get_config(), dataset, Devices(1))


def scores(found, images):
    x = (images.astype(np.float32) / 255 - 0.5) / 0.25
    return np.asarray(found.net.apply(found.variables, x, train=False))


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-2, 0), (0, 3), (0, -1), (2, -3)])
def test_shift_against_pixels(down, right):
    images = RNG.integers(1, 256, (2, 5, 6, 3), np.uint8)
    moved = measures.shift(images, down, right)
    assert moved.shape == images.shape and moved.dtype == np.uint8
    for y in range(5):
        for x in range(6):
            inside = 0 <= y - down < 5 and 0 <= x - right < 6
            expected = images[:, y - down, x - right] if inside else np.zeros((2, 3))
            np.testing.assert_array_equal(moved[:, y, x], expected)


@pytest.mark.slow
def test_shifted_accuracy_is_the_mean_of_four_directions():
    found = trained(nets.net(Conv(3, 3), MaxPool(2), Flatten(), Dense(4)))
    measure = measures.shifted(1, 3)
    assert [outcome.name for outcome in measure.outcomes] == ["shifted 1 px", "shifted 3 px"]
    values = measure.function(found)
    images, labels = found.dataset.test
    for n in (1, 3):
        four = [
            (scores(found, np.roll(np.pad(images, ((0, 0), (n, n), (n, n), (0, 0))), step, (1, 2))[:, n:-n, n:-n])
             .argmax(1) == labels).mean()
            for step in ((n, 0), (-n, 0), (0, n), (0, -n))
        ]  # fmt: skip
        assert values[f"shifted {n} px"] == pytest.approx(np.mean(four), abs=1e-12)


@pytest.mark.slow
def test_feature_distance_by_hand():
    """A net that flattens its input: distances of pixels, in units of those between different images."""
    found = trained(nets.net(MaxPool(1), Flatten(), Dense(4)), images=6)
    value = measures.feature_distance(2, images=6).function(found)["feature distance 2 px"]
    images = found.dataset.test.images.astype(np.float64) / 255 / 0.25

    def distance(one, other):
        return np.sqrt(((one - other) ** 2).sum(axis=(1, 2, 3))).mean()

    moved = [measures.shift(found.dataset.test.images, 2 * y, 2 * x) / 255 / 0.25 for y, x in measures.DIRECTIONS]
    expected = np.mean([distance(images, other) for other in moved]) / distance(images, np.roll(images, 1, axis=0))
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.long
def test_enlarged_looks_by_value():
    found = trained(nets.net(Conv(3, 3), MaxPool(2), Flatten(), Dense(4)), images=30)
    looks = [
        Look("middle"),
        Look("crops", 2, "probabilities", "crop"),
        Look("logits", 2, "logits"),
        Look("fine", 1, "probabilities"),
    ]
    values = measures.enlarged(16, looks, images=25).function(found)
    images, labels = found.dataset.test
    x = jax.image.resize(images[:25].astype(np.float32) / 255, (25, 16, 16, 1), "linear")
    x = (np.asarray(x) - 0.5) / 0.25
    apply = jax.jit(lambda x: found.net.apply(found.variables, x, train=False))
    for look in looks:
        stride = look.stride or 2
        places = [(2, 2)] if look.stride is None else [(i, j) for i in range(0, 5, stride) for j in range(0, 5, stride)]
        each = np.stack([np.asarray(apply(x[:, i : i + 12, j : j + 12])) for i, j in places])
        each = np.asarray(jax.nn.softmax(each)) if look.over == "probabilities" else each
        expected = (each.mean(axis=0).argmax(axis=1) == labels[:25]).mean()
        assert values[look.name] == pytest.approx(expected, abs=1e-12), look.name


@pytest.mark.slow
def test_a_padded_net_is_seen_in_two_contexts():
    found = trained(nets.net(Conv(3, 3, padding=1), MaxPool(2), Flatten(), Dense(4)), images=20)
    x = measures.resized_and_normalised(found.dataset.test.images, 16, (0.5,), (0.25,))
    crops = measures.scores_of_look(found, x, Look("crops", 2, "logits", "crop"))
    image = measures.scores_of_look(found, x, Look("image", 2, "logits", "image"))
    assert np.abs(np.asarray(crops) - np.asarray(image)).max() > 1e-3
    expected = dense.average(dense.score_map(found.net, found.variables, x, (12, 12), 2, "atrous").scores, "logits")
    np.testing.assert_allclose(image, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["hwc", "chw", "random"])
def test_flattening_is_one_function_and_a_kernel_that_stays_is_another(order, monkeypatch):
    net = nets.create("layer_pattern", 4, features=4, width=8, flatten_order=order)
    found = trained(net)
    values = measures.flattening().function(found)
    assert values["difference, exact sums"] == 0.0
    assert 0 < values["difference, trained values"] < 1e-5
    # Rows that do not follow: the measure must see it.
    monkeypatch.setattr(measures, "flatten_permutation", lambda *_: None)
    assert measures.flattening().function(found)["difference, exact sums"] > 0.01


def test_rounded_values_have_few_bits():
    values = RNG.normal(size=1000).astype(np.float32)
    rounded = measures.rounded_to_bits(values, 6)
    unit = np.unique(np.abs(rounded))[1]
    assert np.log2(unit) == round(np.log2(unit))
    assert np.abs(rounded / unit).max() <= 64 and (rounded / unit == np.round(rounded / unit)).all()
    assert np.abs(rounded - values).max() <= unit / 2
