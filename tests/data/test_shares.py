"""What several processes read of a data set is, together, what one reads, and none decodes another one's pictures."""

import os

import numpy as np
import pytest
from PIL import Image

from cnn import data
from cnn.data import image_files
from cnn.runtime.shares import Share


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 7), ("val", 3)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (5, 4, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    return str(tmp_path)


@pytest.mark.parametrize("fields", [{}, {"train_examples": 5}, {"name": "fake"}, {"in_memory": "no"}])
def test_shares_are_together_what_one_process_reads(folder, fields):
    fields = {"name": "folder", "dir": folder, "image_size": 4, "validation_fraction": 0.3, **fields}
    whole = data.load(**fields)
    parts = [data.load(**fields, share=Share(i, i + 1, 3)) for i in range(3)]
    for split in ("train", "validation", "test"):
        images = [getattr(part, split).images[:] for part in parts]
        np.testing.assert_array_equal(np.concatenate(images), getattr(whole, split).images[:])
        assert max(map(len, images)) <= -(-len(getattr(whole, split).labels) // 3)
        for part in parts:
            np.testing.assert_array_equal(getattr(part, split).labels, getattr(whole, split).labels)


def test_no_picture_of_another_share_is_read(folder, monkeypatch):
    read = []
    real = image_files.whole.read_bytes
    monkeypatch.setattr(
        image_files.whole, "read_bytes", lambda path, *rest, **more: read.append(path) or real(path, *rest, **more)
    )
    fields = {"name": "folder", "dir": folder, "image_size": 4, "validation_fraction": 0.3}
    for i in range(2):
        data.load(**fields, share=Share(i, i + 1, 2))
    assert len(read) == len(set(read)) == 20


@pytest.mark.parametrize("fields", [{}, {"train_examples": 5}])
def test_what_is_skipped_is_in_no_share(folder, fields):
    for name in ("train/a/0.png", "train/b/6.png", "val/a/1.png"):
        with open(os.path.join(folder, name), "r+b") as file:
            file.truncate(40)
    fields = {
        "name": "folder",
        "dir": folder,
        "image_size": 4,
        "validation_fraction": 0.3,
        "on_error": "skip",
        **fields,
    }
    whole = data.load(**fields)
    assert [one.file for one in whole.skipped] == ["train/a/0.png", "train/b/6.png", "val/a/1.png"]
    parts = [data.load(**fields, share=Share(i, i + 1, 3)) for i in range(3)]
    assert {part.skipped for part in parts} == {whole.skipped}
    for split in ("train", "validation", "test"):
        images = [getattr(part, split).images[:] for part in parts]
        np.testing.assert_array_equal(np.concatenate(images), getattr(whole, split).images)
        for part in parts:
            np.testing.assert_array_equal(getattr(part, split).labels, getattr(whole, split).labels)


@pytest.mark.slow
def test_a_tfds_set_is_decoded_in_shares(tfds_data_dir):
    fields = {"name": "mnist", "dir": str(tfds_data_dir), "train_examples": 90}
    whole = data.load(**fields)
    part = data.load(**fields, share=Share(2, 3, 30))
    for split in ("train", "validation", "test"):
        own = part.share.rows(len(getattr(whole, split).labels))
        np.testing.assert_array_equal(getattr(part, split).images, getattr(whole, split).images[own])
        np.testing.assert_array_equal(getattr(part, split).labels, getattr(whole, split).labels)
