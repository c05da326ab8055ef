"""Ablation studies: `python -m experiments.ablate --study=NAME [--seeds=6] [--workdir=DIR] [--config.FIELD=VALUE ...]`.

`--list` shows every study with its question, its cells and the minutes that it is predicted to take. A study trains
each of its cells with several seeds, compares them with the baseline, paired by seed, and writes report.md,
report.html, results.jsonl and pictures to its directory. Started again in this directory, it runs only what is missing.
`--study=my_study.py` executes a file of your own that sets STUDY, and runs this study. `--config=NAME` starts from
another base config, `--config.FIELD=VALUE` changes a field in all cells, `--executor=ray` runs cells on a cluster, and
`--coordinator=HOST:PORT --num_processes=N --process_id=I` spreads them over processes that share the directory.
"""

import cnn.commands  # noqa: F401  first: from here on a signal ends the command in one line

# isort: split
import os

from absl import app, flags

from cnn.commands import flags as shared
from cnn.commands import program

STUDY = flags.DEFINE_string("study", None, "Name of the study, --list shows all; or a file of your own, my_study.py.")
LIST = flags.DEFINE_bool("list", False, "Show all studies and exit.")
SEEDS = flags.DEFINE_integer("seeds", 0, "Seeds 0, 1, ... of every cell; 0: as many as the study asks for.", 0, 10_000)
WORKDIR = shared.define_workdir("Directory of the study; by default runs/ablation/ and its name.")
CONFIG = shared.define_config("ablation", "Base config of all cells; by default that of the study.")
CPU_DEVICES = shared.define_cpu_devices(0, "On a CPU: number of devices, one seed on each; 0: one for each core.")
COMPILATION_CACHE = shared.define_compilation_cache()
PROCESSES = shared.define_processes()
EXECUTOR = flags.DEFINE_enum("executor", "local", ["local", "ray"], "Where cells run.")
RAY_ADDRESS = flags.DEFINE_string("ray_address", "", "Address of a running Ray cluster; empty: a new local one.")
RAY_CPUS = flags.DEFINE_float("ray_cpus", 1, "CPUs of the cluster for each cell.", 0, 10_000)
RAY_GPUS = flags.DEFINE_float("ray_gpus", 0, "GPUs of the cluster for each cell.", 0, 10_000)


def main() -> None:
    """Runs the study that the flags name."""
    if not LIST.value and not STUDY.value:
        raise app.UsageError("--study is missing: give --study=NAME, --study=my_study.py, or --list")

    # Imported here so that --help and errors in flags respond at once.
    from cnn.runtime import compiler, process, processes
    from experiments.ablation import runner
    from experiments.ablation import study as study_lib

    process.keep_memory()
    compiler.cache_compilations(COMPILATION_CACHE.value)
    process.use_cpu_devices(CPU_DEVICES.value or process.cores(), 1)
    if PROCESSES[0].value and (LIST.value or EXECUTOR.value != "local"):
        raise app.UsageError("--coordinator is for --executor=local: Ray has processes of its own")
    processes.start(*(flag.value for flag in PROCESSES))
    if LIST.value:
        print(runner.listing())
        return
    options = {}
    if EXECUTOR.value == "ray":
        options = {"address": RAY_ADDRESS.value, "cpus": RAY_CPUS.value, "gpus": RAY_GPUS.value}
        options["cpu_devices"] = CPU_DEVICES.value or max(1, int(RAY_CPUS.value))
    study = str(STUDY.value)
    runner.run_study(
        study,
        WORKDIR.value or os.path.join("runs", "ablation", study_lib.stem(study)),
        seeds=SEEDS.value or None,
        base=CONFIG.path if CONFIG.given else None,
        overrides=CONFIG.overrides,
        executor=EXECUTOR.value,
        options=options,
    )


if __name__ == "__main__":
    program.start(main, "--study=pooling", lambda: "stopped; the same command goes on with the cells that are missing")
