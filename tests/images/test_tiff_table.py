"""A table of TIFF files: layouts, dtypes, compressions, colours, axes and real scenes, against independent readers.

Each row writes a tiny file, or names a real one, and gives what an independent reader has of it: rasterio (GDAL) where
it reads the file, else Pillow or tifffile's whole image. Pixels are equal, on the whole and on odd regions.
"""

import contextlib
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from cnn.images.errors import StorageError
from cnn.images.facts import Choice
from cnn.images.tiff_arrays import open_tiff

rasterio = pytest.importorskip("rasterio", reason="python -m pip install -r requirements-images.txt")
pytest.importorskip("imagecodecs", reason="python -m pip install -r requirements-images.txt")

RNG = np.random.default_rng(7)
RGB = np.kron(RNG.integers(0, 256, (13, 15, 3)), np.ones((3, 3, 1))).astype(np.uint8)[:37, :43]
GREY, DEEP = RGB[..., 0], (RGB.astype(np.uint16) << 4) + 5
BITS = GREY > 128
ALPHA = np.where(GREY < 60, 0, np.where(GREY > 200, 255, GREY)).astype(np.uint8)
STACK = np.stack([np.roll(DEEP[..., 0], i, 0) + i for i in range(24)])  # planes that are all different


@contextlib.contextmanager
def quiet():
    """Without rasterio's warning that a file has no coordinates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def by_rasterio(path, level=None):
    with quiet(), rasterio.open(path, **({} if level is None else {"overview_level": level - 1})) as file:
        return np.moveaxis(file.read(), 0, -1)


def by_pillow(path, mode="RGB"):
    with open(path, "rb") as file, Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        return np.asarray(image.convert(mode))


def by_tifffile(path):
    return tifffile.imread(path)


def tif(array, judge=by_rasterio, **options):
    """A row that tifffile writes."""
    options.setdefault("photometric", "rgb" if array.shape[-1] == 3 else "minisblack")
    return (lambda path: tifffile.imwrite(path, array, metadata=None, **options)), judge


def gdal(array, judge=by_rasterio, **options):
    """A row that GDAL writes."""

    def write(path):
        bands = np.moveaxis(array.reshape(*array.shape[:2], -1), -1, 0)
        profile = dict(driver="GTiff", dtype=bands.dtype, count=len(bands), height=bands.shape[1], width=bands.shape[2])
        with quiet(), rasterio.open(path, "w", **profile | options) as file:
            file.write(bands)

    return write, judge


def pillow(mode, judge, array=None, **options):
    """A row that Pillow writes."""
    image = Image.fromarray(RGB if array is None else array)
    return (lambda path: (image if mode is None else image.convert(mode)).save(path, **options)), judge


def spread(levels):
    """What GDAL reads of few bits, over the range of a byte."""
    return lambda path: by_rasterio(path) * (255 // (levels - 1))


def over_white(path):
    """In float64, from GDAL's bands, the last of which is transparency."""
    bands = by_rasterio(path).astype(np.float64)
    return np.round((bands[..., :-1] * bands[..., -1:] + 65535 * (65535 - bands[..., -1:])) / 65535).astype(np.uint16)


def inverted(path):
    bands = by_rasterio(path)
    return np.iinfo(bands.dtype).max - bands


TILES = dict(tile=(16, 16))
LAYOUTS = {
    "strips": tif(RGB, rowsperstrip=7, compression="zlib"),
    "one row a strip": tif(RGB, rowsperstrip=1, compression="lzw"),
    "as it is": tif(RGB),
    "tiles as they are": tif(DEEP, **TILES),
    "tiles of unequal sides": tif(RGB, tile=(32, 16), compression="zlib", predictor=2),
    "planes": tif(np.moveaxis(RGB, -1, 0).copy(), photometric="rgb", planarconfig="separate"),
    "planes in tiles": gdal(DEEP, interleave="band", tiled=True, blockxsize=16, blockysize=16, compress="deflate"),
    "BigTIFF": tif(DEEP, bigtiff=True, **TILES, compression="zstd", predictor=2),
    "big-endian": tif(DEEP, byteorder=">"),
    "big-endian tiles": tif(DEEP, byteorder=">", **TILES, compression="zlib", predictor=2),
    "big-endian floats": tif(DEEP.astype(np.float32), byteorder=">", **TILES, compression="zlib", predictor=3),
    "big-endian planes": gdal(DEEP, endianness="big", interleave="band", compress="lzw", predictor=2),
    "sparse tiles": gdal(
        np.where(np.arange(43)[None, :, None] < 16, RGB, 9).astype(np.uint8), sparse_ok=True, tiled=True, blockxsize=16,
        blockysize=16, compress="lzw", nodata=9,
    ),
    "sparse strips": gdal(np.where(np.arange(37)[:, None] < 9, GREY, 0).astype(np.uint8), sparse_ok=True, blockysize=8),
    "on its side": tif(
        RGB, lambda path: by_pillow(path), **TILES, compression="zlib", extratags=[(274, "H", 1, 6, True)]
    ),
    "five bands": gdal(np.dstack([DEEP, DEEP[..., :2] + 1]), compress="deflate"),
}  # fmt: skip
DTYPES = {
    str(np.dtype(kind)): gdal(
        (DEEP[..., 0].astype(float) - (1000 if np.dtype(kind).kind != "u" else 0)).clip(-120, 120 if kind == "int8" else
        None).astype(kind), compress="deflate", predictor=3 if np.dtype(kind).kind == "f" else 2,
    )
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "uint64", "float32", "float64")
} | {
    "float16": tif(GREY.astype(np.float16), by_tifffile, **TILES, compression="zlib", predictor=3),
    "float24": gdal(DEEP[..., 0].astype(np.float32), nbits=24),
    "1 bit": gdal(BITS.astype(np.uint8), spread(2), nbits=1),
    "2 bits": gdal(GREY >> 6, spread(4), nbits=2, compress="deflate"),
    "4 bits": gdal(GREY >> 4, spread(16), nbits=4, tiled=True, blockxsize=16, blockysize=16, compress="lzw"),
    "12 bits": gdal(DEEP, nbits=12, compress="deflate"),
}  # fmt: skip
COMPRESSIONS = {
    "LZW": gdal(RGB, compress="lzw", predictor=2),
    "PackBits": gdal(RGB, compress="packbits"),
    "Zstandard": gdal(DEEP, compress="zstd", predictor=2),
    "LZMA": gdal(RGB, compress="lzma"),
    "LERC": gdal(DEEP.astype(np.float32), compress="lerc"),
    "LERC with Zstandard": gdal(DEEP, compress="lerc_zstd"),
    "JPEG, grey": gdal(GREY, compress="jpeg", blockysize=16),
    "JPEG, RGB": gdal(RGB, compress="jpeg", photometric="rgb", tiled=True, blockxsize=16, blockysize=16),
    # JPEG leaves open how halved colours are enlarged, and GDAL does it otherwise than Pillow and imagecodecs.
    "JPEG, YCbCr": gdal(RGB, by_pillow, compress="jpeg", photometric="ycbcr", tiled=True, blockxsize=16, blockysize=16),
    "JPEG in planes": gdal(RGB, compress="jpeg", interleave="band", blockysize=16),
    "WebP": gdal(RGB, compress="webp", webp_lossless=True, tiled=True, blockxsize=16, blockysize=16),
    "JPEG 2000": tif(DEEP, by_tifffile, compression="jpeg2000", **TILES),
    "JPEG XL": tif(RGB, by_tifffile, compression="jpegxl", **TILES),
    "PNG": tif(DEEP, by_tifffile, compression="png", **TILES),
    "CCITT, group 3": pillow("1", lambda path: by_pillow(path, "L"), compression="group3"),
    "CCITT, group 4": gdal(BITS.astype(np.uint8), spread(2), nbits=1, compress="ccittfax4"),
}
COLOURS = {
    "palette": pillow("P", by_pillow, compression="tiff_lzw"),
    "palette of 16 colours": tif(
        GREY >> 4, by_pillow, photometric="palette", colormap=(RNG.integers(0, 256, (3, 256)) * 257).astype(np.uint16)
    ),
    "CMYK": pillow("CMYK", by_pillow, compression="tiff_adobe_deflate"),
    "CMYK, JPEG": pillow("CMYK", by_pillow, compression="jpeg"),
    "inverted": tif(GREY, inverted, photometric="miniswhite", compression="zlib"),
    "inverted, 16 bits": tif(DEEP[..., 0], inverted, photometric="miniswhite", **TILES, compression="lzw"),
    "inverted, 1 bit": tif(BITS, lambda path: by_pillow(path, "L"), photometric="miniswhite"),
    "RGB and transparency": pillow(None, by_pillow, np.dstack([RGB, ALPHA]), compression="tiff_lzw"),
    "grey and transparency": tif(
        np.dstack([GREY, ALPHA]), lambda path: by_pillow(path, "L"), extrasamples=["unassalpha"], planarconfig="contig"
    ),
    "RGB times transparency": tif(
        np.dstack([RGB // 2, ALPHA]), by_pillow, photometric="rgb", extrasamples=["assocalpha"], compression="zlib"
    ),
    "deep RGB and transparency": tif(
        np.dstack([DEEP, ALPHA.astype(np.uint16) * 257]), over_white, photometric="rgb", extrasamples=["unassalpha"]
    ),
    "RGB and another band": gdal(np.dstack([RGB, GREY]), photometric="rgb", alpha="unspecified"),
    "YCbCr, not compressed": pillow("YCbCr", by_pillow),
}


def stack(shape, judge, axes, choice=None, **options):
    """A row of several planes that tifffile writes, with the choice of one image of them."""

    def write(path):
        tifffile.imwrite(path, STACK[: np.prod(shape)].reshape(*shape, *STACK.shape[1:]),
                         **{"metadata": {"axes": axes}, "photometric": "minisblack"} | options)  # fmt: skip

    return write, judge, choice


def planes(*numbers):
    """What was written, as channels."""
    return lambda path: np.moveaxis(STACK[list(numbers)], 0, -1)


def pyramid(path, **options):
    with tifffile.TiffWriter(path, **options) as file:
        file.write(RGB, photometric="rgb", **TILES, subifds=2, compression="zlib")
        for step in (2, 4):
            file.write(RGB[::step, ::step].copy(), photometric="rgb", **TILES, subfiletype=1, compression="zlib")


def overviews(path):
    large = np.kron(DEEP, np.ones((3, 3, 1), np.uint16))
    gdal(large, tiled=True, blockxsize=16, blockysize=16, compress="zstd", predictor=2)[0](path)
    with quiet(), rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.average)


def beside(path):
    """Two pages of different sizes."""
    with tifffile.TiffWriter(path) as file:
        file.write(RGB[:9, :11].copy(), photometric="rgb", metadata=None)
        file.write(DEEP, photometric="rgb", metadata=None, **TILES, compression="zlib")


AXES = {
    "OME, channels": stack((3,), planes(0, 1, 2), "CYX", ome=True),
    "OME, five axes": stack(
        (2, 3, 4), planes(12 + 2, 12 + 6, 12 + 10), "TCZYX", Choice(select={"t": 1, "z": 2}), ome=True, **TILES,
        compression="zlib",
    ),
    "OME, one channel": stack((2, 3, 4), planes(3 + 4), "TCZYX", Choice(select={"T": 0, "C": 1, "Z": 3}), ome=True),
    "OME, depth before channels": stack((4, 3), planes(6, 7, 8), "ZCYX", Choice(select={"z": 2}), ome=True),
    "OME, RGB": ((lambda path: tifffile.imwrite(path, RGB, photometric="rgb", ome=True)), by_rasterio),
    "OME, pyramid": ((lambda path: pyramid(path, ome=True)), lambda path: RGB[::4, ::4], Choice(level=2)),
    "ImageJ, channels": stack((3,), planes(0, 1, 2), "CYX", imagej=True),
    "ImageJ, hyperstack of one page": stack(
        (2, 4, 3), planes(12 + 3, 12 + 4, 12 + 5), "TZCYX", Choice(select={"t": 1, "z": 1}), imagej=True
    ),
    "ImageJ, compressed": stack(
        (2, 3), planes(3, 4, 5), "ZCYX", Choice(select={"z": 1}), imagej=True, compression="zlib"
    ),
    "pages": stack((5,), planes(3), "QYX", Choice(page=3), metadata=None, compression="zlib"),
    "entries of pages": stack((5,), planes(4), "QYX", Choice(select={"q": 4})),
    "pages of other sizes": (beside, lambda path: DEEP, Choice(page=1)),
    "SubIFDs, whole": (pyramid, by_rasterio),
    "SubIFDs, level 1": (pyramid, lambda path: RGB[::2, ::2], Choice(level=1)),
    "overviews": (overviews, by_rasterio),
    "overviews, level 2": (overviews, lambda path: by_rasterio(path, 2), Choice(level=2)),
}  # fmt: skip
TABLE = {"layouts": LAYOUTS, "dtypes": DTYPES, "compressions": COMPRESSIONS, "colours": COLOURS, "axes": AXES}


def differences(path, judge, choice=None, channels=None):
    """Where a file is read otherwise than by its judge, in words; "": nowhere."""
    expected = np.asarray(judge(path))
    expected = expected.reshape(*expected.shape[:2], -1)
    try:
        array, _ = open_tiff(str(path), channels, 2**20, choice or Choice())
    except StorageError as error:
        return str(error)
    if tuple(array.shape) != expected.shape:
        return f"shape {array.shape}, not {expected.shape}"
    if array.dtype != expected.dtype and expected.dtype != np.float32:  # GDAL has no float16 and no 24 bits
        return f"dtype {array.dtype}, not {expected.dtype}"
    height, width = expected.shape[:2]
    odd = (height // 3, height - 1, 1, width // 2 + 1)
    for y0, y1, x0, x1 in ((0, height, 0, width), odd, (height - 1, height, 0, width), (0, 2, 0, 1)):
        region = np.asarray(array[y0:y1, x0:x1])
        if not np.array_equal(region, expected[y0:y1, x0:x1], equal_nan=expected.dtype.kind == "f"):
            return f"{(region != expected[y0:y1, x0:x1]).mean():.0%} of the values of {y0}:{y1}, {x0}:{x1} differ"
    return ""


def real(tfds_data_dir):
    """The folder of real scenes, beside the data sets."""
    folder = tfds_data_dir.parent / "rasters"
    if not folder.is_dir():
        pytest.skip(f"reads real scenes: there is no {folder.name} beside TFDS_DATA_DIR")
    return folder


def by_pillow_page(number):
    """One page of a pyramid."""

    def read(path):
        with open(path, "rb") as file, Image.open(file) as image:
            image.seek(number)
            return np.asarray(image.convert("RGB"))

    return read


REAL = {
    "RGB.byte.tif": (by_rasterio,),
    "rgb_lzw.tif": (by_rasterio,),
    "rgb1.tif": (by_rasterio,),
    "rgb2.tif": (by_rasterio,),
    "rgb3.tif": (by_rasterio,),
    "rgb4.tif": (by_rasterio,),
    "rgb-byte-tenth.tif": (by_rasterio,),
    "world.byte.tif": (by_rasterio,),
    "rotated.tif": (by_rasterio,),
    "float_nan.tif": (by_rasterio,),
    "float_raster_with_nodata.tif": (by_rasterio,),
    "alpha.tif": (by_pillow,),
    "RGBA.uint16.tif": (lambda path: by_rasterio(path)[..., :3],),
    "boxes.tiff": (by_rasterio,),
    "cogeo.tif": (by_pillow, Choice(level=0)),
    "cogeo.tif#3": (by_pillow_page(4), Choice(level=3)),
    "small.svs": (by_pillow_page(0),),
}


def test_real(tfds_data_dir):
    folder = real(tfds_data_dir)
    rows = {name: (folder / name.split("#")[0], *rest) for name, rest in REAL.items()}
    wrong = {name: found for name, row in rows.items() if (found := differences(*row))}
    assert not wrong


def test_real_files_that_cannot_be_read(tfds_data_dir):
    """One clear line: on opening, or where the damaged part is read."""
    folder = real(tfds_data_dir)
    for name, part in (("corrupt.tif", r"page \d+, tile \d+ \(rows \d+ to \d+, columns \d+ to \d+\) is damaged"),
                       ("unreadable.svs", "page 0, tile 0 .*is damaged")):  # fmt: skip
        with pytest.raises(StorageError, match=f"{name}: {part}"):
            array, _ = open_tiff(str(folder / name), None, 2**24)
            array[0 : array.shape[0], 0 : array.shape[1]]


@pytest.mark.parametrize("group", TABLE)
def test_made(tmp_path, group):
    wrong = {}
    for name, (write, judge, *choice) in TABLE[group].items():
        path = tmp_path / f"{len(name)}.tif"
        write(path)
        found = differences(path, judge, *choice)
        if found:
            wrong[name] = found
    assert not wrong


@pytest.mark.parametrize("coding, mct", [(33003, False), (33005, True)])
def test_slides_in_jpeg_2000(tmp_path, coding, mct):
    """Aperio's, whose colours are YCbCr or RGB by the compression's number; OpenSlide is the judge."""
    openslide = pytest.importorskip("openslide", reason="python -m pip install -r requirements-images.txt")
    import imagecodecs

    tiles = [RGB[:32, :32], RGB[5:37, :32], RGB[:32, 11:], RGB[5:37, 11:]]
    codes = [imagecodecs.jpeg2k_encode(np.ascontiguousarray(t), level=0, codecformat="j2k", mct=mct) for t in tiles]
    path = tmp_path / "a.svs"
    description = "Aperio Image Library v1\n64x64|MPP = 0.5"
    options = dict(shape=(64, 64, 3), dtype=np.uint8, tile=(32, 32), photometric="rgb", description=description)
    tifffile.imwrite(path, iter(codes), compression=coding, metadata=None, **options)
    array, _ = open_tiff(str(path), None, 2**20)
    with openslide.OpenSlide(path) as slide:
        expected = np.asarray(slide.read_region((0, 0), 0, (64, 64)).convert("RGB"))
    np.testing.assert_array_equal(array[0:64, 0:64], expected)


def test_the_table_is_long():
    assert sum(map(len, TABLE.values())) + len(REAL) + 2 >= 90
