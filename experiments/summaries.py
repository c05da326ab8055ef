"""Several runs of one config, their summary, and whether they reach a target."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from cnn.reports import markdown
from cnn.runs import config as config_lib
from cnn.runs import config_files, results
from cnn.runtime import whole
from cnn.training import views
from experiments.ablation.statistics import summarise

MAIN = str(pathlib.Path(__file__).parents[1] / "main.py")  # an absolute path, for any working directory
SIGNIFICANT = 0.01  # p-value below which a target counts as reached
NUMBERS = ("test_accuracy", "test_top5", "test_loss", "validation_accuracy", "seconds", "command_seconds")


def summary(name: str, runs: Sequence[dict[str, Any]], note: str | None = None) -> str:
    """The runs of one config as Markdown.

    Args:
      name: name of the config.
      runs: contents of result.json of each run.
      note: a further line under the table; None: none.

    Returns:
      Mean with its 95 % t-interval, standard deviation (n - 1), lowest and highest value of each number, and facts
      about net, data and machine. The interval is of training again, not of drawing other test examples.
    """
    rows = []
    for number in NUMBERS:
        values = [run[number] for run in runs if number in run]
        if values:
            digits = 1 if number.endswith("seconds") else 4
            found = summarise(values)
            spread, interval = "-", "-"
            if found.n > 1:
                spread, interval = f"{found.std:.{digits}f}", f"{found.low:.{digits}f} to {found.high:.{digits}f}"
            lowest, highest = (f"{end(values):.{digits}f}" for end in (min, max))
            rows.append([number, f"{found.mean:.{digits}f}", interval, spread, lowest, highest])
    first = runs[0]
    versions = {", ".join(f"{name} {version}" for name, version in run["packages"].items()): None for run in runs}
    packages = "; or ".join(versions)
    facts = [
        f"net {first['net']}, data {first['data']}, {first['parameters']:,} parameters, "
        f"{first['multiply_adds']:,} multiply-adds for one image",
        f"{first['train_examples']:,} training examples, {first['steps']:,} steps, {first['examples']:,} test examples",
        f"seeds {', '.join(str(run['seed']) for run in runs)}; command of the first: `{first['command']}`",
        *([f"accuracies are of the mean of the scores of {seen}"] if (seen := views.said(first)) else []),
        f"device {_all_of(runs, 'device')}, python {_all_of(runs, 'python')}, {packages}",
        f"commit {', '.join(sorted({str(run['commit']) for run in runs}))}",
    ]
    facts = ([note] if note else []) + facts
    table = markdown.markdown(["number", "mean", "95 % interval", "standard deviation", "lowest", "highest"], rows)
    return f"# {name}, n = {len(runs)}\n\n{table}\n" + "".join(f"- {fact}\n" for fact in facts)


def finished(config: config_lib.Config, workdir: str) -> dict[str, Any] | None:
    """The result of a finished run of a config.

    Args:
      config: the config, with the seed of the run.
      workdir: directory of the run.

    Returns:
      The contents of result.json; None if there is none.

    Raises:
      ValueError: if the directory holds the run of another config, whose result must not be mixed with this one's, or
        its result is damaged.
    """
    if not os.path.exists(os.path.join(workdir, results.NAME)):
        return None
    config_lib.goes_on(config, workdir)
    return results.read(workdir)


def write(folder: str, runs: Sequence[dict[str, Any]], text: str) -> None:
    """Writes runs.json and summary.md.

    Args:
      folder: directory to write to; made if missing.
      runs: contents of result.json of each run.
      text: the summary.
    """
    os.makedirs(folder, exist_ok=True)
    for name, content in (("runs.json", json.dumps(runs, indent=1) + "\n"), ("summary.md", text)):
        with whole.written(os.path.join(folder, name)) as part, open(part, "w") as file:
            file.write(content)


def earlier_runs(folder: str, config: str) -> list[dict[str, Any]]:
    """The runs that a folder has of a config.

    Args:
      folder: directory that `write` wrote to.
      config: path of the config.

    Returns:
      Contents of result.json of each run, with its config, as `one_run` gives them; none if the folder has no runs.

    Raises:
      ValueError: if the file is damaged, has a seed twice, or one of the runs was made with another config, of which
        the first field that differs is named.
    """
    path = os.path.join(folder, "runs.json")
    if not os.path.exists(path):
        return []
    try:
        with open(path) as file:
            runs: Any = json.load(file)
        seeds = [run["seed"] for run in runs]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged: it is no list of runs with their seeds; remove it") from error
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ValueError(f"{path} has seed {twice[0]} twice; each may count once, so remove one")
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
                    "summary are of one config, so write to another --output, or leave --more out"
                )
    return runs


def one_run(config: str, seed: int) -> dict[str, Any]:
    """Runs main.py once and measures the time from the start of its process to its end.

    Args:
      config: path of the config.
      seed: seed of the run.

    Returns:
      Contents of its result.json, `command_seconds`, the duration of the whole process, and its `config`,
      field by field.
    """
    with tempfile.TemporaryDirectory() as workdir:
        flags_of_run = [f"--config={config}", f"--workdir={workdir}", f"--config.seed={seed}", "--compilation_cache="]
        start = time.perf_counter()
        run_main(flags_of_run, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        with open(os.path.join(workdir, "result.json")) as file:
            result = json.load(file)
    result["command"] = result["command"].replace(workdir, "DIR")
    return result | {"command_seconds": round(seconds, 2), "config": _fields(config)}


def _fields(config: str) -> dict[str, Any]:
    """The fields of a config that make a run what it is, whatever its seed and wherever it is made."""
    fields = config_lib.identity(config_files.read(config))
    return {name: value for name, value in fields.items() if name not in ("seed", "data.dir")}


def run_main(flags: Sequence[str], **options: Any) -> None:
    """Runs main.py in a process of its own.

    Args:
      flags: its flags.
      **options: further arguments of `subprocess.run`.

    Raises:
      ValueError: if it fails, after its own line that says why.
    """
    done = subprocess.run([sys.executable, MAIN, *flags], check=False, **options)
    if done.returncode:
        raise ValueError(f"main.py {' '.join(flags)} ended with status {done.returncode}")


def _all_of(runs: Sequence[dict[str, Any]], name: str) -> str:
    """The values that runs have, each once."""
    return " or ".join(dict.fromkeys(str(run[name]) for run in runs))


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


def speedrun(config: str, count: int, target: float, folder: str, *, more: bool) -> None:
    """Runs a config with the seeds 0, 1, ... and writes the runs and their summary after each.

    Args:
      config: path of the config.
      count: number of seeds.
      target: mean test accuracy to be reached, a fraction.
      folder: directory to write to.
      more: whether the runs that are there are kept, and only the seeds that lack are run.

    Raises:
      ValueError: if runs that are to be kept are of another config, or there are runs and `more` is not given.
    """
    name = os.path.splitext(os.path.basename(config))[0]
    if not more and os.path.exists(os.path.join(folder, "runs.json")):
        raise ValueError(f"{folder} has runs: --more adds to them; remove runs.json, or choose another --output")
    runs = earlier_runs(folder, config) if more else []
    if len(runs) > count:
        print(f"{folder} has {len(runs)} runs, which all count", flush=True)
    for seed in sorted(set(range(count)) - {run["seed"] for run in runs}):
        run = one_run(config, seed)
        runs = sorted([*runs, run], key=lambda run: run["seed"])
        text = f"accuracy {run['test_accuracy']:.4f}, trained in {run['seconds']:.1f} s"
        print(f"seed {seed}: {text}, whole command {run['command_seconds']:.1f} s", flush=True)
        write(folder, runs, _speedrun_text(name, runs, target))
    write(folder, runs, _speedrun_text(name, runs, target))  # the target may be another one
    print(f"{_speedrun_text(name, runs, target)}\nwrote {folder}")


def _speedrun_text(name: str, runs: list[dict[str, Any]], target: float) -> str:
    """The summary of runs, the first sentence after its table saying whether the target is reached."""
    note = "`seconds`: compiling and training; `command_seconds`: the whole process, from imports to pictures, no cache"
    said = f"{verdict([run['test_accuracy'] for run in runs], target)} " if len(runs) > 1 else ""
    return summary(name, runs, f"{said}{note}.")
