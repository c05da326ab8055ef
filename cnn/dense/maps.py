"""Score maps: a classifier's score at every position of an image larger than its window.

What is exact. In a net without padding, the score of a window depends on the window's pixels alone, so every backend
gives the numbers of cutting out every window (`crops`), to float rounding. In a padded net a window cut out by itself
sees padding at its own border where a pass over the image sees the neighbouring pixels. Both are sound, and different:
`ScoreMap.context` says which a map holds.

- "crop": each window is padded by itself. Equal to crops by definition; computed as crops.
- "image": padding lies beyond the image's border and nowhere else: what one pass of the converted net gives at its own
  stride, and what the VGG paper calls dense. "shift", "atrous" and "mpf" give the same numbers, at every stride.
- "both": the net has no padding, the two are the same.

Source: Sermanet et al., "OverFeat" (2013); Simonyan, Zisserman (2014), section 3.2; Giusti et al. (2013).
"""

import functools
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from cnn import geometry
from cnn.dense import grid as grids
from cnn.dense.backends import BACKENDS, run_backend
from cnn.dense.cost import cheapest
from cnn.dense.passes import Variables
from cnn.nets import Net
from cnn.windows import GeometryError, Pair, as_pair

CONTEXTS = ("crop", "image")


class ScoreMap(NamedTuple):
    """Scores of all windows of some images.

    Attributes:
      scores: class scores (logits), [N, h, w, K].
      boxes: pixel box (y0, x0, y1, x1) that each score saw, y1 and x1 exclusive; int [h, w, 4].
      context: what a window saw beyond its own border: "crop" (the net's padding), "image" (the image around it, and
        padding only at the image's border), or "both" (nothing: the net has no padding, the two are the same).
      backend: how it was computed.
    """

    scores: jax.Array
    boxes: np.ndarray
    context: str
    backend: str


def resolve_context(net: Net, window: Sequence[int], channels: int, backend: str, context: str | None) -> str:
    """Which context a map has, from what was asked for.

    Args:
      net: the classifier.
      window: (height, width) that it was trained on, pixels.
      channels: of its images.
      backend: as asked for.
      context: as asked for; None: what the backend computes, "image" for "auto".

    Returns:
      "both" for a net without padding, otherwise "crop" or "image".

    Raises:
      ValueError: for an unknown backend or context, or a backend that computes the other context.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; backends: auto, {', '.join(BACKENDS)}")
    if context is not None and context not in CONTEXTS:
        raise ValueError(f"unknown context {context!r}; contexts: {', '.join(CONTEXTS)}, or None")
    if not grids.has_padding(net, window, channels):
        return "both"
    given = "crop" if backend == "crops" else "image"
    if context is None or context == given:
        return given
    if backend == "auto":
        return context
    raise ValueError(
        f"backend {backend!r} computes context {given!r}, not {context!r}: the net is padded, the two differ. Take "
        + ("backend 'crops' or 'auto'" if context == "crop" else "backend 'shift', 'atrous', 'mpf' or 'auto'")
    )


def score_map(
    net: Net,
    variables: Variables,
    images: jax.Array,
    window: Sequence[int],
    stride: int | Sequence[int] | None = None,
    backend: str = "auto",
    *,
    context: str | None = None,
    memory_limit: int | None = None,
) -> ScoreMap:
    """Class scores of every window of every image.

    Args:
      net: a classifier; fully connected layers are converted as needed.
      variables: its variables.
      images: [N, H, W, C], floating, normalised as in training.
      window: (height, width) that the net was trained on, pixels.
      stride: distance between windows, one number or (vertical, horizontal), pixels, at least 1; None: the net's own.
      backend: "crops" cuts out every window and runs the net on it; "shift" runs the converted net once for each
        offset that the stride needs and interleaves the maps; "atrous" runs it once with pools and convolutions
        dilated; "mpf" runs it once on max-pooling fragments; "auto" takes the cheapest of those that compute the
        context, by `cnn.dense.cost`.
      context: "crop" or "image" (see above); None: what the backend computes, "image" for "auto".
      memory_limit: for "auto", of what a run needs beside the parameters, bytes; None: no limit.

    Returns:
      A `ScoreMap`.

    Raises:
      ValueError: for an unknown backend or context, or if the two do not go together.
      GeometryError: if the window, stride, image and trained kernels do not fit each other, or a layer cannot slide.
      MemoryError: if no backend stays under the memory limit.
    """
    if images.ndim != 4:
        raise GeometryError(f"score_map: images have shape {images.shape}; they must be [N, H, W, C]")
    images = jnp.asarray(images)
    image_shape = images.shape[1:]
    window = as_pair(window, "window", "score_map")
    stride = None if stride is None else as_pair(stride, "stride", "score_map")
    grid, context, backend = _resolve(
        cast(Hashable, net), image_shape, window, stride, backend, context, memory_limit, len(images)
    )
    geometry.table(net, (*grid.window, image_shape[2]), variables)  # raises if the kernels are of another window
    scores = run_backend(net, variables, images, grid, backend)
    return ScoreMap(scores, grids.boxes(net, image_shape, grid, context), context, backend)


@functools.lru_cache(maxsize=256)
def _resolve(
    net: Any,
    image_shape: tuple[int, int, int],
    window: Pair,
    stride: Pair | None,
    backend: str,
    context: str | None,
    memory_limit: int | None,
    count: int,
) -> tuple[grids.Grid, str, str]:
    """Where the windows lie, and the context and backend that answer what was asked; planned once for each shape."""
    grid = grids.plan_grid(net, image_shape, window, stride)
    context = resolve_context(net, grid.window, image_shape[2], backend, context)
    if backend == "auto":
        backend = cheapest(net, image_shape, grid, context, memory_limit, count)
    return grid, context, backend


def average(scores: jax.Array, over: str = "probabilities") -> jax.Array:
    """One score for each class from a map of them.

    Args:
      scores: class scores (logits), [N, ..., K].
      over: "probabilities" (mean of the softmax), "logits" (mean), or "max" (each class's largest logit).

    Returns:
      [N, K] in float32: mean probabilities, mean logits, or largest logits.

    Raises:
      ValueError: for another `over`.
    """
    scores = jnp.asarray(scores).astype(jnp.float32)
    flat = scores.reshape(scores.shape[0], -1, scores.shape[-1])
    if over == "probabilities":
        return jax.nn.softmax(flat, axis=-1).mean(axis=1)
    if over == "logits":
        return flat.mean(axis=1)
    if over == "max":
        return flat.max(axis=1)
    raise ValueError(f"average: over (={over!r}) must be 'probabilities', 'logits' or 'max'")
