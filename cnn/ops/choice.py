"""Which algorithm computes a convolution on CPU: records in order of preference; the first that applies is used.

XLA's convolution is not the fastest way to compute every convolution on CPU. The rules are thresholds that were
measured; `python -m benchmarks.ops` measures them again on the machine at hand (benchmarks/results/ops.md).
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim

from cnn.ops import algorithms, batch_last, winograd
from cnn.ops.basic import LARGE_KERNEL, product
from cnn.ops.shapes import Shapes
from cnn.windows import counts

# Rows of a matrix product whose rounding must not depend on how many rows there are: as many as the smallest tile has.
BLOCK_ROWS = 256


class Forward(Protocol):
    """images [N, H, W, C], kernel [kernel height, kernel width, C / groups, K] -> [N, H', W', K]."""

    def __call__(self, images: jax.Array, kernel: jax.Array, shapes: Shapes) -> jax.Array: ...


def xla(images: jax.Array, kernel: jax.Array, shapes: Shapes) -> jax.Array:
    """XLA's own convolution."""
    padding = shapes.window.padding
    if any(map(is_symbolic_dim, itertools.chain(*padding))):  # `lax.pad` takes symbolic amounts, a convolution does not
        amounts = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
        images, padding = lax.pad(images, jnp.zeros((), images.dtype), amounts), ((0, 0), (0, 0))
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=shapes.window.stride,
        padding=padding,
        rhs_dilation=shapes.window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=shapes.groups,
    )


class Algorithm(NamedTuple):
    """A way to compute a convolution; its values are those of XLA's convolution up to rounding.

    Attributes:
      name: its name in tables and tests.
      applies: whether it is used for the given shapes, unless an earlier record applies.
      forward: images, kernel, shapes -> the output.
      elsewhere: what is used on other platforms than CPU.
      workspace: number of values that it holds beside input and output, for the whole batch.
    """

    name: str
    applies: Callable[[Shapes], bool]
    forward: Forward
    elsewhere: Forward = xla
    workspace: Callable[[Shapes], int] = lambda shapes: 0


def extra_row(images: jax.Array, kernel: jax.Array, shapes: Shapes) -> jax.Array:
    """XLA's convolution; unpadded images with several channels get padding for one more row of windows.

    XLA:CPU runs a convolution with padding faster than one without; the outputs of the additional row are dropped.
    """
    if not shapes.unpadded or shapes.kernel[2] == 1:
        return xla(images, kernel, shapes)
    window = shapes.window
    rows, _ = counts(images.shape[1:3], window.extent, window.stride)
    more = rows * window.stride[0] + window.extent[0] - images.shape[1]
    return xla(images, kernel, shapes._replace(window=window._replace(padding=((0, more), (0, 0)))))[:, :rows]


def pad_channels(images: jax.Array, kernel: jax.Array, shapes: Shapes) -> jax.Array:
    """XLA's convolution, with channels of zeros added up to a multiple of four."""
    more = -images.shape[3] % 4
    images = jnp.pad(images, ((0, 0), (0, 0), (0, 0), (0, more)))
    return extra_row(images, jnp.pad(kernel, ((0, 0), (0, 0), (0, more), (0, 0))), shapes)


def _product(images: jax.Array, kernel: jax.Array, shapes: Shapes) -> jax.Array:
    """A 1x1 convolution as one matrix product over the channels."""
    pixels = images[:, :: shapes.window.stride[0], :: shapes.window.stride[1]]
    return lax.dot_general(pixels, kernel[0, 0], (((3,), (0,)), ((), ())))


def _product_in_blocks(images: jax.Array, kernel: jax.Array, shapes: Shapes) -> jax.Array:
    """A 1x1 convolution as matrix products of `BLOCK_ROWS` pixels each.

    XLA's matrix product on CPU splits each sum over the threads, or does not, by its cost, which the number of rows is
    part of. So the rounding of a value would depend on the size of the image that it is computed in.
    """
    pixels = images[:, :: shapes.window.stride[0], :: shapes.window.stride[1]]
    rows = pixels.reshape(-1, pixels.shape[-1])
    count = -(-len(rows) // BLOCK_ROWS)
    blocks = jnp.pad(rows, ((0, count * BLOCK_ROWS - len(rows)), (0, 0))).reshape(count, BLOCK_ROWS, -1)
    found = lax.map(lambda block: block @ kernel[0, 0], blocks)
    return found.reshape(count * BLOCK_ROWS, -1)[: len(rows)].reshape(*pixels.shape[:-1], -1)


def _whole(images: jax.Array, kernel: jax.Array, shapes: Shapes) -> jax.Array:
    """A convolution whose kernel covers the whole image, as a fully connected layer."""
    # Sizes as numbers: -1 has no meaning for a batch of 0 images.
    flat = product(images.reshape(images.shape[0], math.prod(images.shape[1:])), kernel.reshape(-1, kernel.shape[-1]))
    return flat.reshape(images.shape[0], 1, 1, kernel.shape[-1])


def windowed(function: Callable[..., jax.Array], **options: bool) -> Forward:
    """The forward function of a record, from a function that takes the window in place of all shapes."""
    return lambda images, kernel, shapes: function(images, kernel, shapes.window, **options)


def _im2col_workspace(shapes: Shapes) -> int:
    """The values of all patches, twice: as slices, and joined."""
    size = [n + sum(padding) for n, padding in zip(shapes.images[1:3], shapes.window.padding, strict=True)]
    outputs = math.prod(counts(size, shapes.window.extent, shapes.window.stride))
    return 2 * shapes.images[0] * outputs * math.prod(shapes.kernel[:3])


ALGORITHMS = (
    Algorithm(  # XLA sums any number of rows alike where the kernel is large
        "product_in_blocks",
        lambda s: (
            s.groups == 1
            and s.unpadded
            and s.window.kernel == (1, 1)
            and s.position_invariant
            and math.prod(s.kernel) < LARGE_KERNEL
        ),
        _product_in_blocks,
        elsewhere=_product,
    ),
    Algorithm(
        "product",
        lambda s: s.groups == 1 and s.unpadded and s.window.kernel == (1, 1),
        _product,
        elsewhere=_product,
    ),
    Algorithm(
        "whole",
        lambda s: (
            s.groups == 1 and s.unpadded and s.window.kernel == tuple(s.images[1:3]) and s.window.dilation == (1, 1)
        ),
        _whole,
        elsewhere=_whole,
    ),
    Algorithm(  # a fully connected layer that slides
        "im2col",
        lambda s: s.groups == 1 and s.unpadded and math.prod(s.kernel) >= LARGE_KERNEL,
        windowed(algorithms.im2col),
        workspace=_im2col_workspace,
    ),
    Algorithm(
        "direct_batch_last",
        lambda s: s.groups == 1 and s.is_thin and not s.position_invariant and batch_last.is_faster(s.images),
        windowed(algorithms.direct_batch_last),
    ),
    Algorithm("direct", lambda s: s.groups == 1 and s.is_thin, windowed(algorithms.direct)),
    Algorithm("direct_wide", lambda s: s.groups == 1 and s.has_few_terms, windowed(algorithms.direct, together=True)),
    Algorithm(
        "winograd",
        lambda s: s.groups == 1 and not s.position_invariant and winograd.is_faster(s.images, s.kernel, s.window),
        windowed(winograd.convolution),
        workspace=lambda s: winograd.workspace(s.images, s.kernel, s.window),
    ),
    Algorithm(  # the image without its padding is smaller than the kernel
        "im2col",
        lambda s: s.groups == 1 and any(n < e for n, e in zip(s.images[1:3], s.window.extent, strict=True)),
        windowed(algorithms.im2col),
        workspace=_im2col_workspace,
    ),
    Algorithm("pad_channels", lambda s: s.groups == 1 and s.is_uneven, pad_channels),
    Algorithm("extra_row", lambda s: s.unpadded and s.kernel[2] > 1, extra_row),
    Algorithm("xla", lambda s: True, xla),
)


def algorithm_for(shapes: Shapes) -> Algorithm:
    """The algorithm of a convolution: the first record that applies.

    Args:
      shapes: the shapes, window and groups of the convolution.

    Returns:
      The record.
    """
    return next(algorithm for algorithm in ALGORITHMS if algorithm.applies(shapes))
