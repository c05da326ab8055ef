"""A first convolution that whitens: what it gives of the training images is uncorrelated and of variance one."""

import jax
import numpy as np
import pytest

from cnn import data, nets
from cnn.layers import Activation, AvgPool, Conv, Dense, Flatten, MaxPool
from cnn.training import loop, whitening
from configs import default


def make_dataset(seed=0, count=90, shape=(9, 8, 3)):
    """Smooth images of unlike channels."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, shape[0] + 3, shape[1] + 3, shape[2]))
    smooth = sum(noise[:, y : y + shape[0], x : x + shape[1]] for y in range(4) for x in range(4))
    mixed = smooth @ rng.normal(size=(shape[2], shape[2]))
    images = np.clip(120 + 9 * mixed, 0, 255).astype(np.uint8)
    labels = (np.arange(count) % 3).astype(np.int32)
    return data.from_arrays((images, labels), test=(images[:9], labels[:9]), validation_fraction=0.1)


def net_of(features, **options):
    return nets.net(
        [Conv(features, (2, 3), use_bias=False, **options), Activation(), AvgPool(None), Flatten()], [Dense(3)]
    )


def begun(dataset, net, name="conv1"):
    config = default.get_config()
    config.train.steps, config.train.batch_size = 2, 8
    state = loop.steps.init_state(net, loop.make_optimizer(config.train, lambda _: 0.1), dataset.image_shape, 0)
    return state, whitening.begin(state, dataset, name)


@pytest.mark.parametrize("features", [18, 36])
def test_outputs_are_uncorrelated(features):
    dataset, net = make_dataset(), net_of(features)
    before, state = begun(dataset, net)
    assert state.params["fc1"] is before.params["fc1"]
    pixels = data.normalise(np.asarray(dataset.train.images, np.float32) / 255, dataset.mean, dataset.std)
    kernel = np.asarray(state.params["conv1"]["kernel"], np.float64)
    patches = np.lib.stride_tricks.sliding_window_view(pixels, (2, 3), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    patches = np.asarray(patches, np.float64).reshape(-1, 18)
    outputs = patches @ kernel.reshape(18, features)
    # The constant that is added to the variances leaves each at v / (v + 5e-4).
    moment = outputs[:, :18].T @ outputs[:, :18] / len(outputs)
    variances = np.linalg.eigvalsh(
        patches.reshape(-1, 18).T.astype(np.float64) @ patches.reshape(-1, 18) / len(outputs)
    )
    np.testing.assert_allclose(moment, np.diag(variances / (variances + 5e-4)), atol=1e-4)
    if features == 36:
        np.testing.assert_array_equal(kernel[..., 18:], -kernel[..., :18])


def test_patches_are_of_the_first_images_alone(monkeypatch):
    dataset, net = make_dataset(), net_of(18)
    whole = begun(dataset, net)[1].params["conv1"]["kernel"]
    monkeypatch.setattr(whitening, "IMAGES", 30)
    monkeypatch.setattr(whitening, "_BLOCK", 7)
    some = begun(dataset, net)[1].params["conv1"]["kernel"]
    first = dataset.train.images[:30]
    pixels = np.asarray(data.normalise(np.asarray(first, np.float32) / 255, dataset.mean, dataset.std), np.float64)
    patches = np.lib.stride_tricks.sliding_window_view(pixels, (2, 3), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    patches = patches.reshape(-1, 18)
    np.testing.assert_allclose(whitening.second_moment(dataset, (2, 3)), patches.T @ patches / len(patches), rtol=1e-5)
    assert np.abs(some - whole).max() > 1e-3


def test_a_run_begins_with_it():
    dataset = make_dataset(shape=(8, 8, 3))
    config = default.get_config()
    config.net.name, config.net.options.layers = "layers", nets.to_config(net_of(36))
    config.train.steps, config.train.batch_size, config.train.whitened = 2, 8, "conv1"
    state = loop.make_task(config, dataset).first_state(0)
    expected = whitening.kernels(whitening.second_moment(dataset, (2, 3)), (2, 3, 3))
    np.testing.assert_allclose(state.params["conv1"]["kernel"][..., :18], expected, rtol=1e-6)
    config.train.whitened = ""
    plain = loop.make_task(config, dataset).first_state(0)
    assert np.abs(plain.params["conv1"]["kernel"] - state.params["conv1"]["kernel"]).max() > 1e-2
    jax.tree.map(np.testing.assert_array_equal, plain.params["fc1"], state.params["fc1"])


@pytest.mark.parametrize(
    ("net", "name", "message"),
    [
        (net_of(20), "conv1", r"has 20 features; a whitening of patches of 2x3x3 gives 18, or 36 with both signs"),
        (net_of(18), "fc1", r"train.whitened \(='fc1'\) must be a convolution of the images.*begins with conv1"),
        (
            net_of(18, dilation=(1, 2)),
            "conv1",
            r"its kernels are dilated \(by \(1, 2\)\), and whitened patches have no",
        ),
        (net_of(18, groups=3), "conv1", "its 3 groups see different channels"),
        (nets.net([MaxPool(2), Flatten()], [Dense(3)]), "conv1", r"begins with pool1 \(max pool\)"),
    ],
)
def test_what_cannot_whiten(net, name, message):
    with pytest.raises(ValueError, match=message):
        whitening.check(net, name, (9, 8, 3))
