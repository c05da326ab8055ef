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
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    Shape,
    flatten_permutation,
)
from cnn.nets import Net

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
      net: a net of Conv, MaxPool, AvgPool, LRN, BatchNorm, Activation, Dropout, Flatten and Dense layers.
      variables: its variables.
      image_shape: (height, width, channels) of the images, pixels; padding "same" is computed for this size.
      training: whether the module is for training: weights have gradients, and dropout drops.

    Returns:
      A module with memory format channels_last: float32 [N, C, H, W] -> [N, K] or [N, K, h, w].

    Raises:
      TypeError: if PyTorch has no module that does the same as a layer; names the layer.
      GeometryError: if the image shape does not fit the net.
    """
    params, statistics = variables["params"], variables.get("batch_stats", {})
    modules: list[torch.nn.Module] = []
    shape: Shape = tuple(image_shape)
    flattened: tuple[Shape, str] | None = None  # shape and order of a flattened map, until a Dense uses it
    for row, layer in zip(geometry.table(net, image_shape), net.layers, strict=True):
        own = params.get(row.name, {})
        if isinstance(layer, Conv):
            modules += _convolution(layer, own, shape)
        elif isinstance(layer, Dense):
            modules.append(_linear(layer, own, flattened))
            flattened = None
        elif isinstance(layer, Flatten):
            flattened = (shape, layer.order)
            modules.append(torch.nn.Flatten())
        elif isinstance(layer, BatchNorm):
            modules.append(_batch_norm(layer, own["norm"], statistics[row.name]["norm"], len(shape)))
        else:
            modules.append(_plain(layer, shape))
        shape = row.output_shape
    module: Any = torch.nn.Sequential(*modules).train(training).requires_grad_(training)
    return module.to(memory_format=torch.channels_last)


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
    if isinstance(layer, MaxPool | AvgPool):
        window = layer.window(shape)
        (top, bottom), (left, right) = window.padding
        fields: dict[str, Any] = dict(ceil_mode=layer.rounding == "ceil", padding=(top, left))
        if (top, left) == (bottom, right) and isinstance(layer, MaxPool):
            return torch.nn.MaxPool2d(window.kernel, window.stride, dilation=window.dilation, **fields)
        if (top, left) == (bottom, right) and window.dilation == (1, 1):
            return torch.nn.AvgPool2d(window.kernel, window.stride, count_include_pad=layer.count_padding, **fields)
    raise TypeError(f"{layer.label}: PyTorch has no module that does the same")
