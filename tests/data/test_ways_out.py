"""What errors of folders of pictures advise is what the command at hand takes, and links to nothing are no lines."""

import os

import numpy as np
import pytest
import tifffile
from PIL import Image

from cnn import data
from cnn.data import DataError

RNG = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for i in range(4):
                pixels = RNG.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / split / name / f"{i}.png")
    return tmp_path / "set"


def load(root, **options):
    return data.load("folder", **{"dir": str(root), "image_size": 8, "validation_fraction": 0.25, **options})


def grey_floats(path):
    tifffile.imwrite(path, RNG.random((8, 8), np.float32))


def two_pages(path):
    tifffile.imwrite(path, RNG.integers(0, 256, (2, 8, 8, 3), np.uint8), photometric="rgb")


@pytest.mark.parametrize(
    "make, advice, of_prediction",
    [
        (
            grey_floats,
            "save it with 3 channels, or choose channels of all pictures: --config.data.channels=(0,0,0);",
            "as the net takes them; save it with 3 channels$",
        ),
        (two_pages, r"an image is one page, \[H, W\] or \[H, W, C\]; write it as a file of its own;", "; write it as"),
    ],
)
def test_what_is_advised_can_be_given(root, make, advice, of_prediction):
    path = root / "train" / "cat" / "odd.tif"
    make(path)
    with pytest.raises(DataError, match=advice.replace("(0,0,0)", r"\(0,0,0\)")) as stopped:
        load(root)
    reason = load(root, on_error="skip").skipped[0].reason
    assert reason in str(stopped.value) and "--channels=" not in reason and "--select" not in reason
    with pytest.raises(DataError, match=of_prediction):
        data.load_image(str(path), 8, 3)
    if make is grey_floats:  # the advice helps, where all pictures are such
        for split in ("train", "val"):
            for old in (root / split).glob("*/*"):
                os.remove(old)
                grey_floats(old.with_suffix(".tif"))
        loaded = load(root, channels=(0, 0, 0))
        assert np.array_equal(loaded.train.images[..., 0], loaded.train.images[..., 2])


def test_a_link_to_nothing_may_have_been_a_class(root, tmp_path):
    for split in ("train", "val"):
        (root / split / "bird").symlink_to(tmp_path / "not mounted")
    words = r"train has 1 links to nothing beside its directories, .* the first is 'bird', to '.*not mounted'; mend or"
    with pytest.raises(DataError, match=words):
        load(root)
    loaded = load(root, on_error="skip")
    assert loaded.class_names == ("cat", "dog")
    assert [one.file for one in loaded.skipped] == ["train/bird", "val/bird"]
    assert {one.reason for one in loaded.skipped} == {"a link to nothing, beside the class directories"}


def test_a_test_split_without_readable_pictures(root):
    for path in (root / "val").glob("*/*"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"set: no picture is left for the test, as none of that split can be read"):
        load(root, on_error="skip")


def test_an_unreadable_picture_with_a_name_that_is_no_utf8(root):
    with open(os.fsencode(root) + b"/train/cat/\xff.png", "wb") as file:
        file.write(b"no picture")
    (left,) = load(root, on_error="skip").skipped
    assert left == ("train/cat/\\udcff.png", "cannot be decoded: cannot identify image file")
