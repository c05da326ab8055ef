"""Sources equal the array they were made from, in any region, and picture files what every command reads."""

import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image

from cnn.images import pictures
from cnn.images.errors import DataError, StorageError
from cnn.images.source import open_image
from tests.made import make_zarr

PIXELS = np.random.default_rng(0).integers(0, 256, (75, 61, 3), np.uint8)
GREY = PIXELS[..., 0]
FLOATS = (PIXELS / 255).astype(np.float32)


def regions(height, width, count=25):
    """Random ones, inside, across every border, and all outside."""
    rng = np.random.default_rng(1)
    yield from [
        (0, height, 0, width),
        (-9, -2, 3, 8),
        (height, height + 4, 0, 5),
        (2, 2, 0, 7),
        (-5, height + 5, -6, 70),
    ]
    for _ in range(count):
        (y0, y1), (x0, x1) = np.sort(rng.integers(-20, height + 20, 2)), np.sort(rng.integers(-20, width + 20, 2))
        yield int(y0), int(y1), int(x0), int(x1)


def assert_reads(source, expected):
    """By value, against the array laid into zeros."""
    expected = expected.reshape(*expected.shape[:2], -1)
    assert source.shape == expected.shape
    margin = 100
    padded = np.pad(expected, ((margin, margin), (margin, margin), (0, 0)))
    for y0, y1, x0, x1 in regions(*expected.shape[:2]):
        region = source.read(y0, y1, x0, x1)
        assert region.dtype == source.dtype and region.flags.owndata
        np.testing.assert_array_equal(region, padded[y0 + margin : y1 + margin, x0 + margin : x1 + margin])


class Sliceable:
    """As h5py and zarr have it: a shape, a dtype, and slices that are arrays; nothing else."""

    def __init__(self, array):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, region):
        return self._array[region].copy()


@pytest.mark.parametrize(
    "array", [PIXELS, GREY, FLOATS, FLOATS.astype(jnp.bfloat16)], ids=lambda a: f"{a.ndim}{a.dtype}"
)
@pytest.mark.parametrize("wrap", [np.array, np.asfortranarray, Sliceable, jnp.asarray], ids=lambda w: w.__name__)
def test_arrays(array, wrap):
    source = open_image(wrap(array))
    assert source.dtype == array.dtype
    assert_reads(source, array)


def test_double_and_foreign_byte_order_become_what_jax_has():
    for wider in (np.float64, np.longdouble):
        assert_reads(open_image(FLOATS.astype(wider)), FLOATS)
        assert open_image(FLOATS.astype(wider)).dtype == np.float32
    assert_reads(open_image(FLOATS.astype(">f4")), FLOATS)
    assert open_image(FLOATS.astype(">f4")).read(0, 2, 0, 2).dtype == np.dtype("=f4")


@pytest.mark.parametrize("version", [2, 3])
def test_zarr(tmp_path, version):
    store = make_zarr(tmp_path / "a.zarr", PIXELS, version)
    assert_reads(open_image(store, net_channels=3), PIXELS)
    assert_reads(open_image(tmp_path / "a.zarr", net_channels=3), PIXELS)
    assert_reads(open_image(f"{tmp_path}/a.zarr/", cache_bytes=0), PIXELS)
    assert_reads(open_image(store[10:50, 7:40]), PIXELS[10:50, 7:40])  # a view whose own coordinates begin at (10, 7)


def test_npy(tmp_path):
    for i, array in enumerate((PIXELS, GREY, np.asfortranarray(FLOATS), FLOATS.astype(">f8"))):
        path = str(tmp_path / f"{i}.npy")
        np.save(path, array)
        assert_reads(open_image(path), array.astype(np.float32) if array.dtype == ">f8" else array)


TIFFS = {
    "whole": dict(photometric="rgb"),
    "big": dict(photometric="rgb", bigtiff=True, byteorder=">"),
    "tiles": dict(photometric="rgb", tile=(16, 32)),
    "deflate": dict(photometric="rgb", tile=(32, 16), compression="zlib", predictor=True),
    "strips": dict(photometric="rgb", rowsperstrip=7, compression="zlib"),
    "lzma": dict(photometric="rgb", rowsperstrip=80, compression="lzma"),
}


@pytest.mark.parametrize("name", TIFFS)
@pytest.mark.parametrize("array", [PIXELS, GREY, FLOATS], ids=["rgb", "grey", "float"])
def test_tiff(tmp_path, name, array):
    options = TIFFS[name] | ({"photometric": "minisblack"} if array.ndim == 2 else {})
    if array.dtype != np.uint8 and "predictor" in options:
        options = options | {"predictor": False}
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    source = open_image(tmp_path / "a.tif")
    assert source.dtype == array.dtype
    assert_reads(source, array)


@pytest.mark.parametrize(
    "options", [{}, dict(tile=(16, 16), compression="zlib"), dict(rowsperstrip=9, compression="zlib")]
)
def test_tiff_in_planes(tmp_path, options):
    planes = np.ascontiguousarray(np.moveaxis(PIXELS, 2, 0))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", **options)
    assert_reads(open_image(tmp_path / "a.tif", net_channels=3), PIXELS)


def test_tiff_pyramid_is_its_largest_level(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(PIXELS, photometric="rgb", tile=(16, 16), subifds=1, compression="zlib")
        file.write(PIXELS[::2, ::2], photometric="rgb", tile=(16, 16), subfiletype=1, compression="zlib")
    assert_reads(open_image(tmp_path / "a.tif"), PIXELS)


def test_a_tile_of_a_sparse_tiff_is_its_nodata_value(tmp_path):
    def holes():
        for i in range(20):
            yield None if i == 6 else np.ascontiguousarray(np.pad(PIXELS, ((0, 5), (0, 3), (0, 0)))[
                i // 4 * 16 : i // 4 * 16 + 16, i % 4 * 16 : i % 4 * 16 + 16
            ])  # fmt: skip

    options = dict(shape=PIXELS.shape, dtype=np.uint8, photometric="rgb", tile=(16, 16), compression="zlib")
    tifffile.imwrite(tmp_path / "a.tif", holes(), **options)
    expected = PIXELS.copy()
    expected[16:32, 32:48] = 0
    assert_reads(open_image(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pictures(tmp_path, suffix, monkeypatch):
    path = str(tmp_path / f"a.{suffix}")
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # a guard that would refuse it
    for channels in (1, 3, None):
        expected = np.asarray(images_decode(path, channels or 3))
        assert_reads(open_image(path, net_channels=channels), expected)
    assert Image.MAX_IMAGE_PIXELS == 100
    Image.fromarray(GREY).save(path)
    assert open_image(path).shape == (75, 61, 1)
    monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
    with pytest.raises(StorageError, match=r"75x61x3 .*limit.*zarr or a tiled TIFF"):
        open_image(path, net_channels=3)


def images_decode(path, channels):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        return pictures.decode(path, channels)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("stored", [PIXELS, GREY], ids=["rgb", "grey"])
def test_an_orientation_is_one_picture_for_all_readers(tmp_path, compression, stored):
    """By region and as a whole; also stored grey and uncompressed, which Pillow scrambles if it is given the path."""
    path = str(tmp_path / "a.tif")
    turned = {1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 6: np.rot90(stored, -1)}
    turned |= {5: stored.swapaxes(0, 1), 7: np.rot90(stored, 2).swapaxes(0, 1), 8: np.rot90(stored)}
    for orientation, upright in turned.items():
        options = dict(photometric="rgb" if stored.ndim == 3 else "minisblack", compression=compression)
        tifffile.imwrite(path, stored, extratags=[(274, "H", 1, orientation, True)], rowsperstrip=16, **options)
        assert_reads(open_image(path), upright)
        assert np.array_equal(pictures.decode(path, 3 if stored.ndim == 3 else 1), upright)
        assert pictures.picture_size(path) == upright.shape[:2]


SHOWN = {
    "inverted": (GREY, dict(photometric="miniswhite"), 255 - GREY),
    "transparent": (
        np.dstack([PIXELS, np.zeros_like(GREY)]),
        dict(photometric="rgb", extrasamples=["unassalpha"]),
        np.full_like(PIXELS, 255),
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_tiff_that_is_not_stored_as_shown_is_read_as_every_command_reads_it(tmp_path, name):
    stored, options, expected = SHOWN[name]
    tifffile.imwrite(tmp_path / "a.tif", stored, compression="zlib", **options)
    channels = 3 if expected.ndim == 3 else 1
    assert_reads(open_image(tmp_path / "a.tif", net_channels=channels), expected)
    assert np.array_equal(pictures.decode(tmp_path / "a.tif", channels), expected)


@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_tiff_of_bytes_is_grey_or_rgb_as_the_net_takes_it(tmp_path, tile):
    """Not its red channel: the values of Pillow's own conversion, by region."""
    options = dict(tile=tile, compression="zlib" if tile else None)
    tifffile.imwrite(tmp_path / "rgb.TIF", PIXELS, photometric="rgb", **options)
    tifffile.imwrite(tmp_path / "grey.tif", GREY, photometric="minisblack", **options)
    assert_reads(open_image(tmp_path / "rgb.TIF", net_channels=1), np.asarray(Image.fromarray(PIXELS).convert("L")))
    assert_reads(open_image(tmp_path / "grey.tif", net_channels=3), np.dstack([GREY] * 3))


def test_the_image_of_a_tiff_with_other_pictures_beside_it(tmp_path):
    small, path = PIXELS[:20, :20], str(tmp_path / "a.tif")

    def write(*pages):
        with tifffile.TiffWriter(path) as file:
            for pixels, kind in pages:
                colours = "rgb" if pixels.ndim == 3 else "minisblack"
                file.write(pixels, photometric=colours, subfiletype=kind)

    for pages in ([(small, 1), (PIXELS, 0)], [(PIXELS, 0), (small, 1), (GREY > 99, 4)]):
        write(*pages)  # known as reduced, and as a mask
        assert_reads(open_image(path), PIXELS)
        assert np.array_equal(pictures.decode(path, 3), PIXELS)
        assert pictures.picture_size(path) == (75, 61)
    write((small, 0), (PIXELS, 0))
    with pytest.raises(StorageError, match=r"2 pictures \(20x20x3, 75x61x3\); write the one that is meant"):
        open_image(path)
    with pytest.raises(DataError, match=r"2 pictures \(20x20x3, 75x61x3\); write the one"):
        pictures.decode(path, 3)


def test_a_zarr_with_named_axes_in_any_order(tmp_path):
    first = np.ascontiguousarray(np.moveaxis(PIXELS, 2, 0))
    make_zarr(tmp_path / "a.zarr", first, chunk=(3, 16, 20), names=["c", "y", "x"])
    assert_reads(open_image(tmp_path / "a.zarr", net_channels=3), PIXELS)
    make_zarr(tmp_path / "b.zarr", first[None, :, None], chunk=(1, 1, 1, 16, 20), names=["t", "c", "z", "y", "x"])
    assert_reads(open_image(tmp_path / "b.zarr", net_channels=3), PIXELS)
    make_zarr(tmp_path / "c.zarr", PIXELS, names=["t", "y", "x"])
    with pytest.raises(StorageError, match=r"75x61x3 with axes t, y, x is 75 images along t"):
        open_image(tmp_path / "c.zarr")
    make_zarr(tmp_path / "d.zarr", first, chunk=(3, 16, 20))
    with pytest.raises(StorageError, match=r"channels seem to be first: save numpy.moveaxis\(array, 0, -1\)"):
        open_image(tmp_path / "d.zarr", net_channels=3)


@pytest.mark.parametrize("tile", [(16, 16), None])
def test_a_damaged_part_is_named(tmp_path, tile):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", tile=tile, rowsperstrip=None if tile else 16, compression="zlib")
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        damaged = bytearray(path.read_bytes())
        damaged[page.dataoffsets[2] + 8 : page.dataoffsets[2] + 40] = b"\xff" * 32
    path.write_bytes(damaged)
    source = open_image(path)
    source.read(0, 16, 0, 16)
    where = r"tile 2 \(rows 0 to 16, columns 32 to 48\)" if tile else r"strip 2 \(rows 32 to 48, columns 0 to 61\)"
    with pytest.raises(StorageError, match=rf"a\.tif: page 0, {where} is damaged"):
        source.read(0, 75, 0, 61)
    store = make_zarr(tmp_path / "a.zarr", PIXELS)
    (tmp_path / "a.zarr" / "c" / "1" / "0" / "0").write_bytes(b"xx")
    assert store.shape == PIXELS.shape
    with pytest.raises(StorageError, match=r"a\.zarr: rows 0 to 75, columns 0 to 61 cannot be read: .*c/1/0/0"):
        open_image(tmp_path / "a.zarr").read(0, 75, 0, 61)


def test_errors_of_sources(tmp_path):
    def check(what, message, channels=None):
        with pytest.raises(StorageError, match=message):
            open_image(what, net_channels=channels)

    def path(name):
        return str(tmp_path / name)

    check(path("none.npy"), "none.npy: there is no such")
    check(PIXELS[None], r"shape \(1, 75, 61, 3\) must be \[H, W\] or \[H, W, C\].*array\[0\]")
    check(PIXELS > 9, r"dtype bool must be integer or floating")
    check([[1]], "has .shape, .dtype and slices")
    check(PIXELS, r"75x61x3 has 3 channels, the net takes 1; choose 1 of them in order: --channels=0", 1)
    check(GREY, "has 1 channels, the net takes 3; stack", 3)
    check(str(tmp_path), "not a zarr array")
    make_zarr(tmp_path / "group" / "0", PIXELS)
    (tmp_path / "group" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    check(path("group"), "group; name one of its arrays: 0")
    (tmp_path / "bad.npy").write_bytes(b"x" * 100)
    (tmp_path / "bad.png").write_bytes(b"x" * 100)
    (tmp_path / "bad.tif").write_bytes(b"x" * 100)
    for name in ("bad.npy", "bad.tif"):
        check(path(name), f"{name}: cannot be read")
    check(path("bad.png"), "cannot read .*bad.png as an image")
    tifffile.imwrite(path("stack.tif"), np.stack([PIXELS, PIXELS]), photometric="rgb")
    check(path("stack.tif"), r"2 pages, together 2x75x61x3 .*one page")
    tifffile.imwrite(path("five.tif"), np.dstack([PIXELS, PIXELS])[..., :5], photometric="minisblack", planarconfig=1)
    check(path("five.tif"), r"five\.tif: 75x61x5 has 5 channels, the net takes 3", 3)
    np.save(path("rgb.npy"), PIXELS)
    check(
        path("rgb.npy"), "has 3 channels, the net takes 1; arrays are read as they are, pictures .* as grey or RGB", 1
    )
    tifffile.imwrite(path("one.tif"), PIXELS, photometric="rgb", compression="zlib", rowsperstrip=75)
    with pytest.raises(StorageError, match=r"in parts of 75x61 .*write it anew with tiles"):
        open_image(path("one.tif"), cache_bytes=1000)
    png = path("five.png")
    Image.fromarray(PIXELS).save(png)
    check(png, "1 or 3 channels, the net takes 5", 5)


@pytest.mark.skipif(importlib.util.find_spec("imagecodecs") is not None, reason="imagecodecs decodes it")
@pytest.mark.parametrize("coding, name", [("tiff_lzw", "LZW"), ("jpeg", "JPEG")])
def test_a_codec_that_is_missing_is_named(tmp_path, coding, name, caplog):
    """Pictures of bytes are read whole, as `predict` reads them, which a line says; others are refused."""
    path = tmp_path / "a.tif"
    Image.fromarray(PIXELS).save(path, compression=coding)
    source = open_image(path, net_channels=3)
    np.testing.assert_array_equal(source.read(0, 75, 0, 61), pictures.decode(str(path), 3))
    assert "a.tif: read as a whole picture" in caplog.text and "pip install -r requirements-images.txt" in caplog.text
    with pytest.raises(StorageError, match=f"compressed with {name}.*pip install -r requirements-images"):
        open_image(path, net_channels=5)
    if coding == "tiff_lzw":
        Image.fromarray(PIXELS[..., 0].astype(np.float32)).save(path, compression=coding)
        with pytest.raises(StorageError, match="compressed with LZW.*pip install -r requirements-images"):
            open_image(path)
