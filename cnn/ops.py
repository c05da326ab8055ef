"""Convolution, pooling and normalisation as functions of arrays; images are [N, H, W, C] throughout.

Pooling is written with strided slices, not with `lax.reduce_window`: on CPU the gradient of a max-pooling
`reduce_window` takes 10-47 times as long as the gradient of the maximum of strided slices, at equal forward time.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn.windows import Pair, Window

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


def convolution(images: jax.Array, kernel: jax.Array, window: Window, groups: int = 1) -> jax.Array:
    """Cross-correlation with zero padding: out(a, b) = sum_ij images(a + i, b + j) kernel(i, j), summed over channels.

    A 1x1 kernel, and a kernel that covers its whole input, are one matrix product; that is what they are, and on CPU
    XLA runs the convolution form of it 4-8 times slower. So, on CPU, is a fully connected layer run as a convolution,
    and a convolution of few channels over narrow images.

    Args:
      images: [N, H, W, C], floating.
      kernel: [kernel height, kernel width, C / groups, K], same dtype.
      window: kernel, stride, padding and dilation.
      groups: the channels are split into this many groups that do not see each other.

    Returns:
      [N, H', W', K], same dtype.
    """
    unpadded = window.padding == ((0, 0), (0, 0))
    if unpadded and groups == 1:
        if window.kernel == (1, 1) and window.stride == (1, 1):
            return lax.dot_general(images, kernel[0, 0], (((3,), (0,)), ((), ())))
        if window.kernel == images.shape[1:3] and window.dilation == (1, 1):
            flat = images.reshape(images.shape[0], -1) @ kernel.reshape(-1, kernel.shape[-1])
            return flat.reshape(images.shape[0], 1, 1, -1)

    def plain(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            images,
            kernel,
            window_strides=window.stride,
            padding=window.padding,
            rhs_dilation=window.dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    if unpadded and groups == 1 and _is_like_fc(kernel.shape):
        product = functools.partial(_product_of_patches, window=window)
        return lax.platform_dependent(images, kernel, cpu=product, default=plain)
    if groups == 1 and _is_thin(images.shape, kernel.shape):
        product = functools.partial(_product_of_rows, window=window)
        return lax.platform_dependent(images, kernel, cpu=product, default=plain)
    return plain(images, kernel)


def _is_like_fc(kernel_shape: tuple[int, ...]) -> bool:
    """Whether a kernel looks like a converted FC layer: one product of patches beats XLA's CPU convolution.

    Measured on two cores beside other work (read the ratios), float32: 7x7x512 -> 4096 over 12x12 takes 374 ms as a
    convolution and 58 ms as a product; 5x5x6 -> 100 over 32 maps of 68x68, 226 and 96 ms.
    """
    height, width, channels, features = kernel_shape
    few_to_many = height * width > 1 and channels < 16 and features >= 64
    return few_to_many or height * width * channels * features >= 2**20


def _is_thin(images_shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> bool:
    """Whether channels are so few and rows so short that a product of rows beats XLA's CPU convolution.

    Measured on two cores beside other work (read the ratios), float32: 5x5x1 -> 3 over 668 images of 32x32 takes 40
    ms as a convolution and 17 ms as a product, its gradients 194 and 45 ms; 5x5x3 -> 6 over 14x14, 12 and 3 ms, 59
    and 15 ms. The product's work grows with the square of the width, mostly zeros.
    """
    height, width, channels, features = kernel_shape
    return height * width > 1 and channels <= 8 and features <= 8 and images_shape[2] <= 48


def _product_of_rows(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Convolution as one matrix product of whole image rows and the kernel's banded matrix.

    A pixel that is not finite makes its whole rows so: zero times infinity is not a number.
    """
    if window.padding != ((0, 0), (0, 0)):
        images = pad(images, window.padding, "zero")
        window = window._replace(padding=((0, 0), (0, 0)))
    count, height, width, channels = images.shape
    extent, (down, across), (step_down, step_across) = window.extent, window.stride, window.dilation
    rows, columns = (height - extent[0]) // down + 1, (width - extent[1]) // across + 1
    place = np.zeros((window.kernel[1], width, columns), np.float32)  # place[j, x, b]: tap j of output b is pixel x
    for j in range(window.kernel[1]):
        place[j, np.arange(columns) * across + j * step_across, np.arange(columns)] = 1
    band = jnp.einsum("jxb,ijcf->ixcbf", place.astype(kernel.dtype), kernel)
    flat = images.reshape(count, height, width * channels)
    taps = [
        lax.slice_in_dim(flat, i * step_down, i * step_down + (rows - 1) * down + 1, down, axis=1)
        for i in range(window.kernel[0])
    ]
    product = jnp.concatenate(taps, axis=2) @ band.reshape(-1, columns * kernel.shape[3])
    return product.reshape(count, rows, columns, kernel.shape[3])


def _product_of_patches(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Unpadded convolution as one matrix product of all patches and the flattened kernel."""
    height, width, _, features = kernel.shape
    size = tuple(
        (n - extent) // s + 1 for n, extent, s in zip(images.shape[1:3], window.extent, window.stride, strict=True)
    )
    taps = [_tap(images, (i, j), size, window) for i in range(height) for j in range(width)]
    return lax.dot_general(jnp.concatenate(taps, axis=3), kernel.reshape(-1, features), (((3,), (0,)), ((), ())))


def _tap(images: jax.Array, position: Pair, size: tuple[int, ...], window: Window) -> jax.Array:
    """The pixels that tap (i, j) of every window sees: [N, H', W', C]."""
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
    combine: Callable[[jax.Array, jax.Array], jax.Array], images: jax.Array, window: Window, size: Pair
) -> jax.Array:
    """Combines the taps of each window, first down the columns, then along the rows (both are associative)."""
    down = Window((window.kernel[0], 1), (window.stride[0], 1), dilation=(window.dilation[0], 1))
    across = Window((1, window.kernel[1]), (1, window.stride[1]), dilation=(1, window.dilation[1]))
    rows = [_tap(images, (i, 0), (size[0], images.shape[2]), down) for i in range(window.kernel[0])]
    images = functools.reduce(combine, rows)
    columns = [_tap(images, (0, j), size, across) for j in range(window.kernel[1])]
    return functools.reduce(combine, columns)


def window_counts(images_size: Sequence[int], window: Window, size: Pair) -> np.ndarray:
    """How many real (not padded) pixels each window holds: float32 [1, H', W', 1]."""
    axes = []
    for axis in range(2):
        start = np.arange(size[axis])[:, None] * window.stride[axis] - window.padding[axis][0]
        taps = start + np.arange(window.kernel[axis])[None, :] * window.dilation[axis]
        axes.append(((taps >= 0) & (taps < images_size[axis])).sum(axis=1))
    return np.outer(axes[0], axes[1]).astype(np.float32)[None, :, :, None]


def max_pool(images: jax.Array, window: Window, size: Pair) -> jax.Array:
    """Maximum over each window; padding never wins.

    Args:
      images: [N, H, W, C], floating.
      window: kernel, stride, padding and dilation.
      size: height and width of the output (`cnn.windows.output_size`).

    Returns:
      [N, *size, C], same dtype.
    """
    return _fold_windows(jnp.maximum, _pad_for_pool(images, window, size, -np.inf), window, size)


def average_pool(images: jax.Array, window: Window, size: Pair) -> jax.Array:
    """Mean over the real pixels of each window (PyTorch: `count_include_pad=False`).

    Args:
      images: [N, H, W, C], floating.
      window: kernel, stride, padding and dilation.
      size: height and width of the output.

    Returns:
      [N, *size, C], same dtype.
    """
    total = _fold_windows(jnp.add, _pad_for_pool(images, window, size, 0.0), window, size)
    return total / jnp.asarray(window_counts(images.shape[1:3], window, size), total.dtype)


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
    taps = [_tap(padded, (i, j), size, window) for i in range(window.kernel[0]) for j in range(window.kernel[1])]
    largest = lax.top_k(jnp.stack(taps, axis=-1), n)[0]  # (N, H', W', C, n), descending
    real = np.arange(n)[None, None, None, None, :] < counts[..., None]
    total = jnp.where(real, largest, 0).sum(axis=-1)
    return total / jnp.asarray(counts, total.dtype)


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
    return (x * (k + alpha * total) ** -beta).astype(images.dtype)
