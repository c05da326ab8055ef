"""Non-linearities, applied to each value: `Activation` for those without parameters, and `PReLU`."""

import inspect
import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn import ops
from cnn.layers.base import Layer, Shape
from cnn.windows import GeometryError, check_flag

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
FIELDS = ("slope", "offset", "scale", "low", "high")  # what some functions take beside their values


def _selu(x: jax.Array, slope: float = SELU_ALPHA, scale: float = SELU_SCALE) -> jax.Array:
    return scale * nn.elu(x, slope)


def _hard_sigmoid(x: jax.Array, slope: float = 1 / 6, offset: float = 0.5) -> jax.Array:
    return jnp.clip(slope * x + offset, 0, 1)


def _clip(x: jax.Array, low: float | None = None, high: float | None = None) -> jax.Array:
    return jnp.clip(x, low, high)


# Functions of an array; their further arguments are the fields of `Activation` that they take, with their defaults.
ACTIVATIONS: dict[str, Callable[..., jax.Array]] = {
    "relu": lambda x: nn.relu(x),
    "leaky_relu": lambda x, slope=0.01: nn.leaky_relu(x, slope),
    "relu6": lambda x: nn.relu6(x),
    "thresholded_relu": lambda x, slope=1.0: jnp.where(x <= slope, 0, x),  # so that a NaN stays one
    "elu": lambda x, slope=1.0: nn.elu(x, slope),
    "celu": lambda x, slope=1.0: nn.celu(x, slope),
    "selu": _selu,
    # The tanh form, which this name has had in saved runs; Hendrycks, Gimpel, "Gaussian Error Linear Units" (2016).
    "gelu": lambda x: nn.gelu(x, approximate=True),
    "gelu_tanh": lambda x: nn.gelu(x, approximate=True),
    "gelu_exact": lambda x: nn.gelu(x, approximate=False),
    "silu": lambda x, slope=1.0: x * nn.sigmoid(x if slope == 1 else slope * x),
    "mish": lambda x: x * jnp.tanh(nn.softplus(x)),
    "softplus": lambda x: nn.softplus(x),
    "softsign": lambda x: nn.soft_sign(x),
    "sigmoid": lambda x: nn.sigmoid(x),
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda x: x * _hard_sigmoid(x),
    "tanh": lambda x: jnp.tanh(x),
    # LeCun et al., "Gradient-Based Learning Applied to Document Recognition" (1998), appendix A.
    "scaled_tanh": lambda x: 1.7159 * jnp.tanh(2 / 3 * x),
    "clip": _clip,
    "identity": lambda x: x,
}


def fields_of(function: str) -> dict[str, float | None]:
    """The fields that an activation takes.

    Args:
      function: one of `ACTIVATIONS`.

    Returns:
      The default of each field, by its name.
    """
    parameters = list(inspect.signature(ACTIVATIONS[function]).parameters.values())
    return {one.name: one.default for one in parameters[1:]}


class Activation(Layer):
    """A non-linearity, applied to each value.

    Attributes:
      function: one of `ACTIVATIONS`. "gelu" is "gelu_tanh"; "gelu_exact" has the error function.
      slope: the slope of "leaky_relu" below 0 (default 0.01) and of "hard_sigmoid" (1 / 6, as in PyTorch; ONNX's
        default is 0.2); the alpha of "elu", "celu" (1) and "selu" (1.6733), the factor in the sigmoid of "silu" (1),
        and the threshold of "thresholded_relu" (1).
      low, high: the bounds of "clip", at least one of them; None: no bound.
      offset: the value of "hard_sigmoid" at 0 (default 0.5).
      scale: the factor of "selu" (default 1.0507).
    """

    function: str = "relu"
    slope: float | None = None
    low: float | None = None
    high: float | None = None
    offset: float | None = None
    scale: float | None = None
    mixes_pixels: ClassVar[bool | None] = False
    kind: ClassVar[str] = "activation"

    @nn.nowrap
    def pattern_symbol(self) -> str:
        """RELU, TANH, ..."""
        return str(self.function).upper()

    @nn.nowrap
    def options(self) -> Mapping[str, float]:
        """The fields that are set, checked, by their names.

        Raises:
          GeometryError: if there is no such function, it does not take a field that is set, or a value is none.
        """
        if not isinstance(self.function, str) or self.function not in ACTIVATIONS:
            raise GeometryError(f"{self.label}: function (={self.function!r}) is none of {', '.join(ACTIVATIONS)}")
        known = fields_of(self.function)
        given = {name: getattr(self, name) for name in FIELDS if getattr(self, name) is not None}
        for name, value in given.items():
            if name not in known:
                takes = f"takes {' and '.join(known)}" if known else "takes no field"
                able = ", ".join(function for function in ACTIVATIONS if name in fields_of(function))
                raise GeometryError(
                    f"{self.label}: {self.function} has no {name} (={value!r}), it {takes}; functions with a {name}: "
                    f"{able}"
                )
            if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
                raise GeometryError(f"{self.label}: {name} (={value!r}) must be a finite number")
        if self.function == "celu" and given.get("slope") == 0:
            raise GeometryError(f"{self.label}: slope (=0) of celu must not be 0, as values are divided by it")
        if self.function == "clip":
            if not given:
                raise GeometryError(f"{self.label}: clip takes low, high or both, and has none; give one, or identity")
            if given.get("low", -math.inf) > given.get("high", math.inf):
                raise GeometryError(f"{self.label}: low (={self.low}) must not be above high (={self.high})")
        return {name: float(value) for name, value in given.items()}

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        self.options()
        return tuple(input_shape)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Same shape and dtype."""
        options = self.options()
        return ops.map_images(lambda x: ACTIVATIONS[self.function](x, **options), x)


class PReLU(Layer):
    """A ReLU whose slope below 0 is trained, one for each channel or one for all; it begins at 0.25.

    Attributes:
      shared: whether all channels share one slope.

    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers" (2015), section 2.1.
    """

    shared: bool = False
    mixes_pixels: ClassVar[bool | None] = False
    kind: ClassVar[str] = "prelu"
    symbol: ClassVar[str] = "PRELU"

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        check_flag(self.shared, "shared", self.label)
        return tuple(input_shape)

    @nn.nowrap
    def param_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """The shape of each parameter by its name."""
        return {"slope": (1 if self.shared else input_shape[-1],)}

    @nn.nowrap
    def param_count(self, input_shape: Shape) -> int:
        """A slope for each channel, or one."""
        return self.param_shapes(input_shape)["slope"][0]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Same shape and dtype."""
        self.output_shape(x.shape[1:])
        shape = self.param_shapes(x.shape[1:])["slope"]
        slope = self.param("slope", nn.initializers.constant(0.25), shape, jnp.float32).astype(x.dtype)

        def rectify(x: jax.Array, channel_axis: int, slope: jax.Array) -> tuple[jax.Array, Any]:
            slope = ops.along(slope, channel_axis, x.ndim)
            # The slope never meets a positive value: its gradient would be 0 times infinity where one is infinite.
            return jnp.where(x > 0, x, slope * jnp.where(x > 0, 0, x)), ()

        return ops.by_channel(rectify, x, slope)[0]
