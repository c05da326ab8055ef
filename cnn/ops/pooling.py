"""Pooling as functions of arrays; images are [N, H, W, C] throughout.

Written with strided slices, not with `lax.reduce_window`, whose gradient XLA:CPU computes element by element. On two
cores, with a ReLU before and as gradients: 2x2 over 128 images of 28x28x32, 24 ms and 1.3 ms so; 3x3 every 2 over 16
of 55x55x96, 43 and 2.8 ms. Batches of images with few channels are pooled as planes there (`cnn.ops.batch_last`).
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn.ops.basic import tap
from cnn.ops.batch_last import in_planes
from cnn.windows import Pair, Window

SMALL_MAP = 64  # pixels; see `_max_pool_saving`
MOST_TAPS = 32  # of a maximum that is looked for tap by tap; likewise windows over a pixel whose gradients are added up


def _pad_for_pool(images: jax.Array, window: Window, size: Pair, value: float) -> jax.Array:
    """Pads with `value` so that `size` windows fit; a window of a ceil-mode pool may hang over the far edge."""
    widths = []
    for axis in range(2):
        low, high = window.padding[axis]
        needed = (size[axis] - 1) * window.stride[axis] + window.extent[axis] - images.shape[1 + axis] - low
        widths.append((low, max(high, needed)))
    if widths == [(0, 0), (0, 0)]:
        return images
    return jnp.pad(images, ((0, 0), *widths, (0, 0)), constant_values=value)


def _fold_windows(
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    images: jax.Array,
    window: Window,
    size: Pair,
    rows_first: bool = False,
) -> jax.Array:
    """Combines the taps of each window, first down the columns, then along the rows, or the other way round."""

    def down(x: jax.Array) -> jax.Array:
        line = Window(stride=(window.stride[0], 1), dilation=window.dilation)
        return functools.reduce(combine, [tap(x, (i, 0), (size[0], x.shape[2]), line) for i in range(window.kernel[0])])

    def across(x: jax.Array) -> jax.Array:
        line = Window(stride=(1, window.stride[1]), dilation=window.dilation)
        return functools.reduce(combine, [tap(x, (0, j), (x.shape[1], size[1]), line) for j in range(window.kernel[1])])

    return down(across(images)) if rows_first else across(down(images))


def window_counts(images_size: Sequence[int], window: Window, size: Pair) -> np.ndarray:
    """How many real (not padded) pixels each window holds: float32 [1, H', W', 1]."""
    axes = []
    for axis in range(2):
        start = np.arange(size[axis])[:, None] * window.stride[axis] - window.padding[axis][0]
        taps = start + np.arange(window.kernel[axis])[None, :] * window.dilation[axis]
        axes.append(((taps >= 0) & (taps < images_size[axis])).sum(axis=1))
    return np.outer(axes[0], axes[1]).astype(np.float32)[None, :, :, None]


def max_pool(images: jax.Array, window: Window, size: Pair) -> jax.Array:
    """Maximum over each window; padding never wins. Of equal maxima the first, row by row, has the gradient.

    Windows of up to 32 taps that are not dilated have no forward-mode derivative (`jax.jvp`).

    Args:
      images: [N, H, W, C], floating.
      window: kernel, stride, padding and dilation.
      size: height and width of the output (`cnn.windows.output_size`).

    Returns:
      [N, *size, C], same dtype.
    """

    def pool(x: jax.Array) -> jax.Array:
        x = _pad_for_pool(x, window, size, -np.inf)
        if window.dilation != (1, 1) or math.prod(window.kernel) > MOST_TAPS:
            return _fold_windows(_first_larger, x, window, size, rows_first=True)
        height, width = _seen(window, size)
        return _max_pool(x[:, :height, :width], window)

    return in_planes(pool, images)


@jax.custom_jvp
def _first_larger(first: jax.Array, second: jax.Array) -> jax.Array:
    """The larger of two values, whose gradient compares the two with each other; JAX's own compares them with it.

    XLA may compute a value in two places and round it in two ways: the larger one, computed elsewhere, is then neither,
    and JAX's gradient nothing.
    """
    return jnp.maximum(first, second)


@_first_larger.defjvp
def _first_larger_jvp(
    values: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (first, second), (of_first, of_second) = values, tangents
    return jnp.maximum(first, second), jnp.where(second > first, of_second, of_first)


def _seen(window: Window, size: Pair) -> Pair:
    """Height and width of the image that so many windows see."""
    down, across = ((n - 1) * s + extent for n, s, extent in zip(size, window.stride, window.extent, strict=True))
    return down, across


def _windows(images: jax.Array, window: Window) -> Pair:
    """How many windows, down and across, see the image."""
    rows, columns = (
        (n - extent) // s + 1 for n, extent, s in zip(images.shape[1:3], window.extent, window.stride, strict=True)
    )
    return rows, columns


def _largest(images: jax.Array, window: Window) -> jax.Array:
    """Maximum over windows that see the whole image; no pixel is left over behind the last one.

    Its own gradient asks of each pixel whether it is its window's maximum: on two CPU cores 2.8 ms for 128 images of
    32x32x32, where the gradient of the maximum of strided slices takes 6.6 ms.
    """
    return _fold_windows(jnp.maximum, images, window, _windows(images, window))


_max_pool = jax.custom_vjp(_largest, nondiff_argnums=(1,))


def _max_pool_saving(images: jax.Array, window: Window) -> tuple[jax.Array, jax.Array]:
    """The maximum as training computes it, and the winners.

    Small maps are most often flattened next, and XLA:CPU makes one loop of slices, maximum and flattening, which it
    cannot write with vectors: 2.5 ms for 128 images of 14x14x64. It leaves `reduce_window` by itself: 0.6 ms, and 0.4
    ms more than slices where nothing is flattened. Not outside of training: there YNNPACK takes it together with the
    fully connected layers that follow, and VGG-16 at twice the time.
    """
    if math.prod(_windows(images, window)) <= SMALL_MAP and min(images.shape[0], images.shape[3]) > 1:
        lowest = jnp.array(-jnp.inf, images.dtype)
        largest = lax.reduce_window(images, lowest, lax.max, (1, *window.kernel, 1), (1, *window.stride, 1), "VALID")
    else:
        largest = _largest(images, window)
    return largest, _winners(images, window)


def _winners(images: jax.Array, window: Window) -> jax.Array:
    """Which tap holds the maximum of its window, the first of equals: its number, row by row.

    Taps are compared with each other and not with the maximum: XLA may compute a value in two places and round it in
    two ways, and the maximum, computed elsewhere, is then that of no tap. So there is a winner whatever is computed
    where.
    """
    size = _windows(images, window)
    best = tap(images, (0, 0), size, window)
    winners = jnp.zeros(best.shape, jnp.uint8)
    for number, place in enumerate(itertools.product(range(window.kernel[0]), range(window.kernel[1]))):
        if number:
            value = tap(images, place, size, window)
            winners = jnp.where(value > best, jnp.uint8(number), winners)
            best = jnp.maximum(best, value)
    return winners


def _to_pixels(gradient: jax.Array, window: Window, winners: jax.Array | None = None) -> jax.Array:
    """Gives each pixel the gradient of the windows that see it; with winners, of those whose winner it is.

    In blocks as large as the stride, whose pixels are seen by the same windows: the one that begins in the block and,
    if windows overlap, some above it and left of it.
    """
    (height, width), (down, across) = window.kernel, window.stride
    outer, rows, columns, inner = gradient.shape
    above, left = (height - 1) // down, (width - 1) // across
    widths = ((0, 0), (above, above), (left, left), (0, 0))
    gradient = jnp.pad(gradient, widths)
    if winners is not None:
        winners = jnp.pad(winners, widths)
    shape = (outer, rows + above, 1, columns + left, 1, inner)
    terms = []
    for i, j in itertools.product(range(above + 1), range(left + 1)):
        # Which tap of the window i blocks up and j to the left each pixel of a block is, if any.
        at_row, at_column = np.arange(down)[:, None] + i * down, np.arange(across) + j * across
        within = (at_row < height) & (at_column < width)
        place = slice(above - i, above - i + shape[1]), slice(left - j, left - j + shape[3])
        mine = within.reshape(1, 1, down, 1, across, 1)
        if winners is not None:
            numbers = (at_row * width + at_column).astype(np.uint8).reshape(mine.shape)
            mine = mine & (winners[:, *place].reshape(shape) == numbers)
        terms.append(jnp.where(mine, gradient[:, *place].reshape(shape), 0))
    blocks = functools.reduce(jnp.add, terms)
    pixels = blocks.reshape(outer, shape[1] * down, shape[3] * across, inner)
    seen = _seen(window, (rows, columns))
    return pixels[:, : seen[0], : seen[1]]


_max_pool.defvjp(_max_pool_saving, lambda window, winners, gradient: (_to_pixels(gradient, window, winners),))


def average_pool(images: jax.Array, window: Window, size: Pair) -> jax.Array:
    """Mean over the real pixels of each window (PyTorch: `count_include_pad=False`).

    Args:
      images: [N, H, W, C], floating.
      window: kernel, stride, padding and dilation.
      size: height and width of the output.

    Returns:
      [N, *size, C], same dtype.
    """
    total = sum_pool(images, window, size)
    return total / jnp.asarray(window_counts(images.shape[1:3], window, size), total.dtype)


def sum_pool(images: jax.Array, window: Window, size: Pair) -> jax.Array:
    """Sum over each window, padding as zeros.

    Windows that are not dilated have no forward-mode derivative (`jax.jvp`), unless many overlap.

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
        if window.dilation != (1, 1) or overlaps > MOST_TAPS:
            return _fold_windows(jnp.add, x, window, size)
        height, width = _seen(window, size)
        return _sum_pool(x[:, :height, :width], window)

    return in_planes(pool, images)


def _sum(images: jax.Array, window: Window) -> jax.Array:
    """Sum over windows, likewise; its own gradient is written at once, not tap by tap.

    Training `lenet5` on two CPU cores, a step of 128 images takes 14.5 ms with the gradients of strided slices, and 9.7
    so.
    """
    return _fold_windows(jnp.add, images, window, _windows(images, window))


def _sum_saving(images: jax.Array, window: Window) -> tuple[jax.Array, None]:
    """The sum as training computes it: on CPU of the upper and the lower half, each by itself.

    XLA:CPU joins a sum to each loop that reads it, and computes it anew there, such as in one that turns planes into
    images for a convolution; a concatenation it computes once. A step of `lenet5` takes 6.8 ms without, and 6.0 so.
    """
    half = _windows(images, window)[0] // 2

    def in_halves(images: jax.Array) -> jax.Array:
        upper, _ = _seen(window, (half, 1))
        lower = images[:, half * window.stride[0] :]
        return lax.concatenate([_sum(images[:, :upper], window), _sum(lower, window)], 1)

    if not half:
        return _sum(images, window), None
    return lax.platform_dependent(images, cpu=in_halves, default=functools.partial(_sum, window=window)), None


_sum_pool = jax.custom_vjp(_sum, nondiff_argnums=(1,))
_sum_pool.defvjp(_sum_saving, lambda window, _, gradient: (_to_pixels(gradient, window),))


def n_max_pool(images: jax.Array, window: Window, size: Pair, n: int) -> jax.Array:
    """Mean of the n largest pixels of each window; n = 1 is max pooling, n = all of them is average pooling.

    A window at the border that holds fewer than n real pixels gives the mean of those.

    Args:
      images: [N, H, W, C], floating.
      window: kernel, stride, padding and dilation.
      size: height and width of the output.
      n: how many of the largest pixels to average.

    Returns:
      [N, *size, C], same dtype.
    """
    counts = np.minimum(window_counts(images.shape[1:3], window, size), n)
    padded = _pad_for_pool(images, window, size, -np.inf)
    taps = [tap(padded, (i, j), size, window) for i in range(window.kernel[0]) for j in range(window.kernel[1])]
    largest = lax.top_k(jnp.stack(taps, axis=-1), n)[0]  # (N, H', W', C, n), descending
    real = np.arange(n)[None, None, None, None, :] < counts[..., None]
    total = jnp.where(real, largest, 0).sum(axis=-1)
    return total / jnp.asarray(counts, total.dtype)
