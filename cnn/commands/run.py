"""Trains, evaluates, uses, imports or exports a net: `python main.py` in a checkout, and `python -m cnn` anywhere."""

import json
import os
import sys
from typing import Any

from absl import app, flags

from cnn.commands import exchanging, program
from cnn.commands import flags as shared
from cnn.runs import standing

CONFIG = shared.define_config("digits", "The run: a name of configs/, or a config file.")
WORKDIR = shared.define_workdir("Directory of the run; by default runs/ and the name of the config.")
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "evaluate", "predict", "import", "export"], "What to do with the run."
)
IMAGES = flags.DEFINE_multi_string(
    "images",
    [],
    'With --mode=predict: files, folders and patterns such as "scans/*.png", separated by commas; also without '
    "--images, one after another.",
)
TOP = flags.DEFINE_integer("top", 3, "With --mode=predict: classes that are shown for each picture.", lower_bound=1)
OUTPUT = shared.define_path("output", None, "With --mode=predict: a .csv or .json file for the predictions.")
LONGER = flags.DEFINE_bool(
    "longer",
    False,
    "Train the run in --workdir, finished or not, for more steps than it was begun for. Its config may differ in "
    "train.steps, train.epochs and the fields of the schedule, as long as the steps done keep their learning rates.",
)
CHECKPOINT = shared.define_checkpoint()
NET = shared.define_net()
CPU_DEVICES = shared.define_cpu_devices(
    1, "On a CPU: number of devices that batches are split over; 0: one for each core, if the batch divides."
)
PROCESSES = shared.define_processes()
OPS = shared.define_ops()
COMPILATION_CACHE = shared.define_compilation_cache()
DATA_CACHE = shared.define_data_cache()


def main() -> None:
    """Does what the flags say."""
    if MODE.value == "predict" and not _names():
        raise app.UsageError("--mode=predict needs --images=a.png,b.png")
    if MODE.value != "predict" and (IMAGES.value or OUTPUT.value is not None):
        raise app.UsageError("--images and --output are for --mode=predict")
    if MODE.value in ("train", "import") and flags.FLAGS["checkpoint"].present:
        raise app.UsageError("--checkpoint is for --mode=evaluate, --mode=predict and --mode=export")
    if MODE.value != "train" and LONGER.value:
        raise app.UsageError("--longer is for --mode=train")
    exchanging.check(MODE.value)
    if MODE.value in ("import", "export") and not WORKDIR.value:
        raise app.UsageError(f"--mode={MODE.value} needs --workdir=DIR, the directory of the run")

    # Imported here so that --help and mistakes in flags answer at once.
    from cnn import ops
    from cnn.data import decoded
    from cnn.runs import logs, overrides
    from cnn.runtime import compiler, process, processes

    if MODE.value not in ("train", "evaluate") and any(flag.value not in (None, "") for flag in PROCESSES):
        raise app.UsageError("--coordinator is for --mode=train and --mode=evaluate")
    process.keep_memory()
    compiler.cache_compilations(COMPILATION_CACHE.value)
    decoded.use(DATA_CACHE.value)
    process.use_cpu_devices(CPU_DEVICES.value, CONFIG.value.train.batch_size)
    processes.start(*(flag.value for flag in PROCESSES))
    print(f"device: {logs.environment(together=True)['device']}; workdir: {workdir()}", flush=True)
    if MODE.value == "train":
        from cnn.train import train_and_evaluate

        if OPS.value:
            CONFIG.value.train.ops = OPS.value
        train_and_evaluate(CONFIG.value, workdir(), longer=LONGER.value)
        return
    if MODE.value == "import":
        exchanging.import_net(CONFIG.overrides, workdir())
        return
    if OUTPUT.value is not None:
        from cnn.training import predict

        predict.check_output(OUTPUT.value)  # before any work
    run = overrides.load_for_use(workdir(), CONFIG.overrides, NET.value, CHECKPOINT.value)
    if CHECKPOINT.value == "best":
        print(f"the best checkpoint by validation: step {run.step:,}", flush=True)
    with ops.use(OPS.value or run.config.train.get("ops", "fast")):
        use(run)


def use(run: Any) -> None:
    """Evaluates a run, predicts with it, or exports it.

    Args:
      run: the trained net (`cnn.runs.checkpoint.load_run`).
    """
    if MODE.value == "evaluate":
        from cnn.runs import logs
        from cnn.training.evaluate import evaluate_run

        print(json.dumps(logs.finite(evaluate_run(run)), indent=2))
    elif MODE.value == "export":
        exchanging.export_net(run)
    else:
        _predict(run)


def _predict(run: Any) -> None:
    """Prints the classes of pictures and, to stderr, what is to be known of them."""
    from cnn.training import predict

    predictions, unread = predict.predict_readable(run, predict.find_pictures(_names()))
    for prediction in predictions:
        shown = (f"{name} ({probability:.1%})" for name, probability in prediction.top(TOP.value))
        print(f"{prediction.path}: {', '.join(shown)}")
    if OUTPUT.value:
        predict.write_predictions(OUTPUT.value, predictions, TOP.value)
    warning = predict.polarity_warning(run, predictions)
    print(*filter(None, [warning, predict.how_pictures_are_seen(run)]), sep="\n", file=sys.stderr)
    if unread:
        lines = (f"error: {error}" for error in unread)
        print(
            *lines,
            f"{len(unread)} of {len(unread) + len(predictions)} pictures have no prediction",
            sep="\n",
            file=sys.stderr,
        )
        sys.exit(1)


NAMED: list[str] = []  # what stands on the command line beside flags


def _names() -> list[str]:
    """What names pictures on the command line, with --images and without."""
    return [*IMAGES.value, *NAMED]


def _take(names: list[str]) -> None:
    """Takes what stands beside flags: names of pictures, and nothing else."""
    if MODE.value != "predict":
        raise app.UsageError(f"unknown argument {names[0]!r}; flags look like --workdir=DIR")
    NAMED[:] = names


def workdir() -> str:
    """Directory of the run."""
    name = os.path.splitext(os.path.basename(CONFIG.path))[0] or "default"
    return WORKDIR.value or os.path.join("runs", name)


def stopped() -> str:
    """The line after a stop: where the run stands, and how it goes on."""
    return standing.line(workdir()) if MODE.value == "train" else "stopped; the same command starts it again"


def start() -> None:
    """The command."""
    program.start(main, "--workdir=DIR", stopped, _take)
