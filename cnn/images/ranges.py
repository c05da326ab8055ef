"""The range of pixel values: what counts as 0 and what as 1, one meaning for training, predicting and streaming."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnn.images.errors import StorageError

ValueRange = tuple[float, float]
SMALL = ("uint8", "int8", "uint16", "int16")  # dtypes of few values, of which tables can be made
PART = 2**18  # values that are computed with in float64 at once
_OF_FRACTIONS = (0.0, 1.0)


def of_dtype(dtype: Any) -> ValueRange:
    """The range of pixel values where none is said.

    Args:
      dtype: dtype of the pixels.

    Returns:
      (lowest, highest) value that an integer dtype holds; (0, 1) for floating ones.
    """
    if not jnp.issubdtype(dtype, jnp.integer):
        return _OF_FRACTIONS
    limits = jnp.iinfo(dtype)
    return float(limits.min), float(limits.max)


def check(value_range: Sequence[float] | None, dtype: Any, name: str) -> ValueRange:
    """The range of the pixel values of an image.

    Args:
      value_range: (low, high) as asked for; None: that of the dtype.
      dtype: dtype of the pixels as they are stored.
      name: name of the image, for the error.

    Returns:
      (low, high).

    Raises:
      StorageError: if it is no range, or reaches beyond what the dtype holds.
    """
    own = of_dtype(dtype)
    if value_range is None:
        return own
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise StorageError(f"{name}: value_range (={value_range}) must be two numbers, the lower first, such as 0,4095")
    if jnp.issubdtype(dtype, jnp.integer) and not own[0] <= low < high <= own[1]:
        raise StorageError(
            f"{name}: the range {low:g} to {high:g} is beyond what its {dtype} pixels hold, {own[0]:g} to {own[1]:g}; "
            "it is an image of another kind, which needs a range of its own (--range=LOW,HIGH, data.value_range)"
        )
    return low, high


def fractions(pixels: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Pixels as fractions of their range; values beyond it count as its nearest end.

    Args:
      pixels: an array of any integer or floating dtype.
      value_range: (low, high), which become 0 and 1.

    Returns:
      float32 of the same shape; NaN stays NaN.
    """
    low, high = value_range

    def scaled(values: np.ndarray) -> np.ndarray:
        return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)

    return _each(scaled, pixels, np.float32)


def eight_bits(pixels: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Pixels scaled from their range to bytes, as training keeps them.

    Args:
      pixels: an array of any integer or floating dtype.
      value_range: (low, high), which become 0 and 255; values beyond it count as its nearest end.

    Returns:
      uint8 of the same shape, rounded to the nearest; the very array if it is bytes of the full range. NaN becomes 0.
    """
    if pixels.dtype == np.uint8 and value_range == of_dtype(np.uint8):
        return pixels
    low, high = value_range

    def scaled(values: np.ndarray) -> np.ndarray:
        return np.nan_to_num(np.clip(np.round((values.astype(np.float64) - low) * (255 / (high - low))), 0, 255))

    return _each(scaled, pixels, np.uint8)


def _each(function: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, dtype: Any) -> np.ndarray:
    """A function of each value: by a table where that is shorter, else in parts that take little memory."""
    result = np.empty(pixels.shape, dtype)
    if pixels.dtype.name in SMALL and pixels.size > 2**16:
        limits = np.iinfo(pixels.dtype)
        table = function(np.arange(limits.min, limits.max + 1)).astype(dtype)
        table = np.roll(table, limits.min)  # so that negative values, counted from the end, find theirs
        for i, row in enumerate(pixels):  # an index takes 8 bytes
            result[i] = table[row]
        return result
    rows = max(1, PART // max(1, pixels[:1].size))
    for start in range(0, len(pixels), rows):
        result[start : start + rows] = function(pixels[start : start + rows])
    return result


def check_fractions(pixels: np.ndarray, name: str) -> None:
    """Refuses floating pixels that cannot be fractions of a range, where no range is said.

    Values that are a little outside of 0 to 1 are taken, because resampling overshoots at edges.

    Args:
      pixels: a floating array.
      name: name of the image, for the error.

    Raises:
      StorageError: if a value is below -1 or above 2.
    """
    if not pixels.size:
        return
    low, high = float(np.fmin.reduce(pixels, axis=None)), float(np.fmax.reduce(pixels, axis=None))
    if low < -1 or high > 2:
        raise StorageError(
            f"{name}: its {pixels.dtype} pixels are {low:g} to {high:g}, and floating pixels count as fractions from 0 "
            "to 1 where no range is said; say which values are 0 and 1 (--range=LOW,HIGH, value_range=(LOW, HIGH), "
            "or data.value_range of a run)"
        )
