"""The benchmark of formats: it runs, and its images have the same pixels."""

import json

import numpy as np
import pytest

from cnn import dense
from tests.helpers import run_python


@pytest.mark.slow
def test_the_images_have_the_same_pixels_and_maps(tmp_path):
    flags = ("--size=600", f"--workdir={tmp_path / 'images'}", f"--output={tmp_path}")
    done = run_python("-m", "benchmarks.stream_formats", *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    images = [dense.open_image(tmp_path / "images" / f"image.{kind}") for kind in ("npy", "tif", "ome.zarr")]
    pixels = [image.read(0, 600, 0, 600) for image in images]
    assert pixels[0].dtype == np.uint16 and np.ptp(pixels[0]) > 30000
    assert np.array_equal(pixels[0], pixels[1]) and np.array_equal(pixels[0], pixels[2])
    half = dense.open_image(tmp_path / "images" / "bytes.zarr").read(0, 600, 0, 600)
    assert np.array_equal(half, pixels[0] >> 8)
    found = json.loads((tmp_path / "stream_formats_600.json").read_text())
    assert {one["stream"]["shape"][2] for one in found["images"].values()} == {10}
