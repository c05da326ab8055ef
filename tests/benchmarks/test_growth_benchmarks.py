"""Benchmarks of growth, start-up and time to accuracy: exponents, seconds and verdicts are those of known numbers."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from benchmarks import growth, machine, startup_times
from experiments import summaries
from tests.helpers import ROOT


def test_exponents_of_known_powers():
    sizes = [10, 20, 80]
    assert growth.fitted_exponent(sizes, [7.0 * n**1.5 for n in sizes]) == pytest.approx(1.5)
    assert growth.fitted_exponent(sizes, [3.0] * 3) == pytest.approx(0)


@pytest.mark.long
@pytest.mark.parametrize("name", ["batch", "pixels", "pixels_stride1", "classes"])
def test_a_series_counts_operations_and_memory(name, monkeypatch):
    """Times are made up, proportional to the size: the exponent is 1. Operations are the points' own."""
    sizes = growth.SMOKE_SIZES[name]
    ran = []

    def alternate(runs, rounds):
        for size, run in runs.items():
            ran.append(int(size))
            run()
        return {size: [0.001 * int(size)] * rounds for size in runs}

    monkeypatch.setattr(growth.timing, "alternate", alternate)
    measured = growth.measure(name, sizes, 2)
    assert ran == list(sizes) and measured["time_exponent"] == pytest.approx(1)
    small, large = measured["rows"]
    assert [small["size"], large["size"]] == list(sizes)
    flops = [row["gflops"] * row["milliseconds"] for row in measured["rows"]]
    if name == "batch":
        assert flops[1] == pytest.approx(2 * flops[0])
        assert large["memory"] > 1.5 * small["memory"]  # activations double, parameters stay
    if name == "pixels":
        # Convolutions grow with the pixels, the converted layers over 1 and 5 x 5 windows: by 8 rows and 8 columns.
        assert flops[1] > 4 * flops[0]
    if name == "pixels_stride1":
        assert flops[1] > flops[0] and large["memory"] is None and measured["memory_exponent"] is None
    if name == "classes":
        # 256x256 holds 7 x 7 windows of 64 at stride 32: each has two more products with 4,096 values.
        assert 1e6 * (flops[1] - flops[0]) == pytest.approx(2 * 7 * 7 * 4096 * 2)


@pytest.mark.slow
def test_a_point_of_devices_trains():
    """Two steps on the first device of however many there are: the loss is a number, and another one."""
    (point,) = growth.devices([1])
    first, second = point.run(), point.run()
    assert first.shape == (1,) and np.isfinite(first).all() and first[0] != second[0]


def test_unknown_cases_are_named():
    assert machine.chosen([], {"a": 1, "b": 2}) == ["a", "b"] and machine.chosen(["b"], {"a": 1, "b": 2}) == ["b"]
    with pytest.raises(ValueError, match="unknown case c; cases: a, b"):
        machine.chosen(["c", "a"], {"a": 1, "b": 2})


def test_seconds_of_commands():
    taken = startup_times.whole_command(sys.executable, "-c", "import time; time.sleep(0.3)")
    assert 0.3 < taken.seconds < 30 and 0 < taken.cpu < 10
    with pytest.raises(RuntimeError, match="(?s)failed: .*ZeroDivisionError"):
        startup_times.whole_command(sys.executable, "-c", "1 / 0")


@pytest.mark.slow
def test_first_step_is_waited_for(tmp_path):
    taken = startup_times.first_step("configs/smoke.py", str(tmp_path))
    assert 0.5 < taken.seconds < startup_times.LONGEST  # Python and JAX alone take half a second
    assert taken.cpu > 0.5
    assert any(tmp_path.rglob("*")), "its programs are in the cache it was given"
    with pytest.raises(RuntimeError, match="(?s)ended without a step: .*no_such"):
        startup_times.first_step("configs/no_such.py", str(tmp_path))


def test_verdict_is_a_t_test():
    accuracies = [0.9905, 0.9911, 0.9908, 0.9907]
    p = stats.ttest_1samp(accuracies, 0.99, alternative="greater").pvalue
    assert 0.001 < p < 0.01
    expected = f"The target of 99.00% is reached: mean 99.078%, p = {p:.1g} (one-sided t-test, n = 4)."
    assert summaries.verdict(accuracies, 0.99) == expected
    assert "is not reached" in summaries.verdict([0.9899, 0.9931, 0.9880, 0.9915], 0.99)  # above in the mean, by chance
    assert "is not reached" in summaries.verdict([0.95, 0.95], 0.99)
    assert "is reached" in summaries.verdict([0.995, 0.995], 0.99)


def test_a_run_is_timed_as_a_whole(monkeypatch):
    """main.py is called without a cache, its result.json is read, and the clock runs from start to end."""
    called = []

    def run(command, **options):
        called.append(command)
        workdir = next(argument for argument in command if argument.startswith("--workdir=")).removeprefix("--workdir=")
        with open(f"{workdir}/result.json", "w") as file:
            file.write(f'{{"test_accuracy": 0.5, "seconds": 1.0, "command": "python main.py --workdir={workdir}"}}')
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(summaries.subprocess, "run", run)
    monkeypatch.setattr(summaries.time, "perf_counter", iter([10.0, 17.25]).__next__)
    result = summaries.one_run("configs/smoke.py", seed=3)
    told = {"test_accuracy": 0.5, "seconds": 1.0, "command": "python main.py --workdir=DIR"}
    config = result.pop("config")
    assert result == told | {"command_seconds": 7.25}
    assert config["net.name"] and config["train.learning_rate"] and not {"seed", "data.dir"} & set(config)
    assert called[0][1] == os.path.join(ROOT, "main.py"), "found from any directory"
    assert {"--config=configs/smoke.py", "--config.seed=3", "--compilation_cache="} <= set(called[0])


def test_runs_are_added_to_those_of_the_same_config(tmp_path, monkeypatch):
    """A second command does the seeds that lack; runs of another config are refused with the field."""
    made = []

    def run(command, **options):
        flags = dict(argument.removeprefix("--").split("=", 1) for argument in command[2:])
        made.append(int(flags["config.seed"]))
        told = {"seed": made[-1], "test_accuracy": 0.9 + made[-1] / 100, "seconds": 1.0, "command": "", "packages": {}}
        facts = dict.fromkeys(("net", "data", "device", "python", "commit"), "x")
        counts = dict.fromkeys(("parameters", "multiply_adds", "train_examples", "steps", "examples"), 1)
        with open(os.path.join(flags["workdir"], "result.json"), "w") as file:
            json.dump(told | facts | counts, file)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(summaries.subprocess, "run", run)

    def speedrun(config, runs, more):
        summaries.speedrun(f"{ROOT}/configs/{config}.py", runs, 0.9, str(tmp_path), more=more)
        return json.loads((tmp_path / "runs.json").read_text())

    assert [run["seed"] for run in speedrun("smoke", 2, more=False)] == made == [0, 1]
    runs = speedrun("smoke", 4, more=True)
    assert made == [0, 1, 2, 3] and [run["test_accuracy"] for run in runs] == [0.9, 0.91, 0.92, 0.93]
    assert "mean 91.500%" in (tmp_path / "summary.md").read_text()
    with pytest.raises(ValueError, match=r"seed 0 has augment.brightness=0.0, .*digits.py has 0.1; runs of one"):
        speedrun("digits", 5, more=True)
    assert made == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="has runs: --more adds to them"):
        speedrun("smoke", 2, more=False)
    assert made == [0, 1, 2, 3] and len(speedrun("smoke", 2, more=True)) == 4
    path = tmp_path / "runs.json"
    for damage, message in (
        (path.read_text()[:-40], "is damaged"),
        ("[1]", "is damaged"),
        ('{"a": 1}', "is damaged"),
        (json.dumps([*runs, runs[1]]), "has seed 1 twice"),
        (json.dumps([{"seed": 0}]), "run of seed 0 does not say which config it is of"),
    ):
        path.write_text(damage)
        with pytest.raises(ValueError, match=message):
            speedrun("smoke", 5, more=True)
    assert made == [0, 1, 2, 3]


def test_a_run_that_fails_is_said_in_a_line():
    with pytest.raises(ValueError, match="^main.py --no_such_flag ended with status 2$"):
        summaries.run_main(["--no_such_flag"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
