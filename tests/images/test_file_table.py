"""A table of files that are no TIFF: formats, dtypes, layouts and compressions, each against an independent reader.

A row writes a tiny file and gives what an independent reader has of it: zarr-python, rasterio (GDAL), Pillow, or the
array that another library was given to write. Pixels are equal, on the whole and in odd regions.
"""

import numpy as np
import pytest
from PIL import Image

from cnn.images.facts import Choice
from cnn.images.files import open_file

EXTRA = "python -m pip install -r requirements-images.txt"
for module in ("h5py", "openslide", "rasterio"):
    pytest.importorskip(module, reason=EXTRA)
for module in ("zarr", "numcodecs"):
    pytest.importorskip(module, reason="python -m pip install -r requirements-checks.txt")

import numcodecs  # noqa: E402
from zarr.codecs import BloscCodec, GzipCodec  # noqa: E402

from tests.images import written  # noqa: E402
from tests.images.written import CHOSEN, DEEP, FIRST, FLOATS, GREY, RGB, STACK, WIDE, hdf, ome, raster, slide  # noqa: E402

ROWS = {}


def row(name, make, channels=None, **choice):
    """A row of the table: `make` writes a file into a folder, and gives its path and what it holds."""
    assert name not in ROWS
    ROWS[name] = (make, channels, Choice(**choice))


def zarr_row(name, array, expected=None, *, select=None, **options):
    """A zarr array that zarr-python writes and reads."""

    def make(folder):
        path, found = written.zarr_array(folder, array, **options)
        return path, found if expected is None else expected

    row(f"zarr {name}", make, select=select)


def old(codec):
    return {"zarr_format": 2, "compressors": codec}


zarr_row("2 uint8", GREY, **old(None))
zarr_row("2 uint16, zlib, nested", DEEP, chunk_key_encoding={"name": "v2", "separator": "/"}, **old(numcodecs.Zlib()))
zarr_row("2 big-endian int16, blosc", DEEP.astype(">i2"), **old(numcodecs.Blosc("lz4")))
zarr_row("2 float64, zstd", FLOATS.astype(np.float64), **old(numcodecs.Zstd()))
zarr_row("2 int32, columns first", WIDE, order="F", **old(numcodecs.GZip()))
zarr_row("2 int8, bz2", RGB.astype(np.int8), **old(numcodecs.BZ2()))
zarr_row(
    "2 of xarray, bands first", FIRST, DEEP, zarr_format=2, attributes={"_ARRAY_DIMENSIONS": ["band", "lat", "lon"]}
)
zarr_row("3 int8", RGB.astype(np.int8))
zarr_row("3 uint32, sharded", WIDE.astype(np.uint32), chunks=(8, 8, 3), shards=(16, 16, 3), compressors=BloscCodec())
zarr_row("3 int32, gzip, x first", WIDE.T, WIDE, dimension_names=["c", "x", "y"])
zarr_row("3 float16, gzip", FLOATS.astype(np.float16) / 9, compressors=GzipCodec())
zarr_row("3 float64", FLOATS.astype(np.float64))
zarr_row("3 int64", WIDE.astype(np.int64) * 2**31)
zarr_row("3 uint64", WIDE.astype(np.uint64))
zarr_row("3 t c z y x", STACK, CHOSEN, dimension_names=list("tczyx"), select={"t": 1, "z": 2})
zarr_row("3 y z x, one channel of it", STACK[1].swapaxes(1, 2), STACK[1, 0, 2], dimension_names=list("cyzx"),
         select={"Z": 2, "c": 0})  # fmt: skip
zarr_row("3 without names", STACK[:, 0], STACK[1, 0].transpose(1, 2, 0)[..., 1], select={"0": 1, "1": 1})


row("zarr 3 with missing chunks", written.holes)

MIXED = {"t": 1, "z": 2}
row("ome 0.4", lambda f: (ome(f, "0.4"), CHOSEN), select=MIXED)
row("ome 0.5", lambda f: (ome(f, "0.5"), CHOSEN), select=MIXED, level=0)
row("ome 0.5, level 1", lambda f: (ome(f, "0.5"), CHOSEN[::2, ::2]), select=MIXED, level=1)
row("ome 0.4, one channel", lambda f: (ome(f, "0.4"), CHOSEN[..., 1]), select={**MIXED, "c": 1})
row("ome 0.4, an array inside", lambda f: (ome(f, "0.4", FLOATS[..., 0], "yx") / "1", FLOATS[::2, ::2, 0]))
row("ome 0.4, several", written.several, page=1, select={"z": 1})
row("ome 0.4 of bioformats2raw", written.raw2zarr, page=1, select={"z": 0})
row("ome 0.5, .zip", lambda f: (written.zipped(f, "a.zarr.zip", False), CHOSEN), select=MIXED)
row("ome 0.5, .ozx", lambda f: (written.zipped(f, "a.ozx", True, "a.zarr/"), CHOSEN[::2, ::2]), select=MIXED, level=1)
row(
    "ome 0.5, an array in .zip",
    lambda f: (f"{written.zipped(f, 'a.zip', True)}::1", CHOSEN[::2, ::2, 1]),
    select={"0": 1, "1": 1, "2": 2},
)

OF_MACOS = dict(top="a.zarr/", extra="__MACOSX/._a.zarr")
row("ome 0.5, .zip of macOS", lambda f: (written.zipped(f, "a.zip", True, **OF_MACOS), CHOSEN), select=MIXED)
for spelling in ("{}/./a.zarr", "{}/new/../a.zarr", "{}//a.zarr/", "{}/link/a.zarr"):
    row(f"zarr at {spelling}", lambda f, spelling=spelling: written.spelled(f, spelling))
row("ome 0.5 at {}/./a.zip", lambda f: (f"{written.zipped(f, 'a.zip').parent}/./a.zip", CHOSEN), select=MIXED)
row("ome 0.4, ./ before its levels", written.dotted, select=MIXED)

row("hdf5 uint8, alone in its file", lambda f: (hdf(f, RGB), RGB))
row("hdf5 uint16, gzip, shuffled", lambda f: (f"{hdf(f, DEEP, chunks=(8, 16, 3), compression='gzip', shuffle=True)}::"
                                             "/deep/image", DEEP))  # fmt: skip
row("hdf5 float32, lzf", lambda f: (f"{hdf(f, FLOATS[..., 1], compression='lzf')}::deep/image", FLOATS[..., 1]))
row("hdf5 big-endian int32", lambda f: (hdf(f, WIDE.astype(">i4")), WIDE.astype(">i4")))
row("hdf5 int8", lambda f: (hdf(f, RGB.astype(np.int8), fletcher32=True), RGB.astype(np.int8)))
row("hdf5 float16", lambda f: (hdf(f, FLOATS.astype(np.float16) / 9), FLOATS.astype(np.float16) / 9))
row("hdf5 with scales", lambda f: (hdf(f, STACK, ("t", "c", "z", "y", "x"), name="a.nc"), CHOSEN), select=MIXED)
row(
    "hdf5 of ilastik", lambda f: (hdf(f, STACK.swapaxes(1, 4), attributes=written.tags(*"txzyc")), CHOSEN), select=MIXED
)
row("hdf5 of MATLAB", lambda f: (written.matlab(f, DEEP), DEEP))
row("hdf5 of MATLAB, grey", lambda f: (f"{written.matlab(f, DEEP[..., 0])}::scan", DEEP[..., 0]))
row("hdf5 in planes", lambda f: (hdf(f, FIRST, attributes={"INTERLACE_MODE": np.bytes_("INTERLACE_PLANE")}), DEEP))

LOSSLESS = {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
BIG = np.tile(DEEP, (8, 8, 1))
row("raster .vrt", lambda f: (written.mosaic(f), RGB))
row("raster .vrt, as grey", lambda f: (written.mosaic(f), np.asarray(Image.fromarray(RGB).convert("L"))), channels=1)
row("raster .vrt, transparent", written.transparent)
row("raster .vrt, transparent, both bands", lambda f: (written.transparent(f)[0], RGB[..., ::2]), channels=2)
row("raster .jp2, uint8", lambda f: raster(f, "a.jp2", RGB, "JP2OpenJPEG", **LOSSLESS))
row("raster .jp2, uint16, level 1", lambda f: raster(f, "a.jp2", BIG, "JP2OpenJPEG", level=1, **LOSSLESS), level=1)
row("raster .img, int16", lambda f: raster(f, "a.img", DEEP.astype(np.int16) - 99, "HFA"))
row(
    "raster .img, float64, compressed", lambda f: raster(f, "a.img", FLOATS.astype(np.float64), "HFA", COMPRESSED="YES")
)
row("raster .img, palette", written.palette)
row("raster .asc, float32", lambda f: raster(f, "a.asc", FLOATS[..., 0], "AAIGrid", nodata=-1))
row("raster .bsq, uint32", lambda f: raster(f, "a.bsq", WIDE.astype(np.uint32), "ENVI"))
row("raster .ntf, uint16", lambda f: raster(f, "a.ntf", DEEP, "NITF"))
row("raster .nc of netCDF 3", written.netcdf)
row("raster .nc, a colon in its name", lambda f: written.netcdf(f, "à: b.nc"))
row("raster without suffix, int32", lambda f: raster(f, "a", WIDE, "ENVI", INTERLEAVE="BIP"))

row("slide", slide)
row("slide, as grey", lambda f: (slide(f)[0], np.asarray(Image.fromarray(slide(f)[1]).convert("L"))), channels=1)
row("slide, level 1", lambda f: (slide(f)[0], RGB), level=1)


def saved(name, array, **options):
    def make(folder):
        Image.fromarray(array).save(folder / name, **options)
        return folder / name, np.asarray(Image.open(folder / name).convert("RGB" if array.ndim == 3 else "L"))

    row(f"picture {name}", make)


def mapped(array, name="a.npy"):
    def make(folder):
        np.save(folder / name, array)
        return folder / name, array

    return make


for suffix in ("png", "jpg", "bmp", "ppm", "webp", "tga", "jp2"):
    saved(f"a.{suffix}", RGB, **({"lossless": True} if suffix == "webp" else {}))
saved("grey.png", GREY)
row("npy uint16", mapped(DEEP))
row("npy big-endian float64", mapped(FLOATS.astype(">f8")))
row("npy, four axes", lambda f: (mapped(STACK[0])(f)[0], STACK[0, 1]), select={"0": 1})


@pytest.mark.parametrize("name", ROWS)
def test_pixels(name, tmp_path):
    make, channels, choice = ROWS[name]
    path, expected = make(tmp_path)
    array, _ = open_file(str(path), channels, 2**20, choice)
    expected = np.asarray(expected)
    assert tuple(array.shape) in (expected.shape, (*expected.shape, 1))
    height, width = expected.shape[:2]
    for y0, y1, x0, x1 in ((0, height, 0, width), (1, 8, 3, 12), (height - 5, height, 0, 1), (2, 3, 15, width)):
        found, want = np.asarray(array[y0:y1, x0:x1]), expected[y0:y1, x0:x1]
        assert found.dtype.newbyteorder("=") == want.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found.reshape(want.shape), want)
