"""Padding, taps, products and normalisation as functions of arrays; images are [N, H, W, C] throughout."""

import functools

import jax
import jax.numpy as jnp
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
