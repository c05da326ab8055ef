"""Forms of a convolution as sums and as matrix products: what `cnn.ops.convolution` chooses from.

All take a window with zero padding, any stride and dilation where nothing else is said, and no groups.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn.ops.basic import pad, tap
from cnn.ops.batch_last import from_planes, to_planes
from cnn.windows import Pair, Window


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def sum_of_taps(
    images: jax.Array, kernel: jax.Array, window: Window, axis: int = 3, together: bool = False
) -> jax.Array:
    """Convolution as a sum over taps and channels of shifted planes, each times a weight of each feature.

    XLA:CPU makes one loop of a sum, with the bias and the activation that follow, whose vector instructions go along
    the innermost axis that is longer than one: features, if they are many and summed together; images, in planes; else
    columns, of one feature at a time, as a sum with few features innermost is 3 to 6 times slower. Such sums take
    longer to compile (1.1 s for 5x5x3 -> 6), but their concatenation also keeps XLA from computing them once more for
    every pixel of a window of the pool that follows: a dense pass of `qa_net` is 2.5 times as fast so.

    Args:
      images: [N, H, W, C], or planes [C, H, W, N].
      kernel: [kernel height, kernel width, C, K].
      window: kernel, stride, padding and dilation.
      axis: of the channels: 3, or 0 for planes.
      together: whether all features are one sum; in planes they are.

    Returns:
      [N, H', W', K], or planes [K, H', W', N], of the images' dtype; summed in float32 at least.
    """
    dtype, precise = images.dtype, jnp.promote_types(images.dtype, jnp.float32)
    images, kernel = pad(images, window.padding, "zero").astype(precise), kernel.astype(precise)
    size = tuple(
        (n - extent) // s + 1 for n, extent, s in zip(images.shape[1:3], window.extent, window.stride, strict=True)
    )
    height, width, channels, features = kernel.shape
    places = list(itertools.product(range(height), range(width)))
    # Operations of lax, and each plane once: with operators and indices of arrays, tracing takes three times as long.
    planes = [lax.slice_in_dim(images, channel, channel + 1, axis=axis) for channel in range(channels)]
    taps = [[lax.squeeze(tap(plane, place, size, window), [axis]) for place in places] for plane in planes]
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
        sums = []  # one for each channel: longer chains of additions wait for one another, at half the speed
        for channel in range(channels):
            terms = [weighted(x, feature, channel, at) for x, at in zip(taps[channel], places, strict=True)]
            sums.append(functools.reduce(lax.add, terms))
        outputs.append(functools.reduce(lax.add, sums))
    return (outputs[0] if len(outputs) == 1 else lax.concatenate(outputs, dimension=axis)).astype(dtype)


def taps_in_planes(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The sum of taps of a batch that is laid out as planes.

    Args:
      images: [N, H, W, C].
      kernel: [kernel height, kernel width, C, K].
      window: kernel, stride, padding and dilation.

    Returns:
      [N, H', W', K].
    """
    return from_planes(sum_of_taps(to_planes(images), kernel, window, 0))


def images_gradient_in_planes(
    gradient: jax.Array, kernel: jax.Array, window: Window, images_shape: tuple[int, ...]
) -> jax.Array:
    """The gradient of the images of a convolution, as a sum of taps in planes of the output's gradient.

    Args:
      gradient: [N, H', W', K], of the output.
      kernel: [kernel height, kernel width, C, K].
      window: of the convolution.
      images_shape: (N, H, W, C).

    Returns:
      [N, H, W, C].
    """
    planes = to_planes(gradient)
    widths = [(0, 0, 0)]  # low, high, between pixels: the gradient as far apart as the windows that it belongs to
    for axis in range(2):
        low = window.extent[axis] - 1 - window.padding[axis][0]
        apart = (planes.shape[1 + axis] - 1) * window.stride[axis] + 1
        high = images_shape[1 + axis] + window.extent[axis] - 1 - apart - low
        widths.append((low, high, window.stride[axis] - 1))
    planes = lax.pad(planes, jnp.zeros((), planes.dtype), [*widths, (0, 0, 0)])
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return from_planes(sum_of_taps(planes, turned, Window(window.kernel, dilation=window.dilation), 0))


def kernel_gradient_in_planes(images: jax.Array, gradient: jax.Array, window: Window) -> jax.Array:
    """The gradient of a kernel, of batches laid out as planes, for a stride and a dilation of one.

    XLA's convolution of the images with the output's gradient, both cut into blocks of neighbouring columns that count
    as channels: XLA:CPU gathers its patches for each output anew, and there are fewer of them so. Products of columns
    that are no tap apart are computed and not used.

    Args:
      images: [N, H, W, C].
      gradient: [N, H', W', K], of the output.
      window: kernel and padding are used.

    Returns:
      [kernel height, kernel width, C, K].
    """
    planes, gradient = to_planes(images), to_planes(gradient)
    features, _, columns, _ = gradient.shape
    channels, width = planes.shape[0], window.kernel[1]
    block = block_of(columns)
    seen = -(-(block + width - 1) // block)  # blocks of the images' columns that one block of the gradient's sees
    blocks = columns // block
    (top, bottom), (left, _) = window.padding
    right = (blocks + seen - 1) * block - planes.shape[2] - left
    planes = lax.pad(planes, jnp.zeros((), planes.dtype), [(0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)])

    def columns_as_channels(planes: jax.Array) -> jax.Array:
        channels, height, width, count = planes.shape
        cut = planes.reshape(channels, height, width // block, block, count).transpose(0, 3, 1, 2, 4)
        return cut.reshape(channels * block, height, width // block, count)

    numbers = ("NHWC", "OHWI", "NHWC")  # the channels are the batch, the images the channels
    products = lax.conv_general_dilated(
        columns_as_channels(planes), columns_as_channels(gradient), (1, 1), "VALID", dimension_numbers=numbers
    ).reshape(channels, block, -1, seen, features, block)
    at = np.zeros((width, seen, block, block), products.dtype)  # [tap, block, column of the images, of the gradient]
    for j, column in itertools.product(range(width), range(block)):
        at[j, (column + j) // block, (column + j) % block, column] = 1
    return jnp.einsum("cpidfq,jdpq->ijcf", products, at)


def block_of(columns: int) -> int:
    """Columns of a block: what is near four and divides them all."""
    return next((block for block in (4, 5, 3, 2) if columns % block == 0), 1)


def _wide_patches(images: jax.Array, window: Window) -> jax.Array:
    """What blocks of neighbouring columns see: their patches overlap, and are taken as one wide patch.

    That is half the values of all patches. Horizontally for a stride and a dilation of one.

    Returns:
      [N, H', blocks, values], a value for each (row of the kernel, column of the wide patch, channel).
    """
    images = pad(images, window.padding, "zero")
    (count, height, width, channels), (down, across) = images.shape, window.kernel
    rows, columns = (height - window.extent[0]) // window.stride[0] + 1, width - across + 1
    block = block_of(columns)
    wide = block + across - 1
    starts = range(0, columns, block)
    wides = [images[:, :, start : start + wide].reshape(count, height, 1, wide * channels) for start in starts]
    side_by_side = lax.concatenate(wides, dimension=2)
    vertical = Window((down, 1), (window.stride[0], 1), dilation=(window.dilation[0], 1))
    size: Pair = (rows, len(starts))
    return lax.concatenate([tap(side_by_side, (i, 0), size, vertical) for i in range(down)], dimension=3)


def product_of_blocks(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Convolution as one product of the patches of blocks of columns and the kernel, once for each column of a block.

    Half of the products are with zeros; the patches are half as many, and are those that the kernel's gradient needs.
    Pixels that are not finite make whole blocks so: zero times infinity is not a number. Horizontally for a stride and
    a dilation of one.

    Args:
      images: [N, H, W, C].
      kernel: [kernel height, kernel width, C, K].
      window: kernel, padding, vertical stride and dilation.

    Returns:
      [N, H', W', K].
    """
    patches = _wide_patches(images, window)
    count, rows, blocks, _ = patches.shape
    columns = images.shape[2] + sum(window.padding[1]) - window.kernel[1] + 1
    block = columns // blocks
    at = np.zeros((window.kernel[1], block + window.kernel[1] - 1, block), kernel.dtype)
    for j in range(window.kernel[1]):
        at[j, np.arange(block) + j, np.arange(block)] = 1
    wide_kernel = jnp.einsum("jxq,ijcf->ixcqf", at, kernel).reshape(patches.shape[3], -1)
    return lax.dot_general(patches, wide_kernel, (((3,), (0,)), ((), ()))).reshape(count, rows, columns, -1)


def kernel_gradient_by_blocks(images: jax.Array, gradient: jax.Array, window: Window) -> jax.Array:
    """The gradient of a kernel with few channels, as one product of the patches of blocks of columns.

    Horizontally for a stride and a dilation of one.

    Args:
      images: [N, H, W, C].
      gradient: [N, H', W', K], of the output.
      window: kernel, padding, vertical stride and dilation.

    Returns:
      [kernel height, kernel width, C, K].
    """
    patches = _wide_patches(images, window)
    channels, (height, width) = images.shape[3], window.kernel
    block, features = gradient.shape[2] // patches.shape[2], gradient.shape[3]
    # Both as [N, H', blocks, values]; over all but the values at once, as they lie in memory.
    products = lax.dot_general(
        patches.reshape(-1, patches.shape[3]), gradient.reshape(-1, block * features), (((0,), (0,)), ((), ()))
    ).reshape(height, block + width - 1, channels, block, features)
    taps = [sum(products[:, j + column, :, column] for column in range(block)) for j in range(width)]
    return jnp.stack(taps, axis=1)


def product_of_rows(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Convolution as one matrix product of whole image rows and the kernel's banded matrix.

    Pixels that are not finite make whole rows so: zero times infinity is not a number.

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


def product_of_patches(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Convolution as one matrix product of all patches and the flattened kernel.

    Args:
      images: [N, H, W, C].
      kernel: [kernel height, kernel width, C, K].
      window: kernel, stride, padding and dilation.

    Returns:
      [N, H', W', K].
    """
    images = pad(images, window.padding, "zero")
    rows, columns = (
        (n - extent) // s + 1 for n, extent, s in zip(images.shape[1:3], window.extent, window.stride, strict=True)
    )
    across = Window((1, window.kernel[1]), (1, window.stride[1]), dilation=(1, window.dilation[1]))
    down = Window((window.kernel[0], 1), (window.stride[0], 1), dilation=(window.dilation[0], 1))
    # First the pixels of one kernel row side by side, once for all kernel rows: fewer and longer pieces to copy.
    taps = [tap(images, (0, j), (images.shape[1], columns), across) for j in range(window.kernel[1])]
    images = jnp.concatenate(taps, axis=3)
    patches = jnp.concatenate([tap(images, (i, 0), (rows, columns), down) for i in range(window.kernel[0])], axis=3)
    return lax.dot_general(patches, kernel.reshape(-1, kernel.shape[3]), (((3,), (0,)), ((), ())))
