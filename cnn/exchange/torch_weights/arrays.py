"""The layers of a net with the arrays of their modules of PyTorch, each in the shape that it must have."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn import geometry
from cnn.exchange.assembly import Step
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.torch_weights.names import Module
from cnn.exchange.torch_weights.torch import torch_places
from cnn.layers import BatchNorm, Branches, Conv, Dense, Flatten, Layer, PReLU, Scale
from cnn.nets import Net
from cnn.windows import GeometryError, as_pair


def steps_of(path: str, made: Net, image_shape: tuple[int, int, int], pairs: Mapping[str, Module]) -> list[Step]:
    """Each layer with its arrays.

    Args:
      path: the file, for errors.
      made: the net.
      image_shape: (H, W, C) of an image, pixels.
      pairs: modules by the layer's name, "block1/conv2" within a block.

    Returns:
      The layers in order.

    Raises:
      ExchangeError: listing all tensors that are missing, misshapen or too many.
    """
    problems: list[str] = []
    try:
        geometry.table(made, image_shape)
    except GeometryError as error:
        raise ExchangeError(f"{path}: {' '.join(str(error).split())}") from None
    steps = _steps(made.layers, image_shape, pairs, problems, "")
    if problems:
        raise ExchangeError(f"{path}: {'; '.join(problems[:60])}")
    return steps


def _steps(
    layers: Sequence[Layer], shape: tuple[int, ...], pairs: Mapping[str, Module], problems: list[str], block: str
) -> list[Step]:
    """Each layer with its arrays; what does not fit is added to the problems."""
    steps = []
    order: np.ndarray | None = None  # of each value of a vector, its place in PyTorch's, map by map
    for layer in layers:
        module = pairs.get(f"{block}{layer.name}")
        if isinstance(layer, Flatten):
            order = torch_places(layer, shape)
        if isinstance(layer, Branches):
            inner = f"{block}{layer.name}/"
            paths = (_steps(path, shape, pairs, problems, inner) for path in layer.checked())
            steps.append(Step(layer, paths=tuple(tuple(path) for path in paths)))
        else:
            full = layer.clone(name=f"{block}{layer.name}")  # for messages
            step = Step(layer) if module is None else _step(full, module, shape, order, problems)
            steps.append(dataclasses.replace(step, layer=layer))
        order = None if isinstance(layer, Dense) else order
        shape = layer.output_shape(shape)
    return steps


def _step(layer: Layer, module: Module, shape: Any, order: np.ndarray | None, problems: list[str]) -> Step:
    """One layer with the arrays of its module."""
    left = dict(module.tensors)

    def take(part: str, wanted: tuple[int, ...]) -> np.ndarray:
        """A tensor in a shape; a fully connected kernel and one of the whole map are the same numbers."""
        array = left.pop(part, None)
        text = "x".join(map(str, wanted))
        if array is None:
            problems.append(f"missing: {module.name}.{part} ({text}, of {layer.name})")
            return np.zeros((0,), np.float32)
        alike = {array.ndim, len(wanted)} == {2, 4} and array.shape[0] == wanted[0] and array.size == np.prod(wanted)
        if array.shape == wanted or alike:
            return array.reshape(wanted)
        shown = "x".join(map(str, array.shape))
        problems.append(f"misshapen: {module.name}.{part} is {shown}, {layer.name} needs {text}")
        return np.zeros((0,), np.float32)

    params: dict[str, np.ndarray] = {}
    stats: dict[str, np.ndarray] = {}
    before = len(problems)
    if isinstance(layer, Conv):
        kernel = as_pair(layer.kernel, "kernel", str(layer.name))
        weight = take("weight", (layer.features, shape[2] // layer.groups, *kernel))
        params["kernel"] = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight
    elif isinstance(layer, Dense):
        weight = take("weight", (layer.features, shape[0]))
        params["kernel"] = weight.T if order is None or weight.ndim < 2 else weight.T[order]
    elif isinstance(layer, PReLU):
        params["slope"] = take("weight", (1 if layer.shared else shape[-1],))
    elif isinstance(layer, BatchNorm | Scale):
        params["scale"] = take("weight", (shape[-1],))
        stats = {"mean": take("running_mean", (shape[-1],)), "var": take("running_var", (shape[-1],))}
    if getattr(layer, "use_bias", isinstance(layer, BatchNorm)) and not isinstance(layer, PReLU):
        count = layer.features if isinstance(layer, Conv | Dense) else shape[-1]
        params["bias"] = take("bias", (count,))
    if isinstance(layer, Scale) and not layer.use_bias and not left.get("bias", np.ones(1)).any():
        left.pop("bias")  # a module that stands for it has one
    problems += [f"extra: {module.name}.{part}, which {layer.name} ({layer.kind}) has not" for part in left]
    if len(problems) > before:
        return Step(layer)
    if order is not None and not isinstance(layer, Dense):
        params = {name: value[order] if value.size > 1 else value for name, value in params.items()}
        stats = {name: value[order] for name, value in stats.items()}
    if isinstance(layer, Scale):
        if (stats["mean"] != 0).any() or (stats["var"] != 1).any():
            problems.append(f"{module.name} has statistics, and {layer.name} (scale) has none")
        return Step(layer, params)
    return Step(layer, params, stats)
