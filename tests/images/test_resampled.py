"""Resampled images against Pillow and a float64 reference, and alike in whichever regions they are read."""

import functools

import numpy as np
import pytest
from PIL import Image

from cnn.images.errors import StorageError
from cnn.images.resampled import Resampled
from cnn.images.source import open_image

RNG = np.random.default_rng(3)
NOISE = RNG.integers(0, 256, (61, 83, 3), np.uint8)
EDGES = (RNG.integers(0, 2, (61, 83, 3)) * 255).astype(np.uint8)  # whose sums leave the range
SIZES = [(30, 41), (31, 83), (61, 20), (17, 90), (122, 166), (7, 5), (1, 1), (61, 84)]
BICUBIC = Image.Resampling.BICUBIC


class Wrapped:
    """An image with pixels that hold nothing."""

    def __init__(self, array, valid=None, facts=None):
        self.shape, self.dtype, self._array, self._valid = array.shape, array.dtype, array, valid
        self.facts = facts

    def read(self, y0, y1, x0, x1):
        return self._array[y0:y1, x0:x1]

    def valid(self, y0, y1, x0, x1):
        return None if self._valid is None else self._valid[y0:y1, x0:x1]


def by_pillow(image, size):
    """Pillow's, the width before the height."""
    height, width = size
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(image, -1, 0)]
    return np.stack([p.resize((width, p.height), BICUBIC).resize((width, height), BICUBIC) for p in planes], -1)


@functools.cache
def weights(size, wanted):
    """float64 [wanted, size]: each resampled pixel as a sum, written down again from the definition."""
    ratio = size / wanted
    wide, found = max(ratio, 1.0), np.zeros((wanted, size))
    for i in range(wanted):
        x = np.abs(np.arange(size) + 0.5 - (i + 0.5) * ratio) / wide
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        found[i] = np.select([x < 1, x < 2], [near, far])
    return found / found.sum(1, keepdims=True)


def by_definition(image, size):
    rows, columns = (weights(have, want) for have, want in zip(image.shape, size, strict=False))
    return np.einsum("ij,jkc,lk->ilc", rows, image.astype(np.float64), columns, optimize=True)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values(size):
    for image in (NOISE, EDGES):
        np.testing.assert_array_equal(Resampled(open_image(image), size)[:, :], by_pillow(image, size))
    for dtype in (np.float32, np.float64):
        expected = by_definition(NOISE / 255, size)
        found = Resampled(Wrapped((NOISE / 255).astype(dtype)), size)[:, :]
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7 if dtype == np.float32 else 1e-13)
    for image in (EDGES.astype(np.uint16) * 257, (EDGES.astype(np.int16) - 128) * 256, (EDGES - 128).astype(np.int8)):
        limits = np.iinfo(image.dtype)
        found = Resampled(Wrapped(image), size)[:, :]
        expected = np.clip(by_definition(image, size), limits.min, limits.max)
        assert found.dtype == image.dtype and np.abs(found - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    "image", [NOISE, (NOISE / 255).astype(np.float32), NOISE.astype(np.float16)], ids=lambda a: a.dtype.name
)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_pixel_is_the_same_to_the_bit_in_all_regions(size, image, monkeypatch):
    resampled = Resampled(Wrapped(image, np.random.default_rng(5).random(image.shape[:2]) < 0.999), size)
    whole, valid = resampled[:, :], resampled.valid[:, :]
    rng = np.random.default_rng(1)
    for step in range(6):
        monkeypatch.setattr("cnn.images.resampled.BLOCK_VALUES", 4 ** (step + 4))
        (y0, y1), (x0, x1) = (sorted(rng.choice(n + 1, 2, replace=False)) for n in size)
        np.testing.assert_array_equal(resampled[y0:y1, x0:x1], whole[y0:y1, x0:x1])
        np.testing.assert_array_equal(resampled.valid[y0:y1, x0:x1], valid[y0:y1, x0:x1])


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_pixel_holds_something_if_all_that_it_weighs_do(dtype):
    image, valid = NOISE.astype(dtype), np.random.default_rng(4).random(NOISE.shape[:2]) < 0.995
    image[~valid] = -9999
    for size in SIZES:
        rows, columns = (np.abs(weights(have, want)) > 1e-12 for have, want in zip(image.shape, size, strict=False))
        lacks = (
            np.einsum("ij,jk,lk->il", rows.astype(int), (~valid).astype(int), columns.astype(int), optimize=True) > 0
        )
        resampled = Resampled(Wrapped(image, valid), size, empty=-9999)
        np.testing.assert_array_equal(resampled.valid[:, :], ~lacks)
        found = resampled[:, :]
        assert (found[lacks] == -9999).all()
        expected = by_definition(np.where(valid[..., None], image, 0), size)[~lacks]
        np.testing.assert_allclose(found[~lacks], expected, rtol=0, atol=0.5 + 1e-4 if dtype == np.int16 else 1e-4)
    nan = np.where(valid[..., None], image, np.nan).astype(np.float32)
    np.testing.assert_array_equal(np.isnan(Resampled(Wrapped(nan), (30, 41))[:, :]).all(2), ~Resampled(
        Wrapped(image, valid), (30, 41)).valid[:, :])  # fmt: skip
    # What a mask hides is resampled like all else: a window that is only partly masked sees it.
    image, size = NOISE.astype(dtype), (30, 41)
    np.testing.assert_array_equal(Resampled(Wrapped(image, valid), size)[:, :], Resampled(Wrapped(image), size)[:, :])


def test_sources_at_a_scale():
    source = open_image(NOISE, scale=0.5)
    assert source.shape == (31, 42, 3) and source.dtype == np.uint8 and source.facts.levels == ((61, 83),)
    np.testing.assert_array_equal(source.read(0, 31, 0, 42), by_pillow(NOISE, (31, 42)))
    np.testing.assert_array_equal(source.read(-2, 5, 40, 45)[2:, :2], by_pillow(NOISE, (31, 42))[:5, 40:])
    assert source.facts.chosen["scale"] == (31 / 61, 42 / 83) and open_image(NOISE, scale=1).array is NOISE
    twice = open_image(open_image(NOISE), scale=2.0)
    np.testing.assert_array_equal(twice.read(0, 122, 0, 166), by_pillow(NOISE, (122, 166)))


def test_the_nearest_level_that_is_as_fine_is_read(tmp_path):
    """A pyramid whose levels are all of one value, which says from which of them a pixel comes."""
    zarr = pytest.importorskip("zarr", reason="python -m pip install -r requirements-checks.txt")
    group = zarr.create_group(tmp_path / "a.zarr")
    datasets = []
    for level in range(3):
        group.create_array(str(level), data=np.full((64 >> level, 96 >> level), level, np.uint8))
        scale = [0.5 * 2**level, 0.25 * 2**level]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    for scale, level, shape in (
        (1, 0, (64, 96)),
        (0.6, 0, (38, 58)),
        (0.5, 1, (32, 48)),
        (0.4, 1, (26, 38)),
        (0.1, 2, (6, 10)),
    ):
        source = open_image(tmp_path / "a.zarr", scale=scale)
        assert source.shape[:2] == shape and source.facts.chosen["level"] == level
        assert (source.read(0, shape[0], 0, shape[1]) == level).all()
        np.testing.assert_allclose(source.facts.spacing[:2], [0.5 * 64 / shape[0], 0.25 * 96 / shape[1]])
    source = open_image(tmp_path / "a.zarr", spacing=1)
    assert source.shape[:2] == (32, 24) and source.facts.spacing[:2] == (1, 1) and source.facts.chosen["level"] == 1
    source = open_image(tmp_path / "a.zarr", level=1, scale=0.25)
    assert source.shape[:2] == (8, 12) and (source.read(0, 8, 0, 12) == 1).all()
    with pytest.raises(StorageError, match="a.zarr: scale .=0.1. and spacing .=1. say the same twice"):
        open_image(tmp_path / "a.zarr", scale=0.1, spacing=1)


def test_coordinates_move_along(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="python -m pip install -r requirements-images.txt")
    place = rasterio.Affine(10.0, 1.0, 500_000.0, 2.0, -20.0, 4_000_000.0)
    shape = dict(height=61, width=83, count=3, dtype="uint8", crs="EPSG:32618", transform=place)
    with rasterio.open(tmp_path / "a.img", "w", driver="HFA", **shape) as file:
        file.write(np.moveaxis(NOISE, 2, 0))
    source = open_image(tmp_path / "a.img", spacing=40)
    height, width, _ = source.shape
    found = rasterio.Affine(*source.facts.georeference.transform)
    for corner in ((0, 0), (width, 0), (width, height), (0, height)):
        same = (corner[0] * 83 / width, corner[1] * 61 / height)
        np.testing.assert_allclose(found @ corner, place @ same, rtol=1e-14)
    np.testing.assert_allclose(source.facts.spacing[:2], 40, rtol=0.03)


def test_errors():
    for scale in (0, -1, float("nan"), "x", True):
        with pytest.raises(StorageError, match=r"scale \(=.*\) must be a number above 0"):
            open_image(NOISE, scale=scale)
    assert open_image(NOISE, scale=np.float32(0.5)).shape == open_image(NOISE, scale=0.5).shape
    with pytest.raises(StorageError, match="is 61000000x83000000; a side has at most 16,777,216 pixels"):
        open_image(NOISE, scale=10**6)
    with pytest.raises(StorageError, match="61x83 at a scale of 0.001 x 0.001 has no pixel"):
        open_image(NOISE, scale=0.001)
    with pytest.raises(
        StorageError, match="does not say how large its pixels are, which spacing .=2. needs; give scale="
    ):
        open_image(NOISE, spacing=2)
