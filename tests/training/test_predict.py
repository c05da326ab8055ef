"""Predictions of pictures: which files are meant, what is written, and what looks inverted."""

import csv
import json
import os
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from cnn import data, nets
from cnn.data import DataError
from cnn.runs import defaults
from cnn.runs.checkpoint import Run
from cnn.training import predict
from tests.made import make_zarr, random_variables

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def run():
    net = nets.create("layer_pattern", 3, features=4, width=8)
    config = defaults.get_config()
    variables = random_variables(net, (8, 8), 1)
    return Run(net, variables, config, (0.1,), (0.3,), NAMES, (8, 8, 1), "", 0, (0.0, 0.05))


def save(path, pixels):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.fixture
def scans(tmp_path):
    """Three pictures in a folder, one of them deeper; one with commas in its name; a text file."""
    rng = np.random.default_rng(0)
    for name in ("one.png", "two, too.png", "deeper/three.JPG"):
        save(tmp_path / "scans" / name, rng.integers(0, 256, (8, 8), np.uint8))
    (tmp_path / "scans" / "notes.txt").write_text("no picture")
    return tmp_path / "scans"


def test_files_folders_patterns_and_names_with_commas(scans):
    one, two, three = (str(scans / name) for name in ("one.png", "two, too.png", "deeper/three.JPG"))
    assert predict.find_pictures([one]) == [one]
    assert predict.find_pictures([f"{one},{three}"]) == [one, three]
    assert predict.find_pictures([two]) == [two]
    assert predict.find_pictures([f"{one},{two},{three}", one]) == [one, two, three, one]
    assert predict.find_pictures([str(scans)]) == sorted([one, two, three])
    assert predict.find_pictures([f"{scans}/*.png"]) == [one, two]
    assert predict.find_pictures([f"{scans}/*.png,{three}"]) == [one, two, three]


def test_what_is_left_out_of_a_folder_is_said(scans, capsys):
    """Files of other formats, which may be named; what systems hide is none of them."""
    wanted = predict.find_pictures([str(scans)])
    save(scans / ".hidden" / "four.png", np.zeros((8, 8), np.uint8))
    (scans / "._one.png").write_bytes(b"x")
    np.save(scans / "deeper" / "a.npy", np.zeros((8, 8), np.uint8))
    make_zarr(scans / "a.zarr", np.zeros((8, 8, 1), np.uint8))
    capsys.readouterr()
    assert predict.find_pictures([str(scans)]) == wanted
    said = capsys.readouterr().err
    assert "scans: left out 3 entries that are not .jpg, " in said
    assert said.endswith("name them, or a pattern: a.zarr, deeper/a.npy, notes.txt\n")
    assert predict.find_pictures([f"{scans}/a.zarr"]) == [f"{scans}/a.zarr"]


def test_a_name_without_a_picture_is_named(scans):
    with pytest.raises(DataError, match="no picture 'gone.png'"):
        predict.find_pictures([f"{scans}/one.png,gone.png"])
    with pytest.raises(DataError, match=r"no picture '.*\*.gif'"):
        predict.find_pictures([f"{scans}/*.gif"])


@pytest.mark.slow
def test_batches_of_pictures_are_the_pictures_one_by_one(run, scans):
    paths = predict.find_pictures([str(scans)])
    small = run._replace(config=defaults.get_config())
    small.config.eval.batch_size = 2
    for found, path in zip(predict.predict(small, paths), paths, strict=True):
        (alone,) = predict.predict(run, [path])
        assert found.path == path
        np.testing.assert_allclose(found.probabilities, alone.probabilities, rtol=1e-5)


def test_the_best_classes_come_first(run, scans):
    (found,) = predict.predict(run, [str(scans / "one.png")])
    top = found.top(2)
    assert [name for name, _ in top] == [NAMES[i] for i in np.argsort(-found.probabilities)[:2]]
    assert top[0] == (found.class_name, found.probability)
    assert len(found.top(10)) == 3


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_predictions_in_a_file(run, scans, tmp_path, suffix):
    predictions = predict.predict(run, predict.find_pictures([str(scans)]))
    path = tmp_path / f"predictions{suffix}"
    predict.write_predictions(str(path), predictions, top=2)
    if suffix == ".json":
        rows = [(row["path"], *(v for c in row["classes"] for v in c.values())) for row in json.loads(path.read_text())]
    else:
        header, *lines = csv.reader(path.read_text().splitlines())
        assert header == ["path", "class", "probability", "class_2", "probability_2"]
        rows = [(line[0], line[1], float(line[2]), line[3], float(line[4])) for line in lines]
    assert len(rows) == 3
    for row, found in zip(rows, predictions, strict=True):
        (first, one), (second, two) = found.top(2)
        assert (row[0], row[1], row[3]) == (found.path, first, second)
        np.testing.assert_allclose((row[2], row[4]), (one, two), rtol=1e-5)


def test_a_folder_that_a_pattern_fits_stands_for_its_pictures(scans):
    one, two, three = (str(scans / name) for name in ("one.png", "two, too.png", "deeper/three.JPG"))
    assert predict.find_pictures([f"{scans}/deep*"]) == [three]
    assert predict.find_pictures([f"{scans}/*e*"]) == [three, str(scans / "notes.txt"), one]
    assert sorted(predict.find_pictures([f"{scans}/**"])) == sorted([one, two, three, str(scans / "notes.txt")])
    (scans / "empty").mkdir()
    with pytest.raises(DataError, match=r"no picture '.*empt\*'"):
        predict.find_pictures([f"{scans}/empt*"])


@pytest.mark.parametrize("names", [[","], [""], ["", ",,"]])
def test_naming_no_picture_is_a_mistake(names):
    with pytest.raises(DataError, match="--images=,* names no picture; name files, folders or patterns"):
        predict.find_pictures(names)


@pytest.mark.parametrize("name", ["gone/a.csv", "folder.csv"])
def test_an_output_that_cannot_be_written_is_refused(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    message = r"gone/a.csv: there is no folder .*gone; make it" if "gone" in name else r"folder.csv cannot be written"
    with pytest.raises(ValueError, match=message):
        predict.check_output(str(tmp_path / name))
    predict.check_output(str(tmp_path / "a.csv"))


def test_an_unreadable_picture_does_not_stop_the_others(run, scans):
    """Also where a whole batch cannot be read, and where fewer than a batch are left."""
    small = run._replace(config=defaults.get_config())
    small.config.eval.batch_size = 2
    good, bad = str(scans / "one.png"), str(scans / "notes.txt")
    for paths in ([bad, bad, good], [good, bad], [good, good, bad, good], [bad], [good]):
        found, unread = predict.predict_readable(small, paths)
        assert [p.path for p in found] == [good] * paths.count(good)
        assert len(unread) == paths.count(bad) and all("notes.txt" in str(error) for error in unread)
        for one in found:
            np.testing.assert_allclose(one.probabilities, predict.predict(run, [good])[0].probabilities, rtol=1e-5)
    with pytest.raises(DataError, match="notes.txt"):
        predict.predict(small, [good, bad])


def test_pixels_that_are_nan_do_not_stop_the_others(run, scans):
    nan, good = str(scans / "nan.npy"), str(scans / "one.png")
    np.save(nan, np.where(np.eye(40, 50) > 0, np.nan, 0.5).astype(np.float32))
    found, (error,) = predict.predict_readable(run, [nan, good])
    assert [p.path for p in found] == [good] and str(error).startswith(f"{nan}: it has pixels that are NaN")


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_name_that_is_not_utf_8_loses_no_table(run, scans, suffix):
    odd = os.path.join(str(scans), os.fsdecode(b"\xff.png"))
    shutil.copy(scans / "one.png", odd)
    path = scans / f"found.{suffix}"
    predict.write_predictions(str(path), predict.predict(run, [odd, str(scans / "one.png")]), top=1)
    written = path.read_text(encoding="utf-8")
    paths = [one["path"] for one in json.loads(written)] if suffix == "json" else list(csv.reader(written.splitlines()))
    assert len(paths) == (2 if suffix == "json" else 3) and str(scans / "one.png") in written
    assert ("\\\\udcff.png" if suffix == "json" else "\\udcff.png") in written


def test_an_output_beyond_the_classes_of_the_data_is_unnamed(run, scans):
    few = run._replace(class_names=("a",), variables=jax.tree.map(np.array, run.variables))
    few.variables["params"]["fc2"]["bias"][2] = 100
    (found,) = predict.predict(few, [str(scans / "one.png")])
    assert found.class_name == "class 2 (unnamed)"
    assert [name for name, _ in found.top(3)][0] == "class 2 (unnamed)" and len(found.top(3)) == 3


def test_a_suffix_may_be_in_capitals_and_a_path_begin_at_home(run, scans, monkeypatch):
    monkeypatch.setenv("HOME", str(scans.parent))
    assert predict.find_pictures(["~/scans/*.png"]) == [str(scans / "one.png"), str(scans / "two, too.png")]
    predictions = predict.predict(run, [str(scans / "one.png")])
    for name in ("a.CSV", "a.JSON"):
        predict.write_predictions(str(scans / name), predictions, top=1)
    assert json.loads((scans / "a.JSON").read_text())[0]["path"] == predictions[0].path


def test_another_suffix_is_refused():
    with pytest.raises(ValueError, match=r"--output=a.txt: .*\.csv or a \.json"):
        predict.check_output("a.txt")


def test_dark_on_white_is_noticed_where_training_images_have_dark_borders(run, tmp_path):
    white = np.full((8, 8), 255, np.uint8)
    white[3:5, 3:5] = 0
    paths = [save(tmp_path / "black.png", 255 - white), save(tmp_path / "white.png", white)]
    predictions = predict.predict(run, paths)
    assert predict.polarity_warning(run, predictions[:1]) is None
    said = predict.polarity_warning(run, predictions)
    assert said and "white.png: the border has a brightness of 1.00" in said and "0.00 to 0.05" in said
    assert predict.polarity_warning(run._replace(border_brightness=(0.0, 1.0)), predictions) is None
    assert predict.polarity_warning(run._replace(border_brightness=None), predictions) is None  # an old run


def test_border_brightness_by_value():
    images = np.zeros((2, 4, 5, 1), np.uint8)
    images[0, 0] = 255  # top row: 5 pixels, of which 2 corners count for their columns too
    images[1, 1:3, 1:4] = 255  # inside only
    np.testing.assert_allclose(predict.border_brightness(images), [7 / 18, 0])


def test_batches_fill_up_the_last():
    found = [(indices.tolist(), count) for indices, count in data.batches(5, 2)]
    assert found == [([0, 1], 2), ([2, 3], 2), ([4, 4], 1)]
    assert list(data.batches(0, 2)) == []


def test_one_bad_picture_among_many(run, scans, tmp_path):
    """Each gets its error, which names it; nothing waits for a pipe, and the same file twice is two predictions."""
    good = str(scans / "one.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "null.png").symlink_to("/dev/zero")
    (tmp_path / "half.png").write_bytes((scans / "one.png").read_bytes()[:60])
    odd = os.fsdecode(b"\xff.png")
    names = ("pipe.png", "folder.png", "empty.png", "text.jpg", "loop.png", "null.png", "half.png", "gone.png", odd, "")
    bad = [str(tmp_path / name) for name in names]
    found, unread = predict.predict_readable(run, [good, *bad, good])
    assert [one.path for one in found] == [good, good] and len(unread) == len(bad)
    for path, error in zip(bad, unread, strict=True):
        assert path.rstrip("/") in str(error) and "\n" not in str(error)
    assert predict.predict_readable(run, []) == ([], []) and predict.predict(run, []) == []
    with pytest.raises(DataError, match=r"paths \(='.*one.png'\) must be a list of paths, not one text"):
        predict.predict(run, good)


def test_names_of_no_picture(scans, tmp_path):
    for names, words in (
        (["a\0b.png"], "no picture"),
        ([str(tmp_path / "*.gif")], "no picture"),
        ([" "], "no picture"),
    ):
        with pytest.raises(DataError, match=words):
            predict.find_pictures(names)
    one = str(scans / "one.png")
    assert predict.find_pictures([one, one]) == [one, one]
