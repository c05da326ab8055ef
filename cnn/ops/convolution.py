"""Convolution, computed by the algorithm that is fastest for its shapes; images are [N, H, W, C] throughout.

`convolution` is the entry. The records of `cnn.ops.choice` decide which algorithm computes it, and those of
`cnn.ops.gradients` which algorithms compute its gradients. All give the same values up to rounding.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from cnn.ops.choice import Forward, algorithm_for, xla
from cnn.ops.gradients import gradients_for, training_forward
from cnn.ops.linear import linear, transposed
from cnn.ops.plain import takes_plain
from cnn.ops.shapes import Shapes, shapes_of
from cnn.windows import Window


def convolution(
    images: jax.Array, kernel: jax.Array, window: Window, groups: int = 1, position_invariant: bool = True
) -> jax.Array:
    """Cross-correlation with zero padding: out(a, b) = sum_ij images(a + i, b + j) kernel(i, j), summed over channels.

    A 1x1 kernel, and a kernel that covers its whole input, are one matrix product. Other convolutions are computed by
    other algorithms on CPU, see `cnn.ops.choice`; within `ops.plain()`, and where a size is symbolic, all are XLA's.

    Args:
      images: [N, H, W, C], floating.
      kernel: [kernel height, kernel width, C / groups, K], same dtype.
      window: kernel, stride, padding and dilation.
      groups: the channels are split into this many groups that do not see each other.
      position_invariant: whether a value must be rounded in the same way at every position, in images of any size and
        in any batch (`cnn.ops.shapes.Shapes`).

    Returns:
      [N, H', W', K], same dtype.
    """
    # Winograd's algorithm, which this rules out, adds sums of sums: half precision would lose too many digits.
    position_invariant = position_invariant or images.dtype != jnp.float32
    shapes = shapes_of(images.shape, kernel.shape, window, groups, position_invariant)
    if takes_plain(images.shape):
        return xla(images, kernel, shapes)
    algorithm = algorithm_for(shapes)
    if kernel.shape[-1] == 1 and algorithm.name in ("product", "product_in_blocks", "im2col"):
        # XLA sums the last rows of a product with a vector in another order than the other rows; with two equal columns
        # in place of the vector it does not.
        return convolution(images, jnp.concatenate([kernel, kernel], axis=3), window)[..., :1]
    if algorithm.elsewhere is not xla:
        return _on_cpu(algorithm.forward, images, kernel, shapes, algorithm.elsewhere)
    if gradients_for(shapes) is not None:
        return _with_own_gradients(images, kernel, shapes)
    return _on_cpu(algorithm.forward, images, kernel, shapes)


def workspace(
    images_shape: Sequence[int],
    kernel_shape: Sequence[int],
    window: Window,
    groups: int = 1,
    position_invariant: bool = True,
) -> int:
    """Number of values that a float32 `convolution` holds on CPU beside input and output.

    Args:
      images_shape: (N, H, W, C).
      kernel_shape: (kernel height, kernel width, C / groups, K).
      window: kernel, stride, padding and dilation.
      groups: number of groups of channels that do not see each other.
      position_invariant: whether values must be rounded in the same way at every position.

    Returns:
      Number of values, for the whole batch.
    """
    shapes = shapes_of(images_shape, kernel_shape, window, groups, position_invariant)
    return 0 if takes_plain(images_shape) else algorithm_for(shapes).workspace(shapes)


def _on_cpu(
    forward: Forward, images: jax.Array, kernel: jax.Array, shapes: Shapes, elsewhere: Forward = xla
) -> jax.Array:
    """One forward function on CPU, and another on other platforms."""
    if forward is elsewhere:
        return forward(images, kernel, shapes)
    cpu, default = (functools.partial(function, shapes=shapes) for function in (forward, elsewhere))
    return lax.platform_dependent(images, kernel, cpu=cpu, default=default)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _with_own_gradients(images: jax.Array, kernel: jax.Array, shapes: Shapes) -> jax.Array:
    """A convolution whose gradients are computed by the records that `gradients_for` gives."""
    return _on_cpu(algorithm_for(shapes).forward, images, kernel, shapes)


def _jvp(shapes: Shapes, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[jax.Array, Any]:
    """The output as training computes it, and its tangent: each input's tangent convolved with the other input."""
    images, kernel = primals
    output = _on_cpu(training_forward(shapes, images.dtype), images, kernel, shapes)
    found = gradients_for(shapes)
    assert found is not None
    of_images, of_kernel = (record.compute for record in found)

    def in_images(kernel: jax.Array, images: jax.Array) -> jax.Array:
        return xla(images, kernel, shapes)

    def in_kernel(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return xla(images, kernel, shapes)

    def images_gradient(kernel: jax.Array, gradient: jax.Array) -> jax.Array:
        def default(kernel: jax.Array, gradient: jax.Array) -> jax.Array:
            return transposed(functools.partial(in_images, kernel), images.shape, gradient)

        return lax.platform_dependent(kernel, gradient, cpu=lambda k, g: of_images(k, g, shapes), default=default)

    def kernel_gradient(images: jax.Array, gradient: jax.Array) -> jax.Array:
        def default(images: jax.Array, gradient: jax.Array) -> jax.Array:
            return transposed(functools.partial(in_kernel, images), kernel.shape, gradient)

        return lax.platform_dependent(images, gradient, cpu=lambda i, g: of_kernel(i, g, shapes), default=default)

    terms = []
    if not isinstance(tangents[0], SymbolicZero):
        terms.append(linear(in_images, images_gradient, [kernel], tangents[0]))
    if not isinstance(tangents[1], SymbolicZero):
        terms.append(linear(in_kernel, kernel_gradient, [images], tangents[1]))
    return output, functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(output)


_with_own_gradients.defjvp(_jvp, symbolic_zeros=True)
