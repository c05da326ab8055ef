"""Options of the VGG protocol's grid, and whether they fit a net."""

from typing import NamedTuple

from cnn.protocols import methods
from cnn.runs.checkpoint import Run
from cnn.windows import shape_text

PAPER_SCALES, PAPER_WINDOW = (256, 384, 512), 224  # Simonyan, Zisserman (2014), table 4


class Options(NamedTuple):
    """Options of the grid.

    Attributes:
      scales: shortest sides Q to test at, pixels, ascending; () for the paper's, carried over (`default_scales`).
      flip: whether to have each row without and with mirrored pictures.
      multicrop: number of places along each axis of the regular crops.
      strides: strides of further dense runs, pixels; the native stride is always among them.
      averages: ways to average scores, any of `cnn.protocols.methods.AVERAGES`.
      batch_size: pictures in one call to the device; changes time and memory, not the result.
      timing_images: number of pictures timed, as one batch; at most those of the largest group are.
      max_sizes: the largest number of sizes, over all scales, that a padded net's dense run is compiled for.
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
    """The paper's 256, 384 and 512 for a window of 224, carried over to a net's window and stride.

    Args:
      run: a trained net.

    Returns:
      Scales, pixels: the window plus the multiples of the native stride nearest to the paper's proportions. At these
      scales the windows of a dense run reach the last pixel; for VGG nets they are the paper's own.
    """
    window, stride = max(run.image_shape[:2]), max(methods.prepared(run).native_stride)
    steps = [(scale / PAPER_WINDOW - 1) * window / stride for scale in PAPER_SCALES]
    return tuple(dict.fromkeys(window + max(1, round(step)) * stride for step in steps))


def checked(run: Run, options: Options) -> Options:
    """Checks options, and fills in the scales.

    Args:
      run: a trained net.
      options: options of the grid.

    Returns:
      The options, scales ascending.

    Raises:
      ValueError: naming the flag of `experiments.dense_eval`, the numbers and what would do.
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
