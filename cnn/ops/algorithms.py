"""A convolution computed as a sum or as a matrix product: the array functions behind the records of `choice`.

All use zero padding and have no groups. They take any stride and dilation unless their docstring says otherwise.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn.ops.basic import pad, precise, tap
from cnn.ops.batch_last import from_batch_last, to_batch_last
from cnn.windows import Pair, Window, counts


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def direct(images: jax.Array, kernel: jax.Array, window: Window, axis: int = 3, together: bool = False) -> jax.Array:
    """Convolution as a sum of shifted images, one for each kernel position and channel, each times one weight.

    XLA:CPU compiles a sum, with the bias and the activation that follow, into one loop, whose vector instructions run
    along the innermost axis longer than one. That axis is the features, if there are many and they are summed together;
    the batch, in batch-last layout; and otherwise the columns of one feature at a time, because a sum with few features
    innermost is several times slower. Summing features one by one takes longer to compile, but their concatenation also
    keeps XLA from computing the sum again for every pixel of a pooling window that follows.

    Args:
      images: [N, H, W, C], or [C, H, W, N] in batch-last layout.
      kernel: [kernel height, kernel width, C, K].
      window: kernel, stride, padding and dilation.
      axis: number of the axis of channels: 3, or 0 in batch-last layout.
      together: whether all features are one sum; in batch-last layout they always are.

    Returns:
      [N, H', W', K], or [K, H', W', N], in the images' dtype; summed in float32 or wider.
    """
    dtype, wide = images.dtype, precise(images.dtype)
    images, kernel = pad(images, window.padding, "zero").astype(wide), kernel.astype(wide)
    size = counts(images.shape[1:3], window.extent, window.stride)
    height, width, channels, features = kernel.shape
    places = list(itertools.product(range(height), range(width)))
    # Operations of lax, and each channel sliced once: tracing is faster than with operators and indices.
    layers = [lax.slice_in_dim(images, channel, channel + 1, axis=axis) for channel in range(channels)]
    taps = [[lax.squeeze(tap(layer, place, size, window), [axis]) for place in places] for layer in layers]
    count = features if together or axis == 0 else 1

    def weighted(pixels: jax.Array, feature: int, channel: int, place: Pair) -> jax.Array:
        start, stop = (*place, channel, feature), (place[0] + 1, place[1] + 1, channel + 1, feature + count)
        weights = lax.squeeze(lax.slice(kernel, start, stop), range(3))
        if axis == 0:
            shape, at, along = (count, *pixels.shape), (1, 2, 3), (0,)
        else:
            shape, at, along = (*pixels.shape, count), (0, 1, 2), (3,)
        return lax.mul(lax.broadcast_in_dim(pixels, shape, at), lax.broadcast_in_dim(weights, shape, along))

    outputs = []
    for feature in range(0, features, count):
        sums = []  # one for each channel: a single long chain of additions is slower, as each waits for the one before
        for channel in range(channels):
            terms = [weighted(x, feature, channel, at) for x, at in zip(taps[channel], places, strict=True)]
            sums.append(functools.reduce(lax.add, terms))
        outputs.append(functools.reduce(lax.add, sums))
    return (outputs[0] if len(outputs) == 1 else lax.concatenate(outputs, dimension=axis)).astype(dtype)


def direct_batch_last(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The sum of shifted images, in batch-last layout.

    Args:
      images: [N, H, W, C].
      kernel: [kernel height, kernel width, C, K].
      window: kernel, stride, padding and dilation.

    Returns:
      [N, H', W', K].
    """
    return from_batch_last(direct(to_batch_last(images), kernel, window, 0))


def images_gradient_batch_last(
    gradient: jax.Array, kernel: jax.Array, window: Window, images_shape: tuple[int, ...]
) -> jax.Array:
    """The gradient of a convolution's images: a sum of shifted gradients of its output, in batch-last layout.

    Args:
      gradient: [N, H', W', K], the gradient of the output.
      kernel: [kernel height, kernel width, C, K].
      window: the window of the convolution.
      images_shape: (N, H, W, C).

    Returns:
      [N, H, W, C].
    """
    gradient = to_batch_last(gradient)
    widths = [(0, 0, 0)]  # (low, high, between): gradients lie as far apart as the windows that they belong to
    for axis in range(2):
        low = window.extent[axis] - 1 - window.padding[axis][0]
        apart = (gradient.shape[1 + axis] - 1) * window.stride[axis] + 1
        high = images_shape[1 + axis] + window.extent[axis] - 1 - apart - low
        widths.append((low, high, window.stride[axis] - 1))
    gradient = lax.pad(gradient, jnp.zeros((), gradient.dtype), [*widths, (0, 0, 0)])
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return from_batch_last(direct(gradient, turned, Window(window.kernel, dilation=window.dilation), 0))


def kernel_gradient_batch_last(images: jax.Array, gradient: jax.Array, window: Window) -> jax.Array:
    """The gradient of a convolution's kernel, in batch-last layout, for a stride and a dilation of one.

    This is XLA's convolution of the images with the output's gradient. Both are first cut into groups of neighbouring
    columns that are used as channels: XLA:CPU gathers the patches of such a convolution once for each output, and with
    the groups there are fewer outputs. Products of columns whose distance is no kernel position are computed, not used.

    Args:
      images: [N, H, W, C].
      gradient: [N, H', W', K], the gradient of the output.
      window: the window of the convolution, of which kernel and padding are used.

    Returns:
      [kernel height, kernel width, C, K].
    """
    images, gradient = to_batch_last(images), to_batch_last(gradient)
    features, _, columns, _ = gradient.shape
    channels, width = images.shape[0], window.kernel[1]
    group = columns_at_once(columns)
    seen = -(-(group + width - 1) // group)  # groups of image columns for one group of gradient columns
    groups = columns // group
    (top, bottom), (left, _) = window.padding
    right = (groups + seen - 1) * group - images.shape[2] - left
    images = lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)])

    def columns_as_channels(array: jax.Array) -> jax.Array:
        channels, height, width, count = array.shape
        cut = array.reshape(channels, height, width // group, group, count).transpose(0, 3, 1, 2, 4)
        return cut.reshape(channels * group, height, width // group, count)

    numbers = ("NHWC", "OHWI", "NHWC")  # channels take the place of the batch, and images that of the channels
    products = lax.conv_general_dilated(
        columns_as_channels(images), columns_as_channels(gradient), (1, 1), "VALID", dimension_numbers=numbers
    ).reshape(channels, group, -1, seen, features, group)
    at = np.zeros((width, seen, group, group), products.dtype)  # [kernel column, group, image column, gradient column]
    for j, column in itertools.product(range(width), range(group)):
        at[j, (column + j) // group, (column + j) % group, column] = 1
    return jnp.einsum("cpidfq,jdpq->ijcf", products, at)


def columns_at_once(columns: int) -> int:
    """Number of neighbouring columns that are computed together: near four, and a divisor of all columns."""
    return next((group for group in (4, 5, 3, 2) if columns % group == 0), 1)


def _wide_patches(images: jax.Array, window: Window) -> jax.Array:
    """The patches of groups of neighbouring columns; those of one group overlap, and are taken as one wide patch.

    This holds about half as many values as separate patches. The horizontal stride and dilation must be one.

    Returns:
      [N, H', groups, values], one value for each (kernel row, column of the wide patch, channel).
    """
    images = pad(images, window.padding, "zero")
    count, height, _, channels = images.shape
    down, across = window.kernel
    rows, columns = counts(images.shape[1:3], window.extent, window.stride)
    group = columns_at_once(columns)
    wide = group + across - 1
    starts = range(0, columns, group)
    wides = [images[:, :, start : start + wide].reshape(count, height, 1, wide * channels) for start in starts]
    side_by_side = lax.concatenate(wides, dimension=2)
    vertical = Window((down, 1), (window.stride[0], 1), dilation=(window.dilation[0], 1))
    size: Pair = (rows, len(starts))
    return lax.concatenate([tap(side_by_side, (i, 0), size, vertical) for i in range(down)], dimension=3)


def im2col_columns(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Convolution as one product of the patches of groups of columns and the kernel, once for each column of a group.

    Half of the products are with zeros, but the patches hold half as many values, and the kernel's gradient needs the
    same patches. A pixel that is not finite makes its whole group not finite, because zero times infinity is not a
    number. The horizontal stride and dilation must be one.

    Args:
      images: [N, H, W, C].
      kernel: [kernel height, kernel width, C, K].
      window: kernel, padding, vertical stride and dilation.

    Returns:
      [N, H', W', K].
    """
    patches = _wide_patches(images, window)
    count, rows, groups, _ = patches.shape
    columns = images.shape[2] + sum(window.padding[1]) - window.kernel[1] + 1
    group = columns // groups
    at = np.zeros((window.kernel[1], group + window.kernel[1] - 1, group), kernel.dtype)
    for j in range(window.kernel[1]):
        at[j, np.arange(group) + j, np.arange(group)] = 1
    wide_kernel = jnp.einsum("jxq,ijcf->ixcqf", at, kernel).reshape(patches.shape[3], -1)
    return lax.dot_general(patches, wide_kernel, (((3,), (0,)), ((), ()))).reshape(count, rows, columns, -1)


def kernel_gradient_im2col_columns(images: jax.Array, gradient: jax.Array, window: Window) -> jax.Array:
    """The gradient of a kernel with few channels, as one product of the patches of groups of columns.

    The horizontal stride and dilation must be one.

    Args:
      images: [N, H, W, C].
      gradient: [N, H', W', K], the gradient of the output.
      window: kernel, padding, vertical stride and dilation.

    Returns:
      [kernel height, kernel width, C, K].
    """
    patches = _wide_patches(images, window)
    channels, (height, width) = images.shape[3], window.kernel
    group, features = gradient.shape[2] // patches.shape[2], gradient.shape[3]
    # Both are [N, H', groups, values], and are summed over all axes but the last, in their order in memory.
    products = lax.dot_general(
        patches.reshape(-1, patches.shape[3]), gradient.reshape(-1, group * features), (((0,), (0,)), ((), ()))
    ).reshape(height, group + width - 1, channels, group, features)
    columns = [sum(products[:, j + column, :, column] for column in range(group)) for j in range(width)]
    return jnp.stack(columns, axis=1)


def banded_matmul(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Convolution as one matrix product of whole image rows and the kernel's banded matrix.

    A pixel that is not finite makes its whole row not finite, because zero times infinity is not a number.

    Args:
      images: [N, H, W, C].
      kernel: [kernel height, kernel width, C, K].
      window: kernel, stride, padding and dilation.

    Returns:
      [N, H', W', K].
    """
    if window.padding != ((0, 0), (0, 0)):
        images = pad(images, window.padding, "zero")
        window = window._replace(padding=((0, 0), (0, 0)))
    count, height, width, channels = images.shape
    (down, across), (step_down, step_across) = window.stride, window.dilation
    rows, columns = counts(images.shape[1:3], window.extent, window.stride)
    place = np.zeros((window.kernel[1], width, columns), np.float32)  # [j, x, b]: position j of output b is pixel x
    for j in range(window.kernel[1]):
        place[j, np.arange(columns) * across + j * step_across, np.arange(columns)] = 1
    band = jnp.einsum("jxb,ijcf->ixcbf", place.astype(kernel.dtype), kernel)
    flat = images.reshape(count, height, width * channels)
    lines = [
        lax.slice_in_dim(flat, i * step_down, i * step_down + (rows - 1) * down + 1, down, axis=1)
        for i in range(window.kernel[0])
    ]
    product = jnp.concatenate(lines, axis=2) @ band.reshape(-1, columns * kernel.shape[3])
    return product.reshape(count, rows, columns, kernel.shape[3])


def im2col(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Convolution as one matrix product of all patches and the flattened kernel.

    Args:
      images: [N, H, W, C].
      kernel: [kernel height, kernel width, C, K].
      window: kernel, stride, padding and dilation.

    Returns:
      [N, H', W', K].
    """
    images = pad(images, window.padding, "zero")
    rows, columns = counts(images.shape[1:3], window.extent, window.stride)
    across = Window((1, window.kernel[1]), (1, window.stride[1]), dilation=(1, window.dilation[1]))
    down = Window((window.kernel[0], 1), (window.stride[0], 1), dilation=(window.dilation[0], 1))
    # First the pixels of one kernel row side by side, for all kernel rows at once: fewer and longer pieces to copy.
    shifted = [tap(images, (0, j), (images.shape[1], columns), across) for j in range(window.kernel[1])]
    images = jnp.concatenate(shifted, axis=3)
    patches = jnp.concatenate([tap(images, (i, 0), (rows, columns), down) for i in range(window.kernel[0])], axis=3)
    return lax.dot_general(patches, kernel.reshape(-1, kernel.shape[3]), (((3,), (0,)), ((), ())))
