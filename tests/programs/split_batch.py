"""Compiles a net's gradient over two devices and looks for gathers."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from cnn import nets
from cnn.ops import batch_last
from cnn.runtime.devices import AXIS, Devices

devices = Devices()
assert devices.count == 2
net, images = nets.create("qa_net"), jnp.ones((64, 32, 32, 3))
variables = net.init(jax.random.key(0), images[:1], train=False)


def gradient(variables, images):
    return jax.grad(lambda v: (net.apply(v, images, train=False) ** 2).sum())(variables)


shardings = {"in_shardings": (devices.everywhere, devices.split()), "out_shardings": devices.everywhere}
text = jax.jit(gradient, **shardings).lower(variables, images).compile().as_text()
assert "all-reduce" in text and "all-gather" not in text


def each(images):
    assert batch_last.is_faster(images.shape)
    return images


jax.shard_map(each, mesh=devices.mesh, in_specs=PartitionSpec(AXIS), out_specs=PartitionSpec(AXIS))(images)
assert not batch_last.is_faster(images.shape)
