"""Ablation studies: `python -m experiments.ablate --study=NAME [--seeds=6] [--workdir=DIR] [--config.train.epochs=1]`.

`--list` shows every study with its question, its cells and the minutes that it is predicted to take. A study trains
each of its cells with several seeds, compares them with the baseline, paired by seed, and writes report.md,
report.html, results.jsonl and pictures to its directory. Started again there, it runs only what is missing.
`--config=FILE` starts from another base, `--config.FIELD=...` changes a field in all cells (of the net's options, those
that the base names), `--executor=ray` runs cells on a cluster.
"""

import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

STUDY = flags.DEFINE_string("study", None, "Name of the study; --list shows all.")
LIST = flags.DEFINE_bool("list", False, "Show all studies and end.")
SEEDS = flags.DEFINE_integer("seeds", 0, "Seeds 0, 1, ... of every cell; 0: as many as the study asks for.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the study; default: runs/ablation/ and its name.")
CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/ablation.py", "Base of all cells; default: the study's own. Fields can be overridden."
)
CPU_DEVICES = flags.DEFINE_integer("cpu_devices", 0, "On CPU: devices, one seed on each; 0: one for each core.")
COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache", "auto", "Folder for compiled programs; auto: in the user's cache directory; empty: none."
)
EXECUTOR = flags.DEFINE_enum("executor", "local", ["local", "ray"], "Where cells run.")
RAY_ADDRESS = flags.DEFINE_string("ray_address", "", "Of a running Ray cluster; empty: a new local one.")
RAY_CPUS = flags.DEFINE_float("ray_cpus", 1, "Of the cluster, for each cell.")
RAY_GPUS = flags.DEFINE_float("ray_gpus", 0, "Of the cluster, for each cell.")


def main(argv: list[str]) -> None:
    """Calls the library."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; flags look like --study=pooling")
    if not LIST.value and not STUDY.value:
        raise app.UsageError("give --study=NAME, or --list")
    logging.set_verbosity(logging.get_verbosity() if flags.FLAGS["verbosity"].present else logging.WARNING)

    # Imported here so that --help and mistakes in flags answer at once.
    from cnn import data
    from cnn.runtime import compiler, process
    from experiments.ablation import runner

    process.keep_memory()
    compiler.cache_compilations(COMPILATION_CACHE.value)
    process.use_cpu_devices(CPU_DEVICES.value or process.cores(), 1)
    study = STUDY.value or ""
    options = {}
    if EXECUTOR.value == "ray":
        options = {"address": RAY_ADDRESS.value, "cpus": RAY_CPUS.value, "gpus": RAY_GPUS.value}
        options["cpu_devices"] = CPU_DEVICES.value or max(1, int(RAY_CPUS.value))
    try:
        if LIST.value:
            print(runner.listing())
            return
        runner.run_study(
            study,
            WORKDIR.value or os.path.join("runs", "ablation", study),
            seeds=SEEDS.value or None,
            base=config_flags.get_config_filename(flags.FLAGS["config"]) if flags.FLAGS["config"].present else None,
            overrides=config_flags.get_override_values(flags.FLAGS["config"]),
            executor=EXECUTOR.value,
            options=options,
        )
    except (data.DataError, FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        # What a user can mend is said in one line; anything else keeps its traceback. -v=1 shows both.
        logging.vlog(1, "%s", error, exc_info=True)
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
