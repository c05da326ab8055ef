"""Tar files as WebDataset writes them and Parquet files as Hugging Face's hub has them: pixels and splits."""

import json
import re
import tarfile

import numpy as np
import pytest

from cnn.data import decoded, records, shards
from cnn.data.readers import TEST_FRACTION, hold_out
from cnn.data.streamed import Streamed
from cnn.images.errors import DataError
from cnn.runtime.shares import Share
from tests.data.made_shards import NAMES, add, load, pictures, png_bytes, write_parquet, write_tar


def write(root, kind, split, count, seed):
    """A split in two files."""
    images, labels = pictures(count, seed)
    half = count // 2
    for part, rows in enumerate((slice(0, half), slice(half, count))):
        name = f"{split}-{part:05}-of-00002"
        if kind == "parquet":
            write_parquet(root / "data" / f"{name}.parquet", images[rows], labels[rows])
        else:
            write_tar(root / f"set-{name}.tar", images[rows], labels[rows], "cls" if part else "json")
    return images, labels


@pytest.fixture(scope="module", params=["tar", "parquet"])
def made(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    found = {split: write(root, request.param, split, count, i) for i, (split, count) in enumerate(SIZES.items())}
    if request.param == "tar":
        (root / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return root, found


SIZES = {"train": 31, "validation": 9, "test": 12}


def test_splits_and_pixels_are_those_in_the_files(made):
    root, found = made
    dataset = load(root)
    assert dataset.class_names == NAMES and dataset.image_shape == (9, 12, 3)
    for name in SIZES:
        split = getattr(dataset, name)
        np.testing.assert_array_equal(split.images, found[name][0])
        np.testing.assert_array_equal(split.labels, found[name][1])
    without = load(root, validation_fraction=0.0)  # as of other sets: validation stays with the test's rival
    assert len(without.validation.labels) == 0 and len(without.test.labels) == 12


def test_images_stay_in_their_files(made):
    root, _ = made
    whole, streamed = load(root, image_size=6), load(root, image_size=6, in_memory="no")
    assert isinstance(streamed.train.images, Streamed)
    for name in SIZES:
        one, other = getattr(whole, name), getattr(streamed, name)
        np.testing.assert_array_equal(one.images, other.images[:])
        np.testing.assert_array_equal(one.labels, other.labels)
    assert (streamed.mean, streamed.std) == (whole.mean, whole.std)
    assert streamed.train.images.decoder.whole(streamed.train.images.items[3]).shape == (9, 12, 3)
    again = shards.open_again(**json.loads(json.dumps(streamed.test.images.decoder.as_json())))
    np.testing.assert_array_equal(again.decode(streamed.test.images.items[5])[0], whole.test.images[5])


@pytest.mark.parametrize("in_memory", ["yes", "no"])
def test_shares_are_parts_of_the_whole(made, in_memory):
    root, _ = made
    whole = load(root, train_examples=20)
    parts = [load(root, train_examples=20, in_memory=in_memory, share=Share(i, i + 1, 3)) for i in range(3)]
    for name in SIZES:
        images = np.concatenate([getattr(part, name).images[:] for part in parts])
        np.testing.assert_array_equal(images, getattr(whole, name).images)
        for part in parts:
            np.testing.assert_array_equal(getattr(part, name).labels, getattr(whole, name).labels)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_fifth_is_held_out_where_there_is_no_other_split(tmp_path, kind):
    images, labels = pictures(40, 5)
    path = tmp_path / f"all.{kind}"
    write_tar(path, images, labels) if kind == "tar" else write_parquet(path, images, labels, names=())
    for in_memory in ("yes", "no"):
        dataset = load(tmp_path, validation_fraction=0.2, in_memory=in_memory)
        assert dataset.class_names == ("0", "1", "2")
        kept, held = hold_out(labels, TEST_FRACTION)
        np.testing.assert_array_equal(dataset.test.images[:], images[held])
        train, validation = hold_out(labels[kept], 0.2)
        np.testing.assert_array_equal(dataset.train.images[:], images[kept][train])
        np.testing.assert_array_equal(dataset.validation.images[:], images[kept][validation])
        assert re.search("no test and no validation split.*: 8 of its 40 images, 20%", " ".join(dataset.remarks))
        if in_memory == "no":
            fields = json.loads(json.dumps(dataset.test.images.decoder.as_json()))
            item = dataset.test.images.items[2]
            np.testing.assert_array_equal(shards.open_again(**fields).decode(item)[0], images[held][2])


def test_a_test_split_without_labels_is_not_read(tmp_path):
    write_parquet(tmp_path / "train" / "0000.parquet", *pictures(12, 0))
    write_parquet(tmp_path / "validation" / "0000.parquet", *pictures(6, 1))
    write_parquet(tmp_path / "test" / "0000.parquet", pictures(6, 2)[0], np.full(6, -1))
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset.test.images, pictures(6, 1)[0])
    encoded, labels, names = shards.encoded(str(tmp_path), 0.1, "test")
    assert encoded[4] == png_bytes(pictures(6, 1)[0][4]) and labels.tolist() == [0, 1, 2] * 2 and names == NAMES


def test_grey_images_keep_one_channel(tmp_path):
    images, labels = pictures(20, 0, (8, 8))
    write_tar(tmp_path / "train.tar", images, labels)
    write_tar(tmp_path / "val.tar", images[:6], labels[:6])
    dataset = load(tmp_path)
    assert dataset.image_shape == (8, 8, 1)
    np.testing.assert_array_equal(dataset.test.images[..., 0], images[:6])


def test_images_of_many_sizes_need_one(tmp_path):
    write_tar(tmp_path / "train.tar", *pictures(6, 0))
    write_tar(tmp_path / "val.tar", *pictures(6, 0, (20, 9, 3)))
    with pytest.raises(DataError, match=r"val.tar: part/val_0000.png is 20x9, not 9x12.*data.image_size"):
        load(tmp_path)
    assert load(tmp_path, image_size=8).test.images.shape == (6, 8, 8, 3)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_what_is_kept_of_a_set_goes_with_its_folder(tmp_path, monkeypatch, kind):
    """A folder that was moved, with another set at its old place: its own pixels are read."""
    make = write_tar if kind == "tar" else write_parquet
    for place, seed in (("one", 0), ("other", 1)):
        for split in ("train", "val"):
            make(tmp_path / place / "set" / f"{split}.{kind}", *pictures(12, seed))
    monkeypatch.setattr(decoded, "SETTLED", -3600.0)  # files that were just written are old enough
    monkeypatch.setattr(decoded, "_FOLDER", [None])
    decoded.use(str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "one")
    first = load("set", in_memory="no")
    (tmp_path / "one").rename(tmp_path / "moved")
    (tmp_path / "other").rename(tmp_path / "one")
    monkeypatch.chdir(tmp_path / "moved")
    np.testing.assert_array_equal(load("set", in_memory="no").test.images[:], pictures(12, 0)[0])
    assert first.test.images.shape == (12, 9, 12, 3) and len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("kind", ["tar", "parquet"])
@pytest.mark.parametrize("in_memory", ["yes", "no"])
def test_held_out_images_are_those_for_training_where_a_test_split_has_no_labels(tmp_path, kind, in_memory):
    """The split without labels has other images at the same places, and is left out, which a remark says."""
    images, labels = pictures(40, 5)
    make = write_tar if kind == "tar" else write_parquet
    make(tmp_path / f"train.{kind}", images, labels)
    make(tmp_path / f"test.{kind}", pictures(40, 6)[0], np.full(40, -1))
    dataset = load(tmp_path, in_memory=in_memory)
    np.testing.assert_array_equal(dataset.test.images[:], images[hold_out(labels, TEST_FRACTION)[1]])
    assert any(line.startswith("no image of test has a label (all are -1)") for line in dataset.remarks)
    make(tmp_path / f"test.{kind}", pictures(3, 6)[0], [0, -1, 2])
    with pytest.raises(DataError, match="has the label -1, and there are 3 classes"):
        load(tmp_path)


def test_a_set_that_is_not_all_grey_is_in_colour(tmp_path, monkeypatch):
    grey, labels = pictures(20, 0, (8, 8))
    images = np.repeat(grey[..., None], 3, axis=3)
    with tarfile.open(tmp_path / "train.tar", "w") as file:
        for i in range(20):
            add(file, f"{i}.png", png_bytes(grey[i] if i < 15 else images[i]))
            add(file, f"{i}.cls", str(labels[i]).encode())
    assert load(tmp_path).image_shape == (8, 8, 3)
    monkeypatch.setattr(records, "LOOKED_AT", 2)  # of the 16 for training the first and the ninth
    with pytest.raises(DataError, match=r"train.tar: 1\d.png: it is in colour, and the first images of the set are"):
        load(tmp_path)
