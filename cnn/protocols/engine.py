"""One engine for all protocols: images classified by every combination of methods, scales, mirroring and averaging.

A protocol is a list of `Combination`s; the scenes (`cnn.protocols.on_scenes`) and the VGG paper's protocol
(`cnn.protocols.vgg`) are two of them. `classify` looks at every image once with each method, scale and mirroring that
any combination needs, combines the scores, and measures what each look costs.

What is averaged. At one scale, and of one orientation, a method gives an image one or more windows' scores; they become
one vector by `cnn.protocols.methods.pooled`. The vectors of the upright and the mirrored image, of all scales, and of
several methods are then combined, each with the same weight however many windows it had.

What is computed. Images are resized on the host (Pillow's bicubic, antialiased, as for training). The dense run of a
net without padding sees images of similar shape on one canvas with zeros at the far sides, and only the windows inside
an image count: the same scores with few compilations. In a padded net a window sees what lies beyond it, so its images
are grouped by their exact size (`cnn.protocols.labelled_images.groups`).
"""

import functools
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from cnn.data import image_files
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
      scales: shortest sides Q of the resized image, pixels; averaged over.
      methods: the methods averaged over.
      flip: whether mirrored images are averaged in.
      averaging: how the scores of windows, and of looks, become one: "probabilities", "logits", "max", or "none" for a
        single window.
    """

    scales: tuple[int, ...]
    methods: tuple[Method, ...]
    flip: bool
    averaging: str

    @property
    def looks(self) -> list[Look]:
        """The looks combined, all of the same weight."""
        return [
            (scale, method.name, mirror)
            for scale, method in itertools.product(self.scales, self.methods)
            for mirror in ((False, True) if self.flip and not method.has_mirrored else (False,))
        ]

    @property
    def name(self) -> str:
        """The names of the methods."""
        return " + ".join(method.name for method in self.methods)

    @property
    def context(self) -> str:
        """The contexts of the methods, "crop+image" where they differ."""
        return "+".join(sorted({method.context for method in self.methods}))


class Cost(NamedTuple):
    """What one image costs.

    Attributes:
      windows: number of windows, the mean over images.
      multiply_adds: the mean over images.
      crop_multiply_adds: multiply-adds of the same windows cut out one by one.
      seconds: from resized uint8 pixels to scores, compiled, without their averaging.
      crop_seconds: time of the same windows cut out one by one; where it was not measured, `seconds`.
    """

    windows: float
    multiply_adds: float
    crop_multiply_adds: float
    seconds: float
    crop_seconds: float


class Outcome(NamedTuple):
    """How one combination did.

    Attributes:
      combination: the combination.
      ranks: how many classes score above the label's, int [N]; 0 is correct (`cnn.training.evaluate.rank`).
      cost: the sum of its looks' costs. Looks are measured upright; a mirrored one counts as much again.
    """

    combination: Combination
    ranks: np.ndarray
    cost: Cost

    def fraction(self, hits: np.ndarray) -> tuple[float, float, float]:
        """A fraction of the images and its 95 % interval.

        Args:
          hits: the images to count, bool [N].

        Returns:
          (fraction, low, high).
        """
        count = int(hits.sum())
        return count / len(hits), *measuring.wilson(count, len(hits))


class Classified(NamedTuple):
    """What `classify` returns.

    Attributes:
      outcomes: one for each combination.
      agreement: the compared dense method against the same windows cut out one by one: over all images where these
        crops are one of the methods, else over the timed images.
      timing_images: number of images timed, as one batch.
      timing_sizes: their canvas at each scale, pixels.
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
    """Classifies images by every combination, and measures what each costs.

    Times are of compiled code in its steady state (`cnn.protocols.measuring.median_seconds`), on one batch.

    Args:
      run: a trained net; its image shape is the window.
      tested: the images.
      combinations: the combinations to measure.
      compared: the dense method whose scores are compared with the same windows as crops (its `as_crops`).
      batch_size: images in one call to the device; changes time and memory, not the result.
      timing_images: images timed, as one batch; at most those of the largest group are.
      progress: says what is being done; None: nothing is said.

    Returns:
      The `Classified`.

    Raises:
      GeometryError: if an image is smaller than the window, or the net cannot slide.
    """
    progress = progress or Progress(shown=False)
    plan = _plan(combinations, compared)
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
    """What some combinations need to be computed.

    Attributes:
      scales: ascending.
      methods: (scale, name) -> method.
      averagings: look -> the averagings that are needed of it.
      compared: the dense method that is compared with its crops.
    """

    scales: list[int]
    methods: dict[tuple[int, str], Method]
    averagings: dict[Look, list[str]]
    compared: Method


def _plan(combinations: Sequence[Combination], compared: Method) -> _Plan:
    """What the combinations need, everything once."""
    scales = sorted({scale for combination in combinations for scale in combination.scales})
    ways: dict[tuple[int, str], Method] = {}
    averagings: dict[Look, list[str]] = {}
    for combination in combinations:
        ways |= {(s, method.name): method for s, method in itertools.product(combination.scales, combination.methods)}
        for look in combination.looks:
            known = averagings.setdefault(look, [])
            if combination.averaging not in known:
                known.append(combination.averaging)
    return _Plan(scales, ways, averagings, compared)


def _split(indices: np.ndarray, size: int) -> list[np.ndarray]:
    """Parts of at most `size` indices."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _resized_batches(
    tested: Pictures, indices: np.ndarray, scales: Sequence[int], canvases: Sequence[Pair], size: int
) -> dict[int, Batch]:
    """The same images with their shortest side at each scale, by scale."""

    def at_each_scale(index: int) -> list[np.ndarray]:
        image = tested.read(index)
        return [image_files.resize(image, crops.scaled_size(tested.sizes[index], scale)) for scale in scales]

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
    """Scores [n, K] of a batch by (look, averaging).

    Adds windows and multiply-adds to `totals`, and where both the compared method and its crops are looked at, how far
    they are apart to `differences`.
    """
    vectors: dict[tuple[Look, str], np.ndarray] = {}
    maps: dict[tuple[int, str], np.ndarray] = {}
    pair = _pair(plan.compared)
    for look, averagings in plan.averagings.items():
        scale, name, mirror = look
        scored = plan.methods[scale, name].scores(shown[scale], mirror)
        for over in averagings:
            vectors[look, over] = methods.pooled(scored, over)
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
    """Names of a dense method's crops and of itself."""
    return _crops_of(compared).name, compared.name


def _crops_of(method: Method) -> Method:
    """The method that cuts the same windows out one by one; crops are their own."""
    return method.as_crops or method


def _difference(compared: Method, batch: Batch) -> MapDifference:
    """How far a dense method is from its crops on one batch."""
    by_crops, by_pass = (method.scores(batch, False).scores for method in (_crops_of(compared), compared))
    return measuring.map_difference(np.asarray(by_crops), np.asarray(by_pass))


def _costs(
    run: Run,
    plan: _Plan,
    shown: Mapping[int, Batch],
    means: Mapping[tuple[int, str], np.ndarray],
    progress: Progress,
) -> dict[tuple[int, str], Cost]:
    """What each method costs at each scale, upright, by (scale, name); `means`: its windows and multiply-adds."""
    calls: dict[tuple[int, str], Callable[[], Any]] = {}
    for (scale, _), method in plan.methods.items():
        for each in (method, _crops_of(method)):  # equal names are one call
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
