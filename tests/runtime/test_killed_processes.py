"""Four processes train and stream as one does; whichever is killed, the others say so, and any number goes on."""

import json
import subprocess

import jax
import numpy as np
import pytest

from cnn.runs import checkpoint
from cnn.runtime import processes
from tests.helpers import PROGRAMS, start_python

pytestmark = pytest.mark.slow
# The compiler without most of its optimisations: these programs run for a moment.
QUICKLY = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
NUMBERS = (
    "test_accuracy",
    "test_loss",
    "test_balanced_accuracy",
    "validation_accuracy",
    "per_class_accuracy",
    "examples",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with training data."""
    folder, rng = tmp_path_factory.mktemp("groups"), np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 60), ("test", 7), ("validation", 5)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 80, (count, 8, 8)) + 80 * labels[:, None, None]
        arrays |= {f"{name}_images": images.astype(np.uint8), f"{name}_labels": labels}
    np.savez(folder / "data.npz", **arrays)
    return folder


@pytest.fixture(scope="module")
def group(folder):
    """Runs a group of processes to its end: (name, count, module, arguments, kill) -> statuses, what each says."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}

    def run(name, count, module, arguments, kill=None):
        made = {"name": name, "count": count, "module": module, "arguments": list(map(str, arguments)), "kill": kill}
        print(json.dumps(made), file=written, flush=True)
        line = read.readline()
        said = [(folder / f"{name}.{index}.txt").read_text() for index in range(count)]
        assert line, said
        found = json.loads(line)
        if kill is None:
            assert found["statuses"] == [0] * count, said
        return found, said

    with start_python(PROGRAMS / "groups_of_processes.py", folder, **pipes, env={"XLA_FLAGS": QUICKLY}) as program:
        written, read = program.stdin, program.stdout
        yield run


def training(folder, workdir, sharding="data", devices=1):
    """The command that trains a net of which `fsdp` and `model` split a matrix of 128 x 128."""
    fields = {"data.name": folder / "data.npz", "net.name": "layer_pattern", "net.options.features": 8}
    fields |= {"net.options.width": 128, "net.options.blocks": 1, "train.steps": 20, "train.epochs": None}
    fields |= {"train.batch_size": 12, "train.learning_rate": 0.01, "train.sharding": sharding}
    fields |= {
        "checkpoint.best": False,
        "checkpoint.every_steps": 5,
        "eval.scenes": 0,
        "eval.batch_size": 8,
        "eval.every_epochs": 2.0,
    }
    flags = ["--config=configs/default.py", f"--workdir={workdir}", "--data_cache=", f"--cpu_devices={devices}"]
    return [*flags, *(f"--config.{name}={value}" for name, value in fields.items())]


def assert_lost(found, said, killed):
    """The others end at once, each with one line that names the process that was killed and says how to go on."""
    assert found["seconds"] < 60
    for index, status in enumerate(found["statuses"]):
        assert status == (-9 if index == killed else processes.LOST), said[index]
        if index != killed:
            assert said[index].count("error: ") == 1 and "Traceback" not in said[index], said[index]
            assert said[index].endswith(
                f"error: process {killed} of {len(said)} was lost (killed, or its machine or network failed); process "
                f"{index} stops, too. Start all again, in any number: the same command goes on from what is saved\n"
            )


def assert_same_run(one, other):
    """Parameters after twenty steps, all metrics on the way, and the result.

    To 1e-6: sums over four devices are added in another order by processes than within one, and by two devices than by
    four; parameters are about 0.1, of which a last bit is 7e-9.
    """
    runs = [checkpoint.load_run(str(folder)) for folder in (one, other)]
    assert [run.step for run in runs] == [20, 20]
    for values, wanted in zip(*(jax.tree.leaves(run.variables) for run in runs), strict=True):
        np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-6)
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, other)]
    for name in NUMBERS:
        assert results[0][name] == pytest.approx(results[1][name], abs=1e-6), name
    lines = [list(map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())) for folder in (one, other)]
    for line, wanted in zip(*lines, strict=True):
        assert [line[name] for name in ("step", "split")] == [wanted[name] for name in ("step", "split")]
        assert line["loss"] == pytest.approx(wanted["loss"], abs=1e-6)
    tables = [(folder / "predictions.csv").read_text().splitlines() for folder in (one, other)]
    assert [row.split(",")[:3] for row in tables[0]] == [row.split(",")[:3] for row in tables[1]]


@pytest.fixture(scope="module")
def alone(folder, group):
    """What one process with four devices makes of the run."""
    group("alone", 1, "main", training(folder, folder / "alone", devices=4))
    return folder / "alone"


def steps_of(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal())


def test_a_run_goes_on_in_any_number_whoever_is_killed(folder, group, alone):
    """One process is killed in its seventh step; the first of four, while it finishes the checkpoint after the next."""
    run = folder / "run"
    group("one", 1, "main", training(folder, run), [0, "step", 7, f"{run}/checkpoints/5"])
    assert steps_of(run) == [5]
    found, said = group("four", 4, "main", training(folder, run, "fsdp"), [0, "publish", 2])
    assert "at step 5 of 20" in said[0]
    assert_lost(found, said, 0)
    assert steps_of(run) == [5, 10]
    _, said = group("two", 2, "main", training(folder, run, "model"))
    assert "at step 10 of 20" in said[0]
    assert_same_run(run, alone)


def test_four_processes_score_a_run_as_one_does(folder, group, alone):
    """With seven test examples for four: each is counted once, and only the first process says so."""
    command = ["--mode=evaluate", f"--workdir={alone}", "--data_cache="]
    _, (by_one,) = group("scored by one", 1, "main", command)
    _, said = group("scored by four", 4, "main", command)
    one, four = (json.loads(text[text.index("{\n") :]) for text in (by_one, said[0]))
    assert set(one) == set(four) == {"validation", "test"}
    for split in one:
        assert four[split].keys() == one[split].keys() and four[split]["examples"] == one[split]["examples"]
        for name, value in one[split].items():
            assert four[split][name] == pytest.approx(value, abs=1e-6), name
    assert one["test"]["examples"] == 7 and all("{" not in text for text in said[1:])


def files_of(folder):
    """The bytes of maps, of their journals, and of whatever else lies beside them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_maps_that_several_write_go_on_in_any_number(folder, group):
    """Of four one is killed at a tile of the first map; of two the first one, while it finishes the second map."""
    program = "tests.programs.stream_small_image"
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    group("whole", 1, program, [folder / "whole"])
    assert_lost(*group("four maps", 4, program, [folder / "killed"], [1, "tile", 3]), 1)
    assert_lost(*group("two maps", 2, program, [folder / "killed"], [0, "finish", 2]), 0)
    whole, by_two = (files_of(folder / name) for name in ("whole", "killed"))
    assert [name for name in whole if "ome" not in name and by_two.get(name) != whole[name]] == []
    _, said = group("one map", 1, program, [folder / "killed"])
    assert said[0].count("20 of 20 tiles were there") == 2
    assert files_of(folder / "killed") == files_of(folder / "whole")
