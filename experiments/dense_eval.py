"""Dense evaluation of a trained net: `python -m experiments.dense_eval --workdir=DIR`.

Builds larger scenes from a split, compares crops with the dense run on them, and writes table.md, result.json and
pictures to DIR/dense_eval. With `--protocol=grid` it tests the net on whole pictures instead, at several scales, by
crops, densely and both, as the VGG paper does, and writes table.md and result.json to DIR/grid. With `--image=FILE` it
runs the net densely over your own picture; with `--image=huge.zarr --output=map.zarr --stride=4 --memory=2GB` over one
of any size (.zarr, .npy, .tif, .png, .jpg, ...), tile by tile, and goes on where it was stopped.
"""

import os
import sys
from typing import Any

from absl import app, flags, logging

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a trained run (main.py --workdir).")
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Directory to write to; default: dense_eval, or grid, in the workdir. For --image also a .zarr or .npy.",
)
PROTOCOL = flags.DEFINE_enum("protocol", "scenes", ["scenes", "grid"], "Larger scenes, or whole pictures at scales.")
SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "What the scenes are made of, or the pictures.")
STRIDE = flags.DEFINE_multi_integer(
    "stride",
    None,
    "Of the dense run, pixels; may be given several times but for --image. Default: the net's own, for scenes also 1.",
    lower_bound=1,
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 50, "Images in one call to the device.", lower_bound=1)
TIMING_IMAGES = flags.DEFINE_integer("timing_images", 50, "Images in the batch that is timed.", lower_bound=1)

SCENES = flags.DEFINE_integer("scenes", 1000, "Scenes: how many.", lower_bound=1)
SIZE = flags.DEFINE_integer(
    "size", None, "Scenes: height and width, pixels; default: 2.5 times the window, 80 for 32.", lower_bound=1
)
SEED = flags.DEFINE_integer("seed", 0, "Scenes: what they are drawn by.", lower_bound=0, upper_bound=2**32 - 1)

DATA = flags.DEFINE_string(
    "data", None, "Grid: a data set or a folder <class>/*.jpg; default: what the run was trained on."
)
IMAGES = flags.DEFINE_integer("images", None, "Grid: most pictures to test on, spread over all.", lower_bound=1)
SCALES = flags.DEFINE_list(
    "scales", [], "Grid: shortest sides Q, pixels; default: the VGG paper's, in proportion to the window."
)
FLIP = flags.DEFINE_bool("flip", False, "Grid: add rows that average over mirrored pictures too.")
MULTICROP = flags.DEFINE_integer("multicrop", 5, "Grid: regular crops along each axis.", lower_bound=1)
AVERAGING = flags.DEFINE_list("averaging", ["probabilities"], "Grid: any of probabilities, logits, max.")
MAX_SIZES = flags.DEFINE_integer("max_sizes", 100, "Grid: most sizes that a padded net is compiled for.", lower_bound=1)

IMAGE = flags.DEFINE_string(
    "image", None, "A picture of your own, at least as large as the net's window; of any size if --output is a map."
)
MEMORY = flags.DEFINE_string("memory", "2GB", "Image to map: what tiles and parameters may take.")
CONTEXT = flags.DEFINE_enum("context", None, ["crop", "image"], "Image to map: what padding a window sees.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Image to map: begin anew, whatever the map holds.")

COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache", "auto", "Folder for compiled programs; auto: in the user's cache directory; empty: none."
)

ONLY = {
    "scenes": (SCENES, SIZE, SEED),
    "grid": (DATA, IMAGES, SCALES, FLIP, MULTICROP, AVERAGING, MAX_SIZES),
}
FOR_MAPS = (MEMORY, CONTEXT, OVERWRITE)
MAPS = (".zarr", ".npy")


def main(argv: list[str]) -> None:
    """Loads the run and evaluates it on scenes, on pictures, or on one picture."""
    _check_flags(argv)
    logging.set_verbosity(logging.get_verbosity() if flags.FLAGS["verbosity"].present else logging.WARNING)

    # Imported here so that --help and mistakes in flags answer at once.
    from cnn.reports import image_report, scenes_report
    from cnn.runs import checkpoint
    from cnn.runtime import compiler, process

    workdir = str(WORKDIR.value)
    output = OUTPUT.value or os.path.join(workdir, "grid" if PROTOCOL.value == "grid" else "dense_eval")
    compiler.cache_compilations(COMPILATION_CACHE.value)
    streams = bool(IMAGE.value) and output.endswith(MAPS)
    if not streams:  # a stream has a limit to keep; with memory kept one held 3.2 GB where 2 were asked for
        process.keep_memory()
    try:
        run = checkpoint.load_run(workdir)
        if IMAGE.value:
            stride = STRIDE.value[0] if STRIDE.value else None
            if streams:
                memory, more = image_report.parse_bytes(MEMORY.value), {"overwrite": OVERWRITE.value}
                image_report.run_stream(run, IMAGE.value, output, memory, stride=stride, context=CONTEXT.value, **more)
            else:
                image_report.run_image(run, IMAGE.value, output, stride=stride)
            return
        if PROTOCOL.value == "grid":
            _grid(run, output)
        else:
            scenes_report.run_scenes(
                run,
                scenes_report.load_split(run, SPLIT.value),
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
    except (OSError, ValueError, MemoryError) as error:  # DataError and GeometryError are ValueErrors
        # What a user can mend is said in one line; anything else keeps its traceback. -v=1 shows both.
        logging.vlog(1, "%s", error, exc_info=True)
        sys.exit(f"error: {error}")


def _check_flags(argv: list[str]) -> None:
    """Raises for flags that are missing, or do not go together."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; flags look like --workdir=DIR")
    if not WORKDIR.value:
        raise app.UsageError("--workdir=DIR is missing: the directory of a run trained by main.py --workdir=DIR")
    if IMAGE.value and len(STRIDE.value or []) > 1:
        raise app.UsageError(f"--image takes one --stride, got {STRIDE.value}")
    given = [f"--{flag.name}" for flag in FOR_MAPS if flags.FLAGS[flag.name].present]
    if given and not (IMAGE.value and (OUTPUT.value or "").endswith(MAPS)):
        raise app.UsageError(f"{', '.join(given)} is for --image=FILE --output=MAP, MAP a .zarr or .npy")
    for protocol, only in ONLY.items():
        given = [f"--{flag.name}" for flag in only if flags.FLAGS[flag.name].present]
        if given and IMAGE.value:
            raise app.UsageError(f"{', '.join(given)} is for --protocol={protocol}, not for --image; leave one out")
        if given and PROTOCOL.value != protocol:
            raise app.UsageError(f"{', '.join(given)} is for --protocol={protocol}; add that, or leave the flag out")
    if not all(scale.isdecimal() for scale in SCALES.value):
        raise app.UsageError(f"--scales={','.join(SCALES.value)} must be whole numbers of pixels, such as 256,384,512")


def _grid(run: Any, output: str) -> None:
    """Runs the grid as the flags say."""
    from cnn.protocols import labelled_images, vgg_options
    from cnn.reports import vgg_report

    options = vgg_options.Options(
        scales=tuple(map(int, SCALES.value)),
        flip=FLIP.value,
        multicrop=MULTICROP.value,
        strides=tuple(STRIDE.value or ()),
        averages=tuple(AVERAGING.value),
        batch_size=BATCH_SIZE.value,
        timing_images=TIMING_IMAGES.value,
        max_sizes=MAX_SIZES.value,
    )
    vgg_report.run_grid(run, labelled_images.load(run, DATA.value, SPLIT.value), output, options, limit=IMAGES.value)


if __name__ == "__main__":
    app.run(main)
