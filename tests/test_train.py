"""Training: runs that are equal to themselves to the bit, killed or not, and what a run writes."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import nets
from cnn.runs import checkpoint, logs, overrides, stopping
from cnn.train import train_and_evaluate
from cnn.training import dispatch
from cnn.training.evaluate import evaluate_run
from configs import default
from tests.helpers import PROGRAMS, run_python, start_python
from tests.made import small_config
from tests.training.pieces import IMAGES, INDICES, LABELS, make_pieces, numbers


def leaves(workdir):
    return jax.tree.leaves(checkpoint.load_run(str(workdir)).variables)


def assert_bit_equal(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run never stopped, and what it returned."""
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, train_and_evaluate(small_config(), str(workdir))


@pytest.mark.slow
def test_two_equal_runs_are_bit_equal(finished, tmp_path):
    train_and_evaluate(small_config(), str(tmp_path))
    assert_bit_equal(leaves(tmp_path), leaves(finished[0]))


@pytest.mark.slow
def test_how_a_run_is_cut_up_makes_no_difference(finished, tmp_path):
    """Other pauses for log lines, checkpoints and validation: the same bits."""
    config = small_config(steps_per_dispatch=3)
    config.checkpoint.every_steps = 5
    config.eval.every_epochs = 100.0
    train_and_evaluate(config, str(tmp_path))
    assert_bit_equal(leaves(tmp_path), leaves(finished[0]))


@pytest.mark.slow
def test_another_seed_is_another_run(finished, tmp_path):
    config = small_config()
    config.seed = 1
    train_and_evaluate(config, str(tmp_path))
    assert any(not np.array_equal(a, b) for a, b in zip(leaves(tmp_path), leaves(finished[0]), strict=True))


@pytest.mark.slow
def test_killed_in_mid_epoch_and_started_again_ends_bit_identical(finished, tmp_path):
    killed = run_python(PROGRAMS / "train_and_be_killed.py", tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "result.json").exists()
    assert 0 < checkpoint.load_run(str(tmp_path)).step < 10
    result = train_and_evaluate(small_config(), str(tmp_path))
    assert_bit_equal(leaves(tmp_path), leaves(finished[0]))
    assert result["test_accuracy"] == finished[1]["test_accuracy"]
    assert result["test_loss"] == finished[1]["test_loss"]
    # The log holds every step once, as if nothing had happened.
    steps_of = [(line["split"], line["step"]) for line in logs.read_metrics(str(tmp_path))]
    assert len(steps_of) == len(set(steps_of))
    ours, theirs = (
        [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]
        for lines in (logs.read_metrics(str(tmp_path)), logs.read_metrics(str(finished[0])))
    )
    at = {(line["split"], line["step"]): line for line in theirs}
    assert all(at[line["split"], line["step"]] == line for line in ours if (line["split"], line["step"]) in at)


@pytest.mark.slow
def test_a_kill_from_outside_at_any_moment(tmp_path, finished):
    """SIGKILL when the process likes it least; started again until it is done."""
    process = start_python(PROGRAMS / "train_small.py", tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "checkpoints").glob("4*")) and time.monotonic() < deadline:
        time.sleep(0.005)  # from the moment that the first checkpoint begins to be written
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    train_and_evaluate(small_config(), str(tmp_path))
    assert_bit_equal(leaves(tmp_path), leaves(finished[0]))


@pytest.fixture
def interruptible():
    """Where the tests run in the background of a shell, SIGINT is ignored, and a run leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_saves_its_step_and_ends_bit_identical(finished, tmp_path, monkeypatch, number):
    """In the second of the steps that one call was to take."""
    make_run_steps, calls = dispatch.make_run_steps, 0

    def stopped(step, *arguments, stop, **options):
        def asked():
            nonlocal calls
            calls += 1
            if calls == 7:
                signal.raise_signal(number)
            return stop()

        return make_run_steps(step, *arguments, stop=asked, **options)

    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(dispatch, "make_run_steps", stopped)
    with pytest.raises(stopping.Stopped) as stop:
        train_and_evaluate(small_config(), str(tmp_path))
    assert stop.value.signal == number and isinstance(stop.value, KeyboardInterrupt)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    assert checkpoint.latest_step(str(tmp_path)) == 7 == logs.read_metrics(str(tmp_path))[-1]["step"]
    monkeypatch.setattr(dispatch, "make_run_steps", make_run_steps)
    result = train_and_evaluate(small_config(), str(tmp_path))
    assert_bit_equal(leaves(tmp_path), leaves(finished[0]))
    assert result["test_loss"] == finished[1]["test_loss"]
    assert [process["step"] for process in result["resumed"]] == [7]


def test_a_finished_run_started_again_says_so_and_writes_nothing(finished, capsys):
    workdir, result = finished

    def written():
        return {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}

    before = written()
    assert train_and_evaluate(small_config(), str(workdir)) == json.loads(json.dumps(result))
    assert written() == before
    said = capsys.readouterr().out
    assert f"{workdir} holds this run, finished after 12 steps with test accuracy" in said
    assert f"report: {workdir}/report.html" in said


@pytest.mark.slow
def test_a_finished_run_with_another_evaluation_is_evaluated_again(finished, tmp_path, monkeypatch):
    environment = {**logs.environment(), "commit": "another commit", "command": "python another.py"}
    monkeypatch.setattr(logs, "environment", lambda **options: environment)
    workdir = tmp_path / "copy"
    shutil.copytree(finished[0], workdir)
    before = leaves(workdir)
    config = small_config()
    config.eval.batch_size = 7
    again = train_and_evaluate(config, str(workdir))
    assert_bit_equal(leaves(workdir), before)
    assert again["test_accuracy"] == finished[1]["test_accuracy"]
    assert again["seconds"] == finished[1]["seconds"]
    # What it was trained by stays, beside what it was evaluated by.
    assert (again["commit"], again["command"]) == (finished[1]["commit"], finished[1]["command"])
    assert again["evaluated"]["commit"] == "another commit"
    assert json.loads((workdir / "config.json").read_text())["eval"]["batch_size"] == 7


@pytest.mark.slow
def test_a_run_keeps_to_scores_with_or_without_mirror_images(finished, tmp_path):
    """Its best net was chosen by the one; a trained run can be scored by the other, which says so."""
    workdir = tmp_path / "copy"
    shutil.copytree(finished[0], workdir)
    config = small_config()
    config.eval.mirror = True
    with pytest.raises(
        ValueError, match="holds another run: eval.mirror is False there and True here.*, or score that run by"
    ):
        train_and_evaluate(config, str(workdir))
    found = {
        mirror: evaluate_run(overrides.load_for_use(str(workdir), {"eval.mirror": mirror}))["test"]
        for mirror in (False, True)
    }
    assert found[False]["loss"] == pytest.approx(finished[1]["test_loss"]) and "mirror" not in found[False]
    assert found[True]["mirror"] and found[True]["loss"] != pytest.approx(found[False]["loss"])


@pytest.mark.slow
def test_the_terminal_says_validation_accuracy_and_where_to_look(tmp_path, capsys):
    train_and_evaluate(small_config(steps=2), str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("step 2: validation accuracy ") for line in lines)
    assert lines[-3].startswith("test accuracy ")
    assert lines[-2:] == [f"report: {tmp_path}/report.html", f"everything of the run: {tmp_path}"]


@pytest.mark.slow
def test_a_run_that_shows_no_object_has_no_accuracy_in_training(tmp_path):
    """Every example is moved out of the window: metrics.jsonl has a loss and no accuracy, which would be 0 / 0."""
    train_and_evaluate(small_config(steps=2, background=1.0), str(tmp_path))
    (line,) = (line for line in logs.read_metrics(str(tmp_path)) if line["split"] == "train")
    assert "accuracy" not in line and np.isfinite(line["loss"])


def test_what_a_run_writes(finished):
    workdir, result = finished
    written = json.loads((workdir / "result.json").read_text())
    assert written == json.loads(json.dumps(result))
    for name in ("test_accuracy", "test_loss", "examples", "seconds", "device", "commit", "packages", "parameters"):
        assert name in written
    assert written["examples"] == 160
    accuracies = [value for value in written["per_class_accuracy"].values() if value is not None]
    assert written["test_balanced_accuracy"] == pytest.approx(np.mean(accuracies))
    header, *rows = csv.reader((workdir / "confusion.csv").read_text().splitlines())
    assert header[1:] == [row[0] for row in rows] == list(written["per_class_accuracy"])
    counts = np.array([row[1:] for row in rows], int)
    assert counts.sum() == 160 and np.trace(counts) == round(written["test_accuracy"] * 160)
    each = list(csv.DictReader((workdir / "predictions.csv").read_text().splitlines()))
    assert [int(row["index"]) for row in each] == list(range(160))
    pairs = [(row["label"], row["prediction"]) for row in each]
    for i, label in enumerate(header[1:]):
        assert [pairs.count((label, other)) for other in header[1:]] == counts[i].tolist()
    assert all(0 < float(row["probability"]) <= 1 for row in each)
    assert json.loads((workdir / "config.json").read_text())["train"]["steps"] == 12
    data = json.loads((workdir / "data.json").read_text())
    assert len(data["mean"]) == len(data["std"]) == 3
    low, high = data["border_brightness"]
    assert 0 <= low < high <= 1
    for name in ("confusion.png", "curves.png"):
        assert (workdir / name).stat().st_size > 1000
    assert list((workdir / "tensorboard").glob("events*"))
    lines = logs.read_metrics(str(workdir))
    train_lines = [line for line in lines if line["split"] == "train"]
    assert train_lines[-1]["step"] == 12
    assert {"loss", "accuracy", "learning_rate", "images_per_second"} <= set(train_lines[-1])
    assert [line["split"] for line in lines][-1] == "test"
    assert any(line["split"] == "validation" for line in lines)


def test_another_config_in_the_same_directory_is_refused(finished):
    config = small_config(learning_rate=0.5)
    with pytest.raises(ValueError, match=r"another run: train.learning_rate is 0.02 there and 0.5 here.*--workdir"):
        train_and_evaluate(config, str(finished[0]))


@pytest.mark.slow
def test_a_nan_loss_stops_with_step_and_rate(finished, tmp_path):
    """And the same directory takes the lower rate that the message advises, though the run has left checkpoints."""
    config = small_config(learning_rate=1e30, schedule="constant")
    config.checkpoint.every_steps = config.train.steps_per_dispatch = 1
    message = r"loss is (nan|inf) at step \d+, where the learning rate is 1e\+30; lower .* same --workdir takes"
    with pytest.raises(FloatingPointError, match=message):
        train_and_evaluate(config, str(tmp_path))
    assert checkpoint.latest_step(str(tmp_path)) and not (tmp_path / "result.json").exists()
    with pytest.raises(FloatingPointError, match=message):
        train_and_evaluate(config, str(tmp_path))
    train_and_evaluate(small_config(), str(tmp_path))
    assert_bit_equal(leaves(tmp_path), leaves(finished[0]))
    assert not (tmp_path / "diverged.json").exists()


@pytest.mark.slow
def test_a_run_whose_last_step_made_nan_ends_in_an_error(tmp_path):
    """No result, and metrics.jsonl is JSON: null where the loss is no number."""
    config = small_config(steps=1, learning_rate=1e30, schedule="constant")
    with pytest.raises(FloatingPointError, match="loss on the test split is nan after step 1, the last one; lower"):
        train_and_evaluate(config, str(tmp_path))
    assert not (tmp_path / "result.json").exists()
    lines = (tmp_path / "metrics.jsonl").read_text()
    assert '"loss": null' in lines and "NaN" not in lines


@pytest.mark.long
def test_two_devices_train_as_one(tmp_path):
    """The batch is split, its mean, its batch statistics and its random numbers are the global batch's."""
    path = tmp_path / "two.npz"
    done = run_python(PROGRAMS / "train_on_two_devices.py", path, JAX_NUM_CPU_DEVICES=2)
    assert done.returncode == 0, done.stderr
    two = np.load(path)
    config = default.get_config()
    config.augment.pad = 1
    net = nets.create("layer_pattern", 4, features=4, width=8, norm=True, dropout=0.3)
    state, run = make_pieces(config, net, False)
    state, found = run(state, jnp.asarray(IMAGES), jnp.asarray(LABELS), INDICES)
    np.testing.assert_allclose(two["losses"], found.loss, rtol=1e-4)
    for i, leaf in enumerate(jax.tree.leaves(numbers(state))):
        # A sum over two halves rounds otherwise than over the whole; five steps of it.
        np.testing.assert_allclose(two[f"arr_{i}"], leaf, rtol=2e-3, atol=1e-5)


@pytest.mark.slow
def test_training_never_imports_tensorflow(tmp_path):
    done = run_python(PROGRAMS / "train_small.py", tmp_path)
    assert done.returncode == 0, done.stderr
