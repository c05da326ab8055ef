"""Tables of normalised pixels: integers of 8 and 16 bits become what the net takes by their values alone."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn import data
from cnn.images import ranges
from cnn.images.ranges import ValueRange


def table_for(
    dtype: Any, value_range: ValueRange | None, mean: Sequence[float], std: Sequence[float], several: bool
) -> np.ndarray | None:
    """The table for the pixels of a tile.

    Args:
      dtype: dtype of the pixels.
      value_range: (low, high): the values that count as 0 and as 1; None: the lowest and highest of the dtype.
      mean, std: mean and standard deviation of the training images, C numbers each.
      several: whether the tile is run in several programs, where bytes of the full range need no table.

    Returns:
      As of `normalised_values`; None where `cnn.data.normalise` serves: for floating pixels, and those bytes.
    """
    if not jnp.issubdtype(dtype, jnp.integer):
        return None
    name, own = np.dtype(dtype).name, ranges.of_dtype(dtype)
    if several and name == "uint8" and value_range in (None, own):
        return None
    return normalised_values(name, value_range or own, tuple(map(float, mean)), tuple(map(float, std)))


@functools.lru_cache(maxsize=8)  # of 16 bits and 3 channels each has 768 KiB
def normalised_values(
    dtype: str, value_range: ValueRange, mean: tuple[float, ...], std: tuple[float, ...]
) -> np.ndarray:
    """`cnn.data.normalise` of each value of a small integer dtype; unlike arithmetic, a table rounds every pixel alike.

    Args:
      dtype: "uint8", "int8", "uint16" or "int16".
      value_range: (low, high): the values that count as 0 and as 1; those beyond count as the nearest end.
      mean, std: mean and standard deviation of the training images, C numbers each.

    Returns:
      float32 [number of values, C], from the lowest value on.
    """
    limits = np.iinfo(dtype)
    values = np.arange(limits.min, limits.max + 1, dtype=np.int32)
    one = values.astype(np.uint8) if dtype == "uint8" else values
    if value_range != ranges.of_dtype(np.uint8) or dtype != "uint8":
        one = ranges.fractions(values, value_range)
    with jax.ensure_compile_time_eval():  # numbers, also where a tile is a part of a program that is traced
        return np.asarray(data.normalise(np.repeat(one[:, None], len(mean), axis=1), mean, std))


def look_up(table: jax.Array, pixels: jax.Array) -> jax.Array:
    """The entries of a table for the pixels of a tile; may be jitted.

    Args:
      table: float32 [number of values, C], from `normalised_values`.
      pixels: [H, W, C] of the table's dtype.

    Returns:
      float32 [H, W, C].
    """
    channels, first = pixels.shape[2], jnp.iinfo(pixels.dtype).min
    flat = (pixels.astype(jnp.int32) - first) * channels + np.arange(channels, dtype=np.int32)[None, None]
    return table.reshape(-1).at[flat].get(mode="promise_in_bounds")


looked_up = jax.jit(look_up)
