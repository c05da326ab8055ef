"""Time to an accuracy, a record to beat: `python -m experiments.speedrun --config=configs/speedrun_mnist.py`.

Runs main.py once for each seed, every time in a new process without compiled programs from before, and writes runs.json
(every run's result.json and its seconds) and summary.md (mean, standard deviation, and whether the target is reached)
to the output directory. The target is reached if the mean accuracy is above it beyond chance: p < 0.01 in a one-sided
t-test over the runs.
"""

import json
import os

from absl import app, flags

from experiments.summaries import one_run, summary, verdict

CONFIG = flags.DEFINE_string("config", "configs/speedrun_mnist.py", "The run, one of configs/.")
TARGET = flags.DEFINE_float("target", 0.99, "Test accuracy to be reached in the mean.", 0.0, 1.0)
RUNS = flags.DEFINE_integer("runs", 10, "How many: seeds 0, 1, ...", lower_bound=2)
OUTPUT = flags.DEFINE_string("output", None, "Where to write; default: experiments/results/ and the config's name.")


def main(argv: list[str]) -> None:
    """Runs all seeds and writes what they come to."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; flags look like --runs=10")
    name = os.path.splitext(os.path.basename(CONFIG.value))[0]
    output = OUTPUT.value or os.path.join("experiments", "results", name)
    runs = []
    for seed in range(RUNS.value):
        runs.append(one_run(CONFIG.value, seed))
        told = f"accuracy {runs[-1]['test_accuracy']:.4f}, trained in {runs[-1]['seconds']:.1f} s"
        print(f"seed {seed}: {told}, whole command {runs[-1]['command_seconds']:.1f} s", flush=True)
    os.makedirs(output, exist_ok=True)
    with open(os.path.join(output, "runs.json"), "w") as file:
        json.dump(runs, file, indent=1)
        file.write("\n")
    note = "`seconds`: compiling and training; `command_seconds`: the whole process, from imports to pictures, no cache"
    text = summary(name, runs, f"{verdict([run['test_accuracy'] for run in runs], TARGET.value)} {note}.")
    with open(os.path.join(output, "summary.md"), "w") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    app.run(main)
