"""An imported net as a workdir: every command takes it, by function here and from the command line once."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from cnn import data, dense, exchange, nets
from cnn.exchange import workdirs
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.layers import Activation, Conv, Dense, Flatten, MaxPool
from cnn.runs import checkpoint, overrides
from cnn.train import train_and_evaluate
from cnn.training.evaluate import evaluate_run
from tests.helpers import ROOT, run_python
from tests.made import random_variables, small_config
from tests.training.tiny_runs import without_pictures

DIGITS = tuple("0123456789")
UNNAMED = tuple(f"class {k}" for k in range(10))


def made(names=DIGITS):
    net = nets.net([Conv(3, 5), Activation("tanh"), MaxPool(2), Flatten(), Dense(10)])
    return Classifier(net, random_variables(net, (32, 32), 1), (32, 32, 1), (0.3,), (0.4,), names, "grey", ("A note.",))


def write(folder, classifier):
    workdirs.write(workdirs.as_run(classifier), str(folder), {"file": "net.onnx", "check": {"by": None}})
    return str(folder)


def test_a_workdir_gives_the_net_back(tmp_path):
    classifier = made()
    run = checkpoint.load_run(write(tmp_path / "run", classifier))
    assert run.net == classifier.net and run.step == 0
    assert (run.mean, run.std, run.class_names) == (classifier.mean, classifier.std, DIGITS)
    assert (run.channel_order, run.notes) == ("grey", ("A note.",))
    for name, layer in classifier.variables["params"].items():
        for part, array in layer.items():
            np.testing.assert_array_equal(run.variables["params"][name][part], array)
    with pytest.raises(ValueError, match="holds a run already; choose another --workdir"):
        write(tmp_path / "run", classifier)
    assert json.loads((tmp_path / "run" / "import.json").read_text())["file"] == "net.onnx"


@pytest.mark.slow
@pytest.mark.parametrize("names", [DIGITS, UNNAMED, DIGITS[::-1]])
def test_it_is_evaluated_on_data_that_are_named(tmp_path, names, capsys):
    """By the names of the classes, in any order; where there are none, in order, and a line says so."""
    workdir = write(tmp_path / "run", made(names))
    with pytest.raises(data.DataError, match=re.escape("name some: --config.data.name=mnist")):
        evaluate_run(overrides.load_for_use(workdir, {}))
    run = overrides.load_for_use(workdir, {"data.name": "digits"})
    found = evaluate_run(run)["test"]
    assert ("have no names" in capsys.readouterr().err) == (names == UNNAMED)
    test = data.load("digits").test
    scores = np.asarray(run.net.apply(run.variables, (test.images / np.float32(255) - 0.3) / 0.4, train=False))
    chosen = scores.argmax(axis=1)
    right = (9 - chosen if names == DIGITS[::-1] else chosen) == test.labels
    assert found["accuracy"] == pytest.approx(right.mean())


def test_other_classes_are_refused(tmp_path):
    workdir = write(tmp_path / "run", made([f"kind {k}" for k in range(10)]))
    with pytest.raises(data.DataError, match="the classes of data 'digits' are .*0, 1.* those of the run .*kind 0"):
        evaluate_run(overrides.load_for_use(workdir, {"data.name": "digits"}))


def test_what_does_not_go_together(tmp_path):
    classifier = made()
    for changed, message in (
        ({"mean": (0.1, 0.2)}, "mean has 2 numbers, images 1 channels"),
        ({"class_names": ("a", "b")}, "2 class names for the 10 classes of the net"),
    ):
        with pytest.raises(ExchangeError, match=message):
            workdirs.as_run(Classifier(**{**vars(classifier), **changed}))


@pytest.mark.slow
def test_training_goes_on_from_it(tmp_path):
    """Its layers are taken from the run where none are named, and so are mean and deviation."""
    workdir = write(tmp_path / "run", made())
    config = small_config(initial_run=workdir, steps=1, learning_rate=1e-30)
    config.net.name, config.data.name, config.data.image_size = "layers", "digits", 32
    config.net.options = {}
    with without_pictures():
        result = train_and_evaluate(config, str(tmp_path / "on"))
    assert result["initial_run"]["taken"] == ["conv1", "fc1"]
    expected = evaluate_run(overrides.load_for_use(workdir, {"data.name": "digits"}))["test"]["accuracy"]
    assert result["test_accuracy"] == pytest.approx(expected)


@pytest.mark.slow
def test_from_file_to_map_from_the_command_line(tmp_path):
    """Import, evaluate, predict, run densely, export densely; without a workdir too."""
    pytest.importorskip("onnx", reason="files of ONNX need onnx: python -m pip install -r requirements-exchange.txt")
    classifier = made(UNNAMED)
    exchange.save(tmp_path / "net.onnx", classifier)
    (tmp_path / "names.txt").write_text("\n".join(DIGITS) + "\n")
    page = np.random.default_rng(0).integers(0, 256, (48, 64)).astype(np.uint8)
    Image.fromarray(page).save(tmp_path / "page.png")
    weights = (f"--weights={tmp_path / 'net.onnx'}", f"--labels={tmp_path / 'names.txt'}")

    def run(*arguments, program=("main.py",)):
        done = run_python(*program, *arguments, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    workdir = f"--workdir={tmp_path / 'run'}"
    assert "conv1" in run("--mode=import", *weights, workdir)
    accuracy = json.loads((out := run("--mode=evaluate", workdir, "--config.data.name=digits"))[out.index("{") :])[
        "test"
    ]["accuracy"]
    expected = evaluate_run(overrides.load_for_use(str(tmp_path / "run"), {"data.name": "digits"}))
    assert accuracy == expected["test"]["accuracy"]
    assert "page.png: " in run("--mode=predict", workdir, f"--images={tmp_path / 'page.png'}")
    dense_eval = ("-m", "experiments.dense_eval")
    image = (f"--image={tmp_path / 'page.png'}", "--stride=4")
    run(workdir, *image, f"--output={tmp_path / 'out'}", program=dense_eval)
    run(*weights, *image, f"--output={tmp_path / 'direct'}", "--scales=40,48", program=dense_eval)
    kept = [json.loads((tmp_path / folder / "page_map.json").read_text()) for folder in ("out", "direct")]
    assert kept[0]["logits"] == kept[1]["logits"] and "scales" in kept[1]
    images = ((page / np.float32(255) - 0.3) / 0.4)[None, ..., None].astype(np.float32)
    scored = dense.score_map(classifier.net, classifier.variables, images, (32, 32), 4)
    mean = np.asarray(dense.average(scored, "logits"))[0]
    assert kept[0]["logits"][0] == [DIGITS[mean.argmax()], pytest.approx(float(mean.max()), rel=1e-5)]
    assert "net_dense.onnx" in run("--mode=export", workdir, f"--to={tmp_path / 'net_dense.onnx'}", "--dense")
