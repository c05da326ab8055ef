"""Maps are opened again with what their scores are, whichever kind of file they are in; others are told in a line."""

import json
import os
import shutil

import numpy as np
import pytest
import rasterio
import scipy.special
import tifffile
import zarr

from cnn import dense
from cnn.dense.streaming.sink import open_sink
from cnn.images import Georeference, Spacing
from cnn.images.errors import StorageError
from tests.dense.streaming.small_maps import ABOUT, scores, write_map
from tests.made import make_zarr

NAMES = ("m.npy", "m.zarr", "m.ome.zarr", "m.tif")
SPACING = {"y": 0.5, "x": 0.25, "unit": "metre"}
PLACE = {"transform": [0.25, 0.0, 1e5, 0.0, -0.5, 4e6], "crs": None, "geokeys": None}


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_says_the_same(tmp_path, name):
    values = scores(70, 66)
    for activation, reference in (("softmax", scipy.special.softmax), ("sigmoid", None)):
        path = tmp_path / f"{activation}_{name}"
        said = write_map(path, values, spacing=SPACING, georeference=PLACE, output_activation=activation)
        opened = dense.open_map(path)
        assert opened.shape == (70, 66, 3) and opened.dtype == np.float32 and dict(opened.about) == said
        assert (opened.window, opened.stride, opened.offset, opened.last) == ((32, 16), (4, 6), (0, 0), (None, None))
        assert (opened.written, opened.output_activation) == ("scores", activation)
        assert opened.class_names == ABOUT["class_names"] and opened.image_shape == (4000, 4000, 3)
        assert opened.spacing == Spacing(0.5, 0.25, "metre")
        assert opened.georeference == Georeference(tuple(PLACE["transform"]))
        assert opened.box(2, 3) == (8, 18, 40, 34) and opened.corners(1)[65] == 390
        np.testing.assert_array_equal(opened.read(), values)
        part = slice(31, 67), slice(60, None)
        np.testing.assert_array_equal(opened.read(*part), values[part])
        wide = values[part].astype(np.float64)
        expected = scipy.special.expit(wide) if reference is None else reference(wide, axis=-1)
        np.testing.assert_allclose(opened.probabilities(*part), expected, rtol=1e-6)
    two = write_map(tmp_path / f"one_{name}", values[..., :1], class_names=["no", "yes"])
    probabilities = dense.open_map(tmp_path / f"one_{name}").probabilities()
    np.testing.assert_allclose(probabilities[..., 1], scipy.special.expit(values[..., 0].astype(np.float64)), rtol=1e-6)
    assert two["map"] == [70, 66, 1] and probabilities.shape == (70, 66, 2)


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_and_classes_are_read_as_they_are(tmp_path, name):
    values = np.abs(scores(30, 20)).astype(np.float16)
    write_map(tmp_path / name, values, written="probabilities")
    opened = dense.open_map(tmp_path / name)
    assert opened.dtype == np.float16 and opened.read().dtype == opened.probabilities().dtype == np.float32
    np.testing.assert_array_equal(opened.probabilities(), values.astype(np.float32))
    classes = np.random.default_rng(1).integers(0, 2**16, (30, 20, 2), np.uint16)
    write_map(tmp_path / f"c_{name}", classes, written="class")
    opened = dense.open_map(tmp_path / f"c_{name}")
    assert opened.written == "class" and opened.read().dtype == np.uint16
    np.testing.assert_array_equal(opened.read(slice(3, 9)), classes[3:9])
    with pytest.raises(StorageError, match="holds the winning class .* write='probabilities'"):
        opened.probabilities()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_damaged_is_told_in_a_line(tmp_path, name):
    path = tmp_path / name
    write_map(path, scores(70, 66))
    chunk = {"m.zarr": path / "1.0.0", "m.ome.zarr": path / "0/c/1/1/0"}.get(name, path)
    whole = chunk.read_bytes()
    if name == "m.tif":
        with tifffile.TiffFile(path) as file:
            offset = file.pages[0].dataoffsets[2]
        chunk.write_bytes(whole[:offset] + b"\x00" * 50 + whole[offset + 50 :])
    else:
        chunk.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match=f"{name}: ") as caught:
        dense.open_map(path).read()
    assert "\n" not in str(caught.value)
    metadata = {"m.npy": tmp_path / "m.npy.json", "m.zarr": path / ".zattrs", "m.ome.zarr": path / "zarr.json"}
    chunk.write_bytes(b"II*\x00" + b"\x00" * 40 if name == "m.tif" else whole)
    for text in ("", "{}", "[]", json.dumps({"score_map": {"window": [1, 1]}})):
        if name in metadata:
            metadata[name].write_text(text)
        with pytest.raises(StorageError, match=rf"{name}: cannot be opened as a map of this program: .*dense\.stream"):
            dense.open_map(path)


def test_what_is_no_map_is_told_in_a_line(tmp_path):
    make_zarr(tmp_path / "image.zarr", np.zeros((40, 33, 3), np.uint8))
    np.save(tmp_path / "image.npy", np.zeros((40, 33, 3), np.uint8))
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((40, 33, 3), np.uint8), photometric="rgb")
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "text.tif").write_text("no picture")
    for name in ("image.zarr", "image.npy", "image.tif", "folder.zarr", "text.tif"):
        with pytest.raises(StorageError, match=f"{name}: cannot be opened as a map of this program: .*open_image"):
            dense.open_map(tmp_path / name)
    with pytest.raises(StorageError, match="gone.npy: there is no such file"):
        dense.open_map(tmp_path / "gone.npy")
    write_map(tmp_path / "m.npy", scores(30, 20))
    np.save(tmp_path / "m.npy", scores(30, 21))
    with pytest.raises(StorageError, match=r"its shape is \(30, 21, 3\), its description is of a map \(30, 20, 3\)"):
        dense.open_map(tmp_path / "m.npy")


def test_maps_of_earlier_versions(tmp_path):
    """Without a sidecar, and with a zarr of version 3; they say less of themselves."""
    values = scores(30, 20)
    earlier = {name: ABOUT[name] for name in ("image_shape", "window", "stride", "offset", "context", "class_names")}
    np.save(tmp_path / "m.npy", values)
    journal = {"computes": {}, "tiles": 1, "done": 1, "complete": True, "read": "", "written": "", "about": earlier}
    (tmp_path / "m.npy.progress.json").write_text(json.dumps(journal))
    sink = open_sink(tmp_path / "m.zarr", values.shape, zarr_format=3, about={**earlier, "last": [None, 393]})
    sink.write(0, 0, values)
    sink.flush()
    for name in ("m.npy", "m.zarr"):
        opened = dense.open_map(tmp_path / name)
        np.testing.assert_array_equal(opened.read(), values)
        assert (opened.written, opened.output_activation, opened.spacing) == ("scores", "softmax", None)
    assert dense.open_map(tmp_path / "m.zarr").corners(1)[-2:].tolist() == [108, 393]
    os.remove(tmp_path / "m.npy.progress.json")
    with pytest.raises(StorageError, match=r"there is no .*m\.npy\.json, nor a journal"):
        dense.open_map(tmp_path / "m.npy")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_zarr_is_read_by_other_libraries(tmp_path):
    """By zarr-python, and by GDAL, which takes the last two of three axes for rows and columns."""
    values = scores(30, 20)
    write_map(tmp_path / "m.zarr", values)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "m.zarr", mode="r")[:], values)
    with rasterio.open(f'ZARR:"{tmp_path}/m.zarr"') as read:
        np.testing.assert_array_equal(read.read(), values)


def test_a_map_is_opened_by_whichever_name_it_lies_under(tmp_path):
    values = scores(30, 20)
    for name in ("m.zarr", "m.ome.zarr"):
        write_map(tmp_path / name, values)
        shutil.move(tmp_path / name, tmp_path / "renamed")
        np.testing.assert_array_equal(dense.open_map(f"{tmp_path}/renamed/").read(), values)
        shutil.rmtree(tmp_path / "renamed")


@pytest.mark.parametrize(
    "about, message",
    [
        ({"output_activation": "tanh"}, "output_activation .='tanh'. must be one of softmax, sigmoid"),
        ({"class_names": 3}, "its class_names .=3. are no list"),
        ({"written": "logits"}, "it holds 'logits', none of scores, probabilities, class"),
    ],
)
def test_a_description_that_means_nothing_is_refused(tmp_path, about, message):
    write_map(tmp_path / "m.npy", scores(9, 8), **about)
    with pytest.raises(StorageError, match=f"m.npy: cannot be opened as a map of this program: .*{message}"):
        dense.open_map(tmp_path / "m.npy")


@pytest.mark.parametrize("name", ["m.zarr", "m.ome.zarr", "m.tif", "m.npy"])
@pytest.mark.parametrize("spelling", ["./{}", "../here/{}", "new//{}", "link/{}"])
def test_a_map_is_written_and_opened_by_any_name_of_its_place(tmp_path, monkeypatch, spelling, name):
    """TensorStore itself refuses dots and two slashes in a path."""
    (tmp_path / "here" / "new").mkdir(parents=True)
    (tmp_path / "here" / "link").symlink_to("new")
    monkeypatch.chdir(tmp_path / "here")
    values = scores(30, 20)
    write_map(spelling.format(name), values)
    np.testing.assert_array_equal(dense.open_map(spelling.format(name)).read(), values)
