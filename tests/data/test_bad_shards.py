"""Tar and Parquet files that cannot be used, or not as they are: each is refused by name."""

import tarfile

import pyarrow as arrow
import pytest
from pyarrow import parquet

from cnn.data import shards, tar_files
from cnn.images.errors import DataError
from tests.data.made_shards import add, load, pictures, write_parquet, write_tar


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
