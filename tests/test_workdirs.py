"""What the directory of a run holds: data that change under it, damaged checkpoints, its place."""

import hashlib
import json
import shutil

import jax
import numpy as np
import pytest

from cnn import data, nets
from cnn.runs import checkpoint, checksums
from cnn.runs import config as config_lib
from cnn.train import train_and_evaluate
from cnn.training.evaluate import evaluate_run
from tests.helpers import PROGRAMS
from tests.made import small_config
from tests.programs import data_in_place

OTHERS = [name for name in data_in_place.VARIANTS if name not in ("as it was", "in another order")]


def config_of(place):
    config = small_config(steps=4, batch_size=4, steps_per_dispatch=2)
    config.augment.pad, config.checkpoint.every_steps = 0, 2
    config.data.name, config.data.image_size = f"{PROGRAMS}/data_in_place.py:load", None
    config.data.dir = str(place)
    config.net.options.update({"blocks": 1, "convs": 1, "features": 2, "width": 4})
    return config


@pytest.fixture(scope="module", name="original")
def _original(tmp_path_factory):
    """A finished run and, beside it, the folder of its data."""
    root = tmp_path_factory.mktemp("workdirs")
    (root / "data").mkdir()
    (root / "data" / "variant").write_text("as it was")
    train_and_evaluate(config_of(root / "data"), str(root / "run"))
    return root


@pytest.fixture(name="place")
def _place(original, tmp_path):
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path


def leaves(workdir):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(checkpoint.load_run(str(workdir)).variables)]


def files(workdir):
    found = [path for path in sorted(workdir.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.slow
@pytest.mark.parametrize("variant", OTHERS)
def test_a_failed_resume_leaves_a_finished_run_as_it_was(place, variant):
    before = files(place / "run")
    (place / "data" / "variant").write_text(variant)
    config = config_of(place / "data")
    config.eval.batch_size = 7  # else nothing is left to do
    said = {
        "renamed": r"are \[ant, bear, cat\], those of the run in .* are \[ant, bee, cat\] \(new: bear; gone: bee\)",
        "one more": r"are \[ant, bee, cat, dog\], those of the run in .* are \[ant, bee, cat\] \(new: dog\)",
        "one pixel": r"other data: the pictures or labels for train are others",
        "fewer": r"other data: 24 examples for train there and 23 here",
        "test labels": r"other data: the pictures or labels for validation and test are others",
    }
    with pytest.raises(data.DataError, match=said[variant]):
        train_and_evaluate(config, str(place / "run"))
    assert files(place / "run") == before


@pytest.mark.slow
def test_classes_in_another_order_are_mapped_by_name(place, original, capsys):
    (place / "data" / "variant").write_text("in another order")
    run = checkpoint.load_run(str(original / "run"))
    run.config.data.dir = str(place / "data")
    found = evaluate_run(run)
    run.config.data.dir = str(original / "data")
    assert found == evaluate_run(run) and "note" not in capsys.readouterr().err
    config = config_of(place / "data")
    config.eval.batch_size = 7
    result = train_and_evaluate(config, str(place / "run"))
    assert result["test_accuracy"] == found["test"]["accuracy"]
    assert list(result["per_class_accuracy"]) == list(run.class_names) == ["ant", "bee", "cat"]


def test_evaluation_says_what_changed_and_refuses_other_classes(place, capsys):
    run = checkpoint.load_run(str(place / "run"))
    run.config.data.dir = str(place / "data")
    (place / "data" / "variant").write_text("test labels")
    assert evaluate_run(run)["test"]["examples"] == 9
    said = capsys.readouterr().err
    assert "note: not as when" in said and "pictures or labels for validation and test are others" in said
    (place / "data" / "variant").write_text("one more")
    with pytest.raises(data.DataError, match=r"are \[ant, bee, cat, dog\], those of the run in .*\[ant, bee, cat\]"):
        evaluate_run(run)


def test_a_damaged_checkpoint_is_said_and_the_one_before_it_is_used(place, original, capsys):
    (place / "run" / "checkpoints" / "4" / "variables" / "_METADATA").write_text("{")
    (place / "run" / "checkpoints" / "999").mkdir()  # a kill, or a hand
    run = checkpoint.load_run(str(place / "run"))
    assert run.step == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert (
        line.startswith("warning: the checkpoint of step 4 cannot be read: ") and "; step 2 before it is used" in line
    )
    assert "run/checkpoints/4" in line and len(line) < 500
    result = train_and_evaluate(config_of(place / "data"), str(place / "run"))
    assert result["steps"] == 4 and checkpoint.latest_step(str(place / "run")) == 4
    for one, other in zip(leaves(place / "run"), leaves(original / "run"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_finished_run_whose_last_checkpoint_is_damaged_ends_again_as_it_did(place, original, capsys):
    """A byte that changed, which sizes do not show: the steps after the one before are taken again, if there is one."""
    result = json.loads((place / "run" / "result.json").read_text())
    (file,) = (place / "run" / "checkpoints" / "4" / "optimizer").glob("manifest*")
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = train_and_evaluate(config_of(place / "data"), str(place / "run"))
    assert {name: found[name] for name in ("test_accuracy", "test_loss", "per_class_accuracy")} == {
        name: result[name] for name in ("test_accuracy", "test_loss", "per_class_accuracy")
    }
    assert "other bytes than were written; step 2 before it is used" in capsys.readouterr().err
    for one, other in zip(leaves(place / "run"), leaves(original / "run"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert checkpoint.fault(str(place / "run"), 4) is None
    shutil.rmtree(place / "run" / "checkpoints" / "2")
    (file,) = (place / "run" / "checkpoints" / "4" / "optimizer").glob("manifest*")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    before = files(place / "run")
    with pytest.raises(checkpoint.CheckpointError, match="step 4 cannot be read: .*no other .*; train again in"):
        train_and_evaluate(config_of(place / "data"), str(place / "run"))
    assert files(place / "run") == before


@pytest.mark.parametrize("damaged", [None, b"", "cut"])
def test_the_log_of_a_finished_run_comes_back_with_its_test(place, original, capsys, damaged):
    path = place / "run" / "metrics.jsonl"
    path.unlink() if damaged is None else path.write_bytes(path.read_bytes()[:-30] if damaged == "cut" else damaged)
    train_and_evaluate(config_of(place / "data"), str(place / "run"))
    assert path.read_bytes() == (original / "run" / "metrics.jsonl").read_bytes()
    assert json.loads(path.read_text().splitlines()[-1])["split"] == "test"
    assert "metrics.jsonl" in capsys.readouterr().err


def test_where_no_checkpoint_can_be_read_a_line_says_so(place):
    for described in (place / "run" / "checkpoints").glob("*/variables/_METADATA"):
        described.write_bytes(described.read_bytes()[:10])
    before = files(place / "run")
    config = config_of(place / "data")
    config.eval.batch_size = 7
    for use in (checkpoint.load_run, lambda workdir: train_and_evaluate(config, workdir)):
        with pytest.raises(checkpoint.CheckpointError, match="step 4 .*no other checkpoint .* can be read; ") as error:
            use(str(place / "run"))
        assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert files(place / "run") == before


def test_steps_that_are_none_of_the_run_are_not_taken(place, original, capsys):
    """A copy under another number, one under a name that no step has, and one of a longer run."""
    folder = place / "run" / "checkpoints"
    shutil.copytree(folder / "2", folder / "0012")
    shutil.copytree(folder / "2", folder / "70")
    (folder / "4").rename(folder / "9")
    run = checkpoint.load_run(str(place / "run"))
    said = capsys.readouterr().err.splitlines()
    assert run.step == 2 and len(said) == 2
    assert "step 70 cannot be read" in said[0] and "it is a copy of step 2; step 2 before it is used" in said[0]
    assert "step 9 cannot be read" in said[1] and "it is a copy of step 4; step 2 before it is used" in said[1]
    train_and_evaluate(config_of(place / "data"), str(place / "run"))
    assert sorted(path.name for path in folder.iterdir()) == ["0012", "2", "4"]
    for one, other in zip(leaves(place / "run"), leaves(original / "run"), strict=True):
        np.testing.assert_array_equal(one, other)
    shutil.copytree(folder / "4", folder / "9")
    checksums.write(str(folder / "9"), 9)
    with pytest.raises(ValueError, match="its latest checkpoint is of step 9, and the run has 4; remove the folder"):
        train_and_evaluate(config_of(place / "data"), str(place / "run"))


def test_the_place_of_a_run_may_begin_at_home(place, original, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(place))
    assert checkpoint.load_run("~/run/").step == 4
    train_and_evaluate(config_of(original / "data"), "~/run")
    assert f"{place}/run holds this run, finished after 4 steps" in capsys.readouterr().out


def test_outputs_beyond_the_classes_of_the_data_have_names(place):
    saved = json.loads((place / "run" / "config.json").read_text())
    saved["net"]["num_classes"] = 5
    (place / "run" / "config.json").write_text(json.dumps(saved))
    with pytest.raises(ValueError, match="not as it was when .*num_classes is 5 in it and None in the copy"):
        config_lib.load(str(place / "run"))
    shutil.rmtree(place / "run" / "checkpoints")
    variables = nets.init(checkpoint.make_net(config_lib.load(str(place / "run")), 3), (8, 8, 1))
    with checkpoint.Checkpoints(str(place / "run"), 2) as checkpoints:
        checkpoints.save(5, variables, {"count": np.zeros(1)})
    named = ("ant", "bee", "cat", "class 3 (unnamed)", "class 4 (unnamed)")
    assert checkpoint.load_run(str(place / "run")).class_names == named
