"""The variables of a trained net: the part of each layer, and whether they are those of the net."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cnn.layers import BatchNorm, Conv, Dense, Gate, Layer, LocallyConnected, PReLU, Scale, Shape, layers_of
from cnn.windows import GeometryError, shape_text


class VariablesError(GeometryError):
    """Variables that are not those of a net; the message names the layer, both numbers and the way out."""


def layer_names(layers: Sequence[Layer]) -> list[str]:
    """Names of the layers, which are their keys in the parameter tree."""
    return [layer.name or f"layers_{i}" for i, layer in enumerate(layers_of(layers))]


def parameters(layers: Sequence[Layer], variables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters and statistics of each layer, by the layer's name.

    Args:
      layers: the net's layers.
      variables: the net's variables, {"params": ..., "batch_stats": ...}, as `net.init` gives them.

    Returns:
      For each layer that has variables a dict from the name of the collection ("params", "batch_stats") to its part.

    Raises:
      TypeError: if the variables are not a dict.
      VariablesError: if they are one of the collections itself, such as `variables["params"]`.
    """
    if not isinstance(variables, Mapping):
        raise TypeError(f"variables are a {type(variables).__name__}; give the dict that net.init or a run holds")
    names = layer_names(layers)
    alone = [name for name in names if name in variables]
    if alone and "params" not in variables:
        raise VariablesError(
            f"variables hold {', '.join(alone)} themselves, and no 'params'; give all that net.init returned, not one "
            "entry of it: {'params': variables}, with 'batch_stats' if the net has them"
        )
    found: dict[str, dict[str, Any]] = {}
    for collection, tree in variables.items():
        for name in names:
            if isinstance(tree, Mapping) and name in tree:
                found.setdefault(name, {})[collection] = tree[name]
    return found


def check_trained(layer: Layer, shape: Shape, own: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    """Refuses a layer whose trained variables are missing, or not those of a layer with such an input."""
    params = own.get("params", {})
    if layer.param_count(shape) and not jax.tree.leaves(params):
        others = ", ".join(name for name, found in trained.items() if "params" in found) or "no layer"
        raise VariablesError(f"{layer.label}: the variables hold no parameters of it, but of {others}; {_OWN}")
    if isinstance(layer, BatchNorm) and "batch_stats" not in own:
        raise VariablesError(
            f"{layer.label}: the variables lack its running means and variances, 'batch_stats'; give all that net.init "
            "returned, not 'params' alone"
        )
    if isinstance(layer, PReLU | Scale):
        _check_shapes(layer, params, layer.param_shapes(shape))
    if isinstance(layer, Gate):
        for name, shapes in layer.param_shapes(shape).items():
            part = {f"{name}'s {one}": array for one, array in params.get(name, {}).items()}
            _check_shapes(layer, part, {f"{name}'s {one}": wanted for one, wanted in shapes.items()})
    if isinstance(layer, BatchNorm):
        _check_shapes(layer, params.get("norm", {}), dict.fromkeys(("scale", "bias"), shape[-1:]))
        _check_shapes(layer, own["batch_stats"].get("norm", {}), dict.fromkeys(("mean", "var"), shape[-1:]))
    if not isinstance(layer, Conv | Dense | LocallyConnected):
        return
    missing = [name for name in ("kernel", "bias")[: 1 + layer.use_bias] if name not in params]
    if missing:
        raise VariablesError(f"{layer.label}: the variables lack its {' and '.join(missing)}; {_OWN}")
    for name in ("kernel", "bias")[: 1 + layer.use_bias]:
        _check_floating(layer, name, params[name])
    biases = layer.output_shape(shape) if isinstance(layer, LocallyConnected) else (layer.features,)
    kernel = tuple(params["kernel"].shape)
    wanted: Shape = (shape[0], layer.features) if isinstance(layer, Dense) else layer.kernel_shape(shape)
    if kernel == wanted:
        if layer.use_bias and tuple(params["bias"].shape) != biases:
            found = tuple(params["bias"].shape)
            raise VariablesError(f"{layer.label}: its bias has shape {found}, the layer's would be {biases}; {_OWN}")
        return
    if isinstance(layer, Dense) and kernel[1:] == wanted[1:]:  # another size of the image may give so many values
        raise GeometryError(f"{layer.label}: its kernel takes {kernel[0]} values, got {wanted[0]}")
    if isinstance(layer, Conv) and len(kernel) == 4 and kernel[:2] + kernel[3:] == wanted[:2] + wanted[3:]:
        takes = kernel[2] * layer.groups
        raise VariablesError(
            f"{layer.label}: its kernel takes {takes} channels, got {shape[2]}; give {takes} channels, or the net and "
            f"variables of one that takes {shape[2]}"
        )
    message = f"{layer.label}: its kernel is {shape_text(kernel)}, the layer's would be {shape_text(wanted)}"
    raise (GeometryError(message) if isinstance(layer, LocallyConnected) else VariablesError(f"{message}; {_OWN}"))


def _check_shapes(layer: Layer, given: Mapping[str, Any], wanted: Mapping[str, Shape]) -> None:
    """Refuses arrays of a layer that are missing, not floating or of another shape."""
    for name, shape in wanted.items():
        if name not in given:
            raise VariablesError(f"{layer.label}: the variables lack its {name}; {_OWN}")
        _check_floating(layer, name, given[name])
        if tuple(given[name].shape) != shape:
            found = tuple(given[name].shape)
            raise VariablesError(f"{layer.label}: its {name} has shape {found}, the layer's would be {shape}; {_OWN}")


def _check_floating(layer: Layer, name: str, values: Any) -> None:
    """Whole and complex numbers would be cast: scores from rounded weights, or from their real parts."""
    if not jnp.issubdtype(getattr(values, "dtype", None) or object, jnp.floating):
        kind = getattr(values, "dtype", type(values).__name__)
        raise VariablesError(f"{layer.label}: its {name} is {kind}, not floating; {_OWN}")


_OWN = "give the variables of this net (nets.init, or those of its run)"
