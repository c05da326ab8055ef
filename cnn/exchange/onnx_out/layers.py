"""Each layer as ONNX operators: [N, C, H, W] instead of [N, H, W, C], parameters laid out anew, nothing computed."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_out.blocks import branches, crop
from cnn.exchange.onnx_out.graph import Graph
from cnn.exchange.onnx_out.pools import pool
from cnn.exchange.onnx_out.windows import padded, pads, taps
from cnn.layers import (
    LRN,
    Activation,
    BatchNorm,
    BlurPool,
    Branches,
    ChannelShuffle,
    Conv,
    Crop,
    Dense,
    Dropout,
    Flatten,
    Gate,
    LocallyConnected,
    Pool,
    PReLU,
    Scale,
    StochasticDepth,
    flatten_permutation,
)
from cnn.layers.activations import fields_of


class Stage(NamedTuple):
    """Where a layer stands in its net.

    Attributes:
      name: of the layer.
      x: name of its input.
      shape: of its input, (height, width, channels) or (values,): the sizes of a window's where images may be larger.
      fixed: whether height and width are always these.
      variables: the layer's own, {"params": ..., "batch_stats": ...}.
      order: for flattened values, where each stands in the ONNX graph, int64 [values]; None: in the same order.
    """

    name: str
    x: str
    shape: tuple[int, ...]
    fixed: bool
    variables: Mapping[str, Any]
    order: np.ndarray | None

    def param(self, *path: str, collection: str = "params") -> np.ndarray:
        """One of the layer's parameters, float32."""
        value: Any = self.variables[collection]
        for key in path:
            value = value[key]
        return np.asarray(value, np.float32)

    def ordered(self, values: np.ndarray) -> np.ndarray:
        """What belongs to each input value, along the first axis, in the order of the ONNX graph."""
        if self.order is None:
            return values
        moved = np.empty_like(values)
        moved[self.order] = values
        return moved

    def by_channel(self, values: np.ndarray) -> np.ndarray:
        """A number for each channel, shaped to be multiplied with the input; one number for all stays one."""
        if values.size == 1 and self.shape[-1] != 1:
            return values.reshape((1,) * len(self.shape))
        return values.reshape(-1, 1, 1) if len(self.shape) == 3 else self.ordered(values)


def write(graph: Graph, layer: Any, stage: Stage) -> str:
    """Writes one layer.

    Args:
      graph: the graph, which grows.
      layer: the layer.
      stage: where it stands.

    Returns:
      Name of its output.

    Raises:
      ExchangeError: if ONNX has no operators for it.
    """
    for kind, writer in _WRITERS.items():
        if type(layer) is kind:
            return writer(graph, layer, stage)
    if isinstance(layer, Pool) and type(layer).__module__ == Pool.__module__:
        return pool(graph, layer, stage)
    if isinstance(layer, Branches):
        return branches(graph, layer, stage, write)
    if isinstance(layer, Gate):
        raise ExchangeError(f"{stage.name} ({layer.kind}): Gate is not written to ONNX; write a .stablehlo")
    known = ", ".join(sorted(kind.__name__ for kind in _WRITERS))
    raise ExchangeError(
        f"{stage.name} ({layer.kind}): ONNX has no operator for {type(layer).__name__}, a layer of your own; "
        f"written are the pools and {known}. Make the net of those, or write a .stablehlo, which takes any layer"
    )


def _conv(graph: Graph, layer: Conv, stage: Stage) -> str:
    window = layer.window((stage.shape[0], stage.shape[1], stage.shape[2]))
    x, window, automatic = padded(graph, layer, window, stage, layer.padding_mode, float(layer.padding_value))
    kernel = stage.param("kernel").transpose(3, 2, 0, 1)
    inputs = [x, graph.weight(f"{stage.name}.weight", kernel)]
    if layer.use_bias:
        inputs.append(graph.weight(f"{stage.name}.bias", stage.param("bias")))
    return graph.add(
        "Conv",
        inputs,
        stage.name,
        kernel_shape=window.kernel,
        strides=window.stride,
        dilations=window.dilation,
        group=layer.groups,
        **pads(window, automatic),
    )


def _blur_pool(graph: Graph, layer: BlurPool, stage: Stage) -> str:
    """A convolution of each channel by itself, with constant weights."""
    window, channels = layer.window((stage.shape[0], stage.shape[1], stage.shape[2])), stage.shape[2]
    x, window, automatic = padded(graph, layer, window, stage, layer.padding_mode, 0.0)
    weights = graph.weight(f"{stage.name}.weight", layer.weights(channels).transpose(3, 2, 0, 1))
    fields = {"kernel_shape": window.kernel, "strides": window.stride, "dilations": window.dilation}
    return graph.add("Conv", [x, weights], stage.name, group=channels, **fields, **pads(window, automatic))


def _channel_shuffle(graph: Graph, layer: ChannelShuffle, stage: Stage) -> str:
    order = graph.integers(f"{stage.name}.order", layer.order(stage.shape[2]).tolist())
    return graph.add("Gather", [stage.x, order], stage.name, axis=1)


def _locally_connected(graph: Graph, layer: LocallyConnected, stage: Stage) -> str:
    """A matrix product for each place: [H', W', N, taps] @ [H', W', taps, features]."""
    shape = (stage.shape[0], stage.shape[1], stage.shape[2])
    window = layer.window(shape)
    x, window, _ = padded(graph, layer, window, stage, "constant", 0.0)
    kernel, name = stage.param("kernel"), stage.name
    height, width, values, features = kernel.shape
    seen = taps(graph, x, window, name)
    # The kernel's values lie channel by channel, the taps of one channel together.
    split = graph.integers(f"{name}.split", [0, len(seen), shape[2], height * width])
    patches = graph.add("Concat", seen, f"{name}.taps", axis=1)
    patches = graph.add("Reshape", [patches, split], f"{name}.by_tap")
    patches = graph.add("Transpose", [patches], f"{name}.patches", perm=[3, 0, 2, 1])
    joined = graph.integers(f"{name}.places", [height * width, -1, values])
    patches = graph.add("Reshape", [patches, joined], f"{name}.columns")
    weight = graph.weight(f"{name}.weight", kernel.reshape(height * width, values, features))
    y = graph.add("MatMul", [patches, weight], f"{name}.product")
    y = graph.add("Transpose", [y], f"{name}.maps", perm=[1, 2, 0])
    y = graph.add("Reshape", [y, graph.integers(f"{name}.size", [-1, features, height, width])], name)
    if layer.use_bias:
        bias = graph.weight(f"{name}.bias", stage.param("bias").transpose(2, 0, 1))
        y = graph.add("Add", [y, bias], f"{name}.sum")
    return y


def _dense(graph: Graph, layer: Dense, stage: Stage) -> str:
    inputs = [stage.x, graph.weight(f"{stage.name}.weight", stage.ordered(stage.param("kernel")))]
    if layer.use_bias:
        inputs.append(graph.weight(f"{stage.name}.bias", stage.param("bias")))
    return graph.add("Gemm", inputs, stage.name)


def _batch_norm(graph: Graph, layer: BatchNorm, stage: Stage) -> str:
    found = [stage.param("norm", key) for key in ("scale", "bias")]
    found += [stage.param("norm", key, collection="batch_stats") for key in ("mean", "var")]
    names = ("weight", "bias", "running_mean", "running_var")
    inputs = [
        graph.weight(f"{stage.name}.{name}", stage.ordered(value) if len(stage.shape) == 1 else value)
        for name, value in zip(names, found, strict=True)
    ]
    return graph.add("BatchNormalization", [stage.x, *inputs], stage.name, epsilon=float(layer.epsilon))


def _lrn(graph: Graph, layer: LRN, stage: Stage) -> str:
    if layer.size % 2 == 0:
        raise ExchangeError(
            f"{stage.name} ({layer.kind}): size (={layer.size}) is even: ONNX has the odd channel above and this "
            f"library below; take an odd size"
        )
    return graph.add(
        "LRN",
        [stage.x],
        stage.name,
        size=layer.size,
        alpha=float(layer.alpha) * layer.size,  # ONNX divides it by the number of channels
        beta=float(layer.beta),
        bias=float(layer.k),
    )


def _prelu(graph: Graph, layer: PReLU, stage: Stage) -> str:
    slope = stage.by_channel(stage.param("slope"))
    return graph.add("PRelu", [stage.x, graph.weight(f"{stage.name}.weight", slope)], stage.name)


def _scale(graph: Graph, layer: Scale, stage: Stage) -> str:
    scale = graph.weight(f"{stage.name}.weight", stage.by_channel(stage.param("scale")))
    y = graph.add("Mul", [stage.x, scale], stage.name)
    if layer.use_bias:
        bias = graph.weight(f"{stage.name}.bias", stage.by_channel(stage.param("bias")))
        y = graph.add("Add", [y, bias], f"{stage.name}.sum")
    return y


def _flatten(graph: Graph, layer: Flatten, stage: Stage) -> str:
    return graph.add("Flatten", [stage.x], stage.name, axis=1)


def flattened_order(layer: Flatten, shape: tuple[int, ...]) -> np.ndarray | None:
    """Where each value that a Flatten gives stands in ONNX's own order, which is map by map.

    Args:
      layer: the Flatten.
      shape: (height, width, channels) of its input.

    Returns:
      int64 [H * W * C]; None if it is the same order.
    """
    height, width, channels = shape
    if layer.order == "chw" or height * width == 1 == channels or (channels == 1 and layer.order == "hwc"):
        return None
    positions = np.arange(height * width * channels).reshape(channels, height, width).transpose(1, 2, 0).ravel()
    permutation = flatten_permutation(layer.order, (height, width, channels))
    return positions if permutation is None else positions[permutation]


# ONNX operators with the same meaning, and what their attributes are called.
_DIRECT: dict[str, tuple[str, dict[str, str]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"slope": "alpha"}),
    "thresholded_relu": ("ThresholdedRelu", {"slope": "alpha"}),
    "elu": ("Elu", {"slope": "alpha"}),
    "celu": ("Celu", {"slope": "alpha"}),
    "selu": ("Selu", {"slope": "alpha", "scale": "gamma"}),
    "mish": ("Mish", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "sigmoid": ("Sigmoid", {}),
    "hard_sigmoid": ("HardSigmoid", {"slope": "alpha", "offset": "beta"}),
    "hard_swish": ("HardSwish", {}),
    "tanh": ("Tanh", {}),
}


def _activation(graph: Graph, layer: Activation, stage: Stage) -> str:
    function, name, x = layer.function, stage.name, stage.x
    options: dict[str, Any] = {**fields_of(function), **layer.options()}
    if function in _DIRECT:
        operator, attributes = _DIRECT[function]
        return graph.add(operator, [x], name, **{key: options[field] for field, key in attributes.items()})
    if function in ("gelu", "gelu_tanh", "gelu_exact"):
        return graph.add("Gelu", [x], name, approximate="none" if function == "gelu_exact" else "tanh")
    if function in ("relu6", "clip"):
        low, high = (0.0, 6.0) if function == "relu6" else (options["low"], options["high"])
        bounds = [] if low is None and high is None else ["" if low is None else graph.weight(f"{name}.low", low)]
        bounds += [] if high is None else [graph.weight(f"{name}.high", high)]
        return graph.add("Clip", [x, *bounds], name)
    if function == "silu":
        slope = options["slope"]
        inner = x if slope == 1 else graph.add("Mul", [x, graph.weight(f"{name}.slope", slope)], f"{name}.inner")
        return graph.add("Mul", [x, graph.add("Sigmoid", [inner], f"{name}.gate")], name)
    if function == "scaled_tanh":
        inner = graph.add("Mul", [x, graph.weight(f"{name}.slope", 2 / 3)], f"{name}.inner")
        y = graph.add("Tanh", [inner], f"{name}.tanh")
        return graph.add("Mul", [y, graph.weight(f"{name}.scale", 1.7159)], name)
    if function == "identity":
        return x
    raise ExchangeError(f"{name} ({layer.kind}): {function} has no form in ONNX")


_WRITERS: dict[type, Callable[[Graph, Any, Stage], str]] = {
    Activation: _activation,
    BatchNorm: _batch_norm,
    BlurPool: _blur_pool,
    ChannelShuffle: _channel_shuffle,
    Conv: _conv,
    Crop: crop,
    Dense: _dense,
    Dropout: lambda graph, layer, stage: stage.x,  # nothing is dropped outside of training
    Flatten: _flatten,
    LRN: _lrn,
    LocallyConnected: _locally_connected,
    PReLU: _prelu,
    Scale: _scale,
    StochasticDepth: lambda graph, layer, stage: stage.x,  # likewise
}
