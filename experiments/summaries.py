"""Several runs of one config in processes of their own, and their summary."""

import json
import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from cnn.reports import markdown
from cnn.runs import config as config_lib
from cnn.runs import results
from cnn.runtime import whole
from cnn.training import views
from experiments.ablation.statistics import summarise

MAIN = str(pathlib.Path(__file__).parents[1] / "main.py")  # an absolute path, for any working directory
NUMBERS = ("test_accuracy", "test_top5", "test_loss", "validation_accuracy", "seconds", "command_seconds")


def summary(name: str, runs: Sequence[dict[str, Any]], note: str | None = None) -> str:
    """The runs of one config as Markdown.

    Args:
      name: name of the config.
      runs: contents of result.json of each run.
      note: a further line under the table; None: none.

    Returns:
      Mean with its 95 % t-interval, cut to values that are possible, standard deviation (n - 1), lowest and highest
      value of each number, and facts about net, data and machine. The interval is of training again, not of drawing
      other test examples.
    """
    rows = []
    for number in NUMBERS:
        values = [run[number] for run in runs if number in run]
        if values:
            digits = 1 if number.endswith("seconds") else 4
            found = summarise(values)
            spread, interval = "-", "-"
            if found.n > 1:
                most = 1 if "accuracy" in number or "top5" in number else found.high
                low, high = max(0.0, found.low), min(most, found.high)  # no score is outside, few runs or many
                spread, interval = f"{found.std:.{digits}f}", f"{low:.{digits}f} to {high:.{digits}f}"
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


def run_main(flags: Sequence[str], **options: Any) -> None:
    """Runs main.py in a process of its own.

    Args:
      flags: its flags.
      **options: further arguments of `subprocess.run`; with `stderr=PIPE` and text what it says there is passed on at
        its end.

    Raises:
      ValueError: if it fails, after its own line that says why.
    """
    done = subprocess.run([sys.executable, MAIN, *flags], check=False, **options)
    if done.stderr:
        print(done.stderr, end="", file=sys.stderr, flush=True)
    if done.returncode:
        raise ValueError(f"main.py {shlex.join(flags)} ended with status {done.returncode}")


def _all_of(runs: Sequence[dict[str, Any]], name: str) -> str:
    """The values that runs have, each once."""
    return " or ".join(dict.fromkeys(str(run[name]) for run in runs))
