"""Trains, evaluates or uses a net: what `python main.py` in a checkout and `python -m cnn` anywhere do."""

import json
import os
from typing import Any

from absl import app, flags

from cnn.commands import flags as shared
from cnn.commands import program

CONFIG = shared.define_config("digits", "The run: a name of configs/, or a config file.")
WORKDIR = shared.define_workdir("Directory of the run; by default runs/ and the name of the config.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "predict"], "What to do with the run.")
IMAGES = flags.DEFINE_list("images", [], "With --mode=predict: picture files, separated by commas.")
NET = shared.define_net()
CPU_DEVICES = shared.define_cpu_devices(
    1, "On a CPU: number of devices that batches are split over; 0: one for each core, if the batch divides."
)
OPS = shared.define_ops()
COMPILATION_CACHE = shared.define_compilation_cache()


def main() -> None:
    """Does what the flags say."""
    if MODE.value == "predict" and not IMAGES.value:
        raise app.UsageError("--mode=predict needs --images=a.png,b.png")

    # Imported here so that --help and mistakes in flags answer at once.
    from cnn import ops
    from cnn.runs import checkpoint, logs
    from cnn.runtime import compiler, process

    process.keep_memory()
    compiler.cache_compilations(COMPILATION_CACHE.value)
    process.use_cpu_devices(CPU_DEVICES.value, CONFIG.value.train.batch_size)
    print(f"device: {logs.environment()['device']}; workdir: {workdir()}", flush=True)
    if MODE.value == "train":
        from cnn.train import train_and_evaluate

        if OPS.value:
            CONFIG.value.train.ops = OPS.value
        train_and_evaluate(CONFIG.value, workdir())
        return
    # A file of the user's own that was moved since it was trained with is named anew.
    moved = {"net": NET.value or CONFIG.overrides.get("net.name"), "data": CONFIG.overrides.get("data.name")}
    run = checkpoint.load_run(workdir(), **moved)
    with ops.use(OPS.value or run.config.train.get("ops", "fast")):
        use(run)


def use(run: Any) -> None:
    """Evaluates a run, or predicts with it."""
    if MODE.value == "evaluate":
        from cnn.training.evaluate import evaluate_run

        print(json.dumps(evaluate_run(run), indent=2))
    else:
        from cnn.training.predict import predict

        for prediction in predict(run, IMAGES.value):
            print(f"{prediction.path}: {prediction.class_name} ({prediction.probability:.1%})")


def workdir() -> str:
    """Directory of the run."""
    name = os.path.splitext(os.path.basename(CONFIG.path))[0] or "default"
    return WORKDIR.value or os.path.join("runs", name)


def stopped() -> str:
    """The line after Ctrl-C: where the run stands, and how it goes on."""
    if MODE.value != "train":
        return "stopped"
    from cnn.runs import checkpoint, logs

    saved, lines = checkpoint.latest_step(workdir()), logs.read_metrics(workdir())
    step = max((line["step"] for line in lines), default=0)
    if saved is None:
        return f"stopped at step {step:,}; there is no checkpoint yet, the same command starts from the beginning"
    return f"stopped at step {step:,}; the last checkpoint is {saved:,}; the same command goes on"


def start() -> None:
    """The command."""
    program.start(main, "--workdir=DIR", stopped)
