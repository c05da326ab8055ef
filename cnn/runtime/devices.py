"""How arrays are placed on devices: examples are split over all of them, and the state of training as `sharding` says.

No other module decides on placement. The same code runs on one device and on many.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cnn.runtime.compiler import Options, options_for

AXIS = "batch"
SHARDINGS = ("data", "fsdp", "model")


class Devices:
    """Devices as one axis over which batches are split.

    Attributes:
      mesh: JAX's mesh of the devices, with the one axis `AXIS`.
      everywhere: sharding of arrays of which each device has a whole copy.
      sharding: how the state of training is split over them, one of `SHARDINGS`.
    """

    def __init__(self, devices: int | Sequence[jax.Device] | None = None, sharding: str = "data") -> None:
        """Takes devices.

        Args:
          devices: the devices, which may be descriptions of devices that are not here (to compile for them); a number
            takes the first local ones; None: all.
          sharding: how the state of training is split over them, one of `SHARDINGS`.
        """
        taken = jax.local_devices()[:devices] if devices is None or isinstance(devices, int) else devices
        self.mesh = Mesh(np.array(taken), (AXIS,), axis_types=(AxisType.Auto,))
        self.everywhere = NamedSharding(self.mesh, PartitionSpec())
        self.sharding = sharding

    @property
    def count(self) -> int:
        """Number of devices."""
        return self.mesh.size

    @property
    def platform(self) -> str:
        """ "cpu", "gpu" or "tpu"."""
        return self.mesh.devices.flat[0].platform

    def compiler_options(self, multiply_adds: int) -> Options:
        """Compiler options for a net, or its training step, on these devices.

        Args:
          multiply_adds: multiply-adds of the net for one example (`cnn.geometry.table(...).macs`).

        Returns:
          For `jax.jit(compiler_options=...)`, from `cnn.runtime.compiler.options_for`.
        """
        return options_for(self.platform, self.count, multiply_adds)

    def split(self, axis: int = 0) -> NamedSharding:
        """Sharding that splits one axis over the devices.

        Args:
          axis: number of the axis that holds the examples.

        Returns:
          The sharding.
        """
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, AXIS))

    def replicate(self, tree: Any) -> Any:
        """Puts a whole copy of every array of a tree on each device.

        Args:
          tree: a tree of arrays.

        Returns:
          The same tree, on the devices.
        """
        return jax.device_put(tree, self.everywhere)

    def state_shardings(self, state: Any) -> Any:
        """How the state of training is split over the devices.

        Args:
          state: a `cnn.training.steps.State`, or a part of one, of arrays or their shapes.

        Returns:
          The same tree, of shardings.
        """
        return jax.tree.map(lambda _: self.everywhere, state)

    def place(self, state: Any) -> Any:
        """Puts the state of training on the devices, split as `state_shardings` says.

        Args:
          state: a tree of arrays, of which every process has the whole.

        Returns:
          The same tree, on the devices.
        """
        return jax.device_put(state, self.state_shardings(state))

    def fetch(self, tree: Any) -> Any:
        """Copies a tree from the devices, however it is split over them.

        Args:
          tree: a tree of arrays.

        Returns:
          The same tree of NumPy arrays, whole.
        """
        return jax.tree.map(np.array, tree)

    def per_device(self, batch_size: int, field: str) -> int:
        """Number of examples on each device.

        Args:
          batch_size: number of examples in the global batch.
          field: name of the config field that holds the batch size, for the error message.

        Returns:
          batch_size / count.

        Raises:
          ValueError: if the batch size is not a positive multiple of the number of devices.
        """
        if batch_size < 1 or batch_size % self.count:
            near = max(1, round(batch_size / self.count)) * self.count
            raise ValueError(
                f"{field} (={batch_size}) must be a positive multiple of the {self.count} local devices, e.g. {near}"
            )
        return batch_size // self.count
