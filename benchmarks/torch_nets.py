"""Our nets as PyTorch modules with the same weights, to compare scores and times."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cnn import geometry
from cnn.layers import (
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Crop,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    Shape,
    flatten_permutation,
)
from cnn.nets import Net
from cnn.windows import Window

ACTIVATIONS = {
    "relu": torch.nn.ReLU,
    "leaky_relu": torch.nn.LeakyReLU,
    "elu": torch.nn.ELU,
    "silu": torch.nn.SiLU,
    "sigmoid": torch.nn.Sigmoid,
    "tanh": torch.nn.Tanh,
    "identity": torch.nn.Identity,
}
PADDING = {
    "zero": torch.nn.ZeroPad2d,
    "edge": torch.nn.ReplicationPad2d,
    "reflect": torch.nn.ReflectionPad2d,
}


def to_torch(
    net: Net, variables: Mapping[str, Any], image_shape: Sequence[int], training: bool = False
) -> torch.nn.Sequential:
    """A net, classifier or fully convolutional, as PyTorch modules with copies of its weights.

    Args:
      net: a net of Conv, MaxPool, AvgPool, LRN, BatchNorm, Activation, Dropout, Flatten and Dense layers, and of
        Branches whose paths are added or put one after another.
      variables: its variables.
      image_shape: (height, width, channels) of the images, pixels; padding "same" is computed for this size.
      training: whether the module is for training: weights have gradients, and dropout drops.

    Returns:
      A module with memory format channels_last: float32 [N, C, H, W] -> [N, K] or [N, K, h, w].

    Raises:
      TypeError: if PyTorch has no module that does the same as a layer; names the layer.
      GeometryError: if the image shape does not fit the net.
    """
    found = (variables["params"], variables.get("batch_stats", {}))
    modules, _ = _modules(list(zip(geometry.layer_names(net.layers), net.layers, strict=True)), *found, image_shape)
    module: Any = torch.nn.Sequential(*modules).train(training).requires_grad_(training)
    return module.to(memory_format=torch.channels_last)


def _modules(
    layers: Sequence[tuple[str, Layer]], params: Mapping[str, Any], statistics: Mapping[str, Any], shape: Sequence[int]
) -> tuple[list[torch.nn.Module], Shape]:
    """The modules of layers that follow each other, with their names, and the shape of what they give."""
    modules: list[torch.nn.Module] = []
    shape = tuple(shape)
    flattened: tuple[Shape, str] | None = None  # shape and order of a flattened map, until a Dense uses it
    for name, layer in layers:
        own = params.get(name, {})
        if isinstance(layer, Conv):
            modules += _convolution(layer, own, shape)
        elif isinstance(layer, Dense):
            modules.append(_linear(layer, own, flattened))
            flattened = None
        elif isinstance(layer, Flatten):
            flattened = (shape, layer.order)
            modules.append(torch.nn.Flatten())
        elif isinstance(layer, BatchNorm):
            modules.append(_batch_norm(layer, own["norm"], statistics[name]["norm"], len(shape)))
        elif isinstance(layer, Branches):
            paths = [[(str(one.name), one) for one in path] for path in layer.checked()]
            modules.append(
                _Branches(layer, [_modules(path, own, statistics.get(name, {}), shape)[0] for path in paths])
            )
        else:
            modules.append(_plain(layer, shape))
        shape = layer.output_shape(shape)
    return modules, shape


class _Branches(torch.nn.Module):
    """Paths over the same input, whose outputs are added or put one after another."""

    def __init__(self, layer: Branches, paths: Sequence[Sequence[torch.nn.Module]]) -> None:
        super().__init__()
        if layer.join not in ("sum", "concat"):
            raise TypeError(f"{layer.label}: join {layer.join!r} is not translated")
        self.paths = torch.nn.ModuleList([torch.nn.Sequential(*path) for path in paths])
        self.join = layer.join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [path(x) for path in self.paths]
        if self.join == "concat":
            return torch.cat(found, dim=1)
        for one in found[1:]:
            found[0] = found[0] + one
        return found[0]


class _Crop(torch.nn.Module):
    """The middle of each window, as `cnn.layers.Crop` takes it."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (top, bottom), (left, right) = self.window.padding
        x = torch.nn.functional.pad(x, (left, right, top, bottom)) if top or bottom or left or right else x
        for axis, (extent, stride) in enumerate(zip(self.window.extent, self.window.stride, strict=True), 2):
            count = (x.shape[axis] - extent) // stride + 1
            x = x.narrow(axis, extent // 2, (count - 1) * stride + 1)
        return x[:, :, :: self.window.stride[0], :: self.window.stride[1]]


def _tensor(array: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(array, np.float32))


def _convolution(layer: Conv, own: Mapping[str, Any], shape: Shape) -> list[torch.nn.Module]:
    window = layer.window(shape)
    (top, bottom), (left, right) = window.padding
    padding, before = (top, left), []
    if (top, left) != (bottom, right) or layer.padding_mode != "zero":
        if layer.padding_mode not in PADDING:
            raise TypeError(f"{layer.label}: PyTorch has no padding_mode {layer.padding_mode!r}")
        padding, before = (0, 0), [PADDING[layer.padding_mode]((left, right, top, bottom))]
    conv = torch.nn.Conv2d(
        shape[2],
        layer.features,
        window.kernel,
        window.stride,
        padding,
        window.dilation,
        layer.groups,
        layer.use_bias,
        device="meta",  # no random weights are made; ours are set below
    )
    conv.weight = torch.nn.Parameter(_tensor(own["kernel"]).permute(3, 2, 0, 1).contiguous())
    if layer.use_bias:
        conv.bias = torch.nn.Parameter(_tensor(own["bias"]))
    return [*before, conv]


def _linear(layer: Dense, own: Mapping[str, Any], flattened: tuple[Shape, str] | None) -> torch.nn.Linear:
    weight = _tensor(own["kernel"])
    if flattened:  # PyTorch flattens map by map, whatever the order of our Flatten
        order = flatten_permutation(flattened[1], flattened[0])
        weight = weight if order is None else weight[np.argsort(order)]
        weight = weight.reshape(*flattened[0], -1).permute(2, 0, 1, 3).reshape(len(weight), -1)
    linear = torch.nn.Linear(weight.shape[0], weight.shape[1], layer.use_bias, device="meta")
    linear.weight = torch.nn.Parameter(weight.T.contiguous())
    if layer.use_bias:
        linear.bias = torch.nn.Parameter(_tensor(own["bias"]))
    return linear


def _batch_norm(layer: BatchNorm, own: Mapping[str, Any], running: Mapping[str, Any], rank: int) -> torch.nn.Module:
    kind = torch.nn.BatchNorm2d if rank == 3 else torch.nn.BatchNorm1d
    norm = kind(len(running["mean"]), layer.epsilon)
    state = {
        "weight": own["scale"],
        "bias": own["bias"],
        "running_mean": running["mean"],
        "running_var": running["var"],
    }
    norm.load_state_dict({name: _tensor(value) for name, value in state.items()}, strict=False)
    return norm


def _plain(layer: Layer, shape: Shape) -> torch.nn.Module:
    """A layer without weights."""
    if isinstance(layer, Dropout):
        return torch.nn.Dropout(layer.rate)
    if isinstance(layer, Activation) and layer != Activation(layer.function, name=layer.name):
        raise TypeError(f"{layer.label}: fields beside function are not translated")
    if isinstance(layer, Activation) and layer.function == "gelu":
        return torch.nn.GELU(approximate="tanh")
    if isinstance(layer, Activation) and layer.function in ACTIVATIONS:
        return ACTIVATIONS[layer.function]()
    if isinstance(layer, LRN):
        # PyTorch divides alpha by the number of channels; the paper, and LRN, do not.
        return torch.nn.LocalResponseNorm(layer.size, layer.alpha * layer.size, layer.beta, layer.k)
    if isinstance(layer, Crop):
        return _Crop(layer.window(shape))
    if isinstance(layer, MaxPool | AvgPool):
        window = layer.window(shape)
        (top, bottom), (left, right) = window.padding
        fields: dict[str, Any] = dict(ceil_mode=layer.rounding == "ceil", padding=(top, left))
        if (top, left) == (bottom, right) and isinstance(layer, MaxPool):
            return torch.nn.MaxPool2d(window.kernel, window.stride, dilation=window.dilation, **fields)
        if (top, left) == (bottom, right) and window.dilation == (1, 1):
            return torch.nn.AvgPool2d(window.kernel, window.stride, count_include_pad=layer.count_padding, **fields)
    raise TypeError(f"{layer.label}: PyTorch has no module that does the same")
