"""Ranges of pixel values: which value is 0 and which is 1, by value against NumPy in float64, for every dtype."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnn import data
from cnn.data import DataError
from cnn.images import ranges, whole
from cnn.images.errors import StorageError
from cnn.images.source import open_image

SMALL, WIDE = ("uint8", "int8", "uint16", "int16"), ("uint32", "int32", "uint64", "int64")
FLOATS = ("float16", "float32", "float64", "bfloat16")
RNG = np.random.default_rng(0)


def pixels_of(dtype, shape=(9, 7, 2)):
    """Both ends of an integer dtype, and values between; fractions of a floating one."""
    if jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
        return RNG.random(shape).astype(jnp.dtype(dtype))
    limits = np.iinfo(dtype)
    pixels = RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    pixels[0, 0], pixels[0, 1] = limits.min, limits.max
    return pixels


@pytest.mark.parametrize("dtype", [*SMALL, *WIDE, *FLOATS])
def test_every_dtype_is_read_as_it_is_or_as_fractions_of_its_range(dtype):
    pixels = pixels_of(dtype)
    source = open_image(pixels)
    region = source.read(-1, 9, 0, 8)
    inside = region[1:, :7]
    assert not region[0].any() and not region[:, 7].any() and region.dtype == source.dtype
    if dtype in WIDE:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        assert source.value_range == (float(low), float(high)) and source.dtype == np.float32
        expected = ((pixels.astype(np.float64) - low) / (float(high) - low)).astype(np.float32)
        np.testing.assert_array_equal(inside, expected)
        assert inside.min() == 0 and inside.max() == 1
    else:
        assert source.dtype == (np.float32 if dtype == "float64" else pixels.dtype)
        np.testing.assert_array_equal(inside, pixels.astype(source.dtype))
        assert source.value_range == ranges.of_dtype(pixels.dtype)
    # As a whole, for a prediction: bytes, or fractions of the range.
    seen = whole.read_whole(pixels)
    assert seen.dtype == (np.uint8 if dtype == "uint8" else np.float32)
    if dtype in ("uint16", "int16", "int8"):
        low = np.iinfo(dtype).min
        expected = (pixels.astype(np.float64) - low) / (np.iinfo(dtype).max - low)
        np.testing.assert_array_equal(seen, expected.astype(np.float32))


@pytest.mark.parametrize(
    "dtype, low, high",
    [("uint16", 0, 4095), ("int16", -1024, 3071), ("uint8", 10, 200), ("float32", -5, 20), ("uint32", 100, 70000)],
)
def test_a_range_that_is_said(dtype, low, high):
    pixels = RNG.integers(max(low - 40, 0 if dtype[0] == "u" else low - 40), high + 50, (8, 9, 3)).astype(dtype)
    source = open_image(pixels, value_range=(low, high))
    assert source.value_range == (low, high) and source.said
    expected = np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1)
    np.testing.assert_array_equal(whole.read_whole(pixels, value_range=(low, high)), expected.astype(np.float32))
    as_bytes = whole.read_bytes(pixels, value_range=(low, high))
    # Half a step where the fraction was rounded to float32 before.
    assert as_bytes.dtype == np.uint8 and np.abs(as_bytes - expected * 255).max() <= 0.5 + 1e-4
    np.testing.assert_array_equal(open_image(source).read(0, 8, 0, 9), source.read(0, 8, 0, 9))
    again = open_image(open_image(pixels), value_range=[low, high])  # an open one may be given a range
    np.testing.assert_array_equal(again.read(0, 8, 0, 9), source.read(0, 8, 0, 9))


def test_bytes_of_the_full_range_stay_bytes():
    pixels = pixels_of("uint8")
    for value_range in (None, (0, 255)):
        assert np.array_equal(whole.read_whole(pixels, value_range=value_range), pixels)
        assert np.array_equal(whole.read_bytes(pixels, value_range=value_range), pixels)
    deep = pixels_of("uint16", (50, 40, 1))
    assert np.array_equal(whole.read_bytes(deep), np.round(deep / 257.0))  # 65535 / 257 = 255


def test_floating_pixels_that_cannot_be_fractions_are_refused():
    for pixels in (np.full((2, 2), 200.0), np.full((2, 2), -3.0, np.float32)):
        for read in (whole.read_whole, whole.read_bytes):
            with pytest.raises(StorageError, match=r"pixels are (200 to 200|-3 to -3).*say which values are 0 and 1"):
                read(pixels)
    overshot = np.array([[-0.2, 1.3], [0.5, np.nan]], np.float32)
    np.testing.assert_array_equal(whole.read_whole(overshot)[..., 0], overshot)
    with pytest.raises(DataError, match="NaN, which 8 bits"):
        whole.read_bytes(overshot)
    assert whole.read_bytes(overshot[:1])[..., 0].tolist() == [[0, 255]]


def test_ranges_that_are_none_are_refused():
    for wrong in ((1, 1), (5, 2), (1,), (0, np.nan), "ab", (0, np.inf)):
        with pytest.raises(StorageError, match=r"must be two numbers, the lower first, such as 0,4095"):
            open_image(pixels_of("uint16"), value_range=wrong)
    with pytest.raises(StorageError, match=r"range 0 to 4095 is beyond what its uint8 pixels hold, 0 to 255"):
        open_image(pixels_of("uint8"), value_range=(0, 4095))
    for wrong in ((1, 1), (0, 1, 2), "0,1", 7):
        with pytest.raises(DataError, match=r"data.value_range \(=.*two numbers \(low, high\)"):
            data.load("digits", value_range=wrong)
    with pytest.raises(DataError, match=r"data.channels \(=\(-1,\)\) must be numbers from 0 or names"):
        data.load("digits", channels=(-1,))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "float32", "int32"])
def test_large_images_are_scaled_like_small_ones(dtype):
    """By a table or in parts, pixel by pixel as in float64."""
    pixels = pixels_of(dtype, (270, 250, 3)) if dtype == "float32" else pixels_of(dtype, (270, 250, 3)) // 2
    low, high = -90.0 if dtype[0] != "u" else 100.0, 100.0 if dtype == "int8" else 29000.0
    expected = np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1)
    np.testing.assert_array_equal(ranges.fractions(pixels, (low, high)), expected.astype(np.float32))
    found = ranges.eight_bits(pixels, (low, high))
    assert found.dtype == np.uint8 and np.abs(found - expected * 255).max() <= 0.5 + 1e-9
