"""Sources equal the array they were made from, in any region; sinks hold the bytes that were written."""

import importlib.util
import os
from collections import namedtuple

import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
import tifffile
from PIL import Image

from cnn.data import image_files
from cnn.dense.streaming import source_and_sink
from cnn.dense.streaming.image_arrays import StorageError
from cnn.dense.streaming.source_and_sink import open_sink, open_source

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


def make_zarr(path, array, version=3, chunk=(16, 20, 3)):
    spec = {"driver": "zarr3" if version == 3 else "zarr", "kvstore": {"driver": "file", "path": str(path)}}
    grid = {"name": "regular", "configuration": {"chunk_shape": chunk}}
    metadata = {"data_type": array.dtype.name, "chunk_grid": grid} if version == 3 else {"dtype": array.dtype.str}
    metadata |= {"shape": array.shape} if version == 3 else {"shape": array.shape, "chunks": chunk}
    store = tensorstore.open(spec | {"metadata": metadata, "create": True}).result()
    store[...] = array
    return store


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
    source = open_source(wrap(array))
    assert source.dtype == array.dtype
    assert_reads(source, array)


def test_double_and_foreign_byte_order_become_what_jax_has():
    assert_reads(open_source(FLOATS.astype(np.float64)), FLOATS)
    assert open_source(FLOATS.astype(np.float64)).dtype == np.float32
    assert_reads(open_source(FLOATS.astype(">f4")), FLOATS)
    assert open_source(FLOATS.astype(">f4")).read(0, 2, 0, 2).dtype == np.dtype("=f4")


@pytest.mark.parametrize("version", [2, 3])
def test_zarr(tmp_path, version):
    store = make_zarr(tmp_path / "a.zarr", PIXELS, version)
    assert_reads(open_source(store, 3), PIXELS)
    assert_reads(open_source(tmp_path / "a.zarr", 3), PIXELS)
    assert_reads(open_source(f"{tmp_path}/a.zarr/", cache_bytes=0), PIXELS)
    assert_reads(open_source(store[10:50, 7:40]), PIXELS[10:50, 7:40])  # a view whose own coordinates begin at (10, 7)


def test_npy(tmp_path):
    for i, array in enumerate((PIXELS, GREY, np.asfortranarray(FLOATS), FLOATS.astype(">f8"))):
        path = str(tmp_path / f"{i}.npy")
        np.save(path, array)
        assert_reads(open_source(path), array.astype(np.float32) if array.dtype == ">f8" else array)


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
    source = open_source(tmp_path / "a.tif")
    assert source.dtype == array.dtype
    assert_reads(source, array)


@pytest.mark.parametrize(
    "options", [{}, dict(tile=(16, 16), compression="zlib"), dict(rowsperstrip=9, compression="zlib")]
)
def test_tiff_in_planes(tmp_path, options):
    planes = np.ascontiguousarray(np.moveaxis(PIXELS, 2, 0))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", **options)
    assert_reads(open_source(tmp_path / "a.tif", 3), PIXELS)


def test_tiff_pyramid_is_its_largest_level(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(PIXELS, photometric="rgb", tile=(16, 16), subifds=1, compression="zlib")
        file.write(PIXELS[::2, ::2], photometric="rgb", tile=(16, 16), subfiletype=1, compression="zlib")
    assert_reads(open_source(tmp_path / "a.tif"), PIXELS)


def test_compressed_tiff_is_decoded_in_parts_and_keeps_few(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", tile=(16, 16), compression="zlib")
    source = open_source(tmp_path / "a.tif", cache_bytes=2 * 16 * 16 * 3)
    segments, decoded = source._array, []
    decode = segments._decode
    segments._decode = lambda data, index, **options: decoded.append(index) or decode(data, index, **options)
    source.read(20, 30, 33, 40)
    assert decoded == [4 * 1 + 2]  # of 5 x 4 tiles the one that holds it
    source.read(17, 31, 32, 47)
    assert decoded == [6]  # kept
    source.read(0, 75, 0, 61)
    assert len(segments._cache) == 2
    source.read(20, 30, 33, 40)
    assert decoded.count(6) == 3  # was let go for later ones


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
    assert_reads(open_source(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pictures(tmp_path, suffix, monkeypatch):
    path = str(tmp_path / f"a.{suffix}")
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # a guard that would refuse it
    for channels in (1, 3, None):
        expected = np.asarray(images_decode(path, channels or 3))
        assert_reads(open_source(path, channels), expected)
    assert Image.MAX_IMAGE_PIXELS == 100
    Image.fromarray(GREY).save(path)
    assert open_source(path).shape == (75, 61, 1)
    monkeypatch.setattr(image_files, "MAX_BYTES", 1000)
    with pytest.raises(StorageError, match=r"75x61x3 .*limit.*zarr or a tiled TIFF"):
        open_source(path, 3)


def images_decode(path, channels):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        return image_files.decode(path, channels)


def test_identity_tells_images_apart(tmp_path):
    one = open_source(PIXELS).identity()
    assert one == open_source(PIXELS.copy()).identity()
    other = PIXELS.copy()
    other[0, 0, 0] += 1
    assert one != open_source(other).identity() and one != open_source(PIXELS[:-1]).identity()
    path = tmp_path / "a.npy"
    np.save(path, PIXELS)
    before = open_source(path).identity()
    os.utime(path, ns=(1, 1))
    assert before != open_source(path).identity()


def test_errors_of_sources(tmp_path):
    def check(what, message, channels=None):
        with pytest.raises(StorageError, match=message):
            open_source(what, channels)

    def path(name):
        return str(tmp_path / name)

    check(path("none.npy"), "none.npy: there is no such")
    check(PIXELS[None], r"shape \(1, 75, 61, 3\) must be \[H, W\] or \[H, W, C\].*array\[0\]")
    check(PIXELS.astype(np.uint16), r"dtype uint16 must be uint8 or floating.*array / 65535")
    check([[1]], "has .shape, .dtype and slices")
    check(PIXELS, r"75x61x3 has 3 channels, the net takes 1; pass array\[\.\.\., :1\]", 1)
    check(GREY, "has 1 channels, the net takes 3; stack", 3)
    check(str(tmp_path), "not a zarr array")
    make_zarr(tmp_path / "group" / "0", PIXELS)
    (tmp_path / "group" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    check(path("group"), "group; name one of its arrays: 0")
    (tmp_path / "bad.npy").write_bytes(b"x" * 100)
    (tmp_path / "bad.png").write_bytes(b"x" * 100)
    (tmp_path / "bad.tif").write_bytes(b"x" * 100)
    for name in ("bad.npy", "bad.png", "bad.tif"):
        check(path(name), f"{name}: cannot be read")
    tifffile.imwrite(path("stack.tif"), np.stack([PIXELS, PIXELS]), photometric="rgb")
    check(path("stack.tif"), r"2 pages, together 2x75x61x3 .*one page")
    tifffile.imwrite(path("white.tif"), GREY, photometric="miniswhite")
    check(path("white.tif"), "its colours are MINISWHITE")
    tifffile.imwrite(path("one.tif"), PIXELS, photometric="rgb", compression="zlib", rowsperstrip=75)
    with pytest.raises(StorageError, match=r"in parts of 75x61 .*write it anew with tiles"):
        open_source(path("one.tif"), cache_bytes=1000)
    png = path("five.png")
    Image.fromarray(PIXELS).save(png)
    check(png, "1 or 3 channels, the net takes 5", 5)


@pytest.mark.skipif(importlib.util.find_spec("imagecodecs") is not None, reason="imagecodecs decodes it")
@pytest.mark.parametrize("coding, name", [("tiff_lzw", "LZW"), ("jpeg", "JPEG")])
def test_a_codec_that_is_missing_is_named(tmp_path, coding, name):
    Image.fromarray(PIXELS).save(tmp_path / "a.tif", compression=coding)
    with pytest.raises(StorageError, match=f"compressed with {name}.*pip install imagecodecs"):
        open_source(tmp_path / "a.tif")


MAP = np.random.default_rng(2).normal(size=(40, 33, 5)).astype(np.float32)


def write(sink):
    for y in range(0, 40, 16):
        for x in range(0, 33, 12):
            sink.write(y, x, MAP[y : y + 16, x : x + 12])
    sink.flush()
    sink.close()


def load(path):
    if str(path).endswith(".npy"):
        return np.load(path)
    return np.asarray(source_and_sink.open_file(str(path), None, 0)[:, :])


@pytest.mark.parametrize("name, version", [("m.npy", 3), ("m.zarr", 3), ("m.zarr", 2)])
def test_sinks(tmp_path, name, version):
    path = tmp_path / "new" / name
    write(open_sink(path, MAP.shape, chunk=(16, 12, 5), zarr_format=version))
    np.testing.assert_array_equal(load(path), MAP)
    sink = open_sink(path, MAP.shape, existing=True)
    sink.write(3, 30, np.zeros((2, 3, 5), np.float32))
    sink.flush()
    sink.close()
    changed = MAP.copy()
    changed[3:5, 30:33] = 0
    np.testing.assert_array_equal(load(path), changed)
    open_sink(path, (7, 5, 2), overwrite=True).close()
    assert load(path).shape == (7, 5, 2)


def test_a_zarr_is_written_in_whole_chunks(tmp_path):
    write(open_sink(tmp_path / "m.zarr", MAP.shape, chunk=(16, 12, 5)))
    files = sorted(
        os.path.relpath(os.path.join(d, f), tmp_path / "m.zarr") for d, _, fs in os.walk(tmp_path) for f in fs
    )
    assert files == sorted(["zarr.json", *(f"c/{i}/{j}/0" for i in range(3) for j in range(3))])
    assert (tmp_path / "m.zarr/c/1/2/0").stat().st_size == 16 * 12 * 5 * 4
    first = np.fromfile(tmp_path / "m.zarr/c/1/0/0", "<f4").reshape(16, 12, 5)
    np.testing.assert_array_equal(first, MAP[16:32, :12])


def test_a_callers_own_array(tmp_path):
    array = np.zeros(MAP.shape, np.float64)
    write(open_sink(array, MAP.shape))
    np.testing.assert_array_equal(array, MAP)
    store = make_zarr(tmp_path / "m.zarr", np.zeros_like(MAP), chunk=(10, 10, 5))
    write(open_sink(store, MAP.shape))
    np.testing.assert_array_equal(np.asarray(store), MAP)


def test_errors_of_sinks(tmp_path, monkeypatch):
    def check(where, message, shape=MAP.shape, error=StorageError, **options):
        with pytest.raises(error, match=message):
            open_sink(where, shape, **options)

    write(open_sink(tmp_path / "m.npy", MAP.shape))
    write(open_sink(tmp_path / "m.zarr", MAP.shape))
    for path in (tmp_path / "m.npy", tmp_path / "m.zarr"):
        check(path, "it exists; name another, or overwrite=True")
        check(path, "40x33x5 of .*float32.*, the map is 4x4x5 of float32", (4, 4, 5), existing=True)
    check(tmp_path / "gone.npy", "was begun and is gone", existing=True)
    check(tmp_path / "m.csv", r"written as \.npy or \.zarr")
    (tmp_path / "mine.zarr").mkdir()
    check(tmp_path / "mine.zarr", "no .zarr map, and is not replaced", overwrite=True)
    (tmp_path / "bad.npy").write_bytes(b"x" * 99)
    check(tmp_path / "bad.npy", "cannot be opened as a map", existing=True)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(MAP))
    check(tmp_path / "fortran.npy", "Fortran order", existing=True)
    check(np.zeros((3, 3, 5), np.float32), "it is 3x3x5 of float32, the map is 40x33x5")
    check(np.zeros(MAP.shape, np.float16), "of float16, the map is .* of float32")
    check(np.broadcast_to(np.float32(0), MAP.shape), "read-only")
    check([1], "a sink is a path")
    sink = open_sink(np.zeros(MAP.shape, np.float32), MAP.shape)
    for y, x, block in ((30, 0, MAP[:16]), (-1, 0, MAP[:2]), (0, 0, MAP[..., :3]), (0, 0, MAP.astype(np.float64))):
        with pytest.raises(ValueError, match="does not lie in the map 40x33x5 of float32"):
            sink.write(y, x, block)
    usage = namedtuple("usage", "total used free")(0, 0, 2**20)
    monkeypatch.setattr(source_and_sink.shutil, "disk_usage", lambda folder: usage)
    check(tmp_path / "big.npy", "takes 4.0 GiB, and 0.0 GiB are free", (2**15, 2**15, 1))
    assert not (tmp_path / "big.npy").exists()
