"""Augmentations by value, against slow NumPy versions that are told what was drawn."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.data import augment
from tests.helpers import PROGRAMS, run_python


def pictures(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random(shape, np.float32))


@pytest.fixture
def images():
    return pictures((6, 9, 7, 3))


def each(key, images):
    """(an example's own key, the example), as the module promises to split them."""
    return zip(jax.random.split(key, len(images)), images, strict=True)


@pytest.mark.parametrize("mode, numpy_mode", [("zero", "constant"), ("reflect", "reflect"), ("edge", "edge")])
@pytest.mark.parametrize("padding", [0, 3])
def test_pad_and_crop_is_some_crop_of_the_padded_image(images, padding, mode, numpy_mode):
    got = jax.jit(augment.pad_and_crop, static_argnums=(2, 3))(jax.random.key(1), images, padding, mode)
    _, h, w, _ = images.shape
    places = range(2 * padding + 1)
    for image, result in zip(np.asarray(images), np.asarray(got), strict=True):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode=numpy_mode)
        assert any(np.array_equal(result, padded[y : y + h, x : x + w]) for y in places for x in places)


def test_pad_and_crop_takes_every_offset_equally_often():
    # One bright pixel in the middle tells where the crop was taken.
    images = jnp.zeros((4500, 5, 5, 1)).at[:, 2, 2].set(1)
    got = np.asarray(augment.pad_and_crop(jax.random.key(0), images, 1))
    counts = got.sum(axis=(0, 3))[1:4, 1:4]
    assert counts.sum() == 4500
    assert counts.min() > 500 - 5 * 500**0.5 and counts.max() < 500 + 5 * 500**0.5


def test_flip_is_the_mirror_or_the_image_half_and_half(images):
    got = np.asarray(jax.jit(augment.flip)(jax.random.key(2), images))
    for image, result in zip(np.asarray(images), got, strict=True):
        assert np.array_equal(result, image) or np.array_equal(result, image[:, ::-1])
    many = jnp.tile(jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1), (2000, 1, 1, 1))
    assert abs(np.asarray(augment.flip(jax.random.key(0), many))[:, 0, 0, 0].mean() - 0.5) < 0.05


def test_each_image_is_mirrored_in_every_other_epoch():
    key, many = jax.random.key(7), np.random.default_rng(0).integers(0, 256, (2000, 4, 5, 3), np.uint8)
    seen = []
    for epoch in range(3):
        got = np.asarray(jax.jit(augment.in_turn)(key, many, np.full(2000, epoch, np.int32)))
        mirrored = (got == many[:, :, ::-1]).all(axis=(1, 2, 3))
        assert (mirrored != (got == many).all(axis=(1, 2, 3))).all()
        seen.append(mirrored)
    assert (seen[0] != seen[1]).all() and (seen[0] == seen[2]).all()
    assert abs(seen[0].mean() - 0.5) < 0.05
    each = np.arange(2000, dtype=np.int32)  # every image in an epoch of its own, wherever it is in the batch
    got = np.asarray(augment.in_turn(key, many[::-1], each[::-1]))[::-1]
    mirrored = (got == many[:, :, ::-1]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(mirrored, seen[0] ^ (each % 2 == 1))
    other = np.asarray(augment.in_turn(jax.random.key(8), many, np.zeros(2000, np.int32)))
    same = (other == many[:, :, ::-1]).all(axis=(1, 2, 3)) == seen[0]
    assert abs(same.mean() - 0.5) < 0.05, "another run begins with other images"


def test_mixup_is_a_blend_with_the_image_at_the_mirrored_place(images):
    mixed, own = jax.jit(augment.mixup, static_argnums=2)(jax.random.key(1), images, 0.3)
    pixels, parts = np.asarray(images), np.asarray(own)
    assert parts.min() >= 0.5 and len(set(parts.tolist())) == len(parts)
    for i, part in enumerate(parts):
        np.testing.assert_allclose(mixed[i], part * pixels[i] + (1 - part) * pixels[-1 - i], rtol=1e-5)
    many, rng = jnp.zeros((20_000, 1, 1, 1)), np.random.default_rng(0)
    for alpha in (1.0, 0.2):
        _, own = augment.mixup(jax.random.key(2), many, alpha)
        drawn, quantiles = rng.beta(alpha, alpha, 10**6), np.linspace(0.05, 0.95, 10)
        expected = np.quantile(np.maximum(drawn, 1 - drawn), quantiles)
        np.testing.assert_allclose(np.quantile(own, quantiles), expected, atol=0.01)


def test_colour_noise_is_one_colour_for_an_image_of_the_covariance_that_is_published(images):
    got = np.asarray(jax.jit(augment.colour_noise, static_argnums=2)(jax.random.key(5), images, 0.1))
    added = got - np.asarray(images)
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1], added.shape), atol=1e-6)
    many = jnp.zeros((20_000, 1, 1, 3))
    found = np.cov(np.asarray(augment.colour_noise(jax.random.key(0), many, 2.0)).reshape(-1, 3).T)
    colours = np.array(augment.PRINCIPAL_COLOURS)
    np.testing.assert_allclose(colours.T @ colours, np.eye(3), atol=1e-3)
    expected = 4 * colours @ np.diag(np.square(augment.PRINCIPAL_DEVIATIONS)) @ colours.T
    np.testing.assert_allclose(found, expected, rtol=0.06)
    with pytest.raises(ValueError, match=r"deviation \(=-0.1\) must be at least 0"):
        augment.colour_noise(jax.random.key(0), images, -0.1)
    with pytest.raises(ValueError, match="colour_noise is for RGB images, not for 1 channels"):
        augment.augment(jax.random.key(0), images[..., :1], colour_noise=0.1)


def test_colour_noise_leaves_what_the_others_draw_as_it_was(images):
    key, others = jax.random.key(3), {"flip": True, "pad": 2, "brightness": 0.2}
    plain = augment.augment(key, images, **others)
    noisy = augment.augment(key, images, **others, colour_noise=0.1)
    added = np.asarray(noisy - plain)
    assert np.abs(added).max() > 1e-3
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1], added.shape), atol=1e-6)


def zoom_matrix(size, scale, translation):
    """float64 [size, size]: bilinear weights of input pixels (columns) in output pixels (rows)."""
    matrix = np.zeros((size, size))
    reach = max(1.0, 1 / scale)  # wider where it shrinks: antialiasing
    for out in range(size):
        centre = (out + 0.5 - translation) / scale - 0.5  # in input pixels
        if -0.5 <= centre <= size - 0.5:
            weights = [max(0.0, 1 - abs(centre - i) / reach) for i in range(size)]
            matrix[out] = np.array(weights) / sum(weights)
    return matrix


@pytest.mark.parametrize("low, high", [(0.5, 0.9), (1.0, 1.0), (1.1, 2.0), (0.6, 1.6)])
def test_scale_jitter_against_numpy(images, low, high):
    key = jax.random.key(3)
    got = np.asarray(jax.jit(augment.scale_jitter, static_argnums=(2, 3))(key, images, low, high))
    _, h, w, _ = images.shape
    scales = []
    for (own, image), result in zip(each(key, np.asarray(images)), got, strict=True):
        scale_key, point_key = jax.random.split(own)
        scale = float(jax.random.uniform(scale_key, (), minval=low, maxval=high))
        y, x = np.asarray(jax.random.uniform(point_key, (2,)), np.float64) * (h, w)
        rows, columns = zoom_matrix(h, scale, (1 - scale) * y), zoom_matrix(w, scale, (1 - scale) * x)
        np.testing.assert_allclose(result, np.einsum("yh,hwc,xw->yxc", rows, image, columns), atol=2e-5)
        scales.append(scale)
    assert low <= min(scales) and max(scales) <= high


def test_scale_jitter_keeps_a_shrunken_image_whole_on_zeros():
    images = np.ones((8, 20, 20, 1), np.float32)
    got = np.asarray(jax.jit(lambda k, x: augment.scale_jitter(k, x, 0.5, 0.5))(jax.random.key(0), images))
    np.testing.assert_allclose(got.sum(axis=(1, 2, 3)), 100, rtol=0.11)  # 10x10 of 20x20, to a pixel's edge
    assert got.min() == 0 and got.max() <= 1 + 1e-6


@pytest.mark.parametrize("brightness, contrast", [(0.2, 0.0), (0.0, 0.4), (0.3, 1.0)])
def test_brightness_contrast_against_numpy(images, brightness, contrast):
    key = jax.random.key(4)
    change = jax.jit(augment.brightness_contrast, static_argnums=(2, 3))
    got = np.asarray(change(key, images, brightness, contrast))
    for (own, image), result in zip(each(key, np.asarray(images)), got, strict=True):
        shift_key, factor_key = jax.random.split(own)
        shift = float(jax.random.uniform(shift_key, (), minval=-brightness, maxval=brightness))
        factor = float(jax.random.uniform(factor_key, (), minval=1 - contrast, maxval=1 + contrast))
        assert abs(shift) <= brightness and abs(factor - 1) <= contrast
        mean = image.astype(np.float64).mean()
        np.testing.assert_allclose(result, np.clip((image - mean) * factor + mean + shift, 0, 1), atol=1e-6)


def test_augment_does_nothing_by_default(images):
    got = jax.jit(augment.augment)(jax.random.key(0), images)
    assert np.array_equal(got, images)


ALL: dict[str, Any] = {
    "pad": 2,
    "pad_mode": "reflect",
    "flip": True,
    "scale": (0.8, 1.2),
    "brightness": 0.1,
    "contrast": 0.2,
}


@pytest.mark.slow
def test_augment_composes_the_steps_in_order():
    key, images = jax.random.key(5), pictures((6, 9, 7, 1))

    @jax.jit
    def by_hand(key, images):
        keys = jax.random.split(key, 4)
        images = augment.scale_jitter(keys[0], images, 0.8, 1.2)
        images = augment.flip(keys[1], images)
        images = augment.pad_and_crop(keys[2], images, 2, "reflect")
        return augment.brightness_contrast(keys[3], images, 0.1, 0.2)

    everything = by_hand(key, images)
    run = jax.jit(augment.augment, static_argnames=tuple(ALL))
    assert np.array_equal(run(key, images, **ALL), everything)
    # Switching the others off leaves what flip draws as it was.
    assert np.array_equal(run(key, images, flip=True), augment.flip(jax.random.split(key, 4)[1], images))


def test_augment_is_a_pure_function_of_its_key():
    images = pictures((16, 8, 8, 3))
    run = jax.jit(lambda key, images: augment.augment(key, images, **ALL))
    first = np.asarray(run(jax.random.key(0), images))
    assert first.dtype == np.float32 and first.shape == images.shape
    assert first.min() >= 0 and first.max() <= 1
    assert np.array_equal(first, run(jax.random.key(0), images))
    assert not np.array_equal(first, run(jax.random.key(1), images))
    # An example depends on its key and itself alone, not on its neighbours.
    changed = images.at[:7].set(0)
    assert np.array_equal(first[7:], run(jax.random.key(0), changed)[7:])


@pytest.mark.slow
def test_augment_does_not_depend_on_the_number_of_devices():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = run_python(PROGRAMS / "augment_on_two_devices.py", **flags)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda k, x: augment.pad_and_crop(k, x, -1), r"padding \(=-1\) must be at least 0"),
        (
            lambda k, x: augment.pad_and_crop(k, x, 1, "wrap"),
            r"mode \(='wrap'\) must be one of zero, reflect, edge",
        ),
        (lambda k, x: augment.pad_and_crop(k, x, 7, "reflect"), r"not 9x7; a padding of at most 6"),
        (lambda k, x: augment.scale_jitter(k, x, 0.0, 1.0), r"low \(=0.0\) must be above 0"),
        (lambda k, x: augment.scale_jitter(k, x, 1.2, 0.8), r"low \(=1.2\) .* at most high \(=0.8\)"),
        (lambda k, x: augment.brightness_contrast(k, x, -0.1, 0.0), r"brightness \(=-0.1\)"),
        (lambda k, x: augment.brightness_contrast(k, x, 0.0, 1.5), r"contrast \(=1.5\) must be in \[0, 1\]"),
        (lambda k, x: augment.augment(k, x, pad=-2), r"padding \(=-2\)"),
    ],
)
def test_errors_name_the_field_and_the_numbers(call, message):
    with pytest.raises(ValueError, match=message):
        call(jax.random.key(0), pictures((2, 9, 7, 1)))


@pytest.mark.slow
def test_shift_out_of_window_by_value():
    """Each moved image is the original shifted, zeros behind it, by at least a third of the window along one axis."""
    images = jax.random.uniform(jax.random.key(0), (64, 9, 12, 2), minval=0.1)
    moved, missed = jax.jit(augment.shift_out_of_window, static_argnums=2)(jax.random.key(1), images, 0.5)
    assert 16 < missed.sum() < 48  # binomial(64, 1/2): outside has a probability below 1e-4
    for before, after, is_moved in zip(np.asarray(images), np.asarray(moved), np.asarray(missed), strict=True):
        if not is_moved:
            np.testing.assert_array_equal(after, before)
            continue
        padded = np.pad(before, ((9, 9), (12, 12), (0, 0)))
        places = [
            (y, x)
            for y in range(-9, 10)
            for x in range(-12, 13)
            if (abs(y) >= 3 or abs(x) >= 4) and np.array_equal(padded[9 + y : 18 + y, 12 + x : 24 + x], after)
        ]
        assert places
        assert after.any() == any(abs(y) < 9 and abs(x) < 12 for y, x in places)
    same, none = augment.shift_out_of_window(jax.random.key(1), images, 0.0)
    np.testing.assert_array_equal(same, images)
    assert not none.any()
    with pytest.raises(ValueError, match=r"fraction \(=1.5\) must be between 0 and 1"):
        augment.shift_out_of_window(jax.random.key(1), images, 1.5)
