"""Score maps: a classifier's score at every position of an image larger than its window.

**Context: which scores a map holds.** In a net without padding, the score of a window depends on the window's pixels
only, and every backend gives the scores of windows that are cut out one by one ("crops"). In a padded net, a window
that is cut out sees padding at its own border, where a pass over the image sees the neighbouring pixels. These are two
different measurements, and `ScoreMap.context` says which of them a map holds:

- "crop": each window is padded by itself. The scores are those of crops by definition, and are computed as crops.
- "image": padding lies beyond the image's border only. These are the scores of one pass of the converted net at its
  native stride, which the VGG paper calls dense. "shift", "atrous" and "mpf" give the same scores, at every stride.
- "both": the net has no padding, so that the two are the same.

**Accuracy.** By default scores are exact within 1e-5 of the largest logit: convolutions use whichever algorithm is
fastest for their shapes, and its rounding. With `position_invariant=True` every score is rounded in the same way at
every position: the map of a part of an image is, to the bit, a part of the image's map. `cnn.dense.stream` and
`cnn.dense.score_maps`, which cut images into tiles, always compute in this way and give the same bits, on CPUs. Maps or
tiles of few scores are an exception, because small convolutions are summed in another order
(`cnn.dense.tiles.equals_whole`); on accelerators nothing is promised beyond 1e-5 of the largest logit.

**Values.** Images and scores have one dtype (`cnn.nets.arrays_in`): float16 and bfloat16 are computed as such, float64
as float32 unless `jax_enable_x64` is set. A window that sees a NaN has scores that are NaN, other windows do not, and
infinities are numbers like others. Where it holds images with values that are not finite, a net with convolutions wide
enough for Winograd's algorithm, which mixes pixels of neighbouring windows, is computed without it; within `jax.jit`
such values are not known, and `position_invariant=True` rules it out.

Source: Sermanet et al., "OverFeat" (2013); Simonyan, Zisserman (2014), section 3.2; Giusti et al. (2013).
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from cnn.dense import split_images, split_plans
from cnn.dense.arguments import named
from cnn.dense.backends import run_backend
from cnn.dense.contexts import resolve_context
from cnn.dense.cost import cheapest, check_memory
from cnn.dense.grid import Grid, lay_grid, with_sight
from cnn.dense.passes import Variables
from cnn.dense.prepared import PreparedNet, may_spread, prepare, prepare_trained
from cnn.nets import Net, outputs
from cnn.nets.arrays_in import checked_images, image_array, score_array, variables_for
from cnn.runtime.byte_sizes import as_bytes
from cnn.runtime.compiler import jit_once
from cnn.runtime.devices import Devices
from cnn.windows import Pair, as_pair, shape_text


class ScoreMap(NamedTuple):
    """The scores of all windows of one or more images of one size; prints in one line.

    Attributes:
      scores: class scores (logits), floating [N, h, w, K].
      boxes: box of pixels (y0, x0, y1, x1) that each score depends on, y1 and x1 exclusive; int64 [h, w, 4].
      context: what a window sees beyond its own border: "crop" (the net's padding), "image" (the image around it, and
        padding only at the image's border), or "both" (nothing: the net has no padding, the two are the same).
      backend: name of the backend that computed the map: "crops", "shift", "atrous" or "mpf".
      grid: where the windows lie: window, stride, and the boxes before they are cut at the image's border.
      output_activation: what the scores mean, "softmax" or "sigmoid" (`cnn.nets.outputs`): that of the net.
    """

    scores: jax.Array
    boxes: np.ndarray
    context: str
    backend: str
    grid: Grid
    output_activation: str = "softmax"

    def __repr__(self) -> str:
        count, height, width, classes = self.scores.shape
        images = "1 image" if count == 1 else f"{count} images"
        return (
            f"ScoreMap({images}: {height}x{width} windows of {shape_text(self.grid.window)} pixels every "
            f"{shape_text(self.grid.stride)}{' and at the border' if any(self.grid.last) else ''}, "
            f"{outputs.class_count(classes)} classes, "
            f"context {self.context!r}, backend {self.backend!r})"
        )


@named(images=None)
def score_map(
    net: Net,
    variables: Variables,
    images: jax.Array | np.ndarray,
    window: Sequence[int],
    stride: int | Sequence[int] | None = None,
    backend: str = "auto",
    *,
    context: str | None = None,
    memory_limit: int | str | None = None,
    position_invariant: bool = False,
    cover: bool = False,
    devices: Sequence[Any] | None = None,
) -> ScoreMap:
    """Class scores of every window of every image.

    Args:
      net: a classifier; fully connected layers are converted as needed.
      variables: its variables.
      images: floating [N, H, W, C], normalised as in training; N may be 0.
      window: (height, width) that the net was trained on, pixels.
      stride: distance between windows, one number or (vertical, horizontal), pixels, at least 1; None: the native
        stride.
      backend: "crops" cuts out every window and runs the net on it; "shift" runs the converted net once for each
        offset that the stride needs and interleaves the maps; "atrous" runs it once with dilated pools and
        convolutions; "mpf" runs it once on max-pooling fragments; "auto" uses the one of least predicted cost
        (`cnn.dense.cost`) among those that compute the context.
      context: "crop" or "image" (see the module's docstring); None: the context that the backend computes, "image" for
        "auto".
      memory_limit: bytes that the computation may take beside the parameters, on each device, a number or a text such
        as "2GB"; "auto" takes a backend that stays within it, any other must; None: no limit.
      position_invariant: whether every score is rounded in the same way at every position. This is slower; the map then
        equals, to the bit, those of `stream` and `score_maps`, and its parts are the maps of parts of the image (on
        CPUs, unless they have few scores: see the module's docstring).
      cover: whether no pixel is left out: where the stride does not fit the image, one more row or column of windows
        lies flush with its bottom or right border, nearer to the one before it than the stride (`Grid.last`). An image
        that the stride fits has the same map with and without.
      devices: devices of this process that the rows of each image are split over, for images that are too large for
        one: no device ever holds the whole image, a whole layer or the whole map (`cnn.dense.split_images`). Images of
        the host (NumPy) go there at once, and those of a device should be split by rows already. The scores are equal
        to those of one device within 1e-5 of the largest logit, with `position_invariant` to the bit (on CPUs), and are
        split by rows over the devices where their number divides the map's rows (else see
        `cnn.dense.split_images.run_split`). None: the images are computed where they are.

    Returns:
      A `ScoreMap`.

    Raises:
      TypeError: if the images are not floating, or no array.
      ValueError: if backend or context are unknown, the backend does not compute the context, or the devices are not
        of this process.
      GeometryError: if the window, stride, image and trained kernels do not fit each other, or a layer cannot slide.
      MemoryError: if the backend, or all of them with "auto", need more than the memory limit.
    """
    pixels: Any = images
    if devices is not None:
        devices = split_plans.check_devices(devices)
        pixels = checked_images(pixels, "score_map")
    if devices is None or pixels.shape[0] == 0:
        devices, pixels = None, image_array(pixels, "score_map")
    shape = pixels.shape[1:]
    stride = None if stride is None else as_pair(stride, "stride", "score_map")
    limit = None if memory_limit is None else as_bytes(memory_limit, "memory_limit")
    prepared = prepare_trained(net, variables, window, shape[2], position_invariant)
    over = None if devices is None else Devices(devices)
    if over is not None:
        pixels = split_images.place(pixels, over)
    if may_spread(prepared) and not isinstance(pixels, jax.core.Tracer) and not bool(_all_finite(pixels)):
        prepared = prepare(net, window, shape[2], position_invariant=True)
    trained = variables_for(variables, pixels)
    if over is None:
        grid, context, backend = _resolve(prepared, shape, stride, backend, context, limit, pixels.shape[0], cover)
        scores = run_backend(prepared, trained, pixels, grid, backend)
    else:
        split = split_plans.plan_split(
            prepared, tuple(shape), stride, backend, context, over.count, limit, pixels.shape[0], cover
        )
        grid, context, backend = split.tiling.grid, split.tiling.context, split.tiling.backend
        scores = split_images.run_split(split, over, trained, pixels)
    grid = with_sight(prepared, shape, grid, context)
    return ScoreMap(scores, grid.boxes(shape), context, backend, grid, net.output_activation)


@functools.partial(jit_once, static_argnums=())
def _all_finite(images: jax.Array) -> jax.Array:
    return jnp.isfinite(images).all()


@functools.lru_cache(maxsize=256)
def _resolve(
    prepared: PreparedNet,
    image_shape: tuple[int, int, int],
    stride: Pair | None,
    backend: str,
    context: str | None,
    memory_limit: int | None,
    count: int,
    cover: bool,
) -> tuple[Grid, str, str]:
    """The grid, the context and the backend of a map; kept, so that they are computed once for each image shape."""
    grid = lay_grid(prepared, image_shape, stride, cover)
    context = resolve_context(prepared, backend, context)
    if backend == "auto":
        backend = cheapest(prepared, image_shape, grid, context, memory_limit, count)
    elif memory_limit is not None:
        check_memory(prepared, image_shape, grid, (backend,), memory_limit, count)
    return grid, context, backend


@named()
def average(
    scores: jax.Array | ScoreMap, over: str = "probabilities", output_activation: str | None = None
) -> jax.Array:
    """Averages the scores of a map to one score for each class.

    Args:
      scores: a `ScoreMap`, or the scores (logits) of one, real numbers [N, ..., K]; N may be 0. A single score z
        (K = 1) counts as the scores [0, z] of two classes. All windows count alike, also those that `cover` adds.
      over: "probabilities" (their mean), "logits" (mean of the logits), or "max" (largest logit of each class).
      output_activation: what the scores mean, "softmax" or "sigmoid" (`cnn.nets.outputs`); None: what the map says,
        "softmax" for scores alone.

    Returns:
      float32 [N, K]: mean probabilities, mean logits, or largest logits. A NaN among the scores of an image stays NaN:
      in the class that has it, and in all classes of the probabilities of a softmax. Infinite logits have the
      probabilities of very large ones.

    Raises:
      TypeError: if the scores are not numbers.
      ValueError: if `over` or the output activation are unknown, or the scores have no axis of classes.
    """
    if over not in ("probabilities", "logits", "max"):
        raise ValueError(f"average: over (={over!r}) must be 'probabilities', 'logits' or 'max'")
    if isinstance(scores, ScoreMap):
        scores, output_activation = scores.scores, output_activation or scores.output_activation
    output_activation = outputs.check_activation(output_activation or "softmax", "average")
    made = jnp.asarray(score_array(scores, "average")).astype(jnp.float32)
    if made.ndim < 2 or not math.prod(made.shape[1:]):
        raise ValueError(f"average: scores have shape {made.shape}; they must be [N, ..., K], with scores of a class")
    flat = made.reshape(made.shape[0], math.prod(made.shape[1:-1]), made.shape[-1])
    classes = outputs.class_scores(flat)
    if over == "max":
        return classes.max(axis=1)
    return (outputs.probabilities(flat, output_activation) if over == "probabilities" else classes).mean(axis=1)
