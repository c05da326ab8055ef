"""Pictures that stay in their files are those that are in memory: pixels, splits, statistics, remarks, what is kept."""

import os

import numpy as np
import pytest
from PIL import Image

from cnn import data
from cnn.data import DataError, decoded, image_files, limits
from cnn.data.streamed import Streamed
from cnn.images import pictures
from cnn.runs import facts

SIZE = 8
SPLITS = ("train", "validation", "test")


@pytest.fixture
def root(tmp_path):
    """12 pictures for training and 3 for the test of each of two classes, of several sizes; two are the same."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3)):
        for name in ("cat", "dog"):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                size = (9 + i, 14) if i % 2 else (12, 12)
                Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{i:02}.jpg")
    copied = (tmp_path / "set" / "train" / "dog" / "03.jpg").read_bytes()
    (tmp_path / "set" / "val" / "dog" / "00.jpg").write_bytes(copied)
    return tmp_path / "set"


def load(root, **options):
    return data.load("folder", **{"dir": str(root), "image_size": SIZE, "validation_fraction": 0.25, **options})


def assert_same(streamed, whole):
    for split in SPLITS:
        found, expected = getattr(streamed, split), getattr(whole, split)
        assert isinstance(found.images, Streamed) and isinstance(expected.images, np.ndarray)
        assert found.images.shape == expected.images.shape and len(found.images) == len(expected.images)
        np.testing.assert_array_equal(found.images[:], expected.images)
        np.testing.assert_array_equal(found.labels, expected.labels)
    same = ("class_names", "mean", "std", "remarks", "skipped", "image_shape")
    assert all(getattr(streamed, name) == getattr(whole, name) for name in same)
    assert facts.of(streamed) == facts.of(whole)


def test_they_are_those_in_memory(root):
    streamed = load(root, in_memory="no")
    assert_same(streamed, load(root, in_memory="yes"))
    assert "1 of the 6 test pictures are in the training split too" in " ".join(streamed.remarks)


def test_some_of_them(root):
    streamed, whole = load(root, in_memory="no"), load(root, in_memory="yes")
    images, expected = streamed.train.images, whole.train.images
    for indices in (3, -1, slice(2, 9, 3), np.array([5, 5, 0]), np.arange(len(expected)) % 2 == 0, []):
        np.testing.assert_array_equal(images[indices], expected[indices])
    np.testing.assert_array_equal(np.stack(list(images)), expected)
    np.testing.assert_array_equal(images.some(np.array([4, 1])).some(np.array([1]))[0], expected[1])
    with pytest.raises(TypeError, match=r"not in memory as a whole: take some, images\[indices\]"):
        np.asarray(images)
    with pytest.raises(IndexError):
        images[len(expected)]


@pytest.mark.parametrize("count", [1, 7])
def test_a_part_of_the_training_examples_has_its_own_statistics(root, count):
    options = {"train_examples": count}
    assert_same(load(root, in_memory="no", **options), load(root, in_memory="yes", **options))


def test_what_cannot_be_read_is_left_out_likewise(root):
    (root / "train" / "cat" / "02.jpg").write_bytes(b"no picture")
    whole = (root / "train" / "cat" / "01.jpg").read_bytes()
    (root / "train" / "cat" / "01.jpg").write_bytes(whole[: len(whole) * 2 // 3])  # ends early
    assert_same(load(root, in_memory="no", on_error="skip"), load(root, in_memory="yes", on_error="skip"))
    assert len(load(root, in_memory="no", on_error="skip").skipped) == 2
    with pytest.raises(DataError, match=r"cat/0[12].jpg.*data.on_error=skip"):
        load(root, in_memory="no")


def test_one_that_is_gone_or_damaged_later_is_named(root):
    images = load(root, in_memory="no").train.images
    os.unlink(images.items[4])
    with pytest.raises(DataError, match=os.path.basename(images.items[4])):
        images[2:6]


def test_what_does_not_fit_in_memory_is_streamed(root, monkeypatch, capsys):
    assert isinstance(load(root).train.images, np.ndarray)
    monkeypatch.setattr(pictures, "MAX_BYTES", 30 * SIZE * SIZE * 3 - 1)
    assert isinstance(load(root).train.images, Streamed)
    assert "30 pictures stay in their files (data.in_memory=auto)" in capsys.readouterr().err
    with pytest.raises(DataError, match="30 images of 8x8x3 need .*; data.in_memory=no leaves them in their files"):
        load(root, in_memory="yes")
    assert limits.most_in_memory() == pictures.MAX_BYTES


def test_what_is_known_of_them_is_kept_and_no_picture_read_again(root, tmp_path, monkeypatch):
    monkeypatch.setattr(decoded, "SETTLED", 0.0)
    monkeypatch.setattr(decoded, "_FOLDER", [None])
    decoded.use(str(tmp_path / "kept"))
    first = load(root, in_memory="no")
    monkeypatch.setattr(image_files.Decoder, "decode", lambda *_: pytest.fail("a picture was decoded"))
    again = load(root, in_memory="no")
    assert again.train.images.items == first.train.images.items
    assert facts.of(again) == facts.of(first)
    monkeypatch.undo()
    assert_same(again, load(root, in_memory="yes"))


@pytest.mark.parametrize("name", ["digits", "fake", "mine.npz"])
def test_other_sets_are_in_memory(name):
    with pytest.raises(DataError, match=rf"data.in_memory=no: images of folders.* those of data.name='{name}'"):
        data.load(name, in_memory="no")
