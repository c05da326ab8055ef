"""The flags that the four kinds of dense evaluation share."""

from absl import flags

from cnn.commands import flags as common

WORKDIR = common.define_workdir("Directory of a trained run (main.py --workdir).")
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Directory to write to; default: dense_eval, or grid, in the workdir. For --image also a .zarr or .npy.",
)
PROTOCOL = flags.DEFINE_enum("protocol", "scenes", ["scenes", "grid"], "Larger scenes, or whole pictures at scales.")
IMAGE = flags.DEFINE_string(
    "image", None, "A picture of your own, at least as large as the net's window; of any size if --output is a map."
)
SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "The split that scenes or pictures come from.")
STRIDE = flags.DEFINE_multi_integer(
    "stride",
    None,
    "Stride of the dense run, pixels; may be given several times but for --image. Default: the net's native stride, "
    "for scenes also 1.",
    lower_bound=1,
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 50, "Images in one call to the device.", lower_bound=1)
TIMING_IMAGES = flags.DEFINE_integer("timing_images", 50, "Images in the batch that is timed.", lower_bound=1)
NET = common.define_net()
COMPILATION_CACHE = common.define_compilation_cache()


def given(holders: tuple[flags.FlagHolder, ...]) -> list[str]:
    """Selects the flags that the command line sets.

    Args:
      holders: the flags.

    Returns:
      Their names with dashes, in order.
    """
    return [f"--{holder.name}" for holder in holders if flags.FLAGS[holder.name].present]
