"""Anti-aliased pooling: a fixed low-pass filter with a stride."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import numpy as np

from cnn import ops
from cnn.layers.base import Shape
from cnn.layers.sliding import Conv, WindowLayer, height_width
from cnn.windows import GeometryError, Padding, Window, as_pair

BINOMIAL = {3: (1, 2, 1), 5: (1, 4, 6, 4, 1)}  # by the number of pixels; their sums are powers of 2
BLUR_MODES = ("zero", "edge", "reflect")


class BlurPool(WindowLayer):
    """Binomial filter of each map, with a stride: a depthwise convolution without parameters.

    Behind a pool or a convolution it takes the place of their stride: values then change little where the image moves
    by a pixel.

    Attributes:
      kernel: height and width of the filter, 3 or 5 pixels: (1, 2, 1) / 4 or (1, 4, 6, 4, 1) / 16 along each axis.
      stride, dilation: one number or (vertical, horizontal), pixels.
      padding: "valid", "same", or pixels (see `cnn.windows.resolve_padding`); the paper's is half of the kernel.
      padding_mode: how the padding is filled: "zero", "edge" or "reflect" (the paper's), as of `Conv`.
      rounding: "exact" or "floor", as of `Conv`.

    Source: Zhang, "Making Convolutional Networks Shift-Invariant Again" (2019), section 3.2.
    """

    kernel: int = 3
    stride: int | Sequence[int] = 2
    padding: Padding = "valid"
    dilation: int | Sequence[int] = 1
    padding_mode: str = "zero"
    rounding: str = "exact"
    kind: ClassVar[str] = "blur pool"
    symbol: ClassVar[str] = "BLUR"

    @nn.nowrap
    def window(self, input_shape: Shape) -> Window:
        """The window that slides over the input."""
        kernel: Any = self.kernel
        if isinstance(kernel, bool) or not isinstance(kernel, int) or kernel not in BINOMIAL:
            raise GeometryError(f"{self.label}: kernel (={kernel!r}) must be one of {', '.join(map(str, BINOMIAL))}")
        if self.padding_mode not in BLUR_MODES:
            raise GeometryError(
                f"{self.label}: padding_mode (={self.padding_mode!r}) must be one of {', '.join(BLUR_MODES)}"
            )
        if self.rounding == "ceil":
            raise GeometryError(f"{self.label}: rounding 'ceil' is not for a blur pool; take 'exact' or 'floor'")
        self._window(input_shape, kernel, self.stride, self.padding, self.dilation)
        return self.convolution(1).window(input_shape)

    @nn.nowrap
    def convolution(self, channels: int) -> Conv:
        """The depthwise convolution that the layer is, with `weights` as its kernel; of the same name.

        Args:
          channels: number of channels of the input.

        Returns:
          A `Conv` without bias.
        """
        return Conv(
            channels,
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            self.padding_mode,
            groups=channels,
            use_bias=False,
            rounding=self.rounding,
            name=self.name,
            parent=None,  # made while the layer is called, it is no part of it
        )

    @nn.nowrap
    def weights(self, channels: int) -> np.ndarray:
        """The fixed kernel, float32 [k, k, 1, channels]; all entries are exact in half precision too."""
        line = np.array(BINOMIAL[self.kernel], np.float32) / sum(BINOMIAL[self.kernel])
        return np.repeat(np.outer(line, line)[:, :, None, None], channels, axis=3)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', C]."""
        shape = x.shape[1:]
        window, size = self.window(shape), height_width(self.output_shape(shape))
        stride, dilation = as_pair(self.stride, "stride", self.label), as_pair(self.dilation, "dilation", self.label)
        y = ops.pad(x, window.padding, self.padding_mode)
        line = BINOMIAL[self.kernel]
        # One axis after the other, by shifted sums: 2 k products for each value, where a convolution has k * k.
        for axis in range(2):
            steps = [1, 1]
            steps[axis] = stride[axis]
            along = Window(stride=(steps[0], steps[1]), dilation=dilation)
            sizes = (size[0], y.shape[2]) if axis == 0 else size
            taps = [ops.tap(y, (i, 0) if axis == 0 else (0, i), sizes, along) for i in range(len(line))]
            total = taps[0]
            for weight, tap in zip(line[1:], taps[1:], strict=True):
                total = total + weight * tap
            y = total / sum(line)
        return self._fitted(y, shape, self.rounding)
