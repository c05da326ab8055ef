"""The test protocol of the VGG paper as one grid: scales x (crops, dense runs, both) x flip x averaging.

Each cell of the grid is a row of the result: pictures resized to one test scale Q (the length of their shortest side),
or scores averaged over all scales; by one method, or by dense and multi-crop together; with or without mirror images.
`cnn.protocols.engine` says what is averaged, and how it is computed.

Source: Simonyan, Zisserman (2014), sections 3.2 and 4, tables 3 to 5.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnn.protocols import crops, labelled_images, methods
from cnn.protocols.engine import Combination, Outcome, classify
from cnn.protocols.labelled_images import Pictures
from cnn.protocols.measuring import Agreement
from cnn.protocols.methods import Method
from cnn.protocols.progress import Progress
from cnn.protocols.vgg_options import Options, checked
from cnn.runs.checkpoint import Run
from cnn.windows import Pair, as_pair

CENTRE, TEN, MULTI, DENSE = "centre crop", "ten crops", "multi-crop", "dense"
TOP = 5  # for the top-5 error, which is always 0 with five classes or fewer


class GridRow(NamedTuple):
    """One cell of the grid.

    Attributes:
      scales: shortest sides Q of the resized pictures, pixels; scores are averaged over them.
      method: name of the method or methods that score the windows at each scale.
      flip: whether scores of mirrored pictures are averaged in.
      averaging: "probabilities", "logits" or "max" (see `cnn.dense.average`).
      context: what a window sees beyond its own border: "crop", "image", "both" (the net has no padding, so that these
        are the same), or "crop+image" for dense and multi-crop of a padded net together.
      top1, top1_low, top1_high: fraction of the pictures whose largest score is not the label's, and its 95 % interval.
      top5, top5_low, top5_high: fraction of the pictures whose label is not among the five largest scores, and its
        95 % interval; None with five classes or fewer, where it is 0.
      images_per_second: speed of compiled code from resized uint8 pixels to scores, without decoding, resizing and
        averaging.
      multiply_adds: multiply-adds for one picture, mean over pictures.
      windows: number of scores that are averaged for one picture, mean over pictures.
      predicted_saving: multiply-adds of the same windows cut out one by one, divided by `multiply_adds`.
      measured_saving: time for the same windows cut out one by one, divided by the time of this row.
      examples: number of pictures that were classified.
    """

    scales: tuple[int, ...]
    method: str
    flip: bool
    averaging: str
    context: str
    top1: float
    top1_low: float
    top1_high: float
    top5: float | None
    top5_low: float | None
    top5_high: float | None
    images_per_second: float
    multiply_adds: float
    windows: float
    predicted_saving: float
    measured_saving: float
    examples: int


class GridResult(NamedTuple):
    """What `evaluate_grid` returns.

    Attributes:
      rows: the rows of the grid, scale by scale, those of all scales together last.
      correct: for each row, which pictures are classified correctly, bool [N].
      agreement: difference between the dense maps at the native stride and the same windows as crops, over the timed
        pictures.
      sizes: number of different sizes of the pictures.
      canvases: number of different canvas sizes that the dense run is compiled for, over all scales.
      enlarged: for each scale, the number of pictures that were enlarged to it.
      unseen: for each scale, the largest number of pixels (vertical, horizontal) beyond the last window of the dense
        run at the native stride.
      timing_images: number of pictures in the one batch that was timed.
      timing_sizes: (height, width) of the canvas of the timed pictures at each scale, pixels.
    """

    rows: list[GridRow]
    correct: list[np.ndarray]
    agreement: Agreement
    sizes: int
    canvases: int
    enlarged: tuple[int, ...]
    unseen: tuple[Pair, ...]
    timing_images: int
    timing_sizes: tuple[Pair, ...]


def evaluate_grid(run: Run, tested: Pictures, options: Options, progress: Progress | None = None) -> GridResult:
    """Classifies pictures by every cell of the grid, and measures the cost of each.

    The methods, at each scale and averaged over all scales, are: the centre crop; ten crops; a regular grid of crops;
    dense runs at the native stride and at the other strides of `options`; and the dense run at the native stride
    together with the regular crops.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`); its image shape is the window.
      tested: the labelled pictures.
      options: scales, methods and averagings of the grid.
      progress: reports the stages of the work; None: nothing is printed.

    Returns:
      A `GridResult`.

    Raises:
      ValueError: if an option does not fit; names its flag, the numbers and a value that fits.
      GeometryError: if a layer of the net cannot slide.
    """
    options = checked(run, options)
    canvases = _canvases(run, tested, options)
    ways, native = _methods(run, options)
    found = classify(
        run,
        tested,
        _combinations(options, ways, native),
        compared=native,
        batch_size=options.batch_size,
        timing_images=options.timing_images,
        progress=progress,
    )
    classes = methods.prepared(run).table[-1].output_shape[-1]
    return GridResult(
        [_row(outcome, classes) for outcome in found.outcomes],
        [outcome.ranks == 0 for outcome in found.outcomes],
        found.agreement,
        len(set(tested.sizes)),
        canvases,
        tuple(sum(min(size) < scale for size in tested.sizes) for scale in options.scales),
        tuple(_unseen(run, tested, scale) for scale in options.scales),
        found.timing_images,
        found.timing_sizes,
    )


def _canvases(run: Run, tested: Pictures, options: Options) -> int:
    """Number of canvas sizes of the dense run; raises `ValueError` if a padded net would be compiled for too many."""
    padded = methods.prepared(run).padded
    groups = labelled_images.groups(tested.sizes, options.scales, exact=padded)
    count = len({canvas for group in groups for canvas in group.canvases})
    if padded and count > options.max_sizes:
        raise ValueError(
            f"--max_sizes={options.max_sizes}: the net is padded, so its dense run is compiled for each size, and the "
            f"pictures have {count} sizes at --scales={','.join(map(str, options.scales))}; "
            f"--max_sizes={count} would do, at some seconds each, or fewer --images"
        )
    return count


def _methods(run: Run, options: Options) -> tuple[list[Method], Method]:
    """All methods, and the one that is the dense run at the native stride, whose name is exactly `DENSE`."""
    window = run.image_shape[:2]
    stride = methods.prepared(run).native_stride
    native = methods.dense_run(run, stride, name=DENSE, as_crops=methods.all_crops(run, stride))
    regular = functools.partial(crops.regular_places, window=window, count=options.multicrop)
    found = [
        methods.cropping(run, CENTRE, functools.partial(crops.centre_place, window=window)),
        methods.cropping(run, TEN, functools.partial(crops.ten_places, window=window), has_mirrored=True),
        methods.cropping(run, MULTI, regular),
        native,
    ]
    for value in (as_pair(asked, "stride", "protocol") for asked in options.strides):
        if value != stride:
            found.append(methods.dense_run(run, value, as_crops=methods.all_crops(run, value)))
    return found, native


def _combinations(options: Options, ways: Sequence[Method], native: Method) -> list[Combination]:
    """The cells of the grid, in the order of its rows."""
    multi = next(method for method in ways if method.name == MULTI)
    spans = [(scale,) for scale in options.scales] + ([options.scales] if len(options.scales) > 1 else [])
    cells = []
    for span, looked_at in itertools.product(spans, [*((method,) for method in ways), (native, multi)]):
        # The ten crops include their mirror images: they have one row, with flip set.
        flips = (True,) if looked_at[0].has_mirrored else (False, True) if options.flip else (False,)
        cells += [Combination(span, looked_at, *rest) for rest in itertools.product(flips, options.averages)]
    return cells


def _row(outcome: Outcome, classes: int) -> GridRow:
    """The row of the grid for one outcome."""
    combination, cost = outcome.combination, outcome.cost
    return GridRow(
        combination.scales,
        combination.name,
        combination.flip,
        combination.averaging,
        combination.context,
        *outcome.fraction(outcome.ranks >= 1),
        *(outcome.fraction(outcome.ranks >= TOP) if classes > TOP else (None, None, None)),
        1 / cost.seconds,
        cost.multiply_adds,
        cost.windows,
        cost.crop_multiply_adds / cost.multiply_adds,
        cost.crop_seconds / cost.seconds,
        len(outcome.ranks),
    )


def _unseen(run: Run, tested: Pictures, scale: int) -> Pair:
    """The largest number of pixels beyond the last window of the dense run at the native stride, along each axis."""
    window, stride = run.image_shape[:2], methods.prepared(run).native_stride
    scaled = {crops.scaled_size(size, scale) for size in set(tested.sizes)}
    down, right = (max((size[axis] - window[axis]) % stride[axis] for size in scaled) for axis in (0, 1))
    return down, right
