"""A workdir of a run with a net and data of the user's own: it remembers the code, and executes no other."""

import json
import shutil

import numpy as np
import pytest

from cnn.runs import checkpoint
from cnn.runs import config as config_lib
from cnn.runs.defaults import get_config
from cnn.training.evaluate import evaluate_run
from tests.helpers import PROGRAMS, run_python

FIELDS = (
    "--config=default",
    "--config.train.steps=4",
    "--config.train.batch_size=16",
    "--config.checkpoint.every_steps=2",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the user's files, and a run that was started from it by relative names."""
    folder = tmp_path_factory.mktemp("own")
    for name in ("own_nets.py", "own_data.py", "own_names.py"):
        shutil.copy(PROGRAMS / name, folder)
    net, data = "--config.net.name=own_nets.py:small", "--config.data.name=own_data.py:grey"
    command = ["-m", "cnn", net, data, *FIELDS, "--workdir=run"]
    done = run_python(*command, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, command


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of it all, so that a test can change files; the run still names the first folder."""
    return shutil.copytree(trained[0], tmp_path / "copy")


@pytest.mark.slow
def test_the_run_names_and_keeps_the_code(trained):
    folder, _ = trained
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["net"]["name"].startswith(f"{folder}/own_nets.py:small@")
    for group, name in (("net", "own_nets.py"), ("data", "own_data.py")):
        assert (folder / "run" / "code" / group / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_it_is_evaluated_from_any_directory(trained, tmp_path):
    folder, _ = trained
    result = json.loads((folder / "run" / "result.json").read_text())
    done = run_python("-m", "cnn", "--mode=evaluate", f"--workdir={folder}/run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout[done.stdout.index("{") :])
    assert numbers["test"]["loss"] == pytest.approx(result["test_loss"], rel=1e-6)


@pytest.mark.slow
def test_the_same_command_in_another_directory_goes_on(trained, tmp_path):
    """The file counts by its content, not by how its path is written."""
    folder, command = trained
    away = [part.replace("own_nets.py", f"{folder}/own_nets.py") for part in command]
    away = [part.replace("=own_data.py", f"={folder}/own_data.py").replace("=run", f"={folder}/run") for part in away]
    done = run_python(*away, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_file_that_was_changed_is_not_executed(copied):
    config = config_lib.load(str(copied / "run"))
    place = config.net.name.rpartition("@")[0]
    changed = copied / "own_nets.py"
    changed.write_text("raise SystemExit\n")
    saved = json.loads((copied / "run" / "config.json").read_text())
    saved["net"]["name"] = config.net.name.replace(place, f"{changed}:small")
    (copied / "run" / "config.json").write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=r"own_nets.py has changed since then; .*--net=WORKDIR/code/net/own_nets.py"):
        checkpoint.load_run(str(copied / "run"))
    # The copy is executed where the user names it.
    run = checkpoint.load_run(str(copied / "run"), net=f"{copied}/run/code/net/own_nets.py:small")
    assert evaluate_run(run)["test"]["examples"] == 6
    done = run_python(
        *("-m", "cnn", "--mode=evaluate", "--workdir=run", "--net=run/code/net/own_nets.py:small"), cwd=copied
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_training_on_with_a_changed_file_is_refused(copied):
    config = get_config()
    config.net.name, config.data.name = f"{copied}/own_nets.py:small", f"{copied}/own_data.py:grey"
    config.train.steps, config.train.batch_size = 4, 16
    assert config_lib.goes_on(config, str(copied / "run"))  # the same content elsewhere: the same run
    with open(copied / "own_nets.py", "a") as file:
        file.write("\n# changed\n")
    with pytest.raises(ValueError, match=r"holds another run: net.name is .*content then is in code/net/own_nets.py"):
        config_lib.goes_on(config, str(copied / "run"))


def test_an_archive_is_found_from_any_directory(tmp_path, monkeypatch):
    np.savez(tmp_path / "mine.npz", images=np.zeros((9, 4, 4), np.uint8), labels=np.arange(9) % 3)
    monkeypatch.chdir(tmp_path)
    config = get_config()
    config.data.name = "mine.npz"
    config_lib.save(config, "run")
    assert config_lib.load("run").data.name == str(tmp_path / "mine.npz")
    assert config_lib.differences(config, "run") == {}
