"""One image over several devices: each holds a part of its rows, and computes a part of the map's.

A device's rows of the map depend on its own rows of the image and on some of its neighbours', which it gets from them
(a halo exchange: `jax.lax.ppermute`, from farther neighbours where a window is higher than a device's part). Then it
computes them as a tile of the map (`cnn.dense.tiles`), all columns at once, and they stay where they are: no device
ever holds the whole image, a whole layer or the whole map.

All devices run one program, so that all hold and compute equally many rows. Where the numbers do not divide, there are
rows of zeros below the image, which no window of the map sees, and scores below the map, which are dropped. The scores
that `cover` adds at the bottom border are computed by the last device.

Source: the halo exchange of solvers on grids; for convolutional nets Dryden et al., "Improving Strong-Scaling of CNN
Training by Exploiting Finer-Grained Parallelism" (2019), arXiv 1903.06681.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnn.dense import passes, tiles
from cnn.dense.backends import crop_batch, run_backend, run_crops
from cnn.dense.blocks import Block, Tile
from cnn.dense.padded_tiles import border_limits
from cnn.dense.passes import Placement, Variables
from cnn.dense.split_plans import Split
from cnn.dense.tiles import Tiling
from cnn.runtime.compiler import jit_net
from cnn.runtime.devices import AXIS, Devices

_ROWS = PartitionSpec(None, AXIS)  # of images [N, H, W, C] and maps [N, h, w, K]


def place(images: jax.Array | np.ndarray, devices: Devices) -> jax.Array:
    """Puts each device's rows of images on it; an image of the host is never whole on a device.

    Args:
      images: floating [N, H, W, C].
      devices: the devices.

    Returns:
      [N, H', W, C], split over the devices by rows; H' is H rounded up to a multiple of their number, with zeros in the
      rows that this adds.
    """
    count, height, *rest = images.shape
    held, sharding = -(-height // devices.count), devices.split(1)
    shape = (count, held * devices.count, *rest)
    if isinstance(images, jax.core.Tracer):
        padded = jnp.pad(images, ((0, 0), (0, shape[1] - height), (0, 0), (0, 0)))
        return jax.lax.with_sharding_constraint(padded, sharding)
    if isinstance(images, jax.Array) and shape[1] == height and images.sharding.is_equivalent_to(sharding, 4):
        return images
    dtype = jax.dtypes.canonicalize_dtype(images.dtype)
    parts = []
    for device, first in zip(devices.mesh.devices.flat, range(0, shape[1], held), strict=True):
        rows: Any = images[:, first : first + held]
        missing = held - rows.shape[1]
        if missing:
            pad = jnp.pad if isinstance(images, jax.Array) else np.pad
            rows = pad(rows, ((0, 0), (0, missing), (0, 0), (0, 0)))
        parts.append(jax.device_put(rows.astype(dtype), device))
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def run_split(split: Split, devices: Devices, variables: Variables, images: jax.Array) -> jax.Array:
    """Computes a map of images that are split over devices.

    Args:
      split: how they are split.
      devices: the devices, `split.count` of them.
      variables: the classifier's variables.
      images: the images, from `place`.

    Returns:
      Scores [N, h, w, K]. They are split by rows over the devices if their number divides h. As JAX splits arrays
      evenly only, they are otherwise split over the largest number of the devices that divides h, or by columns if a
      larger number divides w.
    """
    parts = _run(split, devices.mesh, devices.replicate(variables), images)
    rows, columns = split.tiling.grid.size
    if len(parts) == 1 and parts[0].shape[1] == rows:
        return parts[0]
    if isinstance(images, jax.core.Tracer):
        regular = split.tiling.grid.regular[0]
        scores = jnp.concatenate([parts[0][:, :regular], *(part[:, -1:] for part in parts[1:])], axis=1)
        return scores if rows % split.count else jax.lax.with_sharding_constraint(scores, devices.split(1))
    return _laid_out(parts, split, list(devices.mesh.devices.flat))


def _laid_out(parts: Sequence[jax.Array], split: Split, devices: list[Any]) -> jax.Array:
    """The map, split evenly, from its parts with scores that are dropped."""
    grid = split.tiling.grid
    regular, (rows, columns) = grid.regular[0], grid.size
    pieces = []  # (first row, end, scores on their device)
    for shard in sorted(parts[0].addressable_shards, key=lambda shard: shard.index[1].start or 0):
        first = shard.index[1].start or 0
        pieces.append((first, min(first + shard.data.shape[1], regular), shard.data))
    if len(parts) > 1:
        border = max(parts[1].addressable_shards, key=lambda shard: shard.index[1].start or 0)
        pieces.append((regular, rows, border.data))
    by_rows, by_columns = (max(k for k in range(1, len(devices) + 1) if n % k == 0) for n in (rows, columns))
    axis, used = (1, by_rows) if by_rows >= by_columns else (2, by_columns)
    height, width = (rows // used, columns) if axis == 1 else (rows, columns // used)
    laid = []
    for i, device in enumerate(devices[:used]):
        top, left = (i * height, 0) if axis == 1 else (0, i * width)
        own = []
        for first, end, scores in pieces:
            begin, stop = max(first, top), min(end, top + height)
            if begin < stop:
                part = scores[:, begin - first : stop - first, left : left + width]
                own.append(jax.device_put(part, device))
        laid.append(own[0] if len(own) == 1 else jnp.concatenate(own, axis=1))
    sharding = NamedSharding(Mesh(np.array(devices[:used]), (AXIS,)), PartitionSpec(*[None] * axis, AXIS))
    shape = (parts[0].shape[0], rows, columns, parts[0].shape[-1])
    return jax.make_array_from_single_device_arrays(shape, sharding, laid)


@functools.partial(jit_net, static_argnums=(0, 1))
def _run(split: Split, mesh: Mesh, variables: Variables, images: jax.Array) -> tuple[jax.Array, ...]:
    """The scores of all devices, below one another: [N, count * rows, w, K]; and those at the bottom border, of which
    only the last device's count, [N, count, w, K]."""
    run = functools.partial(_on_one_device, split)
    # What each device computes depends on its place; there is nothing of which all have equal copies to be checked.
    return jax.shard_map(run, mesh=mesh, in_specs=(PartitionSpec(), _ROWS), out_specs=_ROWS, check_vma=False)(
        variables, images
    )


def _on_one_device(split: Split, variables: Variables, held: jax.Array) -> tuple[jax.Array, ...]:
    """What one device computes from the rows that it holds, [N, held, W, C]."""
    tiling, device = split.tiling, jax.lax.axis_index(AXIS)
    found = _with_neighbours(held, split.above, split.below, split.count)
    offset = jnp.asarray(split.offsets, np.int32)[device]
    pixels = jax.lax.dynamic_slice_in_dim(found, offset, tiling.extent[0], axis=1)
    first = device.astype(np.int32) * np.int32(split.held) - np.int32(split.above) + offset
    rows = tiling.cuts[0].blocks()
    scores = (_rows(tiling, rows[0], variables, pixels, first),)
    if tiling.grid.last[0] is None:
        return scores
    # All devices compute as many rows as far above or below their own, because all run one program.
    border = tiling.like(Tile(rows[-1], tiling.cuts[1].blocks()[0]))
    start = rows[-1].first - (split.count - 1) * split.held  # in the rows that the last device holds
    above, below = max(0, -start), max(0, start + border.extent[0] - split.held)
    found = _with_neighbours(held, above, below, split.count)
    pixels = jax.lax.slice_in_dim(found, start + above, start + above + border.extent[0], axis=1)
    return *scores, _rows(tiling, rows[-1], variables, pixels, np.int32(rows[-1].first))[:, :1]


def _with_neighbours(held: jax.Array, above: int, below: int, count: int) -> jax.Array:
    """The rows that a device holds, with those of the devices before and after it; zeros where there are none."""
    rows = held.shape[1]

    def moved(part: jax.Array, by: int) -> jax.Array:
        pairs = [(i, i + by) for i in range(count) if 0 <= i + by < count]
        return jax.lax.ppermute(part, AXIS, pairs) if pairs else jnp.zeros_like(part)

    parts = [held]
    for hop in range(1, -(-above // rows) + 1):
        parts.insert(0, moved(held[:, max(0, hop * rows - above) :], hop))
    for hop in range(1, -(-below // rows) + 1):
        parts.append(moved(held[:, : min(rows, below - (hop - 1) * rows)], -hop))
    return jnp.concatenate(parts, axis=1) if len(parts) > 1 else held


def _rows(tiling: Tiling, row: Block, variables: Variables, pixels: jax.Array, first: Any) -> jax.Array:
    """The scores of a block of rows, all columns, from the pixels [N, extent, W, C] whose first row is `first`."""
    parts = []
    for column in tiling.cuts[1].blocks():
        alike = tiling.like(Tile(row, column))
        after = alike.extent[1] - column.place.stop
        strip = jnp.pad(pixels[:, :, column.read], ((0, 0), (0, 0), (column.place.start, after), (0, 0)))
        parts.append(_scores(alike, variables, strip, first, column.first)[:, :, column.keep])
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=2)


def _scores(tiling: Tiling, variables: Variables, pixels: jax.Array, y: Any, x: int) -> jax.Array:
    """Scores [N, *tiling.outputs, K] of pixels [N, *tiling.extent, C], of which the first is (y, x) in the image."""
    prepared = tiling.prepared
    if tiling.backend == "crops":
        return _crops(tiling, variables, pixels)
    if tiling.backend == "shift":
        return run_backend(prepared, variables, pixels, tiling.alone, "shift")
    placement = None
    if tiling.context == "image":
        corner = jnp.stack([y + np.int32(tiling.before[0]), np.int32(x + tiling.before[1])])
        placement = Placement(corner, border_limits(prepared, tiling.image_shape))
    return passes.run(tiles.schedule_of(tiling), prepared.converted.variables(variables), pixels, placement)


def _crops(tiling: Tiling, variables: Variables, pixels: jax.Array) -> jax.Array:
    """The windows of a tile, cut out and classified in batches; a loop of the device, so that one batch is compiled."""
    prepared, grid = tiling.prepared, tiling.alone
    count = pixels.shape[0] * math.prod(grid.size)
    batch = min(count, crop_batch(prepared))
    numbers = np.arange(-(-count // batch) * batch) % count
    n, i, j = np.unravel_index(numbers, (pixels.shape[0], *grid.size))
    corners = np.stack([n, grid.starts(0)[i], grid.starts(1)[j]], axis=1).astype(np.int32)
    run = functools.partial(run_crops, prepared.classifier, grid.window, variables, pixels)
    scores = jax.lax.map(run, jnp.asarray(corners).reshape(-1, batch, 3))
    return scores.reshape(-1, scores.shape[-1])[:count].reshape(pixels.shape[0], *grid.size, scores.shape[-1])
