"""Pooling as functions of arrays; images are [N, H, W, C] throughout.

XLA:CPU computes the gradient of `lax.reduce_window` element by element. Here windows are combined from strided slices,
with gradients written for them (`cnn.ops.pooling_gradients`), and batches of images with few channels are pooled in
batch-last layout. Within `ops.plain()` pools are `lax.reduce_window` with XLA's own gradient.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import max_dim
from jax.export import is_symbolic_dim

from cnn.ops.basic import tap
from cnn.ops.batch_last import in_batch_last
from cnn.ops.plain import takes_plain
from cnn.ops.pooling_gradients import first_larger, fold_windows, max_with_own_gradient, seen, sum_with_own_gradient
from cnn.windows import Pair, Window

MOST_POSITIONS = 32  # most pixels of a window, and most windows over one pixel, that are combined one by one


def _pad_for_pool(images: jax.Array, window: Window, size: Pair, value: float) -> jax.Array:
    """Pads with `value` so that `size` windows fit; a window of a ceil-mode pool may hang over the far edge."""
    widths = []
    for axis in range(2):
        low, high = window.padding[axis]
        needed = (size[axis] - 1) * window.stride[axis] + window.extent[axis] - images.shape[1 + axis] - low
        widths.append((low, max_dim(high, needed)))
    if widths == [(0, 0), (0, 0)]:
        return images
    return jnp.pad(images, ((0, 0), *widths, (0, 0)), constant_values=value)


def window_counts(images_size: Sequence[int], window: Window, size: Pair, with_padding: bool = False) -> Any:
    """Number of pixels in each window.

    Args:
      images_size: (height, width), pixels, of the images without padding.
      window: kernel, stride, padding and dilation.
      size: height and width of the output.
      with_padding: whether pixels of the padding count; what a window covers beyond the padding never does.

    Returns:
      float32 [1, H', W', 1], of NumPy if the sizes are known.
    """
    if with_padding:
        images_size = [n + low + high for n, (low, high) in zip(images_size[:2], window.padding, strict=True)]
        window = window._replace(padding=((0, 0), (0, 0)))
    if any(map(is_symbolic_dim, images_size)):
        return sum_pool(jnp.ones((1, *images_size[:2], 1), jnp.float32), window, size)
    rows, columns = (axis_counts(images_size[axis], window, size[axis], axis) for axis in range(2))
    return np.outer(rows, columns).astype(np.float32)[None, :, :, None]


def axis_counts(length: int, window: Window, size: int, axis: int) -> np.ndarray:
    """Number of positions of each window along one axis that lie in the image.

    Args:
      length: of the image without padding, pixels.
      window: kernel, stride, padding and dilation.
      size: number of windows.
      axis: 0 for height, 1 for width.

    Returns:
      int64 [size].
    """
    start = np.arange(size) * window.stride[axis] - window.padding[axis][0]
    # The first tap at or after the image's first pixel, and the last one at or before its last.
    first = np.maximum(0, -(start // window.dilation[axis]))
    last = np.minimum(window.kernel[axis] - 1, (length - 1 - start) // window.dilation[axis])
    return np.maximum(0, last - first + 1)


def max_pool(images: jax.Array, window: Window, size: Pair) -> jax.Array:
    """Maximum over each window; padding never counts. Of equal maxima the first, row by row, receives the gradient.

    Args:
      images: [N, H, W, C], floating.
      window: kernel, stride, padding and dilation.
      size: height and width of the output (`cnn.windows.output_size`).

    Returns:
      [N, *size, C], same dtype.
    """

    def pool(x: jax.Array) -> jax.Array:
        x = _pad_for_pool(x, window, size, -np.inf)
        plain = takes_plain(x.shape)
        if window.dilation != (1, 1) or (not plain and math.prod(window.kernel) > MOST_POSITIONS):
            return fold_windows(first_larger, x, window, size, rows_first=True)
        if plain:
            return _reduce(x, window, -np.inf, lax.max)
        height, width = seen(window, size)
        return max_with_own_gradient(x[:, :height, :width], window)

    return in_batch_last(pool, images)


def _reduce(images: jax.Array, window: Window, start: float, combine: Any) -> jax.Array:
    """Pooling by XLA's `reduce_window`, for images that are padded; pixels behind the last window are not seen."""
    if any(map(is_symbolic_dim, window.kernel)):  # a global pool: its window is the whole image
        return (images.max if combine is lax.max else images.sum)(axis=(1, 2), keepdims=True)
    # A NumPy constant: by it JAX recognises the kind of pool, and so its derivative.
    first = np.array(start, images.dtype)
    return lax.reduce_window(images, first, combine, (1, *window.kernel, 1), (1, *window.stride, 1), "VALID")


def average_pool(images: jax.Array, window: Window, size: Pair, count_padding: bool = False) -> jax.Array:
    """Mean over the pixels of each window (PyTorch: `count_include_pad=count_padding`).

    Args:
      images: [N, H, W, C], floating.
      window: kernel, stride, padding and dilation.
      size: height and width of the output.
      count_padding: whether padded zeros count in the divisor. What a window that hangs over the edge covers beyond
        them does not: the divisor is the window cut at the edge of the padded image, as in PyTorch and Caffe.

    Returns:
      [N, *size, C], same dtype.
    """
    total = sum_pool(images, window, size)
    return total / jnp.asarray(window_counts(images.shape[1:3], window, size, count_padding), total.dtype)


def sum_pool(images: jax.Array, window: Window, size: Pair) -> jax.Array:
    """Sum over each window; padding counts as zeros.

    Args:
      images: [N, H, W, C], floating.
      window: kernel, stride, padding and dilation.
      size: height and width of the output.

    Returns:
      [N, *size, C], same dtype.
    """
    overlaps = math.prod(-(-extent // step) for extent, step in zip(window.extent, window.stride, strict=True))

    def pool(x: jax.Array) -> jax.Array:
        x = _pad_for_pool(x, window, size, 0.0)
        plain = takes_plain(x.shape)
        if window.dilation != (1, 1) or (not plain and overlaps > MOST_POSITIONS):
            return fold_windows(jnp.add, x, window, size)
        if plain:
            return _reduce(x, window, 0.0, lax.add)
        height, width = seen(window, size)
        return sum_with_own_gradient(x[:, :height, :width], window)

    return in_batch_last(pool, images)


def n_max_pool(images: jax.Array, window: Window, size: Pair, n: int) -> jax.Array:
    """Mean of the n largest pixels of each window; n = 1 is max pooling, n = all of them is average pooling.

    A window at the border with fewer than n pixels of the image gives the mean of those.

    Args:
      images: [N, H, W, C], floating.
      window: kernel, stride, padding and dilation.
      size: height and width of the output.
      n: number of the largest pixels that are averaged.

    Returns:
      [N, *size, C], same dtype.
    """
    counts = window_counts(images.shape[1:3], window, size).clip(max=n)
    # XLA sorts a NaN with a minus sign, such as that of inf - inf, below all numbers, and the mean would leave it out.
    images = jnp.where(jnp.isnan(images), jnp.nan, images)
    padded = _pad_for_pool(images, window, size, -np.inf)
    values = [tap(padded, (i, j), size, window) for i in range(window.kernel[0]) for j in range(window.kernel[1])]
    largest = lax.top_k(jnp.stack(values, axis=-1), n)[0]  # (N, H', W', C, n), descending
    real = np.arange(n)[None, None, None, None, :] < counts[..., None]
    total = jnp.where(real, largest, 0).sum(axis=-1)
    return total / jnp.asarray(counts, total.dtype)
