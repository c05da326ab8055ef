"""A net applied with parameters that are split over devices, as `cnn.runtime.devices` places them.

The values are those of `net.apply`; what is said here is where they lie, and XLA's partitioner adds the messages. With
"fsdp" each device computes its examples with the whole parameters, which it gathers before a layer's use, once for the
output and once for the gradient, and does not keep. With "model" a large fully connected layer computes its share of
the outputs of all examples, from activations that are gathered before it; all other layers compute their share of the
examples.

Source: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models" (2020), section 5;
Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014, arXiv 1404.5997), section 4.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import NamedSharding

from cnn.geometry import Table
from cnn.nets import Net
from cnn.runtime.devices import Devices

_GATHERED = "gathered"
# What follows from gathered parameters alone is computed again for the gradient too, or it would be kept in its place.
_CHEAP = ("convert_element_type", "transpose", "reshape", "rev", "sharding_constraint")


def is_split(devices: Devices | None) -> bool:
    """Whether parameters are split over devices at all."""
    return devices is not None and devices.count > 1 and devices.sharding != "data"


def for_net(devices: Devices, table: Table) -> Devices:
    """The same devices, for a net whose fully connected layers may be written as convolutions.

    A convolution that gives one position, [1, 1, outputs], is fully connected, whatever its kernel's shape.

    Args:
      devices: the devices.
      table: the geometry of the net for the images that it is trained on.

    Returns:
      Devices that split those layers as they split others, where they split by outputs.
    """
    connected = [row.name for row in table if row.kind == "conv" and row.output_shape[:-1] == (1, 1)]
    return Devices(list(devices.mesh.devices.flat), devices.sharding, connected)


def apply(net: Net, devices: Devices | None, variables: Mapping[str, Any], images: jax.Array, **options: Any) -> Any:
    """Applies a net, whose parameters may be split over devices; within a function that is compiled for them.

    Args:
      net: the classifier.
      devices: the devices, and how parameters are split over them; None: one device, or whole parameters.
      variables: its variables.
      images: [N, H, W, C], floating, split by examples.
      **options: further arguments of `net.apply`.

    Returns:
      What `net.apply` returns.
    """
    if devices is None or not is_split(devices):
        return net.apply(variables, images, **options)
    if devices.sharding == "model":
        with nn.intercept_methods(functools.partial(_by_outputs, devices)):
            return net.apply(variables, images, **options)

    def gathering(variables: Mapping[str, Any], images: jax.Array, rest: Mapping[str, Any]) -> Any:
        return net.apply(_gathered(devices, variables), images, **static, **rest)

    # Keys are arrays, which a function that is computed twice takes as arguments.
    static = {name: value for name, value in options.items() if name != "rngs"}
    rest = {name: value for name, value in options.items() if name == "rngs"}
    return jax.checkpoint(gathering, policy=_is_kept)(dict(variables), images, rest)


def _is_kept(primitive: Any, *_: Any, **parameters: Any) -> bool:
    """Whether a value is kept from the output's computation for the gradient's."""
    return primitive.name not in _CHEAP and parameters.get("name") != _GATHERED


def _gathered(devices: Devices, variables: Any) -> Any:
    """Whole variables, whose gradients are split."""
    shardings = devices.state_shardings(variables)
    whole = jax.tree.map(
        lambda x, split: x if split == devices.everywhere else _gather(x, split, devices.everywhere),
        variables,
        shardings,
    )
    return jax.tree.map(lambda x: checkpoint_name(x, _GATHERED), whole)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(array: jax.Array, split: NamedSharding, whole: NamedSharding) -> jax.Array:
    """An array that is split, as a whole on each device; the gradient is split again, not summed as a whole."""
    return lax.with_sharding_constraint(array, whole)


def _gather_forward(array: jax.Array, split: NamedSharding, whole: NamedSharding) -> tuple[jax.Array, None]:
    return _gather(array, split, whole), None


def _gather_backward(split: NamedSharding, whole: NamedSharding, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    return (lax.with_sharding_constraint(gradient, split),)


_gather.defvjp(_gather_forward, _gather_backward)


def _by_outputs(devices: Devices, call: Any, arguments: Any, options: Any, context: Any) -> Any:
    """Calls a layer; a fully connected one that is split takes all examples, and others their share of them."""
    layer = context.module
    if (
        context.method_name != "__call__"
        or isinstance(layer, Net)
        or isinstance(layer.parent, nn.Module)
        and not isinstance(layer.parent, Net)
    ):
        return call(*arguments, **options)
    x, *others = arguments
    own = {layer.name: dict(layer.variables.get("params", {}))}
    if not own[layer.name] or not (x.ndim == 2 or layer.name in devices.connected):
        return call(*arguments, **options)
    splits = any(sharding != devices.everywhere for sharding in jax.tree.leaves(devices.state_shardings(own)))
    x = lax.with_sharding_constraint(x, devices.everywhere if splits else devices.split())
    y = call(x, *others, **options)
    return lax.with_sharding_constraint(y, devices.split(y.ndim - 1 if splits else 0))
