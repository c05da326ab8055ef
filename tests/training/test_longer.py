"""Training a run for longer: the bits of a run that was begun for that length, what is recorded, what is refused."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from cnn.runs import logs
from cnn.train import train_and_evaluate
from tests.training.tiny_runs import DATA, leaves_of, tiny_config, without_pictures


@pytest.fixture(autouse=True, scope="module", name="drawn")
def _drawn():
    with without_pictures():
        yield


@pytest.fixture(scope="module", name="finished")
def _finished(tmp_path_factory, drawn):
    """Four steps, of which the rate falls at the second and the fourth."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    train_and_evaluate(stepped(4, (0.25, 0.75)), str(workdir), DATA)
    return workdir


def stepped(steps, milestones):
    return tiny_config(steps=steps, schedule="step", milestones=milestones, momentum=0.5)


def files(workdir):
    found = [path for path in sorted(workdir.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.slow
def test_a_run_trained_for_longer_is_the_run_that_was_begun_so(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    config = stepped(8, (0.125, 0.375))
    result = train_and_evaluate(config, str(tmp_path / "run"), DATA, longer=True)
    train_and_evaluate(config, str(tmp_path / "whole"), DATA)
    for one, other in zip(leaves_of(tmp_path / "run"), leaves_of(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert result["steps"] == 8
    assert [(one["step"], one["steps_before"]) for one in result["resumed"]] == [(4, 4)]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["steps"] == 8
    rates, whole = (
        [line["learning_rate"] for line in logs.read_metrics(str(tmp_path / name)) if line["split"] == "train"]
        for name in ("run", "whole")
    )
    assert rates == whole and len(rates) >= 4
    # Started again with the same command, or without the flag: it is finished.
    assert train_and_evaluate(config, str(tmp_path / "run"), DATA, longer=True)["steps"] == 8
    assert train_and_evaluate(config, str(tmp_path / "run"), DATA)["steps"] == 8


@pytest.mark.parametrize(
    ("config", "longer", "message"),
    [
        (stepped(8, (0.25, 0.75)), False, r"train.steps is 4 there and 8 here.*, or train that run for longer"),
        (stepped(8, (0.25, 0.75)), True, r"step 1 of .* had the learning rate 0.002, and would have 0.02 in.*"
         r"train.milestones=\(0.125, 0.375\) would keep the rates; or begin another run .*train.initial_run="),
        (stepped(3, (0.25, 0.75)), True, "stands at step 4 and the config asks for 3; ask for more"),
        (stepped(4, (0.25,)), True, "stands at step 4 and the config asks for 4; ask for more"),
        (tiny_config(steps=8, schedule="cosine", momentum=0.5), True,
         r"step 1 of .*; train.schedule=step and train.milestones=\(0.125, 0.375\)"),
        (stepped(8, (0.125, 0.375)).copy_and_resolve_references(), True, "holds another run: seed is 0 there and 1"),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_the_run_as_it_was(finished, config, longer, message):
    if message.startswith("holds another"):
        config.seed = 1
    before = files(finished)
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(config, str(finished), DATA, longer=longer)
    assert files(finished) == before


@pytest.mark.slow
def test_frozen_layers_keep_the_step_at_which_they_thaw(tmp_path):
    options = {"schedule": "constant", "frozen": ("conv1",)}
    train_and_evaluate(tiny_config(steps=4, frozen_until=0.5, **options), str(tmp_path / "run"), DATA)
    with pytest.raises(ValueError, match=r"learn from step 2 on, and would from step 4 on.*frozen_until=0.25 would"):
        train_and_evaluate(tiny_config(steps=8, frozen_until=0.5, **options), str(tmp_path / "run"), DATA, longer=True)
    with pytest.raises(ValueError, match=r"learn from step 2 on, and would never"):
        train_and_evaluate(tiny_config(steps=8, **options), str(tmp_path / "run"), DATA, longer=True)
    config = tiny_config(steps=6, frozen_until=1 / 3, **options)
    assert train_and_evaluate(config, str(tmp_path / "run"), DATA, longer=True)["steps"] == 6


@pytest.mark.slow
def test_a_cosine_is_begun_anew(tmp_path):
    train_and_evaluate(tiny_config(steps=2, schedule="cosine"), str(tmp_path / "run"), DATA)
    with pytest.raises(ValueError, match=r"in a run of 4 steps; begin another run with its weights: --config.train.in"):
        train_and_evaluate(tiny_config(steps=4, schedule="cosine"), str(tmp_path / "run"), DATA, longer=True)


@pytest.mark.slow
def test_a_longer_run_that_diverges_keeps_what_it_was(tmp_path):
    """The first step has the rate 0 of a warm-up, all others 1e30; then those after it have 0.1."""
    options = {"learning_rate": 1e30, "schedule": "constant"}
    train_and_evaluate(tiny_config(steps=1, warmup=1.0, **options), str(tmp_path / "run"), DATA)
    before = leaves_of(tmp_path / "run")
    config = tiny_config(steps=4, warmup=0.25, **options)
    with pytest.raises(FloatingPointError, match="the checkpoints in .* are kept: --longer goes on from the last one"):
        train_and_evaluate(config, str(tmp_path / "run"), DATA, longer=True)
    for one, other in zip(leaves_of(tmp_path / "run"), before, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="holds another run"):
        train_and_evaluate(stepped(4, (0.25, 0.75)), str(tmp_path / "run"), DATA)
    config.train.update({"schedule": "step", "milestones": (0.25,), "decay_factor": 1e-31})
    assert train_and_evaluate(config, str(tmp_path / "run"), DATA, longer=True)["steps"] == 4


def test_nothing_to_train_for_longer(tmp_path):
    with pytest.raises(ValueError, match="--longer: .* holds no run yet; leave --longer out"):
        train_and_evaluate(tiny_config(), str(tmp_path / "run"), DATA, longer=True)
    assert not (tmp_path / "run").exists()
