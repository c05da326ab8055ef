"""The benchmark of a folder that does not fit into memory: rates, memory and differences are those that were made."""

import json
import sys

import numpy as np
import pytest

from benchmarks import large_folder_runs as runs
from cnn import nets
from cnn.runs import checkpoint
from tests.helpers import run_python


def test_pictures_of_each_class_and_their_size(tmp_path):
    runs.write_folder(str(tmp_path / "all"), 30, 32)
    train, val = (list((tmp_path / "all" / split).rglob("*.jpg")) for split in ("train", "val"))
    assert len(train) == 30 and len(val) == 10 and len({path.read_bytes() for path in (*train, *val)}) == 40
    assert {path.parent.name for path in train} == {path.parent.name for path in val} == set("0123456789")
    assert runs.size(str(tmp_path / "all" / "train")) == sum(len(path.read_bytes()) for path in train)


def test_a_command_is_measured_by_itself():
    quiet = runs.train([sys.executable, "-c", "import time; time.sleep(0.3); print('resumed x at step 12 of 20')"])
    large = runs.train([sys.executable, "-c", "import time; x = bytearray(300 << 20); time.sleep(0.3)"])
    assert large.peak_bytes - quiet.peak_bytes == pytest.approx(300 << 20, rel=0.05) and large.seconds > 0.3
    assert runs.went_on_from(quiet.said) == 12
    with pytest.raises(RuntimeError, match="did not go on from a checkpoint: begun"):
        runs.went_on_from("begun")
    with pytest.raises(RuntimeError, match="ended with status 3: so"):
        runs.train([sys.executable, "-c", "import sys; print('so'); sys.exit(3)"])


def test_rate_leaves_out_the_beginning(tmp_path):
    lines = [{"step": 10 * i, "split": "train", "seconds": 30 + 2.0 * i} for i in range(1, 6)]
    lines.insert(3, {"step": 30, "split": "validation"})
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"step": 60, "spl')
    (tmp_path / "config.json").write_text(json.dumps({"train": {"batch_size": 16}}))
    assert runs.rate(str(tmp_path), 20) == 16 * 30 / 6


def test_parameters_are_compared_to_the_bit(tmp_path, monkeypatch):
    net = nets.create("layer_pattern", 3, features=2, width=4, blocks=1)
    found = {"one": nets.init(net, (8, 8, 1)), "same": nets.init(net, (8, 8, 1)), "other": nets.init(net, (8, 8, 1), 0)}
    kernel = np.array(found["other"]["params"]["fc1"]["kernel"])
    kernel[0, 0] = np.nextafter(kernel[0, 0], 1)
    found["other"]["params"]["fc1"]["kernel"] = kernel

    class Run:
        def __init__(self, workdir, which):
            assert which == "last"
            self.variables = found[workdir]

    monkeypatch.setattr(checkpoint, "load_run", Run)
    assert runs.equal_parameters("one", "same") and not runs.equal_parameters("one", "other")


@pytest.mark.slow
def test_it_runs():
    done = run_python("-m", "benchmarks.large_folder", "--smoke")
    assert done.returncode == 0, done.stderr
    rows = dict(line.strip("| ").split("|") for line in done.stdout.splitlines() if line.startswith("| "))
    rows = {key.strip(): value.strip() for key, value in rows.items()}
    killed = next(value for key, value in rows.items() if key.startswith("killed at step"))
    assert killed == "equal to the bit"
    assert rows["the first 24 batches of several processes, beside those of one"] == "2 the same, 4 the same"


def test_what_must_be_equal_is_checked():
    results = {"training": {"equal_parameters": True}, "batches": {"equal": {"1": True, "2": True, "4": True}}}
    runs.check(results)
    results["batches"]["equal"]["4"] = False
    with pytest.raises(RuntimeError, match="^4 processes see other batches than one$"):
        runs.check(results)
    results["training"]["equal_parameters"] = False
    with pytest.raises(RuntimeError, match="ends with other parameters"):
        runs.check(results)
    runs.check_streamed("522 pictures stay in their files (data.in_memory=auto)")
    with pytest.raises(RuntimeError, match="do not stay in their files; more or larger ones would"):
        runs.check_streamed("training")
