"""What surrounds a run: its config on disk, its log, its checkpoints, its devices, and summaries over seeds."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import cnn
from cnn import data, nets
from cnn.runs import checkpoint, logs
from cnn.runs.checkpoint import Checkpoints, Run
from cnn.runs.config import differences, goes_on
from cnn.runs.config import load as load_config
from cnn.runs.config import save as save_config
from cnn.training.predict import predict
from configs import default, smoke
from experiments.summaries import finished, summary
from tests.made import random_variables

ROOT = Path(__file__).parents[2]


def test_a_config_comes_back_as_it_was(tmp_path):
    config = default.get_config()
    config.net.options.dropout = 0.3
    config.train.epochs = 2.0
    save_config(config, str(tmp_path))
    again = load_config(str(tmp_path))
    assert json.loads(again.to_json()) == json.loads(config.to_json())
    assert again.net.num_classes is None and again.net.options.dropout == 0.3
    (tmp_path / "result.json").touch()
    config.eval.every_epochs = 5.0  # changes what is written, not what is trained
    config.data.dir = "elsewhere"
    assert goes_on(config, str(tmp_path))
    config.net.options.dropout = 0.4
    config.augment.flip = True
    with pytest.raises(ValueError, match=r"net.options.dropout is 0.3 there and 0.4 here") as error:
        goes_on(config, str(tmp_path))
    assert "augment.flip is False there and True here" in str(error.value)


def test_what_was_begun_and_never_saved_binds_nobody(tmp_path):
    config = default.get_config()
    assert not goes_on(config, str(tmp_path / "none"))
    save_config(config, str(tmp_path))
    config.augment.flip = True
    assert not goes_on(config, str(tmp_path))
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)  # of a run that was killed before it wrote anything in it
    assert not goes_on(config, str(tmp_path))
    (tmp_path / "checkpoints" / "4" / "variables").touch()
    with pytest.raises(ValueError, match="augment.flip is False there and True here.*Choose another --workdir"):
        goes_on(config, str(tmp_path))
    (tmp_path / "diverged.json").touch()  # nor does a run that can never end
    assert not goes_on(config, str(tmp_path))
    config.augment.flip = False
    assert goes_on(config, str(tmp_path))


def test_a_folder_of_data_is_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = default.get_config()
    config.data.dir = "pictures"
    save_config(config, "run")
    assert load_config("run").data.dir == str(tmp_path / "pictures")
    (tmp_path / "run" / "result.json").touch()
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    saved["data"]["dir"] = "pictures"  # as an older run has it
    (tmp_path / "run" / "config.json").write_text(json.dumps(saved))
    assert differences(config, "run") == {}
    config.data.dir = "~/pictures"
    save_config(config, "run")
    assert load_config("run").data.dir == str(Path.home() / "pictures")


def test_a_run_that_is_older_than_a_field_goes_on(tmp_path):
    """What it did without the field is what the field's default says, and nothing else will do."""
    config = default.get_config()
    save_config(config, str(tmp_path))
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["train"]["frozen"], saved["train"]["frozen_until"], saved["data"]["train_examples"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    (tmp_path / "result.json").touch()
    config.train.frozen = ("conv1",)
    with pytest.raises(ValueError, match=r"train.frozen is \[\] there and \['conv1'\] here"):
        goes_on(config, str(tmp_path))
    config.train.frozen = ()
    assert goes_on(config, str(tmp_path))


def test_no_run_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json is missing: .* holds no run; train one with main.py"):
        checkpoint.load_run(str(tmp_path))
    save_config(default.get_config(), str(tmp_path))
    facts = {"mean": [0.5], "std": [0.5], "class_names": ["a", "b"], "image_shape": [8, 8, 1]}
    (tmp_path / "data.json").write_text(json.dumps(facts))
    with pytest.raises(FileNotFoundError, match="no complete checkpoint yet"):
        checkpoint.load_run(str(tmp_path))
    with pytest.raises(ValueError, match=r"checkpoint.keep \(=0\) must be a whole number from 1 to .*: a run resumes"):
        Checkpoints(str(tmp_path), keep=0)


def test_checkpoints_keep_the_latest_and_come_back_to_the_bit(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    with Checkpoints(str(tmp_path), keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, {"params": {"kernel": values + step}}, {"count": jnp.int32(step)})
        checkpoints.save(3, {"params": {"kernel": values}}, {"count": jnp.int32(0)})  # saved already: not again
    with Checkpoints(str(tmp_path), keep=2) as checkpoints:
        assert checkpoints.latest_step() == 3
        template = {"params": {"kernel": jnp.zeros((3, 4))}}
        for step in (2, 3):
            found = checkpoints.restore(step, variables=template, optimizer={"count": jnp.int32(0)})
            np.testing.assert_array_equal(found["variables"]["params"]["kernel"], values + step)
            assert int(found["optimizer"]["count"]) == step
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "3"]


def test_a_log_goes_on_where_the_run_does(tmp_path):
    with logs.MetricWriter(str(tmp_path), 0) as writer:
        for step in (10, 20, 30):
            writer.write(step, "train", {"loss": 1.0 / step, "seconds": float(step)})
        writer.write(30, "test", {"loss": 0.5})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "spl')  # a kill in the middle of a line
    assert [line["step"] for line in logs.read_metrics(str(tmp_path))] == [10, 20, 30, 30]
    with logs.MetricWriter(str(tmp_path), 20) as writer:
        assert writer.seconds_before == 20
        writer.write(25, "train", {"loss": 0.1, "seconds": 26.0})
    lines = logs.read_metrics(str(tmp_path))
    assert [(line["step"], line["split"]) for line in lines] == [(10, "train"), (20, "train"), (25, "train")]
    assert logs.read_metrics(str(tmp_path / "nothing")) == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"seed": 0}', "\x00\xff"])
@pytest.mark.parametrize("name", ["config.json", "data.json"])
def test_a_damaged_file_of_a_run_is_named_in_a_line(tmp_path, name, text):
    save_config(default.get_config(), str(tmp_path))
    facts = {"mean": [0.5], "std": [0.5], "class_names": ["a", "b"], "image_shape": [8, 8, 1]}
    (tmp_path / "data.json").write_text(json.dumps(facts))
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{name} is damaged, it .*; restore it, or train again in another") as error:
        checkpoint.load_run(str(tmp_path))
    assert "\n" not in str(error.value)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing"):
        checkpoint.load_run(str(tmp_path))


def test_wrong_values_in_a_runs_files_are_named(tmp_path):
    save_config(default.get_config(), str(tmp_path))
    facts = {"mean": [0.5], "std": [0.5], "class_names": ["a", "b"], "image_shape": [8, 8, 3]}
    (tmp_path / "data.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"data.json is damaged, its mean, std, class_names and image_shape do not go"):
        checkpoint.load_run(str(tmp_path))
    saved = json.loads((tmp_path / "config.json").read_text())
    saved["train"]["batch_size"] = "many"
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(
        ValueError, match=r"config.json is damaged: train.batch_size \(='many'\) must be a whole number"
    ):
        checkpoint.load_run(str(tmp_path))


def test_json_has_null_for_what_is_not_finite(tmp_path):
    values = {"loss": float("nan"), "rates": [float("inf"), 0.5], "inside": {"low": -float("inf")}}
    logs.write_json(str(tmp_path / "a.json"), values)
    expected = {"loss": None, "rates": [None, 0.5], "inside": {"low": None}}
    assert json.loads((tmp_path / "a.json").read_text()) == expected
    with logs.MetricWriter(str(tmp_path), 0) as writer:
        writer.write(10, "validation", {"loss": float("nan"), "accuracy": 0.5})
    assert '"loss": null' in (tmp_path / "metrics.jsonl").read_text()
    with logs.MetricWriter(str(tmp_path), 10):
        pass  # opening it reads the lines that are there and writes them again
    assert '"loss": null' in (tmp_path / "metrics.jsonl").read_text()
    (line,) = logs.read_metrics(str(tmp_path))
    assert np.isnan(line["loss"]) and line["accuracy"] == 0.5
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write("half a li\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2, is damaged"):
        logs.read_metrics(str(tmp_path))


def test_environment_names_versions_device_and_commit():
    found = logs.environment()
    assert found["packages"]["jax"] == jax.__version__
    assert found["python"] == sys.version.split()[0]
    assert found["device"].startswith("1 x ")
    assert found["command"].startswith("python ")
    assert found["version"] == cnn.__version__ and found["version"].count(".") == 2
    assert found["commit"] is None or len(found["commit"].removesuffix("+changes")) == 40


def git(folder, *arguments):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_this_projects_checkout_and_of_no_other(tmp_path, monkeypatch):
    """A package installed inside some repository must not report that repository's commit."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "cnn"\n')
    assert logs.checkout_commit(str(tmp_path)) is None  # no repository
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "pyproject.toml")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert logs.checkout_commit(str(tmp_path)) == commit
    (tmp_path / "notes.txt").write_text("not a part of it")
    assert logs.checkout_commit(str(tmp_path)) == commit
    installed = tmp_path / "venv" / "site-packages"
    installed.mkdir(parents=True)
    assert logs.checkout_commit(str(installed)) is None
    (installed / "pyproject.toml").write_text('[project]\nname = "cnn"\n')
    assert logs.checkout_commit(str(installed)) is None
    # Another repository, named by Git's own variables as within a hook, changes nothing.
    git(installed, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(installed / ".git"))
    assert logs.checkout_commit(str(tmp_path)) == commit
    monkeypatch.delenv("GIT_DIR")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "cnn"  # changed\n')
    assert logs.checkout_commit(str(tmp_path)) == commit + "+changes"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "theirs"\n')
    assert logs.checkout_commit(str(tmp_path)) is None


def test_predictions_are_the_nets_probabilities(tmp_path):
    net = nets.create("layer_pattern", 3, features=4, width=8)
    variables = random_variables(net, (8, 8), 1)
    run = Run(net, variables, default.get_config(), (0.4,), (0.3,), ("a", "b", "c"), (8, 8, 1), str(tmp_path), 0)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8), np.uint8)
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    logits = np.asarray(
        net.apply(variables, data.normalise(pixels[..., None], (0.4,), (0.3,)), train=False), np.float64
    )
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for path, row, prediction in zip(paths, expected, predict(run, paths), strict=True):
        assert prediction.path == path
        np.testing.assert_allclose(prediction.probabilities, row, rtol=1e-4)
        assert prediction.class_name == "abc"[row.argmax()]
        assert prediction.probability == prediction.probabilities.max()


@pytest.mark.slow
def test_no_class_is_predicted_from_scores_that_are_not_finite(tmp_path):
    net = nets.create("layer_pattern", 3, features=4, width=8)
    variables = random_variables(net, (8, 8), 1)
    variables = jax.tree.map(lambda leaf: leaf * np.nan, variables)
    run = Run(net, variables, default.get_config(), (0.4,), (0.3,), ("a", "b", "c"), (8, 8, 1), str(tmp_path), 70)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "0.png")
    with pytest.raises(FloatingPointError, match=r"0.png: the net's scores are not finite.*step 70.*learning_rate"):
        predict(run, [str(tmp_path / "0.png")])


def test_a_summary_takes_no_result_of_another_config(tmp_path):
    config = smoke.get_config()
    config.seed = 1
    assert finished(config, str(tmp_path / "run")) is None
    save_config(config, str(tmp_path / "run"))
    (tmp_path / "run" / "result.json").write_text('{"test_accuracy": 0.5}')
    assert finished(config, str(tmp_path / "run")) == {"test_accuracy": 0.5}
    config.seed = 2
    with pytest.raises(ValueError, match="holds another run: seed is 1 there and 2 here"):
        finished(config, str(tmp_path / "run"))


def test_summary_over_seeds():
    base = {"net": "n", "data": "d", "parameters": 1000, "multiply_adds": 2000, "train_examples": 5, "steps": 6}
    base |= {"examples": 100, "command": "python main.py", "device": "1 x cpu", "python": "3", "packages": {"jax": "0"}}
    accuracies = [0.91, 0.93, 0.95]
    runs = [
        {**base, "seed": i, "commit": "abc", "test_accuracy": a, "seconds": 10.0 * i} for i, a in enumerate(accuracies)
    ]
    text = summary("mnist", runs, note="on a rainy day")
    assert "- on a rainy day\n" in text
    assert "# mnist, n = 3" in text
    row = next(line for line in text.splitlines() if line.startswith("| test_accuracy"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # 4.3027 is Student's t of two degrees of freedom at 97.5 %; the deviation is 0.02, of the mean 0.02 / sqrt(3).
    assert cells[1:] == ["0.9300", "0.8803 to 0.9797", f"{statistics.stdev(accuracies):.4f}", "0.9100", "0.9500"]
    alone = next(line for line in summary("mnist", runs[:1]).splitlines() if line.startswith("| test_accuracy"))
    assert [cell.strip() for cell in alone.strip("|").split("|")][1:] == ["0.9100", "-", "-", "0.9100", "0.9100"]
    assert "seeds 0, 1, 2" in text and "commit abc" in text and "1,000 parameters" in text
    assert "| test_top5" not in text
