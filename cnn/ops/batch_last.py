"""Batches of images with few channels in batch-last layout, [C, H, W, N]: the batch is the contiguous axis in memory.

In [N, H, W, C] with three channels the contiguous axis has three values, and convolutions and pools must shuffle vector
registers. In batch-last layout one vector register holds the same pixel and channel of 8 or 16 images.

Functions that act on height and width alone (axes 1 and 2 of both layouts) work in both.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from cnn.ops.memory_order import in_order
from cnn.ops.plain import takes_plain

MOST_CHANNELS = 8
LEAST_IMAGES = 16


def is_faster(images_shape: Sequence[int]) -> bool:
    """Whether batch-last is the faster layout on CPU: few channels, enough images to fill vectors, and one device.

    XLA's partitioner does not support a constraint on the layout: where a batch is split over several CPU devices, it
    gathers the whole batch on each of them. Within `jax.shard_map` each device has its own images, and nothing is
    gathered. benchmarks/results/ops.md has the measurements.

    Args:
      images_shape: (N, H, W, C).

    Returns:
      Whether it is; never within `ops.plain()`, nor where a size is symbolic.
    """
    if (
        takes_plain(images_shape)
        or len(images_shape) != 4
        or images_shape[3] > MOST_CHANNELS
        or images_shape[0] < LEAST_IMAGES
    ):
        return False
    return jax.device_count() == 1 or bool(jax.sharding.get_abstract_mesh().manual_axes)


def to_batch_last(images: jax.Array) -> jax.Array:
    """Converts a batch to batch-last layout, in memory too; costs nothing if it has this layout in memory already.

    Args:
      images: [N, H, W, C].

    Returns:
      [C, H, W, N].
    """
    return in_order(lax.transpose(images, (3, 1, 2, 0)))


def from_batch_last(images: jax.Array) -> jax.Array:
    """Converts a batch back to the usual order of axes; the operation that reads it decides its layout in memory.

    Args:
      images: [C, H, W, N].

    Returns:
      [N, H, W, C].
    """
    return lax.transpose(images, (3, 1, 2, 0))


def in_batch_last(function: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """Applies a function of height and width, in batch-last layout where that is faster and in the usual one elsewhere.

    Args:
      function: [any, H, W, any] -> [any, H', W', any], with the outer axes unchanged.
      images: [N, H, W, C].

    Returns:
      [N, H', W', C].
    """
    if not is_faster(images.shape):
        return function(images)
    return lax.platform_dependent(images, cpu=lambda x: from_batch_last(function(to_batch_last(x))), default=function)


def add_bias(values: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds a bias to the last axes of an array, in the array's dtype.

    The gradient of a bias for each channel is a sum over all images; it is taken in batch-last layout where that is
    faster.

    Args:
      values: [N, ...], floating.
      bias: floating; its shape is that of the last axes of `values`, such as [C] for values [N, H, W, C].

    Returns:
      [N, ...], in the values' dtype.
    """
    bias = bias.astype(values.dtype)

    def plain(values: jax.Array, bias: jax.Array) -> jax.Array:
        return values + bias.reshape((1,) * (values.ndim - bias.ndim) + bias.shape)

    if bias.ndim != 1 or not is_faster(values.shape):
        return plain(values, bias)
    return lax.platform_dependent(
        values, bias, cpu=lambda x, b: from_batch_last(to_batch_last(x) + b[:, None, None, None]), default=plain
    )


def along(values: jax.Array, axis: int, rank: int) -> jax.Array:
    """Numbers for the channels, shaped so that they broadcast to an array.

    Args:
      values: [C], or [1] for all channels.
      axis: the array's axis of channels.
      rank: number of the array's axes.

    Returns:
      The numbers, of that rank.
    """
    shape = [1] * rank
    shape[axis] = values.shape[0]
    return values.reshape(shape)


def by_channel(
    function: Callable[..., tuple[jax.Array, Any]], images: jax.Array, *others: Any
) -> tuple[jax.Array, Any]:
    """Applies a function that works channel by channel, in batch-last layout where that is faster.

    Batch normalisation between layers that work in batch-last layout stays in that layout: converting the images before
    and after it would cost four transposes in each training step.

    Args:
      function: (images, number of the axis of channels, *others) -> (images of the same shape, a tree of arrays).
      images: [N, H, W, C]; arrays of other ranks are passed on as they are.
      *others: trees of arrays.

    Returns:
      The function's images, [N, H, W, C], and its tree.
    """

    def usual(images: jax.Array, *others: Any) -> tuple[jax.Array, Any]:
        return function(images, -1, *others)

    def batch_last(images: jax.Array, *others: Any) -> tuple[jax.Array, Any]:
        made, tree = function(to_batch_last(images), 0, *others)
        return from_batch_last(made), tree

    if not is_faster(images.shape):
        return usual(images, *others)
    return lax.platform_dependent(images, *others, cpu=batch_last, default=usual)
