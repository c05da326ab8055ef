"""Ways to classify an image larger than a net's window, side by side: crops, ten crops, all crops, dense.

All methods see the same images and the same net; they differ in which pixels they look at and in what they cost.
`evaluate` gives each method's accuracy with its interval, its time and its multiply-adds, and checks on the way that
the dense map and the crops cut out one by one agree.

Source: Simonyan, Zisserman (2014), section 3.2 (dense and multi-crop); Krizhevsky et al. (2012), section 4.1 (ten
crops); Sermanet et al., "OverFeat" (2013), section 3.3 (finer stride).
"""

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from cnn import data, dense, geometry
from cnn.nets import Net
from cnn.protocols.crops import centre_crop, resize, ten_crops
from cnn.runs.checkpoint import Run
from cnn.runtime.compiler import jit_net
from cnn.training.evaluate import rank
from cnn.windows import Pair, as_pair, shape_text

Key = TypeVar("Key")
AVERAGES = ("probabilities", "logits", "max")
CONFIDENCE = 0.95
TIMING_ROUNDS = 5
RESIZE, CENTRE_CROP, TEN_CROPS = "resize the whole", "centre crop", "ten crops"


class Row(NamedTuple):
    """One method with one way of averaging.

    Attributes:
      method: how the image is looked at.
      averaging: how its scores become one for each class, as `cnn.dense.average` has it; "none" for a single score.
      context: what a window sees beyond its own border: "crop", "image" or "both" (see `cnn.dense.ScoreMap`).
      accuracy: fraction of the images whose largest score is the label's.
      low, high: 95 % Wilson interval of the accuracy.
      milliseconds: per image, median over rounds, compiled; from uint8 pixels to scores, without their averaging.
      multiply_adds: per image.
      windows: scores averaged.
      examples: images classified.
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


class Agreement(NamedTuple):
    """How far the dense map at the net's own stride is from all crops cut out one by one.

    Attributes:
      expected: whether the two must be equal: the net has no padding.
      windows: scores of windows compared, over all images.
      difference: largest |dense - crop| of a score, relative to the largest |score|; NaN if a score is.
      argmax_differs: windows whose largest score is another class's, or with a NaN score.
    """

    expected: bool
    windows: int
    difference: float
    argmax_differs: int


class Evaluation(NamedTuple):
    """What `evaluate` found.

    Attributes:
      rows: one for each method and averaging.
      agreement: of all crops and the dense map.
      predicted_saving: multiply-adds of all crops over those of the dense map at the net's own stride.
      measured_saving: the same of their times.
      timing_images: images timed, as one batch.
    """

    rows: list[Row]
    agreement: Agreement
    predicted_saving: float
    measured_saving: float
    timing_images: int


class _Method(NamedTuple):
    """A way of looking at images: `scores` maps uint8 [N, H, W, C] to logits [N, ..., K]."""

    name: str
    context: str
    windows: int
    multiply_adds: int
    scores: Callable[[jax.Array], jax.Array]


def evaluate(
    run: Run,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    strides: Sequence[int] | None = None,
    batch_size: int = 50,
    timing_images: int = 50,
) -> Evaluation:
    """Classifies images by every method, and measures what each costs.

    The methods: resize the whole image to the window; the centre crop; ten crops; all crops at the net's own stride,
    cut out one by one; dense, at the net's own stride and at each of `strides`. Methods with several scores give a row
    for each way of averaging them.

    Times are of compiled code in its steady state: each method runs once to compile, then all of them in turn for
    `TIMING_ROUNDS` rounds, waiting for the device each time; the median counts.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`); its image shape is the window.
      images: uint8 [N, H, W, C], at least as large as the window.
      labels: integer [N].
      strides: of the dense runs, pixels; the net's own is always among them. None: the net's own and 1.
      batch_size: images in one call to the device; changes time and memory, not the result.
      timing_images: images in the one batch that is timed; at most N are.

    Returns:
      An `Evaluation`.

    Raises:
      ValueError: if arrays, the batch or the timing size do not fit.
      GeometryError: if the images are smaller than the window, a stride is below 1, or the net cannot slide.
    """
    _check(run, images, labels, batch_size, timing_images)
    methods, crops, own = _methods(run, images.shape[1:], strides)
    right: dict[tuple[str, str], int] = {}
    compared = []
    for batch, count, start in _batches(images, batch_size):
        truth = labels[start : start + count]
        maps = {method.name: method.scores(batch) for method in methods}
        for method in methods:
            for over in _averages(method):
                # Of a single score, its mean is itself.
                averaged = dense.average(maps[method.name], "logits" if over == "none" else over)
                key = (method.name, over)
                right[key] = right.get(key, 0) + int((rank(np.asarray(averaged)[:count], truth) == 0).sum())
        compared.append(compare(np.asarray(maps[crops])[:count], np.asarray(maps[own])[:count]))
    timed = jnp.asarray(images[:timing_images])
    seconds = median_seconds({method.name: functools.partial(method.scores, timed) for method in methods})
    milliseconds = {name: 1e3 * value / len(timed) for name, value in seconds.items()}
    rows = []
    for (name, over), hits in right.items():
        method = next(method for method in methods if method.name == name)
        accuracy, cost = (hits / len(labels), *wilson(hits, len(labels))), (milliseconds[name], method.multiply_adds)
        rows.append(Row(name, over, method.context, *accuracy, *cost, method.windows, len(labels)))
    expected = not dense.has_padding(run.net, run.image_shape[:2], run.image_shape[2])
    costs = {method.name: method.multiply_adds for method in methods}
    return Evaluation(
        rows,
        agreement(compared, expected),
        costs[crops] / max(costs[own], 1),
        milliseconds[crops] / milliseconds[own],
        len(timed),
    )


class Comparison(NamedTuple):
    """Two maps of the same windows; several add up to an `Agreement`.

    Attributes:
      windows: scores of windows compared.
      difference: largest |dense - crop| of a score; NaN if a score is.
      largest: largest |score| of the crops.
      argmax_differs: windows whose largest score is another class's, or with a NaN score.
    """

    windows: int
    difference: float
    largest: float
    argmax_differs: int


def compare(by_crops: np.ndarray, by_pass: np.ndarray) -> Comparison:
    """How far two maps of the same windows are apart.

    Args:
      by_crops: class scores of windows cut out one by one, [..., K].
      by_pass: the same of a dense run.

    Returns:
      A `Comparison`.
    """
    undefined = (np.isnan(by_crops) | np.isnan(by_pass)).any(axis=-1)
    return Comparison(
        by_crops[..., 0].size,
        float(np.abs(by_crops - by_pass).max()),
        float(np.abs(by_crops).max()),
        int((undefined | (by_crops.argmax(axis=-1) != by_pass.argmax(axis=-1))).sum()),
    )


def agreement(parts: Sequence[Comparison], expected: bool) -> Agreement:
    """Adds up comparisons.

    Args:
      parts: at least one.
      expected: whether the maps must be equal.

    Returns:
      The `Agreement` over all of them.
    """
    # NumPy's maximum, which keeps a NaN wherever it stands.
    largest = np.max([float(np.finfo(np.float32).tiny), *(part.largest for part in parts)])
    return Agreement(
        expected,
        sum(part.windows for part in parts),
        float(np.max([part.difference for part in parts]) / largest),
        sum(part.argmax_differs for part in parts),
    )


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


def _methods(run: Run, shape: Sequence[int], strides: Sequence[int] | None) -> tuple[list[_Method], str, str]:
    """All methods for images of a shape, and the names of "all crops" and of the dense run at the same stride."""
    net, variables, constants = run.net, run.variables, (jnp.asarray(run.mean), jnp.asarray(run.std))
    window = run.image_shape[:2]
    own = dense.plan_grid(net, shape, window, None)
    alone = "crop" if dense.has_padding(net, window, shape[2]) else "both"
    macs = geometry.table(net, run.image_shape).macs

    def shown(cut: Callable[..., jax.Array]) -> Callable[[jax.Array], jax.Array]:
        return lambda images: _view_scores(net, window, cut, variables, images, *constants)

    def sliding(name: str, context: str, grid: dense.Grid, backend: str) -> _Method:
        def scores(images: jax.Array) -> jax.Array:
            pixels = data.normalise(images, *constants)
            return dense.score_map(net, variables, pixels, window, grid.stride, backend).scores

        macs = dense.multiply_adds(net, shape, grid, backend)
        return _Method(name, context, grid.size[0] * grid.size[1], macs, scores)

    crops = f"all crops, stride {stride_text(own.stride)}"
    methods = [
        _Method(RESIZE, alone, 1, macs, shown(resize)),
        _Method(CENTRE_CROP, alone, 1, macs, shown(centre_crop)),
        _Method(TEN_CROPS, alone, 10, 10 * macs, shown(ten_crops)),
        sliding(crops, alone, own, "crops"),
    ]
    inside = "both" if alone == "both" else "image"
    asked = [as_pair(stride, "stride", "protocol") for stride in ([1] if strides is None else strides)]
    for stride in dict.fromkeys([own.stride, *asked]):
        grid = dense.plan_grid(net, shape, window, stride)
        methods.append(sliding(f"dense, stride {stride_text(stride)}", inside, grid, "shift"))
    return methods, crops, f"dense, stride {stride_text(own.stride)}"


def stride_text(stride: Pair) -> str:
    """A stride as people write it: (4, 4) -> "4", (4, 2) -> "4x2"."""
    return str(stride[0]) if stride[0] == stride[1] else shape_text(stride)


def _averages(method: _Method) -> tuple[str, ...]:
    return AVERAGES if method.windows > 1 else ("none",)


def _batches(images: np.ndarray, batch_size: int) -> Iterator[tuple[jax.Array, int, int]]:
    """Batches of one size (compiled once), how many of each are real, and where it starts; the last is filled up."""
    batch_size = min(batch_size, len(images))
    for start in range(0, len(images), batch_size):
        indices = np.minimum(np.arange(start, start + batch_size), len(images) - 1)
        yield jnp.asarray(images[indices]), min(batch_size, len(images) - start), start


@functools.partial(jit_net, static_argnums=(0, 1, 2))
def _view_scores(
    net: Net,
    window: Pair,
    cut: Callable[..., jax.Array],
    variables: Mapping[str, Any],
    images: jax.Array,
    mean: jax.Array,
    std: jax.Array,
) -> jax.Array:
    """Logits [N, views, K] of the views that `cut` takes of uint8 images."""
    cuts = cut(images.astype(jnp.float32) / 255, window)
    flat = cuts.reshape(-1, *window, images.shape[3])
    scores: Any = net.apply(variables, data.normalise(flat, mean, std), train=False)
    return scores.reshape(images.shape[0], -1, scores.shape[-1])


def median_seconds(calls: Mapping[Key, Callable[[], Any]]) -> dict[Key, float]:
    """Times calls in their steady state: each runs once to compile, then all in turn for `TIMING_ROUNDS` rounds.

    They take turns so that a slow moment of the machine hits all alike.

    Args:
      calls: by name; each returns arrays, which are waited for.

    Returns:
      Median seconds by name.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    seconds: dict[Key, list[float]] = {name: [] for name in calls}
    for _ in range(TIMING_ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def wilson(right: int, examples: int) -> tuple[float, float]:
    """95 % interval of a fraction counted from independent examples.

    Args:
      right: examples counted.
      examples: all of them, at least 1.

    Returns:
      (low, high).

    Source: Wilson (1927), the score interval, without continuity correction.
    """
    from scipy.stats import binomtest  # half a second to import

    interval = binomtest(right, examples).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)
