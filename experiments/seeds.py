"""One config, several seeds, one table: `python -m experiments.seeds --config=configs/mnist.py --seeds=3`.

Runs main.py once for each seed, one after another, and writes runs.json (every run's result.json) and summary.md (mean,
standard deviation, range) to the output directory. Started again, it goes on where it was.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags

CONFIG = flags.DEFINE_string("config", None, "The run, one of configs/.", required=True)
SEEDS = flags.DEFINE_integer("seeds", 3, "How many: 0, 1, ...", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "Where to write; default: experiments/results/ and the config's name.")
NOTE = flags.DEFINE_string("note", None, "A line for the summary: what a reader must know of the data, say.")
WORKDIR = flags.DEFINE_string("workdir", "runs", "Where the runs lie: WORKDIR/NAME_seed0, ...")

NUMBERS = ("test_accuracy", "test_top5", "test_loss", "validation_accuracy", "seconds")


def summary(name: str, runs: Sequence[dict[str, Any]], note: str | None = None) -> str:
    """The runs of one config as Markdown.

    Args:
      name: of the config.
      runs: what each run's result.json holds.
      note: a line of its own under the table, if any.

    Returns:
      Mean, standard deviation (n - 1), lowest and highest of each number, and where the runs were made.
    """
    from cnn import report

    rows = []
    for number in NUMBERS:
        values = [run[number] for run in runs if number in run]
        if values:
            digits = 1 if number == "seconds" else 4
            spread = f"{statistics.stdev(values):.{digits}f}" if len(values) > 1 else "-"
            cells = [f"{value:.{digits}f}" for value in (statistics.mean(values), min(values), max(values))]
            rows.append([number, cells[0], spread, *cells[1:]])
    first = runs[0]
    packages = ", ".join(f"{package} {version}" for package, version in first["packages"].items())
    facts = [
        f"net {first['net']}, data {first['data']}, {first['parameters']:,} parameters, "
        f"{first['multiply_adds']:,} multiply-adds for one image",
        f"{first['train_examples']:,} training examples, {first['steps']:,} steps, {first['examples']:,} test examples",
        f"seeds {', '.join(str(run['seed']) for run in runs)}; command of the first: `{first['command']}`",
        f"device {first['device']}, python {first['python']}, {packages}",
        f"commit {', '.join(sorted({str(run['commit']) for run in runs}))}",
    ]
    facts = ([note] if note else []) + facts
    table = report.markdown(["number", "mean", "standard deviation", "lowest", "highest"], rows)
    return f"# {name}, n = {len(runs)}\n\n{table}\n" + "".join(f"- {fact}\n" for fact in facts)


def main(argv: list[str]) -> None:
    """Trains every seed and writes what they come to."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; flags look like --seeds=3")
    name = os.path.splitext(os.path.basename(CONFIG.value))[0]
    output = OUTPUT.value or os.path.join("experiments", "results", name)
    runs = []
    for seed in range(SEEDS.value):
        workdir = os.path.join(WORKDIR.value, f"{name}_seed{seed}")
        path = os.path.join(workdir, "result.json")
        if not os.path.exists(path):
            # A process of its own for each: what a run needs to set up before JAX starts is its own business.
            command = ["main.py", f"--config={CONFIG.value}", f"--workdir={workdir}", f"--config.seed={seed}"]
            subprocess.run([sys.executable, *command], check=True)
        with open(path) as file:
            runs.append(json.load(file))
    os.makedirs(output, exist_ok=True)
    with open(os.path.join(output, "runs.json"), "w") as file:
        json.dump(runs, file, indent=1)
        file.write("\n")
    text = summary(name, runs, NOTE.value)
    with open(os.path.join(output, "summary.md"), "w") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    app.run(main)
