"""Decoded data sets on disk: the same to the bit, never those of other files, and never in the way."""

import json
import os
import shutil
import sys
import types

import numpy as np
import pytest
from PIL import Image

from cnn import data
from cnn.data import decoded, folders
from tests.helpers import PROGRAMS, run_python


@pytest.fixture(name="cache")
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(decoded, "SETTLED", -3600.0)  # files that were just written are old enough
    yield decoded.use(str(tmp_path / "cache"))
    decoded.use("none")


@pytest.fixture(name="pictures")
def _pictures(tmp_path):
    """Two classes of six grey pictures, modified some minutes ago."""
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
    folder = folders.folder
    monkeypatch.setattr(folders, "folder", lambda *a, **o: (reads.append(a), folder(*a, **o))[1])
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
    monkeypatch.setattr(decoded, "SETTLED", 2.0)
    write(old, changed)  # by the time of its change, which no copy sets back
    load(pictures)
    load(pictures)
    assert len(reads) == 7 and sets(cache) == kept


def of_one_time(paths):
    """Gives files the same times of modification and change, as some written within one tick of the clock have."""
    for _ in range(1000):
        for path in paths:
            os.utime(path, (1e9, 1e9))
        if len({path.stat().st_ctime_ns for path in paths}) == 1:
            return
    pytest.skip("the clock of this file system is too fine")


def labels_by_pixels(dataset):
    splits = (dataset.train, dataset.validation, dataset.test)
    return {image.tobytes(): int(label) for split in splits for image, label in zip(*split, strict=True)}


def test_pictures_that_change_places_are_not_missed(pictures, cache, monkeypatch, tmp_path):
    """Pictures of one size and time, as scripts write bitmaps, in folders that are swapped and behind links."""
    reads = count_reads(monkeypatch)
    files = [pictures / name / f"{i}.bmp" for name in ("cats", "dogs") for i in range(3)]
    rng = np.random.default_rng(1)
    for old in pictures.glob("*/*.png"):
        os.remove(old)
    for path in files:
        write(path, rng.integers(0, 256, (4, 4), np.uint8))
    of_one_time(files)
    before = labels_by_pixels(load(pictures))
    for one, other in (("cats", "aside"), ("dogs", "cats"), ("aside", "dogs")):
        os.rename(pictures / one, pictures / other)
    after = labels_by_pixels(load(pictures))
    assert len(reads) == 2 and after == {pixels: 1 - label for pixels, label in before.items()}
    stored = [tmp_path / "a.bmp", tmp_path / "b.bmp"]
    for path in stored:
        write(path, rng.integers(0, 256, (4, 4), np.uint8))
    of_one_time(stored)
    os.remove(files[0])
    seen = []
    for path in stored:
        files[0].unlink(missing_ok=True)
        files[0].symlink_to(path)
        seen.append(set(labels_by_pixels(load(pictures))))
    assert len(reads) == 4 and len(seen[0] - seen[1]) == 1


def test_what_lies_beside_pictures_is_not_missed(tmp_path, cache, monkeypatch, capsys):
    """A folder in a class is an error on a hit too, and a hidden picture is said."""
    reads = count_reads(monkeypatch)
    for place in ("train/cats", "train/dogs", "val/cats", "val/dogs"):
        (tmp_path / "split" / place).mkdir(parents=True)
        for i in range(3):
            write(tmp_path / "split" / place / f"{i}.png", np.full((4, 4), 20 * i, np.uint8))
    load(tmp_path / "split")
    shutil.copy2(tmp_path / "split/val/cats/0.png", tmp_path / "split/val/cats/.0.png")
    capsys.readouterr()
    load(tmp_path / "split")
    assert "left out 1 entries that systems make: .0.png" in capsys.readouterr().err and len(reads) == 2
    load(tmp_path / "split")
    assert "left out 1 entries that systems make: .0.png" in capsys.readouterr().err and len(reads) == 2
    (tmp_path / "split/train/cats/more").mkdir()
    with pytest.raises(data.DataError, match="the first is 'more', a directory"):
        load(tmp_path / "split")


def test_what_is_used_is_what_was_checked(pictures, cache):
    """A set that is damaged while a run uses it changes nothing in the run, and may be written to as any other."""
    plain = load(pictures)
    kept = load(pictures)
    place = os.path.join(cache, *sets(cache), "train_images.npy")
    with open(place, "r+b") as file:
        file.truncate(200)
    assert_same(kept, plain)
    kept.train.images[0] = 0


def damage(place, name, how):
    path = os.path.join(place, name)
    if how == "delete":
        os.remove(path)
    elif how.startswith("as "):
        with open(path, "wb") as file:
            file.write(OTHERS[how])
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


HUGE = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (%s,), }" % (b"9" * 20)
OTHERS = {"as a zip": b"PK\x03\x04 and no more", "as a huge array": HUGE.ljust(127) + b"\n", "as deep": b"[" * 100_000}
DAMAGES = [
    *[("train_images.npy", how) for how in ("as a zip", "as a huge array")],
    ("about.json", "as deep"),
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
    (place,) = (os.path.join(cache, one) for one in sets(cache))
    shutil.rmtree(place)
    with open(place, "w"):  # a file in its place
        pass
    assert_same(load(pictures), plain)
    assert_same(load(pictures), plain)
    assert len(reads) == len(DAMAGES) + 2
    assert not [name for name in os.listdir(cache) if name.startswith(".writing-")]


def test_users_may_share_a_folder(pictures, cache, monkeypatch, capsys):
    """Sets have the rights of other folders; one that may not be read is left alone, and is not called damaged."""
    old = os.umask(0o022)
    try:
        plain = load(pictures)
    finally:
        os.umask(old)
    place = os.path.join(cache, *sets(cache))
    assert os.stat(place).st_mode & 0o777 == 0o755
    assert {os.stat(os.path.join(place, name)).st_mode & 0o777 for name in os.listdir(place)} == {0o644}
    reads, open_ = count_reads(monkeypatch), open

    def refusing(path, *rest, **more):
        if str(path).startswith(place):
            raise PermissionError(13, "Permission denied", str(path))
        return open_(path, *rest, **more)

    monkeypatch.setattr("builtins.open", refusing)
    assert_same(load(pictures), plain)
    monkeypatch.setattr("builtins.open", open_)
    said = capsys.readouterr().err
    assert f"decoded data are not used: [Errno 13] Permission denied: '{place}/about.json'" in said
    assert "damaged" not in said and len(reads) == 1
    assert_same(load(pictures), plain)
    assert len(reads) == 1 and os.listdir(cache) == sets(cache)


def test_without_a_folder_it_goes_on_with_a_line(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decoded, "SETTLED", -3600.0)
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
        monkeypatch.undo()
        monkeypatch.setattr(decoded, "SETTLED", -3600.0)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1000))
        load(pictures)
        assert f"decoded data are not kept: {folder} has 0 MiB left" in capsys.readouterr().err
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
