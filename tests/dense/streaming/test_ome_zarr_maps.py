"""OME-Zarr maps are valid, are read by other libraries, and lie on their image."""

import json
import warnings

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05 import Image

from cnn import dense
from cnn.dense.streaming.sinks import pyramid
from tests.dense.streaming.small_maps import centre, halved, scores, write_map
from tests.dense.streaming.small_stream import CONSTANTS, run

with warnings.catch_warnings():  # ome-zarr warns of classes of its own
    warnings.simplefilter("ignore")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

SPACING = {"y": 0.25, "x": 0.5, "unit": "micrometre"}


def levels_of(path):
    """Scale and translation along y and x of each level, and its array, as ome-zarr's own reader finds them."""
    (node,) = Reader(parse_url(path))()
    places = [[one[kind][1:] for one, kind in zip(level, ("scale", "translation"), strict=False)]
              for level in node.metadata["coordinateTransformations"]]  # fmt: skip
    return node, places


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(pyramid, "SMALLEST", 24)


@pytest.mark.parametrize("spacing", [None, SPACING, {"y": 0.1, "x": 0.1, "unit": "degree"}], ids=str)
def test_a_score_lies_at_the_centre_of_its_window(tmp_path, spacing):
    path = tmp_path / "m.ome.zarr"
    values = scores(75, 50)
    said = write_map(path, values, spacing=spacing)
    attributes = Image.from_zarr(zarr.open_group(path, mode="r")).attributes  # ome-zarr-models validates it
    axes = attributes.ome.multiscales[0].axes
    units = [axis.unit for axis in axes]
    assert [axis.name for axis in axes] == ["c", "y", "x"]
    assert units == [None, *(["micrometer"] * 2 if spacing and spacing["unit"] == "micrometre" else [None] * 2)]
    node, places = levels_of(path)
    height, width = (spacing["y"], spacing["x"]) if spacing else (1, 1)
    assert [array.shape for array in node.data] == [(3, 75, 50), (3, 38, 25), (3, 19, 13)]
    expected = values
    for level, ((scale, translation), array) in enumerate(zip(places, node.data, strict=True)):
        read = np.moveaxis(np.asarray(array), 0, -1)
        np.testing.assert_allclose(read, expected, rtol=1e-6, atol=1e-7)
        expected = halved(read)
        for i, j in ((0, 0), (5, 3), (18, 11)):
            # Viewers put the centre of a pixel at its number times the scale; the windows of this score's square.
            first = centre(said, i * 2**level, j * 2**level)
            last = centre(said, (i + 1) * 2**level - 1, (j + 1) * 2**level - 1)
            middle = [(a + b) / 2 - 0.5 for a, b in zip(first, last, strict=True)]
            there = [k * s + t for k, s, t in zip((i, j), scale, translation, strict=True)]
            np.testing.assert_allclose(there, [middle[0] * height, middle[1] * width], rtol=1e-12)
    np.testing.assert_array_equal(dense.open_map(path).read(), values)
    channels = attributes.ome.omero["channels"]
    assert [one["label"] for one in channels] == ["cat", "<dog> & co", "owl"]
    assert len({one["color"] for one in channels}) == 3
    for k, one in enumerate(channels):
        assert (one["window"]["min"], one["window"]["max"]) == (np.nanmin(values[..., k]), np.nanmax(values[..., k]))


def test_on_an_image_that_is_a_level_of_a_larger_one(tmp_path):
    """The centre of a pixel of level 1 lies between two pixels of level 0, where viewers put the origin."""
    said = write_map(tmp_path / "m.ome.zarr", scores(20, 20), spacing={**SPACING, "y": 0.5}, reduced=[2.0, 2.0])
    _, ((scale, translation),) = levels_of(tmp_path / "m.ome.zarr")
    y, x = (2 * n for n in centre(said, 3, 4))  # in pixels of level 0, of 0.25 micrometres
    there = [3 * scale[0] + translation[0], 4 * scale[1] + translation[1]]
    np.testing.assert_allclose(there, [(y - 0.5) / 4, (x - 0.5) / 4])


def test_beside_its_image(tmp_path):
    """An image, and the map of its means: what is bright in the one is bright in the other, at one place."""
    pixels = np.zeros((1, 300, 400), np.float32)
    pixels[0, 100:132, 216:232] = 1
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 0.25, 0.5]}]}
    group = zarr.open_group(tmp_path / "image.ome.zarr", mode="w", zarr_format=3)
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    group.create_array("0", data=pixels)
    corners = [[(y, x) for x in range(0, 385, 6)] for y in range(0, 269, 4)]
    values = np.array([[[pixels[0, y : y + 32, x : x + 16].mean()] for y, x in row] for row in corners])
    write_map(tmp_path / "m.ome.zarr", values.astype(np.float32), spacing=SPACING, class_names=None)
    found = []
    for name in ("image.ome.zarr", "m.ome.zarr"):
        (node,) = Reader(parse_url(tmp_path / name))()
        scale, *translation = node.metadata["coordinateTransformations"][0]
        weights = np.asarray(node.data[0])[0].astype(np.float64)
        middle = [(np.indices(weights.shape)[axis] * weights).sum() / weights.sum() for axis in range(2)]
        shift = translation[0]["translation"][1:] if translation else [0, 0]
        found.append([m * s + t for m, s, t in zip(middle, scale["scale"][1:], shift, strict=True)])
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_classes_and_halves(tmp_path):
    """A pyramid of classes takes the most probable of four, never a mean; one of float16 is a mean of float32."""
    rng = np.random.default_rng(5)
    values = np.stack([rng.integers(0, 9, (50, 43)), rng.integers(1, 256, (50, 43))], axis=-1).astype(np.uint8)
    values[:20, :20] = (255, 0)
    write_map(tmp_path / "c.ome.zarr", values, written="class")
    levels = [np.moveaxis(np.asarray(array), 0, -1) for array in levels_of(tmp_path / "c.ome.zarr")[0].data]
    for finer, coarser in zip(levels, levels[1:], strict=False):
        for i, j in np.ndindex(*coarser.shape[:2]):
            four = finer[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(-1, 2)
            known = four[four[:, 0] != 255]
            best = known[known[:, 1].argmax()] if len(known) else (255, 0)
            np.testing.assert_array_equal(coarser[i, j], best)
    channels = json.loads((tmp_path / "c.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]["omero"]["channels"]
    assert [one["label"] for one in channels] == ["class", "probability"]
    half = scores(40, 30).astype(np.float16)
    write_map(tmp_path / "h.ome.zarr", half)
    node, _ = levels_of(tmp_path / "h.ome.zarr")
    assert node.data[1].dtype == np.float16
    expected = halved(half).astype(np.float16)
    np.testing.assert_allclose(np.moveaxis(np.asarray(node.data[1]), 0, -1), expected, rtol=1e-3)


def test_many_classes_share_chunks(tmp_path):
    values = scores(30, 26, classes=70)
    write_map(tmp_path / "m.ome.zarr", values, class_names=None)
    group = zarr.open_group(tmp_path / "m.ome.zarr", mode="r")
    assert group["0"].chunks == (70, 64, 64) or group["0"].chunks[0] > 1
    assert group["0"].metadata.codecs[0].to_dict()["name"] == "bytes"  # no sharding, which GDAL does not read
    np.testing.assert_array_equal(np.moveaxis(group["0"][:], 0, -1), values)
    np.testing.assert_allclose(np.moveaxis(group["1"][:], 0, -1), halved(values), rtol=1e-6, atol=1e-7)


def test_of_a_smaller_image_without_a_pixel_size_the_map_lies_on_the_largest(tmp_path):
    """Viewers show the file's largest image in pixels: there a score lies at its window's centre."""
    said = write_map(tmp_path / "m.ome.zarr", scores(20, 24), reduced=[2.0, 4.0])
    first = json.loads((tmp_path / "m.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    scale, translation = first["datasets"][0]["coordinateTransformations"]
    for i, j in ((0, 0), (3, 5)):
        y, x = centre(said, i, j)
        placed = [t + s * k for t, s, k in zip(translation["translation"][1:], scale["scale"][1:], (i, j), strict=True)]
        assert placed == [2 * y - 0.5, 4 * x - 0.5]
    image = dense.open_image(np.zeros((64, 80, 3), np.uint8), scale=0.5)
    run(tmp_path / "half.ome.zarr", image, tile=8, **CONSTANTS)
    opened = dense.open_map(tmp_path / "half.ome.zarr")
    assert opened.image_shape == (32, 40, 3) and opened.about["reduced"] == [2.0, 2.0]
