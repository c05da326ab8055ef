"""A stop at every stage of every command: its status, one line that says how to go on, no traceback, the same end."""

import json
import re
import signal
import subprocess

import numpy as np
import pytest

from cnn.runs import checkpoint
from tests.helpers import PROGRAMS, start_python
from tests.training.tiny_runs import leaves_of

pytestmark = pytest.mark.slow
SAVED = r"stopped at step [\d,]+, which is saved; the same command goes on"
BEGINNING = "stopped at step 0; there is no checkpoint yet, the same command starts from the beginning"
RUN = ("run", "--config=smoke", "--config.train.steps=30", "--config.eval.scenes=0")
# Where the program stops itself (tests/programs/stop_at.py), and the last line that it prints.
STAGES = {
    "loading": BEGINNING,
    "saving": SAVED,
    "reporting": SAVED,
}


def stopped_at(stage, *arguments, number=signal.SIGTERM):
    """Runs a command that gets a signal at a stage; gives status and lines of standard error."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start_python(PROGRAMS / "stop_at.py", stage, int(number), *arguments, stdout=-1, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, handler)
    with process:
        _, errors = process.communicate(timeout=300)
    return process.returncode, [line for line in errors.splitlines() if "Warning" not in line]


def test_a_run_stopped_at_every_stage_ends_in_the_same_bits(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for stage, line in STAGES.items():
        status, errors = stopped_at(stage, *RUN, f"--workdir={here}")
        assert status == 143 and re.fullmatch(line, errors[-1]), (stage, errors)
        assert len(errors) <= 2 and not (here / "lock").exists()
    for workdir in (here, there):
        assert stopped_at("never", *RUN, f"--workdir={workdir}")[0] == 0
    for ours, theirs in zip(leaves_of(here), leaves_of(there), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (json.loads((one / "result.json").read_text()) for one in (here, there))
    assert ours["test_loss"] == theirs["test_loss"]
    # Commands that only use a run.
    picture = tmp_path / "a.png"
    from PIL import Image

    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(picture)
    use = ("run", f"--workdir={here}", "--mode=predict", f"--images={picture}", f"--output={tmp_path}/p.json")
    again = ["stopped; the same command starts it again"]
    assert stopped_at("predicting", *use, number=signal.SIGINT) == (130, again)
    assert not (tmp_path / "p.json").exists()
    dense = ("dense_eval", f"--workdir={here}", "--scenes=2", "--timing_images=1")
    status, errors = stopped_at("dense", *dense)
    assert status == 143 and errors[-1] == "stopped; the same command goes on with maps that were begun"
    assert not (here / "dense_eval" / "result.json").exists() and checkpoint.latest_step(str(here)) == 30
