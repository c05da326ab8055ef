"""What a TIFF says beside its pixels, against rasterio and what was written: places, sizes, names, no-data, masks."""

import contextlib
import logging
import warnings

import numpy as np
import pytest
import tifffile

from cnn.images.errors import StorageError
from cnn.images.facts import Choice, Spacing
from cnn.images.tiff_arrays import open_tiff

rasterio = pytest.importorskip("rasterio", reason="python -m pip install -r requirements-images.txt")
from rasterio.transform import Affine  # noqa: E402

GREY = np.random.default_rng(3).integers(0, 256, (40, 48), np.uint8)
PLANES = np.stack([GREY, GREY + 1, GREY + 2]).astype(np.uint16)


def facts(path, level=None, **choice):
    return open_tiff(str(path), None, 2**20, Choice(level=level, **choice))[1]


@contextlib.contextmanager
def quiet():
    """Without rasterio's warning that a file has no coordinates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def write(path, array=GREY, mask=None, overviews=(), tags=None, **options):
    """A GeoTIFF that GDAL writes."""
    bands = array if array.ndim == 3 else array[None]
    profile = dict(driver="GTiff", dtype=bands.dtype, count=len(bands), height=bands.shape[1], width=bands.shape[2])
    with quiet():
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile | options) as file:
            file.write(bands)
            file.update_tags(**(tags or {}))
            if mask is not None:
                file.write_mask(mask)
            file.descriptions = options.get("descriptions", (None,) * len(bands))
        if overviews:
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
                file.build_overviews(list(overviews), rasterio.enums.Resampling.nearest)


def assert_lies_as_rasterio_says(path):
    with rasterio.open(path) as file:
        where = facts(path).georeference
        np.testing.assert_allclose(where.transform, tuple(file.transform)[:6], rtol=1e-14)
        assert rasterio.crs.CRS.from_string(where.crs) == file.crs
        for level, factor in enumerate(file.overviews(1), start=1):
            with rasterio.open(path, overview_level=level - 1) as small:
                there = facts(path, level).georeference.transform
                np.testing.assert_allclose(there, tuple(small.transform)[:6], rtol=1e-12, err_msg=str(factor))


def assert_the_system_can_be_copied(folder, where):
    """A file with these tags, and the transform as it is, lies where the first lay."""
    a, b, c, d, e, f = where.transform
    matrix = (34264, "d", 16, (a, b, 0, c, d, e, 0, f, 0, 0, 0, 0, 0, 0, 0, 1), True)
    tags = [(number, *entry, True) for number, entry in where.geokeys.items()]
    tifffile.imwrite(folder / "copy.tif", GREY, photometric="minisblack", metadata=None, extratags=[matrix, *tags])
    with rasterio.open(folder / "copy.tif") as file:
        assert tuple(file.transform)[:6] == where.transform and file.crs == rasterio.crs.CRS.from_string(where.crs)


def test_georeference_of_files_that_gdal_writes(tmp_path):
    slanted = Affine(20.0, 3.0, 500_000.0, 4.0, -25.0, 4_000_000.0)
    for name, transform, crs, options in (
        ("utm", Affine(30.0, 0, 399_960.0, 0, -30.0, 4_200_000.0), "EPSG:32618", dict(overviews=(2, 4))),
        ("slanted", slanted, "EPSG:32733", {}),
        ("point", Affine(0.5, 0, -10.25, 0, -0.25, 60.5), "EPSG:4326", dict(tags={"AREA_OR_POINT": "Point"})),
        ("slanted point", slanted, "EPSG:3857", dict(tags={"AREA_OR_POINT": "Point"})),
        ("own", Affine(1.0, 0, 7.0, 0, -1.0, 9.0), "+proj=laea +lat_0=12 +lon_0=34 +ellps=GRS80 +units=m", {}),
    ):
        path = tmp_path / f"{name}.tif"
        write(path, transform=transform, crs=crs, tiled=True, blockxsize=16, blockysize=16, compress="lzw", **options)
        assert_lies_as_rasterio_says(path)
    assert facts(tmp_path / "utm.tif").spacing == Spacing(30.0, 30.0, "metre")
    assert facts(tmp_path / "utm.tif", 2).spacing == Spacing(120.0, 120.0, "metre")
    assert facts(tmp_path / "utm.tif").levels == ((40, 48), (20, 24), (10, 12))
    assert facts(tmp_path / "point.tif").spacing == Spacing(0.25, 0.5, "degree")
    assert facts(tmp_path / "slanted.tif").spacing == pytest.approx((np.hypot(3, 25), np.hypot(20, 4), "metre"))
    kept = facts(tmp_path / "utm.tif").georeference.geokeys
    with tifffile.TiffFile(tmp_path / "utm.tif") as file:
        assert {number: value for number, (_, _, value) in kept.items()} == {
            number: file.pages[0].tags[number].value for number in (34735, 34737)
        }
    assert_the_system_can_be_copied(tmp_path, facts(tmp_path / "slanted point.tif").georeference)


def test_georeference_of_real_scenes(tfds_data_dir):
    folder = tfds_data_dir.parent / "rasters"
    if not folder.is_dir():
        pytest.skip("reads real scenes: there is no rasters beside TFDS_DATA_DIR")
    for name in ("RGB.byte", "rgb_lzw", "rgb1", "rgb2", "rgb3", "rgb4", "world.byte", "cogeo", "RGBA.uint16"):
        assert_lies_as_rasterio_says(folder / f"{name}.tif")
    with rasterio.open(folder / "rotated.tif") as file:
        assert facts(folder / "rotated.tif").georeference.transform == pytest.approx(tuple(file.transform)[:6])
    assert facts(folder / "RGB.byte.tif").nodata == 0
    assert np.isnan(facts(folder / "float_nan.tif").nodata)
    assert facts(folder / "float_raster_with_nodata.tif").nodata == -3.4e38
    with rasterio.open(folder / "cogeo.tif") as file:
        valid = facts(folder / "cogeo.tif").valid
        np.testing.assert_array_equal(valid[0:1024, 0:1024], file.read_masks(1) > 0)
    with rasterio.open(folder / "cogeo.tif", overview_level=2) as file:
        valid = facts(folder / "cogeo.tif", 3).valid
        np.testing.assert_array_equal(valid[3:128, 1:99], file.read_masks(1)[3:128, 1:99] > 0)
    with rasterio.open(folder / "alpha.tif") as file:
        valid = facts(folder / "alpha.tif").valid
        np.testing.assert_array_equal(valid[0:1223, 0:1223], file.read(4) > 0)


def test_a_picture_that_is_turned_upright_lies_where_it_lay(tmp_path):
    """Each pixel's corners: found by value, since all pixels differ."""
    stored, transform = np.arange(40 * 48, dtype=np.int32).reshape(40, 48), Affine(2, 0.5, 100, 0.25, -3, 900)
    write(tmp_path / "as_stored.tif", stored, transform=transform, crs="EPSG:32618")
    with tifffile.TiffFile(tmp_path / "as_stored.tif") as file:
        tags = [(t.code, t.dtype, t.count, t.value, True) for t in file.pages[0].tags if t.code in (34264, 34735)]
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.tif"
        extra = [*tags, (274, "H", 1, orientation, True)]
        tifffile.imwrite(path, stored, extratags=extra, metadata=None, photometric="minisblack")
        array, said = open_tiff(str(path), None, 2**20)
        upright = np.asarray(array[0 : array.shape[0], 0 : array.shape[1]])[..., 0]
        rows, columns = np.mgrid[0 : upright.shape[0], 0 : upright.shape[1]]
        x, y = Affine(*said.georeference.transform) @ (columns + 0.5, rows + 0.5)
        there_x, there_y = transform @ (upright % 48 + 0.5, upright // 48 + 0.5)
        np.testing.assert_allclose(x, there_x, rtol=1e-12)
        np.testing.assert_allclose(y, there_y, rtol=1e-12)


def test_masks_and_values_that_stand_for_nothing(tmp_path):
    mask = GREY > 90
    write(tmp_path / "mask.tif", GREY, mask, compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    valid = facts(tmp_path / "mask.tif").valid
    assert valid.shape == (40, 48) and valid.dtype == bool
    np.testing.assert_array_equal(valid[3:39, 5:48], mask[3:39, 5:48])
    write(tmp_path / "levels.tif", GREY, mask, (2, 4), compress="deflate")
    for level in (0, 1, 2):
        with (
            quiet(),
            rasterio.open(tmp_path / "levels.tif", **({"overview_level": level - 1} if level else {})) as file,
        ):
            height, width = file.shape
            expected = file.read_masks(1) > 0
        np.testing.assert_array_equal(facts(tmp_path / "levels.tif", level).valid[0:height, 0:width], expected)

    write(tmp_path / "nodata.tif", PLANES.astype(np.int16), nodata=-9999)
    assert facts(tmp_path / "nodata.tif").nodata == -9999 and facts(tmp_path / "nodata.tif").valid is None
    tags = [(42113, "s", 0, "7", True)]
    white = dict(photometric="miniswhite", extratags=tags, metadata=None)
    tifffile.imwrite(tmp_path / "white.tif", GREY, **white)  # the value is that which is stored, not that which is read
    said = facts(tmp_path / "white.tif")
    np.testing.assert_array_equal(said.valid[0:40, 0:48], GREY != 7)
    assert said.nodata is None and said.chosen["colours"].startswith("inverted")
    tifffile.imwrite(tmp_path / "7.tif", GREY, photometric="minisblack", extratags=[(42113, "s", 0, "nonsense", True)])
    assert facts(tmp_path / "7.tif").nodata is None

    clear = np.dstack([GREY, GREY, GREY, np.where(mask, 200, 0).astype(np.uint8)])
    tifffile.imwrite(tmp_path / "rgba.tif", clear, photometric="rgb", extrasamples=["unassalpha"], compression="zlib")
    said = facts(tmp_path / "rgba.tif")
    np.testing.assert_array_equal(said.valid[0:40, 0:48], mask)
    assert said.chosen["alpha"] == "laid over white"
    array, said = open_tiff(str(tmp_path / "rgba.tif"), 4, 2**20)
    np.testing.assert_array_equal(array[0:40, 0:48], clear)  # a net of four channels gets what is stored
    tifffile.imwrite(tmp_path / "float.tif", clear / np.float32(255), photometric="rgb", extrasamples=["unassalpha"])
    array, said = open_tiff(str(tmp_path / "float.tif"), None, 2**20)
    np.testing.assert_array_equal(array[0:40, 0:48], clear[..., :3] / np.float32(255))
    assert said.chosen["alpha"].startswith("left out")


def test_spacing(tmp_path):
    def said(**options):
        tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="minisblack", **options)
        found = facts(tmp_path / "a.tif")
        return found.spacing, found.chosen.get("spacing")

    assert said(resolution=(40_000, 20_000), resolutionunit="CENTIMETER") == (
        Spacing(0.5, 0.25, "micrometre"), "resolution tags")  # fmt: skip
    assert said(resolution=(25_400, 25_400), resolutionunit="INCH")[0] == Spacing(1.0, 1.0, "micrometre")
    for dots in (72, 96, 300, 600, 1200):  # of screens, printers and scanners: nobody's pixels
        assert said(resolution=(dots, dots), resolutionunit="INCH") == (None, None)
    assert said(resolution=(1, 1), resolutionunit="NONE") == said() == (None, None)
    sizes = {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25}
    assert said(ome=True, metadata={"axes": "YX"} | sizes) == (Spacing(0.25, 0.5, "micrometre"), "OME-XML")
    imagej = dict(imagej=True, resolution=(4, 2))
    assert said(**imagej, metadata={"unit": "um"}) == (Spacing(0.5, 0.25, "micrometre"), "ImageJ")
    assert said(**imagej, metadata={"unit": "pixel"}) == (None, None)
    aperio = "Aperio Image Library v1\n48x40 [0,0 48x40] (16x16) Q=30|AppMag = 20|MPP = 0.4990"
    assert said(description=aperio, tile=(16, 16), metadata=None) == (Spacing(0.499, 0.499, "micrometre"), "Aperio MPP")
    turned = [(274, "H", 1, 6, True)]
    assert said(resolution=(40_000, 20_000), resolutionunit=3, extratags=turned)[0] == Spacing(0.25, 0.5, "micrometre")


def test_channel_names(tmp_path):
    path = tmp_path / "a.ome.tif"
    names = ["DAPI", "GFP", "membrane"]
    tifffile.imwrite(path, PLANES, ome=True, metadata={"axes": "CYX", "Channel": {"Name": names}})
    assert facts(path).channel_names == tuple(names)
    assert facts(path, select={"c": 1}).channel_names == ("GFP",)
    tifffile.imwrite(path, PLANES, ome=True, metadata={"axes": "CYX"})
    assert facts(path).channel_names is None
    stack = np.stack([PLANES, PLANES + 9])
    labels = [f"c:{c + 1}/3 z:{z + 1}/2 - {name}" for z in range(2) for c, name in enumerate(names)]
    for compression in (None, "zlib"):
        tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZCYX", "Labels": labels}, compression=compression)
        assert facts(path, select={"z": 1}).channel_names == tuple(names)
    write(tmp_path / "bands.tif", PLANES, descriptions=("red", "near infrared", "blue"), compress="deflate")
    assert facts(tmp_path / "bands.tif").channel_names == ("red", "near infrared", "blue")


def test_an_image_of_several_files(tmp_path, caplog):
    """OME-XML names the files of the planes."""
    for i in (0, 1):
        uuid = [f'<UUID FileName="{n}.ome.tif">urn:uuid:{n}</UUID>' for n in (0, 1)]
        planes = "".join(f'<TiffData FirstC="{n}" IFD="0" PlaneCount="1">{uuid[n]}</TiffData>' for n in (0, 1))
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{i}"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="48" SizeY="40" SizeC="2" SizeZ="1" '
            f'SizeT="1"><Channel ID="C:0" Name="a"/><Channel ID="C:1" Name="b"/>{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / f"{i}.ome.tif", PLANES[i], description=xml, metadata=None, compression="zlib")
    array, said = open_tiff(str(tmp_path / "0.ome.tif"), None, 2**20)
    np.testing.assert_array_equal(array[0:40, 3:48], np.moveaxis(PLANES[:2, :, 3:], 0, -1))
    assert said.channel_names == ("a", "b")
    (tmp_path / "1.ome.tif").unlink()
    caplog.set_level(logging.ERROR, "tifffile")
    with pytest.raises(StorageError, match=r"0\.ome\.tif: plane 1 of 2 is not stored, or is in a file that is not"):
        open_tiff(str(tmp_path / "0.ome.tif"), None, 2**20)


def test_what_there_is_to_choose_is_named(tmp_path):
    def check(path, message, level=None, **choice):
        with pytest.raises(StorageError, match=message) as caught:
            facts(path, level, **choice)
        assert "\n" not in str(caught.value)

    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, PLANES.reshape(1, 3, 40, 48), photometric="minisblack", ome=True, metadata={"axes": "CZYX"})
    check(path, r"3 pages, together 3x40x48 \(T=1, C=1, Z=3, Y=40, X=48, S=1\); .* choose one by --select=z=0")
    check(path, r"z=3: axis z has 3 entries, 0 to 2 \(--select\)", select={"z": 3})
    check(path, r"axis q: its axes are t=1, c=1, z=3 \(--select\)", select={"q": 0})
    check(path, r"page 3: it has 3 pages, 0 to 2 \(--page\)", page=3)
    check(path, r"axis z: its axes are none .*\(--select\)", page=1, select={"z": 1})
    check(path, r"level 1: it has no pyramid, only level 0: 40x48 \(--level\)", 1, select={"z": 0})
    assert facts(path, select={"z": 1, "t": 0}).chosen == {"select": {"z": 1, "t": 0}}
    tifffile.imwrite(path, PLANES, photometric="minisblack", metadata=None)
    check(path, r"3 pages, together 3x40x48 \(I=3, Y=40, X=48, S=1\); .* by --select=i=0 or --page=0")
    with tifffile.TiffWriter(path) as file:
        file.write(GREY, tile=(16, 16), subifds=1)
        file.write(GREY[::2, ::2].copy(), tile=(16, 16), subfiletype=1)
    check(path, r"level 2: the pyramid's levels are 0: 40x48, 1: 20x24 \(--level\)", 2)
    with tifffile.TiffWriter(path) as file:  # half as large by chance: neither in tiles nor marked as reduced
        file.write(GREY, metadata=None)
        file.write(GREY[::2, ::2].copy(), metadata=None)
    check(path, r"2 pictures \(40x48, 20x24\); write the one .* or choose it by --page=0, --page=1")
    assert open_tiff(str(path), None, 2**20, Choice(page=1))[0].shape == (20, 24, 1)
    assert facts(path, page=0).levels == ()
    tifffile.imwrite(path, PLANES.astype(np.complex64), photometric="minisblack", metadata=None)
    check(path, r"page 0: complex64 is not an intensity", page=0)
    whole = tmp_path / "whole.tif"
    tifffile.imwrite(whole, PLANES[0], photometric="minisblack", metadata=None)
    whole.write_bytes(whole.read_bytes()[:-100])
    check(whole, r"whole\.tif: page 0 is cut off: its pixels end at byte \d+, the file at \d+")


def test_memory_and_threads(tmp_path, monkeypatch):
    """Parts are decoded once while they are kept, and the latest that fit are kept."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, PLANES, photometric="minisblack", tile=(16, 16), compression="zlib", metadata={"axes": "CYX"}
    )
    opened = []
    real = open

    def counted(name, *rest, **options):
        if str(name).endswith("a.tif"):
            opened.append(name)
        return real(name, *rest, **options)

    array, _ = open_tiff(str(path), None, 2 * 16 * 16 * 2, Choice(select={"c": 0}))
    monkeypatch.setattr("builtins.open", counted)
    array[20:30, 33:40]
    assert len(opened) == 1  # of 3 x 3 tiles the one that holds it
    array[17:31, 32:47]
    assert len(opened) == 1  # kept
    array[0:40, 0:48]
    before = len(opened)
    assert before >= 1 + 8
    array[0:40, 0:48]  # two of nine may still be there, whichever were decoded last
    assert len(opened) >= before + 7
    monkeypatch.undo()
    with pytest.raises(StorageError, match=r"in parts of 16x16 pixels.*give it more memory"):
        open_tiff(str(path), None, 500, Choice(select={"c": 0}))


def test_grey_and_colours_of_16_bits(tmp_path):
    rgb = np.moveaxis(PLANES, 0, -1) * 200
    tifffile.imwrite(tmp_path / "rgb.tif", rgb, photometric="rgb")
    array, _ = open_tiff(str(tmp_path / "rgb.tif"), 1, 2**20)
    grey = np.floor((rgb.astype(np.float64) @ [19595, 38470, 7471] + 0x8000) / 65536)
    np.testing.assert_array_equal(array[0:40, 0:48][..., 0], grey)
    assert array.dtype == np.uint16
    tifffile.imwrite(tmp_path / "grey.tif", PLANES[0], photometric="minisblack")
    array, _ = open_tiff(str(tmp_path / "grey.tif"), 3, 2**20)
    np.testing.assert_array_equal(array[0:40, 0:48], np.dstack([PLANES[0]] * 3))
    tifffile.imwrite(tmp_path / "bands.tif", PLANES, ome=True, metadata={"axes": "CYX"})  # which are no colours
    assert open_tiff(str(tmp_path / "bands.tif"), 1, 2**20)[0].shape == (40, 48, 3)
