"""Decoded data sets on disk: the same to the bit, never those of other files, and never in the way."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from cnn import data
from cnn.data import decoded, readers
from tests.helpers import PROGRAMS, run_python


@pytest.fixture(name="cache")
def _cache(tmp_path):
    yield decoded.use(str(tmp_path / "cache"))
    decoded.use("none")


@pytest.fixture(name="pictures")
def _pictures(tmp_path):
    """Two classes of six grey pictures, some minutes old."""
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for i in range(6):
            write(folder / f"{i}.png", rng.integers(0, 256, (5, 6), np.uint8))
    return tmp_path / "pictures"


def write(path, pixels, age=300.0):
    Image.fromarray(pixels).save(path)
    os.utime(path, (path.stat().st_mtime - age,) * 2)


def load(pictures, **options):
    options = {"image_size": 4, "validation_fraction": 0.25, **options}
    return data.load("folder", dir=str(pictures), **options)


def sets(cache):
    return sorted(name for name in os.listdir(cache) if not name.startswith("."))


def assert_same(one, other):
    assert (one.name, one.class_names, one.mean, one.std) == (other.name, other.class_names, other.mean, other.std)
    for split in ("train", "validation", "test"):
        for a, b in zip(getattr(one, split), getattr(other, split), strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)


def count_reads(monkeypatch):
    reads = []
    folder = readers.folder
    monkeypatch.setattr(readers, "folder", lambda *a, **o: (reads.append(a), folder(*a, **o))[1])
    return reads


def test_a_kept_set_is_the_same_and_says_the_same(pictures, cache, monkeypatch, capsys):
    decoded.use("none")
    plain, said = load(pictures), capsys.readouterr().err
    decoded.use(cache)
    reads = count_reads(monkeypatch)
    for turn in (1, 1):
        assert_same(load(pictures), plain)
        assert capsys.readouterr().err == said and "held out for test" in said
        assert len(reads) == turn and len(sets(cache)) == 1
    # Fewer examples are drawn from the same kept set; other options are other sets.
    assert len(load(pictures, train_examples=3).train.labels) == 3 and len(reads) == 1
    assert load(pictures, image_size=3).image_shape == (3, 3, 3) and len(reads) == 2
    load(pictures, channels=(0,))
    assert len(load(pictures, validation_fraction=0).validation.labels) == 0
    assert len(reads) == 4 and len(sets(cache)) == 4


def test_a_changed_picture_is_never_missed(pictures, cache, monkeypatch):
    reads = count_reads(monkeypatch)
    load(pictures)
    old = pictures / "cats" / "0.png"
    before = old.stat()
    changed = np.zeros((5, 6), np.uint8)
    # The same size and the same time of modification, as a copy with `cp -p` has them.
    content = old.read_bytes()
    old.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(old, ns=(before.st_atime_ns, before.st_mtime_ns))
    load(pictures)
    write(old, changed)
    load(pictures)
    shutil.copy2(pictures / "dogs" / "1.png", pictures / "dogs" / "one more.png")
    more = load(pictures)
    os.rename(pictures / "dogs" / "one more.png", pictures / "cats" / "one more.png")
    moved = load(pictures)
    assert len(reads) == 5
    assert sum(len(split.labels) for split in (more.train, more.validation, more.test)) == 13
    assert np.bincount(np.concatenate([moved.train.labels, moved.validation.labels, moved.test.labels]))[0] == 7
    # One that is too young may change again within a tick of the clock: it is read, and the set is not kept.
    kept = sets(cache)
    write(old, changed, age=0.0)
    load(pictures)
    load(pictures)
    assert len(reads) == 7 and sets(cache) == kept


def damage(place, name, how):
    path = os.path.join(place, name)
    if how == "delete":
        os.remove(path)
    elif how == "truncate":
        os.truncate(path, os.path.getsize(path) // 2)
    else:
        with open(path, "r+b") as file:
            file.seek(-3, os.SEEK_END)
            file.write(b"\xff\xff\x00" if how == "flip" else b"")
    if how == "lie":
        with open(path) as file:
            written = json.load(file)
        written["about"]["std"] = [0.0, 0.0, 0.0]
        with open(path, "w") as file:
            json.dump(written, file)


DAMAGES = [
    *[("train_images.npy", how) for how in ("delete", "truncate", "flip")],
    *[("about.json", how) for how in ("truncate", "flip", "lie")],
    ("test_labels.npy", "flip"),
]


def test_a_damaged_set_is_made_anew_with_a_line(pictures, cache, monkeypatch, capsys):
    plain = load(pictures)
    reads = count_reads(monkeypatch)
    for count, (name, how) in enumerate(DAMAGES, 1):
        (place,) = (os.path.join(cache, one) for one in sets(cache))
        damage(place, name, how)
        capsys.readouterr()
        assert_same(load(pictures), plain)
        (line,) = (line for line in capsys.readouterr().err.splitlines() if ": damaged (" in line)
        assert line.startswith(f"{place}: damaged (") and line.endswith("the data are decoded anew"), (name, how)
        assert len(reads) == count
    os.remove(os.path.join(cache, sets(cache)[0], "about.json"))
    assert_same(load(pictures), plain)
    assert len(reads) == len(DAMAGES) + 1
    assert not [name for name in os.listdir(cache) if name.startswith(".writing-")]


def test_without_a_folder_it_goes_on_with_a_line(pictures, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    try:
        decoded.use(str(tmp_path / "file" / "cache"))
        load(pictures)
        assert "decoded data are not kept: " in capsys.readouterr().err
        folder = decoded.use(str(tmp_path / "full"))

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "save", full)
        load(pictures)
        assert "decoded data are not kept: [Errno 28] No space left on device" in capsys.readouterr().err
        assert os.listdir(folder) == []
    finally:
        decoded.use("none")


def test_those_used_longest_ago_are_removed(pictures, cache, monkeypatch):
    places = []
    for image_size in (3, 4, 5):
        load(pictures, image_size=image_size)
        (new,) = set(sets(cache)) - set(places)
        places.append(new)
        os.utime(os.path.join(cache, new, "about.json"), (image_size, image_size))
    load(pictures, image_size=3)  # used again
    size = sum(
        os.path.getsize(os.path.join(cache, place, x)) for place in places for x in os.listdir(cache + "/" + place)
    )
    monkeypatch.setattr(decoded, "LIMIT", size + 100)
    load(pictures, image_size=6)
    assert places[0] in sets(cache) and places[1] not in sets(cache)
    monkeypatch.setattr(decoded, "LIMIT", 10)
    load(pictures, image_size=7)
    assert places[0] in sets(cache), "a set that is too large by itself removes no other"


def test_the_folder_is_chosen_as_that_of_programs_is(tmp_path, monkeypatch):
    try:
        monkeypatch.delenv("CNN_DATA_CACHE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert decoded.use() == str(tmp_path / "cnn-data")
        monkeypatch.setenv("CNN_DATA_CACHE", str(tmp_path / "own"))
        assert decoded.use("auto") == str(tmp_path / "own")
        assert decoded.use("") is None
    finally:
        decoded.use("none")


@pytest.mark.slow
def test_mnist_is_decoded_once(tfds_data_dir, cache):
    """The second process decodes nothing, and does not import TFDS either."""
    if not (tfds_data_dir / "mnist").is_dir():
        pytest.skip(f"mnist is not prepared in TFDS_DATA_DIR ({tfds_data_dir})")
    plain = data.load("mnist", dir=str(tfds_data_dir))
    done = run_python(PROGRAMS / "load_kept.py", cache, tfds_data_dir)
    assert done.returncode == 0, done.stderr
    seconds, *statistics = json.loads(done.stdout)
    assert statistics == [list(plain.mean), list(plain.std), int(plain.train.images.sum(dtype=np.int64))]
    assert seconds < 3, "CPU seconds; 0.1 on a machine that does nothing else, and 7 or more where it is decoded"
    assert "tensorflow_datasets" in sys.modules
