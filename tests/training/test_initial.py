"""Starting from another run: what is taken, what is not, what is recorded, and what is refused."""

import json
import re
import shutil

import numpy as np
import optax
import pytest

from cnn.runs import checkpoint, checksums
from cnn.train import train_and_evaluate
from cnn.training import initial, steps
from cnn.training.many_seeds import train_seeds
from tests.training.tiny_runs import DATA, tiny_config, without_pictures


@pytest.fixture(autouse=True, scope="module", name="drawn")
def _drawn():
    with without_pictures():
        yield


@pytest.fixture(scope="module", name="other")
def _other(tmp_path_factory, drawn):
    workdir = tmp_path_factory.mktemp("other") / "run"
    train_and_evaluate(tiny_config(), str(workdir), DATA)
    return workdir


def variables_of(workdir):
    return checkpoint.load_run(str(workdir)).variables


@pytest.mark.slow
def test_layers_of_equal_name_and_shape_are_taken(other, tmp_path, capsys):
    """Frozen ones keep the other run's values to the bit; running on needs the other run no more."""
    place = shutil.copytree(other, tmp_path / "other")
    config = tiny_config(width=5, initial_run=str(place), frozen=("conv1",))
    config.seed = 1
    result = train_and_evaluate(config, str(tmp_path / "run"), DATA)
    there, here = variables_of(place), variables_of(tmp_path / "run")
    np.testing.assert_array_equal(here["params"]["conv1"]["kernel"], there["params"]["conv1"]["kernel"])
    start = result["initial_run"]
    assert (start["run"], start["step"], start["taken"]) == (str(place), 2, ["bn1", "conv1"])
    assert start["initialised"] == {"fc1": "18x4 there and 18x5 here", "fc2": "4x3 there and 5x3 here"}
    said = capsys.readouterr().out
    assert f"started from {place} at step 2: bn1, conv1; initialised as usual: fc1: 18x4 there and 18x5 here;" in said
    assert f"{place} at step 2" in (tmp_path / "run" / "report.html").read_text()
    shutil.rmtree(place)
    config.eval.batch_size = 7
    again = train_and_evaluate(config, str(tmp_path / "run"), DATA)
    assert again["initial_run"] == start and again["test_loss"] == pytest.approx(result["test_loss"])


@pytest.mark.slow
def test_values_before_the_first_step(other):
    """All layers fit; with a rate of almost 0 the nets of all seeds are the other run's, statistics aside."""
    config = tiny_config(initial_run=str(other), learning_rate=1e-30)
    there = variables_of(other)["params"]
    for run in train_seeds(config, DATA, [3, 4]).runs:
        assert {name: set(layer) for name, layer in run.variables["params"].items()} == {
            name: set(layer) for name, layer in there.items()
        }
        np.testing.assert_array_equal(run.variables["params"]["fc2"]["kernel"], there["fc2"]["kernel"])


@pytest.mark.slow
def test_images_are_normalised_as_the_weights_were_trained(other, tmp_path, capsys):
    """The run, its evaluation and its second process all have the constants of the other run, not those of the data."""
    place = shutil.copytree(other, tmp_path / "other")
    known = json.loads((place / "data.json").read_text()) | {"mean": [0.25], "std": [0.125]}
    for folder in (place, place / "checkpoints" / "2" / checksums.COPIES):
        (folder / "data.json").write_text(json.dumps(known))
    checksums.write(str(place / "checkpoints" / "2"), 2)
    config = tiny_config(initial_run=str(place), learning_rate=1e-30)
    result = train_and_evaluate(config, str(tmp_path / "run"), DATA)
    assert "normalised as those of" in capsys.readouterr().out
    run = checkpoint.load_run(str(tmp_path / "run"))
    assert (run.mean, run.std) == ((0.25,), (0.125,))
    scores = run.net.apply(run.variables, (DATA.test.images / np.float32(255) - 0.25) / 0.125, train=False)
    right = np.asarray(scores).argmax(axis=1) == DATA.test.labels
    assert result["test_accuracy"] == pytest.approx(right.mean())
    config.eval.batch_size = 7
    again = train_and_evaluate(config, str(tmp_path / "run"), DATA)
    assert again["test_loss"] == pytest.approx(result["test_loss"])
    seeds = train_seeds(config, DATA, [config.seed]).runs[0].variables["batch_stats"]
    # The running statistics of two steps on the same images: to rounding.
    np.testing.assert_allclose(seeds["bn1"]["norm"]["mean"], run.variables["batch_stats"]["bn1"]["norm"]["mean"], 1e-4)


@pytest.mark.slow
def test_what_cannot_be_started_from(other, tmp_path):
    for initial_run, message in (
        (tmp_path / "nothing", "train.initial_run .*nothing.*: .*config.json is missing"),
        (tmp_path / "run", "train.initial_run .* is the run's own directory; choose another --workdir"),
    ):
        with pytest.raises(ValueError, match=message):
            train_and_evaluate(tiny_config(initial_run=str(initial_run)), str(tmp_path / "run"), DATA)
    config = tiny_config(initial_run=str(other))
    config.net.options.update({"features": 3, "width": 5, "norm": False})
    message = "none of its layers has the name and the shapes of a layer of this net: conv1: 3x3x1x2 there and 3x3x1x3"
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(config, str(tmp_path / "run"), DATA)
    assert not (tmp_path / "run").exists()


def test_classes_that_differ_are_said(other):
    run = checkpoint.load_run(str(other))
    state = steps.init_state(run.net, optax.sgd(0.1), run.image_shape, 0)
    same, unknown = (str(initial.begin(state, run, names)[1]) for names in (run.class_names, ()))
    assert "classes" not in same and "classes" not in unknown
    turned, more = tuple(reversed(run.class_names)), (*run.class_names, "one more")
    said = str(initial.begin(state, run, turned)[1])
    assert (
        f"that run has the same classes in another order: score 0 was {turned[-1]!r} and is {turned[0]!r} here" in said
    )
    said = str(initial.begin(state, run, more)[1])
    assert f"that run has other classes: score {len(turned)} was none and is 'one more' here; weights" in said


def test_another_start_is_another_run(other, tmp_path):
    saved = json.loads((other / "config.json").read_text())
    assert saved["train"]["initial_run"] == ""
    with pytest.raises(ValueError, match=re.escape("train.initial_run is '' there and '/elsewhere' here")):
        train_and_evaluate(tiny_config(initial_run="/elsewhere"), str(other), DATA)
