"""Data sets of the user's own: arrays, NumPy archives, functions that the user names."""

import numpy as np
import pytest

from cnn import data
from cnn.runs import checkpoint
from cnn.runs.defaults import get_config
from cnn.train import train_and_evaluate
from tests.helpers import PROGRAMS
from tests.reference.datasets import check_dataset


def made(count=60, channels=2, seed=0):
    """Images whose level tells the label, three classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = (rng.integers(0, 50, (count, 6, 8, channels)) + 80 * labels[:, None, None, None]).astype(np.uint8)
    return images, labels


def test_arrays_with_all_splits_are_kept_as_they_are():
    train, validation, test = made(30), made(9, seed=1), made(6, seed=2)
    got = data.from_arrays(train, test, validation=validation, class_names=["a", "b", "c"], name="mine")
    for split, (images, labels) in zip((got.train, got.validation, got.test), (train, validation, test), strict=True):
        assert np.array_equal(split.images, images) and np.array_equal(split.labels, labels)
        assert split.labels.dtype == np.int32
    assert (got.name, got.class_names, got.image_shape) == ("mine", ("a", "b", "c"), (6, 8, 2))
    np.testing.assert_allclose(got.mean, train[0].mean(axis=(0, 1, 2)) / 255)
    check_dataset(got)


def test_what_is_missing_is_held_out_of_train_the_same_every_time():
    got, again = data.from_arrays(made()), data.from_arrays(made())
    assert [len(split.labels) for split in (got.train, got.validation, got.test)] == [43, 5, 12]
    assert np.bincount(got.test.labels).tolist() == [4, 4, 4] and got.class_names == ("0", "1", "2")
    assert np.array_equal(got.test.images, again.test.images)
    together = np.concatenate([got.train.images, got.validation.images, got.test.images])
    assert sorted(x.tobytes() for x in together) == sorted(x.tobytes() for x in made()[0])
    check_dataset(got)
    none = data.from_arrays(made(), made(), validation_fraction=0.0)
    assert len(none.train.labels) == 60 and len(none.validation.labels) == 0


def test_grey_images_need_no_channel_axis():
    images, labels = made(channels=1)
    got = data.from_arrays((images[..., 0], labels))
    assert got.image_shape == (6, 8, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_labels_of_any_integers_in_a_row_or_a_column(dtype):
    """[N, 1] is what Keras's files hold."""
    images, labels = made()
    for given in (labels.astype(dtype), labels.astype(dtype)[:, None]):
        got = data.from_arrays((images, given), (images, given), validation_fraction=0.0)
        assert got.train.labels.dtype == np.int32 and np.array_equal(got.train.labels, labels)
        assert np.array_equal(got.test.labels, labels)


def test_the_largest_class_numbers():
    images, labels = grey(labels=np.array([0, 0, 0, 29_999, 29_999, 29_999]))
    got = data.from_arrays((images, labels), (images, labels))
    assert got.num_classes == 30_000 and got.class_names[-1] == "29999"
    assert got.test.labels.tolist() == labels.tolist()


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_an_archive(channels, tmp_path):
    train, test = made(60, channels), made(12, channels, seed=1)
    path = tmp_path / "mine.npz"
    np.savez(
        path,
        **dict(zip(("train_images", "train_labels"), train, strict=True)),
        **dict(zip(("test_images", "test_labels"), test, strict=True)),
        class_names=np.array(["x", "y", "z"]),
    )
    got = data.load(str(path))
    assert got.name == "mine.npz" and got.class_names == ("x", "y", "z") and got.image_shape == (6, 8, channels)
    assert [len(split.labels) for split in (got.train, got.validation, got.test)] == [54, 6, 12]
    check_dataset(got)
    few = data.load(str(path), train_examples=12, image_size=4)
    assert len(few.train.labels) == 12 and few.image_shape == (4, 4, channels)
    assert np.array_equal(few.test.images.mean(axis=(1, 2, 3)) // 80, few.test.labels)


def test_an_archive_of_keras_and_one_without_splits(tmp_path):
    images, labels = made()
    np.savez(tmp_path / "keras.npz", x_train=images[:50], y_train=labels[:50], x_test=images[50:], y_test=labels[50:])
    got = data.load(str(tmp_path / "keras.npz"))
    assert [len(split.labels) for split in (got.train, got.validation, got.test)] == [45, 5, 10]
    np.savez(tmp_path / "whole.npz", images=images, labels=labels)
    got = data.load(str(tmp_path / "whole.npz"))
    assert [len(split.labels) for split in (got.train, got.validation, got.test)] == [43, 5, 12]


@pytest.mark.parametrize("form", ["pairs_by_split", "arrays_by_name", "pairs", "flat", "made_by_cnn"])
def test_a_function_of_ones_own(form):
    got = data.load(f"{PROGRAMS}/own_data.py:{form}")
    assert got.name == f"own_data.py:{form}" and got.class_names == ("x", "y", "z")
    assert [len(split.labels) for split in (got.train, got.validation, got.test)] == [27, 3, 6]
    assert got.image_shape == (16, 16, 2)
    assert len(data.load(f"{PROGRAMS}/own_data.py:{form}", train_examples=9).train.labels) == 9


def test_a_function_of_ones_own_takes_the_fields_that_it_names():
    assert data.load(f"{PROGRAMS}/own_data.py:sized", image_size=7).image_shape == (7, 7, 1)
    assert data.load(f"{PROGRAMS}/own_data.py:pairs", image_size=8).image_shape == (8, 8, 2)
    with pytest.raises(data.DataError, match=r"made_by_cnn' returned images of 16x16, but data.image_size is 8"):
        data.load(f"{PROGRAMS}/own_data.py:made_by_cnn", image_size=8)


@pytest.mark.parametrize(
    "reference, message",
    [
        ("own_data.py:large_labels", r"own_data.py:large_labels': a label of train is 4294967296"),
        ("own_data.py:wrong", r"own_data.py, line \d+: NameError: name 'missing' is not defined"),
        ("own_data.py:fla", r"no function 'fla'; did you mean flat"),
        ("own_dat.py:flat", r"there is no file .*own_dat.py; did you mean own_data.py"),
        ("own_nets.py:without_classes", r"own_nets.py:without_classes' returned Net; return a cnn.data.Dataset"),
    ],
)
def test_a_mistake_in_a_function_of_ones_own_is_said_in_a_line(reference, message):
    with pytest.raises(data.DataError, match=message):
        data.load(f"{PROGRAMS}/{reference}")


def test_a_data_set_made_by_hand_is_checked_and_brought_into_form():
    """`Dataset` itself checks nothing: what a function returns in it goes through the same checks as arrays."""
    got = data.load(f"{PROGRAMS}/own_data.py:made_by_hand")
    assert got.train.labels.dtype == np.int32 and got.train.labels.shape == (30,)
    assert got.mean == (0.5, 0.5)


def test_a_version_of_a_tfds_set_is_no_function():
    assert not data.is_own("imagenette/160px-v2:1.0.0") and not data.is_own("mnist") and data.is_own("a.b:load")


def grey(count=6, height=4, channels=1, labels=None):
    """Black images and labels, by default of one class."""
    return np.zeros((count, height, 4, channels), np.uint8), np.zeros(count, int) if labels is None else labels


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(train=(np.zeros((6, 4, 4, 1)), np.zeros(6, int))), r"images of train are float64; they must be uint8"),
        (dict(train=(np.zeros((6, 4), np.uint8), np.zeros(6, int))), r"shape \(6, 4\); it must be \[N, H, W, C\]"),
        (dict(train=(np.zeros((6, 4, 4), np.uint8), np.zeros(5, int))), r"labels of train are int64 \[5\].*\[6\]"),
        (dict(train=([np.zeros((4, 4)), np.zeros((5, 4))], np.zeros(2, int))), r"images of train make no array: "),
        (dict(train=grey(height=0)), r"images of train have shape \(6, 0, 4, 1\): height, width and channels must all"),
        (dict(train=grey(channels=0)), r"images of train have shape \(6, 4, 4, 0\): height, width and channels"),
        (dict(train=grey(count=0)), r"train has no images"),
        (dict(train=grey(labels=np.eye(6, dtype=int))), r"labels of train are int64 \[6, 6\].*labels.argmax\(axis=1\)"),
        (dict(train=grey(labels=np.zeros(6))), r"labels of train are float64.*labels.astype\(np.int64\)"),
        (dict(train=grey(labels=np.full(6, 0.5))), r"labels of train are float64"),
        (dict(train=grey(labels=np.full(6, np.nan))), r"labels of train are float64"),
        (dict(train=grey(labels=np.full(6, True))), r"labels of train are bool.*labels.astype\(np.int64\)"),
        (
            dict(train=grey(labels=np.array(list("aabbcc")))),
            r"labels of train are <U1 .*class_names, labels = np.unique",
        ),
        (dict(train=grey(labels=np.full(6, None))), r"labels of train are object"),
        (dict(train=grey(labels=np.full(6, -1))), r"a label of train is -1; the first class is 0"),
        (dict(train=grey(labels=np.full(6, 2**32))), r"a label of train is 4294967296, .* 4,294,967,297 classes"),
        (dict(train=grey(labels=np.full(6, -(2**32)))), r"a label of train is -4294967296"),
        (dict(train=grey(labels=np.full(6, 2**63, np.uint64))), r"a label of train is 9223372036854775808"),
        (
            dict(train=grey(labels=np.full(6, 10**9))),
            r"above the limit of 30,000 without class_names.*np.unique\(labels",
        ),
        (dict(train=grey(labels=np.full(6, 30_000))), r"30,001 classes, above the limit of 30,000"),
        (
            dict(class_names=["a", "b", "c"], test=(made()[0][:1], np.array([2**32]))),
            r"a label of test is 4294967296, but",
        ),
        (dict(class_names="abc"), r"class_names \(='abc'\) must be a list of names"),
        (dict(class_names=[["a"], ["b"], ["c"]]), r"class_names .* must be a list of names"),
        (dict(class_names=["a", "b", "a"]), r"class_names has 'a' more than once"),
        (dict(class_names=[]), r"a label of train is 2, but there are 0 class names"),
        (dict(train=grey(labels=np.arange(6))), r"has no test split, and none can be held out: no class has enough"),
        (dict(train=None), r"train must be a pair \(images, labels\), is None"),
        (dict(train=np.zeros((6, 4, 4), np.uint8)), r"train must be a pair \(images, labels\), is ndarray"),
        (dict(class_names=["a", "b"]), r"a label of train is 2, but there are 2 class names"),
        (dict(test=(np.zeros((6, 5, 5, 2), np.uint8), np.zeros(6, int))), r"images of test are 5x5x2, .* 6x8x2"),
        (dict(test=(np.zeros((0, 6, 8, 2), np.uint8), np.zeros(0, int))), r"test has no images"),
        (dict(validation_fraction=1.0), r"validation_fraction \(=1.0\) must be"),
    ],
)
def test_arrays_that_are_refused(change, message):
    with pytest.raises(data.DataError, match=message):
        data.from_arrays(**{"train": made(), **change})


def test_labels_in_an_archive_are_checked_before_they_are_cast(tmp_path):
    np.savez(tmp_path / "large.npz", images=grey()[0], labels=np.array([0, 0, 0, 0, 0, 2**32]))
    with pytest.raises(data.DataError, match=r"large.npz': a label of train is 4294967296"):
        data.load(str(tmp_path / "large.npz"))
    np.savez(tmp_path / "keras.npz", x_train=made()[0], y_train=made()[1][:, None])
    assert data.load(str(tmp_path / "keras.npz")).num_classes == 3


def test_archives_that_are_refused(tmp_path):
    np.savez(tmp_path / "odd.npz", pictures=made()[0])
    with pytest.raises(data.DataError, match=r"odd.npz' has the arrays pictures; it must have train_images"):
        data.load(str(tmp_path / "odd.npz"))
    np.savez(tmp_path / "half.npz", train_images=made()[0])
    with pytest.raises(data.DataError, match="it must have train_images and train_labels"):
        data.load(str(tmp_path / "half.npz"))
    with pytest.raises(data.DataError, match=r"there is no such file; did you mean odd.npz"):
        data.load(str(tmp_path / "od.npz"))
    np.savez(tmp_path / "objects.npz", images=np.array([object()]), labels=np.zeros(1, int))
    with pytest.raises(data.DataError, match="objects.npz' cannot be read: Object arrays cannot be loaded"):
        data.load(str(tmp_path / "objects.npz"))


@pytest.mark.slow
def test_a_run_on_a_data_set_made_in_python(tmp_path):
    """Trains and is loaded; what cannot be read again says so."""
    config = get_config()
    config.net.name = "layer_pattern"
    config.net.options.update({"features": 4, "width": 8, "blocks": 1})
    config.train.steps = 2
    config.train.batch_size = 16
    dataset = data.from_arrays((made()[0][..., :1], made()[1]), class_names=["a", "b", "c"])
    result = train_and_evaluate(config, str(tmp_path), dataset)
    assert result["examples"] == 12 and config.data.name == "digits"
    run = checkpoint.load_run(str(tmp_path))
    assert run.class_names == ("a", "b", "c") and run.mean == dataset.mean
    with pytest.raises(data.DataError, match="trained on a data set that was given in Python"):
        data.load(**run.config.data)
