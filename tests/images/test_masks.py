"""Which pixels hold something: masks of any size, no-data values as rasterio has them, and what is refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cnn.images.errors import StorageError
from cnn.images.facts import Facts
from cnn.images.source import Source, open_image
from tests.made import make_zarr

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 4, (50, 41, 2), np.uint8)


def assert_valid(source, expected, **options):
    """By value, in regions inside, across borders and outside."""
    padded = np.pad(expected, 10)
    for y0, y1, x0, x1 in [(0, 50, 0, 41), (-5, 55, -7, 45), (7, 8, 30, 31), (-6, -2, 0, 5), (20, 20, 3, 9)]:
        found = source.valid(y0, y1, x0, x1, **options)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, padded[y0 + 10 : y1 + 10, x0 + 10 : x1 + 10])


def test_a_mask_is_an_array_or_any_file(tmp_path):
    mask = RNG.random((50, 41)) > 0.3
    np.save(tmp_path / "m.npy", mask)
    Image.fromarray(mask.astype(np.uint8) * 7).save(tmp_path / "m.png")
    make_zarr(tmp_path / "m.zarr", mask.astype(np.uint8)[..., None], chunk=(16, 20, 1))
    for what in (mask, mask.astype(np.float32), *(str(tmp_path / f"m.{kind}") for kind in ("npy", "png", "zarr"))):
        source = open_image(PIXELS, mask=what)
        assert_valid(source, mask)
        assert source.mask_path == (what if isinstance(what, str) else None)
    assert open_image(PIXELS).valid(0, 5, 0, 5) is None


def test_what_holds_nothing_in_a_mask_does_not_count(tmp_path):
    """Transparent pixels, which pictures lay over white, NaN, and the mask's own no-data value."""
    mask = RNG.random((50, 41)) > 0.3
    for mode, bands in (("LA", 2), ("RGBA", 4)):
        Image.fromarray(mask[..., None].repeat(bands, 2).astype(np.uint8) * 255, mode).save(tmp_path / f"{mode}.png")
        assert_valid(open_image(PIXELS, mask=tmp_path / f"{mode}.png"), mask)
    assert_valid(open_image(PIXELS, mask=np.where(mask, 1, np.nan)), mask)
    nodata = [(42113, 2, 0, "255", True)]
    tifffile.imwrite(tmp_path / "m.tif", np.where(mask, 1, 255).astype(np.uint8), extratags=nodata, metadata=None)
    assert_valid(open_image(PIXELS, mask=tmp_path / "m.tif"), mask)
    assert_valid(open_image(PIXELS, mask=open_image(tmp_path / "m.tif")), mask)


def test_a_damaged_mask_is_named(tmp_path):
    make_zarr(tmp_path / "m.zarr", np.ones((50, 41, 1), np.uint8), chunk=(16, 20, 1))
    source = open_image(PIXELS, mask=tmp_path / "m.zarr")
    (tmp_path / "m.zarr" / "c" / "1" / "0" / "0").write_bytes(b"x")
    with pytest.raises(
        StorageError, match=r"m\.zarr: rows 0 to 50, columns 0 to 41 cannot be read: .*copy of the mask"
    ):
        source.valid(0, 50, 0, 41)


@pytest.mark.parametrize("factor", [2, 4, 0.5, 1 / 3])
@pytest.mark.parametrize("rounded", [np.floor, np.ceil])
def test_a_mask_of_another_level_is_its_nearest_pixel(factor, rounded):
    size = [int(rounded(n / factor)) for n in (50, 41)]
    mask = RNG.random(size) > 0.4
    rows, columns = (np.floor((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip((50, 41), size, strict=True))
    assert_valid(open_image(PIXELS, mask=mask), mask[rows][:, columns])


def test_a_value_without_data_is_a_number():
    with pytest.raises(StorageError, match="nodata .='x'. must be a number, such as 0, or nan"):
        open_image(PIXELS, nodata="x")


def test_masks_that_do_not_fit():
    for shape in ((49, 41), (50, 42), (41, 50), (25, 25), (5, 41), (0, 0), (50, 20)):
        with pytest.raises(
            StorageError, match=r"the mask is .* pixels, its image .* 50x41; a mask has the image's size"
        ):
            open_image(PIXELS, mask=np.ones(shape))
    with pytest.raises(StorageError, match="a mask is a path or has .shape"):
        open_image(PIXELS, mask=[[1]])
    with pytest.raises(StorageError, match="a mask is .H, W., not 2x50x41x1"):
        open_image(PIXELS, mask=np.ones((2, 50, 41, 1)))
    with pytest.raises(StorageError, match="none.npy: there is no such"):
        open_image(PIXELS, mask="none.npy")


@pytest.mark.parametrize(
    "dtype, nodata", [("uint8", 3), ("int16", -2), ("float32", np.nan), ("float32", -3.4e38), ("uint16", -1)]
)
def test_no_data_is_as_rasterio_has_it(tmp_path, dtype, nodata):
    """Pixels hold nothing where every channel has the value."""
    rasterio = pytest.importorskip("rasterio", reason="reads no-data values: requirements-images.txt")
    pixels = RNG.integers(0, 4, (50, 41, 2)).astype(dtype)
    possible = dtype[0] != "u" or nodata >= 0
    if possible:
        pixels[RNG.random(pixels.shape) < 0.4] = nodata
    path = tmp_path / "a.tif"
    place = rasterio.Affine(2, 0, 5, 0, -2, 60)
    options = dict(driver="GTiff", height=50, width=41, count=2, dtype=dtype, transform=place)
    with rasterio.open(path, "w", **options, nodata=nodata if possible else None) as file:
        file.write(np.moveaxis(pixels, 2, 0))
    with rasterio.open(path) as file:
        expected = file.dataset_mask() != 0
    source = open_image(pixels, nodata=nodata)
    assert_valid(source, expected)
    at_hand = source.valid(3, 20, 4, 30, pixels=source.read(3, 20, 4, 30))
    np.testing.assert_array_equal(at_hand, expected[3:20, 4:30])
    assert source.valid(0, 5, 0, 5, only_mask=True) is None
    if dtype == "float32" and possible:  # the stored values count, whatever they are scaled to
        assert_valid(open_image(pixels, nodata=nodata, value_range=(0, 3)), expected)


def test_the_files_own_mask_and_the_callers_count_together():
    own, given = RNG.random((50, 41)) > 0.3, RNG.random((50, 41)) > 0.3
    source = open_image(Source(PIXELS, "scene", None, Facts(valid=own, nodata=2.0)), mask=given)
    holds = own & (PIXELS != 2).any(axis=2)
    assert_valid(source, holds & given)
    assert_valid(source, given, only_mask=True)
    assert_valid(open_image(source, nodata=99), own & given)


def test_what_is_transparent_holds_nothing(tmp_path):
    """Where a picture is transparent it is white, and holds nothing."""
    alpha = RNG.integers(0, 3, (50, 41), np.uint8) * 100
    colours = RNG.integers(0, 256, (50, 41, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(np.dstack([colours, alpha]))).save(tmp_path / "a.png", exif=exif)
    source = open_image(tmp_path / "a.png", net_channels=3)
    assert_valid(source, alpha != 0)
    assert (source.read(0, 50, 0, 41)[alpha == 0] == 255).all()
    Image.fromarray(colours).save(tmp_path / "b.png")
    assert open_image(tmp_path / "b.png").valid(0, 9, 0, 9) is None
