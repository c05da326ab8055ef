"""Convolution in the form that is fastest for its shapes; images are [N, H, W, C] throughout.

XLA's convolution is not the fastest form of every convolution, least of all on CPU. `convolution` is the one entry;
`lowering` says which form it takes; the forms and what they were measured to gain follow. All give the same values but
for rounding.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from cnn.ops import algorithms, batch_last, winograd
from cnn.ops.basic import LARGE_KERNEL, product
from cnn.windows import Window

PARTS = 4  # that a batch is split into for some gradients, see `gradient_lowerings`
LEAST_IN_PART = 16  # images
FEW_TERMS = 50  # of an output: taps times channels


def convolution(
    images: jax.Array, kernel: jax.Array, window: Window, groups: int = 1, uniform: bool = True
) -> jax.Array:
    """Cross-correlation with zero padding: out(a, b) = sum_ij images(a + i, b + j) kernel(i, j), summed over channels.

    A 1x1 kernel, and a kernel that covers its whole input, are one matrix product; that is what they are, and on CPU
    XLA runs the convolution form of it 4-8 times slower. Other forms for CPU: see `lowering`. Those whose gradient
    has a form of its own (`gradient_lowerings`, Winograd's) have no forward-mode derivative (`jax.jvp`).

    Args:
      images: [N, H, W, C], floating.
      kernel: [kernel height, kernel width, C / groups, K], same dtype.
      window: kernel, stride, padding and dilation.
      groups: the channels are split into this many groups that do not see each other.
      uniform: whether a value must be rounded in the same way wherever it stands, in an image of any size and in any
        batch (see `lowering`).

    Returns:
      [N, H', W', K], same dtype.
    """
    uniform = uniform or images.dtype != jnp.float32  # Winograd's sums of sums need the digits
    how = lowering(images.shape, kernel.shape, window, groups, uniform)
    if kernel.shape[-1] == 1 and how in ("product", "patches"):
        # XLA's product with a vector sums the last rows in another order than the others; twice the vector does not.
        return convolution(images, jnp.concatenate([kernel, kernel], axis=3), window)[..., :1]
    if how == "product":
        pixels = images[:, :: window.stride[0], :: window.stride[1]]
        return lax.dot_general(pixels, kernel[0, 0], (((3,), (0,)), ((), ())))
    if how == "whole":
        flat = product(images.reshape(images.shape[0], -1), kernel.reshape(-1, kernel.shape[-1]))
        return flat.reshape(images.shape[0], 1, 1, -1)

    plain = functools.partial(_plain, window=window, groups=groups)
    if how == "plain" and gradient_lowerings(images.shape, kernel.shape, window, groups) is None:
        return plain(images, kernel)
    if how == "winograd":
        return lax.platform_dependent(images, kernel, cpu=functools.partial(_winograd, window=window), default=plain)
    on_cpu = functools.partial(_on_cpu, window=window, groups=groups, how=how)
    return lax.platform_dependent(images, kernel, cpu=on_cpu, default=plain)


def _plain(images: jax.Array, kernel: jax.Array, window: Window, groups: int = 1) -> jax.Array:
    """XLA's convolution."""
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=window.stride,
        padding=window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def lowering(
    images_shape: Sequence[int],
    kernel_shape: Sequence[int],
    window: Window,
    groups: int = 1,
    uniform: bool = True,
) -> str:
    """How `convolution` computes: the fastest form for the shapes, as measured on CPU.

    If uniform, and but for a kernel as large as its input or larger, the form depends on the kernel alone: a value is
    summed in the same order wherever it stands in an image of whatever size, so that a part of an image gives a part of
    its map, to the bit. Products of small kernels do not keep to that: XLA sums few rows in another order than many.

    Args:
      images_shape: (N, H, W, C).
      kernel_shape: (kernel height, kernel width, C / groups, K).
      window: kernel, stride, padding and dilation.
      groups: of channels.
      uniform: whether the form must be such.

    Returns:
      On all platforms, each one matrix product:
        "product": a 1x1 kernel.
        "whole": a kernel as large as its input.
      On CPU only:
        "patches": a product of all patches and the kernel. A fully connected layer run as a convolution, 7x7x512 ->
          4096 over 12x12, takes 374 ms as a convolution and 58 ms so. And a kernel that is larger than the image
          without its padding: 3x3x512 -> 512 over 128 maps of 2x2, as in a VGG net on images of 32x32, takes 1,156 ms
          and 15 ms so, its gradients 2,362 and 45 ms.
        "taps": a sum of shifted images, each times one weight, for few features.
        "lanes": the same for many. With bias and ReLU, 3x3x1 -> 32 over 128 images of 28x28 takes 5.2 ms as a
          convolution and 0.7 ms so, 3x3x3 -> 64 over one of 384x384 14 and 6 ms. Where a gradient is taken another form
          computes the output, which rounds otherwise (`_saving`).
        "quads": XLA's convolution with channels of zeros that make them a multiple of four.
        "padded": XLA's convolution with a row that is not needed.
        "plain": XLA's convolution.
      On CPU, if not uniform:
        "planes": the sum of taps of a batch laid out as planes: 5x5x3 -> 3 over 128 images of 32x32, 2.4 and 1.2 ms.
        "winograd": fewer products, `cnn.ops.winograd`.
    """
    unpadded = window.padding == ((0, 0), (0, 0))
    if groups == 1 and unpadded and window.kernel == (1, 1):
        return "product"
    if groups == 1 and unpadded and window.kernel == tuple(images_shape[1:3]) and window.dilation == (1, 1):
        return "whole"
    if groups == 1 and unpadded and math.prod(kernel_shape) >= LARGE_KERNEL:
        return "patches"
    if groups == 1 and _is_thin(tuple(kernel_shape)):
        return "planes" if batch_last.pays(images_shape) and not uniform else "taps"
    if groups == 1 and _has_few_terms(tuple(kernel_shape)):
        return "lanes"
    if groups == 1 and not uniform and winograd.pays(images_shape, kernel_shape, window):
        return "winograd"
    if groups == 1 and any(n < extent for n, extent in zip(images_shape[1:3], window.extent, strict=True)):
        return "patches"
    if groups == 1 and _is_uneven(tuple(kernel_shape)):
        return "quads"
    return "padded" if unpadded and kernel_shape[2] > 1 else "plain"


def workspace(
    images_shape: Sequence[int], kernel_shape: Sequence[int], window: Window, groups: int = 1, uniform: bool = True
) -> int:
    """Values that a float32 `convolution` holds beside input and output, on CPU.

    Args:
      images_shape: (N, H, W, C).
      kernel_shape: (kernel height, kernel width, C / groups, K).
      window: kernel, stride, padding and dilation.
      groups: of channels.
      uniform: as for `lowering`.

    Returns:
      Their number, for the whole batch: patches, taken apart and joined, or Winograd's transforms; else 0.
    """
    how = lowering(images_shape, kernel_shape, window, groups, uniform)
    if how == "winograd":
        return winograd.workspace(images_shape, kernel_shape, window)
    if how != "patches":
        return 0
    rows, columns = (
        (n + sum(padding) - extent) // s + 1
        for n, padding, extent, s in zip(images_shape[1:3], window.padding, window.extent, window.stride, strict=True)
    )
    return 2 * images_shape[0] * rows * columns * math.prod(kernel_shape[:3])


def gradient_lowerings(
    images_shape: Sequence[int], kernel_shape: Sequence[int], window: Window, groups: int = 1
) -> tuple[str, str] | None:
    """How the gradients of `convolution` are computed on CPU; as measured, with the gain over XLA's.

    Measured on two cores, batches of 128, float32. Gradient of the images: of 5x5x6 -> 16 over 14x14, 4.2 ms as a
    convolution and 1.6 ms as a product of rows, whose work grows with the width's square. Gradient of the kernel: of
    3x3x1 -> 32 over 28x28, 10.7 ms as a product of all patches, 1.6 as one of blocks; of 3x3x3 -> 32 over 32x32, 11.6
    and 5.5; of 5x5x3 -> 3 over 32x32, 3.6 ms as a convolution and 1.8 in planes.

    Args:
      images_shape: (N, H, W, C).
      kernel_shape: (kernel height, kernel width, C / groups, K).
      window: kernel, stride, padding and dilation.
      groups: of channels.

    Returns:
      For the images and for the kernel: "planes" (of a batch laid out as planes: a sum of taps, and a convolution of
      blocks of columns), "rows" (a product of image rows and the kernel's banded matrix), "blocks" (a product of
      patches of several columns), "patches" (a product of all patches; no larger than the output), "parts" (a sum over
      parts of the batch of XLA's convolution: 3x3x32 -> 64 over 14x14, 10.2 ms at once and 7.7 in four parts) or
      "plain". None: those that follow from the form itself.
    """
    height, width, channels, features = kernel_shape
    if groups > 1 or height * width == 1 or images_shape[1] < height or images_shape[2] < width:
        return None
    dense = window.stride[1] == window.dilation[1] == 1
    thin = _is_thin(tuple(kernel_shape))
    narrow = channels <= 8 and images_shape[2] * features <= 384
    first = _is_first(tuple(kernel_shape))
    if not (narrow or first or thin):
        middling = 16 <= channels <= 64 and 16 <= features <= 64
        in_parts = middling and images_shape[0] % PARTS == 0 and images_shape[0] >= LEAST_IN_PART * PARTS
        return ("plain", "parts") if in_parts else ("plain", "plain") if _has_few_terms(tuple(kernel_shape)) else None
    if thin and batch_last.pays(images_shape):
        every = dense and window.stride[0] == window.dilation[0] == 1
        return "planes", "planes" if every else "rows" if narrow else "plain"
    if narrow and thin:
        return "rows", "rows"
    return "rows" if narrow else "plain", ("blocks" if dense else "patches") if first else "plain"


def _on_cpu(images: jax.Array, kernel: jax.Array, window: Window, groups: int, how: str) -> jax.Array:
    """The forms for CPU, with their gradients."""
    special = gradient_lowerings(images.shape, kernel.shape, window, groups) is not None
    return (_with_own_gradients if special else _forward)(images, kernel, window, groups, how)


def _forward(images: jax.Array, kernel: jax.Array, window: Window, groups: int, how: str) -> jax.Array:
    if how == "taps":
        return algorithms.sum_of_taps(images, kernel, window)
    if how == "planes":
        return algorithms.taps_in_planes(images, kernel, window)
    if how == "patches":
        return algorithms.product_of_patches(images, kernel, window)
    if how == "lanes":
        return algorithms.sum_of_taps(images, kernel, window, together=True)
    if how == "quads":
        images, kernel = _in_quads(images, kernel)
    return _with_padding(images, kernel, window, groups)


_with_own_gradients = jax.custom_vjp(_forward, nondiff_argnums=(2, 3, 4))


def _saving(
    images: jax.Array, kernel: jax.Array, window: Window, groups: int, how: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The output as training computes it, and what the gradients need.

    XLA joins a sum of taps to each loop that reads it, and training reads it several times: `full_cnn` on images of
    32x32x3 takes 58 ms a step so, and 39 with a product for several columns at once.
    """
    if how == "lanes":
        height, width, _, _ = kernel.shape
        dense = window.stride[1] == window.dilation[1] == 1 and images.shape[2] >= width
        if dense and images.shape[1] >= height and images.dtype == jnp.float32 and _is_first(tuple(kernel.shape)):
            return algorithms.product_of_blocks(images, kernel, window), (images, kernel)
        how = "quads" if _is_uneven(tuple(kernel.shape)) else "padded"
    return _forward(images, kernel, window, groups, how), (images, kernel)


def _gradients(
    window: Window, groups: int, how: str, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    found = gradient_lowerings(images.shape, kernel.shape, window, groups)
    assert found is not None
    linear: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
        "rows": functools.partial(algorithms.product_of_rows, window=window),
        "patches": functools.partial(algorithms.product_of_patches, window=window),
        "plain": functools.partial(_with_padding, window=window, groups=groups),
    }
    of_images, of_kernel = found
    if of_images == "planes":
        images_gradient = algorithms.images_gradient_in_planes(gradient, kernel, window, images.shape)
    else:
        images_gradient = jax.vjp(lambda i: linear[of_images](i, kernel), images)[1](gradient)[0]
    if of_kernel == "planes":
        return images_gradient, algorithms.kernel_gradient_in_planes(images, gradient, window)
    if of_kernel == "blocks":
        return images_gradient, algorithms.kernel_gradient_by_blocks(images, gradient, window)
    if of_kernel == "parts":
        pieces = zip(jnp.split(images, PARTS), jnp.split(gradient, PARTS), strict=True)
        parts = [jax.vjp(functools.partial(linear["plain"], part), kernel)[1](piece)[0] for part, piece in pieces]
        return images_gradient, functools.reduce(jnp.add, parts)
    return images_gradient, jax.vjp(lambda k: linear[of_kernel](images, k), kernel)[1](gradient)[0]


_with_own_gradients.defvjp(_saving, _gradients)


_winograd = jax.custom_vjp(winograd.convolution, nondiff_argnums=(2,))


def _winograd_gradients(
    window: Window, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The kernel's is XLA's: Winograd's form of it was slower."""
    images, kernel = saved
    of_kernel = jax.vjp(lambda k: _with_padding(images, k, window, 1), kernel)[1](gradient)[0]
    return winograd.images_gradient(gradient, kernel, window), of_kernel


_winograd.defvjp(lambda i, k, window: (winograd.convolution(i, k, window), (i, k)), _winograd_gradients)


def _with_padding(images: jax.Array, kernel: jax.Array, window: Window, groups: int) -> jax.Array:
    """XLA's convolution, not without padding if there is more than one channel."""
    form = _padded if window.padding == ((0, 0), (0, 0)) and kernel.shape[2] > 1 else _plain
    return form(images, kernel, window, groups)


def _is_first(kernel_shape: tuple[int, ...]) -> bool:
    """Whether a kernel is like a first layer's, from few channels to many, its patches no larger than its output."""
    height, width, channels, features = kernel_shape
    return height * width > 1 and channels <= 4 and height * width * channels <= features


def _has_few_terms(kernel_shape: tuple[int, ...]) -> bool:
    """Whether an output has so few terms that one loop over many features at once beats XLA's CPU convolution."""
    height, width, channels, features = kernel_shape
    return height * width > 1 and height * width * channels <= FEW_TERMS and features > 8


def _is_uneven(kernel_shape: tuple[int, ...]) -> bool:
    """Whether a few channels of zeros make XLA's CPU convolution faster.

    Measured as the gradients: 3x3x3 -> 32 over 32x32, 7.5 ms with 3 channels and 3.7 ms with 4; 5x5x6 -> 16 over 14x14,
    1.7 and 1.1 ms with 8. With 48 features or more it was no faster.
    """
    height, width, channels, features = kernel_shape
    return height * width > 1 and 3 <= channels < 16 and channels % 4 != 0 and features <= 32


def _in_quads(images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both with channels of zeros up to a multiple of four."""
    more = -images.shape[3] % 4
    images = jnp.pad(images, ((0, 0), (0, 0), (0, 0), (0, more)))
    return images, jnp.pad(kernel, ((0, 0), (0, 0), (0, more), (0, 0)))


def _padded(images: jax.Array, kernel: jax.Array, window: Window, groups: int) -> jax.Array:
    """XLA's convolution of an image with one more row of windows, which are dropped.

    XLA:CPU of jax 0.10 runs a convolution without any padding 1.2 to 5 times slower than one with some. Measured on two
    cores, float32: 4x4x48 -> 48 over 16 maps of 149x149 takes 890 ms without, and 260 ms with it. In jax 0.12 it is 5
    to 15 % slower with it, and 5 times as fast as in 0.10 without.
    """
    rows = (images.shape[1] - window.extent[0]) // window.stride[0] + 1
    more = (rows * window.stride[0] + window.extent[0]) - images.shape[1]
    return _plain(images, kernel, window._replace(padding=((0, more), (0, 0))), groups)[:, :rows]


def _is_thin(kernel_shape: tuple[int, ...]) -> bool:
    """Whether channels are so few that adding up shifted images beats XLA's CPU convolution.

    Measured on two cores beside other work (read the ratios), float32: 5x5x3 -> 3 over 512x512 takes 40 ms as a
    convolution and 5 ms as a sum; 5x5x3 -> 6 over 254x254, 6.3 and 1.3 ms. A sum of more terms takes long to compile.
    """
    height, width, channels, features = kernel_shape
    return height * width > 1 and channels <= 8 and features <= 8 and height * width * channels <= 128
