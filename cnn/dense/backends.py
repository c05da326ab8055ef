"""The four ways to compute a score map, equal in value: crops, shifted passes, one dilated pass, fragments."""

import functools
import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from cnn import convert, geometry
from cnn.dense import lattice, passes
from cnn.dense.grid import Grid, has_padding
from cnn.dense.passes import Schedule, Variables
from cnn.layers import Conv, WindowLayer
from cnn.nets import Net
from cnn.runtime.compiler import jit_net
from cnn.windows import GeometryError, Pair

BACKENDS = ("crops", "shift", "atrous", "mpf")
# Of the largest activation of one batch of crops. On CPU one that stays in the cache is twice as fast as a large one.
CROP_BATCH_BYTES = {"cpu": 2 * 2**20}
CROP_BATCH_BYTES_ELSEWHERE = 64 * 2**20


class Pass(NamedTuple):
    """One pass of the converted net.

    Attributes:
      schedule: what is run.
      corner: first pixel (y, x) that it reads.
      rows, columns: where its scores stand in the map.
    """

    schedule: Schedule
    corner: Pair
    rows: slice
    columns: slice


def plan_passes(net: Net, image_shape: Sequence[int], grid: Grid, backend: str) -> tuple[Pass, ...]:
    """The passes that a backend runs.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      grid: of the map.
      backend: "shift", "atrous" or "mpf".

    Returns:
      One pass for "atrous" and "mpf"; for "shift" one for each pair of remainders of the windows' places modulo the
      net's stride.

    Raises:
      GeometryError: if a layer cannot slide.
    """
    return _plan_passes(cast(Hashable, net), tuple(image_shape), grid, backend)


@functools.lru_cache(maxsize=256)  # planning a small net takes as long as a small map of it
def _plan_passes(net: Any, image_shape: tuple[int, int, int], grid: Grid, backend: str) -> tuple[Pass, ...]:
    conv_net = convert.convolutional(net, (*grid.window, image_shape[2]))
    clip = has_padding(net, grid.window, image_shape[2])
    routes = [
        _routes(axis, grid.stride[i], grid.size[i], grid.native[i], backend, clip)
        for i, axis in enumerate(lattice.axes(conv_net, grid.window, image_shape, padded_net=clip))
    ]
    return tuple(
        Pass(Schedule(conv_net, vertical, horizontal), (y, x), rows, columns)
        for y, vertical, rows in routes[0]
        for x, horizontal, columns in routes[1]
    )


def _routes(
    axis: lattice.Axis, stride: int, size: int, native: int, backend: str, clip: bool
) -> list[tuple[int, lattice.Route, slice]]:
    """The runs along one axis: first pixel, route from there, and where the scores stand."""
    if backend == "atrous":
        routes = [(0, lattice.dilated(axis, 0, stride, size, clip), slice(None))]
    elif backend == "mpf":
        routes = [(0, lattice.fragmented(axis, stride, size, clip), slice(None))]
    else:
        routes = []
        # Places i * stride share a pass when they agree modulo the native stride: every `period`-th of them.
        period = native // math.gcd(native, stride)
        for first in range(min(period, size)):
            count = -(-(size - first) // period)
            start = first * stride
            # Without padding all passes of one size are the same program, at another place of the image.
            route = lattice.dilated(axis, start if clip else 0, stride * period, count, clip)
            routes.append((0 if clip else start, route, slice(first, None, period)))
    return [(start + route.first, route._replace(first=0), put) for start, route, put in routes]


def fixed_padding(net: Net, image_shape: Sequence[int], grid: Grid) -> str | None:
    """The layer whose padding is not zeros, so that only whole passes of the net are defined; None if there is none.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      grid: of the map.

    Returns:
      The layer's label, or None.

    Raises:
      GeometryError: if the map's stride is not a multiple of the net's own, so that it is not one whole pass.
    """
    for layer in net.layers:
        if isinstance(layer, Conv) and layer.padding_mode != "zero" and layer.padding not in ("valid", 0):
            if any(s % n for s, n in zip(grid.stride, grid.native, strict=True)):
                raise GeometryError(
                    f"{layer.label}: padding_mode {layer.padding_mode!r} is defined by the values of one pass; stride "
                    f"{grid.stride} is no multiple of the net's own {grid.native}. Take such a stride, or "
                    f"context='crop'"
                )
            return layer.label
    return None


def run_backend(net: Net, variables: Variables, images: jax.Array, grid: Grid, backend: str) -> jax.Array:
    """Computes a score map.

    Args:
      net: the classifier.
      variables: its variables.
      images: [N, H, W, C], floating.
      grid: of the map.
      backend: one of `BACKENDS`.

    Returns:
      Scores [N, h, w, K].

    Raises:
      GeometryError: if a layer cannot slide.
    """
    if backend == "crops":
        return _crops(net, variables, images, grid)
    if fixed_padding(net, images.shape[1:], grid):
        return _whole(net, grid, variables, images)
    scores: jax.Array | None = None
    for one in plan_passes(net, images.shape[1:], grid, backend):
        part = _run_pass(net, grid.window, one.schedule, variables, images, *one.corner)
        if one.schedule.count == grid.size:
            return part
        if scores is None:
            scores = jnp.zeros((part.shape[0], *grid.size, part.shape[-1]), part.dtype)
        scores = scores.at[:, one.rows, one.columns].set(part)
    assert scores is not None
    return scores


@functools.partial(jit_net, static_argnums=(0, 1, 2))
def _run_pass(
    net: Net, window: Pair, schedule: Schedule, variables: Variables, images: jax.Array, y: int, x: int
) -> jax.Array:
    """One pass; its place is traced, so all passes of one schedule share a compilation."""
    count, height, width, channels = images.shape
    _, conv_variables = convert.fc_to_conv(net, variables, (*window, channels))
    beyond = [max(0, n - m) for n, m in zip(schedule.extent, (height, width), strict=True)]
    images = jnp.pad(images, ((0, 0), (0, beyond[0]), (0, beyond[1]), (0, 0)))
    part = jax.lax.dynamic_slice(images, (0, y, x, 0), (count, *schedule.extent, channels))
    return passes.run(schedule, conv_variables, part)


@functools.partial(jit_net, static_argnums=(0, 1))
def _whole(net: Net, grid: Grid, variables: Variables, images: jax.Array) -> jax.Array:
    """One plain pass over the whole image, sizes that do not divide rounded down, and the scores that are wanted."""
    conv_net, conv_variables = convert.fc_to_conv(net, variables, (*grid.window, images.shape[3]))
    layers = [
        layer.clone(rounding="floor") if isinstance(layer, WindowLayer) and layer.rounding == "exact" else layer
        for layer in conv_net.layers
    ]
    scores: Any = Net(tuple(layers)).apply(conv_variables, images, train=False)
    keep = [slice(0, (n - 1) * s // m + 1, s // m) for n, s, m in zip(grid.size, grid.stride, grid.native, strict=True)]
    return scores[:, keep[0], keep[1]]


def crop_batch(net: Net, grid: Grid, channels: int) -> int:
    """Windows in one batch of the "crops" backend.

    Args:
      net: the classifier.
      grid: of the map.
      channels: of the images.

    Returns:
      As many as keep the largest activation under `CROP_BATCH_BYTES`.
    """
    table = geometry.table(net, (*grid.window, channels))
    largest = 4 * max(math.prod(row.output_shape) for row in table)
    limit = CROP_BATCH_BYTES.get(jax.default_backend(), CROP_BATCH_BYTES_ELSEWHERE)
    return max(1, limit // largest)


def _crops(net: Net, variables: Variables, images: jax.Array, grid: Grid) -> jax.Array:
    """The net on every window, in batches: slow and obviously right."""
    count = images.shape[0] * grid.size[0] * grid.size[1]
    batch = min(count, crop_batch(net, grid, images.shape[3]))
    n, i, j = np.unravel_index(np.arange(-(-count // batch) * batch) % count, (images.shape[0], *grid.size))
    corners = np.stack([n, i * grid.stride[0], j * grid.stride[1]], axis=1).astype(np.int32)
    parts = [
        _run_crops(net, grid.window, variables, images, corners[start : start + batch])
        for start in range(0, count, batch)
    ]
    scores = jnp.concatenate(parts)[:count]
    return scores.reshape(images.shape[0], *grid.size, scores.shape[-1])


@functools.partial(jit_net, static_argnums=(0, 1))
def _run_crops(net: Net, window: Pair, variables: Variables, images: jax.Array, corners: jax.Array) -> jax.Array:
    """The net on windows whose (image, y, x) are given: [B, 3] -> [B, K]."""

    def cut(corner: jax.Array) -> jax.Array:
        n, y, x = corner
        return jax.lax.dynamic_slice(images, (n, y, x, 0), (1, *window, images.shape[3]))[0]

    scores: Any = net.apply(variables, jax.vmap(cut)(corners), train=False)
    return scores.reshape(corners.shape[0], scores.shape[-1])
