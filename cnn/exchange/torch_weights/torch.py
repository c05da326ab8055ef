"""A net as the text of an `nn.Sequential` of PyTorch, and its weights under that module's names and in its layout.

Modules of a chain have numbers, those of a net that branches the names of their layers: "block1.conv2.weight".
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnn import geometry
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.torch_weights import published
from cnn.exchange.torch_weights.branching import branches, with_parameters
from cnn.exchange.torch_weights.torch_blocks import BRANCHES, STOCHASTIC_DEPTH
from cnn.layers import (
    LRN,
    Activation,
    AvgPool,
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
    Layer,
    MaxPool,
    Pool,
    PReLU,
    Scale,
    StochasticDepth,
    SumPool,
    flatten_permutation,
)
from cnn.nets import Net
from cnn.windows import GeometryError

# Activations without fields; those with some are written by `_activation`.
ACTIVATIONS = {
    "relu": "ReLU()",
    "relu6": "ReLU6()",
    "gelu": 'GELU("tanh")',
    "gelu_tanh": 'GELU("tanh")',
    "gelu_exact": "GELU()",
    "mish": "Mish()",
    "softplus": "Softplus()",
    "softsign": "Softsign()",
    "sigmoid": "Sigmoid()",
    "hard_swish": "Hardswish()",
    "tanh": "Tanh()",
    "identity": "Identity()",
}


def torch_places(layer: Flatten, shape: tuple[int, ...]) -> np.ndarray | None:
    """Of each value of a flattened image, its place in PyTorch's vector, which goes map by map.

    Args:
      layer: the Flatten.
      shape: (height, width, channels) before it.

    Returns:
      int64 [H * W * C]; None if the order is the same.
    """
    if layer.order == "chw" or len(shape) != 3 or shape[0] * shape[1] == 1:
        return None
    height, width, channels = shape
    own = flatten_permutation(layer.order, (height, width, channels))
    theirs = flatten_permutation("chw", (height, width, channels))
    places = np.argsort(np.asarray(theirs))
    return places if own is None else places[own]


def sequential(
    net: Net, variables: Mapping[str, Any], image_shape: tuple[int, int, int], file: str
) -> tuple[str, dict[str, np.ndarray]]:
    """Writes a net as PyTorch has it.

    Args:
      net: the net.
      variables: its variables.
      image_shape: (H, W, C) of an image, for which padding "same" becomes numbers.
      file: name of the file of weights, for the text.

    Returns:
      Six lines that make the net and load the file, and the arrays by name.

    Raises:
      ExchangeError: naming the layer, if PyTorch has none that does the same.
    """
    try:
        table = geometry.table(net, image_shape, variables)
    except GeometryError as error:
        raise ExchangeError(f"{file}: {' '.join(str(error).split())}") from None
    writer = _Writer(variables, named=branches(net))
    shape: tuple[int, ...] = tuple(image_shape)
    for layer, row in zip(net.layers, table, strict=True):
        writer.add(layer, shape)
        shape = row.output_shape
    if writer.order is not None:
        raise ExchangeError(
            f"{file}: its scores are a flattened map in an order that PyTorch has not; end with a Dense"
        )
    one = published.of_net(net)
    if one is not None:
        return _of_torchvision(net, one, writer.tensors, file)
    made = ", ".join(text for _, text in writer.modules)
    if writer.named:
        made = f"OrderedDict({_dict(writer.modules)})"
    lines = ["import torch", "from safetensors.torch import load_file", "from torch import nn"]
    if writer.named:
        lines = ["from collections import OrderedDict", "", *lines, "", "", BRANCHES, ""]
        lines += ["", STOCHASTIC_DEPTH, ""] if writer.drops else []
        lines += [""]
    lines += [f"net = nn.Sequential({made})", f'net.load_state_dict(load_file("{file}"))', "net = net.eval()"]
    return "\n".join(lines) + "\n", writer.tensors


def _of_torchvision(
    net: Net, one: published.Published, tensors: dict[str, np.ndarray], file: str
) -> tuple[str, dict[str, np.ndarray]]:
    """The lines and tensors of a net that torchvision has."""
    names = {name.replace("/", "."): to for (name, _), to in zip(with_parameters(net.layers), one.names, strict=True)}
    split = {name: name.rpartition(".") for name in tensors}
    renamed = {f"{names[module]}.{part}": tensors[name] for name, (module, _, part) in split.items()}
    classes = next(layer.features for layer in reversed(net.layers) if isinstance(layer, Conv | Dense))
    lines = ["from safetensors.torch import load_file", "from torchvision import models", ""]
    lines += [f"net = models.{one.constructor.format(K=classes)}", f'net.load_state_dict(load_file("{file}"))']
    return "\n".join([*lines, "net = net.eval()"]) + "\n", renamed


def _dict(modules: list[tuple[str, str]]) -> str:
    """A dict of modules by name, as text."""
    return "{" + ", ".join(f"{name!r}: {text}" for name, text in modules) + "}"


class _Writer:
    """Modules and tensors as far as they are written."""

    def __init__(self, variables: Mapping[str, Any], named: bool) -> None:
        self.params, self.stats = variables.get("params", {}), variables.get("batch_stats", {})
        self.named, self.drops = named, False
        self.block, self.current = "", ""  # what names of tensors begin with, and the layer that is written
        self.modules: list[tuple[str, str]] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.order: np.ndarray | None = None  # places in PyTorch's vector, from a Flatten to the next Dense

    def add(self, layer: Layer, shape: tuple[int, ...]) -> None:
        """Writes the next layer, which sees values of a shape."""
        own = self.params.get(layer.name, {})
        self.current = str(layer.name)
        if self.named and "." in self.current:
            raise ExchangeError(f"{layer.label}: PyTorch's modules have no dot in their names; give it another name")
        if isinstance(layer, Branches):
            self._branches(layer, shape)
        elif isinstance(layer, Crop):
            self._crop(layer, shape)
        elif isinstance(layer, StochasticDepth):
            self.drops = True
            self.modules.append((self.current, f"StochasticDepth({layer.rate!r})"))
        elif isinstance(layer, Conv):
            self._conv(layer, own, shape)
        elif isinstance(layer, BlurPool):
            self._conv(layer.convolution(shape[2]), {"kernel": layer.weights(shape[2])}, shape)
        elif isinstance(layer, ChannelShuffle):
            self._module(f"ChannelShuffle({layer.groups})")
        elif isinstance(layer, Pool):
            self._pool(layer, shape)
        elif isinstance(layer, Dense):
            kernel = np.asarray(own["kernel"], np.float32)
            if self.order is not None:
                kernel = kernel[np.argsort(self.order)]
            self.order = None
            bias = "" if layer.use_bias else ", bias=False"
            self._module(f"Linear({kernel.shape[0]}, {kernel.shape[1]}{bias})", weight=kernel.T, bias=own.get("bias"))
        elif isinstance(layer, Flatten):
            self._module("Flatten()")
            self.order = torch_places(layer, shape)
        elif isinstance(layer, BatchNorm | Scale):
            self._norm(layer, own, shape)
        elif isinstance(layer, PReLU):
            slope = self._vector(own["slope"])
            self._module(f"PReLU({slope.size})", weight=slope)
        elif isinstance(layer, LRN):
            if layer.size % 2 == 0:
                raise ExchangeError(f"{layer.label}: size (={layer.size}) must be odd to be written")
            # PyTorch divides alpha by the number of channels in the window.
            alpha = layer.alpha * layer.size
            self._module(f"LocalResponseNorm({layer.size}, alpha={alpha!r}, beta={layer.beta!r}, k={layer.k!r})")
        elif isinstance(layer, Dropout):
            self._module(f"Dropout({layer.rate!r})")
        elif isinstance(layer, Activation):
            self._module(_activation(layer))
        else:
            others = "StableHLO" if isinstance(layer, Gate) else "ONNX or StableHLO"
            raise ExchangeError(f"{layer.label}: PyTorch has no module for it; write {others} instead")

    def _module(self, text: str, suffix: str = "", **arrays: Any) -> str:
        """Adds a module and its tensors; returns what their names begin with."""
        name = f"{self.current}{suffix}" if self.named else str(len(self.modules))
        self.modules.append((name, f"nn.{text}"))
        for part, array in arrays.items():
            if array is not None:
                self.tensors[f"{self.block}{name}.{part}"] = np.ascontiguousarray(array, np.float32)
        return f"{self.block}{name}"

    def _branches(self, layer: Branches, shape: tuple[int, ...]) -> None:
        """A block: its paths' modules are its own, under the names of their layers."""
        name, outer = str(layer.name), (self.params, self.stats, self.modules, self.block)
        self.params, self.stats = self.params.get(name, {}), self.stats.get(name, {})
        self.block += f"{name}."
        paths = []
        for path in layer.checked():
            self.modules, seen = [], shape
            for one in path:
                self.add(one, seen)
                seen = one.output_shape(seen)
            paths.append(_dict(self.modules))
        self.params, self.stats, self.modules, self.block = outer
        self.modules.append((name, f"Branches({layer.join!r}, {', '.join(paths)})"))

    def _crop(self, layer: Crop, shape: tuple[int, ...]) -> None:
        """Negative padding, and where there is a stride a pool of one pixel."""
        window = layer.window((shape[0], shape[1], shape[2]))
        if layer.rounding == "ceil":
            raise ExchangeError(f"{layer.label}: PyTorch has no crop that rounds up; write StableHLO instead")
        (top, bottom), (left, right) = (
            (low - extent // 2, high - extent // 2)
            for (low, high), extent in zip(window.padding, window.extent, strict=True)
        )
        strided = window.stride != (1, 1)
        self._module(f"ZeroPad2d({(left, right, top, bottom)})", suffix="_cut" if strided else "")
        if strided:
            self._module(f"MaxPool2d(1, stride={window.stride})")

    def _vector(self, array: Any) -> np.ndarray:
        """One number for each value, in PyTorch's order."""
        values = np.asarray(array, np.float32)
        return values if self.order is None or values.size == 1 else values[np.argsort(self.order)]

    def _norm(self, layer: BatchNorm | Scale, own: Any, shape: tuple[int, ...]) -> None:
        """Batch normalisation; a Scale is one whose statistics change nothing."""
        kind = "BatchNorm2d" if len(shape) == 3 else "BatchNorm1d"
        ones = np.ones(shape[-1], np.float32)
        if isinstance(layer, BatchNorm):
            own, stats = own["norm"], self.stats[str(layer.name)]["norm"]
            epsilon, momentum = layer.epsilon, 1 - layer.momentum
            mean, var = stats["mean"], stats["var"]
        else:
            epsilon, momentum, mean, var = 0.0, 0.1, 0 * ones, ones
        name = self._module(
            f"{kind}({shape[-1]}, eps={epsilon!r}, momentum={round(momentum, 12)!r})",
            weight=self._vector(own["scale"]),
            bias=self._vector(own.get("bias", 0 * ones)),
            running_mean=self._vector(mean),
            running_var=self._vector(var),
        )
        self.tensors[f"{name}.num_batches_tracked"] = np.zeros((), np.int64)

    def _padding(self, layer: Conv | Pool, shape: tuple[int, ...], module: str) -> str:
        """What stands for a padding in a module; a module before it where that has no such field."""
        (top, bottom), (left, right) = layer.window(shape).padding
        if (top, left) == (bottom, right) and not module:
            return f", padding={(top, left)}" if top or left else ""
        if top or bottom or left or right:
            fields = module or "ZeroPad2d({sides})"
            self._module(fields.format(sides=(left, right, top, bottom)), suffix="_padding")
        return ""

    def _conv(self, layer: Conv, own: Any, shape: tuple[int, ...]) -> None:
        before = {
            "zero": "",
            "constant": f"ConstantPad2d({{sides}}, {float(layer.padding_value)!r})",
            "edge": "ReplicationPad2d({sides})",
            "reflect": "ReflectionPad2d({sides})",
        }
        if layer.padding_mode not in before:
            raise ExchangeError(f"{layer.label}: PyTorch has no padding_mode {layer.padding_mode!r}")
        padding = self._padding(layer, shape, before[layer.padding_mode])
        window = layer.window(shape)
        fields = f"{shape[2]}, {layer.features}, {window.kernel}, stride={window.stride}{padding}"
        fields += f", dilation={window.dilation}" if max(window.dilation) > 1 else ""
        fields += f", groups={layer.groups}" if layer.groups > 1 else ""
        fields += "" if layer.use_bias else ", bias=False"
        kernel = np.asarray(own["kernel"], np.float32).transpose(3, 2, 0, 1)
        self._module(f"Conv2d({fields})", weight=kernel, bias=own.get("bias"))

    def _pool(self, layer: Pool, shape: tuple[int, ...]) -> None:
        average = isinstance(layer, AvgPool)
        if not average and not isinstance(layer, MaxPool | SumPool):
            raise ExchangeError(f"{layer.label}: PyTorch has no module for it; write ONNX or StableHLO instead")
        window, ceil = layer.window(shape), ", ceil_mode=True" if layer.rounding == "ceil" else ""
        if layer.kernel is None and not isinstance(layer, SumPool):
            self._module("AdaptiveAvgPool2d(1)" if average else "AdaptiveMaxPool2d(1)")
            return
        (top, bottom), (left, right) = window.padding
        even = (top, left) == (bottom, right) and all(
            2 * p <= k for p, k in zip((top, left), window.kernel, strict=True)
        )
        if isinstance(layer, MaxPool):
            padding = self._padding(layer, shape, "" if even else 'ConstantPad2d({sides}, -float("inf"))')
            dilation = f", dilation={window.dilation}" if max(window.dilation) > 1 else ""
            self._module(f"MaxPool2d({window.kernel}, stride={window.stride}{padding}{dilation}{ceil})")
            return
        if max(window.dilation) > 1 or not even:
            raise ExchangeError(
                f"{layer.label}: PyTorch has no such pool that is dilated or padded unevenly; write ONNX"
            )
        counts = ", divisor_override=1" if isinstance(layer, SumPool) else ""
        if average and not layer.count_padding and (top or left):
            counts = ", count_include_pad=False"
        fields = f"{window.kernel}, stride={window.stride}{self._padding(layer, shape, '')}{ceil}{counts}"
        self._module(f"AvgPool2d({fields})")


def _activation(layer: Activation) -> str:
    """The module of an activation."""
    given = layer.options()
    function = layer.function
    if function in ACTIVATIONS:
        return ACTIVATIONS[function]
    slope = given.get("slope")
    simple = {"leaky_relu": ("LeakyReLU", 0.01), "elu": ("ELU", 1.0), "celu": ("CELU", 1.0)}
    if function in simple:
        name, default = simple[function]
        return f"{name}({default if slope is None else slope!r})"
    if function == "thresholded_relu":
        return f"Threshold({1.0 if slope is None else slope!r}, 0.0)"
    if function == "clip":
        low, high = (
            "-float('inf')" if "low" not in given else repr(given["low"]),
            "float('inf')" if "high" not in given else repr(given["high"]),
        )
        return f"Hardtanh({low}, {high})"
    plain = {"silu": "SiLU()", "selu": "SELU()", "hard_sigmoid": "Hardsigmoid()"}
    if function in plain and not given:
        return plain[function]
    raise ExchangeError(f"{layer.label}: PyTorch has no module for {function} {dict(given) or ''}; write ONNX instead")
