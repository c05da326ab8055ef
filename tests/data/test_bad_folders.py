"""Image folders with something wrong in them: used rightly, or an error or a counted line that names the file."""

import os
import pathlib
import socket
import struct
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image

from cnn import data
from cnn.data import DataError
from cnn.runs import facts

RNG = np.random.default_rng(0)


def picture(height=8, width=8, seed=None):
    rng = RNG if seed is None else np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def root(tmp_path):
    """train/ and val/ with the classes cat and dog, of 6 and 3 pictures each."""
    for split, count in (("train", 6), ("val", 3)):
        for name in ("cat", "dog"):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture().save(folder / f"{i}.png")
    return tmp_path / "set"


def load(root, **options):
    return data.load("folder", **{"dir": str(root), "image_size": 8, "validation_fraction": 0.2, **options})


def write(path, content=b""):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(content)
    return path


def jpeg(path, **options):
    rows, columns = np.mgrid[:64, :64]
    noise = np.random.default_rng(0).normal(0, 9, (64, 64, 3))
    pixels = np.clip(np.stack([columns * 4, rows * 4, 255 - columns * 2], -1) + noise, 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path, "JPEG", **options)
    return path.read_bytes()


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def huge_png(path):
    """A header of 60,000 x 60,000 pixels, and nothing else."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    write(path, b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b""))


def flipped_png(path):
    content = bytearray((path.parent / "0.png").read_bytes())
    content[len(content) // 2] ^= 255
    write(path, bytes(content))


def animated(path):
    picture().save(path, save_all=True, append_images=[picture()])


def a_link(path, there):
    path.symlink_to(there)


def a_socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have some hundred letters only
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


# What is written to train/cat/ -> what is said of it. In "skip" mode it is left out, listed with the same words.
FILES = {
    "empty": ("x.png", write, "an empty file, of 0 bytes"),
    "text": ("x.png", lambda path: write(path, b"hello"), "cannot .*x.png"),
    "half a picture": ("x.png", lambda path: write(path, (path.parent / "0.png").read_bytes()[:100]), "cannot"),
    "a PNG with a byte flipped": ("x.png", flipped_png, "cannot"),
    "half a JPEG": ("x.jpg", lambda path: write(path, jpeg(path)[:700]), "cannot"),
    "a JPEG without its last bytes": ("x.jpg", lambda path: write(path, jpeg(path)[:-9]), "truncated"),
    "a huge PNG": ("x.png", huge_png, "60000x60000x3 is 10.1 GiB when decoded"),
    "an animation": ("x.gif", animated, "holds several pictures"),
    "a directory": ("x.png", lambda path: path.mkdir(), "a directory"),
    "nested": ("more", lambda path: picture().save(write(path / "a.png")), "a directory"),
    "a pipe": ("x.png", os.mkfifo, r"a pipe \(FIFO\)"),
    "a socket": ("x.png", a_socket, "a socket"),
    "a device": ("x.png", lambda path: a_link(path, "/dev/zero"), "a device"),
    "a link to nothing": ("x.png", lambda path: a_link(path, "nowhere"), "a link to nothing"),
    "a link in a loop": ("x.png", lambda path: a_link(path, path), "too many levels of symbolic links"),
    "a link to a folder": ("x.png", lambda path: a_link(path, path.parent), "a directory"),
    "another kind": ("x.txt", lambda path: write(path, b"hello"), "a file of another kind"),
    "no suffix": ("picture", lambda path: write(path, b"hello"), "a file of another kind"),
    "an array": ("x.npy", lambda path: np.save(path, np.zeros((8, 8))), "a file of another kind"),
    "a name that is no UTF-8": (os.fsdecode(b"\xff.png"), write, r"an empty file, of 0 bytes"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_used(kind, root, capsys):
    name, make, words = FILES[kind]
    whole = load(root)
    make(root / "train" / "cat" / name)
    with pytest.raises(DataError, match=words) as error:
        load(root)
    message = str(error.value)
    assert "\n" not in message and "data.on_error=skip" in message
    shown = name.encode("utf-8", "backslashreplace").decode()
    assert shown in message or repr(shown)[1:-1] in message
    capsys.readouterr()
    got = load(root, on_error="skip")
    assert [one.file for one in got.skipped] == [f"train/cat/{shown}"]
    said = capsys.readouterr().err
    assert "left out 1 of 19 files (data.on_error=skip): train/cat/" in said and shown in said
    assert facts.of(got)["skipped"] == [[f"train/cat/{shown}", got.skipped[0].reason]]
    assert len(got.train.labels) + len(got.validation.labels) in (11, 12) and len(got.test.labels) == 6
    assert np.array_equal(got.test.images, whole.test.images)


# What is done to the folder -> what the error says, in both modes.
REFUSED = {
    "no classes": (lambda root: [(root / "train" / name).rename(root / name) for name in ("cat", "dog")], "no class"),
    "an empty class": (lambda root: (root / "train" / "eel").mkdir(), "eel has no images; remove the directory"),
    "case": (
        lambda root: [picture().save(write(root / split / "Cat" / "a.png")) for split in ("train", "val")],
        "the class directories 'Cat' and 'cat', whose names differ in their case alone",
    ),
    "Unicode form": (
        lambda root: [
            picture().save(write(root / "train" / unicodedata.normalize(form, "é") / "a.png"))
            for form in ("NFC", "NFD")
        ],
        "two directories for the class .*, whose names differ in their Unicode form alone",
    ),
    "a class that is no UTF-8": (
        lambda root: picture().save(write(root / "train" / os.fsdecode(b"\xff") / "a.png")),
        r"the class directory '\\\\udcff' has a name that is no UTF-8",
    ),
    "other classes in val": (lambda root: (root / "val" / "dog").rename(root / "val" / "eel"), "must have the same"),
    "one class": (
        lambda root: [(root / split / "dog").rename(root / f"{split}_dog") for split in ("train", "val")],
        "one class, 'cat', and so nothing to tell apart",
    ),
    "a class of unreadable pictures": (
        lambda root: [write(path, b"x") for path in (root / "train" / "cat").iterdir()],
        "cannot|no picture of cat is left",
    ),
    "a file in its place": (lambda root: [root.rename(root.parent / "other"), write(root)], "is not a directory"),
}


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_that_is_refused(kind, on_error, root):
    change, words = REFUSED[kind]
    change(root)
    with pytest.raises(DataError, match=words) as error:
        load(root, on_error=on_error)
    assert "\n" not in str(error.value)


def test_pictures_beside_the_classes(root, capsys):
    picture().save(root / "train" / "lost.png")
    write(root / "train" / "notes.txt", b"hello")
    write(root / "labels.csv")
    with pytest.raises(DataError, match=r"1 pictures beside its directories, .*'lost.png'"):
        load(root)
    got = load(root, on_error="skip")
    assert [tuple(one) for one in got.skipped] == [("train/lost.png", "beside the class directories, of no class")]
    said = capsys.readouterr().err
    assert "1 files beside the directories" in said and "are not read: notes.txt" in said and "labels.csv" in said


def remarks(root, **options):
    return "\n".join(load(root, **options).remarks)


def test_links_are_followed_and_said(root):
    outside = root.parent / "elsewhere"
    picture(seed=5).save(write(outside / "a.png"))
    (root / "train" / "cat" / "link.png").symlink_to(outside / "a.png")
    (root / "train" / "cat" / "inside.png").symlink_to(root / "train" / "cat" / "0.png")
    got = load(root)
    assert len(got.train.labels) + len(got.validation.labels) == 14
    assert f"1 links lead out of the folder, and are followed: train/cat/link.png is {outside}/a.png" in got.remarks
    # A class that is a link.
    (root / "train" / "eel").symlink_to(outside)
    (root / "val" / "eel").symlink_to(outside)
    assert "train/eel is" in "\n".join(load(root).remarks)


def test_leaks_and_contradictions_are_counted_and_named(root):
    """By pixels: also under another name, in another format."""
    Image.open(root / "train" / "cat" / "0.png").save(root / "val" / "cat" / "copy.bmp")
    Image.open(root / "train" / "cat" / "1.png").save(root / "val" / "dog" / "other.png")
    Image.open(root / "train" / "dog" / "2.png").save(root / "train" / "dog" / "twice.png")
    said = remarks(root, validation_fraction=0.0)
    assert "2 of the 8 test pictures are in the training split too, by their pixels" in said
    assert "train/cat/0.png = val/cat/copy.bmp, train/cat/1.png = val/dog/other.png" in said
    assert "1 pictures have the pixels of one of another class: train/cat/1.png = val/dog/other.png" in said


def test_sizes_that_leave_little_of_a_picture(root):
    picture(1, 1, seed=9).save(root / "train" / "cat" / "dot.png")
    picture(2, 500, seed=9).save(root / "train" / "dog" / "line.png")
    said = remarks(root, image_size=8)
    assert "1 pictures are enlarged more than 4 times to 8 pixels, the most train/cat/dot.png of 1x1 pixels" in said
    assert (
        "of 1 pictures less than 10% is seen, the square in the middle, the least of train/dog/line.png, 2x500" in said
    )
    assert "20 pictures are enlarged" in remarks(root, image_size=40)


def test_splits_that_leave_a_class_with_little(root):
    picture().save(write(root / "train" / "eel" / "a.png"))
    picture().save(write(root / "val" / "eel" / "a.png"))
    said = remarks(root)
    assert "the training split has one example of 1 classes: eel" in said
    assert "the validation split has no example of 1 classes: eel" in said
    assert "the test split has one example of 1 classes: eel" in said


def test_a_jpeg_that_decodes_though_it_is_damaged(root):
    """A restart marker out of turn is found without any package; what libjpeg warns of with simplejpeg."""
    path = root / "train" / "cat" / "x.jpg"
    content = jpeg(path, restart_marker_rows=1)
    assert not [line for line in load(root).remarks if "damaged" in line]
    place = content.index(b"\xff\xd1")
    write(path, content[:place] + b"\xff\xd4" + content[place + 2 :])
    got = load(root)
    assert any(
        "1 pictures are damaged, and were decoded to something all the same: train/cat/x.jpg (a" in x
        for x in got.remarks
    )
    got = load(root, on_error="skip")
    assert [one.file for one in got.skipped] == ["train/cat/x.jpg"] and "damaged: a part" in got.skipped[0].reason


def test_what_libjpeg_warns_of(root):
    pytest.importorskip("simplejpeg")
    path = root / "train" / "cat" / "x.jpg"
    content = jpeg(path, progressive=True)
    found = 0
    for place in range(700, len(content) - 10, 97):
        changed = bytearray(content)
        changed[place] ^= 0x5A
        write(path, bytes(changed))
        try:
            found += any("damaged" in line for line in load(root).remarks)
        except DataError:
            found += 1
    assert found >= 2  # of some ten: JPEG has no checksums, and most changed bits are those of another right picture


def test_what_is_right_though_it_is_odd(root, capsys):
    """Wrong suffixes, capitals, hidden files, what systems leave, and names of any letters."""
    folder = root / "train" / "cat"
    picture().save(folder / "really.jpg", "PNG")
    picture().save(folder / "LARGE.PNG")
    picture().save(folder / "<b>&.png")
    picture().save(folder / "two\nlines.png")
    picture().save(folder / (240 * "x" + ".png"))
    picture().save(os.fsencode(folder) + b"/\xfe.png", "PNG")
    for name in (".DS_Store", "Thumbs.db", "._0.png"):
        write(folder / name)
    got = load(root)
    assert len(got.train.labels) + len(got.validation.labels) == 18
    assert "left out 2 entries that systems make: Thumbs.db, ._0.png" in capsys.readouterr().err
    assert load(root, on_error="skip").skipped == ()


def test_many_classes(root):
    for i in range(40):
        for split in ("train", "val"):
            picture(2, 2).save(write(root / split / f"class {i:04}" / "a.png"))
    got = load(root, image_size=2)
    assert got.num_classes == 42 and len(got.train.labels) >= 42
    assert "the training split has one example of 40 classes: class 0000, class 0001, class 0002 and 37" in "".join(
        got.remarks
    )


def test_a_file_that_vanishes_while_the_folder_is_read(root, monkeypatch):
    from cnn.data import folders

    listings = folders.folder_listings

    def and_one_goes(*arguments):
        found = listings(*arguments)
        pathlib.Path(found[0]["train"].paths[0]).unlink()
        return found

    monkeypatch.setattr(folders, "folder_listings", and_one_goes)
    with pytest.raises(DataError, match="there is no such file"):
        load(root)
    got = load(root, on_error="skip")
    assert len(got.skipped) == 1 and "there is no such file" in got.skipped[0].reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("place", ["train/cat/0.png", "train/cat"])
def test_what_may_not_be_read(root, place):
    (root / place).chmod(0)
    try:
        with pytest.raises(DataError, match="permission denied"):
            load(root)
    finally:
        (root / place).chmod(0o755)


def test_a_run_goes_on_with_the_same_examples_only(root, tmp_path):
    """What is left out belongs to the facts: the message of a run on other data says which files."""
    write(root / "train" / "cat" / "x.png", b"hello")
    there = facts.of(load(root, on_error="skip", validation_fraction=0.0))
    picture(seed=3).save(root / "train" / "cat" / "x.png")
    mended = load(root, on_error="skip", validation_fraction=0.0)
    assert facts.differences(mended, there) == [
        "12 examples for train there and 13 here",
        "1 files are left out there alone, the first train/cat/x.png",
    ]
    (root / "train" / "cat" / "x.png").unlink()
    assert not facts.differences(load(root, validation_fraction=0.0), there)
