"""Options of the VGG protocol's grid, their defaults, and a check whether they fit a net."""

from typing import NamedTuple

from cnn.protocols import methods
from cnn.runs.checkpoint import Run
from cnn.windows import shape_text

PAPER_SCALES, PAPER_WINDOW = (256, 384, 512), 224  # Simonyan, Zisserman (2014), table 4


class Options(NamedTuple):
    """Options of the grid.

    Attributes:
      scales: test scales, which are the shortest sides Q of the resized pictures, pixels, ascending; () for those of
        `default_scales`.
      flip: whether to have rows with mirrored pictures beside those without.
      multicrop: number of places along each axis of the regular crops.
      strides: strides of further dense runs, pixels; the native stride is always among them.
      averages: ways to average scores, any of `cnn.protocols.methods.AVERAGES`.
      batch_size: number of pictures in one call to the device; changes time and memory, not the result.
      timing_images: number of pictures in the one batch that is timed, at most as many as the largest group has.
      max_sizes: the largest number of sizes, over all scales, that a padded net's dense run may be compiled for.
    """

    scales: tuple[int, ...] = ()
    flip: bool = False
    multicrop: int = 5
    strides: tuple[int, ...] = ()
    averages: tuple[str, ...] = ("probabilities",)
    batch_size: int = 50
    timing_images: int = 50
    max_sizes: int = 100


def default_scales(run: Run) -> tuple[int, ...]:
    """The paper's scales 256, 384 and 512 for a window of 224, in proportion to a net's window and native stride.

    Args:
      run: a trained net.

    Returns:
      Scales, pixels: the window plus the multiples of the native stride that are nearest to the paper's proportions. At
      these scales the windows of a dense run reach the last pixel of a square picture. For VGG nets they are the
      paper's.
    """
    window, stride = max(run.image_shape[:2]), max(methods.prepared(run).native_stride)
    steps = [(scale / PAPER_WINDOW - 1) * window / stride for scale in PAPER_SCALES]
    return tuple(dict.fromkeys(window + max(1, round(step)) * stride for step in steps))


def checked(run: Run, options: Options) -> Options:
    """Checks options, and fills in default scales.

    Args:
      run: a trained net.
      options: the options to check.

    Returns:
      The options, with scales in ascending order.

    Raises:
      ValueError: if an option does not fit; names the flag of `experiments.dense_eval`, the numbers and what fits.
    """
    window = run.image_shape[:2]
    scales = tuple(sorted(options.scales or default_scales(run)))
    if min(scales) < max(window):
        raise ValueError(
            f"--scales={','.join(map(str, scales))}: a shortest side of {min(scales)} pixels is below the net's window "
            f"{shape_text(window)}; scales from {max(window)} on would do, such as "
            f"--scales={','.join(map(str, default_scales(run)))}"
        )
    for flag, values in (("scales", scales), ("averaging", options.averages), ("stride", options.strides)):
        doubles = sorted({str(value) for value in values if values.count(value) > 1})
        if doubles:
            raise ValueError(f"--{flag}: {', '.join(doubles)} is given more than once")
    unknown = [over for over in options.averages if over not in methods.AVERAGES]
    if unknown or not options.averages:
        raise ValueError(f"--averaging={','.join(options.averages)}: any of {', '.join(methods.AVERAGES)} would do")
    for flag in ("multicrop", "batch_size", "timing_images", "max_sizes"):
        if getattr(options, flag) < 1:
            raise ValueError(f"--{flag}={getattr(options, flag)} must be at least 1")
    return options._replace(scales=scales)
