"""GeoTIFF maps: what rasterio (GDAL) and tifffile read in them, and where it puts them."""

import json

import numpy as np
import pytest
import rasterio
import tifffile

from cnn import dense
from cnn.dense.streaming.sinks import geotiff, pyramid
from cnn.images.facts import Facts, Georeference
from cnn.images.source import Source
from tests.dense.streaming.small_maps import centre, scores, write_map
from tests.dense.streaming.small_stream import CONSTANTS, run

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SCENES = ("RGB.byte.tif", "rgb_lzw.tif", "cogeo.tif", "world.byte.tif", "rotated.tif")
KEYS = (34735, 34736, 34737)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(pyramid, "SMALLEST", 24)


@pytest.fixture
def rasters(tfds_data_dir):
    folder = tfds_data_dir.parent / "rasters"
    if not folder.is_dir():
        pytest.skip("reads scenes in rasters, beside TFDS_DATA_DIR")
    return folder


def at(transform, x, y):
    """Where an affine transform puts a point."""
    a, b, c, d, e, f = tuple(transform)[:6]
    return a * x + b * y + c, d * x + e * y + f


def georeference(path, keys):
    """A scene's georeference, by rasterio; with its TIFF tags, or with the name of its coordinate system."""
    with rasterio.open(path) as scene, tifffile.TiffFile(path) as file:
        tags = {n: file.pages[0].tags.get(n) for n in KEYS}
        found = {n: [int(tag.dtype), tag.count, tag.value] for n, tag in tags.items() if tag is not None}
        return {
            "transform": list(scene.transform)[:6],
            "crs": scene.crs.to_wkt() if scene.crs else None,
            "geokeys": found if keys and found else None,
        }


@pytest.mark.parametrize("keys", [True, False], ids=["keys", "name"])
@pytest.mark.parametrize("name", SCENES)
def test_centres_of_scores_are_centres_of_windows(tmp_path, rasters, name, keys):
    with rasterio.open(rasters / name) as scene:
        forth, crs, shape = scene.transform, scene.crs, [scene.height, scene.width, scene.count]
    back = ~forth
    values = scores(75, 50)
    said = write_map(tmp_path / "m.tif", values, georeference=georeference(rasters / name, keys), image_shape=shape)
    with rasterio.open(tmp_path / "m.tif") as made:
        assert made.crs == crs
        assert made.descriptions == ("cat", "<dog> & co", "owl") and np.isnan(made.nodata)
        assert made.overviews(1) == [2, 4] and made.profile["tiled"] and made.compression.name == "deflate"
        np.testing.assert_array_equal(np.moveaxis(made.read(), 0, -1), values)
        assert json.loads(made.tags()["score_map"]) == json.loads(json.dumps(said))
        for i, j in ((0, 0), (74, 49), (3, 40)):
            x, y = at(back, *at(made.transform, j + 0.5, i + 0.5))
            np.testing.assert_allclose((y, x), centre(said, i, j), rtol=0, atol=1e-9)
        for i, j in ((0, 0), (75, 50)):  # and the corners, which lie half a stride outwards
            x, y = at(back, *at(made.transform, j, i))
            expected = [c - s / 2 for c, s in zip(centre(said, i, j), said["stride"], strict=True)]
            np.testing.assert_allclose((y, x), expected, rtol=0, atol=1e-9)
    opened = dense.open_map(tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as made:
        np.testing.assert_allclose(opened.transform, tuple(made.transform)[:6], rtol=1e-14)
    assert opened.georeference is not None and opened.georeference.transform == tuple(forth)[:6]


def test_a_source_whose_tiepoints_are_points(tmp_path):
    """Its keys are copied, but for that: the transform is one of corners."""
    options = {"driver": "GTiff", "width": 60, "height": 60, "count": 1, "dtype": "uint8", "crs": "EPSG:32618"}
    with rasterio.open(tmp_path / "s.tif", "w", **options, transform=rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)) as scene:
        scene.update_tags(AREA_OR_POINT="Point")
        scene.write(np.ones((1, 60, 60), np.uint8))
    said = write_map(tmp_path / "m.tif", scores(9, 8), georeference=georeference(tmp_path / "s.tif", True))
    with rasterio.open(tmp_path / "s.tif") as scene, rasterio.open(tmp_path / "m.tif") as made:
        assert scene.tags()["AREA_OR_POINT"] == "Point" and made.crs == scene.crs
        x, y = at(~scene.transform, *at(made.transform, 2.5, 3.5))
        np.testing.assert_allclose((y, x), centre(said, 3, 2), atol=1e-9)


def test_overviews_are_the_pyramid_and_large_files_are_bigtiff(tmp_path, monkeypatch):
    values = scores(75, 50)
    write_map(tmp_path / "m.tif", values)
    write_map(tmp_path / "m.ome.zarr", values)
    level = pyramid.open_level(str(tmp_path / "m.ome.zarr"), 1)[...].read().result()
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert [page.subfiletype for page in file.pages] == [0, 1, 1] and not file.is_bigtiff
        np.testing.assert_array_equal(file.pages[1].asarray(), level)
    with rasterio.open(tmp_path / "m.tif", overview_level=0) as made:
        np.testing.assert_array_equal(made.read(), level)
    assert not list(tmp_path.glob("*.part*"))
    monkeypatch.setattr(geotiff, "CLASSIC_BYTES", 1000)
    write_map(tmp_path / "big.tiff", values[..., :1], spacing={"y": 0.5, "x": 0.25, "unit": "micrometre"})
    with tifffile.TiffFile(tmp_path / "big.tiff") as file:
        page = file.pages[0]
        assert file.is_bigtiff and page.shape == (75, 50)
        down, across = (page.tags[name].value for name in ("YResolution", "XResolution"))
        assert page.tags["ResolutionUnit"].value == 3  # scores a centimetre: every 2 and every 1.5 micrometres
        np.testing.assert_allclose([down[0] / down[1], across[0] / across[1]], [1e4 / 2, 1e4 / 1.5], rtol=1e-6)
    np.testing.assert_array_equal(dense.open_map(tmp_path / "big.tiff").read(), values[..., :1])


@pytest.mark.parametrize("dtype", ["float16", "uint8", "uint16"])
def test_other_dtypes(tmp_path, dtype):
    values = scores(30, 27, classes=2).astype(dtype) if dtype == "float16" else (
        np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (30, 27, 2), dtype))  # fmt: skip
    write_map(tmp_path / "m.tif", values, written="scores" if dtype == "float16" else "class")
    with rasterio.open(tmp_path / "m.tif") as made:
        np.testing.assert_array_equal(np.moveaxis(made.read(), 0, -1), values.astype(made.dtypes[0]))
        assert made.nodata is None or np.isnan(made.nodata)
    np.testing.assert_array_equal(dense.open_map(tmp_path / "m.tif").read(), values)


@pytest.mark.usefixtures("small_tiles")
def test_a_stream_from_a_scene(tmp_path, rasters):
    """The source's georeference and pixel size come with it, through the working map and a map that is continued."""
    with rasterio.open(rasters / "rgb_lzw.tif") as scene:
        pixels, forth, crs = np.moveaxis(scene.read(), 0, -1)[:98, :121], scene.transform, scene.crs
    facts = Facts(georeference=Georeference(tuple(forth)[:6], crs.to_wkt()))
    for name in ("m.tif", "m.zarr"):
        run(tmp_path / name, Source(pixels, "scene", facts=facts), tile=16, class_names=list("abcde"), **CONSTANTS)
    found = dense.open_map(tmp_path / "m.zarr")
    assert found.georeference is not None and found.georeference.crs == crs.to_wkt()
    with rasterio.open(tmp_path / "m.tif") as made:
        assert made.crs == crs and made.descriptions == tuple("abcde")
        np.testing.assert_array_equal(np.moveaxis(made.read(), 0, -1), found.read())
        y0, x0, y1, x1 = found.box(11, 23)
        x, y = at(~forth, *at(made.transform, 23.5, 11.5))
        np.testing.assert_allclose((y, x), ((y0 + y1) / 2, (x0 + x1) / 2), atol=1e-9)
