"""Padding, slices, products and normalisation as functions of arrays; images are [N, H, W, C] throughout."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from cnn.ops.linear import linear
from cnn.ops.plain import is_plain
from cnn.windows import Pair, Window

PADDING_MODES = ("zero", "constant", "edge", "reflect", "mean")


def pad(images: jax.Array, padding: tuple[Pair, Pair], mode: str, value: float = 0.0) -> jax.Array:
    """Pads height and width.

    Args:
      images: [N, H, W, C].
      padding: ((top, bottom), (left, right)), pixels.
      mode: "zero"; "constant" (a number); "edge" (repeat the border pixel); "reflect" (mirror, border pixel not
        repeated); "mean" (first each column's mean above and below it, then each row's mean left and right); all as
        `numpy.pad` defines them.
      value: the number of "constant".

    Returns:
      [N, H + top + bottom, W + left + right, C], same dtype.
    """
    widths = ((0, 0), *padding, (0, 0))
    if mode == "zero":
        return jnp.pad(images, widths)
    if mode == "constant":
        return jnp.pad(images, widths, constant_values=value)
    return jnp.pad(images, widths, mode=mode)


def tap(images: jax.Array, position: Pair, size: tuple[int, ...], window: Window) -> jax.Array:
    """The pixels that one position of the kernel sees, in every window.

    Args:
      images: [N, H, W, C], already padded.
      position: (i, j) within the kernel.
      size: height and width of the output.
      window: the sliding window, of which stride and dilation are used.

    Returns:
      [N, *size, C], same dtype.
    """
    start = [p * d for p, d in zip(position, window.dilation, strict=True)]
    stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, size, window.stride, strict=True)]
    return lax.slice(images, (0, *start, 0), (images.shape[0], *stop, images.shape[3]), (1, *window.stride, 1))


def precise(dtype: Any) -> Any:
    """float32 for half precision and other floating dtypes unchanged; also where JAX refuses to promote dtypes."""
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


LARGE_KERNEL = 2**20  # weights; some algorithms are faster for kernels of at least this size only


def product(values: jax.Array, kernel: jax.Array) -> jax.Array:
    """Matrix product of a fully connected layer.

    The gradient of a large kernel is computed in the kernel's own memory layout, [M, K]. JAX's gradient has the layout
    [K, M]; it is summed over devices in that layout, and the update of the kernel must read it across its rows.

    Args:
      values: [N, M], floating.
      kernel: [M, K], same dtype.

    Returns:
      [N, K], same dtype.
    """
    return jnp.matmul(values, kernel) if kernel.size < LARGE_KERNEL or is_plain() else _large_product(values, kernel)


_large_product = jax.custom_jvp(jnp.matmul)


def _large_product_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[jax.Array, Any]:
    """Output and tangent; the tangent's transposes give gradients in the memory layout of their arrays."""
    values, kernel = primals

    def of_values(kernel: jax.Array, gradient: jax.Array) -> jax.Array:
        return lax.dot_general(gradient, kernel, (((1,), (1,)), ((), ())))

    def of_kernel(values: jax.Array, gradient: jax.Array) -> jax.Array:
        return lax.dot_general(values, gradient, (((0,), (0,)), ((), ())))

    output = jnp.matmul(values, kernel)
    terms = []
    if not isinstance(tangents[0], SymbolicZero):
        terms.append(linear(lambda kernel, values: jnp.matmul(values, kernel), of_values, [kernel], tangents[0]))
    if not isinstance(tangents[1], SymbolicZero):
        terms.append(linear(jnp.matmul, of_kernel, [values], tangents[1]))
    return output, functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(output)


_large_product.defjvp(_large_product_jvp, symbolic_zeros=True)


def local_response_norm(images: jax.Array, size: int, k: float, alpha: float, beta: float) -> jax.Array:
    """Divides each channel by (k + alpha * sum of the squares of `size` neighbouring channels) ** beta.

    It is computed in float32 or wider, because squares and powers lose too much in half precision.

    Args:
      images: [N, H, W, C], floating.
      size: number of neighbouring channels, the channel itself in the middle (an even size has one more below).
      k: constant that keeps the divisor from zero.
      alpha: weight of the sum of squares. PyTorch and Caffe divide it by `size`; the paper and this function do not.
      beta: exponent.

    Returns:
      Same shape and dtype.

    Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012),
    section 3.3.
    """
    x = images.astype(precise(images.dtype))
    below = size // 2
    squares = jnp.pad(jnp.square(x), ((0, 0), (0, 0), (0, 0), (below, size - 1 - below)))
    channels = x.shape[-1]
    total = functools.reduce(jnp.add, [lax.slice_in_dim(squares, i, i + channels, axis=3) for i in range(size)])
    divisor = k + alpha * total
    if beta == 0.75 and not is_plain():  # the paper's exponent: two roots are cheaper than a power and its gradient
        root = lax.rsqrt(divisor)
        return (x * (root * jnp.sqrt(root))).astype(images.dtype)
    return (x * divisor**-beta).astype(images.dtype)
