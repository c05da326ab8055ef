"""Which algorithms compute the gradients of a convolution on CPU: records, of which the first that applies is used.

Where a gradient is taken, the output may be computed by another algorithm than at inference (`training_forward`).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cnn.ops import algorithms, batch_last, winograd
from cnn.ops.choice import Forward, algorithm_for, extra_row, pad_channels, windowed
from cnn.ops.linear import transposed
from cnn.ops.shapes import Shapes

BATCH_PARTS = 4  # number of parts that "split_batch" splits a batch into
LEAST_IN_PART = 16  # images

Compute = Callable[[jax.Array, jax.Array, Shapes], jax.Array]


def training_forward(shapes: Shapes, dtype: jnp.dtype) -> Forward:
    """How the output is computed where a gradient is taken.

    XLA merges the loop of "direct_wide" into each loop that reads its output. Training reads the output several times
    and would compute it again each time. Therefore training uses one product for several columns, or XLA's convolution.

    Args:
      shapes: the shapes, window and groups of the convolution.
      dtype: dtype of images and kernel.

    Returns:
      The forward function.
    """
    algorithm = algorithm_for(shapes)
    if algorithm.name != "direct_wide":
        return algorithm.forward
    if shapes.dense_columns and shapes.covers_kernel and dtype == jnp.float32 and shapes.is_first:
        return windowed(algorithms.im2col_columns)
    return pad_channels if shapes.is_uneven else extra_row


class Gradient(NamedTuple):
    """A way to compute the gradient of a convolution's images, or of its kernel, on CPU.

    Attributes:
      name: its name in tables and tests.
      applies: whether it is used for the given shapes, unless an earlier record applies.
      compute: (kernel, output's gradient, shapes) -> images' gradient, or (images, output's gradient, shapes) ->
        kernel's gradient.
    """

    name: str
    applies: Callable[[Shapes], bool]
    compute: Compute


def _images_gradient_of(forward: Forward) -> Compute:
    """The gradient of the images as the transpose of a forward function."""

    def compute(kernel: jax.Array, gradient: jax.Array, shapes: Shapes) -> jax.Array:
        return transposed(lambda images: forward(images, kernel, shapes), shapes.images, gradient)

    return compute


def _kernel_gradient_of(forward: Forward) -> Compute:
    """The gradient of the kernel as the transpose of a forward function."""

    def compute(images: jax.Array, gradient: jax.Array, shapes: Shapes) -> jax.Array:
        return transposed(lambda kernel: forward(images, kernel, shapes), shapes.kernel, gradient)

    return compute


def _split_batch(images: jax.Array, gradient: jax.Array, shapes: Shapes) -> jax.Array:
    """The kernel's gradient by XLA's convolution: the sum over parts of the batch, computed one after another."""
    part = shapes._replace(images=(shapes.images[0] // BATCH_PARTS, *shapes.images[1:]))
    pieces = zip(jnp.split(images, BATCH_PARTS), jnp.split(gradient, BATCH_PARTS), strict=True)
    of_part = _kernel_gradient_of(extra_row)
    return functools.reduce(jnp.add, [of_part(few, piece, part) for few, piece in pieces])


def _splits_batch(shapes: Shapes) -> bool:
    count, channels, features = shapes.images[0], *shapes.kernel[2:]
    middling = 16 <= channels <= 64 and 16 <= features <= 64
    return middling and count % BATCH_PARTS == 0 and count >= LEAST_IN_PART * BATCH_PARTS


def _is_thin_batch_last(shapes: Shapes) -> bool:
    return shapes.is_thin and batch_last.is_faster(shapes.images)


IMAGES_GRADIENTS = (
    Gradient(
        "winograd",
        lambda s: algorithm_for(s).name == "winograd",
        lambda k, g, s: winograd.images_gradient(g, k, s.window),
    ),
    Gradient(
        "batch_last",
        _is_thin_batch_last,
        lambda k, g, s: algorithms.images_gradient_batch_last(g, k, s.window, s.images),
    ),
    Gradient("banded_matmul", lambda s: s.is_narrow, _images_gradient_of(windowed(algorithms.banded_matmul))),
    Gradient("xla", lambda s: True, _images_gradient_of(extra_row)),
)

KERNEL_GRADIENTS = (
    Gradient("xla", lambda s: algorithm_for(s).name == "winograd", _kernel_gradient_of(extra_row)),
    Gradient(
        "batch_last",
        lambda s: _is_thin_batch_last(s) and s.window.stride == s.window.dilation == (1, 1),
        lambda i, g, s: algorithms.kernel_gradient_batch_last(i, g, s.window),
    ),
    Gradient(
        "banded_matmul", lambda s: s.is_thin and s.is_narrow, _kernel_gradient_of(windowed(algorithms.banded_matmul))
    ),
    Gradient(
        "im2col_columns",
        lambda s: s.is_first and s.dense_columns,
        lambda i, g, s: algorithms.kernel_gradient_im2col_columns(i, g, s.window),
    ),
    Gradient("im2col", lambda s: s.is_first, _kernel_gradient_of(windowed(algorithms.im2col))),
    Gradient("split_batch", _splits_batch, _split_batch),
    Gradient("xla", lambda s: True, _kernel_gradient_of(extra_row)),
)


def gradients_for(shapes: Shapes) -> tuple[Gradient, Gradient] | None:
    """How the gradients of a convolution are computed on CPU.

    Args:
      shapes: the shapes, window and groups of the convolution.

    Returns:
      The records for the images and for the kernel; None if JAX's derivatives of the forward algorithm are used.
    """
    if algorithm_for(shapes).name != "winograd":
        if shapes.groups > 1 or not shapes.slides or not shapes.covers_kernel:
            return None
        own = (shapes.is_narrow, shapes.is_first, shapes.is_thin, shapes.has_few_terms, _splits_batch(shapes))
        if not any(own):
            return None
    of_images = next(record for record in IMAGES_GRADIENTS if record.applies(shapes))
    return of_images, next(record for record in KERNEL_GRADIENTS if record.applies(shapes))
