"""The four ways to compute a score map, equal in value: crops, shifted passes, one dilated pass, fragments."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.export import is_symbolic_dim

from cnn import geometry
from cnn.dense import dilation, fragments, lattice, passes
from cnn.dense.grid import Grid
from cnn.dense.passes import Schedule, Variables
from cnn.dense.prepared import PreparedNet
from cnn.layers import BlurPool, Conv, Layer, WindowLayer, changed
from cnn.nets import Net
from cnn.runtime.compiler import jit_net, jit_once
from cnn.windows import GeometryError, Pair

BACKENDS = ("crops", "shift", "atrous", "mpf")
# Largest activation in a batch of crops, bytes. On CPU a batch whose activations stay in the cache is fastest.
CROP_BATCH_BYTES = {"cpu": 2 * 2**20}
CROP_BATCH_BYTES_ELSEWHERE = 64 * 2**20
# Scores along an axis that a position-invariant net computes for one at the border: on all machines that were measured
# as many are rounded like those of a larger map (`cnn.dense.tiles.LEAST_OUTPUTS`, and twice as many).
BORDER_OUTPUTS = 32


class Pass(NamedTuple):
    """One pass of the converted net.

    Attributes:
      schedule: how each layer of the converted net runs.
      corner: first pixel (y, x) of the image that the pass reads.
      rows, columns: the rows and columns of the map that hold its scores.
    """

    schedule: Schedule
    corner: Pair
    rows: slice
    columns: slice


def plan_passes(prepared: PreparedNet, image_shape: Sequence[int], grid: Grid, backend: str) -> tuple[Pass, ...]:
    """The passes that a backend runs.

    Args:
      prepared: the classifier and its window.
      image_shape: (height, width, channels), pixels.
      grid: where the windows of the map lie.
      backend: "shift", "atrous" or "mpf".

    Returns:
      One pass for "atrous" and "mpf". For "shift" one pass for each pair of remainders, vertical and horizontal, that
      the windows' positions have modulo the native stride. Windows that lie flush with the border (`Grid.last`) take a
      strip more along each axis, and a corner.

    Raises:
      GeometryError: if a layer cannot slide.
    """
    return _plan_passes(prepared, (int(image_shape[0]), int(image_shape[1])), grid, backend)


@functools.lru_cache(maxsize=256)  # planning a small net takes as long as a small map of it
def _plan_passes(prepared: PreparedNet, size: Pair, grid: Grid, backend: str) -> tuple[Pass, ...]:
    routes = []
    for i, axis in enumerate(prepared.axes(size)):
        end = None if grid.last[i] is None else grid.regular[i]
        along = _routes(axis, grid.step[i], grid.regular[i], grid.native[i], backend, prepared.padded, end)
        if grid.last[i] is not None:
            along.append(_route_at_border(axis, grid, i, prepared))
        routes.append(along)
    return tuple(
        Pass(Schedule(prepared.converted.net, vertical, horizontal), (y, x), rows, columns)
        for y, vertical, rows in routes[0]
        for x, horizontal, columns in routes[1]
    )


def _routes(
    axis: lattice.Axis, stride: int, size: int, native: int, backend: str, clip: bool, end: int | None
) -> list[tuple[int, lattice.Route, slice]]:
    """The runs along one axis: the first pixel, the route from there, and the places of its scores before `end`."""
    if backend == "atrous":
        routes = [(0, dilation.dilated(axis, 0, stride, size, clip), slice(end))]
    elif backend == "mpf":
        routes = [(0, fragments.fragmented(axis, stride, size, clip), slice(end))]
    else:
        routes = []
        # Windows at positions that are equal modulo the native stride share a pass: every `period`-th window.
        period = native // math.gcd(native, stride)
        for first in range(min(period, size)):
            count = -(-(size - first) // period)
            start = first * stride
            # Without padding, passes of one size are the same program, run on different parts of the image.
            route = dilation.dilated(axis, start if clip else 0, stride * period, count, clip)
            routes.append((0 if clip else start, route, slice(first, end, period)))
    return [(start + route.first, route._replace(first=0), put) for start, route, put in routes]


def _route_at_border(axis: lattice.Axis, grid: Grid, i: int, prepared: PreparedNet) -> tuple[int, lattice.Route, slice]:
    """The run of the last windows where these lie flush with the border: dilated, like one shift of any backend.

    One score along the axis is enough; a position-invariant net computes as many as a tile has at least, ending at the
    border, and keeps the last: fewer would be rounded otherwise.
    """
    last, step, clip = grid.last[i], grid.step[i], prepared.padded
    assert last is not None
    count = min(BORDER_OUTPUTS, grid.regular[i]) if prepared.position_invariant else 1
    start = last - (count - 1) * step
    route = dilation.dilated(axis, start if clip else 0, step if count > 1 else grid.native[i], count, clip)
    route = route._replace(skip=count - 1, count=1)
    return (0 if clip else start) + route.first, route._replace(first=0), slice(grid.size[i] - 1, grid.size[i])


def fixed_padding(prepared: PreparedNet, grid: Grid) -> str | None:
    """Looks for a layer whose padding is not constant; a net with one can only be run in whole passes over the image.

    Args:
      prepared: the classifier and its window.
      grid: where the windows of the map lie.

    Returns:
      The label of the first such layer, or None.

    Raises:
      GeometryError: if the map's stride, or the place of its windows at the border, is not a multiple of the native
        stride, so that it is not one whole pass.
    """
    for layer, _ in geometry.leaves(prepared.net.layers, prepared.image_shape):
        if not isinstance(layer, Conv | BlurPool) or layer.padding_mode in ("zero", "constant"):
            continue
        if layer.padding not in ("valid", 0):
            if any(s % n for s, n in zip(grid.step, grid.native, strict=True)):
                raise GeometryError(
                    f"{layer.label}: padding_mode {layer.padding_mode!r} is defined by the values of one pass; stride "
                    f"{grid.stride} is no multiple of the native stride {grid.native}. Take such a stride, or "
                    f"context='crop'"
                )
            if any(last is not None and last % n for last, n in zip(grid.last, grid.native, strict=True)):
                raise GeometryError(
                    f"{layer.label}: padding_mode {layer.padding_mode!r} is defined by the values of one pass; with "
                    f"cover=True the last windows start at {grid.last}, no multiple of the native stride "
                    f"{grid.native}. Take cover=False, an image that the stride fits, or context='crop'"
                )
            return layer.label
    return None


def run_backend(prepared: PreparedNet, variables: Variables, images: jax.Array, grid: Grid, backend: str) -> jax.Array:
    """Computes a score map.

    Args:
      prepared: the classifier and its window.
      variables: the classifier's variables.
      images: floating [N, H, W, C], normalised as in training.
      grid: where the windows of the map lie.
      backend: one of `BACKENDS`.

    Returns:
      Scores [N, h, w, K].

    Raises:
      GeometryError: if a layer cannot slide.
    """
    if backend == "crops":
        return _crops(prepared, variables, images, grid)
    if fixed_padding(prepared, grid):
        return _whole(prepared, grid, variables, images)
    planned = plan_passes(prepared, images.shape[1:], grid, backend)
    if not is_symbolic_dim(images.shape[0]) and images.shape[0] == 0:
        # Not run: a layer whose window is its whole input flattens it, which no images do not say how.
        return jnp.zeros((0, *grid.size, prepared.table[-1].output_shape[-1]), images.dtype)
    if prepared.padded:  # each shifted pass is a program of its own: 64 of them for a native stride of 32 at stride 4
        run_pass.room_for(len(planned))
    parts = [run_pass(prepared, one.schedule, variables, images, *one.corner) for one in planned]
    if len(parts) == 1 and planned[0].schedule.count == grid.size:
        return parts[0]
    return _joined(grid.size, tuple((_numbers(one.rows), _numbers(one.columns)) for one in planned), parts)


def _numbers(part: slice) -> tuple[int | None, ...]:
    """A slice as something that can be hashed."""
    return part.start, part.stop, part.step


@functools.partial(jit_once, static_argnums=(0, 1))
def _joined(size: Pair, places: tuple[Any, ...], parts: Sequence[jax.Array]) -> jax.Array:
    """A map from the scores of its passes, each with the rows and columns where they lie."""
    scores = jnp.zeros((parts[0].shape[0], *size, parts[0].shape[-1]), parts[0].dtype)
    for (rows, columns), part in zip(places, parts, strict=True):
        scores = scores.at[:, slice(*rows), slice(*columns)].set(part)
    return scores


@functools.partial(jit_net, static_argnums=(0, 1))
def run_pass(
    prepared: PreparedNet, schedule: Schedule, variables: Variables, images: jax.Array, y: int, x: int
) -> jax.Array:
    """One pass over the part of the images that starts at pixel (y, x): [N, *schedule.count, K].

    The pixel is a traced argument, so that all passes of one schedule share a compilation.
    """
    count, height, width, channels = images.shape
    beyond = [max(0, n - m) for n, m in zip(schedule.extent, (height, width), strict=True)]
    images = jnp.pad(images, ((0, 0), (0, beyond[0]), (0, beyond[1]), (0, 0)))
    part = jax.lax.dynamic_slice(images, (0, y, x, 0), (count, *schedule.extent, channels))
    return passes.run(schedule, prepared.converted.variables(variables), part)


@functools.partial(jit_net, static_argnums=(0, 1))
def _whole(prepared: PreparedNet, grid: Grid, variables: Variables, images: jax.Array) -> jax.Array:
    """The wanted scores of one pass over the whole image, in which sizes that do not divide are rounded down."""

    def floored(layer: Layer) -> Layer:
        exact = isinstance(layer, WindowLayer) and layer.rounding == "exact"
        return layer.clone(rounding="floor") if exact else layer

    scores: Any = Net(changed(prepared.converted.net.layers, floored)).apply(
        prepared.converted.variables(variables), images, train=False
    )
    for axis, (n, s, m) in enumerate(zip(grid.regular, grid.step, grid.native, strict=True)):
        last = grid.last[axis]
        regular = jax.lax.slice_in_dim(scores, 0, (n - 1) * s // m + 1, s // m, axis + 1)
        border = [] if last is None else [jax.lax.slice_in_dim(scores, last // m, last // m + 1, 1, axis + 1)]
        scores = jnp.concatenate([regular, *border], axis + 1) if border else regular
    return scores


def crop_batch(prepared: PreparedNet, platform: str | None = None) -> int:
    """Number of windows in one batch of the "crops" backend.

    Args:
      prepared: the classifier and its window.
      platform: "cpu" or another; None: that of this process, for predictions. A program takes that for which it is
        lowered.

    Returns:
      The number with which the largest activation stays below the limit of the platform (`CROP_BATCH_BYTES`).
    """
    largest = 4 * max(math.prod(row.output_shape) for row in geometry.flat(prepared.table))
    limit = CROP_BATCH_BYTES.get(platform or jax.default_backend(), CROP_BATCH_BYTES_ELSEWHERE)
    return max(1, limit // largest)


def _crops(prepared: PreparedNet, variables: Variables, images: jax.Array, grid: Grid) -> jax.Array:
    """Scores of every window, cut out and classified in batches: slow and obviously right."""
    if is_symbolic_dim(images.shape[0]):
        raise GeometryError(
            f"backend 'crops' cuts out a known number of windows, and the number of images (={images.shape[0]}) is "
            f"symbolic; take another backend"
        )

    def run(variables: Variables, images: jax.Array, platform: str) -> jax.Array:
        return _crops_in_batches(prepared, variables, images, grid, crop_batch(prepared, platform))

    cpu, default = (functools.partial(run, platform=platform) for platform in ("cpu", "elsewhere"))
    return jax.lax.platform_dependent(variables, images, cpu=cpu, default=default)


def _crops_in_batches(
    prepared: PreparedNet, variables: Variables, images: jax.Array, grid: Grid, most: int
) -> jax.Array:
    count = images.shape[0] * grid.size[0] * grid.size[1]
    if not count:
        return jnp.zeros((0, *grid.size, prepared.table[-1].output_shape[-1]), images.dtype)
    batch = min(count, most)
    n, i, j = np.unravel_index(np.arange(-(-count // batch) * batch) % count, (images.shape[0], *grid.size))
    corners = np.stack([n, grid.starts(0)[i], grid.starts(1)[j]], axis=1).astype(np.int32)
    parts = [
        run_crops(prepared.classifier, grid.window, variables, images, corners[start : start + batch])
        for start in range(0, count, batch)
    ]
    scores = jnp.concatenate(parts)[:count]
    return scores.reshape(images.shape[0], *grid.size, scores.shape[-1])


@functools.partial(jit_net, static_argnums=(0, 1))
def run_crops(net: Net, window: Pair, variables: Variables, images: jax.Array, corners: jax.Array) -> jax.Array:
    """Scores [B, K] of the windows at `corners`, int [B, 3]: index of the image, and first pixel (y, x)."""

    def cut(corner: jax.Array) -> jax.Array:
        start = jnp.pad(corner, (0, 1))  # all of one dtype: a 0 would be of another with 64-bit numbers
        return jax.lax.dynamic_slice(images, tuple(start), (1, *window, images.shape[3]))[0]

    scores: Any = net.apply(variables, jax.vmap(cut)(corners), train=False)
    return scores.reshape(corners.shape[0], scores.shape[-1])
