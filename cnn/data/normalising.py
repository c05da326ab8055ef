"""Pixels as a net takes them: centred and scaled by a data set's constants."""

from collections.abc import Sequence

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

Constant = float | Sequence[float] | np.ndarray | jax.Array


def normalise(images: jax.Array | np.ndarray, mean: Constant, std: Constant) -> jax.Array:
    """Centres and scales images by a data set's constants: (x / 255 - mean) / std; may be jitted.

    Args:
      images: uint8 [..., C], or floating point [..., C] that is already in [0, 1].
      mean: one number or [C], in units of the full range: of bytes, between 0 and 1.
      std: likewise, above 0.

    Returns:
      float32 [..., C].

    Raises:
      TypeError: images of another dtype.
      ValueError: mean or std neither one number nor one per channel, or (where values are known, not while `jax.jit`
        traces them) out of range.
    """
    images = jnp.asarray(images)
    channels = images.shape[-1]
    constants = []
    for field, value in (("mean", mean), ("std", std)):
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
            _check_constant(field, np.asarray(value, np.float64), of_bytes=images.dtype == jnp.uint8)
        array = jnp.asarray(value, jnp.float32)
        if array.shape not in ((), (channels,)):
            raise ValueError(
                f"normalise: {field} has shape {array.shape}, images have {channels} channels; give one number, or one "
                "for each channel"
            )
        constants.append(array.reshape((1,) * (images.ndim - array.ndim) + array.shape))
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    elif not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"normalise: images are {images.dtype}; give uint8, or floating point in [0, 1]")
    return (images.astype(jnp.float32) - constants[0]) / constants[1]


def _check_constant(field: str, value: np.ndarray, of_bytes: bool) -> None:
    """Refuses constants that no images have, and that make pixels infinite or nearly equal."""
    if not np.isfinite(value).all() or (field == "std" and (value <= 0).any()):
        above = " above 0, as images are divided by it" if field == "std" else ""
        raise ValueError(f"normalise: {field} (={value.tolist()}) must be finite{above}")
    if of_bytes and ((value < 0) | (value > 1)).any():
        raise ValueError(
            f"normalise: {field} (={value.tolist()}) is a fraction of the full range of pixel values, between 0 and 1; "
            "divide one of bytes by 255"
        )
