"""Tar files as WebDataset writes them and Parquet files as Hugging Face's hub has them: pixels, splits, what is odd."""

import io
import json
import re
import tarfile

import numpy as np
import pyarrow as arrow
import pytest
from PIL import Image
from pyarrow import parquet

from cnn import data
from cnn.data import decoded, records, shards, tar_files
from cnn.data.readers import TEST_FRACTION, hold_out
from cnn.data.streamed import Streamed
from cnn.images.errors import DataError
from cnn.runtime.shares import Share

NAMES = ("cat", "dog", "eel")


def png_bytes(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pictures(count, seed, shape=(9, 12, 3)):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), np.uint8), np.arange(count) % 3


def add(file, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    file.addfile(member, io.BytesIO(content))


def write_tar(path, images, labels, ending="cls", extra=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            text = str(label) if ending == "cls" else json.dumps({"label": int(label), "width": 12})
            add(file, f"part/{path.stem}_{i:04}.png", png_bytes(image))
            if extra:
                add(file, f"part/{path.stem}_{i:04}.seg.png", b"not read")
            add(file, f"part/{path.stem}_{i:04}.{ending}", text.encode())


def write_parquet(path, images, labels, names=NAMES, group=7, columns=("image", "label")):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": png_bytes(image), "path": None} for image in images]
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    table = arrow.table(
        {columns[0]: arrow.array(rows, kind), columns[1]: arrow.array(labels, arrow.int64()), "id": ["x"] * len(rows)}
    )
    features = {columns[0]: {"_type": "Image"}, columns[1]: {"_type": "ClassLabel", "names": list(names)}}
    said = {"huggingface": json.dumps({"info": {"features": features}})} if names else {}
    parquet.write_table(table.replace_schema_metadata(said), path, row_group_size=group)


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


def load(root, **options):
    return data.load("shards", dir=str(root), **options)


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


def broken_tar(path, what):
    images, labels = pictures(6, 0)
    if what == "label":
        write_tar(path, images, ["a"] * 6)
    elif what == "lacks":
        with tarfile.open(path, "w") as file:
            add(file, "x.cls", b"1")
    elif what == "json":
        with tarfile.open(path, "w") as file:
            add(file, "x.jpg", b"")
            add(file, "x.json", b'{"label": "cat"}')
    elif what == "image":
        with tarfile.open(path, "w") as file:
            add(file, "x.jpg", b"no picture")
            add(file, "x.cls", b"0")
    elif what == "cut":
        write_tar(path, images, labels, extra=False)
        path.write_bytes(path.read_bytes()[:5000])
    elif what in ("header", "boundary", "joined"):
        write_tar(path, images, labels, extra=False)
        content = path.read_bytes()
        with tarfile.open(path) as file:
            start = file.getmembers()[6].offset
        assert start == 6144
        damaged = content[:start] + b"\xff" * 512 + content[start + 512 :]
        path.write_bytes({"header": damaged, "boundary": content[:start], "joined": 2 * content}[what])
    elif what in ("twice", "deep"):
        with tarfile.open(path, "w") as file:
            add(file, "x.jpg", b"")
            add(file, "x.jpg", b"") if what == "twice" else add(file, "x.json", b"[" * 200_000)
    elif what == "none":
        path.write_bytes(b"no tar file" * 100)
    elif what == "zipped":
        with tarfile.open(path, "w:gz") as file:
            add(file, "x.cls", b"1")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("label", r"train.tar: part/train_0000.cls holds no label: invalid literal"),
        ("lacks", r"train.tar: example 'x' has no image \(jpg, .*\); it has cls\. .*must follow each other"),
        ("twice", r"train.tar: x.jpg is there twice"),
        ("deep", r"train.tar: x.json holds no label: maximum recursion"),
        ("header", r"train.tar is damaged or cut off at byte 6,144: no header and no mark of the end is there"),
        ("boundary", r"train.tar is damaged or cut off at byte 6,144: no header and no mark of the end is there"),
        ("joined", r"train.tar goes on after its mark of the end at byte [\d,]+; of tar files that were put"),
        ("json", r"train.tar: x.json must hold a whole number, the label; of an object, in label or cls"),
        ("image", r"train.tar: x.jpg: cannot read it as an image"),
        ("cut", r"train.tar (is cut off: what is in it goes on to byte|is no uncompressed tar file, or is damaged)"),
        ("none", r"train.tar is no uncompressed tar file, or is damaged"),
        ("zipped", r"train.tar is no uncompressed tar file, or is damaged"),
    ],
)
def test_tar_files_that_cannot_be_used(tmp_path, what, message):
    broken_tar(tmp_path / "train.tar", what)
    write_tar(tmp_path / "val.tar", *pictures(6, 1))
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_parquet_files_that_cannot_be_used(tmp_path, monkeypatch):
    images, labels = pictures(9, 0)
    path = tmp_path / "train.parquet"
    path.write_bytes(b"no Parquet file" * 100)
    with pytest.raises(DataError, match="train.parquet is no Parquet file, or is damaged"):
        load(tmp_path)
    write_parquet(path, images, labels, columns=("a", "b"))
    assert len(load(tmp_path).train.labels) > 0  # the only ones that can be meant
    parquet.write_table(arrow.table({"image": ["text"], "label": [1]}), path)
    with pytest.raises(
        DataError, match=r"no one column is the image; its columns are image \(string\), label \(int64\)"
    ):
        load(tmp_path)
    write_parquet(path, images, labels + 5)
    with pytest.raises(DataError, match="row 0 of group 0 has the label 5, and there are 3 classes, numbered from 0"):
        load(tmp_path)
    table = arrow.table({"image": [{"bytes": None, "path": "a.jpg"}] * 9, "label": labels})
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    parquet.write_table(table.set_column(0, "image", table["image"].cast(kind)), path)
    with pytest.raises(DataError, match="row 0 of group 0 has no image in it; pictures in other files are not read"):
        load(tmp_path)
    write_parquet(path, images, labels)
    dataset = load(tmp_path, in_memory="no")
    item = dataset.train.images.items[0]
    with monkeypatch.context() as patch:
        patch.setattr("cnn.data.parquet_files.LARGEST_GROUP", 10)
        with pytest.raises(DataError, match=r"groups of rows have 0 MiB.*row_group_size=100"):
            shards.open_again(**dataset.train.images.decoder.as_json()).decode(item)
    content = bytearray(path.read_bytes())
    content[100:900] = bytes(800)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train.parquet is damaged in its group of rows 0, column|cannot|no readable"):
        load(tmp_path, in_memory="no")
    path.unlink()
    with pytest.raises(DataError, match="has no .tar and no .parquet file"):
        shards.open_again(**dataset.train.images.decoder.as_json()).decode(item)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), r"has no \.tar and no \.parquet file, in it or below it"),
        (("train.tar", "val.parquet"), "has both tar and Parquet files"),
        (("train.tar", "val.tar.gz"), r"val.tar.gz is compressed: nothing is found in it"),
        (("train.tar", "rest.tar"), "rest.tar: its name does not say whether it is for train, val or test"),
        (("val.tar",), "no file is for training"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, files, message):
    for name in files:
        (write_parquet if name.endswith("parquet") else write_tar)(tmp_path / name, *pictures(6, 0))
    with pytest.raises(DataError, match=message):
        load(tmp_path)


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


def test_names_of_classes(tmp_path):
    write_tar(tmp_path / "train.tar", *pictures(12, 0))
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="has the label 2, and there are 2 classes"):
        load(tmp_path)
    for content, message in (
        (b"a\nb\na\n", r"classes.txt: class 'a' is there twice, or has no name"),
        (b"a\n\nb\n", r"classes.txt: class '' is there twice, or has no name"),
        (b"\n", r"classes.txt has no names"),
        ("k\xe4se\nb\nc".encode("latin-1"), r"classes.txt cannot be read as UTF-8, a name on each line"),
    ):
        (tmp_path / "classes.txt").write_bytes(content)
        with pytest.raises(DataError, match=message):
            load(tmp_path)
    (tmp_path / "classes.txt").write_bytes("\ufeffk\xe4se\nb\nc\n\n".encode())
    assert load(tmp_path).class_names == ("k\xe4se", "b", "c")
    (tmp_path / "classes.txt").unlink()
    write_tar(tmp_path / "val.tar", pictures(2, 0)[0], [0, 40_000])
    with pytest.raises(DataError, match=r"val.tar: part/val_0001.png has the label 40,000; without names.*30,000"):
        load(tmp_path)


def test_names_of_classes_in_parquet_files_are_those_of_all(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", *pictures(12, 0))
    write_parquet(tmp_path / "train-1.parquet", *pictures(12, 0), names=("dog", "cat", "eel"))
    with pytest.raises(DataError, match=r"train-1.parquet has other names of classes than .*train-0.parquet: \('dog'"):
        load(tmp_path)
    (tmp_path / "train-1.parquet").rename(tmp_path / "test.parquet")
    with pytest.raises(
        DataError, match=r"its splits have different names of classes, or some have none: train: \['cat'"
    ):
        load(tmp_path)
    for name in ("train-0", "test"):
        write_parquet(tmp_path / f"{name}.parquet", *pictures(12, 0), names=("a", "a", "b"))
    with pytest.raises(DataError, match="class 'a' is there twice"):
        load(tmp_path)


@pytest.mark.parametrize("label", [2**31, 2**40, None])
def test_labels_that_are_none(tmp_path, label):
    images, labels = pictures(9, 0)
    write_parquet(tmp_path / "train.parquet", images, [*labels[:8].tolist(), label])
    said = "no label" if label is None else f"the label {label}"
    with pytest.raises(DataError, match=f"train.parquet: row 1 of group 1 has {said} in column 'label'"):
        load(tmp_path)


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


def test_a_file_that_is_shorter_now_or_gone_is_named(tmp_path):
    write_tar(tmp_path / "train.tar", *pictures(12, 0), extra=False)
    images = load(tmp_path, in_memory="no").train.images
    last = images.items.index(max(images.items))
    content = (tmp_path / "train.tar").read_bytes()
    (tmp_path / "train.tar").write_bytes(content[: images.items[last][1] + 5])
    with pytest.raises(DataError, match=r"train.tar is shorter than it was: it ends before byte"):
        images[last]
    (tmp_path / "train.tar").unlink()
    with pytest.raises(DataError, match="train.tar cannot be read any more: No such file"):
        images[0]


def test_what_a_place_is_called():
    assert tar_files.TarSource(["a.tar"]).name((0, 1536, 3)) == "a.tar: the image at byte 1,536"
