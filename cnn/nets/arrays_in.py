"""What a net takes: one door for the images, constants and scores that are handed to this package.

Every function that runs a net, and every function of scores, lets its arrays in here, so that all of them take and
refuse the same ones:

- Images are arrays of float16, bfloat16, float32 or float64, and are computed in that dtype; JAX makes float32 of
  float64 unless `jax_enable_x64` is set. Integers are never scored, because bytes are not what a net was trained on.
- Scores are any numbers, and are taken as they are.
- Lists are refused as images, because they do not say whether they hold bytes or normalised values.
- NaN marks what is not known. It stays NaN, as do values that a masked array masks. Infinities are numbers.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn.windows import GeometryError

FLOATING = ("float16", "bfloat16", "float32", "float64")
AXES = {3: "[H, W, C]", 4: "[N, H, W, C]"}


class RankError(GeometryError, TypeError):
    """An array with another number of axes than a function takes."""


def image_array(images: Any, what: str, rank: int = 4) -> jax.Array:
    """Images that a net can be run on, on the device where they are, or the first one.

    Args:
      images: normalised images, an array of NumPy, JAX or any library whose arrays NumPy can read.
      what: name of the function, for the errors.
      rank: 4 for [N, H, W, C], 3 for one image [H, W, C].

    Returns:
      The same values as a JAX array. Masked values are NaN.

    Raises:
      TypeError: if it is no array, or of another dtype than `FLOATING`; names the dtype and `cnn.data.normalise`.
      RankError: if it has another number of axes.
    """
    found = checked_images(images, what, rank)
    # A copy, as a device of the host would share the memory of a caller who may write to it before the map is computed;
    # not by jnp.asarray, which compiles a program for each shape.
    return found if isinstance(found, jax.Array) else jax.device_put(np.array(found))


def checked_images(images: Any, what: str, rank: int = 4) -> jax.Array | np.ndarray:
    """Images that a net can be run on, where they are: an array of the host is not copied to a device.

    Args:
      images, what, rank: as for `image_array`.

    Returns:
      The same values as an array of JAX if they are one, else of NumPy. Masked values are NaN.

    Raises:
      TypeError, RankError: as `image_array`.
    """
    images = _array(
        images,
        f"{what}: images",
        "give an array of normalised pixels (cnn.data.normalise), such as numpy.asarray(values, numpy.float32)",
    )
    check_floating(images.dtype, f"{what}: images")
    if images.ndim != rank:
        alone = ", one image is images[None]" if rank == 4 else ", a list with one image is [image]"
        one = alone if images.ndim == rank - 1 else ""
        raise RankError(f"{what}: images have shape {tuple(images.shape)}; the net takes {AXES[rank]}{one}")
    return images


def check_floating(dtype: Any, what: str, or_else: str = "") -> None:
    """Refuses dtypes that a net is not run on.

    Args:
      dtype: dtype of the images.
      what: what is of that dtype, for the error.
      or_else: another way out, for the error.

    Raises:
      TypeError: if it is none of `FLOATING`.
    """
    if str(dtype) not in FLOATING:
        raise TypeError(
            f"{what} are {dtype}; the net takes floating images, normalised as in training (cnn.data.normalise), of "
            f"{', '.join(FLOATING[:-1])} or {FLOATING[-1]}{or_else}"
        )


def variables_for(variables: Any, images: jax.Array | np.ndarray) -> Any:
    """A net's variables in the precision in which images are computed.

    Args:
      variables: the net's variables.
      images: the images, from `image_array`.

    Returns:
      The variables; in float64 if the images are, because a layer may compute with its variables alone (the roots of a
      batch normalisation's variances) before it meets the images.
    """
    if images.dtype != np.float64:
        return variables
    return jax.tree.map(lambda leaf: leaf.astype(np.float64) if str(leaf.dtype) in FLOATING else leaf, variables)


def score_array(scores: Any, what: str) -> np.ndarray | jax.Array:
    """Scores, as numbers with which can be computed.

    Args:
      scores: an array, or nested lists, of real numbers.
      what: name of the function, for the error.

    Returns:
      An array of float32 or wider: of JAX if the scores are one, else of NumPy. Masked values are NaN.

    Raises:
      TypeError: if they are not numbers.
    """
    if isinstance(scores, list | tuple):
        try:
            scores = np.asarray(scores)
        except ValueError as error:  # lists of different lengths
            raise TypeError(f"{what}: scores make no array: {error}") from error
    if isinstance(scores, np.ma.MaskedArray) and jnp.issubdtype(scores.dtype, jnp.integer):
        scores = scores.astype(np.float64)
    scores = _array(scores, f"{what}: scores", "give an array of numbers, such as the scores of a map")
    if not (jnp.issubdtype(scores.dtype, jnp.floating) or jnp.issubdtype(scores.dtype, jnp.integer)):
        raise TypeError(f"{what}: scores are {scores.dtype}; they must be numbers, such as the scores of a map")
    return scores.astype(scores.dtype if scores.dtype in (np.float32, np.float64) else np.float32)


def constants(
    mean: Any, std: Any, channels: int, what: str, of_bytes: bool = False
) -> tuple[tuple[float, ...], tuple[float, ...]] | tuple[None, None]:
    """The constants that images are normalised by, one number for each channel.

    Args:
      mean: mean of the training data, one number or one for each channel, as a fraction of the full range; None: images
        are normalised already.
      std: standard deviation of the training data, likewise.
      channels: number of channels of the images.
      what: name of the function, for the errors.
      of_bytes: whether the images are uint8, so that both are fractions of 255.

    Returns:
      `channels` numbers each; (None, None) if both are None.

    Raises:
      ValueError: if only one of them is given, they are not so many finite numbers, or out of range.
    """
    if (mean is None) != (std is None):
        raise ValueError(f"{what}: mean (={mean}) and std (={std}) go together; give both, or neither")
    if mean is None:
        return None, None
    made = []
    for field, value in (("mean", mean), ("std", std)):
        try:
            numbers = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            numbers = np.full((1, 1), np.nan)
        if numbers.shape == ():
            numbers = np.full(channels, numbers)
        if numbers.shape != (channels,) or not np.isfinite(numbers).all():
            raise ValueError(
                f"{what}: {field} (={value}) must be one number, or one for each of the image's {channels} channels"
            )
        if field == "std" and numbers.min() <= 0:
            raise ValueError(f"{what}: std (={value}) must be above 0, as images are divided by it")
        if of_bytes and not 0 <= numbers.min() <= numbers.max() <= 1:
            raise ValueError(
                f"{what}: {field} (={value}) is a fraction of the full range of pixel values, between 0 and 1; divide "
                "one of bytes by 255"
            )
        made.append(tuple(numbers.tolist()))
    return made[0], made[1]


def without_mask(values: Any, what: str) -> Any:
    """A masked array as one of plain numbers, NaN where it is masked; anything else unchanged.

    Args:
      values: an array, or whatever stands for one.
      what: name of the values, for the error.

    Returns:
      A NumPy array in place of a masked one.

    Raises:
      TypeError: if whole numbers are masked, which have no NaN.
    """
    if not isinstance(values, np.ma.MaskedArray):
        return values
    if not np.ma.getmask(values).any():
        return np.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.inexact):
        raise TypeError(
            f"{what} are {values.dtype} and masked, and whole numbers have no NaN; give floating values, normalised as "
            "in training (cnn.data.normalise), with NaN where they are masked"
        )
    return values.filled(np.nan)


def number_of(constant: Any) -> int | None:
    """How many channels a constant is given for; None for one number, or none, which says nothing about channels."""
    return len(constant) if isinstance(constant, Sequence) or getattr(constant, "ndim", 0) == 1 else None


def _array(values: Any, what: str, way_out: str) -> Any:
    """An array of JAX or NumPy, in native byte order, and NaN where it is masked."""
    if isinstance(values, jax.Array):
        return values
    if not (hasattr(values, "shape") and hasattr(values, "dtype")):
        raise TypeError(f"{what} are a {type(values).__name__}; {way_out}")
    values = np.asarray(without_mask(values, what))
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
