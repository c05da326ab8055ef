"""Winograd's algorithm for a 3x3 convolution: outputs in tiles of 2x2, by 16 products instead of 36.

With a tile d of 4x4 pixels and a kernel k, the 2x2 outputs are A' (G k G' * B' d B) A, where * multiplies the two 4x4
transforms value by value and the products are summed over channels before A is applied. For all tiles these products
are 16 matrix products of [tiles, C] and [C, K].

Source: Winograd, "Arithmetic Complexity of Computations" (1980); Lavin, Gray, "Fast Algorithms for Convolutional Neural
Networks" (2016), section 4.1: F(2x2, 3x3).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn.ops.basic import pad
from cnn.windows import Window

LEAST_CHANNELS = 128  # of input and output; with fewer, the transforms cost more than the products save
LEAST_TILES = 256  # in a batch; with fewer, the transform of the kernel costs more than the products save
MOST_VALUES = 2**28  # in all transforms of a batch, float32: 1 GiB
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)  # G


def is_faster(images_shape: Sequence[int], kernel_shape: Sequence[int], window: Window) -> bool:
    """Whether this algorithm is faster than XLA's convolution on CPU (measured in benchmarks/results/ops.md).

    Args:
      images_shape: (N, H, W, C).
      kernel_shape: (kernel height, kernel width, C, K).
      window: kernel, stride, padding and dilation.

    Returns:
      True for wide 3x3 convolutions of stride 1 with enough tiles.
    """
    if window.kernel != (3, 3) or window.stride != (1, 1) or window.dilation != (1, 1):
        return False
    if max(map(max, window.padding)) > 2:
        return False  # the images' gradient would have to be cut instead of padded
    count = tiles(images_shape, window)
    wide = min(kernel_shape[2:]) >= LEAST_CHANNELS
    return wide and count >= LEAST_TILES and count * 16 * sum(kernel_shape[2:]) <= MOST_VALUES


def tiles(images_shape: Sequence[int], window: Window) -> int:
    """Number of tiles of 2x2 outputs in a batch.

    Args:
      images_shape: (N, H, W, C).
      window: a window with a 3x3 kernel and stride 1, of which the padding is used.

    Returns:
      Number of tiles.
    """
    down, across = (
        -(-max(0, n + sum(padding) - 2) // 2) for n, padding in zip(images_shape[1:3], window.padding, strict=True)
    )
    return images_shape[0] * down * across


def workspace(images_shape: Sequence[int], kernel_shape: Sequence[int], window: Window) -> int:
    """Number of values held beside input and output: what XLA holds at once in practice, and a little more.

    These are the products of all tiles, one row of four of their pixels' transforms, and twice the kernel's transform,
    because its layout is changed.

    Args:
      images_shape: (N, H, W, C).
      kernel_shape: (3, 3, C, K).
      window: the window of the convolution, of which the padding is used.

    Returns:
      Number of values, for the whole batch.
    """
    channels, features = kernel_shape[2:]
    return tiles(images_shape, window) * (16 * features + 4 * channels) + 2 * 16 * channels * features


def convolution(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Cross-correlation with a 3x3 kernel, stride 1, zero padding.

    Outputs at even and odd places are rounded differently; all are exact within about 1e-6 of the largest output.

    Args:
      images: [N, H, W, C], float32.
      kernel: [3, 3, C, K], float32.
      window: the window of the convolution, of which the padding is used.

    Returns:
      [N, H', W', K].
    """
    count = len(images)
    rows, columns = (n + sum(p) - 2 for n, p in zip(images.shape[1:3], window.padding, strict=True))
    down, across = -(-rows // 2), -(-columns // 2)
    (top, bottom), (left, right) = window.padding
    images = pad(images, ((top, bottom + rows % 2), (left, right + columns % 2)), "zero")
    weights = jnp.einsum("ai,bj,ijck->abck", _KERNEL, _KERNEL, kernel)
    # m[i][j]: [N, down, across, K], the product of value (i, j) of all tiles' transforms and of the kernel's.
    m = [
        [lax.dot_general(v, weights[i, j], (((3,), (0,)), ((), ()))) for j, v in enumerate(_of_pixels(row, 2, across))]
        for i, row in enumerate(_of_pixels(images, 1, down))
    ]
    halves = [_of_products([m[i][j] for i in range(4)]) for j in range(4)]  # 4 columns of 2 rows
    outputs = [jnp.stack(_of_products([column[i] for column in halves]), axis=3) for i in range(2)]
    joined = jnp.stack(outputs, axis=2)  # (N, down, 2, across, 2, K)
    return joined.reshape(count, 2 * down, 2 * across, -1)[:, :rows, :columns]


def _of_pixels(images: jax.Array, axis: int, count: int) -> list[jax.Array]:
    """Applies B' along one axis: four sums of the four pixels of each tile; tiles overlap by two pixels."""
    a, b, c, d = (lax.slice_in_dim(images, i, i + 2 * count - 1, 2, axis) for i in range(4))
    return [a - c, b + c, c - b, b - d]


def _of_products(m: Sequence[jax.Array]) -> list[jax.Array]:
    """Applies A' along one axis: the two outputs of each tile."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def images_gradient(gradient: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The gradient of the images: a convolution of the output's gradient with the kernel rotated by 180 degrees.

    Args:
      gradient: [N, H', W', K], the gradient of the output.
      kernel: [3, 3, C, K].
      window: the window of the convolution; its padding is used, at most 2 pixels on each side.

    Returns:
      [N, H, W, C].
    """
    padding = tuple((2 - low, 2 - high) for low, high in window.padding)
    return convolution(gradient, kernel[::-1, ::-1].transpose(0, 1, 3, 2), window._replace(padding=padding))
