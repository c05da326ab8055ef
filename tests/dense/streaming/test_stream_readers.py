"""Streams over files of other formats and at other resolutions: the maps of the arrays that they hold, to the bit."""

import numpy as np
import pytest

from cnn.images.source import open_image
from tests.dense.streaming.small_stream import CONSTANTS, PIXELS, load, run

EXTRA = "python -m pip install -r requirements-images.txt"


@pytest.mark.slow
def test_a_stream_at_a_scale_is_that_of_the_image_resampled_as_a_whole(tmp_path):
    source = open_image(PIXELS, scale=1.3)
    height, width, _ = source.shape
    for name, image in (("tiles", source), ("whole", source.read(0, height, 0, width))):
        run(tmp_path / f"{name}.npy", image, **CONSTANTS)
    np.testing.assert_array_equal(load(tmp_path / "tiles.npy"), load(tmp_path / "whole.npy"))


@pytest.mark.slow
def test_maps_of_files_are_that_of_their_array(tmp_path):
    h5py, rasterio = (pytest.importorskip(name, reason=EXTRA) for name in ("h5py", "rasterio"))
    zarr = pytest.importorskip("zarr", reason="python -m pip install -r requirements-checks.txt")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", data=PIXELS, chunks=(40, 40, 3), compression="gzip")
    shape = dict(height=PIXELS.shape[0], width=PIXELS.shape[1], count=3, dtype="uint8")
    place = rasterio.Affine(2.0, 0.0, 0.0, 0.0, -2.0, 0.0)
    with rasterio.open(tmp_path / "a.img", "w", driver="HFA", transform=place, **shape) as file:
        file.write(np.moveaxis(PIXELS, 2, 0))
    zarr.create_array(tmp_path / "a.zarr", data=np.moveaxis(PIXELS, 2, 0), dimension_names=["c", "y", "x"])
    run(tmp_path / "array.npy")
    for name in ("a.h5", "a.h5::image", "a.img", "a.zarr"):
        sink = tmp_path / f"{name.replace('::', '.')}.npy"
        run(sink, str(tmp_path / name), **CONSTANTS)
        np.testing.assert_array_equal(load(sink), load(tmp_path / "array.npy"))
