"""Dense evaluation of a trained net: `python -m experiments.dense_eval --workdir=DIR`.

Builds larger scenes from a split, compares crops with the dense run on them, and writes table.md, result.json and
pictures to DIR/dense_eval. With `--image=FILE` it runs the net densely over your own picture instead.
"""

import os
import sys

from absl import app, flags, logging

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a trained run (main.py --workdir).")
OUTPUT = flags.DEFINE_string("output", None, "Where to write; default: dense_eval in the workdir.")
SCENES = flags.DEFINE_integer("scenes", 1000, "Number of scenes.", lower_bound=1)
SIZE = flags.DEFINE_integer(
    "size", None, "Height and width of a scene, pixels; default: 2.5 times the window, 80 for 32.", lower_bound=1
)
SEED = flags.DEFINE_integer("seed", 0, "Of the scenes.", lower_bound=0, upper_bound=2**32 - 1)
SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "What the scenes are made of.")
STRIDE = flags.DEFINE_multi_integer(
    "stride",
    None,
    "Of the dense run, pixels; for scenes it may be given several times. Default: the net's own, for scenes also 1.",
    lower_bound=1,
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 50, "Scenes in one call to the device.", lower_bound=1)
TIMING_IMAGES = flags.DEFINE_integer("timing_images", 50, "Scenes in the batch that is timed.", lower_bound=1)
IMAGE = flags.DEFINE_string("image", None, "A picture of your own, at least as large as the net's window.")


def main(argv: list[str]) -> None:
    """Loads the run and evaluates it on scenes, or on one picture."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; flags look like --workdir=DIR")
    if not WORKDIR.value:
        raise app.UsageError("--workdir=DIR is missing: the directory of a run trained by main.py --workdir=DIR")
    if IMAGE.value and len(STRIDE.value or []) > 1:
        raise app.UsageError(f"--image takes one --stride, got {STRIDE.value}")
    logging.set_verbosity(logging.get_verbosity() if flags.FLAGS["verbosity"].present else logging.WARNING)
    output = OUTPUT.value or os.path.join(WORKDIR.value, "dense_eval")

    # Imported here so that --help and mistakes in flags answer at once.
    from cnn import checkpoint, dense_report

    try:
        run = checkpoint.load_run(WORKDIR.value)
        if IMAGE.value:
            dense_report.run_image(run, IMAGE.value, output, stride=STRIDE.value[0] if STRIDE.value else None)
            return
        dense_report.run_scenes(
            run,
            dense_report.load_split(run, SPLIT.value),
            output,
            scenes=SCENES.value,
            size=SIZE.value or round(2.5 * max(run.image_shape[:2])),
            seed=SEED.value,
            strides=STRIDE.value,
            batch_size=BATCH_SIZE.value,
            timing_images=TIMING_IMAGES.value,
            split_name=SPLIT.value,
        )
        print(f"wrote {output}", flush=True)
    except (OSError, ValueError) as error:  # DataError and GeometryError are ValueErrors
        # What a user can mend is said in one line; anything else keeps its traceback. -v=1 shows both.
        logging.vlog(1, "%s", error, exc_info=True)
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
