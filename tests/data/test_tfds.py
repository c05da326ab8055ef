"""TFDS sets: made-up ones, names and preparing, and the real ones where they are."""

import gzip
import io
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn import data, prepare
from cnn.data import decoded, records
from cnn.data import tfds as tfds_lib
from cnn.data.streamed import Streamed
from cnn.runs import facts
from cnn.runtime.shares import Share
from tests.helpers import PROGRAMS, ROOT, run_python
from tests.reference.datasets import check_dataset, rows

SIZES = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


# TFDS, with made-up sets


class Records(list):
    """A data source in memory."""

    def __getitems__(self, keys):
        return [self[i] for i in keys]


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="png")
    return stream.getvalue()


def made_up(monkeypatch, splits, features=None, supervised_keys=("image", "label"), shape=(8, 8, 3)):
    """Has `load` read {split: [(uint8 array, label), ...]} as if TFDS had prepared it."""
    import tensorflow_datasets as tfds

    both = {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
    }
    records = {s: Records({"image": png(x), "label": y} for x, y in examples) for s, examples in splits.items()}
    info = types.SimpleNamespace(features=features or both, splits=records, supervised_keys=supervised_keys)
    builder = types.SimpleNamespace(info=info, as_data_source=lambda split, decoders: records[split])
    monkeypatch.setattr(tfds_lib, "prepared_builder", lambda name, directory: builder)


def examples(first, count, size=(8, 8), label=None):
    """`count` examples whose pixels are their number, labels alternating."""
    return [(np.full((*size, 3), i, np.uint8), i % 2 if label is None else label) for i in range(first, first + count)]


def numbers(split):
    return split.images[:, 0, 0, 0].tolist()


def test_tfds_without_a_test_split_reports_on_validation(monkeypatch):
    made_up(monkeypatch, {"train": examples(0, 20), "validation": examples(50, 4)})
    got = data.load("made_up")
    assert len(got.train.labels) == 18 and len(got.validation.labels) == 2
    assert sorted(numbers(got.train) + numbers(got.validation)) == list(range(20))
    assert numbers(got.test) == [50, 51, 52, 53] and got.test.labels.tolist() == [0, 1, 0, 1]
    assert got.class_names == ("cat", "dog")
    check_dataset(got)


def test_tfds_with_its_own_validation_keeps_it(monkeypatch):
    made_up(monkeypatch, {"train": examples(0, 20), "validation": examples(50, 4), "test": examples(70, 6)})
    got = data.load("made_up")
    assert numbers(got.train) == list(range(20)) and numbers(got.validation) == [50, 51, 52, 53]
    assert numbers(got.test) == [70, 71, 72, 73, 74, 75]
    assert len(data.load("made_up", validation_fraction=0).validation.labels) == 0


def test_tfds_with_an_unlabelled_test_split_reports_on_validation(monkeypatch):
    made_up(
        monkeypatch,
        {"train": examples(0, 20), "validation": examples(50, 4), "test": examples(70, 6, label=-1)},
    )
    assert numbers(data.load("made_up").test) == [50, 51, 52, 53]


def test_tfds_splits_that_cannot_be_used(monkeypatch):
    made_up(monkeypatch, {"train": examples(0, 4), "extra": examples(50, 4)})
    with pytest.raises(data.DataError, match=r"'made_up' has the splits \['extra', 'train'\]; .* 'test'"):
        data.load("made_up")
    made_up(monkeypatch, {"test": examples(0, 4)})
    with pytest.raises(data.DataError, match=r"has the splits \['test'\]; training needs a 'train' split"):
        data.load("made_up")


def test_tfds_images_of_many_sizes_need_image_size(monkeypatch):
    splits = {"train": examples(0, 3) + examples(3, 3, (20, 9)), "test": examples(50, 2, (9, 30))}
    made_up(monkeypatch, splits, shape=(None, None, 3))
    with pytest.raises(data.DataError, match=r"images of different sizes, so it needs data.image_size"):
        data.load("made_up")
    got = data.load("made_up", image_size=6, validation_fraction=0)
    assert got.image_shape == (6, 6, 3) and numbers(got.train) == list(range(6)) and numbers(got.test) == [50, 51]
    made_up(monkeypatch, splits, shape=(8, 8, 3))
    with pytest.raises(data.DataError, match=r"record 3 of .* is 20x9, not 8x8 as the set declares"):
        data.load("made_up")


def test_tfds_errors_of_content(monkeypatch):
    made_up(monkeypatch, {"train": examples(0, 4), "test": examples(0, 4)})
    with monkeypatch.context() as m:
        m.setattr("cnn.images.pictures.MAX_BYTES", 1000)
        with pytest.raises(data.DataError, match=r"8 images of 8x8x3 need 0.0 GiB .* data.image_size of 6 or less"):
            data.load("made_up", in_memory="yes")
        assert data.load("made_up", image_size=6).image_shape == (6, 6, 3)
    tfds_lib.prepared_builder("", "").info.splits["train"][2]["image"] = b"rubbish"
    with pytest.raises(data.DataError, match=r"record 2 of .*cannot read it as an image"):
        data.load("made_up")
    made_up(monkeypatch, {"train": examples(0, 4), "test": examples(0, 4)}, shape=(8, 8, 4))
    with pytest.raises(data.DataError, match=r"images of 4 channels; only 1 \(grey\) and 3 \(RGB\)"):
        data.load("made_up")


@pytest.mark.parametrize("own_validation", [True, False])
@pytest.mark.parametrize("fields", [{}, {"image_size": 5, "train_examples": 7}])
def test_tfds_images_that_stay_in_their_records_are_those_in_memory(monkeypatch, own_validation, fields):
    validation = {"validation": examples(50, 4)} if own_validation else {}
    made_up(monkeypatch, {"train": examples(0, 20), "test": examples(70, 6), **validation})
    streamed, whole = (data.load("made_up", in_memory=value, **fields) for value in ("no", "yes"))
    assert isinstance(streamed.train.images, Streamed) and facts.of(streamed) == facts.of(whole)
    for split in ("train", "validation", "test"):
        found, expected = getattr(streamed, split), getattr(whole, split)
        np.testing.assert_array_equal(found.images[:], expected.images)
        np.testing.assert_array_equal(found.labels, expected.labels)
    parts = [data.load("made_up", in_memory="no", share=Share(i, i + 1, 3), **fields).train for i in range(3)]
    np.testing.assert_array_equal(np.concatenate([part.images[:] for part in parts]), whole.train.images)
    for part in parts:
        np.testing.assert_array_equal([part.images.of_all(i) for i in range(len(part.labels))], whole.train.images)


@pytest.mark.slow
def test_images_of_a_real_set_that_stay_in_their_records(tfds_data_dir, tmp_path, monkeypatch):
    """They are read by several threads; what is known of them is kept, and then no record is decoded."""
    monkeypatch.setattr(decoded, "_FOLDER", [str(tmp_path)])
    fields = {"dir": str(tfds_data_dir), "train_examples": 300}
    whole, streamed = data.load("mnist", **fields), data.load("mnist", in_memory="no", **fields)
    np.testing.assert_array_equal(streamed.train.images[:], whole.train.images)
    with monkeypatch.context() as patch:
        patch.setattr(records.Records, "decode", lambda *_: pytest.fail("a record was decoded"))
        again = data.load("mnist", **{**fields, "train_examples": None}, in_memory="no")
    assert len(again.test.images) == 10_000
    np.testing.assert_array_equal(again.test.images[5:9], whole.test.images[5:9])


def test_tfds_image_and_label_are_found_by_type(monkeypatch):
    import tensorflow_datasets as tfds

    image, label = tfds.features.Image(shape=(8, 8, 3)), tfds.features.ClassLabel(num_classes=2)

    def found(supervised_keys=None, **features):
        info = types.SimpleNamespace(features=features, supervised_keys=supervised_keys)
        return tfds_lib.image_and_label("made_up", info)

    assert found(image=image, label=label, coarse_label=label) == ("image", "label")
    assert found(("image", "coarse_label"), image=image, label=label, coarse_label=label) == (
        "image",
        "coarse_label",
    )
    assert found(("picture", "caption"), picture=image, kind=label, caption=tfds.features.Text()) == (
        "picture",
        "kind",
    )
    for features in (
        dict(image=image, shape_label=label, colour_label=label),
        dict(text=tfds.features.Text(), label=label),
        dict(image=tfds.features.Image(shape=(8, 8, 1), dtype=np.uint16), label=label),
    ):
        names = ", ".join(f"{key}: {type(feature).__name__}" for key, feature in features.items())
        with pytest.raises(data.DataError, match=f"'made_up' is no image-classification set .* features are {names}"):
            found(**features)


# TFDS, names and preparing


@pytest.mark.parametrize(
    "name, near",
    [("mnits", "mnist"), ("CIFAR10", "cifar10"), ("fashion-mnist", "fashion_mnist"), ("digit", "digits")],
)
def test_an_unknown_name_says_which_are_near(name, near, tmp_path):
    with pytest.raises(data.DataError, match=rf"data.name='{name}' is no known data set; near names: .*{near}"):
        data.load(name, dir=str(tmp_path))


def test_an_unknown_version_says_which_there_are(tmp_path):
    with pytest.raises(data.DataError, match=r"'mnist:9.0.0': .* cannot be loaded at version 9.0.0, only: 3.0.1"):
        data.load("mnist:9.0.0", dir=str(tmp_path))


def test_an_unprepared_set_without_tensorflow_says_the_two_commands(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_lib.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(data.DataError) as error:
        data.load("mnist")
    assert "python -m pip install -r requirements-tfds.txt\n" in str(error.value)
    assert f"python -m cnn.prepare mnist --data_dir={tmp_path}" in str(error.value)


def test_an_unprepared_set_with_tensorflow_is_prepared_in_a_child_process(tmp_path, monkeypatch, capsys):
    commands = []

    def run(command, **options):
        commands.append((command, options["cwd"]))
        return types.SimpleNamespace(returncode=3)

    monkeypatch.setattr(tfds_lib.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(tfds_lib.subprocess, "run", run)
    with pytest.raises(data.DataError, match=r"'mnist' was not prepared: .* ended with code 3"):
        data.load("mnist", dir=str(tmp_path))
    assert commands == [([sys.executable, "-m", "cnn.prepare", "mnist", f"--data_dir={tmp_path}"], ROOT)]
    assert "mnist is not prepared in" in capsys.readouterr().err


def test_prepare_without_tensorflow_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda name: None)
    assert prepare.main(["mnist"]) == 1
    assert "needs tensorflow and importlib_resources: python -m pip install -r req" in capsys.readouterr().err


# TFDS, real sets


@pytest.fixture(
    scope="module", params=[name if name == "mnist" else pytest.param(name, marks=pytest.mark.slow) for name in SIZES]
)
def real(request, tfds_data_dir):
    if not (tfds_data_dir / request.param).is_dir():
        pytest.skip(f"{request.param} is not prepared in TFDS_DATA_DIR ({tfds_data_dir})")
    return data.load(request.param, dir=str(tfds_data_dir))


@pytest.mark.slow
def test_real_sets(real, tfds_data_dir):
    train = 45000 if real.name == "cifar10" else 54000
    assert [len(s.labels) for s in (real.train, real.validation, real.test)] == [train, train // 9, 10000]
    assert real.image_shape == SIZES[real.name] and real.num_classes == 10
    assert np.bincount(real.test.labels).min() >= 892  # the rarest digit; the other two have 1,000 of each
    check_dataset(real)
    # The same pixels, in the same order, as TFDS's own decoder gives.
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder(real.name, data_dir=str(tfds_data_dir))
    source = builder.as_data_source(split="test")
    for i, record in enumerate(source.__getitems__(range(50))):
        assert np.array_equal(record["image"], real.test.images[i]) and record["label"] == real.test.labels[i]
    if real.name == "mnist":
        constants = (real.mean[0], real.std[0])
        np.testing.assert_allclose(constants, (0.1307, 0.3081), atol=1e-3)  # those in everyone's code
        compare_with_the_original_files(real, tfds_data_dir.parent / "raw" / "mnist")


def compare_with_the_original_files(mnist, directory):
    if not directory.is_dir():
        return
    parts = data.Split(*(np.concatenate(x) for x in zip(mnist.train, mnist.validation, strict=True)))
    for name, split in (("train", parts), ("t10k", mnist.test)):
        pixels = gzip.decompress((directory / f"{name}-images-idx3-ubyte.gz").read_bytes())[16:]
        labels = gzip.decompress((directory / f"{name}-labels-idx1-ubyte.gz").read_bytes())[8:]
        original = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28, 1)
        assert rows(split) == rows(data.Split(original, np.frombuffer(labels, np.uint8)))


def test_a_real_set_prepared_as_tfrecord_says_so(tfds_data_dir, tmp_path):
    source = tfds_data_dir / "mnist" / "3.0.1"
    if not source.is_dir():
        pytest.skip(f"mnist/3.0.1 is not prepared in TFDS_DATA_DIR ({tfds_data_dir})")
    target = tmp_path / "mnist" / "3.0.1"
    target.mkdir(parents=True)
    (target / "features.json").write_text((source / "features.json").read_text())
    info = (source / "dataset_info.json").read_text()
    (target / "dataset_info.json").write_text(info.replace('"array_record"', '"tfrecord"'))
    with pytest.raises(data.DataError, match=r"prepared in .* as tfrecord, .* --data_dir=DIR"):
        data.load("mnist", dir=str(tmp_path))


@pytest.mark.slow
def test_loading_never_imports_tensorflow(tfds_data_dir):
    done = run_python(PROGRAMS / "load_data.py", TFDS_DATA_DIR=tfds_data_dir)
    assert done.returncode == 0, done.stderr


def test_prepare_writes_what_load_reads(tfds_data_dir, tmp_path):
    missing = [m for m in ("tensorflow", "importlib_resources") if prepare.importlib.util.find_spec(m) is None]
    raw = tfds_data_dir.parent / "raw" / "mnist"
    if missing or not raw.is_dir():
        pytest.skip("prepares MNIST from its original files: needs requirements-tfds.txt and ../raw/mnist")
    command = [sys.executable, "-m", "cnn.prepare", "mnist", f"--data_dir={tmp_path}", f"--manual_dir={raw}"]
    subprocess.run(command, cwd=ROOT, check=True)
    assert (tmp_path / "downloads" / "extracted" / "mnist-3.0.1").is_dir()  # shared with no other set
    compare_with_the_original_files(data.load("mnist", dir=str(tmp_path)), raw)
