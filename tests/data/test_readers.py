"""Holding out, and an image folder of odd pictures."""

import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from cnn import data
from cnn.data import class_folders, readers
from tests.reference.datasets import check_dataset


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.9])
def test_hold_out_has_the_right_total_and_proportions(fraction):
    labels = np.random.default_rng(0).choice(7, 1001, p=np.arange(1, 8) / 28)
    kept, held = readers.hold_out(labels, fraction)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(1001))
    assert np.array_equal(kept, np.sort(kept)) and np.array_equal(held, np.sort(held))
    assert len(held) == round(1001 * fraction)
    assert np.abs(np.bincount(labels[held]) - fraction * np.bincount(labels)).max() < 1
    assert not np.array_equal(held, np.arange(len(held)))


def test_hold_out_leaves_every_class_an_example():
    kept, held = readers.hold_out(np.array([0, 0, 1, 2, 2]), 0.9)
    assert sorted(np.array([0, 0, 1, 2, 2])[kept].tolist()) == [0, 1, 2] and len(held) == 2


@pytest.mark.parametrize("classes", [2, 7, 30])
def test_draw_is_nested_and_in_proportion(classes):
    weights = np.arange(1, classes + 1) / (classes * (classes + 1) / 2)
    labels = np.random.default_rng(0).choice(classes, 701, p=weights)
    before: set[int] = set()
    for count in range(702):
        drawn = readers.draw(labels, count)
        assert np.array_equal(drawn, np.unique(drawn)) and len(drawn) == count
        assert before < set(drawn.tolist()) or count == 0
        before = set(drawn.tolist())
        share = np.bincount(labels, minlength=classes) * count / 701
        assert np.abs(np.bincount(labels[drawn], minlength=classes) - share).max() <= 1
    drawn = readers.draw(labels, 70)
    assert drawn.mean() == pytest.approx(350, abs=100)  # from all over the set, not its start


@pytest.fixture
def pictures(tmp_path):
    """A folder with two classes, odd modes and sizes; the label can be told from the colour."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 3)):
        for name, level in (("dark", 40), ("light", 200)):
            directory = tmp_path / split / name
            directory.mkdir(parents=True)
            for i in range(count):
                height, width = rng.integers(8, 40, 2)
                picture = Image.new("RGB", (int(width), int(height)), (level, level, level))
                mode, suffix = [("RGB", ".JPEG"), ("L", ".png"), ("P", ".PNG"), ("CMYK", ".jpg")][i % 4]
                picture.convert(mode).save(directory / f"{i}{suffix}")
    (tmp_path / "train" / "dark" / ".DS_Store").write_bytes(b"")
    return tmp_path


def test_folder(pictures):
    got = data.load("folder", dir=str(pictures), image_size=16, validation_fraction=0.2)
    assert got.class_names == ("dark", "light") and got.image_shape == (16, 16, 3)
    assert [len(s.labels) for s in (got.train, got.validation, got.test)] == [16, 4, 6]
    for split in (got.train, got.validation, got.test):
        assert np.array_equal(split.images.mean(axis=(1, 2, 3)) > 120, split.labels == 1)
        assert np.bincount(split.labels).tolist() == [len(split.labels) // 2] * 2
    check_dataset(got)


def test_val_is_validation_and_test_is_test_where_a_folder_has_both(pictures, capsys):
    shutil.copytree(pictures / "val", pictures / "test")
    (pictures / "test" / "dark" / "0.JPEG").unlink()
    got = data.load("folder", dir=str(pictures), image_size=16, validation_fraction=0.2)
    assert [len(s.labels) for s in (got.train, got.validation, got.test)] == [20, 6, 5]
    for split in (got.train, got.validation, got.test):
        assert np.array_equal(split.images.mean(axis=(1, 2, 3)) > 120, split.labels == 1)
    (pictures / "test" / "light").rename(pictures / "test" / "bright")
    message = r"train and test must have the same classes; only in train: \['light'\], only in test: \['bright'\]"
    with pytest.raises(data.DataError, match=message):
        data.load("folder", dir=str(pictures), image_size=16)
    (pictures / "test" / "bright").rename(pictures / "test" / "light")
    (pictures / "val").rename(pictures / "other")  # train/ and test/ alone: validation is held out
    got = data.load("folder", dir=str(pictures), image_size=16, validation_fraction=0.2)
    assert [len(s.labels) for s in (got.train, got.validation, got.test)] == [16, 4, 5]
    (pictures / "other").rename(pictures / "val")
    shutil.rmtree(pictures / "test")
    (pictures / "test").mkdir()  # pictures without labels: val is the test split
    (pictures / "test" / "1.png").touch()
    got = data.load("folder", dir=str(pictures), image_size=16, validation_fraction=0.2)
    assert [len(s.labels) for s in (got.train, got.validation, got.test)] == [16, 4, 6]
    assert "test has no class directories, and is not read" in capsys.readouterr().err


def test_a_folder_of_classes_alone_is_split_by_itself(pictures, capsys):
    """The same pictures for test in every run; a class may be called train."""
    (pictures / "train" / "dark").rename(pictures / "train" / "train")
    root = str(pictures / "train")
    got = data.load("folder", dir=root, image_size=16, validation_fraction=0.25)
    assert "has no train/ and val/: 4 of its 20 pictures, 20% of each class" in capsys.readouterr().err
    assert got.class_names == ("light", "train")
    assert [len(s.labels) for s in (got.train, got.validation, got.test)] == [12, 4, 4]
    again = data.load("folder", dir=root, image_size=16, validation_fraction=0.0)
    assert np.array_equal(again.test.images, got.test.images)
    for split in (got.train, got.validation, got.test):
        assert np.array_equal(split.images.mean(axis=(1, 2, 3)) > 120, split.labels == 0)
    check_dataset(got)


def test_folder_errors(pictures, monkeypatch):
    def load(**fields):
        return data.load("folder", **{"dir": str(pictures), "image_size": 16, **fields})

    with pytest.raises(data.DataError, match=r"needs data\.dir"):
        load(dir="")
    with pytest.raises(data.DataError, match=r"needs data\.image_size"):
        load(image_size=None)
    with pytest.raises(data.DataError, match=r"nowhere.train is not a directory; data.dir must hold train/<class>/"):
        load(dir=str(pictures / "nowhere"))
    with monkeypatch.context() as m:
        m.setattr("cnn.images.pictures.MAX_BYTES", 1000)
        with pytest.raises(data.DataError, match=r"26 images of 16x16x3 need .* data.image_size of 3 or less fits"):
            load(in_memory="yes")
    (pictures / "train" / "dark" / "notes.txt").write_text("hello")
    with pytest.raises(data.DataError, match=r"dark has 1 entries that are not .jpg, .*'notes.txt', a file of"):
        load()
    (pictures / "train" / "dark" / "notes.txt").rename(pictures / "train" / "dark" / "x.jpg")
    with pytest.raises(data.DataError, match=r"cannot read .*x\.jpg as an image"):
        load()
    (pictures / "train" / "dark" / "x.jpg").unlink()
    (pictures / "train" / "other").mkdir()
    with pytest.raises(data.DataError, match=r"other has no images"):
        load()
    Image.new("L", (9, 9)).save(pictures / "train" / "other" / "a.png")
    with pytest.raises(data.DataError, match=r"same classes; only in train: \['other'\], only in val: \[\]"):
        load()
    (pictures / "bare" / "train").mkdir(parents=True)
    with pytest.raises(data.DataError, match=r"train has no class directories"):
        load(dir=str(pictures / "bare"))


def test_no_picture_of_a_folder_is_left_out_unseen(pictures, capsys):
    """What systems leave is left out with a line; a picture without a class, or in a folder of its own, is an error."""

    def load(root=pictures):
        return data.load("folder", dir=str(root), image_size=16, validation_fraction=0.2)

    for name in ("Thumbs.db", "dark/desktop.ini"):
        (pictures / "train" / name).write_bytes(b"")
    (pictures / "train" / "__MACOSX" / "dark").mkdir(parents=True)
    assert load().class_names == ("dark", "light")
    assert "left out 3 entries that systems make: Thumbs.db, __MACOSX, desktop.ini" in capsys.readouterr().err
    lost = Image.new("RGB", (9, 9))
    for place in (pictures / "lost.png", pictures / "train" / "lost.PNG", pictures / "val" / "lost.jpg"):
        lost.save(place)
        with pytest.raises(data.DataError, match=rf"1 pictures beside its directories, .*{place.name!r}; move them"):
            load()
        place.unlink()
    lost.save(pictures / "train" / "lost.png")
    with pytest.raises(data.DataError, match="1 pictures beside its directories"):
        load(pictures / "train")
    (pictures / "train" / "lost.png").unlink()
    (pictures / "train" / "dark" / "more").mkdir()
    with pytest.raises(data.DataError, match="the first is 'more', a directory; convert or move them"):
        load()
    (pictures / "train" / "dark" / "more").rmdir()
    for folder in (pictures / "train" / "light", pictures / "val" / "light"):
        folder.rename(pictures / f"{folder.parent.name}_light")
    with pytest.raises(data.DataError, match="one class, 'dark', and so nothing to tell apart; are the class"):
        load()


def test_pictures_of_every_kind_that_keeps_its_values(tmp_path):
    """The same pixels, whichever file they are in."""
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    kinds = ["bmp", "png", "ppm", "tif", "TIFF", "webp"]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for kind in kinds:
            Image.fromarray(colours).save(
                tmp_path / name / f"x.{kind}", **({"lossless": True} if kind == "webp" else {})
            )
    _, listing = class_folders.list_classes(tmp_path)
    assert len(listing.paths) == 2 * len(kinds)
    assert all(np.array_equal(image, colours) for image in data.load_images(listing.paths, 16, 3))


def test_class_names_are_the_same_in_every_unicode_form(pictures):
    composed, parts = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    (pictures / "train" / "dark").rename(pictures / "train" / composed)
    (pictures / "val" / "dark").rename(pictures / "val" / parts)
    got = data.load("folder", dir=str(pictures), image_size=16, validation_fraction=0.2)
    assert got.class_names == (composed, "light")
    assert np.bincount(got.test.labels).tolist() == [3, 3]
    (pictures / "val" / composed).mkdir(exist_ok=True)
    if len(list((pictures / "val").iterdir())) == 3:  # a system that takes both for one has made none
        with pytest.raises(data.DataError, match="two directories for the class .* Unicode form alone"):
            data.load("folder", dir=str(pictures), image_size=16, validation_fraction=0.2)
