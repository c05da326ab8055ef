"""Time to an accuracy, a record to beat: `python -m experiments.speedrun --config=speedrun_mnist`.

Runs main.py once for each seed, each time in a new process without earlier compiled programs, and writes runs.json (the
result.json of every run and its seconds) and summary.md (mean, standard deviation, and whether the target is reached)
to --output. The target is reached if the mean accuracy is significantly above it: p < 0.01 in a one-sided t-test over
the runs.
"""

import os

from absl import flags

from cnn.commands import program
from cnn.runs import config_files
from experiments.summaries import one_run, summary, verdict, write

CONFIG = flags.DEFINE_string("config", "speedrun_mnist", "The run: a name of configs/, or a config file.")
TARGET = flags.DEFINE_float("target", 0.99, "Test accuracy to be reached in the mean.", 0.0, 1.0)
RUNS = flags.DEFINE_integer("runs", 10, "Number of runs: seeds 0, 1, ...", lower_bound=2)
OUTPUT = flags.DEFINE_string("output", None, "Folder of the table; by default runs/NAME_speedrun.")


def main() -> None:
    """Runs all seeds and writes the summary."""
    path = config_files.find(CONFIG.value)
    name = os.path.splitext(os.path.basename(path))[0]
    runs = []
    for seed in range(RUNS.value):
        runs.append(one_run(path, seed))
        text = f"accuracy {runs[-1]['test_accuracy']:.4f}, trained in {runs[-1]['seconds']:.1f} s"
        print(f"seed {seed}: {text}, whole command {runs[-1]['command_seconds']:.1f} s", flush=True)
    note = "`seconds`: compiling and training; `command_seconds`: the whole process, from imports to pictures, no cache"
    text = summary(name, runs, f"{verdict([run['test_accuracy'] for run in runs], TARGET.value)} {note}.")
    write(OUTPUT.value or os.path.join("runs", f"{name}_speedrun"), runs, text)


if __name__ == "__main__":
    program.start(main, "--runs=10")
