"""Dense evaluation: a classifier's score at every position of an image larger than its window.

What is exact. In a net without padding, the score of a window depends on the window's pixels alone, so one pass of the
converted net gives the same numbers as cutting out every window (`crops`), to float rounding. In a padded net a window
cut out by itself sees padding at its own border where the pass over the whole image sees the neighbouring pixels. Both
are sound, and different: `ScoreMap.context` says which a map holds ("crop" or "image"; "both" where they are equal).

Source: Sermanet et al., "OverFeat" (2013); Simonyan, Zisserman (2014), section 3.2; Giusti et al. (2013).
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn import convert, geometry
from cnn.net import Net
from cnn.windows import GeometryError, Pair, as_pair, shape_text

Variables = Mapping[str, Any]
# Of the largest activation of one batch of crops. On CPU one that stays in the cache is twice as fast as a large one.
CROP_BATCH_BYTES = {"cpu": 2 * 2**20}
CROP_BATCH_BYTES_ELSEWHERE = 64 * 2**20


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


class Grid(NamedTuple):
    """Where the windows of a map lie.

    Attributes:
      window: height and width of a window, pixels.
      stride: distance between neighbouring windows, pixels.
      size: windows along each axis.
      native: the net's own total stride, pixels.
    """

    window: Pair
    stride: Pair
    size: Pair
    native: Pair


def native_stride(net: Net, window: Sequence[int], channels: int) -> Pair:
    """Distance between neighbouring scores of one pass of the converted net.

    Args:
      net: the classifier.
      window: (height, width) that it was trained on, pixels.
      channels: of its images.

    Returns:
      (vertical, horizontal), pixels.

    Raises:
      GeometryError: if the window does not fit the net.
    """
    return geometry.table(net, (*window, channels))[-1].stride


def has_padding(net: Net, window: Sequence[int], channels: int) -> bool:
    """Whether a window cut out by itself sees padding anywhere (also under a ceil-mode pool that hangs over).

    Args:
      net: the classifier.
      window: (height, width) that it was trained on, pixels.
      channels: of its images.

    Returns:
      True if "crop" and "image" context differ.

    Raises:
      GeometryError: if the window does not fit the net.
    """
    shape = (*window, channels)
    for layer, row in zip(net.layers, geometry.table(net, shape), strict=True):
        if len(shape) == 3 and len(row.output_shape) == 3:
            seen = layer.window(shape)
            for axis in range(2):
                last = (row.output_shape[axis] - 1) * seen.stride[axis] + seen.extent[axis]
                if seen.padding[axis][0] or last > shape[axis]:
                    return True
        shape = row.output_shape
    return False


def plan_grid(net: Net, image_shape: Sequence[int], window: Sequence[int], stride: int | Sequence[int] | None) -> Grid:
    """Lays the windows out: the first at (0, 0), then every `stride` pixels as long as they fit.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      window: (height, width) that the net was trained on, pixels.
      stride: one number or (vertical, horizontal), pixels; None: the net's own.

    Returns:
      A `Grid`. Pixels beyond the last window are not seen; the boxes say which are.

    Raises:
      GeometryError: if the window does not fit the net or is larger than the image, or the stride is below 1.
    """
    window = as_pair(window, "window", "score_map")
    native = native_stride(net, window, image_shape[2])
    stride = native if stride is None else as_pair(stride, "stride", "score_map")
    if window[0] > image_shape[0] or window[1] > image_shape[1]:
        raise GeometryError(
            f"score_map: the window {shape_text(window)} is larger than the image {shape_text(image_shape[:2])}; "
            f"resize or pad the image to at least {max(window[0], image_shape[0])}x{max(window[1], image_shape[1])}"
        )
    size = tuple((n - w) // s + 1 for n, w, s in zip(image_shape[:2], window, stride, strict=True))
    return Grid(window, stride, (size[0], size[1]), native)


def multiply_adds(net: Net, image_shape: Sequence[int], grid: Grid, backend: str) -> int:
    """Multiply-adds of one image's score map.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      grid: from `plan_grid`.
      backend: "crops" or "shift".

    Returns:
      The number of multiply-adds.
    """
    channels = image_shape[2]
    if backend == "crops":
        return geometry.table(net, (*grid.window, channels)).macs * grid.size[0] * grid.size[1]
    conv_net = convert.convolutional(net, (*grid.window, channels))
    return sum(
        geometry.table(conv_net, (vertical.extent, horizontal.extent, channels)).macs
        for vertical in _passes(grid, 0)
        for horizontal in _passes(grid, 1)
    )


def score_map(
    net: Net,
    variables: Variables,
    images: jax.Array,
    window: Sequence[int],
    stride: int | Sequence[int] | None = None,
    backend: str = "auto",
) -> ScoreMap:
    """Class scores of every window of every image.

    Args:
      net: a classifier; fully connected layers are converted as needed.
      variables: its variables.
      images: [N, H, W, C], floating, normalised as in training.
      window: (height, width) that the net was trained on, pixels.
      stride: distance between windows, one number or (vertical, horizontal), pixels, at least 1; None: the net's own.
      backend: "crops" cuts out every window and runs the net on it (context "crop"); "shift" runs the converted net
        once for each offset that the stride needs, on the image cropped by that offset, and interleaves the maps
        (context "image"); "auto" takes the one with fewer multiply-adds for a net without padding, and "shift" for a
        padded one, so that the meaning of a number never depends on its cost.

    Returns:
      A `ScoreMap`. A padded net's shifted passes pad the border of each cropped copy.

    Raises:
      ValueError: for an unknown backend.
      GeometryError: if the window, stride, image and trained kernels do not fit each other, or a layer cannot slide.
    """
    if backend != "auto" and backend not in _BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; backends: auto, {', '.join(_BACKENDS)}")
    if images.ndim != 4:
        raise GeometryError(f"score_map: images have shape {images.shape}; they must be [N, H, W, C]")
    images = jnp.asarray(images)
    image_shape = images.shape[1:]
    grid = plan_grid(net, image_shape, window, stride)
    geometry.table(net, (*grid.window, image_shape[2]), variables)  # raises if the kernels are of another window
    padded = has_padding(net, grid.window, image_shape[2])
    if backend == "auto":
        costs = {name: multiply_adds(net, image_shape, grid, name) for name in _BACKENDS}
        backend = "shift" if padded else min(costs, key=lambda name: costs[name])
    context = "both" if not padded else "crop" if backend == "crops" else "image"
    scores = _BACKENDS[backend](net, variables, images, grid)
    return ScoreMap(scores, boxes(net, image_shape, grid, context), context, backend)


def boxes(net: Net, image_shape: Sequence[int], grid: Grid, context: str) -> np.ndarray:
    """Pixel boxes that the scores of a grid see: their receptive fields, cut at the window ("crop") or the image.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      grid: from `plan_grid`.
      context: "crop", "image" or "both".

    Returns:
      int64 [h, w, 4]: (y0, x0, y1, x1), y1 and x1 exclusive.
    """
    last = geometry.table(net, (*grid.window, image_shape[2]))[-1]
    edges = []
    for axis in range(2):
        start = np.arange(grid.size[axis]) * grid.stride[axis]
        low = start + last.offset[axis]
        high = low + last.receptive_field[axis]
        if context == "image":
            edges.append((np.maximum(low, 0), np.minimum(high, image_shape[axis])))
        else:
            edges.append((np.maximum(low, start), np.minimum(high, start + grid.window[axis])))
    (y0, y1), (x0, x1) = edges
    corners = [np.broadcast_to(edge, grid.size) for edge in (y0[:, None], x0[None, :], y1[:, None], x1[None, :])]
    return np.stack(corners, axis=-1)


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


class _Pass(NamedTuple):
    """One axis of a shifted pass: crop [start, start + extent), take outputs `take`, put them at `put` in the map."""

    start: int
    extent: int
    take: slice
    put: slice


def _passes(grid: Grid, axis: int) -> list[_Pass]:
    """The shifts that one axis needs: one for each remainder of the window positions modulo the net's stride.

    Positions i * stride share a pass when they agree modulo the native stride, that is every `period`-th of them.
    """
    native, stride = grid.native[axis], grid.stride[axis]
    period = native // math.gcd(native, stride)
    step = stride * period // native  # outputs of a pass between two that are kept
    passes = []
    for first in range(min(period, grid.size[axis])):
        count = -(-(grid.size[axis] - first) // period)
        extent = grid.window[axis] + (count - 1) * step * native
        # A pass starts at its first window, so that its output 0 is that window's score.
        passes.append(_Pass(first * stride, extent, slice(0, None, step), slice(first, None, period)))
    return passes


def _shift(net: Net, variables: Variables, images: jax.Array, grid: Grid) -> jax.Array:
    """One pass of the converted net for each pair of shifts, interleaved."""
    conv_net, conv_variables = convert.fc_to_conv(net, variables, (*grid.window, images.shape[3]))
    scores: jax.Array | None = None
    for vertical in _passes(grid, 0):
        for horizontal in _passes(grid, 1):
            part = _run_shifted(
                conv_net, (vertical.extent, horizontal.extent), conv_variables, images, vertical.start, horizontal.start
            )[:, vertical.take, horizontal.take]
            if scores is None:
                scores = jnp.zeros((part.shape[0], *grid.size, part.shape[-1]), part.dtype)
            scores = scores.at[:, vertical.put, horizontal.put].set(part)
    assert scores is not None
    return scores


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_shifted(net: Net, extent: Pair, variables: Variables, images: jax.Array, y: int, x: int) -> jax.Array:
    """The net on a part of the images; the offset is traced, so all shifts of one extent share a compilation."""
    size = (images.shape[0], *extent, images.shape[3])
    scores: Any = net.apply(variables, jax.lax.dynamic_slice(images, (0, y, x, 0), size), train=False)
    return scores


def _crops(net: Net, variables: Variables, images: jax.Array, grid: Grid) -> jax.Array:
    """The net on every window, in batches: slow and obviously right."""
    count = images.shape[0] * grid.size[0] * grid.size[1]
    table = geometry.table(net, (*grid.window, images.shape[3]))
    largest = 4 * max(math.prod(row.output_shape) for row in table)
    limit = CROP_BATCH_BYTES.get(jax.default_backend(), CROP_BATCH_BYTES_ELSEWHERE)
    batch = max(1, min(count, limit // largest))
    n, i, j = np.unravel_index(np.arange(-(-count // batch) * batch) % count, (images.shape[0], *grid.size))
    corners = np.stack([n, i * grid.stride[0], j * grid.stride[1]], axis=1).astype(np.int32)
    parts = [
        _run_crops(net, grid.window, variables, images, corners[start : start + batch])
        for start in range(0, count, batch)
    ]
    scores = jnp.concatenate(parts)[:count]
    return scores.reshape(images.shape[0], *grid.size, scores.shape[-1])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_crops(net: Net, window: Pair, variables: Variables, images: jax.Array, corners: jax.Array) -> jax.Array:
    """The net on windows whose (image, y, x) are given: [B, 3] -> [B, K]."""

    def cut(corner: jax.Array) -> jax.Array:
        n, y, x = corner
        return jax.lax.dynamic_slice(images, (n, y, x, 0), (1, *window, images.shape[3]))[0]

    scores: Any = net.apply(variables, jax.vmap(cut)(corners), train=False)
    return scores.reshape(corners.shape[0], scores.shape[-1])


_BACKENDS: dict[str, Callable[[Net, Variables, jax.Array, Grid], jax.Array]] = {"crops": _crops, "shift": _shift}
