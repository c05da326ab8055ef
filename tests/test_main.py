"""The command line as a user meets it: in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
SMOKE = ("--config=configs/smoke.py", "--config.train.steps=6", "--config.checkpoint.every_steps=3")


def run(*arguments, module=None):
    command = [sys.executable, *(["-m", module] if module else ["main.py"]), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("smoke")
    done = run(*SMOKE, f"--workdir={workdir}")
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
    done = run(*SMOKE, "--mode=evaluate", f"--workdir={folder}")
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout[done.stdout.index("{") :])
    result = json.loads((folder / "result.json").read_text())
    assert numbers["test"]["accuracy"] == result["test_accuracy"]
    assert numbers["test"]["examples"] == result["examples"]
    assert numbers["validation"]["accuracy"] == result["validation_accuracy"]


def test_predict_names_class_and_probability(workdir, tmp_path):
    folder, _ = workdir
    for name, size in (("one.png", (40, 30)), ("two.jpg", (16, 16))):
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    images = f"{tmp_path}/one.png,{tmp_path}/two.jpg"
    done = run(*SMOKE, "--mode=predict", f"--workdir={folder}", f"--images={images}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[1:]
    assert len(lines) == 2
    for line, name in zip(lines, ("one.png", "two.jpg"), strict=True):
        path, said = line.split(": ")
        assert path.endswith(name)
        assert said.startswith("pattern ") and said.endswith("%)")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--config.train.epoch=3",), "epochs"),  # the nearest name
        (("--config.net.name=vgg61", "--workdir={}"), "unknown net 'vgg61'; did you mean vgg19 or vgg16 or vgg13?"),
        (("--config.data.name=mnits", "--workdir={}"), "near names: mnist"),
        (("--config.train.steps=5", "--config.train.epochs=1.0", "--workdir={}"), "one of them, not both"),
        (
            ("--config.train.optimizer=lion", "--workdir={}"),
            "train.optimizer (='lion') must be one of sgd, adam, adamw",
        ),
        (("--mode=predict",), "--mode=predict needs --images=a.png,b.png"),
        (("--mode=predict", "--images=a.png", "--workdir={}/none"), "holds no run; train one with main.py --workdir"),
        (("--mode=deploy",), "train|evaluate|predict"),
        (("stray",), "unknown argument 'stray'"),
    ],
)
def test_a_mistake_is_answered_in_a_line(arguments, message, tmp_path):
    done = run("--config=configs/smoke.py", *(argument.format(tmp_path) for argument in arguments))
    assert done.returncode != 0
    assert message in done.stderr + done.stdout


def test_help_does_not_wait_for_jax():
    """`import cnn` and --help are quick because nothing heavy is imported for them."""
    code = "import sys, cnn; sys.exit(any(name in sys.modules for name in ('jax', 'matplotlib', 'tensorflow')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    code = "import sys; sys.argv = ['main.py', '--help']\ntry:\n    import runpy; runpy.run_path('main.py', "
    code += "run_name='__main__')\nexcept SystemExit:\n    pass\nsys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--workdir" in done.stdout
