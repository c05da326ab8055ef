"""Runs of one config in new processes for a record: their time as a whole, and whether their mean reaches a target."""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from cnn.runs import config as config_lib
from cnn.runs import config_files, facts, records, results
from cnn.runtime import json_files, locks
from cnn.runtime.ranges import Range, number, text, whole
from experiments.summaries import run_main, summary, write

SIGNIFICANT = 0.01  # p-value below which a target counts as reached
OF_DATA = ("train_examples", "examples", "test_digest")  # equal in all runs on the same data
_RUN = (
    *(one for one in records.RESULT if one.field != "best"),
    Range("seed", whole(0), "a whole number, at least 0"),
    Range("command_seconds", number(lambda value: value >= 0), "a number, at least 0"),
    *(Range(name, whole(0), "a whole number, at least 0") for name in ("parameters", "multiply_adds")),
    *(Range(name, text(), "a text") for name in ("net", "data", "command", "device", "python")),
    Range("test_digest", text(1), "a text", may_be_absent=True),
    *(Range(name, lambda value: isinstance(value, dict), "an object") for name in ("packages", "config")),
)
_OPTIONAL = ("test_loss", "validation_accuracy", "test_digest", "config")


def speedrun(config: str, count: int, target: float, folder: str, *, more: bool) -> None:
    """Runs a config with the seeds 0, 1, ... and writes the runs and their summary after each.

    Args:
      config: path of the config.
      count: number of seeds.
      target: mean test accuracy to be reached, a fraction.
      folder: directory to write to.
      more: whether the runs that are there are kept, and only the seeds that lack are run.

    Raises:
      ValueError: if runs that are to be kept are damaged, or of another config or other data; or if there are runs and
        `more` is not given.
      OSError: if another process writes to the folder.
    """
    name = os.path.splitext(os.path.basename(config))[0]
    with locks.alone(os.path.join(folder, locks.NAME), f"--output={folder}"):
        path = os.path.join(folder, "runs.json")
        if not more and os.path.exists(path):
            raise ValueError(f"{folder} has runs: --more adds to them; remove runs.json, or choose another --output")
        runs = earlier_runs(folder, config) if more else []
        if len(runs) > count:
            print(f"{folder} has {len(runs)} runs, which all count", flush=True)
        for seed in sorted(set(range(count)) - {run["seed"] for run in runs}):
            run = one_run(config, seed)
            said = f"accuracy {run['test_accuracy']:.4f}, trained in {run['seconds']:.1f} s"
            print(f"seed {seed}: {said}, whole command {run['command_seconds']:.1f} s", flush=True)
            check_data([*runs, run], path)
            runs = sorted([*runs, run], key=lambda run: run["seed"])
            write(folder, runs, _text(name, runs, target))
        write(folder, runs, _text(name, runs, target))  # the target may be another one
        print(f"{_text(name, runs, target)}\nwrote {folder}")


def one_run(config: str, seed: int) -> dict[str, Any]:
    """Runs main.py once and measures the time from the start of its process to its end.

    Args:
      config: path of the config.
      seed: seed of the run.

    Returns:
      Contents of its result.json, `command_seconds`, the duration of the whole process, `test_digest`, a checksum of
      the test examples, and its `config`, field by field.

    Raises:
      ValueError: if it fails, after its own lines that say why.
    """
    with tempfile.TemporaryDirectory() as workdir:
        flags_of_run = [f"--config={config}", f"--workdir={workdir}", f"--config.seed={seed}", "--compilation_cache="]
        start = time.perf_counter()
        # What the run says of itself when it is stopped, that it can go on, is not true of a directory that goes away.
        run_main(flags_of_run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - start
        result: Any = json_files.read(os.path.join(workdir, results.NAME))
        data: Any = json_files.read(os.path.join(workdir, facts.NAME))
    result["command"] = result["command"].replace(workdir, "DIR")
    told = {"command_seconds": round(seconds, 2), "test_digest": data["digest"]["test"], "config": _fields(config)}
    return result | told


def earlier_runs(folder: str, config: str) -> list[dict[str, Any]]:
    """The runs that a folder has of a config.

    Args:
      folder: directory that `write` wrote to.
      config: path of the config.

    Returns:
      Contents of result.json of each run, with its config, as `one_run` gives them; none if the folder has no runs.

    Raises:
      ValueError: if the file is damaged, has a seed twice, or runs on different data, or one of the runs was made with
        another config, of which the first field that differs is named.
    """
    path = os.path.join(folder, "runs.json")
    if not os.path.exists(path):
        return []
    try:
        runs = json_files.read(path)
    except json_files.JsonError as error:
        raise ValueError(f"{path} is damaged, it {error}; restore it, or remove it") from error
    _check(runs, path)
    wanted = _fields(config)
    for run in runs:
        if "config" not in run:
            raise ValueError(
                f"{path}: its run of seed {run['seed']} does not say which config it is of, as none of an earlier "
                "version does; write to another --output"
            )
        made = run["config"]
        for field in sorted({*wanted, *made}):
            there, here = made.get(field, config_lib.DEFAULTS_FOR_OLD_RUNS.get(field)), wanted.get(field)
            if there != here:
                raise ValueError(
                    f"{path}: its run of seed {run['seed']} has {field}={there!r}, {config} has {here!r}; runs of one "
                    "summary are of one config, so write to another --output"
                )
    return runs


def check_data(runs: Sequence[dict[str, Any]], path: str) -> None:
    """Refuses runs on different data.

    Args:
      runs: of one config, as `one_run` gives them; those of earlier versions have no checksum of the test examples.
      path: their file, for the error.

    Raises:
      ValueError: if their numbers of examples differ, or their test examples do.
    """
    for name in OF_DATA:
        values = {run[name]: run["seed"] for run in runs if name in run}
        if len(values) > 1:
            seeds = ", ".join(f"{value} with seed {seed}" for value, seed in values.items())
            raise ValueError(
                f"{path}: {name} differs: {seeds}; runs of one summary are on the same data, so write to another "
                "--output"
            )


def verdict(accuracies: Sequence[float], target: float) -> str:
    """Whether the mean accuracy of runs reaches a target, in words.

    Args:
      accuracies: test accuracy of each run.
      target: mean accuracy to be reached, a fraction.

    Returns:
      A sentence with the mean, the p-value and n.
    """
    mean = float(np.mean(accuracies))
    if np.ptp(accuracies) > 0:
        test: Any = stats.ttest_1samp(accuracies, target, alternative="greater")
        p = float(test.pvalue)
    else:  # a t-test needs runs with different accuracies
        p = float(mean <= target)
    reached = "is reached" if mean > target and p < SIGNIFICANT else "is not reached"
    return (
        f"The target of {target:.2%} {reached}: mean {mean:.3%}, p = {p:.1g} (one-sided t-test, n = {len(accuracies)})."
    )


def _check(runs: Any, path: str) -> None:
    """Refuses what is no list of runs with all that their summary says, each seed once."""
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        raise ValueError(f"{path} is damaged, it is no list of runs; restore it, or remove it")
    needed = [one.field for one in _RUN if one.field not in _OPTIONAL]
    for place, run in enumerate(runs):
        if wrong := records.wrong(run, _RUN, needed):
            raise ValueError(f"{path} is damaged: its run {place}: {'; '.join(wrong)}; restore it, or remove it")
    seeds = [run["seed"] for run in runs]
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ValueError(f"{path} has seed {twice[0]} twice; each may count once, so remove one")
    check_data(runs, path)


def _fields(config: str) -> dict[str, Any]:
    """The fields of a config that make a run what it is, whatever its seed and wherever it is made."""
    fields = config_lib.identity(config_files.read(config))
    return {name: value for name, value in fields.items() if name not in ("seed", "data.dir")}


def _text(name: str, runs: list[dict[str, Any]], target: float) -> str:
    """The summary of runs, the first sentence after its table saying whether the target is reached."""
    note = "`seconds`: compiling and training; `command_seconds`: the whole process, from imports to pictures, no cache"
    said = f"{verdict([run['test_accuracy'] for run in runs], target)} " if len(runs) > 1 else ""
    return summary(name, runs, f"{said}{note}.")
