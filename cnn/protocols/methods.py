"""Methods: ways to score windows of images that are larger than a net's window, at one scale.

A `Method` gives the class scores of one or more windows of every image of a batch, and their cost. There are three
kinds of methods: crops at given places, the whole image resized to the window, and a dense run at some stride. Each
method can also be applied to the images mirrored left to right.

Crops are cut on the host, so that one compiled program serves images of all sizes. A dense run sees canvases of one
size with the image in the upper left corner; a mask says which of its windows lie inside the image.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn import data, dense
from cnn.dense.backends import crop_batch
from cnn.nets import outputs
from cnn.protocols import crops, labelled_images
from cnn.runs.checkpoint import Run
from cnn.training import evaluate
from cnn.windows import Pair, counts, shape_text

AVERAGES = ("probabilities", "logits", "max")
SINGLE = "none"  # the averaging of a method with a single window, whose score is that of the image


class Batch(NamedTuple):
    """Images of one scale that are scored together.

    Attributes:
      images: uint8 [H, W, C] each; the sizes may differ.
      canvas: (height, width) of the canvases on which a dense run places the images, pixels.
      size: number of images that programs are compiled for; smaller batches are filled up to it.
    """

    images: Sequence[np.ndarray]
    canvas: Pair
    size: int


class WindowScores(NamedTuple):
    """Class scores of the windows of some images.

    Attributes:
      scores: class scores (logits), float32 [N, ..., K].
      inside: which scores belong to a window inside the image, bool [N, ...].
      multiply_adds: multiply-adds for one image, mean over images.
    """

    scores: jax.Array | np.ndarray
    inside: np.ndarray
    multiply_adds: float

    @property
    def windows(self) -> float:
        """Number of windows inside an image, mean over images."""
        return float(self.inside.sum() / len(self.inside))


class Method(NamedTuple):
    """A way to score windows of images of one scale.

    Attributes:
      name: name of the method in tables.
      context: what a window sees beyond its own border: "crop" (the net's padding), "image" (the pixels around it), or
        "both" (the net has no padding, so the two are the same).
      scores: function of a `Batch`, and of whether to mirror its images, that returns `WindowScores`.
      has_mirrored: whether its windows include their own mirror images, so that mirroring the images adds nothing.
      as_crops: the method that cuts the same windows out one by one; None for a method that does so itself, or whose
        crops are not measured.
    """

    name: str
    context: str
    scores: Callable[[Batch, bool], WindowScores]
    has_mirrored: bool = False
    as_crops: "Method | None" = None


def prepared(run: Run) -> dense.PreparedNet:
    """The prepared net of a run: native stride, padding and costs, computed once.

    Args:
      run: a trained net; its image shape is the window.

    Returns:
      The prepared net.
    """
    return dense.prepare(run.net, run.image_shape[:2], run.image_shape[2])


def cropping(run: Run, name: str, places: Callable[[Pair], np.ndarray], has_mirrored: bool = False) -> Method:
    """A method that cuts out windows and classifies each of them by itself.

    Args:
      run: a trained net.
      name: name of the method in tables.
      places: function from (H, W) of an image, pixels, to places, int [V, 3] of (y, x, mirrored), as in
        `cnn.protocols.crops`.
      has_mirrored: whether the places include the mirror image of each view already.

    Returns:
      The method; for mirrored images it uses the same places and mirrors the views.
    """
    window = run.image_shape[:2]

    def views(images: np.ndarray, mirror: bool) -> np.ndarray:
        chosen = places((images.shape[1], images.shape[2]))
        return crops.cut(images, crops.mirrored(chosen) if mirror else chosen, window)

    return _view_method(run, name, views, has_mirrored)


def resizing(run: Run, name: str) -> Method:
    """A method that resizes the whole image to the window, which changes its aspect ratio to the window's.

    Args:
      run: a trained net.
      name: name of the method in tables.

    Returns:
      The method.
    """
    window = run.image_shape[:2]

    def views(images: np.ndarray, mirror: bool) -> jax.Array:
        return _resized(images[:, :, ::-1] if mirror else images, window)

    return _view_method(run, name, views)


def dense_run(
    run: Run, stride: Pair, *, name: str | None = None, backend: str = "auto", as_crops: Method | None = None
) -> Method:
    """A method that runs the net densely over the whole image, so that windows see the image around them.

    Args:
      run: a trained net.
      stride: distance between windows, (vertical, horizontal), pixels.
      name: name of the method in tables; None: "dense, stride" and the number.
      backend: backend of `cnn.dense.score_map`: "auto", "shift", "atrous" or "mpf".
      as_crops: the method that cuts out the same windows (`all_crops` at the same stride), which is measured too; None:
        crops are not measured.

    Returns:
      The method.
    """
    name = name or f"dense, stride {stride_text(stride)}"
    return _sliding(run, stride, name, backend, "image")._replace(as_crops=as_crops)


def all_crops(run: Run, stride: Pair) -> Method:
    """A method that cuts out every window of a dense run, and classifies each by itself.

    Args:
      run: a trained net.
      stride: distance between windows, (vertical, horizontal), pixels.

    Returns:
      The method, named after its stride.
    """
    return _sliding(run, stride, f"all crops, stride {stride_text(stride)}", "crops", "crop")


def view_logits(run: Run, views: np.ndarray, batch: int) -> np.ndarray:
    """Class scores of views of the size of the window, in batches of one size; the last batch is filled up.

    Args:
      run: a trained net.
      views: uint8, or floating with pixel values in [0, 1], [M, height, width, C].
      batch: number of views in one call to the device.

    Returns:
      Class scores (logits), float32 [M, K].
    """
    found = []
    for indices, _ in data.batches(len(views), batch):
        found.append(evaluate.logits(run.net, run.variables, views[indices], run.mean, run.std))
    return np.concatenate([np.asarray(x) for x in found])[: len(views)]


def stride_text(stride: Pair) -> str:
    """Writes a stride as people do: (4, 4) -> "4", (4, 2) -> "4x2"."""
    return str(stride[0]) if stride[0] == stride[1] else shape_text(stride)


def pooled(scored: WindowScores, over: str, output_activation: str = "softmax") -> np.ndarray:
    """Averages the scores of the windows inside each image, as `cnn.dense.average` does for whole maps.

    It is computed by NumPy in float64, because maps have many sizes, for each of which JAX would have to compile.

    Args:
      scored: scores of the windows of N images.
      over: "probabilities", "logits" or "max"; "none" for a method with a single window.
      output_activation: what the scores mean: the net's (`cnn.nets.outputs`).

    Returns:
      float64 [N, K], or [N, 2] for K = 1: mean probabilities, mean logits, or largest logits. NaN as in
      `cnn.dense.average`.

    Raises:
      ValueError: if `over` is unknown.
    """
    count, windows = len(scored.inside), math.prod(scored.inside.shape[1:])
    scores = np.asarray(scored.scores, np.float64).reshape(count, windows, scored.scores.shape[-1])
    inside = scored.inside.reshape(count, windows, 1)
    if over not in (*AVERAGES, SINGLE):
        raise ValueError(f"average: over (={over!r}) must be 'probabilities', 'logits' or 'max'")
    scores = (
        np.exp(outputs.log_probabilities(scores, output_activation))
        if over == "probabilities"
        else outputs.class_scores(scores)
    )
    if over == "max":
        return np.where(inside, scores, -np.inf).max(axis=1)
    return np.where(inside, scores, 0).sum(axis=1) / inside.sum(axis=1)


def combined(parts: Sequence[np.ndarray], over: str) -> np.ndarray:
    """Combines the averaged scores of several methods or scales for the same images, each with the same weight.

    Args:
      parts: averaged scores from `pooled`, float64 [N, K] each.
      over: "max" for the largest score of each class; any other averaging for the mean.

    Returns:
      float64 [N, K].
    """
    stacked = np.asarray(parts, np.float64)
    return stacked.max(axis=0) if over == "max" else stacked.mean(axis=0)


def _context(run: Run, of_padded: str) -> str:
    """What a window sees beyond its border: `of_padded` if the net has padding, otherwise "both"."""
    return of_padded if prepared(run).padded else "both"


def _view_method(
    run: Run, name: str, views: Callable[[np.ndarray, bool], jax.Array | np.ndarray], has_mirrored: bool = False
) -> Method:
    """A method that classifies each view by itself.

    `views` is a function of images of one size, uint8 [n, H, W, C], and of whether to mirror them; it returns views of
    the size of the window, [n, V, height, width, C].
    """
    most, multiply_adds = crop_batch(prepared(run)), prepared(run).table.macs

    def scores(batch: Batch, mirror: bool) -> WindowScores:
        shown = [(indices, np.asarray(views(images, mirror))) for indices, images in _by_size(batch.images)]
        places = np.zeros(len(batch.images), np.int64)
        for indices, cuts in shown:
            places[indices] = cuts.shape[1]
        flat = np.concatenate([cuts.reshape(-1, *cuts.shape[2:]) for _, cuts in shown])
        # As few calls as memory allows, with batches of nearly equal size, so that little is filled up.
        total = batch.size * int(places.max())
        logits = view_logits(run, flat, math.ceil(total / math.ceil(total / most)))
        inside = np.arange(places.max()) < places[:, None]  # [N, V]; small images have fewer places
        found = np.zeros((*inside.shape, logits.shape[-1]), np.float32)
        start = 0
        for indices, cuts in shown:
            stop = start + len(indices) * cuts.shape[1]
            found[indices, : cuts.shape[1]] = logits[start:stop].reshape(*cuts.shape[:2], -1)
            start = stop
        return WindowScores(found, inside, multiply_adds * len(flat) / len(batch.images))

    return Method(name, _context(run, "crop"), scores, has_mirrored)


def _sliding(run: Run, stride: Pair, name: str, backend: str, context: str) -> Method:
    """A method that scores every window of a grid by a backend of `cnn.dense.score_map`."""
    net, window = run.net, run.image_shape[:2]

    @functools.cache  # so that planning is not part of the timed calls
    def cost(shape: tuple[int, ...], backend: str) -> int:
        return dense.multiply_adds(net, shape, dense.plan_grid(net, shape, window, stride), backend)

    def scores(batch: Batch, mirror: bool) -> WindowScores:
        images = [image[:, ::-1] for image in batch.images] if mirror else batch.images
        canvases = labelled_images.lay(images, batch.canvas, batch.size)
        pixels = _normalise(canvases, run.mean, run.std)
        found = dense.score_map(net, run.variables, pixels, window, stride, backend, context=context)
        _, height, width, _ = found.scores.shape
        sizes = [counts(image.shape[:2], window, stride) for image in images]
        rows, columns = np.array(sizes).T
        inside = (np.arange(height) < rows[:, None])[:, :, None] & (np.arange(width) < columns[:, None])[:, None]
        return WindowScores(found.scores[: len(images)], inside, cost(canvases.shape[1:], found.backend))

    return Method(name, _context(run, context), scores)


def _by_size(images: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the images of each size: their indices, and their pixels uint8 [n, H, W, C]."""
    members: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        members.setdefault(image.shape, []).append(index)
    for indices in members.values():
        yield np.array(indices), np.stack([images[i] for i in indices])


@functools.partial(jax.jit, static_argnums=1)
def _resized(images: jax.Array, window: Pair) -> jax.Array:
    """uint8 [N, H, W, C] -> float32 [N, 1, height, width, C] in [0, 1]."""
    return crops.resize(images.astype(jnp.float32) / 255, window)


_normalise: Callable[..., Any] = jax.jit(data.normalise)  # compiled as a whole, not operation by operation
