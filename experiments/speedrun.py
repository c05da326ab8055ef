"""Time to an accuracy, a record to beat: `python -m experiments.speedrun --config=speedrun_mnist`.

Runs main.py once for each seed, each time in a new process without earlier compiled programs, and writes runs.json (the
result.json of every run, its seconds and its config) and summary.md (mean, standard deviation, and whether the target
is reached) to --output after every run. With --more the runs that are there are kept, and the seeds that lack are run.
The target is reached if the mean accuracy is significantly above it: p < 0.01 in a one-sided t-test over the runs.
"""

import os
from typing import Any

from absl import flags

from cnn.commands import program
from cnn.runs import config_files
from experiments.summaries import earlier_runs, one_run, summary, verdict, write

CONFIG = flags.DEFINE_string("config", "speedrun_mnist", "The run: a name of configs/, or a config file.")
TARGET = flags.DEFINE_float("target", 0.99, "Test accuracy to be reached in the mean.", 0.0, 1.0)
RUNS = flags.DEFINE_integer("runs", 10, "Number of runs: seeds 0, 1, ...", lower_bound=2)
MORE = flags.DEFINE_bool("more", False, "Keep the runs of --output, all of this config, and do the seeds that lack.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the table; by default runs/NAME_speedrun.")


def main() -> None:
    """Runs all seeds and writes the summary."""
    name = os.path.splitext(os.path.basename(config_files.find(CONFIG.value)))[0]
    folder = OUTPUT.value or os.path.join("runs", f"{name}_speedrun")
    speedrun(config_files.find(CONFIG.value), RUNS.value, TARGET.value, folder, more=MORE.value)


def speedrun(config: str, count: int, target: float, folder: str, *, more: bool) -> None:
    """Runs a config with the seeds 0, 1, ... and writes the runs and their summary after each.

    Args:
      config: path of the config.
      count: number of seeds.
      target: mean test accuracy to be reached, a fraction.
      folder: directory to write to.
      more: whether the runs that are there are kept, and only the seeds that lack are run.

    Raises:
      ValueError: if runs that are to be kept are of another config.
    """
    name = os.path.splitext(os.path.basename(config))[0]
    runs = earlier_runs(folder, config) if more else []
    for seed in sorted(set(range(count)) - {run["seed"] for run in runs}):
        run = one_run(config, seed)
        runs = sorted([*runs, run], key=lambda run: run["seed"])
        text = f"accuracy {run['test_accuracy']:.4f}, trained in {run['seconds']:.1f} s"
        print(f"seed {seed}: {text}, whole command {run['command_seconds']:.1f} s", flush=True)
        write(folder, runs, _text(name, runs, target))
    print(f"{_text(name, runs, target)}\nwrote {folder}")


def _text(name: str, runs: list[dict[str, Any]], target: float) -> str:
    """The summary of runs, the first sentence after its table saying whether the target is reached."""
    note = "`seconds`: compiling and training; `command_seconds`: the whole process, from imports to pictures, no cache"
    said = f"{verdict([run['test_accuracy'] for run in runs], target)} " if len(runs) > 1 else ""
    return summary(name, runs, f"{said}{note}.")


if __name__ == "__main__":
    program.start(main, "--runs=10")
