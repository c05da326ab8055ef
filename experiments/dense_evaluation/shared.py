"""The flags that the four kinds of dense evaluation share."""

import os
import re

from absl import app, flags

from cnn.commands import flags as common

WORKDIR = common.define_workdir("Directory of a trained run (main.py --workdir).")
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Directory to write to; default: dense_eval, for --images images, or grid, in the workdir, or with --weights in a "
    "folder of the net's name. For --image also the name of a map: .zarr, .ome.zarr, .npy or .tif.",
)
PROTOCOL = flags.DEFINE_enum("protocol", "scenes", ["scenes", "grid"], "Larger scenes, or whole pictures at scales.")
IMAGE = flags.DEFINE_string(
    "image", None, "An image of your own, of any size from that of the net's window on, in any format that is read."
)
IMAGES = flags.DEFINE_string(
    "images",
    None,
    "Several images of your own: a pattern ('slides/*.tif'), a list with commas between, or a folder. With "
    "--protocol=grid a number: most pictures to test on, spread over all.",
)
SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "The split that scenes or pictures come from.")
STRIDE = flags.DEFINE_multi_integer(
    "stride",
    None,
    "Stride of the dense run, pixels; may be given several times but for --image. Default: the net's native stride, "
    "for scenes also 1.",
    lower_bound=1,
)
SCALES = flags.DEFINE_list(
    "scales",
    [],
    "Shortest sides that pictures are resized to, pixels. Grid: default: the VGG paper's, in proportion to the window. "
    "--image: its classes are also averaged over these scales.",
)
COVER = flags.DEFINE_bool(
    "cover", False, "Image: more windows flush with the right and bottom border, where the stride leaves out pixels."
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 50, "Images in one call to the device.", lower_bound=1)
TIMING_IMAGES = flags.DEFINE_integer("timing_images", 50, "Images in the batch that is timed.", lower_bound=1)
OF_PICTURES = (SPLIT, BATCH_SIZE, TIMING_IMAGES)  # of a data set, whose scenes or grids are evaluated
CHECKPOINT = common.define_checkpoint()
NET = common.define_net()
COMPILATION_CACHE = common.define_compilation_cache()
PROCESSES = common.define_processes()


MAPS = (".zarr", ".npy", ".tif", ".tiff")  # suffixes of files that a map is written to; .ome.zarr ends in .zarr
KNOWN = ".zarr, .ome.zarr, .npy or .tif"
TABLES = (".csv", ".geojson")  # of detections
# Nobody means a name with a suffix like these as that of a directory: "map.png", "map.mha".
_SUFFIX = re.compile(r"\.([a-z]{2,7}|[a-z]+[0-9]|7z)$", re.IGNORECASE)


def path(holder: flags.FlagHolder) -> str:
    """A path that the command line names: `~` is the home directory, and a slash at the end counts for nothing.

    Args:
      holder: the flag.

    Returns:
      The path; "" if the flag is not set.
    """
    value = os.path.expanduser(holder.value or "")
    return value.rstrip(os.sep) or value


def is_map(name: str) -> bool:
    """Whether a name is that of a score map's file, by its suffix in upper or lower case."""
    return name.lower().endswith(MAPS)


def check_directory() -> None:
    """Raises `absl.app.UsageError` if --output is meant as a directory and cannot be one."""
    name = path(OUTPUT)
    if os.path.isdir(name):
        if any(os.path.exists(os.path.join(name, file)) for file in ("zarr.json", ".zarray", ".zgroup")):
            raise app.UsageError(f"--output={name} is a zarr, in which pictures have no place; name another directory")
    elif name.lower().endswith(TABLES):
        raise app.UsageError(
            f"--output={name}: detections are written with --image=FILE --detections={name}, beside the map of --output"
        )
    elif os.path.exists(name) or _SUFFIX.search(name):
        raise app.UsageError(
            f"--output={name}: pictures and a page are written to a directory, the score map of --image=FILE to a "
            f"{KNOWN}; name one of these"
        )


def given(holders: tuple[flags.FlagHolder, ...]) -> list[str]:
    """Selects the flags that the command line sets.

    Args:
      holders: the flags.

    Returns:
      Their names with dashes, in order.
    """
    return [f"--{holder.name}" for holder in holders if flags.FLAGS[holder.name].present]
