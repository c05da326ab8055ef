"""The study runner: cells, resuming after a kill, executors, and what a user is told."""

import dataclasses
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cnn import data
from cnn.runtime.devices import Devices
from cnn.training import many_seeds
from cnn.training.evaluate import score_split
from experiments.ablation import (
    cells,
    executors,
    measures,
    runner,
    store,
)
from experiments.ablation import study as study_lib
from experiments.ablation.study import TEST
from tests.experiments.small_study import SMALL, lines, small_study
from tests.helpers import PROGRAMS, ROOT, run_python


@pytest.mark.slow
def test_every_seed_of_every_cell_has_its_line(finished):
    found = lines(finished)
    assert [(line["cell"], line["seed"]) for line in found] == [("max", 0), ("max", 1), ("average", 0), ("average", 1)]
    for line in found:
        assert set(line["values"]) == {TEST, "test loss", "shifted 1 px", "feature distance 1 px"}
        assert line["parameters"] == 3 * 3 * 3 * 4 + 4 + 3 * 3 * 4 * 8 + 8 + 2 * 2 * 8 * 8 + 8 + 8 * 10 + 10
        assert line["diverged"] is None and line["curve"][-1]["validation_accuracy"] >= 0
        assert line["device"] and line["commit"] and line["epoch_seconds"] > 0 and line["step_bytes"] > 0


@pytest.mark.slow
def test_numbers_are_those_of_training_the_cell_by_hand(finished):
    study = small_study()
    base = runner.load_base(study.base)
    line = next(line for line in lines(finished) if (line["cell"], line["seed"]) == ("average", 1))
    config = runner.cell_configs(study, "average", base, SMALL)[line["chosen"]]
    assert config.net.options.pool == "average" and config.train.steps == 6 and config.net.options.width == 8
    dataset = data.load(**config.data)
    found = many_seeds.train_seeds(config, dataset, [1])
    score = score_split(found.net, found.runs[0].variables, config, dataset, "test")
    assert line["values"][TEST] == score.accuracy
    assert line["values"]["test loss"] == pytest.approx(score.loss, rel=1e-5)


@pytest.mark.slow
def test_the_rate_is_chosen_on_validation_by_seeds_of_its_own(finished):
    tried = lines(finished, "tuning")
    for cell in ("max", "average"):
        means = [
            np.mean([r["validation_accuracy"] for r in tried if (r["cell"], r["chosen"]) == (cell, number)])
            for number in (0, 1)
        ]
        chosen = {line["chosen"] for line in lines(finished) if line["cell"] == cell}
        assert chosen == {int(np.argmax(means))}
    assert {r["seed"] for r in tried} == set(cells.TUNING_SEEDS)


@pytest.mark.slow
def test_tuning_does_not_look_at_the_test_split(monkeypatch):
    study = small_study()
    base = runner.load_base(study.base)
    found = data.load(**base.data)

    class Closed:
        def __getattr__(self, name):
            raise AssertionError(f"the test split's {name} was looked at")

    monkeypatch.setattr(study_lib, "load_data", lambda config: dataclasses.replace(found, test=Closed()))
    job = cells.Job(study, "max", runner.cell_configs(study, "max", base, SMALL), (0,))
    chosen, records = cells.tune(job, Devices(1))
    assert chosen in (0, 1) and len(records) == 4
    with pytest.raises(AssertionError, match="was looked at"):
        cells.run_cell(job)


@pytest.mark.slow
def test_more_seeds_later_run_only_what_is_missing(finished, tmp_path, capsys):
    study = small_study(tune={}, cells={"max": {}, "elu": {"net.options.activation": "elu"}})
    options = {"overrides": SMALL, "study": study}
    runner.run_study("more", str(tmp_path), seeds=1, **options)
    first = lines(tmp_path)
    runner.run_study("more", str(tmp_path), seeds=2, **options)
    assert "2 cells, 0 of them done before" in capsys.readouterr().out
    second = lines(tmp_path)
    assert second[: len(first)] == first
    assert [(line["cell"], line["seed"]) for line in second[len(first) :]] == [("max", 1), ("elu", 1)]
    before = (tmp_path / "results.jsonl").read_bytes()
    text = (tmp_path / "report.md").read_text()
    runner.run_study("more", str(tmp_path), seeds=2, **options)
    assert "2 cells, 2 of them done before; none to run" in capsys.readouterr().out
    assert (tmp_path / "results.jsonl").read_bytes() == before and (tmp_path / "report.md").read_text() == text


COMMAND = [
    *(sys.executable, "-m", "experiments.ablate", "--study=flatten_order", "--seeds=2", "--config=configs/smoke.py"),
    *("--config.train.steps=6", "--config.net.options.features=4", "--config.net.options.width=8"),
]


def results_but_for_time(workdir):
    times = ("epoch_seconds", "cell_seconds")
    return [{key: value for key, value in line.items() if key not in times} for line in lines(workdir)]


@pytest.mark.long
def test_killed_half_way_and_started_again(tmp_path):
    """SIGKILL after the first cell: the second start runs the others, and ends in the same results."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(
        [*COMMAND, f"--workdir={killed}"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while not (killed / "results.jsonl").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = {line["cell"] for line in lines(killed)}
    assert 1 <= len(there) < 3 and not (killed / "report.md").exists()
    # A kill in the middle of a line leaves half of it.
    with open(killed / "results.jsonl", "a") as file:
        file.write('{"kind": "seed", "cell": "random", "se')
    again = subprocess.run([*COMMAND, f"--workdir={killed}"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"3 cells, {len(there)} of them done before" in again.stdout
    subprocess.run([*COMMAND, f"--workdir={whole}"], cwd=ROOT, capture_output=True, check=True)
    assert results_but_for_time(killed) == results_but_for_time(whole)
    tables = [
        [line.split(" | ")[:6] for line in (folder / "report.md").read_text().splitlines() if line.startswith("| ")]
        for folder in (killed, whole)
    ]
    assert tables[0][:5] == tables[1][:5] and len(tables[0]) > 5
    assert all(line["values"]["difference, exact sums"] == 0 for line in lines(whole))
    assert f"- command: {shlex.join(['python', *COMMAND[1:]])}\n" in (whole / "report.md").read_text()


@pytest.mark.long
def test_a_study_of_ones_own_from_any_directory(tmp_path):
    """Its base lies beside it; the report's command exists, and finds everything done when it is run again."""
    program = ["-m", "experiments.ablate", f"--study={PROGRAMS / 'own_study.py'}"]
    done = run_python(*program, "--config.train.steps=5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "ablation" / "own_study"
    report = (folder / "report.md").read_text()
    assert report.startswith("# own_study: Does a study of one's own run?")
    command = next(line for line in report.splitlines() if line.startswith("- command: python "))
    assert command.endswith("own_study.py --seeds=1 --config.train.steps=5")
    assert {line["values"]["brightness"] for line in lines(folder)} == {lines(folder)[0]["values"]["brightness"]}
    again = run_python(*shlex.split(command)[3:], cwd=tmp_path)
    assert again.returncode == 0 and "2 cells, 2 of them done before; none to run" in again.stdout


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (("--study=poling",), 1, "error: --study=poling: there is no such study; did you mean pooling"),
        (("--study=nothing.py",), 1, "error: --study=nothing.py: there is no such file"),
        ((f"--study={PROGRAMS / 'own_nets.py'}",), 1, "own_nets.py: the file must set STUDY = Study(...)"),
        ((), 2, "error: --study is missing: give --study=NAME, --study=my_study.py, or --list"),
        (("--study=pooling", "--config=nothing"), 2, "error: --config=nothing: there is no such config"),
        (("--study=pooling", "--config.train.epoch=1"), 2, "there is no such field; did you mean train.epochs"),
        (("--study=pooling", "--sedes=2"), 2, "error: Unknown command line flag 'sedes'. Did you mean: seeds"),
    ],
)
def test_a_mistake_on_the_command_line_is_answered_in_a_line(arguments, code, message):
    done = run_python("-m", "experiments.ablate", *arguments)
    assert done.returncode == code and message in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == code  # and where help is


@pytest.mark.slow
def test_a_directory_holds_one_study(finished):
    with pytest.raises(ValueError, match=r"holds another study.*train\.steps is 6 there and 7 here.*--workdir"):
        runner.run_study("small", str(finished), overrides={**SMALL, "train.steps": 7}, study=small_study())
    with pytest.raises(ValueError, match="study is 'small' there and 'other' here"):
        runner.run_study("other", str(finished), overrides=SMALL, study=small_study())
    other = (measures.shifted(1), measures.feature_distance(1, images=40))
    with pytest.raises(ValueError, match=r"measures.1 is .*images=50\)' there and .*images=40\)' here"):
        runner.run_study("small", str(finished), overrides=SMALL, study=small_study(measures=other))
    none = {"max": {"net.options.pool": None}, "average": {"net.options.pool": "average"}}
    with pytest.raises(ValueError, match=r"net.options.pool is absent there and None here"):
        runner.run_study("small", str(finished), overrides=SMALL, study=small_study(cells=none))


@pytest.mark.slow
def test_a_mistake_without_results_leaves_the_directory_free(tmp_path):
    study = small_study(tune={}, measures=(), compared=(TEST,), contrasts=(), series=())
    opened = store.Store(str(tmp_path), {"study": "wrong", "measures": []}, {"max": (runner.load_base(study.base),)})
    assert opened.records == []
    runner.run_study("small", str(tmp_path), seeds=1, overrides=SMALL, study=study)
    assert json.loads((tmp_path / "study.json").read_text())["study"] == "small"


@pytest.mark.slow
def test_a_kill_before_the_lines_draws_the_pictures_again(tmp_path, monkeypatch):
    study = small_study(tune={}, measures=(), compared=(TEST,), contrasts=(), series=())

    def killed(self, records):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store.Store, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            runner.run_study("small", str(tmp_path), seeds=1, overrides=SMALL, study=study)
    runner.run_study("small", str(tmp_path), seeds=1, overrides=SMALL, study=study)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == [f"{cell} {what}.png" for cell in ("average", "max") for what in ("features", "kernels")]


def test_mistakes_are_told_before_anything_is_trained(tmp_path):
    def run(study, **overrides):
        runner.run_study("wrong", str(tmp_path / "none"), overrides={**SMALL, **overrides}, study=study)

    bad = {"max": {}, "bad": {"net.options.pool": "median"}}
    with pytest.raises(ValueError, match=r"cell 'bad': .*median"):
        run(small_study(cells=bad))
    with pytest.raises(ValueError, match=r"--config\.net\.options\.pool: this study varies it"):
        run(small_study(), **{"net.options.pool": "max"})
    with pytest.raises(ValueError, match=r"--config\.train\.learning_rate: this study varies it"):
        run(small_study(), **{"train.learning_rate": 0.1})
    with pytest.raises(ValueError, match=r"train\.epoch: a config has no such field; did you mean train.epochs"):
        run(small_study(cells={"max": {}, "bad": {"train.epoch": 1.0}}))
    with pytest.raises(ValueError, match=r"cell 'max': train.schedule \(='cosin'\)"):
        run(small_study(), **{"train.schedule": "cosin"})
    with pytest.raises(ValueError, match=r"cell 'max': train.dtype \(='float16'\)"):
        run(small_study(), **{"train.dtype": "float16"})
    with pytest.raises(ValueError, match=r"cell 'bad': .*conv_1"):
        run(small_study(cells={"max": {}, "bad": {"train.frozen": ("conv_1",)}}))
    with pytest.raises(ValueError, match=r"--seeds=-1 must be at least 1"):
        runner.run_study("wrong", str(tmp_path / "none"), seeds=-1, study=small_study())
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_cell_that_fails_leaves_the_others(tmp_path, monkeypatch, capsys):
    run_cell = cells.run_cell

    def failing(job):
        if job.cell == "average":
            raise ValueError("no memory left for it")
        return run_cell(job)

    monkeypatch.setattr(executors, "run_cell", failing)
    with pytest.raises(ValueError, match=r"1 of 2 cells failed.*cell 'average': no memory left for it"):
        runner.run_study("fails", str(tmp_path), seeds=1, overrides=SMALL, study=small_study(tune={}))
    assert "'average': failed: no memory left for it" in capsys.readouterr().out
    assert {line["cell"] for line in lines(tmp_path)} == {"max"}
    text = (tmp_path / "report.md").read_text()
    assert "| max " in text and "No results: average (no memory left for it)." in text
    assert "average (test accuracy) and max were not compared: average has no results." in text


@pytest.mark.slow
def test_a_diverged_seed_is_told_and_counts(tmp_path):
    study = small_study(tune={}, measures=(), compared=(TEST,), contrasts=(), series=())
    runner.run_study("lost", str(tmp_path), seeds=2, overrides={**SMALL, "train.learning_rate": 1e30}, study=study)
    text = (tmp_path / "report.md").read_text()
    assert "Diverged, and counted as they ended" in text and "max (seeds 0, 1)" in text
    assert all(line["diverged"] is not None and line["values"][TEST] == 0 for line in lines(tmp_path))
    assert "NaN" not in (tmp_path / "results.jsonl").read_text()


@pytest.mark.long
def test_ray_runs_the_same_cells(finished, tmp_path):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("runs cells on a local Ray cluster: python -m pip install -r requirements-ray.txt")
    # In a process of its own: Ray leaves files open, which warns where warnings are errors.
    done = run_python(PROGRAMS / "study_on_ray.py", tmp_path)
    assert done.returncode == 0, done.stderr

    def key(line):
        return line["cell"], line["seed"]

    for one, other in zip(sorted(lines(tmp_path), key=key), sorted(lines(finished), key=key), strict=True):
        assert key(one) == key(other) and one["chosen"] == other["chosen"]
        # Another process, perhaps with another number of devices: float32 rounding.
        assert one["values"]["test loss"] == pytest.approx(other["values"]["test loss"], rel=1e-4)


def test_without_ray_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -r requirements-ray\.txt"):
        list(executors.run([], "ray"))
    with pytest.raises(ValueError, match="--executor=slurm: must be one of local, ray"):
        executors.run([], "slurm")
