"""Pictures for the protocols: where they come from, their labels, how they are grouped and laid."""

import io

import numpy as np
import pytest
from PIL import Image

from cnn import data, nets
from cnn.data import records, tfds
from cnn.layers import Dense, Flatten
from cnn.protocols import crops, labelled_images
from cnn.runs.checkpoint import Run
from configs import default
from tests.made import random_variables


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """root/{train,val}/{cat,dog}: pictures of different sizes, each of one colour that names it."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                height, width = (int(n) for n in rng.integers(10, 30, 2))
                colour = (100 * label, 10 * i, 50 if split == "val" else 0)
                Image.new("RGB", (width, height), colour).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def make_run(name="folder", directory="", classes=("cat", "dog"), shape=(8, 8, 3), **fields):
    config = default.get_config()
    config.data.update({"name": name, "dir": str(directory), "validation_fraction": 0.25, **fields})
    net = nets.net(Flatten(), Dense(len(classes)))
    variables = random_variables(net, shape[:2], shape[2])
    return Run(net, variables, config, (0.3,) * shape[2], (0.5,) * shape[2], classes, shape, "", 0)


def test_a_runs_own_folder_is_read_whole(folder):
    run = make_run(directory=folder, image_size=8)
    test, validation = labelled_images.load(run), labelled_images.load(run, split="validation")
    assert test.labels.tolist() == [0, 0, 1, 1] and len(validation.labels) == 2
    for i in range(4):
        image = test.read(i)
        assert image.shape == (*test.sizes[i], 3) and image.dtype == np.uint8
        assert image[0, 0].tolist() == [100 * (i // 2), 10 * (i % 2), 50]
    assert validation.read(0)[0, 0, 2] == 0  # held out of train


def test_a_folder_of_some_of_the_classes(folder):
    run = make_run("fake", classes=("ant", "dog", "cat"))
    found = labelled_images.load(run, str(folder / "val"))
    assert found.labels.tolist() == [2, 2, 1, 1]
    assert [image.shape[:2] for image in map(found.read, range(4))] == list(found.sizes)


def test_sizes_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "cat" / "a.jpg", exif=exif)
    found = labelled_images.load(make_run(), str(tmp_path))
    assert list(found.sizes) == [(20, 10)] and found.read(0).shape == (20, 10, 3)


class Records(list):
    """A data source in memory."""

    def __getitems__(self, keys):
        return [self[i] for i in keys]


def made_up(monkeypatch, *splits):
    """Has TFDS hold pictures of different sizes in these splits, each pixel the picture's number, labels in turn."""
    sources, number = {}, 0
    for split in splits:
        sources[split] = Records()
        for _ in range(8):
            file = io.BytesIO()
            Image.new("RGB", (10 + number, 30), (number,) * 3).save(file, "png")
            sources[split].append({"image": file.getvalue(), "label": number % 2})
            number += 1
    tests = [split for split in ("test", "validation") if split in splits]
    opened = {split: tfds.Source(source, "image", "label") for split, source in sources.items()}
    opened = records.Opened(opened, tests, (None, None, 3), ("cat", "dog"), {})
    monkeypatch.setattr(tfds, "_open", lambda name, directory: opened)


def test_a_tfds_set_is_read_whole_whatever_its_sizes(monkeypatch):
    run = make_run("made_up", image_size=8)
    made_up(monkeypatch, "train", "test")
    found = labelled_images.load(run)
    assert found.labels.tolist() == [0, 1] * 4 and list(found.sizes) == [(30, 18 + i) for i in range(8)]
    assert [found.read(i)[0, 0, 0] for i in range(8)] == list(range(8, 16))
    held, wanted = (
        labelled_images.load(run, split="validation"),
        data.load("made_up", validation_fraction=0.25, image_size=8),
    )
    assert [held.read(i)[0, 0, 0] for i in range(2)] == wanted.validation.images[:, 0, 0, 0].tolist()
    assert np.array_equal(held.labels, wanted.validation.labels)
    made_up(monkeypatch, "train", "test", "validation")
    assert labelled_images.load(run, split="validation").read(0)[0, 0, 0] == 16
    made_up(monkeypatch, "train", "validation")
    assert labelled_images.load(run).read(0)[0, 0, 0] == 8
    with pytest.raises(data.DataError, match="the validation split of 'made_up' has no examples"):
        labelled_images.load(make_run("made_up", image_size=8, validation_fraction=0.0), split="validation")


def test_arrays_and_generated_sets():
    run = make_run("digits", classes=tuple(map(str, range(10))), shape=(12, 12, 1), image_size=12)
    found, wanted = labelled_images.load(run), data.load("digits", image_size=12).test
    assert np.array_equal(found.labels, wanted.labels) and np.array_equal(found.read(5), wanted.images[5])


@pytest.mark.parametrize(
    "change, source, message",
    [
        ({"classes": ("cat", "cow")}, "val", "1 classes that the run does not know: dog; the run's are cat, cow"),
        ({}, "", "holds splits, not classes; give one of them, '.*val'"),
        ({}, "none", "is no folder; give the one that holds <class>/"),
        ({}, "digits", "has 1 channels, the run was trained on 3"),
        ({}, "imagenet3", "is no known data set"),
    ],
)
def test_errors_name_the_data(folder, change, source, message):
    run = make_run(directory=folder, **change)
    with pytest.raises(data.DataError, match=message):
        labelled_images.load(run, source if source in ("digits", "imagenet3") else f"{folder}/{source}")


def test_a_file_that_is_no_picture_is_named(folder):
    (folder / "val" / "cat" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(data.DataError, match="cannot read .*bad.png as an image"):
        labelled_images.load(make_run(), str(folder / "val"))


def test_take_spreads_over_all():
    found = labelled_images.take(
        labelled_images.from_arrays("them", np.arange(10).reshape(10, 1, 1, 1), np.arange(10)), 4
    )
    assert found.labels.tolist() == [0, 2, 5, 7] and found.read(3).item() == 7 and found.name == "4 of them"
    assert labelled_images.take(found, 100) is found
    with pytest.raises(ValueError, match=r"images \(=0\) must be at least 1"):
        labelled_images.take(found, 0)


def test_encoded_files_need_no_disk():
    file = io.BytesIO()
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(file, "png")
    found = labelled_images.from_files("one", [file.getvalue()], np.array([1]), 1)
    assert list(found.sizes) == [(3, 4)] and found.read(0)[..., 0].tolist() == np.arange(12).reshape(3, 4).tolist()


def sizes_of(count, seed=0):
    return [(int(h), int(w)) for h, w in np.random.default_rng(seed).integers(50, 200, (count, 2))]


def test_exact_groups_hold_pictures_of_one_size_at_every_scale():
    sizes = [(50, 60), (100, 120), (60, 50), (50, 60), (50, 61)]
    groups = labelled_images.groups(sizes, (10, 20), exact=True)
    # 61 / 50 of 20 pixels is 24.4, the same as 60 / 50; of both scales all three are the same.
    assert [group.indices.tolist() for group in groups] == [[0, 1, 3, 4], [2]]
    assert groups[0].canvases == ((10, 12), (20, 24)) and groups[1].canvases == ((12, 10), (24, 20))
    sizes = sizes_of(40)
    groups = labelled_images.groups(sizes, (30, 77), exact=True)
    assert sorted(np.concatenate([group.indices for group in groups])) == list(range(40))
    for group in groups:
        for index in group.indices:
            assert tuple(crops.scaled_size(sizes[index], scale) for scale in (30, 77)) == group.canvases


def test_canvases_are_few_and_hardly_larger_than_their_pictures():
    sizes = sizes_of(300)
    groups = labelled_images.groups(sizes, (64,), exact=False)
    assert sorted(np.concatenate([group.indices for group in groups])) == list(range(300))
    assert len(groups) <= 2 * 7 + 1  # 200 / 50 is below 1.25 ** 7
    for group in groups:
        (canvas,) = group.canvases
        scaled = np.array([crops.scaled_size(sizes[index], 64) for index in group.indices])
        assert (scaled <= canvas).all() and (scaled.max(axis=0) == canvas).all()
        assert (np.array(canvas) <= 1.25 * scaled + 1).all()
    assert labelled_images.groups([(64, 64)] * 5, (32,), exact=False)[0].canvases == ((32, 32),)


def test_lay_puts_pictures_at_the_upper_left():
    one, two = np.full((2, 3, 1), 7, np.uint8), np.full((3, 2, 1), 9, np.uint8)
    laid = labelled_images.lay([one, two], (3, 4), 3)
    assert laid.shape == (3, 3, 4, 1) and laid[2].sum() == 0
    assert laid[0, ..., 0].tolist() == [[7, 7, 7, 0], [7, 7, 7, 0], [0] * 4]
    assert laid[1, ..., 0].tolist() == [[9, 9, 0, 0]] * 3
