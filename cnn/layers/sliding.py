"""Layers with a window that slides over height and width, and of them those with kernels; pools: `cnn.layers.pools`."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn import ops
from cnn.layers.base import HE_NORMAL, IS_COUNT, Layer, Shape
from cnn.runtime.ranges import short
from cnn.windows import (
    GeometryError,
    Padding,
    Pair,
    Window,
    as_pair,
    check_flag,
    conditions,
    is_sure,
    output_size,
    resolve_padding,
    shape_text,
)


class WindowLayer(Layer):
    """Base of layers with a sliding window, whose sizes are one number or (vertical, horizontal), in pixels."""

    mixes_pixels: ClassVar[bool | None] = True

    @nn.nowrap
    def _window(
        self,
        input_shape: Shape,
        kernel: int | Sequence[int],
        stride: int | Sequence[int],
        padding: Padding,
        dilation: int | Sequence[int],
    ) -> Window:
        if len(input_shape) != 3:
            raise GeometryError(
                f"{self.label}: needs an image (height, width, channels), not {shape_text(input_shape)}"
            )
        kernel = as_pair(kernel, "kernel", self.label)
        stride = as_pair(stride, "stride", self.label)
        dilation = as_pair(dilation, "dilation", self.label)
        amounts = resolve_padding(padding, height_width(input_shape), kernel, stride, dilation, self.label)
        return Window(kernel, stride, amounts, dilation)

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """(H', W', C), where a layer keeps the channels; rounded as its field `rounding` says, else exact."""
        window, rounding = self.window(input_shape), getattr(self, "rounding", "exact")
        return *output_size(height_width(input_shape), window, rounding, self.label), input_shape[2]

    @nn.nowrap
    def _fitted(self, output: jax.Array, input_shape: Shape, rounding: str) -> jax.Array:
        """The layer's output; where sizes are symbolic, the program checks that windows fit when it is called."""
        found = conditions(height_width(input_shape), self.window(input_shape), rounding, self.label)
        return ops.fitted(output, height_width(self.output_shape(input_shape)), found)


def height_width(shape: Shape) -> Pair:
    """The first two sizes of a shape; those of an input that is no image are reported by `WindowLayer`."""
    height, width = (*shape, 1)[:2]
    return height, width


class Conv(WindowLayer):
    """Convolution (cross-correlation, as usual in nets) with bias; kernel [kh, kw, C / groups, features].

    Attributes:
      features: number of kernels, and of output channels.
      kernel, stride, dilation: one number or (vertical, horizontal), pixels.
      padding: "valid", "same", or pixels (see `cnn.windows.resolve_padding`).
      padding_mode: how the padding is filled: "zero", "constant", "edge", "reflect" or "mean" (see `cnn.ops.pad`).
      padding_value: what "constant" fills it with.
      groups: channels are split into this many groups that do not see each other (AlexNet's two half-nets).
      use_bias: whether to add one bias for each feature map.
      position_invariant: whether an output must be rounded in the same way at every position and in any batch, as
        the tiles of one score map require (`cnn.convert` sets it). If not, faster algorithms may be used, which agree
        within 1e-6 (`cnn.ops.choice`).
      rounding: "exact" makes a size that does not divide an error, as the formula (W - F + 2P) / S + 1 demands;
        "floor" leaves the last pixels unseen.
    """

    features: int = 1
    kernel: int | Sequence[int] = 3
    stride: int | Sequence[int] = 1
    padding: Padding = "valid"
    dilation: int | Sequence[int] = 1
    padding_mode: str = "zero"
    groups: int = 1
    use_bias: bool = True
    position_invariant: bool = False
    rounding: str = "exact"
    kernel_init: Any = HE_NORMAL
    padding_value: float = 0.0
    kind: ClassVar[str] = "conv"
    symbol: ClassVar[str] = "CONV"

    @nn.nowrap
    def window(self, input_shape: Shape) -> Window:
        """The window that slides over the input."""
        window = self._window(input_shape, self.kernel, self.stride, self.padding, self.dilation)
        check_flag(self.use_bias, "use_bias", self.label)
        if self.padding_mode not in ops.PADDING_MODES:
            raise GeometryError(
                f"{self.label}: padding_mode (={self.padding_mode!r}) must be one of {', '.join(ops.PADDING_MODES)}"
            )
        value = self.padding_value
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise GeometryError(f"{self.label}: padding_value (={value!r}) must be a finite number")
        if value != 0 and self.padding_mode != "constant":
            raise GeometryError(
                f"{self.label}: padding_value (={value}) is for padding_mode 'constant', and padding_mode is "
                f"{self.padding_mode!r}"
            )
        if self.padding_mode == "reflect":
            for size, amounts in zip(height_width(input_shape), window.padding, strict=True):
                if is_sure(lambda amounts=amounts, size=size: max(amounts) >= size):
                    raise GeometryError(
                        f"{self.label}: reflect padding {amounts[0]}+{amounts[1]} needs an input larger than that, "
                        f"got {size}"
                    )
        return window

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """(H', W', features)."""
        window = self.window(input_shape)
        channels = input_shape[2]
        if not IS_COUNT(self.features):
            raise GeometryError(f"{self.label}: features (={short(self.features)}) must be at least 1, a whole number")
        if not IS_COUNT(self.groups) or channels % self.groups or self.features % self.groups:
            common = math.gcd(channels, self.features)
            fit = [g for g in range(1, min(common, 4096) + 1) if common % g == 0]
            raise GeometryError(
                f"{self.label}: channels (={channels}) and features (={self.features}) must both be divisible by "
                f"groups (={self.groups}); groups that do: {', '.join(map(str, fit))}"
            )
        if self.rounding == "ceil":
            raise GeometryError(f"{self.label}: rounding 'ceil' is for pooling; a convolution takes 'exact' or 'floor'")
        return *output_size(height_width(input_shape), window, self.rounding, self.label), self.features

    @nn.nowrap
    def kernel_shape(self, input_shape: Shape) -> Shape:
        """(kernel height, kernel width, channels / groups, features)."""
        return *as_pair(self.kernel, "kernel", self.label), input_shape[2] // self.groups, self.features

    @nn.nowrap
    def param_count(self, input_shape: Shape) -> int:
        """(F * F * D / groups) * K weights and K biases."""
        return math.prod(self.kernel_shape(input_shape)) + self.features * self.use_bias

    @nn.nowrap
    def macs(self, input_shape: Shape) -> int:
        """Multiply-adds: every output pixel sees one kernel volume."""
        return math.prod(self.output_shape(input_shape)) * math.prod(self.kernel_shape(input_shape)[:3])

    @nn.nowrap
    def workspace(self, input_shape: Shape, images: int = 1) -> int:
        """Number of temporary values for a batch of `images`, beside input and output (`cnn.ops.workspace`)."""
        kernel, window = self.kernel_shape(input_shape), self.window(input_shape)
        return ops.workspace((images, *input_shape), kernel, window, self.groups, self.position_invariant)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', features]."""
        shape = x.shape[1:]
        self.output_shape(shape)
        window = self.window(shape)
        kernel = self.param("kernel", self.kernel_init, self.kernel_shape(shape), jnp.float32)
        if self.padding_mode != "zero" and (self.padding_mode != "constant" or self.padding_value != 0):
            x = ops.pad(x, window.padding, self.padding_mode, float(self.padding_value))
            window = window._replace(padding=((0, 0), (0, 0)))
        y = ops.convolution(x, kernel.astype(x.dtype), window, self.groups, self.position_invariant)
        y = self._fitted(y, shape, self.rounding)
        if self.use_bias:
            y = ops.add_bias(y, self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32))
        return y


class LocallyConnected(WindowLayer):
    """A convolution whose kernels are not shared: every output pixel has its own kernel and bias.

    Made for images with a fixed, centred structure, such as faces. Its padding is zeros. It cannot be slid over larger
    images, because each kernel belongs to one place.
    """

    features: int = 1
    kernel: int | Sequence[int] = 3
    stride: int | Sequence[int] = 1
    padding: Padding = "valid"
    dilation: int | Sequence[int] = 1
    use_bias: bool = True
    kind: ClassVar[str] = "locally connected"
    symbol: ClassVar[str] = "LOCAL"

    @nn.nowrap
    def window(self, input_shape: Shape) -> Window:
        """The window that slides over the input."""
        check_flag(self.use_bias, "use_bias", self.label)
        return self._window(input_shape, self.kernel, self.stride, self.padding, self.dilation)

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """(H', W', features)."""
        return *output_size(height_width(input_shape), self.window(input_shape), "exact", self.label), self.features

    @nn.nowrap
    def kernel_shape(self, input_shape: Shape) -> Shape:
        """(H', W', channels * kernel height * kernel width, features)."""
        height, width, _ = self.output_shape(input_shape)
        return height, width, math.prod(as_pair(self.kernel, "kernel", self.label)) * input_shape[2], self.features

    @nn.nowrap
    def param_count(self, input_shape: Shape) -> int:
        """One kernel volume and one bias for each output value."""
        biases = math.prod(self.output_shape(input_shape)) if self.use_bias else 0
        return math.prod(self.kernel_shape(input_shape)) + biases

    @nn.nowrap
    def macs(self, input_shape: Shape) -> int:
        """Multiply-adds, as many as those of a convolution with shared kernels."""
        return math.prod(self.kernel_shape(input_shape))

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', features]."""
        shape = self.kernel_shape(x.shape[1:])
        window = self.window(x.shape[1:])
        # The fan-in of one output value is its own kernel volume: the two spatial axes are a batch of kernels.
        init = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal", batch_axis=(0, 1))
        kernel = self.param("kernel", init, shape, jnp.float32)
        y = jnp.einsum("hwpn,hwpk->hwkn", _patches(x, window, (shape[0], shape[1])), kernel.astype(x.dtype))
        y = y.transpose(3, 0, 1, 2)
        if self.use_bias:
            y = ops.add_bias(y, self.param("bias", nn.initializers.zeros, (*shape[:2], self.features), jnp.float32))
        return y


def _patches(images: jax.Array, window: Window, size: Pair) -> jax.Array:
    """The values under each window, [H', W', C * kh * kw, N], channel by channel: a matrix of columns for each place.

    Strided slices instead of `lax.conv_general_dilated_patches`, which is a convolution with kernels of ones and zeros
    and several times slower on CPUs.
    """
    padded = ops.pad(images, window.padding, "zero")
    count, height, width, channels = padded.shape
    columns = padded.transpose(1, 2, 3, 0).reshape(1, height, width, channels * count)
    positions = [(i, j) for i in range(window.kernel[0]) for j in range(window.kernel[1])]
    taps = [ops.tap(columns, position, size, window).reshape(*size, channels, count) for position in positions]
    return jnp.stack(taps, axis=3).reshape(*size, channels * len(taps), count)
