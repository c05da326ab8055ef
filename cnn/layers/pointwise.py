"""Layers that treat each pixel by itself (normalisation, scales, dropout), Flatten, and Dense."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnn import ops
from cnn.layers.base import HE_NORMAL, IS_COUNT, Layer, Shape
from cnn.runtime.ranges import number, short, whole
from cnn.windows import GeometryError, check_flag, shape_text

_IS_RATE, _IS_SIZE = number(lambda value: 0 <= value < 1), whole(1)


class LRN(Layer):
    """Local response normalisation over neighbouring channels; the defaults are the paper's.

    Attributes:
      size, k, alpha, beta: see `cnn.ops.local_response_norm`. In Caffe and PyTorch the same layer has an alpha that is
        `size` times as large.

    Source: Krizhevsky, Sutskever, Hinton (2012), section 3.3.
    """

    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    mixes_pixels: ClassVar[bool | None] = False
    kind: ClassVar[str] = "lrn"
    symbol: ClassVar[str] = "NORM"

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        if len(input_shape) != 3:
            raise GeometryError(
                f"{self.label}: needs an image (height, width, channels), not {shape_text(input_shape)}"
            )
        if not _IS_SIZE(self.size):
            raise GeometryError(f"{self.label}: size (={short(self.size)}) must be at least 1 channel")
        return tuple(input_shape)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Same shape and dtype."""
        self.output_shape(x.shape[1:])
        return ops.local_response_norm(x, self.size, self.k, self.alpha, self.beta)


class BatchNorm(Layer):
    """Batch normalisation over all axes but the last; running statistics live in the "batch_stats" collection.

    In training, apply the net with `mutable=["batch_stats"]`. The mean and variance are those of the global batch.

    Attributes:
      momentum: part of the running statistics that a step keeps.
      epsilon: what is added to the variance.
      zero_init: whether the scales begin at 0 instead of 1: the last normalisation of a residual path, so that the
        block begins as the identity (Goyal et al., arXiv 1706.02677, section 5.1).

    Source: Ioffe, Szegedy, "Batch Normalization" (2015).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    zero_init: bool = False
    mixes_pixels: ClassVar[bool | None] = False
    kind: ClassVar[str] = "batch norm"
    symbol: ClassVar[str] = "BN"

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        check_flag(self.zero_init, "zero_init", self.label)
        return tuple(input_shape)

    @nn.nowrap
    def param_count(self, input_shape: Shape) -> int:
        """A scale and a bias for each channel."""
        return 2 * input_shape[-1]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Same shape and dtype."""
        make = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=self.momentum,
            epsilon=self.epsilon,
            dtype=x.dtype,
            scale_init=nn.initializers.zeros if self.zero_init else nn.initializers.ones,
        )
        norm = make(name="norm")

        # A pure function of the variables, so that the layout can be chosen when the program is lowered.
        def normalise(x: jax.Array, channel_axis: int, variables: Any) -> tuple[jax.Array, Any]:
            return make(axis=channel_axis, parent=None).apply(variables, x, mutable=["batch_stats"])

        with jax.numpy_dtype_promotion("standard"):  # Flax subtracts float32 means from images of any dtype
            if self.is_initializing():
                return norm(x)
            y, changed = ops.by_channel(normalise, x, dict(norm.variables))
        if train:
            for name, value in changed["batch_stats"].items():
                norm.put_variable("batch_stats", name, value)
        return y


class Scale(Layer):
    """Multiplies each channel by a trained number and adds another: batch normalisation without statistics.

    Attributes:
      use_bias: whether to add a bias for each channel.
    """

    use_bias: bool = True
    mixes_pixels: ClassVar[bool | None] = False
    kind: ClassVar[str] = "scale"
    symbol: ClassVar[str] = "SCALE"

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        check_flag(self.use_bias, "use_bias", self.label)
        return tuple(input_shape)

    @nn.nowrap
    def param_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """The shape of each parameter by its name."""
        return dict.fromkeys(("scale", "bias")[: 1 + bool(self.use_bias)], (input_shape[-1],))

    @nn.nowrap
    def param_count(self, input_shape: Shape) -> int:
        """A factor for each channel, and a bias."""
        return sum(shape[0] for shape in self.param_shapes(input_shape).values())

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Same shape and dtype."""
        self.output_shape(x.shape[1:])
        channels = (x.shape[-1],)
        params = [self.param("scale", nn.initializers.ones, channels, jnp.float32)]
        if self.use_bias:
            params.append(self.param("bias", nn.initializers.zeros, channels, jnp.float32))

        def rescale(x: jax.Array, channel_axis: int, scale: jax.Array, *bias: jax.Array) -> tuple[jax.Array, Any]:
            y = x * ops.along(scale, channel_axis, x.ndim)
            return (y + ops.along(bias[0], channel_axis, x.ndim) if bias else y), ()

        return ops.by_channel(rescale, x, *(one.astype(x.dtype) for one in params))[0]


class Dropout(Layer):
    """Sets values to zero with probability `rate` in training and scales the rest by 1 / (1 - rate).

    Draws from the "dropout" key: `net.apply(variables, x, train=True, rngs={"dropout": key})`.

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014).
    """

    rate: float = 0.5
    mixes_pixels: ClassVar[bool | None] = False
    kind: ClassVar[str] = "dropout"

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        if not _IS_RATE(self.rate):
            raise GeometryError(f"{self.label}: rate (={short(self.rate)}) must be at least 0 and below 1")
        return tuple(input_shape)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Same shape and dtype."""
        self.output_shape(x.shape[1:])
        return nn.Dropout(self.rate, deterministic=not train)(x)


class ChannelShuffle(Layer):
    """Takes the channels of several groups in turn: channel j of group i becomes channel j * groups + i.

    Between convolutions with groups, so that the groups of the second see all of the first.

    Attributes:
      groups: number of groups, which divides the number of channels.

    Source: Zhang, Zhou, Lin, Sun, "ShuffleNet" (2018), section 3.1.
    """

    groups: int = 2
    mixes_pixels: ClassVar[bool | None] = False
    kind: ClassVar[str] = "channel shuffle"
    symbol: ClassVar[str] = "SHUFFLE"

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        if len(input_shape) != 3:
            raise GeometryError(
                f"{self.label}: needs an image (height, width, channels), not {shape_text(input_shape)}"
            )
        if not IS_COUNT(self.groups) or input_shape[2] % self.groups:
            raise GeometryError(
                f"{self.label}: groups (={short(self.groups)}) must be a whole number that divides the number of "
                f"channels (={input_shape[2]})"
            )
        return tuple(input_shape)

    @nn.nowrap
    def order(self, channels: int) -> np.ndarray:
        """The input channel that each output channel is, int64 [channels]."""
        return np.arange(channels).reshape(self.groups, -1).T.ravel()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Same shape and dtype."""
        self.output_shape(x.shape[1:])
        return x.reshape(*x.shape[:3], self.groups, -1).swapaxes(3, 4).reshape(x.shape)


FLATTEN_ORDERS = ("hwc", "chw", "random")
SHUFFLE_SEED = 1998  # seed of the order "random"; trained nets depend on it


def flatten_permutation(order: str, shape: Shape) -> np.ndarray | None:
    """The position, in channel-last order, of each value of a flattened image.

    "random" is one fixed permutation for each number of values: the ranking of the raw output of NumPy's Philox
    generator under the key (SHUFFLE_SEED, number of values), a stream that NumPy's documentation promises to keep.

    Args:
      order: one of `FLATTEN_ORDERS`, see `Flatten`.
      shape: (height, width, channels).

    Returns:
      int64 [H * W * C], such that `flat == hwc[permutation]`; None for "hwc", whose permutation is the identity.

    Raises:
      GeometryError: for an unknown order.
    """
    height, width, channels = shape
    if order == "hwc":
        return None
    if order == "chw":
        return np.arange(height * width * channels).reshape(height, width, channels).transpose(2, 0, 1).ravel()
    if order == "random":
        count = height * width * channels
        generator = np.random.Philox(key=np.array([SHUFFLE_SEED, count], np.uint64))
        return np.argsort(generator.random_raw(count), kind="stable")
    raise GeometryError(f"flatten_permutation: order (={order!r}) must be one of {', '.join(FLATTEN_ORDERS)}")


class Flatten(Layer):
    """Lays an image out as one vector.

    Attributes:
      order: "hwc" (channel-last: pixel by pixel, all channels of a pixel together; the natural order of NHWC), "chw"
        (map by map, each map row by row; how it is usually drawn, and Caffe's and PyTorch's order), or "random" (no
        order, but the same for every image and run, see `flatten_permutation`).
    """

    order: str = "hwc"
    mixes_pixels: ClassVar[bool | None] = True
    kind: ClassVar[str] = "flatten"

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """(H * W * C,)."""
        if self.order not in FLATTEN_ORDERS:
            raise GeometryError(f"{self.label}: order (={self.order!r}) must be one of {', '.join(FLATTEN_ORDERS)}")
        if len(input_shape) != 3:
            raise GeometryError(
                f"{self.label}: needs an image (height, width, channels), not {shape_text(input_shape)}"
            )
        height, width, channels = input_shape
        return (height * width * channels,)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, H * W * C]."""
        shape = x.shape[1:]
        self.output_shape(shape)
        if self.order == "chw":  # a transpose takes a sixth of the time of a gather
            return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        permutation = flatten_permutation(self.order, shape)
        flat = x.reshape(x.shape[0], -1)
        return flat if permutation is None else flat[:, permutation]


class Dense(Layer):
    """Fully connected layer with bias; kernel [inputs, features].

    Attributes:
      features: number of output values.
      inputs: number of input values, another number is an error; None: the number that the first input has.
      use_bias: whether to add one bias for each output value.
    """

    features: int = 1
    inputs: int | None = None
    use_bias: bool = True
    kernel_init: Any = HE_NORMAL
    mixes_pixels: ClassVar[bool | None] = True
    kind: ClassVar[str] = "dense"
    symbol: ClassVar[str] = "FC"

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """(features,)."""
        if len(input_shape) != 1:
            raise GeometryError(
                f"{self.label}: needs a vector, got {shape_text(input_shape)}; put a Flatten before it, or turn it "
                f"into a convolution with convert.fc_to_conv"
            )
        if self.inputs is not None and input_shape[0] != self.inputs:
            raise GeometryError(f"{self.label}: takes {self.inputs} values, got {input_shape[0]}")
        if not IS_COUNT(self.features):
            raise GeometryError(f"{self.label}: features (={short(self.features)}) must be at least 1, a whole number")
        check_flag(self.use_bias, "use_bias", self.label)
        return (self.features,)

    @nn.nowrap
    def param_count(self, input_shape: Shape) -> int:
        """inputs * features weights and one bias for each feature."""
        return input_shape[0] * self.features + self.features * self.use_bias

    @nn.nowrap
    def macs(self, input_shape: Shape) -> int:
        """inputs * features."""
        return input_shape[0] * self.features

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N, inputs] -> [N, features]."""
        self.output_shape(x.shape[1:])
        kernel = self.param("kernel", self.kernel_init, (x.shape[1], self.features), jnp.float32)
        y = ops.product(x, kernel.astype(x.dtype))
        if self.use_bias:
            y = ops.add_bias(y, self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32))
        return y
