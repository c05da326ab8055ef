"""Textbook kernels, to draw and to initialise a net with: edges, blur, and the picture minus its blur."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

BANK_SIZE, BANK_FEATURES = 5, 6


def sobel() -> tuple[np.ndarray, np.ndarray]:
    """Sobel's two kernels: a difference across an edge, a blur along it.

    Returns:
      float32 [3, 3] for vertical edges (positive where it gets brighter to the right), and for horizontal ones
      (brighter downwards).

    Source: Sobel, Feldman, "A 3x3 Isotropic Gradient Operator for Image Processing" (1968).
    """
    vertical = np.outer([1, 2, 1], [-1, 0, 1]).astype(np.float32)
    return vertical, vertical.T.copy()


def gaussian() -> np.ndarray:
    """A blur: the outer product of [1, 4, 6, 4, 1] with itself, over 256.

    Returns:
      float32 [5, 5]; the weights add up to 1.

    Source: Burt, Adelson, "The Laplacian Pyramid as a Compact Image Code" (1983), its binomial form.
    """
    row = np.array([1, 4, 6, 4, 1])
    return (np.outer(row, row) / 256).astype(np.float32)


def bank(size: int = BANK_SIZE) -> np.ndarray:
    """Six kernels: vertical edges in both signs, horizontal edges in both, blur, and the picture minus its blur.

    Edges come with both signs because a ReLU drops one: an edge from bright to dark would leave no trace. All but the
    blur are scaled to its L2 norm, 70 / 256, so that none outweighs another.

    Args:
      size: height and width, pixels, odd and at least 5; sizes above 5 have a border of zeros.

    Returns:
      float32 [size, size, 6].

    Raises:
      ValueError: if the size is even or below 5.
    """
    if size < BANK_SIZE or size % 2 == 0:
        raise ValueError(f"kernels.bank: size (={size}) must be odd and at least {BANK_SIZE}, as large as its blur")
    blur = gaussian().astype(np.float64)
    vertical, horizontal = (np.pad(edges.astype(np.float64), 1) for edges in sobel())
    picture = np.zeros_like(blur)
    picture[BANK_SIZE // 2, BANK_SIZE // 2] = 1
    stacked = np.stack([vertical, -vertical, horizontal, -horizontal, blur, picture - blur], axis=-1)
    norms = np.sqrt((stacked**2).sum(axis=(0, 1)))
    border = (size - BANK_SIZE) // 2
    padded = np.pad(stacked * (norms[4] / norms), ((border, border), (border, border), (0, 0)))
    return padded.astype(np.float32)


def bank_init(key: Any, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Initialises a convolution with `bank`: a `kernel_init` for `cnn.layers.Conv`.

    Every input channel gets the same kernels, divided by the number of channels: the responses are those of the mean
    channel.

    Args:
      key: ignored; Flax passes a key to every initialiser.
      shape: (5, 5, channels, 6).
      dtype: data type of the kernel.

    Returns:
      The kernel.

    Raises:
      ValueError: if the layer's kernel is not 5x5, or its number of features is not 6.
    """
    height, width, channels, features = shape
    if (height, width, features) != (BANK_SIZE, BANK_SIZE, BANK_FEATURES):
        raise ValueError(
            f"kernels.bank_init starts {BANK_FEATURES} kernels of {BANK_SIZE}x{BANK_SIZE} pixels; the layer has "
            f"features (={features}) and kernel (={height}x{width})"
        )
    return jnp.asarray(np.repeat(bank()[:, :, None, :], channels, axis=2) / channels, dtype)
