"""Padding, pooling and normalisation as functions of arrays; images are [N, H, W, C] throughout.

Pooling is written with strided slices, not with `lax.reduce_window`: on CPU the gradient of a max-pooling
`reduce_window` takes 10-47 times as long as the gradient of the maximum of strided slices, at equal forward time.
Batches of images with few channels are pooled as planes there (`cnn.planes`).
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn.planes import in_planes
from cnn.windows import Pair, Window

SMALL_MAP = 64  # pixels; see `_max_pool_saving`
MOST_TAPS = 32  # of windows side by side whose winners are looked for tap by tap
PADDING_MODES = ("zero", "edge", "reflect", "mean")


def pad(images: jax.Array, padding: tuple[Pair, Pair], mode: str) -> jax.Array:
    """Pads height and width.

    Args:
      images: [N, H, W, C].
      padding: ((top, bottom), (left, right)), pixels.
      mode: "zero"; "edge" (repeat the border pixel); "reflect" (mirror, border pixel not repeated); "mean" (first
        each column's mean above and below it, then each row's mean left and right), all as `numpy.pad` defines them.

    Returns:
      [N, H + top + bottom, W + left + right, C], same dtype.
    """
    widths = ((0, 0), *padding, (0, 0))
    if mode == "zero":
        return jnp.pad(images, widths)
    return jnp.pad(images, widths, mode=mode)


def tap(images: jax.Array, position: Pair, size: tuple[int, ...], window: Window) -> jax.Array:
    """The pixels that one tap of every window sees.

    Args:
      images: [N, H, W, C], already padded.
      position: (i, j) of the tap within the kernel.
      size: height and width of the output.
      window: kernel, stride and dilation; its padding is not looked at.

    Returns:
      [N, *size, C], same dtype.
    """
    start = [p * d for p, d in zip(position, window.dilation, strict=True)]
    stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, size, window.stride, strict=True)]
    return lax.slice(images, (0, *start, 0), (images.shape[0], *stop, images.shape[3]), (1, *window.stride, 1))


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

    Windows side by side (kernel and stride are equal, nothing is padded) have no forward-mode derivative (`jax.jvp`).

    Args:
      images: [N, H, W, C], floating.
      window: kernel, stride, padding and dilation.
      size: height and width of the output (`cnn.windows.output_size`).

    Returns:
      [N, *size, C], same dtype.
    """
    if _are_apart(images, window, size) and math.prod(window.kernel) <= MOST_TAPS:
        return in_planes(lambda x: _max_pool_apart(x, window), _covered(images, window, size))
    return in_planes(
        lambda x: _fold_windows(_first_larger, _pad_for_pool(x, window, size, -np.inf), window, size, rows_first=True),
        images,
    )


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


def _are_apart(images: jax.Array, window: Window, size: Pair) -> bool:
    """Whether windows lie side by side, within the image."""
    apart = window.kernel == window.stride and window.dilation == (1, 1)
    inside = all(n * s <= m for n, s, m in zip(size, window.stride, images.shape[1:3], strict=True))
    return apart and inside and window.padding == ((0, 0), (0, 0))


def _covered(images: jax.Array, window: Window, size: Pair) -> jax.Array:
    """The part of the images that windows side by side see."""
    return images[:, : size[0] * window.stride[0], : size[1] * window.stride[1]]


def _spread(values: jax.Array, window: Window) -> jax.Array:
    """Gives each pixel the value of its window, of windows that lie side by side."""
    height, width = window.kernel
    outer, rows, columns, inner = values.shape
    shape = (outer, rows, height, columns, width, inner)
    return jnp.broadcast_to(values[:, :, None, :, None, :], shape).reshape(outer, rows * height, columns * width, inner)


def _largest(images: jax.Array, window: Window) -> jax.Array:
    """Maximum over windows that lie side by side and cover the image.

    Its own gradient asks of each pixel whether it is its window's maximum: on two CPU cores 2.8 ms for 128 images of
    32x32x32, where the gradient of the maximum of strided slices takes 6.6 ms.
    """
    size = images.shape[1] // window.kernel[0], images.shape[2] // window.kernel[1]
    return _fold_windows(jnp.maximum, images, window, size)


_max_pool_apart = jax.custom_vjp(_largest, nondiff_argnums=(1,))


def _max_pool_saving(images: jax.Array, window: Window) -> tuple[jax.Array, jax.Array]:
    """The maximum as training computes it, and the winners.

    Small maps are most often flattened next, and XLA:CPU makes one loop of slices, maximum and flattening, which it
    cannot write with vectors: 2.5 ms for 128 images of 14x14x64. It leaves `reduce_window` by itself: 0.6 ms, and 0.4
    ms more than slices where nothing is flattened. Not outside of training: there YNNPACK takes it together with the
    fully connected layers that follow, and VGG-16 at twice the time.
    """
    size = images.shape[1] // window.kernel[0], images.shape[2] // window.kernel[1]
    if math.prod(size) <= SMALL_MAP and min(images.shape[0], images.shape[3]) > 1:
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
    height, width = window.kernel
    size = images.shape[1] // height, images.shape[2] // width
    best = tap(images, (0, 0), size, window)
    winners = jnp.zeros(best.shape, jnp.uint8)
    for number, place in enumerate(itertools.product(range(height), range(width))):
        if number:
            value = tap(images, place, size, window)
            winners = jnp.where(value > best, jnp.uint8(number), winners)
            best = jnp.maximum(best, value)
    return winners


def _max_pool_gradient(window: Window, winners: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    height, width = window.kernel
    numbers = np.arange(height * width, dtype=np.uint8).reshape(1, 1, height, 1, width, 1)
    mine = winners[:, :, None, :, None] == numbers
    outer, rows, columns, inner = winners.shape
    images_gradient = jnp.where(mine, gradient[:, :, None, :, None], 0)
    return (images_gradient.reshape(outer, rows * height, columns * width, inner),)


_max_pool_apart.defvjp(_max_pool_saving, _max_pool_gradient)


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

    Windows side by side (kernel and stride are equal, nothing is padded) have no forward-mode derivative (`jax.jvp`).

    Args:
      images: [N, H, W, C], floating.
      window: kernel, stride, padding and dilation.
      size: height and width of the output.

    Returns:
      [N, *size, C], same dtype.
    """
    if _are_apart(images, window, size):
        return in_planes(lambda x: _sum_pool_apart(x, window), _covered(images, window, size))
    return in_planes(lambda x: _fold_windows(jnp.add, _pad_for_pool(x, window, size, 0.0), window, size), images)


def _sum(images: jax.Array, window: Window) -> jax.Array:
    """Sum over windows that lie side by side and cover the image; its own gradient is written at once, not tap by tap.

    Training `lenet5` on two CPU cores, a step of 128 images takes 14.5 ms with the gradients of strided slices, and 9.7
    so.
    """
    size = images.shape[1] // window.kernel[0], images.shape[2] // window.kernel[1]
    return _fold_windows(jnp.add, images, window, size)


_sum_pool_apart = jax.custom_vjp(_sum, nondiff_argnums=(1,))
_sum_pool_apart.defvjp(
    lambda images, window: (_sum(images, window), None), lambda window, _, gradient: (_spread(gradient, window),)
)


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


LARGE_KERNEL = 2**20  # weights; from here on forms that are worth their price for large kernels alone are used


def product(values: jax.Array, kernel: jax.Array) -> jax.Array:
    """Matrix product of a fully connected layer.

    The gradient of a large kernel is written so that it comes out as the kernel lies, [M, K]: JAX's own comes out
    [K, M], is summed over devices as it is, and read across its rows where the kernel is updated. Training `vgg11` on
    two CPU devices, the update of two kernels of 4,096 columns took 200 ms of a step of 3,450, and 15 ms so. Such a
    product has no forward-mode derivative (`jax.jvp`).

    Args:
      values: [N, M], floating.
      kernel: [M, K], same dtype.

    Returns:
      [N, K], same dtype.
    """
    return (_large_product if kernel.size >= LARGE_KERNEL else jnp.matmul)(values, kernel)


def _large_product_gradients(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    values, kernel = saved
    of_values = lax.dot_general(gradient, kernel, (((1,), (1,)), ((), ())))
    return of_values, lax.dot_general(values, gradient, (((0,), (0,)), ((), ())))


_large_product = jax.custom_vjp(jnp.matmul)
_large_product.defvjp(lambda values, kernel: (values @ kernel, (values, kernel)), _large_product_gradients)


def local_response_norm(images: jax.Array, size: int, k: float, alpha: float, beta: float) -> jax.Array:
    """Divides each channel by (k + alpha * sum of the squares of `size` neighbouring channels) ** beta.

    Computed in float32 whatever the input, as squares and powers lose too much in half precision.

    Args:
      images: [N, H, W, C], floating.
      size: number of neighbouring channels, the channel itself in the middle (an even size has one more below).
      k: constant that keeps the divisor from zero.
      alpha: weight of the sum of squares. PyTorch and Caffe divide theirs by `size`; the paper, and this, do not.
      beta: exponent.

    Returns:
      Same shape and dtype.

    Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012),
    section 3.3.
    """
    x = images.astype(jnp.float32)
    below = size // 2
    squares = jnp.pad(jnp.square(x), ((0, 0), (0, 0), (0, 0), (below, size - 1 - below)))
    channels = x.shape[-1]
    total = functools.reduce(jnp.add, [lax.slice_in_dim(squares, i, i + channels, axis=3) for i in range(size)])
    divisor = k + alpha * total
    if beta == 0.75:  # the paper's: two roots instead of a power, whose gradient is another power (58 -> 34 ms on CPU)
        root = lax.rsqrt(divisor)
        return (x * (root * jnp.sqrt(root))).astype(images.dtype)
    return (x * divisor**-beta).astype(images.dtype)
