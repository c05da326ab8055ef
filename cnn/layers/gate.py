"""A layer that weighs channels by what their means over the whole map say: squeeze and excitation."""

from typing import Any, ClassVar

import flax.linen as nn
import jax

from cnn.layers.activations import ACTIVATIONS, Activation
from cnn.layers.base import IS_COUNT, Layer, Shape
from cnn.layers.branches import Branches, Crop
from cnn.layers.pools import AvgPool
from cnn.layers.sliding import Conv
from cnn.runtime.ranges import short
from cnn.windows import GeometryError, Window, check_flag, shape_text


class Gate(Layer):
    """Multiplies each channel by a number between 0 and 1 that two small layers make of the means of all channels.

    y = x * gate(excite(activation(squeeze(mean of x)))); "squeeze" and "excite" are 1x1 convolutions, and names in the
    layer's part of the parameter tree.

    The mean is that of the whole map, of a window another one for every window, so that a gate slides exactly only
    where nothing before the score mixes its values but a mean over the window (`cnn.convert`).

    Attributes:
      reduction: number of channels for each hidden value.
      hidden: number of hidden values; None: channels / reduction, rounded down.
      activation: the function of the hidden values, one of `ACTIVATIONS`.
      gate: the function that gives the factors, one of `ACTIVATIONS`; "sigmoid" or "hard_sigmoid".
      use_bias: whether both convolutions have biases.

    Source: Hu, Shen, Sun, "Squeeze-and-Excitation Networks" (2018), section 3.
    """

    reduction: int = 16
    hidden: int | None = None
    activation: str = "relu"
    gate: str = "sigmoid"
    use_bias: bool = True
    mixes_pixels: ClassVar[bool | None] = True
    kind: ClassVar[str] = "gate"
    symbol: ClassVar[str] = "GATE"

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        if len(input_shape) != 3:
            raise GeometryError(
                f"{self.label}: needs an image (height, width, channels), not {shape_text(input_shape)}"
            )
        check_flag(self.use_bias, "use_bias", self.label)
        for field in ("activation", "gate"):
            function = getattr(self, field)
            if not isinstance(function, str) or function not in ACTIVATIONS:
                raise GeometryError(f"{self.label}: {field} (={function!r}) is none of {', '.join(ACTIVATIONS)}")
        self.hidden_values(input_shape)
        return tuple(input_shape)

    @nn.nowrap
    def hidden_values(self, input_shape: Shape) -> int:
        """Number of hidden values.

        Raises:
          GeometryError: if it would be below 1.
        """
        if self.hidden is not None:
            if not IS_COUNT(self.hidden):
                raise GeometryError(f"{self.label}: hidden (={short(self.hidden)}) must be at least 1, a whole number")
            return self.hidden
        if not IS_COUNT(self.reduction) or self.reduction > input_shape[2]:
            raise GeometryError(
                f"{self.label}: reduction (={short(self.reduction)}) must be a whole number from 1 to the number of "
                f"channels (={input_shape[2]}), or hidden must be given"
            )
        return input_shape[2] // self.reduction

    @nn.nowrap
    def window(self, input_shape: Shape) -> Window:
        """The whole map: what the first value sees, and every other one too."""
        height, width, _ = self.output_shape(input_shape)
        return Window((height, width), padding=((0, height - 1), (0, width - 1)))

    @nn.nowrap
    def param_shapes(self, input_shape: Shape) -> dict[str, dict[str, Shape]]:
        """The shapes of kernel and bias of each of the two convolutions, by their names."""
        channels, hidden = input_shape[2], self.hidden_values(input_shape)
        made = {}
        for name, inputs, outputs in (("squeeze", channels, hidden), ("excite", hidden, channels)):
            made[name] = {"kernel": (1, 1, inputs, outputs), **({"bias": (outputs,)} if self.use_bias else {})}
        return made

    @nn.nowrap
    def param_count(self, input_shape: Shape) -> int:
        """Weights and biases of both convolutions."""
        channels, hidden = input_shape[2], self.hidden_values(input_shape)
        return 2 * channels * hidden + (channels + hidden) * self.use_bias

    @nn.nowrap
    def macs(self, input_shape: Shape) -> int:
        """Those of both convolutions; mean and product count as none."""
        return 2 * input_shape[2] * self.hidden_values(input_shape)

    @nn.nowrap
    def _factors(self, channels: int, position_invariant: bool = False) -> tuple[Layer, ...]:
        """The layers that make the factors of the means."""
        fields: dict[str, Any] = {"use_bias": self.use_bias, "position_invariant": position_invariant}
        return (
            Conv(self.hidden_values((1, 1, channels)), 1, name="squeeze", **fields),
            Activation(self.activation, name="activation"),
            Conv(channels, 1, name="excite", **fields),
            Activation(self.gate, name="gate"),
        )

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Same shape and dtype."""
        self.output_shape(x.shape[1:])
        factors = x.mean(axis=(1, 2), keepdims=True)
        for layer in self._factors(x.shape[3]):
            factors = layer(factors, train=train)
        return x * factors

    @nn.nowrap
    def sliding(self, input_shape: Shape, position_invariant: bool) -> Branches:
        """The gate as paths that slide over a larger image, with the same parameters under the same names.

        The mean at each place is that of the values around it, as many as the map has at the window; those beyond the
        image's border do not count. Of a map of one value this is the gate itself.

        Args:
          input_shape: (height, width, channels) of its input at the window.
          position_invariant: whether its convolutions round in the same way at every position.

        Returns:
          The product of two paths: the values, and their factors.
        """
        height, width, channels = self.output_shape(input_shape)
        around = tuple(((size - 1) // 2, size // 2) for size in (height, width))
        mean = () if (height, width) == (1, 1) else (AvgPool((height, width), 1, padding=around, name="mean"),)
        values = (Crop(0, name="values"),)
        return Branches((values, (*mean, *self._factors(channels, position_invariant))), "product", name=self.name)
