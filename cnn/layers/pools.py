"""Pools: layers with a window that slides over each map, and no parameters."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
from jax.export import is_symbolic_dim

from cnn import ops
from cnn.layers.base import Shape
from cnn.layers.sliding import WindowLayer, height_width
from cnn.windows import GeometryError, Padding, Window, check_flag, output_size, shape_text


class Pool(WindowLayer):
    """Pooling over windows, map by map; no parameters.

    Attributes:
      kernel, stride, dilation: one number or (vertical, horizontal), pixels. `kernel` None: the whole image (global
        pooling); `stride` None: as large as the window (no overlap).
      padding: "valid", "same", or pixels (see `cnn.windows.resolve_padding`); padded pixels count in no pool but an
        `AvgPool` with `count_padding`.
      rounding: "exact" (a size that does not divide is an error), "floor" or "ceil" (see `windows.output_size`).
    """

    kernel: int | Sequence[int] | None = 2
    stride: int | Sequence[int] | None = None
    padding: Padding = "valid"
    dilation: int | Sequence[int] = 1
    rounding: str = "exact"
    symbol: ClassVar[str] = "POOL"

    @nn.nowrap
    def pattern_symbol(self) -> str:
        """POOL, or GLOBAL POOL."""
        return "GLOBAL POOL" if self.kernel is None else self.symbol

    @nn.nowrap
    def window(self, input_shape: Shape) -> Window:
        """The window that slides over the input; with kernel None, the whole input (global pooling)."""
        # An input that is not [H, W, C] passes `height_width` and is reported by `_window`.
        if self.kernel is None:
            return self._window(input_shape, height_width(input_shape), 1, "valid", 1)
        stride = self.kernel if self.stride is None else self.stride
        return self._window(input_shape, self.kernel, stride, self.padding, self.dilation)

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """(H', W', C)."""
        window = self.window(input_shape)
        size = output_size(height_width(input_shape), window, self.rounding, self.label)
        if any(map(is_symbolic_dim, height_width(input_shape))):
            unseen = any(max(side) >= e for side, e in zip(window.padding, window.extent, strict=True) if max(side))
        else:
            unseen = any(ops.axis_counts(input_shape[i], window, size[i], i).min() < 1 for i in range(2))
        if unseen:
            raise GeometryError(
                f"{self.label}: padding {window.padding} leaves a window {shape_text(window.kernel)} with no pixel of "
                f"the input {shape_text(input_shape)}; pad less than the window"
            )
        return *size, input_shape[2]

    @nn.nowrap
    def _pooled(self, function: Callable[..., jax.Array], images: jax.Array, *options: int) -> jax.Array:
        """Applies a pool of `cnn.ops` to the layer's windows."""
        shape = images.shape[1:]
        output = function(images, self.window(shape), height_width(self.output_shape(shape)), *options)
        return self._fitted(output, shape, self.rounding)


class MaxPool(Pool):
    """Maximum over each window."""

    kind: ClassVar[str] = "max pool"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', C]."""
        return self._pooled(ops.max_pool, x)


class AvgPool(Pool):
    """Mean over each window.

    Attributes:
      count_padding: whether padded zeros count in the divisor, as in ONNX (count_include_pad), PyTorch's default and
        Caffe. What a window of a "ceil" pool covers beyond the padding does not count; this is PyTorch's rule and
        Caffe's.
    """

    count_padding: bool = False
    kind: ClassVar[str] = "average pool"

    @nn.nowrap
    def window(self, input_shape: Shape) -> Window:
        """The window that slides over the input."""
        check_flag(self.count_padding, "count_padding", self.label)
        return super().window(input_shape)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', C]."""
        return self._pooled(ops.average_pool, x, bool(self.count_padding))


class SumPool(Pool):
    """Sum over each window; average pooling before the division."""

    kind: ClassVar[str] = "sum pool"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', C]."""
        return self._pooled(ops.sum_pool, x)


class NMaxPool(Pool):
    """Mean of the n largest values in each window: n = 1 is max pooling, n = all of them is average pooling."""

    n: int = 2
    kind: ClassVar[str] = "n-max pool"

    @nn.nowrap
    def window(self, input_shape: Shape) -> Window:
        """The window that slides over the input."""
        window = super().window(input_shape)
        if not 1 <= self.n <= math.prod(window.kernel):
            raise GeometryError(
                f"{self.label}: n (={self.n}) must be between 1 and the {math.prod(window.kernel)} pixels of a window "
                f"{shape_text(window.kernel)}"
            )
        return window

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', C]."""
        return self._pooled(ops.n_max_pool, x, self.n)
