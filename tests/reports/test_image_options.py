"""What the command passes on arrives: choices of an image, what is written, what is skipped, and detections."""

import csv
import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from cnn import dense, nets
from cnn.exchange import workdirs
from cnn.exchange.classifier import Classifier
from cnn.protocols.progress import Progress
from cnn.reports import image_report
from cnn.reports.streamed import Asked
from tests.made import random_variables

QUIET = Progress(shown=False)
pytestmark = pytest.mark.skipif(not hasattr(dense, "detect"), reason="detections are not there")


@pytest.fixture(name="run", scope="module")
def _run():
    net = nets.layer_pattern(num_classes=3, blocks=1, fc=0, features=4, padding="valid")
    variables = random_variables(net, (8, 8), 1)
    return workdirs.as_run(Classifier(net, variables, (8, 8, 1), (0.5,), (0.25,), ("a", "b", "background")))


@pytest.fixture(name="scene", scope="module")
def _scene(tmp_path_factory):
    pixels = np.random.default_rng(0).integers(1, 4096, (30, 41, 3)).astype(np.uint16)
    pixels[:, :12] = 0  # nothing
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    tags = [(42113, "s", 2, "0", True)]  # GDAL's tag of no-data
    tifffile.imwrite(path, pixels, photometric="rgb", extratags=tags)
    return str(path), pixels


def test_an_image_is_read_written_skipped_and_searched_as_asked(run, scene, tmp_path, capsys):
    path, pixels = scene
    reading = {"channels": (2,), "value_range": (0.0, 4095.0)}
    streaming = {"stride": 2, "write": "probabilities", "skip": "nodata"}
    sink, found = str(tmp_path / "map.zarr"), str(tmp_path / "found.csv")
    asked = Asked(reading, streaming, detections=found, threshold=0.4, overlap=0.1)
    done = image_report.run_map(run, path, sink, asked, QUIET)
    images = ((pixels[None, ..., 2:].astype(np.float32) / 4095) - 0.5) / 0.25
    scores = np.asarray(dense.score_map(run.net, run.variables, images, (8, 8), 2).scores[0], np.float64)
    expected = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    expected[:, :6] = np.nan  # windows that begin before pixel 12
    np.testing.assert_allclose(dense.open_map(sink).read(), expected, atol=1e-5)
    assert done["known_windows"] == np.isfinite(expected[..., 0]).sum() and done["written"] == "probabilities"
    best = dict(done["probabilities"])
    assert best["a"] == pytest.approx(np.nanmean(expected[..., 0]), abs=1e-5)
    with open(found) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(done["detections"].values()) and "background" not in {row["class"] for row in rows}
    assert all(float(row["probability"]) >= 0.4 and int(row["x0"]) >= 12 for row in rows)
    printed = capsys.readouterr().out
    assert f"{12 * 6} of {12 * 17} windows (35.3%) have no score" in printed and f"detections -> {found}" in printed
    page = (tmp_path / "map.zarr.report.html").read_text()
    assert f"all {len(rows)} detections" in page.replace(",", "") and page.count('<rect data-class="') == len(rows)


@pytest.mark.slow
def test_maps_of_classes_and_levels_have_pages_too(run, tmp_path, capsys):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 60), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(pixels, subifds=1)
        file.write(pixels[::2, ::2], subfiletype=1)
    asked = Asked({"level": 1}, {"write": "class"}, detections=str(tmp_path / "a.geojson"))
    done = image_report.run_map(run, str(tmp_path / "a.tif"), str(tmp_path / "a.ome.zarr"), asked, QUIET)
    assert done["size"] == (20, 30) and done["chosen"]["level"] == 1 and "probabilities" not in done
    values = dense.open_map(tmp_path / "a.ome.zarr").read()
    shares = np.bincount(values[..., 0].ravel(), minlength=3) / values[..., 0].size
    assert dict(done["shares"]) == {name: pytest.approx(shares[k]) for k, name in enumerate(run.class_names)}
    assert "the winning class and its probability, uint8" in capsys.readouterr().out
    boxes = [one["geometry"]["coordinates"][0] for one in json.loads((tmp_path / "a.geojson").read_text())["features"]]
    assert len(boxes) == sum(done["detections"].values())
    assert all(np.ptp(np.asarray(box), axis=0).tolist() == [16, 16] for box in boxes)  # in pixels of the largest level


@pytest.mark.long
def test_an_image_in_several_scales_is_resized_while_it_is_read(run, tmp_path):
    """Averages over scales are the same, to rounding in 8 bits, where the image is resized in memory and where not."""
    pixels = np.random.default_rng(2).integers(0, 256, (40, 52), np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "b.npy", pixels.astype(np.uint16) * 257)
    found = [
        image_report.run_image(run, str(tmp_path / f"{name}.npy"), str(tmp_path / "out"), scales=(20,))["scales"]
        for name in ("a", "b")
    ]
    assert dict(found[0]) == {name: pytest.approx(value, abs=0.01) for name, value in found[1]}


def at_scale(run, pixels, size, mask=None):
    """Mean probabilities over the windows of a picture of bytes that Pillow resized, but of those that see no data."""
    resized = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC), np.float32)
    images = (resized[None, ..., None] / 255 - 0.5) / 0.25
    scores = np.asarray(dense.score_map(run.net, run.variables, images, (8, 8), 1).scores[0], np.float64)
    expected = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    return expected[:, mask:].mean(axis=(0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("reading", [{"spacing": 1.0}, {"scale": 0.5}, {}])
def test_scales_are_lengths_of_the_shortest_side_however_the_image_is_read(run, tmp_path, kind, reading):
    pixels = np.random.default_rng(2).integers(0, 256, (40, 52), np.uint8)
    stored = pixels.astype(kind) * kind(np.iinfo(kind).max // 255)
    half_a_micrometre = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", **half_a_micrometre)
    asked = Asked(reading, {"stride": 1}, scales=(20,))
    found = image_report.run_map(run, str(tmp_path / "a.tif"), str(tmp_path / "m.zarr"), asked, QUIET)["scales"]
    expected = dict(zip(run.class_names, at_scale(run, pixels, (20, 26)), strict=True))
    assert dict(found) == {name: pytest.approx(value, abs=2e-3) for name, value in expected.items()}


@pytest.mark.slow
def test_what_a_mask_leaves_out_counts_at_no_scale(run, tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (40, 52), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask = np.full(pixels.shape, 255, np.uint8)
    mask[:, :20] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    asked = Asked({"mask": str(tmp_path / "mask.png")}, {"stride": 1}, scales=(40,))
    done = image_report.run_map(run, str(tmp_path / "a.png"), str(tmp_path / "m.zarr"), asked, QUIET)
    expected = at_scale(run, pixels, (40, 52), mask=20)
    for over in ("scales", "probabilities"):
        assert dict(done[over]) == {
            name: pytest.approx(value, abs=1e-5) for name, value in zip(run.class_names, expected, strict=True)
        }


@pytest.mark.slow
@pytest.mark.parametrize("reading", [{"value_range": (0.0, 300.0)}, {"channels": (0,)}, {"scale": 0.75}])
def test_what_a_prediction_says_is_not_said_of_pixels_that_it_never_sees(run, tmp_path, capsys, reading):
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (16, 20), np.uint8)).save(tmp_path / "a.png")
    saying = "main.py --mode=predict says"
    plain = image_report.run_image(run, str(tmp_path / "a.png"), str(tmp_path / "out"))
    assert saying in capsys.readouterr().out and "centre_crop" in plain
    path = tmp_path / "a.npy"
    np.save(path, np.full((16, 20), 200, np.uint16))
    np.save(tmp_path / "nan.npy", np.where(np.eye(16, 20) > 0, np.nan, 0.5).astype(np.float32))
    assert "centre_crop" not in image_report.run_image(run, str(tmp_path / "nan.npy"), str(tmp_path / "nan"))
    found = image_report.run_image(run, str(path), str(tmp_path / "other"), asked=Asked(reading))
    assert saying not in capsys.readouterr().out and "centre_crop" not in found
