"""The scores of one tile on a device, by a program that serves all tiles of a shape (`cnn.dense.tiles` plans them)."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn import data
from cnn.dense import passes, pixel_tables
from cnn.dense.backends import run_backend
from cnn.dense.padded_tiles import border_limits
from cnn.dense.passes import Placement, Schedule, Variables
from cnn.dense.prepared import PreparedNet
from cnn.dense.tiles import Tiling, schedule_of
from cnn.images.ranges import ValueRange
from cnn.runtime.compiler import jit_net
from cnn.windows import Pair

_SEVERAL_RUNS = ("crops", "shift")  # backends that run a tile in more than one program


def run_tile(
    tiling: Tiling,
    variables: Variables,
    pixels: jax.Array,
    corner: Pair,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    value_range: ValueRange | None = None,
) -> jax.Array:
    """Computes the scores of one tile on the device that holds its pixels; returns before they are ready.

    Args:
      tiling: the tiles, from `plan_tiles`; for a tile at the border its `like`.
      variables: the classifier's variables, on the same device.
      pixels: the tile's input, [*tiling.extent, C]: floating and normalised; or, with `mean` and `std`, integers of 8
        or 16 bits, or floating as `cnn.data.normalise` takes it.
      corner: position (y, x) of the tile's input in the image, pixels (`Tile.corner`).
      mean, std: mean and standard deviation of the training images, [C], as fractions of the range of pixel values;
        None if the pixels are normalised.
      value_range: (low, high): the integers that count as 0 and as 1; None: the lowest and highest of their dtype.

    Returns:
      Scores [*tiling.outputs, K]. One compilation serves all tiles of a shape, at every place of images of any size.
    """
    table = None
    if mean is not None and std is not None:
        several = tiling.backend in _SEVERAL_RUNS
        table = pixel_tables.table_for(pixels.dtype, value_range, mean, std, several)
        if table is None:
            # Not inside the compiled pass: fused with it, the rounding of a value depends on its place in the tile.
            pixels = data.normalise(pixels, mean, std)
        elif several:
            pixels, table = pixel_tables.looked_up(table, pixels), None
    if tiling.backend in _SEVERAL_RUNS:
        return run_backend(tiling.prepared, variables, pixels[None], tiling.alone, tiling.backend)[0]
    placement = None
    if tiling.context == "image":
        placement = Placement(
            np.add(corner, tiling.before).astype(np.int32), border_limits(tiling.prepared, tiling.image_shape)
        )
    return run_schedule(tiling.prepared, schedule_of(tiling), variables, pixels, table, placement)


@functools.partial(jit_net, static_argnums=(0, 1))
def run_schedule(
    prepared: PreparedNet,
    schedule: Schedule,
    variables: Variables,
    pixels: jax.Array,
    table: jax.Array | None,
    placement: Placement | None,
) -> jax.Array:
    """Scores of one tile [*tiling.outputs, K]; its place and its image's size, if needed, are traced arguments."""
    if table is not None:
        pixels = pixel_tables.look_up(table, pixels)
    beyond = [max(0, n - m) for n, m in zip(schedule.extent, pixels.shape[:2], strict=True)]
    pixels = jnp.pad(pixels, ((0, beyond[0]), (0, beyond[1]), (0, 0)))
    part = pixels[: schedule.extent[0], : schedule.extent[1]]
    scores: Any = passes.run(schedule, prepared.converted.variables(variables), part[None], placement)
    return scores[0]
