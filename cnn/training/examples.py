"""Where training examples lie, and how a step's batch is made of them.

A process by itself puts a whole copy on each of its devices. Several processes read only their share of the images:
each device holds the rows of its own, and a batch is gathered from all. Labels, four bytes each, are everywhere.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from cnn.data import Split
from cnn.runtime import arrays_of_all
from cnn.runtime.devices import AXIS, Devices


def place(train: Split, devices: Devices) -> tuple[jax.Array, jax.Array]:
    """Puts the training examples on devices.

    Args:
      train: the training split; of several processes the images of this one's share, and all labels.
      devices: the devices.

    Returns:
      (images, uint8 [N, H, W, C], labels, int32 [N]): whole on each device, or, on devices of several processes, images
      split over them, with zeros at the end where the number of devices does not divide N.
    """
    if not devices.are_shared:
        return devices.replicate((train.images, train.labels))
    images = arrays_of_all.put_rows(train.images, devices.split(), len(train.labels))
    return images, devices.replicate(train.labels)


def shardings(devices: Devices) -> tuple[NamedSharding, NamedSharding]:
    """How images and indices of a batch lie as arguments of a step.

    Args:
      devices: the devices.

    Returns:
      (of the images, of the indices [B]).
    """
    shared = devices.are_shared
    return (devices.split(), devices.everywhere) if shared else (devices.everywhere, devices.split())


def pick(devices: Devices, images: jax.Array, labels: jax.Array, indices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The examples of a batch, each device's part on it; within a function that is compiled for the devices.

    Args:
      devices: the devices.
      images, labels: as `place` put them.
      indices: which of them, int32 [B].

    Returns:
      (uint8 [B, H, W, C], int32 [B]), split over the devices.
    """
    found = _from_all(devices, images, indices) if devices.are_shared else images[indices]
    return lax.with_sharding_constraint((found, labels[indices]), devices.split())


def _from_all(devices: Devices, images: jax.Array, indices: jax.Array) -> jax.Array:
    """Rows of images that are split over devices: each gives what it holds, zero elsewhere, and gets its part's sum."""
    each, whole = PartitionSpec(AXIS), PartitionSpec()

    @functools.partial(jax.shard_map, mesh=devices.mesh, in_specs=(each, whole), out_specs=each, check_vma=False)
    def gathered(own: jax.Array, wanted: jax.Array) -> Any:
        rows = wanted - lax.axis_index(AXIS) * len(own)
        here = (rows >= 0) & (rows < len(own))
        found = own[jnp.clip(rows, 0, len(own) - 1)]
        found = jnp.where(here.reshape(-1, *(1,) * (own.ndim - 1)), found, 0)
        return lax.psum_scatter(found, AXIS, scatter_dimension=0, tiled=True)

    return gathered(images, indices)
