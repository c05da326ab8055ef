"""How the protocol grid looks at pictures of one scale: crops at places, or densely; scores, their average, their cost.

Crops are cut on the host, so they need one compilation whatever the pictures' sizes. A dense run sees canvases of one
size; the windows that lie inside each picture are told apart by a mask.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cnn import data, dense, geometry
from cnn.dense.backends import crop_batch
from cnn.protocols import labelled_images
from cnn.protocols.crops import cut, mirrored
from cnn.protocols.on_scenes import Comparison, compare, median_seconds
from cnn.runs.checkpoint import Run
from cnn.training import evaluate
from cnn.windows import Pair

CENTRE, TEN, MULTI, DENSE = "centre crop", "ten crops", "multi-crop", "dense"


class Scored(NamedTuple):
    """Scores of the windows of some pictures.

    Attributes:
      scores: class scores (logits), float32 [N, ..., K].
      inside: which of them are windows inside the picture, bool [N, ...].
      multiply_adds: of one picture, the mean.
    """

    scores: jax.Array | np.ndarray
    inside: np.ndarray
    multiply_adds: float

    @property
    def windows(self) -> float:
        """Windows inside a picture, the mean."""
        return float(self.inside.sum() / len(self.inside))


class Method(NamedTuple):
    """A way to look at pictures of one scale.

    Attributes:
      name: of the method.
      context: what a window sees beyond its own border: "crop", "image" or "both".
      scores: (pictures uint8 [H, W, C] each, canvas (H, W), whether to mirror them, size of the batch that they are
        filled up to where that saves a compilation) -> `Scored`.
      by_crops: the same windows, all upright, cut out one by one; None for a method that does just that.
    """

    name: str
    context: str
    scores: Callable[[Sequence[np.ndarray], Pair, bool, int], Scored]
    by_crops: Callable[[Sequence[np.ndarray], Pair, bool, int], Scored] | None = None


class Measured(NamedTuple):
    """What methods took on the same pictures, by (scale, name).

    Attributes:
      seconds: of one picture, upright.
      crop_seconds: of the same windows as crops.
      compared: each dense run with these crops.
    """

    seconds: dict[tuple[int, str], float]
    crop_seconds: dict[tuple[int, str], float]
    compared: dict[tuple[int, str], Comparison]


def crops(run: Run, name: str, places: Callable[[Pair], np.ndarray]) -> Method:
    """A method that cuts windows out and classifies each by itself.

    Args:
      run: a trained net.
      name: of the method.
      places: (H, W) -> places [V, 3], (y, x, mirrored), as in `cnn.protocols.crops`.

    Returns:
      The method; its mirrored pictures are its mirrored views.
    """
    window = run.image_shape[:2]
    grid = dense.plan_grid(run.net, run.image_shape, window, None)
    batch, one = crop_batch(run.net, grid, run.image_shape[2]), geometry.table(run.net, run.image_shape).macs

    def scores(shown: Sequence[np.ndarray], canvas: Pair, flip: bool, count: int) -> Scored:
        del canvas, count
        where = [places((image.shape[0], image.shape[1])) for image in shown]
        where = [mirrored(x) for x in where] if flip else where
        cuts = [cut(image[None], x, window)[0] for image, x in zip(shown, where, strict=True)]
        flat = _in_batches(run, np.concatenate(cuts), batch)
        counts = np.array([len(x) for x in where])
        inside = np.arange(counts.max()) < counts[:, None]  # (N, V): small pictures have fewer places
        found = np.zeros((*inside.shape, flat.shape[-1]), np.float32)
        found[inside] = flat
        return Scored(found, inside, one * len(flat) / len(shown))

    return Method(name, _context(run, "crop"), scores)


def dense_run(run: Run, stride: Pair, name: str = DENSE) -> Method:
    """A method that runs the net over whole pictures, in the context of the image.

    Args:
      run: a trained net.
      stride: between windows, pixels.
      name: of the method.

    Returns:
      The method.
    """
    net, window = run.net, run.image_shape[:2]

    @functools.cache  # out of the timed calls
    def cost(shape: tuple[int, ...], backend: str) -> int:
        return dense.multiply_adds(net, shape, dense.plan_grid(net, shape, window, stride), backend)

    def scores(
        shown: Sequence[np.ndarray], canvas: Pair, flip: bool, count: int, backend: str = "auto", context: str = "image"
    ) -> Scored:
        laid = labelled_images.lay([image[:, ::-1] for image in shown] if flip else shown, canvas, count)
        pixels = _normalise(laid, run.mean, run.std)
        found = dense.score_map(net, run.variables, pixels, window, stride, backend, context=context)
        _, height, width, _ = found.scores.shape
        rows, columns = (
            np.array([(image.shape[axis] - window[axis]) // stride[axis] + 1 for image in shown]) for axis in (0, 1)
        )
        inside = (np.arange(height) < rows[:, None])[:, :, None] & (np.arange(width) < columns[:, None])[:, None]
        return Scored(found.scores[: len(shown)], inside, cost(laid.shape[1:], found.backend))

    by_crops = functools.partial(scores, backend="crops", context="crop")
    return Method(name, _context(run, "image"), scores, by_crops)


def measure(looks: Sequence[Method], shown: Mapping[int, Sequence[np.ndarray]], canvases: Sequence[Pair]) -> Measured:
    """Times methods on the same pictures, in turn, and compares dense runs with their windows as crops.

    Args:
      looks: methods.
      shown: for each scale, the pictures at it, uint8 [H, W, C] each.
      canvases: their canvas at each scale, pixels.

    Returns:
      What they took (see `cnn.protocols.on_scenes.median_seconds`).
    """
    calls: dict[tuple[int, str, bool], Callable[[], Any]] = {}
    compared = {}
    for (scale, images), canvas in zip(shown.items(), canvases, strict=True):
        for look in looks:
            arguments = (images, canvas, False, len(images))
            calls[scale, look.name, False] = functools.partial(_wait, look.scores, *arguments)
            if look.by_crops:
                calls[scale, look.name, True] = functools.partial(_wait, look.by_crops, *arguments)
                pair = (np.asarray(scores(*arguments).scores) for scores in (look.by_crops, look.scores))
                compared[scale, look.name] = compare(*pair)
    seconds = median_seconds(calls)
    each = {key: value / len(next(iter(shown.values()))) for key, value in seconds.items()}
    upright = {key[:2]: value for key, value in each.items() if not key[2]}
    return Measured(upright, upright | {key[:2]: value for key, value in each.items() if key[2]}, compared)


def _wait(scores: Callable[..., Scored], *arguments: Any) -> Any:
    return jax.block_until_ready(scores(*arguments).scores)


def pooled(scored: Scored, over: str) -> np.ndarray:
    """`cnn.dense.average` over the windows that lie inside each picture.

    On the host, in float64: maps come in many sizes, and none needs compiling.

    Args:
      scored: scores of N pictures.
      over: "probabilities", "logits" or "max".

    Returns:
      float64 [N, K].

    Raises:
      ValueError: for another `over`.
    """
    scores = np.asarray(scored.scores, np.float64).reshape(len(scored.inside), -1, scored.scores.shape[-1])
    inside = scored.inside.reshape(len(scored.inside), -1, 1)
    if over == "max":
        return np.where(inside, scores, -np.inf).max(axis=1)
    if over == "probabilities":
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
    elif over != "logits":
        raise ValueError(f"average: over (={over!r}) must be 'probabilities', 'logits' or 'max'")
    return (scores * inside).sum(axis=1) / inside.sum(axis=1)


_normalise = jax.jit(data.normalise)  # one compilation for each size, not one for each operation


def _context(run: Run, of_padded: str) -> str:
    return of_padded if dense.has_padding(run.net, run.image_shape[:2], run.image_shape[2]) else "both"


def _in_batches(run: Run, shown: np.ndarray, batch: int) -> np.ndarray:
    """Logits [M, K] of windows uint8 [M, h, w, C], in batches of one size, the last filled up."""
    found = []
    for start in range(0, len(shown), batch):
        indices = np.minimum(np.arange(start, start + batch), len(shown) - 1)
        found.append(evaluate.logits(run.net, run.variables, shown[indices], run.mean, run.std))
    return np.concatenate([np.asarray(x) for x in found])[: len(shown)]
