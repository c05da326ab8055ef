"""One config, several seeds, one table: `python -m experiments.seeds --config=configs/mnist.py --seeds=3`.

Runs main.py once for each seed, one after another, and writes runs.json (every run's result.json) and summary.md (mean,
standard deviation, range) to the output directory. Started again, it goes on where it was.
"""

import json
import os
import subprocess
import sys

from absl import app, flags

from experiments.summaries import summary

CONFIG = flags.DEFINE_string("config", None, "The run, one of configs/.", required=True)
SEEDS = flags.DEFINE_integer("seeds", 3, "How many: 0, 1, ...", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "Where to write; default: experiments/results/ and the config's name.")
NOTE = flags.DEFINE_string("note", None, "A line for the summary: what a reader must know of the data, say.")
WORKDIR = flags.DEFINE_string("workdir", "runs", "Where the runs lie: WORKDIR/NAME_seed0, ...")


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
