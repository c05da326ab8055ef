"""Maxima and sums over windows, with gradients that compare and add whole arrays at once.

Reverse mode gives each pixel the gradients of windows that contain it: of all of them for a sum, and for a maximum of
those in which it is the largest.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from cnn.ops.basic import tap
from cnn.ops.linear import linear
from cnn.windows import Pair, Window, counts

SMALL_MAP = 64  # most pixels of an output for which `_max_in_training` uses `reduce_window`


def fold_windows(
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    images: jax.Array,
    window: Window,
    size: Pair,
    rows_first: bool = False,
) -> jax.Array:
    """Combines the pixels of each window, first along columns and then along rows, or in the other order.

    Args:
      combine: two arrays -> one, associative, such as `jnp.add`.
      images: [N, H, W, C], already padded.
      window: the pooling window, of which kernel, stride and dilation are used.
      size: height and width of the output.
      rows_first: whether to combine along rows first.

    Returns:
      [N, *size, C], same dtype.
    """

    def down(x: jax.Array) -> jax.Array:
        line = Window(stride=(window.stride[0], 1), dilation=window.dilation)
        return functools.reduce(combine, [tap(x, (i, 0), (size[0], x.shape[2]), line) for i in range(window.kernel[0])])

    def across(x: jax.Array) -> jax.Array:
        line = Window(stride=(1, window.stride[1]), dilation=window.dilation)
        return functools.reduce(combine, [tap(x, (0, j), (x.shape[1], size[1]), line) for j in range(window.kernel[1])])

    return down(across(images)) if rows_first else across(down(images))


@jax.custom_jvp
def first_larger(first: jax.Array, second: jax.Array) -> jax.Array:
    """The larger of two arrays, value by value; of equal values the first receives the gradient.

    This gradient compares the two values with each other, JAX's compares each of them with the maximum. XLA may compute
    a value twice and round it in two ways. The maximum may then equal neither value, and JAX's gradient would be lost.

    Args:
      first, second: arrays of one shape and dtype.

    Returns:
      An array of the same shape and dtype.
    """
    return jnp.maximum(first, second)


@first_larger.defjvp
def _first_larger_jvp(
    values: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (first, second), (of_first, of_second) = values, tangents
    return first_larger(first, second), jnp.where(second > first, of_second, of_first)


def seen(window: Window, size: Pair) -> Pair:
    """Height and width of the part of an image that `size` windows cover, pixels."""
    down, across = ((n - 1) * s + extent for n, s, extent in zip(size, window.stride, window.extent, strict=True))
    return down, across


def _size(images: jax.Array, window: Window) -> Pair:
    """Number of windows along height and width of an image."""
    return counts(images.shape[1:3], window.extent, window.stride)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_with_own_gradient(images: jax.Array, window: Window) -> jax.Array:
    """Maximum over windows that together cover the whole image.

    Args:
      images: [N, H, W, C], already padded; no pixel is left over behind the last window.
      window: kernel and stride are used.

    Returns:
      [N, H', W', C], same dtype.
    """
    return fold_windows(jnp.maximum, images, window, _size(images, window))


def _max_jvp(window: Window, primals: tuple[Any], tangents: tuple[Any]) -> tuple[jax.Array, Any]:
    (images,), (tangent,) = primals, tangents
    largest = _max_in_training(images, window)
    if isinstance(tangent, SymbolicZero):
        return largest, jnp.zeros_like(largest)
    of_winners = functools.partial(_of_winners, window=window)
    to_pixels = functools.partial(_to_winners, window=window)
    return largest, linear(of_winners, to_pixels, [_winners(images, window)], tangent)


max_with_own_gradient.defjvp(_max_jvp, symbolic_zeros=True)


def _max_in_training(images: jax.Array, window: Window) -> jax.Array:
    """The maximum as training computes it.

    Small maps are usually flattened next. XLA:CPU fuses slices, maximum and flattening into one loop without vector
    instructions, but keeps `reduce_window` separate. This is for training only: at inference XLA hands `reduce_window`
    and the fully connected layers that follow to YNNPACK, and VGG-16 takes twice as long.
    """
    if math.prod(_size(images, window)) > SMALL_MAP or min(images.shape[0], images.shape[3]) == 1:
        return max_with_own_gradient(images, window)
    # A NumPy constant: by it JAX recognises a maximum, which it must to differentiate it again.
    lowest = np.array(-np.inf, images.dtype)
    return lax.reduce_window(images, lowest, lax.max, (1, *window.kernel, 1), (1, *window.stride, 1), "VALID")


def _positions(window: Window) -> list[tuple[int, Pair]]:
    """(number, (row, column)) of each position within the kernel, row by row."""
    return list(enumerate(itertools.product(range(window.kernel[0]), range(window.kernel[1]))))


def _winners(images: jax.Array, window: Window) -> jax.Array:
    """The number of the position that holds the maximum of each window, the first of equal ones.

    Pixels are compared with each other and not with the maximum, which XLA may have computed a second time and rounded
    in another way. So every window has a winner.
    """
    size = _size(images, window)
    best = tap(images, (0, 0), size, window)
    winners = jnp.zeros(best.shape, jnp.uint8)
    for number, place in _positions(window)[1:]:
        value = tap(images, place, size, window)
        winners = jnp.where(value > best, jnp.uint8(number), winners)
        best = jnp.maximum(best, value)
    return winners


def _of_winners(winners: jax.Array, images: jax.Array, window: Window) -> jax.Array:
    """The pixel of each window at the winner's position."""
    size = _size(images, window)
    terms = [jnp.where(winners == number, tap(images, place, size, window), 0) for number, place in _positions(window)]
    return functools.reduce(jnp.add, terms)


def _to_winners(winners: jax.Array, gradient: jax.Array, window: Window) -> jax.Array:
    """The gradient of each pixel: the sum over the windows whose winner it is."""
    return _to_pixels(gradient, window, winners)


def _to_pixels(gradient: jax.Array, window: Window, winners: jax.Array | None = None) -> jax.Array:
    """The gradient of each pixel: the sum over the windows that contain it, or, with winners, whose winner it is.

    It is computed for blocks as large as the stride. A block can only lie in the window that begins in it and, if
    windows overlap, in windows that begin in blocks above it and to the left.
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
        # The position of each pixel of a block within the window that begins i blocks above and j blocks to the left.
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
    height, width = seen(window, (rows, columns))
    return pixels[:, :height, :width]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def sum_with_own_gradient(images: jax.Array, window: Window) -> jax.Array:
    """Sum over windows that together cover the whole image.

    Args:
      images: [N, H, W, C], already padded; no pixel is left over behind the last window.
      window: kernel and stride are used.

    Returns:
      [N, H', W', C], same dtype.
    """
    return _sum(images, window)


def _sum(images: jax.Array, window: Window) -> jax.Array:
    return fold_windows(jnp.add, images, window, _size(images, window))


def _sum_jvp(window: Window, primals: tuple[Any], tangents: tuple[Any]) -> tuple[jax.Array, Any]:
    (images,), (tangent,) = primals, tangents
    total = _sum_in_training(images, window)
    if isinstance(tangent, SymbolicZero):
        return total, jnp.zeros_like(total)
    function, transpose = (functools.partial(f, window=window) for f in (_sum, _to_pixels))
    return total, linear(function, transpose, [], tangent)


sum_with_own_gradient.defjvp(_sum_jvp, symbolic_zeros=True)


def _sum_in_training(images: jax.Array, window: Window) -> jax.Array:
    """The sum as training computes it: on CPU a concatenation of the upper and the lower half.

    XLA:CPU merges a sum into each loop that reads it, for example one that changes the layout for a convolution, and
    computes it again in each of them; a concatenation is computed once.
    """
    half = _size(images, window)[0] // 2
    if not half:
        return _sum(images, window)

    def in_halves(images: jax.Array) -> jax.Array:
        upper, _ = seen(window, (half, 1))
        lower = images[:, half * window.stride[0] :]
        return lax.concatenate([_sum(images[:, :upper], window), _sum(lower, window)], 1)

    return lax.platform_dependent(images, cpu=in_halves, default=functools.partial(_sum, window=window))
