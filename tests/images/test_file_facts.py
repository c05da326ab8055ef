"""What files say of their images beside the pixels, and the line that each refusal is."""

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorstore

from cnn.images.errors import StorageError
from cnn.images.facts import Choice, Spacing
from cnn.images.files import open_file
from cnn.images.source import open_image

EXTRA = "python -m pip install -r requirements-images.txt"
h5py, openslide, rasterio = (pytest.importorskip(name, reason=EXTRA) for name in ("h5py", "openslide", "rasterio"))
zarr = pytest.importorskip("zarr", reason="python -m pip install -r requirements-checks.txt")

from tests.images import written  # noqa: E402
from tests.images.written import DEEP, RGB, hdf, ome, raster, slide  # noqa: E402


def facts_of(path, channels=None, **choice):
    return open_file(str(path), channels, 2**20, Choice(**choice))[1]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, version):
    path = ome(tmp_path, version)
    facts = facts_of(path, level=1, select={"t": 1, "z": 0})
    assert facts.channel_names == ("DAPI", "GFP", "Cy5") and facts.levels == ((37, 43), (19, 22))
    assert facts.spacing == Spacing(0.5, 1.0, "micrometre") and facts.origin == (2.0, 3.0)
    assert facts.chosen == {"level": 1, "t": 1, "z": 0}
    image = open_image(path, level=1, select={"t": 1, "z": 0})
    assert image.spacing == facts.spacing and dict(zip(image.axes, image.shape, strict=True)) == {
        "y": 19,
        "x": 22,
        "c": 3,
    }
    assert facts_of(path, select={"t": 1, "z": 0, "c": 2}).channel_names is None
    assert facts_of(path / "0", select={"0": 0, "2": 1}).spacing is None


def test_an_ome_zarr_of_another_writer(tmp_path):
    writer = pytest.importorskip("ome_zarr.writer", reason="python -m pip install -r requirements-checks.txt")
    version_of = importlib.import_module("ome_zarr.format").format_from_version
    size = {"c": 1.0, "y": 4.0, "x": 5.0}
    for version in ("0.4", "0.5"):
        path, units = str(tmp_path / version), {"y": "millimeter", "x": "millimeter"}
        writer.write_image(
            written.FIRST, path, axes="cyx", scale=size, axes_units=units, scale_factors=[2], fmt=version_of(version)
        )
        for level in (0, 1):
            array, facts = open_file(path, None, 0, Choice(level=level))
            stored = zarr.open_group(path, mode="r")[path_of(path, level)][...]
            np.testing.assert_array_equal(array[:, :], np.moveaxis(stored, 0, -1))
            assert facts.levels[0] == (37, 43) and len(facts.levels) == 2
            assert facts.spacing.unit == "micrometre"
            np.testing.assert_allclose(facts.spacing[:2], np.array([4000, 5000]) * 2**level, rtol=0.03)


def path_of(path, level):
    attributes = dict(zarr.open_group(path, mode="r").attrs)
    return attributes.get("ome", attributes)["multiscales"][0]["datasets"][level]["path"]


@pytest.mark.parametrize("said, value", [(-9999, -9999.0), ("NaN", np.nan), ("AAAAAACIw8A=", -10000.0), ("none", None)])
def test_the_value_of_pixels_without_data_in_zarr(tmp_path, said, value):
    """A number, its name, or a float64 in base64, as xarray writes it in zarr 3; other texts say nothing."""
    path, _ = written.zarr_array(tmp_path, written.FLOATS, attributes={"_FillValue": said})
    found = open_image(path).facts.nodata
    assert found is value or found == value or np.isnan(found) and np.isnan(value)


def test_rasters(tmp_path):
    path, _ = raster(tmp_path, "a.img", DEEP.astype(np.int16), "HFA", nodata=-5, crs="EPSG:32618")
    with rasterio.open(path, "r+") as file:
        for i, name in enumerate(("red", "nir", "swir"), 1):
            file.set_band_description(i, name)
        file.build_overviews([2], rasterio.enums.Resampling.nearest)
    facts = facts_of(path)
    assert facts.channel_names == ("red", "nir", "swir") and facts.nodata == -5 and facts.valid is None
    assert facts.georeference.transform == (30.0, 0.0, 500_000.0, 0.0, -20.0, 4_000_000.0)
    assert rasterio.crs.CRS.from_string(facts.georeference.crs) == rasterio.crs.CRS.from_epsg(32618)
    assert facts.spacing == Spacing(20.0, 30.0, "metre") and facts.levels == ((37, 43), (19, 22))
    small, facts = open_file(str(path), None, 0, Choice(level=1))
    with rasterio.open(path, overview_level=0) as file:
        np.testing.assert_array_equal(small[:, :], np.moveaxis(file.read(), 0, -1))
        np.testing.assert_allclose(facts.georeference.transform, file.transform[:6], rtol=1e-15)


def test_what_holds_something_in_a_raster(tmp_path):
    path, _ = written.transparent(tmp_path)
    facts = facts_of(path)
    np.testing.assert_array_equal(facts.valid[2:9, 3:30], RGB[2:9, 3:30, 2] > 0)
    assert sorted(name.rsplit("/", 1)[-1] for name in facts.files) == ["0.tif", "1.tif"]
    mixed = (
        (tmp_path / "a.vrt").read_text().replace("<ColorInterp>Gray", "<NoDataValue>9</NoDataValue><ColorInterp>Gray")
    )
    (tmp_path / "b.vrt").write_text(mixed.replace("Alpha", "Undefined"))
    facts = facts_of(tmp_path / "b.vrt")
    with rasterio.open(tmp_path / "b.vrt") as file:
        np.testing.assert_array_equal(facts.valid[:, :], file.dataset_mask() > 0)
    assert facts.nodata is None


def test_pixels_without_data_are_known_where_other_values_are_read(tmp_path):
    """As grey, or through a palette, a value of no data would be a colour like others."""
    path, _ = raster(tmp_path, "a.img", RGB, "HFA", nodata=int(RGB[0, 0, 0]))
    with rasterio.open(path) as file:
        expected = file.dataset_mask() > 0
    assert facts_of(path).nodata == RGB[0, 0, 0] and facts_of(path).valid is None
    facts = facts_of(path, channels=1)
    assert facts.nodata is None
    np.testing.assert_array_equal(facts.valid[:, :], expected)
    path, _ = written.palette(tmp_path)
    with rasterio.open(path, "r+") as file:
        file.nodata = 3
    facts = facts_of(path)
    assert facts.nodata is None
    np.testing.assert_array_equal(facts.valid[:, :], RGB[..., 0] // 8 != 3)


def test_slides(tmp_path):
    path, large = slide(tmp_path)
    array, facts = open_file(str(path), None, 2**20, Choice(level=1))
    assert facts.spacing == Spacing(2.0, 2.0, "micrometre") and facts.levels == (large.shape[:2], (37, 43))
    assert facts.chosen == {"level": 1} and facts.valid[3:8, :].all()


def test_a_slide_of_an_uneven_level_is_the_same_in_all_regions(tmp_path, monkeypatch):
    """OpenSlide interpolates there, each time from where a region begins."""
    stored = np.random.default_rng(0).integers(0, 256, (97, 113, 3), np.uint8)
    path, _ = slide(tmp_path, stored, more=3)
    from cnn.images import slides

    monkeypatch.setattr(slides, "BLOCK", 32)
    array, _ = slides.open_slide(str(path), None, 2**20, Choice(level=1))
    whole = array[:, :]
    assert np.abs(whole[:32, :32].astype(int) - stored[:32, :32]).max() == 0
    for region in ((5, 70, 33, 113), (96, 97, 0, 1), (31, 33, 31, 65)):
        y0, y1, x0, x1 = region
        np.testing.assert_array_equal(array[y0:y1, x0:x1], whole[y0:y1, x0:x1])


def test_a_slide_is_the_same_without_openslide(tmp_path, monkeypatch):
    path, large = slide(tmp_path)
    with_it = open_image(path).read(0, large.shape[0], 0, large.shape[1])
    monkeypatch.setitem(sys.modules, "openslide", None)
    np.testing.assert_array_equal(open_image(path).read(0, large.shape[0], 0, large.shape[1]), with_it)


def test_real_slides(tfds_data_dir):
    folder = tfds_data_dir.parent / "rasters"
    if not folder.is_dir():
        pytest.skip(f"{folder} is no folder")
    source = open_image(folder / "small.svs")
    with openslide.OpenSlide(folder / "small.svs") as file:
        expected = np.asarray(file.read_region((0, 0), 0, file.dimensions).convert("RGB"))
    np.testing.assert_array_equal(source.read(0, 16, 0, 16), expected)
    assert source.facts.spacing == Spacing(0.499, 0.499, "micrometre")
    broken = open_image(folder / "unreadable.svs")
    for _ in range(2):  # an error is not kept
        with pytest.raises(StorageError, match=r"unreadable\.svs: level 0, rows 0 to 5, columns 2 to 9 cannot be read"):
            broken.read(0, 5, 2, 9)


def test_arrays_of_other_libraries(tmp_path):
    dask = pytest.importorskip("dask.array", reason="python -m pip install dask")
    path, _ = written.zarr_array(tmp_path, RGB, chunks=(16, 16, 3))
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    with h5py.File(hdf(tmp_path, RGB)) as file:
        np.save(tmp_path / "a.npy", RGB)
        for array in (
            zarr.open_array(path),
            file["deep/image"],
            dask.from_array(RGB, chunks=(10, 11, 3)),
            np.load(tmp_path / "a.npy", mmap_mode="r"),
            tensorstore.open(spec, read=True).result(),
        ):
            source = open_image(array)
            assert source.shape == RGB.shape
            np.testing.assert_array_equal(source.read(3, 20, 1, 43), RGB[3:20, 1:43])


def test_several_threads_read_the_same(tmp_path):
    bytes_of = {
        "hdf5": hdf(tmp_path, np.tile(RGB, (4, 4, 1)), chunks=(16, 16, 3), compression="gzip"),
        "raster": raster(tmp_path, "a.img", np.tile(RGB, (4, 4, 1)), "HFA")[0],
        "slide": slide(tmp_path)[0],
    }
    for path in bytes_of.values():
        for scale in (None, 0.7):
            source = open_image(path, scale=scale)
            whole = source.read(0, 100, 0, 100)
            places = [(y, x) for y in range(0, 90, 30) for x in range(0, 90, 15)]
            with ThreadPoolExecutor(4) as pool:
                parts = pool.map(source.read, *zip(*[(y, y + 9, x, x + 8) for y, x in places], strict=True))
                for (y, x), found in zip(places, parts, strict=True):
                    np.testing.assert_array_equal(found, whole[y : y + 9, x : x + 8])


@pytest.mark.parametrize("what", [RGB, open_image(RGB)], ids=["array", "source"])
def test_options_of_files_are_refused_for_arrays(what):
    with pytest.raises(StorageError, match="level"):
        open_image(what, level=1)


def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch):
    for module in ("h5py", "openslide", "rasterio"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("a.h5", "a.mrxs", "a.vrt"):
        path = tmp_path / name
        path.write_bytes(b"\x89HDF\r\n\x1a\n")
        with pytest.raises(StorageError, match=rf"{path.name}: .*not installed; `{EXTRA}`"):
            open_image(path)
