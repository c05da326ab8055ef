"""Data sets by value: digits and fake; the fields of `load`; the stream of batches; normalisation."""

import collections
from typing import Any

import jax
import numpy as np
import pytest

from cnn import data
from cnn.data import order, pixel_statistics
from tests.reference.datasets import check_dataset, rows

# digits


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", image_size=8)  # their own size: pixels are what scikit-learn has


def test_digits_are_each_in_exactly_one_split(digits):
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    original = np.round(bunch.images * 255 / 16).astype(np.uint8)[..., None]
    parts = [digits.train, digits.validation, digits.test]
    assert [len(p.labels) for p in parts] == [1294, 144, 359]  # 1,797; 20 % for test, then 10 % of the rest
    together = data.Split(*(np.concatenate(field) for field in zip(*parts, strict=True)))
    assert rows(together) == rows(data.Split(original, bunch.target.astype(np.int32)))
    assert digits.class_names == tuple("0123456789") and digits.num_classes == 10
    assert digits.image_shape == (8, 8, 1)
    check_dataset(digits)


def test_digits_splits_are_stratified_and_do_not_move(digits):
    whole = np.bincount(np.concatenate([digits.train.labels, digits.validation.labels, digits.test.labels]))
    assert np.abs(np.bincount(digits.test.labels) - 0.2 * whole).max() <= 1
    assert np.abs(np.bincount(digits.validation.labels) - 0.08 * whole).max() <= 1
    # Frozen: a change here makes every reported number another number.
    assert int(digits.test.images.astype(np.int64).sum()) == 1_776_234
    assert digits.test.labels[:12].tolist() == [4, 5, 6, 9, 4, 7, 8, 9, 9, 6, 9, 9]
    other = data.load("digits", image_size=8, validation_fraction=0.3)
    assert np.array_equal(other.test.images, digits.test.images)


def test_digits_are_enlarged_to_32_pixels_by_default(digits):
    large = data.load("digits")
    assert large.image_shape == (32, 32, 1)
    assert np.array_equal(large.train.labels, digits.train.labels)
    # Each 4x4 block has about the mean of the pixel that it came from.
    blocks = large.train.images.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    assert np.abs(blocks - digits.train.images[..., 0]).mean() < 12
    assert large.train.images.min() == 0 and large.train.images.max() == 255
    check_dataset(large)


def test_loading_twice_gives_the_same_bits():
    first, second = data.load("digits"), data.load("digits")
    assert first.mean == second.mean and first.std == second.std
    for split in ("train", "validation", "test"):
        for a, b in zip(getattr(first, split), getattr(second, split), strict=True):
            assert np.array_equal(a, b)


# fields


def test_validation_fraction_zero_holds_nothing_out(digits):
    whole = data.load("digits", image_size=8, validation_fraction=0)
    assert len(whole.train.labels) == 1438
    assert whole.validation.images.shape == (0, 8, 8, 1) and whole.validation.labels.shape == (0,)
    both = data.Split(*(np.concatenate(x) for x in zip(digits.train, digits.validation, strict=True)))
    assert rows(whole.train) == rows(both)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2, float("nan")])
def test_validation_fraction_out_of_range(fraction):
    with pytest.raises(data.DataError, match=rf"data.validation_fraction \(={fraction}\) must be at least 0"):
        data.load("digits", validation_fraction=fraction)


def test_image_size_out_of_range():
    with pytest.raises(
        data.DataError,
        match=r"data.image_size \(=0\) must be a whole number of pixels from 1 to 2,147,483,647, or None",
    ):
        data.load("fake", image_size=0)


@pytest.mark.parametrize("name", ["digits", "fake"])
def test_images_that_do_not_fit_in_memory_are_refused_before_they_are_made(name):
    with pytest.raises(data.DataError, match=r"images of 100000x100000x\d need .* GiB of memory.*data.image_size of"):
        data.load(name, image_size=100_000)


def test_train_examples_are_some_of_the_training_examples(digits):
    parts = {count: data.load("digits", image_size=8, train_examples=count) for count in (40, 100, 1294)}
    for count, part in parts.items():
        assert len(part.train.labels) == count
        wanted = count / 1294 * np.bincount(digits.train.labels)
        assert np.abs(np.bincount(part.train.labels, minlength=10) - wanted).max() <= 1
        for split in ("validation", "test"):  # as ever
            assert np.array_equal(getattr(part, split).images, getattr(digits, split).images)
        check_dataset(part)  # mean and std are those of these examples
    few, more, everything = (collections.Counter(rows(part.train)) for part in parts.values())
    assert few <= more <= everything
    assert parts[40].mean != digits.mean
    # All of them: the same bits as without the field.
    assert np.array_equal(parts[1294].train.images, digits.train.images) and parts[1294].mean == digits.mean
    # Frozen: a change here makes every reported number another number.
    assert parts[40].train.labels[:12].tolist() == [1, 1, 0, 4, 2, 2, 8, 9, 5, 4, 8, 5]
    assert int(parts[40].train.images.astype(np.int64).sum()) == 202_661


@pytest.mark.parametrize("count", [0, -1])
def test_train_examples_out_of_range(count):
    with pytest.raises(
        data.DataError, match=rf"data.train_examples \(={count}\) must be a whole number from 1 to .*, or None"
    ):
        data.load("fake", train_examples=count)


def test_more_train_examples_than_there_are():
    message = r"data.train_examples \(=577\) is more than the 576 training .*'fake' at this data.validation_fraction"
    with pytest.raises(data.DataError, match=message):
        data.load("fake", train_examples=577)
    assert len(data.load("fake", train_examples=577, validation_fraction=0.0).train.labels) == 577


# fake


def test_fake_is_small_balanced_and_learnable():
    fake = data.load("fake")
    assert fake.image_shape == (32, 32, 3) and fake.num_classes == 10
    assert [len(s.labels) for s in (fake.train, fake.validation, fake.test)] == [576, 64, 160]
    assert np.bincount(fake.test.labels).tolist() == [16] * 10
    check_dataset(fake)
    means = np.stack([fake.train.images[fake.train.labels == k].mean(axis=0) for k in range(10)])
    distances = ((fake.test.images[:, None] - means[None]) ** 2).sum(axis=(2, 3, 4))
    assert (distances.argmin(axis=1) == fake.test.labels).mean() == 1  # the nearest class mean is enough
    assert data.load("fake", image_size=7).image_shape == (7, 7, 3)


# batches


def test_batch_indices_are_a_pure_function_of_seed_and_step():
    fields = dict(batch_size=7, num_examples=50)
    stream = data.batch_indices(3, 0, steps=60, **fields)
    assert stream.shape == (60, 7) and stream.dtype == np.int32
    for step, steps in [(0, 1), (0, 60), (6, 3), (7, 1), (13, 40), (59, 1), (7, 8)]:
        order.permutation.cache_clear()
        assert np.array_equal(data.batch_indices(3, step, steps=steps, **fields), stream[step : step + steps])
    assert not np.array_equal(data.batch_indices(4, 0, steps=60, **fields), stream)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 64, 130])
def test_batch_indices_see_every_example_once_an_epoch(batch_size):
    stream = data.batch_indices(0, 0, batch_size=batch_size, num_examples=50, steps=200).reshape(-1)
    epochs = stream[: len(stream) // 50 * 50].reshape(-1, 50)
    assert np.array_equal(np.sort(epochs, axis=1), np.tile(np.arange(50), (len(epochs), 1)))
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)  # each epoch in another order


def test_batch_indices_far_into_a_run_do_not_overflow():
    indices = data.batch_indices(0, 10**9, batch_size=4096, num_examples=50000)
    assert indices.shape == (1, 4096) and indices.min() >= 0 and indices.max() < 50000


def test_batch_indices_may_be_written_to():
    fields = dict(batch_size=50, num_examples=50)
    before = data.batch_indices(0, 0, **fields).copy()
    data.batch_indices(0, 0, **fields)[:] = 0
    assert np.array_equal(data.batch_indices(0, 0, **fields), before)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((-1, 0, 1, 1, 1), r"seed \(=-1\)"),
        ((0, -2, 1, 1, 1), r"step \(=-2\)"),
        ((0, 0, 0, 1, 1), r"batch_size \(=0\)"),
        ((0, 0, 1, 0, 1), r"num_examples \(=0\)"),
        ((0, 0, 1, 1, 0), r"steps \(=0\)"),
    ],
)
def test_batch_indices_errors(arguments, message):
    seed, step, batch_size, num_examples, steps = arguments
    with pytest.raises(ValueError, match=message):
        data.batch_indices(seed, step, batch_size=batch_size, num_examples=num_examples, steps=steps)


# normalisation


def test_normalise_against_numpy():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    want = (pixels / 255.0 - np.array(mean)) / np.array(std)
    for form in (pixels, (pixels / 255).astype(np.float32)):
        got = jax.jit(data.normalise)(form, mean, std)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=2e-6)
    np.testing.assert_allclose(data.normalise(pixels[0], mean, std), want[0], atol=2e-6)  # a single image


def test_normalised_training_images_have_mean_0_and_deviation_1(digits):
    got = np.asarray(data.normalise(digits.train.images, digits.mean, digits.std), np.float64)
    assert abs(got.mean()) < 1e-5 and abs(got.std() - 1) < 1e-5


def test_a_channel_that_never_varies_is_normalised_to_zero():
    same = np.full((4, 8, 8, 2), 51, np.uint8)
    mean, std = pixel_statistics.channel_statistics(same)
    assert std == (1.0, 1.0)
    np.testing.assert_allclose(data.normalise(same, mean, std), 0, atol=1e-7)


def test_normalise_errors():
    with pytest.raises(TypeError, match="images are int32; give uint8, or floating point"):
        data.normalise(np.zeros((1, 2, 2, 1), np.int32), (0.5,), (1.0,))
    with pytest.raises(ValueError, match=r"mean has shape \(3,\), images have 1 channels"):
        data.normalise(np.zeros((1, 2, 2, 1), np.uint8), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    images = np.full((1, 2, 2, 3), 51, np.uint8)
    for mean, std, message in (
        (0.5, 0.0, r"std \(=0.0\) must be finite above 0"),
        ((0.5, 0.5, 0.5), (0.1, np.nan, 0.1), "std .* must be finite"),
        (np.inf, 0.1, "mean .* must be finite"),
        (128, 64, r"mean \(=128.0\) is a fraction of the full range .* divide one of bytes by 255"),
    ):
        with pytest.raises(ValueError, match=message):
            data.normalise(images, mean, std)
    np.testing.assert_allclose(data.normalise(images, 0.1, 0.5), 0.2, atol=1e-6)  # one number for all channels
