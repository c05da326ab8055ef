"""One config, several seeds, one table: `python -m experiments.seeds --config=mnist --seeds=3 [--config.FIELD=VALUE]`.

Runs main.py once for each seed, one after another, and writes runs.json (the result.json of every run) and summary.md
(mean with its interval, standard deviation, range) to --output. Started again, it runs only the seeds that are missing.
"""

import os

from absl import app, flags

from cnn.commands import flags as shared
from cnn.commands import program
from experiments.summaries import finished, run_main, summary, write

CONFIG = shared.define_config(None, "The run: a name of configs/, or a config file.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds: 0, 1, ...", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "Folder of the table; by default WORKDIR/NAME_seeds.")
NOTE = flags.DEFINE_string("note", None, "A line for the summary, for example about the data.")
WORKDIR = shared.define_workdir("Folder of the runs, WORKDIR/NAME_seed0, ...; by default runs.")


def main() -> None:
    """Trains every seed and writes the summary."""
    if not CONFIG.given:
        raise app.UsageError("--config is missing: the run, --config=mnist")
    if "seed" in CONFIG.overrides:
        raise app.UsageError("--config.seed is set for each run: --seeds=3 runs 0, 1 and 2")
    name = os.path.splitext(os.path.basename(CONFIG.path))[0]
    changed = [f"--config.{field}={value}" for field, value in CONFIG.overrides.items()]
    folder = WORKDIR.value or "runs"
    runs = []
    for seed in range(SEEDS.value):
        workdir, config = os.path.join(folder, f"{name}_seed{seed}"), CONFIG.value.copy_and_resolve_references()
        config.seed = seed
        result = finished(config, workdir)
        if result is None:
            # Each run has a new process, because some of its settings must be made before JAX is used.
            run_main([f"--config={CONFIG.path}", f"--workdir={workdir}", f"--config.seed={seed}", *changed])
            result = finished(config, workdir)
        assert result is not None  # main.py ends with an error where it leaves none
        runs.append(result)
    output, text = OUTPUT.value or os.path.join(folder, f"{name}_seeds"), summary(name, runs, NOTE.value)
    write(output, runs, text)
    print(f"{text}\nwrote {output}")


if __name__ == "__main__":
    program.start(main, "--seeds=3", lambda: "stopped; the same command goes on where it was")
