"""Image folders with a range of values and chosen channels: what training keeps of a pixel, by value."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cnn import data
from cnn.data import DataError
from cnn.protocols import labelled_images
from cnn.runs import checkpoint, config, defaults
from cnn.runs import facts as facts_lib

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pictures"


def fill(folder, make, suffix):
    """Two classes of five pictures each; returns what is stored, by path."""
    stored = {}
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        for i in range(5):
            path = folder / name / f"{i}.{suffix}"
            stored[str(path)] = make(path)
    return stored


def grey12(path):
    pixels = RNG.integers(0, 4300, (8, 8), np.uint16)  # some beyond 12 bits
    Image.fromarray(pixels).save(path)
    return np.dstack([pixels] * 3)


def five_bands(path):
    pixels = RNG.integers(0, 256, (8, 8, 5), np.uint8)
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    return pixels


def kept(dataset):
    images = np.concatenate([dataset.train.images, dataset.validation.images, dataset.test.images])
    return sorted(image.tobytes() for image in images)


def test_a_range_is_kept_with_the_run(folder):
    stored = fill(folder, grey12, "png")
    options = defaults.get_config()
    options.data.update({"name": "folder", "dir": str(folder), "image_size": 8, "value_range": (0, 4095)})
    expected = {path: np.round(np.clip(pixels / 4095, 0, 1) * 255).astype(np.uint8) for path, pixels in stored.items()}
    loaded = data.load(**options.data)
    assert kept(loaded) == sorted(image.tobytes() for image in expected.values())
    # The protocols' pictures, of their own sizes, are the same.
    files, labels = list(stored), np.zeros(10, np.int64)
    found = labelled_images.from_files("a folder", files, labels, 3, value_range=(0, 4095))
    assert all(np.array_equal(found.read(i), expected[path]) for i, path in enumerate(files))
    assert found.sizes == [(8, 8)] * 10
    # Without it, of the dtype: other data, which a run is not gone on with.
    options.data.value_range = ()
    assert facts_lib.of(data.load(**options.data))["digest"] != facts_lib.of(loaded)["digest"]


def test_the_range_of_a_saved_config(tmp_path):
    options = defaults.get_config()
    options.data.value_range, options.data.channels = (0, 4095), (2, "GFP")
    config.save(options, str(tmp_path))
    saved = config.load(str(tmp_path))
    run = checkpoint.Run(None, {}, saved, (), (), (), (8, 8, 2), "", 0)
    assert run.value_range == (0.0, 4095.0) and run.channels == (2, "GFP")
    assert not config.differences(options, str(tmp_path))
    options.data.value_range = ()
    assert list(config.differences(options, str(tmp_path))) == ["data.value_range"]
    # A run of before these fields has the dtype's range and all channels.
    with saved.unlocked():
        del saved.data["value_range"], saved.data["channels"]
    assert run.value_range is None and run.channels is None
    (tmp_path / "config.json").write_text(saved.to_json())
    assert list(config.differences(options, str(tmp_path))) == ["data.channels"]


def test_channels_are_chosen_in_order(folder):
    stored = fill(folder, five_bands, "tif")
    loaded = data.load("folder", dir=str(folder), image_size=8, channels=(4, 1))
    assert loaded.image_shape == (8, 8, 2) and len(loaded.mean) == 2
    assert kept(loaded) == sorted(np.ascontiguousarray(x[..., [4, 1]]).tobytes() for x in stored.values())
    with pytest.raises(DataError, match=r"0\.tif.*5 channels"):
        data.load("folder", dir=str(folder), image_size=8)
    with pytest.raises(DataError, match=r"0.tif: there is no channel 5; it has 5 channels, 0 to 4"):
        data.load("folder", dir=str(folder), image_size=8, channels=(0, 5))


def test_a_range_is_of_pictures_or_arrays(tmp_path):
    for name in ("digits", "fake", "mnist"):
        with pytest.raises(DataError, match=rf"data.value_range and data.channels: .*data.name='{name}' are bytes"):
            data.load(name, value_range=(0, 4095), channels=(0,))
    images, labels = RNG.integers(0, 256, (20, 8, 8, 1), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    loaded = data.load(str(tmp_path / "a.npz"), value_range=(0, 4095), channels=(3,))
    assert kept(loaded) == sorted(2 * [image.tobytes() for image in images])
