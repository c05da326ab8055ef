"""One engine for all protocols: images classified by every combination of methods, scales, mirroring and averaging.

A protocol is a list of `Combination`s. There are two: that of scenes (`cnn.protocols.on_scenes`) and that of the VGG
paper (`cnn.protocols.vgg`). A *look* is one method applied to an image at one scale, upright or mirrored. `classify`
computes every look that any combination needs once, combines the scores, and measures the cost of each look.

What is averaged: a look gives scores of one or more windows, which `cnn.protocols.methods.pooled` averages to one
vector. The vectors of the upright and the mirrored image, of all scales, and of several methods are then combined, each
with the same weight, however many windows it had.

How it is computed: images are resized on the host (by Pillow, bicubic and antialiased, as for training). For a net
without padding, images of similar shape are placed on canvases of one size, with zeros at the lower and right sides,
and only the windows inside an image count; this gives the same scores with few compilations. In a padded net a window
sees what lies beyond it, so images are grouped by their exact size (`cnn.protocols.labelled_images.groups`).
"""

import functools
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from cnn.images import resizing
from cnn.protocols import crops, labelled_images, measuring, methods
from cnn.protocols.labelled_images import Pictures
from cnn.protocols.measuring import Agreement, MapDifference
from cnn.protocols.methods import Batch, Method
from cnn.protocols.progress import Progress
from cnn.runs.checkpoint import Run
from cnn.training.evaluate import rank
from cnn.windows import Pair

Look = tuple[int, str, bool]  # (scale, name of the method, whether the image is mirrored)


class Combination(NamedTuple):
    """What the scores of one row of a table are made from.

    Attributes:
      scales: shortest sides Q of the resized image, pixels; scores are averaged over them.
      methods: the methods whose scores are averaged.
      flip: whether scores of mirrored images are averaged in.
      averaging: how the scores of windows, and of looks, are combined to one: "probabilities", "logits", "max", or
        "none" for a single window.
    """

    scales: tuple[int, ...]
    methods: tuple[Method, ...]
    flip: bool
    averaging: str

    @property
    def looks(self) -> list[Look]:
        """The looks that are combined, all with the same weight."""
        return [
            (scale, method.name, mirror)
            for scale, method in itertools.product(self.scales, self.methods)
            for mirror in ((False, True) if self.flip and not method.has_mirrored else (False,))
        ]

    @property
    def name(self) -> str:
        """The names of the methods, joined by " + "."""
        return " + ".join(method.name for method in self.methods)

    @property
    def context(self) -> str:
        """The context of the methods; "crop+image" if they have different ones."""
        return "+".join(sorted({method.context for method in self.methods}))


class Cost(NamedTuple):
    """The cost of classifying one image.

    Attributes:
      windows: number of windows, mean over images.
      multiply_adds: number of multiply-adds, mean over images.
      crop_multiply_adds: multiply-adds of the same windows cut out one by one.
      seconds: time of compiled code from resized uint8 pixels to scores, without averaging.
      crop_seconds: time for the same windows cut out one by one; equal to `seconds` if it was not measured.
    """

    windows: float
    multiply_adds: float
    crop_multiply_adds: float
    seconds: float
    crop_seconds: float


class Outcome(NamedTuple):
    """The result of one combination.

    Attributes:
      combination: the combination of scales, methods, mirroring and averaging.
      ranks: number of classes that score above the label, int64 [N]; 0 is correct (`cnn.training.evaluate.rank`).
      cost: sum of the costs of its looks. Only upright looks are measured; a mirrored one is assumed to cost the same.
    """

    combination: Combination
    ranks: np.ndarray
    cost: Cost

    def fraction(self, hits: np.ndarray) -> tuple[float, float, float]:
        """A fraction of the images and its 95 % interval.

        Args:
          hits: which images are counted, bool [N].

        Returns:
          The fraction, and the lower and upper end of its interval.
        """
        count = int(hits.sum())
        return count / len(hits), *measuring.wilson(count, len(hits))


class Classified(NamedTuple):
    """What `classify` returns.

    Attributes:
      outcomes: one outcome for each combination.
      agreement: difference between the compared dense method and the same windows cut out one by one: over all images
        if these crops are one of the methods, otherwise over the timed images.
      timing_images: number of images in the one batch that was timed.
      timing_sizes: (height, width) of the canvas of the timed images at each scale, pixels.
    """

    outcomes: list[Outcome]
    agreement: Agreement
    timing_images: int
    timing_sizes: tuple[Pair, ...]


def classify(
    run: Run,
    tested: Pictures,
    combinations: Sequence[Combination],
    *,
    compared: Method,
    batch_size: int,
    timing_images: int,
    progress: Progress | None = None,
) -> Classified:
    """Classifies images by every combination, and measures the cost of each.

    Times are of compiled code in its steady state (`cnn.protocols.measuring.median_seconds`), on one batch.

    Args:
      run: a trained net; its image shape is the window.
      tested: the labelled images.
      combinations: the combinations to measure.
      compared: the dense method whose scores are compared with the same windows as crops (its `as_crops`).
      batch_size: number of images in one call to the device; changes time and memory, not the result.
      timing_images: number of images in the one batch that is timed, at most as many as the largest group has.
      progress: reports the stages of the work; None: nothing is printed.

    Returns:
      Outcomes, agreement and what was timed.

    Raises:
      GeometryError: if an image is smaller than the window, or a layer of the net cannot slide.
    """
    progress = progress or Progress(shown=False)
    plan = _plan(combinations, compared, run.net.output_activation)
    padded = methods.prepared(run).padded
    groups = labelled_images.groups(tested.sizes, plan.scales, exact=padded)
    ranks = np.zeros((len(combinations), len(tested.labels)), np.int64)
    totals = {key: np.zeros(2) for key in plan.methods}  # windows and multiply-adds of all images, upright
    differences: list[MapDifference] = []
    batches = [(group, indices) for group in groups for indices in _split(group.indices, batch_size)]
    progress.stage(
        f"classifying {len(tested.labels):,} images, {len(plan.averagings)} looks at each; the first batch compiles",
        len(batches) * len(plan.averagings),
    )
    for group, indices in batches:
        shown = _resized_batches(tested, indices, plan.scales, group.canvases, min(batch_size, len(group.indices)))
        vectors = _look(plan, shown, totals, differences, progress)
        for row, (looks, averaging) in enumerate((c.looks, c.averaging) for c in combinations):
            scores = methods.combined([vectors[look, averaging] for look in looks], averaging)
            ranks[row, indices] = rank(scores, tested.labels[indices])
    timed = groups[0].indices[:timing_images]
    shown = _resized_batches(tested, timed, plan.scales, groups[0].canvases, len(timed))
    costs = _costs(run, plan, shown, {key: total / len(tested.labels) for key, total in totals.items()}, progress)
    if not differences:
        progress.stage("comparing the dense run with its crops")
        differences = [_difference(compared, batch) for batch in shown.values()]
    outcomes = [
        Outcome(combination, row, Cost(*np.sum([costs[look[:2]] for look in combination.looks], axis=0).tolist()))
        for combination, row in zip(combinations, ranks, strict=True)
    ]
    agreement = measuring.agreement(differences, expected=not padded)
    return Classified(outcomes, agreement, len(timed), groups[0].canvases)


class _Plan(NamedTuple):
    """Everything that a list of combinations needs, without repeats.

    Attributes:
      scales: shortest sides of the resized images, pixels, ascending.
      methods: from (scale, name) to the method.
      averagings: from each look to the averagings that are needed of it.
      compared: the dense method that is compared with its crops.
      output_activation: what the net's scores mean.
    """

    scales: list[int]
    methods: dict[tuple[int, str], Method]
    averagings: dict[Look, list[str]]
    compared: Method
    output_activation: str


def _plan(combinations: Sequence[Combination], compared: Method, output_activation: str) -> _Plan:
    """Collects the scales, methods and averagings of all combinations."""
    scales = sorted({scale for combination in combinations for scale in combination.scales})
    ways: dict[tuple[int, str], Method] = {}
    averagings: dict[Look, list[str]] = {}
    for combination in combinations:
        ways |= {(s, method.name): method for s, method in itertools.product(combination.scales, combination.methods)}
        for look in combination.looks:
            known = averagings.setdefault(look, [])
            if combination.averaging not in known:
                known.append(combination.averaging)
    return _Plan(scales, ways, averagings, compared, output_activation)


def _split(indices: np.ndarray, size: int) -> list[np.ndarray]:
    """Splits indices into parts of at most `size`."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _resized_batches(
    tested: Pictures, indices: np.ndarray, scales: Sequence[int], canvases: Sequence[Pair], size: int
) -> dict[int, Batch]:
    """The images resized to each scale, as one `Batch` for each scale."""

    def at_each_scale(index: int) -> list[np.ndarray]:
        image = tested.read(index)
        return [resizing.resize(image, crops.scaled_size(tested.sizes[index], scale)) for scale in scales]

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes outside the GIL
        images = list(pool.map(at_each_scale, indices.tolist()))
    return {
        scale: Batch([each[i] for each in images], canvas, size)
        for i, (scale, canvas) in enumerate(zip(scales, canvases, strict=True))
    }


def _look(
    plan: _Plan,
    shown: Mapping[int, Batch],
    totals: Mapping[tuple[int, str], np.ndarray],
    differences: list[MapDifference],
    progress: Progress,
) -> dict[tuple[Look, str], np.ndarray]:
    """Averaged scores [n, K] of a batch by (look, averaging).

    Adds the windows and multiply-adds of upright looks to `totals` and, if both the compared method and its crops are
    among the looks, their difference to `differences`.
    """
    vectors: dict[tuple[Look, str], np.ndarray] = {}
    maps: dict[tuple[int, str], np.ndarray] = {}
    pair = _pair(plan.compared)
    for look, averagings in plan.averagings.items():
        scale, name, mirror = look
        scored = plan.methods[scale, name].scores(shown[scale], mirror)
        for over in averagings:
            vectors[look, over] = methods.pooled(scored, over, plan.output_activation)
        if not mirror:
            totals[scale, name][:] += np.array([scored.windows, scored.multiply_adds]) * len(shown[scale].images)
            if name in pair:
                maps[scale, name] = np.asarray(scored.scores)
        progress.advance()
    for scale in shown:
        if all((scale, name) in maps for name in pair):
            differences.append(measuring.map_difference(*(maps[scale, name] for name in pair)))
    return vectors


def _pair(compared: Method) -> tuple[str, str]:
    """The names of a dense method's crops and of the dense method."""
    return _crops_of(compared).name, compared.name


def _crops_of(method: Method) -> Method:
    """The method that cuts the same windows out one by one; for crops, the method itself."""
    return method.as_crops or method


def _difference(compared: Method, batch: Batch) -> MapDifference:
    """The difference between a dense method and its crops on one batch."""
    by_crops, by_pass = (method.scores(batch, False).scores for method in (_crops_of(compared), compared))
    return measuring.map_difference(np.asarray(by_crops), np.asarray(by_pass))


def _costs(
    run: Run,
    plan: _Plan,
    shown: Mapping[int, Batch],
    means: Mapping[tuple[int, str], np.ndarray],
    progress: Progress,
) -> dict[tuple[int, str], Cost]:
    """The cost of each method at each scale by (scale, name); `means` holds its mean windows and multiply-adds."""
    calls: dict[tuple[int, str], Callable[[], Any]] = {}
    for (scale, _), method in plan.methods.items():
        for each in (method, _crops_of(method)):  # methods of the same name are timed once
            calls[scale, each.name] = functools.partial(_wait, each, shown[scale])
    images = len(next(iter(shown.values())).images)
    progress.stage(f"timing {len(calls)} methods on a batch of {images}", 1 + measuring.TIMING_ROUNDS)
    seconds = {key: value / images for key, value in measuring.median_seconds(calls, progress.advance).items()}
    crop = methods.prepared(run).table.macs
    costs = {}
    for (scale, name), method in plan.methods.items():
        windows, multiply_adds = means[scale, name].tolist()
        times = seconds[scale, name], seconds[scale, _crops_of(method).name]
        costs[scale, name] = Cost(windows, multiply_adds, windows * crop, *times)
    return costs


def _wait(method: Method, batch: Batch) -> Any:
    return jax.block_until_ready(method.scores(batch, False).scores)
