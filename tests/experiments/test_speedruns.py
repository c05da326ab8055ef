"""Runs for a record: how they are timed, added to those that are there, and refused; the verdict on their mean."""

import json
import os
import subprocess

import pytest
from scipy import stats

from cnn.runtime import locks
from experiments import speedruns, summaries
from tests.helpers import ROOT

SMOKE = f"{ROOT}/configs/smoke.py"


def test_verdict_is_a_t_test():
    accuracies = [0.9905, 0.9911, 0.9908, 0.9907]
    p = stats.ttest_1samp(accuracies, 0.99, alternative="greater").pvalue
    assert 0.001 < p < 0.01
    expected = f"The target of 99.00% is reached: mean 99.078%, p = {p:.1g} (one-sided t-test, n = 4)."
    assert speedruns.verdict(accuracies, 0.99) == expected
    assert "is not reached" in speedruns.verdict([0.9899, 0.9931, 0.9880, 0.9915], 0.99)  # above in the mean, by chance
    assert "is not reached" in speedruns.verdict([0.95, 0.95], 0.99)
    assert "is reached" in speedruns.verdict([0.995, 0.995], 0.99)


def fake_main(made, test_digest="d"):
    """In place of `subprocess.run`: main.py, whose accuracy is 0.9 and a hundredth for each seed."""

    def run(command, **options):
        flags = dict(argument.removeprefix("--").split("=", 1) for argument in command[2:])
        made.append(int(flags["config.seed"]))
        told = {"seed": made[-1], "test_accuracy": 0.9 + made[-1] / 100, "seconds": 1.0, "packages": {}}
        told["command"] = f"python main.py --workdir={flags['workdir']}"
        facts = dict.fromkeys(("net", "data", "device", "python", "commit"), "x")
        counts = dict.fromkeys(("parameters", "multiply_adds", "train_examples", "steps", "examples"), 1)
        for name, content in (("result", told | facts | counts), ("data", {"digest": {"test": test_digest}})):
            with open(os.path.join(flags["workdir"], f"{name}.json"), "w") as file:
                json.dump(content, file)
        return subprocess.CompletedProcess(command, 0)

    return run


def test_a_run_is_timed_as_a_whole(monkeypatch):
    """main.py is called without a cache, its result.json is read, and the clock runs from start to end."""
    called, fake = [], fake_main([])

    def run(command, **options):
        called.append(command)
        return fake(command, **options)

    monkeypatch.setattr(summaries.subprocess, "run", run)
    monkeypatch.setattr(speedruns.time, "perf_counter", iter([10.0, 17.25]).__next__)
    result = speedruns.one_run("configs/smoke.py", seed=3)
    assert (result["test_accuracy"], result["seconds"], result["command_seconds"]) == (0.93, 1.0, 7.25)
    assert result["command"] == "python main.py --workdir=DIR" and result["test_digest"] == "d"
    config = result["config"]
    assert config["net.name"] and config["train.learning_rate"] and not {"seed", "data.dir"} & set(config)
    assert called[0][1] == os.path.join(ROOT, "main.py"), "found from any directory"
    assert {"--config=configs/smoke.py", "--config.seed=3", "--compilation_cache="} <= set(called[0])


def test_runs_are_added_to_those_of_the_same_config_and_data(tmp_path, monkeypatch):
    """A second command does the seeds that lack; runs of another config or other test examples are refused."""
    made = []
    monkeypatch.setattr(summaries.subprocess, "run", fake_main(made))

    def speedrun(config, count, more):
        speedruns.speedrun(f"{ROOT}/configs/{config}.py", count, 0.9, str(tmp_path), more=more)
        return json.loads((tmp_path / "runs.json").read_text())

    assert [run["seed"] for run in speedrun("smoke", 2, more=False)] == made == [0, 1]
    runs = speedrun("smoke", 4, more=True)
    assert made == [0, 1, 2, 3] and [run["test_accuracy"] for run in runs] == [0.9, 0.91, 0.92, 0.93]
    assert "mean 91.500%" in (tmp_path / "summary.md").read_text()
    with pytest.raises(ValueError, match=r"seed 0 has augment.brightness=0.0, .*digits.py has 0.1; runs of one"):
        speedrun("digits", 5, more=True)
    with pytest.raises(ValueError, match="has runs: --more adds to them"):
        speedrun("smoke", 2, more=False)
    with locks.alone(str(tmp_path / locks.NAME), "another"), pytest.raises(locks.Taken, match="--output="):
        speedrun("smoke", 5, more=True)
    assert made == [0, 1, 2, 3] and len(speedrun("smoke", 2, more=True)) == 4
    before = (tmp_path / "runs.json").read_text()
    monkeypatch.setattr(summaries.subprocess, "run", fake_main(made, "another"))
    with pytest.raises(ValueError, match="test_digest differs: d with seed 3, another with seed 4; .*the same data"):
        speedrun("smoke", 5, more=True)
    assert made == [0, 1, 2, 3, 4] and (tmp_path / "runs.json").read_text() == before


def test_damaged_runs_are_refused_before_anything_is_trained(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(summaries.subprocess, "run", fake_main(made))
    speedruns.speedrun(SMOKE, 2, 0.9, str(tmp_path), more=False)
    path = tmp_path / "runs.json"
    first, second = json.loads(path.read_text())
    old = {name: value for name, value in first.items() if name != "config"}
    for damage, message in (
        (path.read_text()[:-40], "is damaged, it "),
        ([1], "is no list of runs"),
        ({}, "is no list of runs"),
        ([], "is no list of runs"),
        ([first, second, second], "has seed 1 twice"),
        ([old], "run of seed 0 does not say which config it is of"),
        ([first, second | {"config": 3}], r"its run 1: config \(=3\) must be an object"),
        ([first, second | {"test_accuracy": None}], r"its run 1: test_accuracy \(=None\) must be a number from 0 to 1"),
        ([first, second | {"seed": "x"}], r"its run 1: seed \(='x'\) must be a whole number"),
        ([{name: value for name, value in first.items() if name != "packages"}], "its run 0: has no packages"),
        ([first, second | {"examples": 2}], "examples differs: 1 with seed 0, 2 with seed 1"),
    ):
        path.write_text(damage if isinstance(damage, str) else json.dumps(damage))
        with pytest.raises(ValueError, match=message):
            speedruns.speedrun(SMOKE, 5, 0.9, str(tmp_path), more=True)
    assert made == [0, 1]


def test_a_run_that_fails_is_said_in_a_line(capfd):
    with pytest.raises(ValueError, match="^main.py '--no_such=a b' ended with status 2$"):
        summaries.run_main(["--no_such=a b"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert "Unknown command line flag 'no_such'" in capfd.readouterr().err, "its own line is passed on"
