"""Time to an accuracy, a record to beat: `python -m experiments.speedrun --config=speedrun_mnist`.

Runs main.py once for each seed, each time in a new process without earlier compiled programs, and writes runs.json (the
result.json of every run, its seconds and its config) and summary.md (mean, standard deviation, and whether the target
is reached) to --output after every run. With --more the runs that are there are kept, and the seeds that lack are run;
without it a folder that has runs is refused.
The target is reached if the mean accuracy is significantly above it: p < 0.01 in a one-sided t-test over the runs.
"""

import os

from absl import flags

from cnn.commands import program
from cnn.runs import config_files
from experiments.speedruns import speedrun

CONFIG = flags.DEFINE_string(
    "config", "speedrun_mnist", "The run: a name of configs/, or a config file; other fields need another file."
)
TARGET = flags.DEFINE_float("target", 0.99, "Test accuracy to be reached in the mean.", 0.0, 1.0)
RUNS = flags.DEFINE_integer("runs", 10, "Number of runs: seeds 0, 1, ...", lower_bound=2)
MORE = flags.DEFINE_bool("more", False, "Keep the runs of --output, all of this config, and do the seeds that lack.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the table; by default runs/NAME_speedrun.")


def main() -> None:
    """Runs all seeds and writes the summary."""
    name = os.path.splitext(os.path.basename(config_files.find(CONFIG.value)))[0]
    folder = OUTPUT.value or os.path.join("runs", f"{name}_speedrun")
    speedrun(config_files.find(CONFIG.value), RUNS.value, TARGET.value, folder, more=MORE.value)


if __name__ == "__main__":
    program.start(main, "--runs=10", lambda: "stopped; the same command with --more does the seeds that are missing")
