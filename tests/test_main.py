"""The command line as a user meets it: in a process of its own."""

import inspect
import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import cnn
from cnn.runs import defaults
from tests.helpers import PROGRAMS, ROOT, run_python

OWN_CONFIG = PROGRAMS / "own_config.py"
SMOKE = ("--config=configs/smoke.py", "--config.train.steps=6", "--config.checkpoint.every_steps=3")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("smoke")
    done = run_python("main.py", *SMOKE, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_train_shows_the_net_its_progress_and_its_score(workdir):
    folder, done = workdir
    assert done.stdout.startswith("device: ")
    assert "layer_pattern: INPUT -> [CONV -> RELU -> POOL]*2 -> FC -> RELU -> FC" in done.stdout
    assert "multiply-adds" in done.stdout and "receptive field" in done.stdout  # the geometry table
    assert "step 6/6  loss " in done.stdout and "images/s" in done.stdout
    assert "test accuracy" in done.stdout
    assert done.stderr == ""  # no log lines of libraries, no warnings
    result = json.loads((folder / "result.json").read_text())
    assert f"test accuracy {result['test_accuracy']:.4f}" in done.stdout
    assert result["command"].startswith("python main.py --config=configs/smoke.py")


def test_evaluate_gives_the_trained_runs_numbers(workdir):
    folder, _ = workdir
    done = run_python("main.py", *SMOKE, "--mode=evaluate", f"--workdir={folder}")
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout[done.stdout.index("{") :])
    result = json.loads((folder / "result.json").read_text())
    assert numbers["test"]["accuracy"] == result["test_accuracy"]
    assert numbers["test"]["examples"] == result["examples"]
    assert numbers["validation"]["accuracy"] == result["validation_accuracy"]
    done = run_python("main.py", "--config.data.name=digits", "--mode=evaluate", f"--workdir={folder}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "data.name is 'fake' there and 'digits' here. Leave them out" in done.stderr


def test_naming_no_picture_is_a_mistake(workdir):
    folder, _ = workdir
    done = run_python("main.py", *SMOKE, "--mode=predict", f"--workdir={folder}", "--images=,")
    assert done.returncode == 1 and done.stderr.startswith("error: --images=, names no picture")


def test_predict_names_class_and_probability(workdir, tmp_path):
    folder, _ = workdir
    for name, size in (("one.png", (40, 30)), ("two.jpg", (16, 16))):
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "bad.png").write_text("no picture")
    named = ("two.jpg", "bad.png", "--images=one.png", "--workdir=~/run")
    (tmp_path / "run").symlink_to(folder)
    main = str(ROOT / "main.py")
    done = run_python(main, *SMOKE[1:], "--mode=predict", *named, cwd=tmp_path, HOME=tmp_path)
    assert done.returncode == 1
    assert "error: cannot read bad.png as an image" in done.stderr
    assert "\n1 of 3 pictures have no prediction\n" in done.stderr
    lines = done.stdout.splitlines()[1:]
    assert len(lines) == 2
    for line, name in zip(lines, ("one.png", "two.jpg"), strict=True):
        path, said = line.split(": ")
        assert path.endswith(name)
        assert said.startswith("pattern ") and said.endswith("%)")


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (("--config=mnst",), 2, "--config=mnst: there is no such config; did you mean mnist"),
        (("--config=configs/mnst.py",), 2, "--config=configs/mnst.py: there is no such config; did you mean mnist"),
        (("--config.train.epoch=3",), 2, "--config.train.epoch: there is no such field; did you mean train.epochs"),
        (("--config.train=3",), 2, "--config.train is a group of fields; set one of them: train.epochs, train.steps"),
        (("--config.train.batch_size=many",), 2, "--config.train.batch_size=many: it must be a whole number"),
        (("--config.net.name=vgg61", "--workdir={}"), 1, "unknown net 'vgg61'; did you mean vgg19 or vgg16 or vgg13?"),
        (("--config.data.name=mnits", "--workdir={}"), 1, "near names: mnist"),
        (("--config.train.steps=5", "--config.train.epochs=1.0", "--workdir={}"), 1, "one of them, not both"),
        (
            ("--config.train.optimizer=lion", "--workdir={}"),
            1,
            "train.optimizer (='lion') must be one of sgd, adam, adamw",
        ),
        (("--mode=predict",), 2, "--mode=predict needs --images=a.png,b.png"),
        (
            ("--mode=predict", "--images=a.png", "--workdir={}/none"),
            1,
            "holds no run; train one with main.py --workdir",
        ),
        (("--mode=predict", "--images=a.png", "--output={}/no/a.csv"), 1, "/no/a.csv: there is no folder"),
        (
            ("--mode=predict", "--images=a.png", "--output="),
            1,
            "--output=: predictions are written to a .csv or a .json",
        ),
        (("--images=a.png",), 2, "--images and --output are for --mode=predict"),
        (("--checkpoint=best",), 2, "--checkpoint is for --mode=evaluate, --mode=predict"),
        (("--longer", "--mode=evaluate"), 2, "--longer is for --mode=train"),
        (("--config.train.milestones=(0.5",), 2, "--config.train.milestones=(0.5: it must be values in brackets"),
        (
            ("--config.train.milestones=(0.5,", "--workdir={}"),
            2,
            "--config.train.milestones=(0.5,: it must be values in ",
        ),
        (("--config.train.epochs=nan",), 1, "train.epochs (=nan) must be a number above 0"),
        (("--config.augment.scale=1.0",), 1, "augment.scale (=(1.0,)) must be two numbers (low, high), "),
        (("--cpu_devices=100000",), 2, "flag --cpu_devices=100000: 100000 is not an integer in the range [0, 1024]"),
        (
            (f"--config={PROGRAMS}/bare_config.py",),
            2,
            f"a config without net.name and {len(defaults.FIELDS) - 2} more fields; start from cnn.runs",
        ),
        (("--mode=deploy",), 2, "train|evaluate|predict"),
        (("--workdr=x",), 2, "Unknown command line flag 'workdr'. Did you mean: workdir"),
        (("stray",), 2, "unknown argument 'stray'"),
        ((f"--config={PROGRAMS}/own_nets.py",), 2, "AttributeError: module"),
    ],
)
def test_a_mistake_is_answered_in_a_line(arguments, code, message, tmp_path):
    done = run_python("main.py", "--config=smoke", *(argument.format(tmp_path) for argument in arguments))
    assert done.returncode == code
    assert message in done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ") and len(lines) == code  # a mistake in flags is followed by where help is
    assert code == 1 or lines[1] == "python main.py --help shows all flags"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["ablate", "dense_eval", "seeds", "giusti", "pages", "speedrun"])
def test_commands_answer_mistakes_alike(module):
    for argument in ("--nothing=1", "stray"):
        done = run_python("-m", f"experiments.{module}", argument)
        lines = done.stderr.splitlines()
        assert done.returncode == 2 and done.stdout == "" and len(lines) == 2
        assert lines[0].startswith("error: ") and argument.strip("-").split("=")[0] in lines[0]
        assert lines[1] == f"python -m experiments.{module} --help shows all flags"
    done = run_python("-m", f"experiments.{module}", "--help")
    assert done.returncode == 0 and done.stderr == "" and f"python -m experiments.{module}" in done.stdout


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_flags_and_fields(flag, tmp_path):
    """From any directory."""
    done = run_python(str(ROOT / "main.py"), flag, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    for part in ("--config\n", "--workdir\n", "--mode\n", "Configs by name: ", "speedrun_mnist"):
        assert part in done.stdout
    for field in defaults.FIELDS:
        assert f"\n  {field.name}\n      {field.meaning[:30]}" in done.stdout
    assert max(map(len, done.stdout.splitlines()[8:])) <= 100


@pytest.mark.parametrize(
    "program, argument, name",
    [
        ((str(ROOT / "main.py"),), (), "digits"),
        ((str(ROOT / "main.py"),), ("--config=mnist",), "mnist"),
        ((str(ROOT / "main.py"),), ("--config", "configs/mnist.py"), "mnist"),
        (("-m", "cnn"), (f"--config={OWN_CONFIG}",), "own_config"),
    ],
)
def test_configs_by_name_by_path_and_by_default(program, argument, name, tmp_path):
    """From any directory; `python -m cnn` is the same program."""
    # Stops at the first thing that the library checks, after the config was read.
    done = run_python(*program, *argument, "--config.net.name=nothing", "--config.data.name=fake", cwd=tmp_path)
    assert "error: unknown net 'nothing'" in done.stderr and f"workdir: runs/{name}\n" in done.stdout


@pytest.mark.slow
def test_options_of_the_net_and_absent_fields(tmp_path):
    """A net's option that the config does not name; a field taken away; a length in steps in place of epochs."""
    done = run_python(
        *("main.py", "--config=smoke", "--config.net.name=qa_net", "--config.net.options={}"),
        *("--config.net.options.dropout=0.25", "--config.data.image_size=None", "--config.train.epochs=0.1"),
        *("--config.eval.every_epochs=0.1", f"--workdir={tmp_path}/run"),
    )
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["net"]["options"] == {"dropout": 0.25}
    assert config["data"]["image_size"] is None and config["train"]["steps"] is None


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_ctrl_c_and_sigterm_save_and_say_where_the_run_stands(number, code, tmp_path):
    command = [sys.executable, "main.py", "--config=smoke", "--config.train.steps=1000000", f"--workdir={tmp_path}"]
    # A process inherits that a signal is ignored, as it is where tests run in the background; not that it is handled.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, handler)
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoints" / "20").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    first, last = said.splitlines()
    assert first == "stopping: the step is saved first; once more stops at once"
    found = re.fullmatch(r"stopped at step ([\d,]+), which is saved; the same command goes on", last)
    assert found and (tmp_path / "checkpoints" / found[1].replace(",", "")).is_dir(), said


def test_help_does_not_wait_for_jax():
    """`import cnn` and --help are quick because nothing heavy is imported for them."""
    code = "import sys, cnn; sys.exit(any(name in sys.modules for name in ('jax', 'matplotlib', 'tensorflow')))"
    assert run_python("-c", code).returncode == 0
    done = run_python(str(PROGRAMS / "show_help.py"))
    assert done.returncode == 0, done.stderr
    assert "--workdir" in done.stdout


def test_the_doors_of_the_library():
    assert set(cnn.__all__) <= set(dir(cnn))
    for name in cnn.__all__:
        assert inspect.ismodule(getattr(cnn, name))
    with pytest.raises(AttributeError, match="module 'cnn' has no attribute 'nothing'"):
        _ = cnn.nothing  # pyright: ignore[reportAttributeAccessIssue]
