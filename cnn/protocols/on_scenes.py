"""Ways to classify an image larger than a net's window, side by side: crops, ten crops, all crops, dense runs.

All methods use the same images and the same net; they differ in the windows that they score, and in their cost.
`evaluate_scenes` gives the accuracy of each method with its confidence interval, its time and its multiply-adds, and
measures whether the dense map and the crops cut out one by one agree.

Source: Simonyan, Zisserman (2014), section 3.2 (dense and multi-crop); Krizhevsky et al. (2012), section 4.1 (ten
crops); Sermanet et al., "OverFeat" (2013), section 3.3 (finer stride).
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnn import dense, geometry
from cnn.images.pictures import MAX_BYTES
from cnn.nets import Net, outputs
from cnn.protocols import crops, labelled_images, methods
from cnn.protocols import scenes as scenes_lib
from cnn.protocols.engine import Combination, Outcome, classify
from cnn.protocols.measuring import Agreement, wilson
from cnn.protocols.methods import Method
from cnn.protocols.progress import Progress
from cnn.protocols.scenes import Scenes
from cnn.runs.checkpoint import Run
from cnn.training.evaluate import rank
from cnn.windows import GeometryError, as_pair, shape_text

OBJECT_BATCH = 500  # windows in one call of `accuracy_at_objects`
RESIZE, CENTRE_CROP, TEN_CROPS = "resize the whole", "centre crop", "ten crops"


class SceneRow(NamedTuple):
    """The result of one method with one way of averaging.

    Attributes:
      method: name of the method that scores the windows of an image.
      averaging: how the scores of windows become one score: "probabilities", "logits" or "max" (see
        `cnn.dense.average`), or "none" for a method with a single window.
      context: what a window sees beyond its own border: "crop", "image" or "both" (see `cnn.dense.ScoreMap`).
      accuracy: fraction of the images that are classified correctly.
      low, high: 95 % Wilson interval of the accuracy.
      milliseconds: time for one image of compiled code from uint8 pixels to scores, without averaging; median over
        rounds.
      multiply_adds: multiply-adds for one image.
      windows: number of scores that are averaged for one image.
      examples: number of images that were classified.
    """

    method: str
    averaging: str
    context: str
    accuracy: float
    low: float
    high: float
    milliseconds: float
    multiply_adds: int
    windows: int
    examples: int


class ScenesResult(NamedTuple):
    """What `evaluate_scenes` returns.

    Attributes:
      rows: one row for each method and averaging.
      agreement: difference between the dense map at the native stride and all crops, over all images.
      predicted_saving: multiply-adds of all crops, divided by those of the dense run at the native stride.
      measured_saving: time for all crops, divided by the time of the dense run at the native stride.
      timing_images: number of images in the one batch that was timed.
    """

    rows: list[SceneRow]
    agreement: Agreement
    predicted_saving: float
    measured_saving: float
    timing_images: int


def evaluate_scenes(
    run: Run,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    strides: Sequence[int] | None = None,
    batch_size: int = 50,
    timing_images: int = 50,
    progress: Progress | None = None,
) -> ScenesResult:
    """Classifies images by every method, and measures the cost of each.

    The methods are: the whole image resized to the window; the centre crop; ten crops; all crops at the native stride,
    cut out one by one; and dense runs at the native stride and at each of `strides`. A method with several windows has
    one row for each way of averaging them.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`); its image shape is the window.
      images: uint8 [N, H, W, C], at least as large as the window.
      labels: class of each image, integer [N].
      strides: strides of the dense runs, pixels; the native stride is always added. None: the native stride and 1.
      batch_size: number of images in one call to the device; changes time and memory, not the result.
      timing_images: number of images in the one batch that is timed, at most N.
      progress: reports the stages of the work; None: nothing is printed.

    Returns:
      A `ScenesResult`.

    Raises:
      ValueError: if the arrays, `batch_size` or `timing_images` do not fit.
      GeometryError: if the images are smaller than the window, a stride is below 1, or a layer of the net cannot slide.
    """
    _check(run, images, labels, batch_size, timing_images)
    singles, sliding, native = _methods(run, images.shape[1:], strides)
    scale = min(images.shape[1:3])  # the images' own shortest side, so that nothing is resized
    ways = [((method,), (methods.SINGLE,)) for method in singles] + [((m,), methods.AVERAGES) for m in sliding]
    found = classify(
        run,
        labelled_images.from_arrays("scenes", images, labels),
        [Combination((scale,), way, False, over) for way, averagings in ways for over in averagings],
        compared=native,
        batch_size=batch_size,
        timing_images=timing_images,
        progress=progress,
    )
    cost = next(outcome.cost for outcome in found.outcomes if outcome.combination.name == native.name)
    return ScenesResult(
        [_row(outcome) for outcome in found.outcomes],
        found.agreement,
        cost.crop_multiply_adds / max(cost.multiply_adds, 1),
        cost.crop_seconds / cost.seconds,
        found.timing_images,
    )


def check(net: Net, image_shape: tuple[int, int, int], count: int, size: int) -> None:
    """Checks, before a net is trained, that scenes can be made and that the net can be run densely over them.

    Args:
      net: the classifier.
      image_shape: (H, W, C) of the images, which are the net's window.
      count: number of scenes (`eval.scenes`).
      size: height and width of a scene, pixels (`eval.scene_size`).

    Raises:
      ValueError: if the scenes are too small, or do not fit in memory; names a size or number that fits.
      GeometryError: if a layer of the net cannot slide; with eval.scenes=0 no scenes are made.
    """
    smallest = scenes_lib.smallest_size(image_shape[:2])
    if size < smallest:
        raise ValueError(
            f"eval.scene_size (={size}) must be at least {smallest} pixels: scenes hold images of "
            f"{shape_text(image_shape)}, enlarged up to {scenes_lib.SCALE[1]:g} times"
        )
    one = size * size * image_shape[2]
    if count * one > MAX_BYTES:
        raise ValueError(
            f"eval.scenes (={count}): so many scenes of {size}x{size} (eval.scene_size) take "
            f"{count * one / 2**30:,.1f} GiB of memory, above the limit of {MAX_BYTES / 2**30:g} GiB; "
            f"{MAX_BYTES // one:,} fit"
        )
    try:
        _ = dense.prepare(net, image_shape[:2], image_shape[2]).converted.net  # raises if a layer cannot slide
    except GeometryError as error:
        raise GeometryError(f"eval.scenes (={count}) needs a net that can slide, 0 makes none: {error}") from error


def accuracy_at_objects(run: Run, scenes: Scenes) -> dict[str, float]:
    """Accuracy on the one window around each object: what a method could reach if it knew where the objects are.

    Args:
      run: a trained net.
      scenes: the scenes (`cnn.protocols.scenes.build`).

    Returns:
      {"accuracy", "low", "high"}: fraction of the objects that are classified correctly, and its 95 % interval.
    """
    window = np.asarray(run.image_shape[:2])
    corners = (scenes.boxes[:, :2] + scenes.boxes[:, 2:] - window) // 2
    corners = np.clip(corners, 0, np.asarray(scenes.images.shape[1:3]) - window)
    views = [image[y : y + window[0], x : x + window[1]] for image, (y, x) in zip(scenes.images, corners, strict=True)]
    hits = rank(outputs.class_scores(methods.view_logits(run, np.stack(views), OBJECT_BATCH)), scenes.labels) == 0
    low, high = wilson(int(hits.sum()), len(hits))
    return {"accuracy": float(hits.mean()), "low": low, "high": high}


def values_saving(run: Run, size: int) -> float:
    """The number of values that the layers write for all crops, divided by that for the dense run at the same stride.

    Args:
      run: a trained net.
      size: height and width of a scene, pixels.

    Returns:
      The ratio.
    """
    net = methods.prepared(run)
    channels = run.image_shape[2]
    grid = dense.plan_grid(run.net, (size, size, channels), net.window, None)
    whole = geometry.table(net.converted.net, (*grid.extent, channels))
    crop, dense_run = (sum(math.prod(row.output_shape) for row in table) for table in (net.table, whole))
    return crop * grid.size[0] * grid.size[1] / dense_run


def _check(run: Run, images: np.ndarray, labels: np.ndarray, batch_size: int, timing_images: int) -> None:
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) == 0:
        raise ValueError(
            f"protocol: images are {images.dtype} {list(images.shape)}; they must be uint8 [N, H, W, C], N at least 1"
        )
    if images.shape[3] != run.image_shape[2]:
        raise ValueError(f"protocol: images have {images.shape[3]} channels, the net takes {run.image_shape[2]}")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"protocol: labels have shape {list(labels.shape)}, there are {len(images)} images")
    for field, value in (("batch_size", batch_size), ("timing_images", timing_images)):
        if value < 1:
            raise ValueError(f"protocol: {field} (={value}) must be at least 1")


def _methods(
    run: Run, shape: Sequence[int], strides: Sequence[int] | None
) -> tuple[list[Method], list[Method], Method]:
    """Methods with a single window, methods with several windows, and the dense run at the native stride.

    All dense runs use the backend "shift": the same kind of pass at every stride, so that their costs can be compared.
    """
    window = run.image_shape[:2]
    stride = dense.plan_grid(run.net, shape, window, None).stride
    centre = functools.partial(crops.centre_place, window=window)
    ten = functools.partial(crops.ten_places, window=window)
    all_crops = methods.all_crops(run, stride)
    native = methods.dense_run(run, stride, backend="shift", as_crops=all_crops)
    asked = dict.fromkeys(as_pair(value, "stride", "protocol") for value in ([1] if strides is None else strides))
    others = [methods.dense_run(run, value, backend="shift") for value in asked if value != stride]
    singles = [methods.resizing(run, RESIZE), methods.cropping(run, CENTRE_CROP, centre)]
    return singles, [methods.cropping(run, TEN_CROPS, ten, has_mirrored=True), all_crops, native, *others], native


def _row(outcome: Outcome) -> SceneRow:
    """The row of the table for one outcome."""
    combination, cost = outcome.combination, outcome.cost
    return SceneRow(
        combination.name,
        combination.averaging,
        combination.context,
        *outcome.fraction(outcome.ranks == 0),
        1e3 * cost.seconds,
        round(cost.multiply_adds),
        round(cost.windows),
        len(outcome.ranks),
    )
