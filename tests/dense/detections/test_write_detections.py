"""Files of detections, as pandas and shapely read them, and what is never written over."""

import json
import os

import numpy as np
import pandas
import pytest
import shapely

from cnn import dense
from cnn.images import Georeference, StorageError
from tests.dense.detections.small_maps import SmallMap

NAMES = ('the "one"', "two, three", "line\nbreak", "Zürich 漢字 🙂", "=1+1", "")
WKT = 'PROJCS["UTM 18N",GEOGCS["WGS 84",AUTHORITY["EPSG","4326"]],UNIT["metre",1],AUTHORITY["EPSG","32618"]]'


def opened(**more):
    """A map with a detection of each class but one."""
    p = np.zeros((5, 9, 6), np.float32)
    for k, (row, column) in enumerate([(0, 0), (0, 8), (4, 4), (4, 0), (4, 8)]):
        p[row, column, k] = np.float32(0.51) + np.float32(0.1) * k
    return SmallMap(p, window=(5, 4), stride=(3, 2), **more)


def write(path, what, **options):
    return dense.write_detections(path, dense.detect(what, threshold=0.5), what, **options)


def test_tables_say_what_was_found(tmp_path):
    what = opened(class_names=NAMES)
    found = list(dense.detect(what, threshold=0.5))
    counts = write(tmp_path / "new" / "found.csv", what)
    assert counts == dict.fromkeys(NAMES[:5], 1) | {"": 0}
    table = pandas.read_csv(tmp_path / "new" / "found.csv", keep_default_na=False)
    assert list(table) == ["class", "class_index", "probability", "y0", "x0", "y1", "x1", "centre_y", "centre_x"]
    assert list(table["class"]) == [each.class_name for each in found] and len(found) == 5
    np.testing.assert_array_equal(table["class_index"], [each.class_index for each in found])
    np.testing.assert_array_equal(table["probability"].astype(np.float32), [each.probability for each in found])
    np.testing.assert_array_equal(table[["y0", "x0", "y1", "x1"]], [each[5:] for each in found])
    np.testing.assert_array_equal(table["centre_y"], [(each.y0 + each.y1) / 2 for each in found])
    np.testing.assert_array_equal(table["centre_x"], [(each.x0 + each.x1) / 2 for each in found])
    # Without names a class is its index, and a file of detections is written anew.
    assert write(tmp_path / "new" / "found.csv", opened()) == {"0": 1, "1": 1, "2": 1, "3": 1, "4": 1, "5": 0}
    table = pandas.read_csv(tmp_path / "new" / "found.csv")
    assert list(table["class"]) == list(table["class_index"])
    assert os.listdir(tmp_path / "new") == ["found.csv"]


def test_rectangles_are_those_of_the_windows(tmp_path):
    path, what = tmp_path / "found.geojson", opened(class_names=NAMES)
    found = list(dense.detect(what, threshold=0.5))
    write(path, what)
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["type"] == "FeatureCollection" and "crs" not in read
    for each, feature in zip(found, read["features"], strict=True):
        shape, properties = shapely.from_geojson(json.dumps(feature["geometry"])), feature["properties"]
        assert shape.equals(shapely.box(each.x0, each.y0, each.x1, each.y1)) and shape.exterior.is_ccw
        assert feature["type"] == "Feature" and properties["objectType"] == "detection"
        assert properties["classification"]["name"] == properties["class"] == each.class_name
        assert all(0 <= part <= 255 for part in properties["classification"]["color"])
        assert np.float32(properties["measurements"]["probability"]) == np.float32(each.probability)
    assert len({tuple(f["properties"]["classification"]["color"]) for f in read["features"]}) == 5
    # Of an image that was read at another resolution, in pixels of the file.
    write(path, what, scale=(2, 4.5), object_type="annotation")
    feature = json.loads(path.read_text(encoding="utf-8"))["features"][1]
    expected = shapely.box(*np.multiply([found[1].x0, found[1].y0, found[1].x1, found[1].y1], [4.5, 2, 4.5, 2]))
    assert shapely.from_geojson(json.dumps(feature)).equals(expected)
    assert feature["properties"]["objectType"] == "annotation"
    none = dense.detect(what, threshold=0.999)
    assert sum(dense.write_detections(path, none, what).values()) == 0
    assert json.loads(path.read_text())["features"] == []
    table = tmp_path / "none.csv"
    dense.write_detections(table, [], what)
    assert len(pandas.read_csv(table)) == 0 and pandas.read_csv(table).shape[1] == 9


@pytest.mark.parametrize(
    "transform", [(30.5, 0, 5e5, 0, -30.5, 4e6), (20.1, 7.3, 1e5, 7.1, -19.7, 2e5), (0.25, 0, 10, 0, 0.25, 20)]
)
def test_georeferenced_images_have_coordinates_on_the_earth(tmp_path, transform):
    rasterio = pytest.importorskip("rasterio", reason="compares with rasterio's transforms")
    affine = rasterio.Affine(*transform)
    what = opened(georeference=Georeference(transform, "EPSG:32618"))
    found = list(dense.detect(what, threshold=0.5))
    write(tmp_path / "found.csv", what)
    table = pandas.read_csv(tmp_path / "found.csv")
    centres = [affine @ ((each.x0 + each.x1) / 2, (each.y0 + each.y1) / 2) for each in found]
    np.testing.assert_allclose(table[["map_x", "map_y"]], centres, rtol=1e-14)
    np.testing.assert_array_equal(table["y0"], [each.y0 for each in found])
    write(tmp_path / "found.geojson", what)
    read = json.loads((tmp_path / "found.geojson").read_text())
    assert rasterio.crs.CRS.from_user_input(read["crs"]["properties"]["name"]).to_epsg() == 32618
    for each, feature in zip(found, read["features"], strict=True):
        corners = [
            affine @ at for at in ((each.x0, each.y0), (each.x1, each.y0), (each.x1, each.y1), (each.x0, each.y1))
        ]
        shape, known = shapely.from_geojson(json.dumps(feature)), shapely.Polygon(corners)
        assert shape.symmetric_difference(known).area < 1e-8 * known.area
        assert shape.exterior.is_ccw  # RFC 7946, 3.1.6, also where the image is upside down
    write(tmp_path / "found.geojson", what, coordinates="pixels")
    read = json.loads((tmp_path / "found.geojson").read_text())
    assert "crs" not in read and read["features"][0]["geometry"]["coordinates"][0][:2] == [[0, 0], [4, 0]]


@pytest.mark.parametrize(
    "crs, name",
    [
        ("epsg:4326", "urn:ogc:def:crs:OGC:1.3:CRS84"),
        (WKT, "urn:ogc:def:crs:EPSG::32618"),
        ('LOCAL_CS["here",UNIT["metre",1]]', 'LOCAL_CS["here",UNIT["metre",1]]'),
        ('PROJCRS["x",BASEGEOGCRS["WGS 84",ID["EPSG",4326]],ID["EPSG",3857]]', "urn:ogc:def:crs:EPSG::3857"),
        ('PROJCS["x",GEOGCS["WGS 84",AUTHORITY["EPSG","4326"]],UNIT["metre",1]]', None),
        (None, ""),
    ],
)
def test_coordinate_systems_are_named_as_gdal_names_them(tmp_path, crs, name):
    what = opened(georeference=Georeference((1, 0, 0, 0, -1, 0), crs))
    write(tmp_path / "found.geojson", what)
    read = json.loads((tmp_path / "found.geojson").read_text())
    assert read.get("crs", {"properties": {"name": ""}})["properties"]["name"] == (crs if name is None else name)


def test_gdal_reads_what_was_written(tmp_path):
    pyogrio = pytest.importorskip("pyogrio", reason="reads GeoJSON with GDAL")
    what = opened(class_names=NAMES, georeference=Georeference((30.5, 0, 5e5, 0, -30.5, 4e6), WKT))
    found = list(dense.detect(what, threshold=0.5))
    write(tmp_path / "found.geojson", what)
    about, _, shapes, columns = pyogrio.raw.read(tmp_path / "found.geojson")
    fields = dict(zip(about["fields"], columns, strict=True))
    assert about["crs"] == "EPSG:32618" and list(fields["class"]) == [each.class_name for each in found]
    np.testing.assert_array_equal(fields["probability"].astype(np.float32), [each.probability for each in found])
    for each, shape in zip(found, shapely.from_wkb(shapes), strict=True):
        assert shape.bounds == (5e5 + 30.5 * each.x0, 4e6 - 30.5 * each.y1, 5e5 + 30.5 * each.x1, 4e6 - 30.5 * each.y0)


def test_other_files_are_never_written_over(tmp_path):
    what = opened()
    kept = {"notes.csv": "a,b\n1,2\n", "shapes.geojson": '{"type": "FeatureCollection", "features": []}'}
    for name, text in kept.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "map.zarr").mkdir()
    (tmp_path / "folder.csv").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for name, message in {
        "notes.csv": "notes.csv: it is no file of detections, and is not replaced",
        "shapes.geojson": "shapes.geojson: it is no file of detections",
        "found.json": "found.json: detections are written as .csv or .geojson",
        "folder.csv": "folder.csv: it is a directory",
        "map.zarr/found.csv": "found.csv: it lies in the map",
        "notes.csv/found.csv": "it cannot be written: File exists",
    }.items():
        with pytest.raises(StorageError, match=message):
            write(tmp_path / name, opened(path=str(tmp_path / "map.zarr")))
    with pytest.raises(StorageError, match="has no place on the Earth"):
        write(tmp_path / "found.csv", what, coordinates="map")
    for options in ({"coordinates": "feet"}, {"object_type": "cell"}, {"scale": 0}, {"scale": (1, 2, 3)}):
        with pytest.raises(ValueError, match=f"write_detections: .*{next(iter(options))}"):
            write(tmp_path / "found.csv", what, **options)
    assert sorted(tmp_path.rglob("*")) == before
    assert all((tmp_path / name).read_text() == text for name, text in kept.items())


@pytest.mark.parametrize("suffix", [".csv", ".geojson"])
def test_what_cannot_be_finished_leaves_the_earlier_file(tmp_path, monkeypatch, suffix):
    path, what = tmp_path / f"found{suffix}", opened()
    write(path, what)
    before = path.read_bytes()

    def damaged():
        yield from dense.detect(what, threshold=0.5)
        raise StorageError("map.zarr: tile 7 cannot be read")

    def full(file):
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="^map.zarr: tile 7 cannot be read$"):
        dense.write_detections(path, damaged(), what)
    with pytest.raises(StorageError, match="it cannot be written: .*surrogates"):
        write(path, opened(class_names=("\ud800", *"bcdef")))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=f"found{suffix}: it cannot be written: No space left on device"):
        write(path, what)
    assert os.listdir(tmp_path) == [path.name] and path.read_bytes() == before
