"""A workdir that an earlier version wrote, killed at step 40 of 60 of configs/smoke.py: it still works."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from cnn.runs import checkpoint, defaults
from cnn.runs import config as config_lib
from cnn.train import train_and_evaluate
from cnn.training.evaluate import evaluate_run
from cnn.training.predict import predict
from configs import smoke

SAVED = pathlib.Path(__file__).parent / "run_of_before"
# What the version that wrote it measured: at step 40, and after it had gone on to step 60.
LOSS_AT_40, LOSS_AT_60 = 0.036238059401512146, 0.016105467081069948


@pytest.fixture
def workdir(tmp_path):
    return shutil.copytree(SAVED, tmp_path / "run")


def test_it_evaluates_and_predicts(workdir):
    run = checkpoint.load_run(str(workdir))
    assert run.step == 40 and run.image_shape == (16, 16, 3) and len(run.class_names) == 10
    found = evaluate_run(run)
    assert found["test"]["accuracy"] == 0.99375
    assert found["test"]["loss"] == pytest.approx(LOSS_AT_40, rel=1e-4)
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(workdir / "a.png")
    (prediction,) = predict(run, [str(workdir / "a.png")])
    assert prediction.class_name in run.class_names


def test_fields_that_it_lacks_have_a_value_that_does_nothing():
    """A field that was added since stands in the table of what runs did without it, or is absent by default."""
    assert config_lib.goes_on(smoke.get_config(), str(SAVED))
    saved = json.loads((SAVED / "config.json").read_text())
    for field in defaults.FIELDS:
        group, _, name = field.name.rpartition(".")
        there = saved.get(group, {}) if group else saved
        if name not in there and not isinstance(field.default, type):
            assert field.name in config_lib.DEFAULTS_FOR_OLD_RUNS, field.name
            without = config_lib.DEFAULTS_FOR_OLD_RUNS[field.name]
            assert (list(field.default) if isinstance(field.default, tuple) else field.default) == without, field.name


@pytest.mark.slow
def test_it_goes_on_to_the_same_end(workdir):
    result = train_and_evaluate(smoke.get_config(), str(workdir))
    assert result["steps"] == 60 and result["test_loss"] == pytest.approx(LOSS_AT_60, rel=1e-2)
    assert (workdir / "report.html").exists()
