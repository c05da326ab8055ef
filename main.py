"""Trains, evaluates or uses a net: `python main.py --config=configs/NAME.py --workdir=DIR`. The logic is in `cnn`."""

import json
import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/digits.py", "The run, one of configs/; fields can be overridden: --config.seed=1"
)
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; default: runs/ and the name of the config.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "predict"], "What to do.")
IMAGES = flags.DEFINE_list("images", [], "With --mode=predict: pictures, separated by commas.")
CPU_DEVICES = flags.DEFINE_integer(
    "cpu_devices", 1, "On CPU: how many devices to split batches over; 0: one for each core, if the batch divides."
)
COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache", "auto", "Folder for compiled programs; auto: in the user's cache directory; empty: none."
)


def main(argv: list[str]) -> None:
    """Calls the library."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; flags look like --workdir=DIR")
    if MODE.value == "predict" and not IMAGES.value:
        raise app.UsageError("--mode=predict needs --images=a.png,b.png")
    name = os.path.splitext(os.path.basename(config_flags.get_config_filename(flags.FLAGS["config"])))[0]
    workdir = WORKDIR.value or os.path.join("runs", name)

    logging.set_verbosity(logging.get_verbosity() if flags.FLAGS["verbosity"].present else logging.WARNING)

    # Imported here so that --help and mistakes in flags answer at once.
    from cnn import data
    from cnn.runs import checkpoint, logs
    from cnn.runtime import compiler, process

    process.keep_memory()
    compiler.cache_compilations(COMPILATION_CACHE.value)
    process.use_cpu_devices(CPU_DEVICES.value, CONFIG.value.train.batch_size)
    print(f"device: {logs.environment()['device']}; workdir: {workdir}", flush=True)
    try:
        if MODE.value == "train":
            from cnn.train import train_and_evaluate

            train_and_evaluate(CONFIG.value, workdir)
        elif MODE.value == "evaluate":
            from cnn.training.evaluate import evaluate_run

            print(json.dumps(evaluate_run(checkpoint.load_run(workdir)), indent=2))
        else:
            from cnn.training.predict import predict

            for prediction in predict(checkpoint.load_run(workdir), IMAGES.value):
                print(f"{prediction.path}: {prediction.class_name} ({prediction.probability:.1%})")
    except (data.DataError, FileNotFoundError, FloatingPointError, ValueError) as error:
        # What a user can mend is said in one line; anything else keeps its traceback. -v=1 shows both.
        logging.vlog(1, "%s", error, exc_info=True)
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
