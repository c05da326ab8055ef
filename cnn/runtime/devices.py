"""How arrays are placed on devices: examples are split over all of them, and the state of training as `sharding` says.

No other module decides on placement. The same code runs on one device and on many.
"""

import collections
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cnn.runtime import arrays_of_all, processes
from cnn.runtime.compiler import Options, options_for

AXIS = "batch"
SHARDINGS = ("data", "fsdp", "model")
# Values. Of smaller arrays each device holds the whole: 64 KiB of float32 on a link of 100 GB/s take less time than the
# message of a few microseconds that a split array costs.
LEAST_SPLIT = 2**14


class Devices:
    """Devices as one axis over which batches are split. Equal devices, split in the same way, are equal and hash alike.

    Attributes:
      mesh: JAX's mesh of the devices, with the one axis `AXIS`.
      everywhere: sharding of arrays of which each device has a whole copy.
      sharding: how the state of training is split over them, one of `SHARDINGS`.
      connected: names of layers that are fully connected and whose kernels have four axes, as those of convolutions.
    """

    def __init__(
        self,
        devices: int | Sequence[Any] | None = None,
        sharding: str = "data",
        connected: Collection[str] = (),
    ) -> None:
        """Takes devices.

        Args:
          devices: the devices, which may be descriptions of devices that are not here (to compile for them); a number
            takes the first local ones; None: all, of all processes (`cnn.runtime.processes`).
          sharding: how the state of training is split over them, one of `SHARDINGS`.
          connected: names of a net's convolutions that are its fully connected layers (`cnn.training.sharded.for_net`).
        """
        taken = jax.devices() if devices is None else devices
        taken = jax.local_devices()[:taken] if isinstance(taken, int) else taken
        self.mesh = Mesh(np.array(taken), (AXIS,), axis_types=(AxisType.Auto,))
        self.everywhere = NamedSharding(self.mesh, PartitionSpec())
        self.sharding, self.connected = sharding, frozenset(connected)

    @property
    def count(self) -> int:
        """Number of devices."""
        return self.mesh.size

    @property
    def are_shared(self) -> bool:
        """Whether they belong to several processes that work together."""
        return processes.count() > 1 and len({device.process_index for device in self.mesh.devices.flat}) > 1

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
        return arrays_of_all.put(tree, self.everywhere)

    def state_shardings(self, state: Any) -> Any:
        """How the state of training is split over the devices.

        With "data" each device holds the whole. With "fsdp" an array is split along the longest axis that the number of
        devices divides. With "model" fully connected layers are split by outputs: a matrix [inputs, outputs] along its
        last axis, a kernel [height, width, inputs, outputs] of one of the `connected` layers too, and with it what else
        the layer has for each output. The optimiser's arrays are split as the
        parameters that they belong to. Arrays of fewer than `LEAST_SPLIT` values, and those of which no axis divides,
        are whole on each device.

        Args:
          state: a `cnn.training.steps.State`, or a part of one, of arrays or their shapes.

        Returns:
          The same tree, of shardings.
        """
        if self.count == 1 or self.sharding == "data":
            return jax.tree.map(lambda _: self.everywhere, state)
        if self.sharding == "fsdp":
            return jax.tree.map(lambda leaf: self._along(self._longest_axis(leaf.shape)), state)
        outputs = self._outputs(state)

        def by_outputs(path: Any, leaf: Any) -> NamedSharding:
            fits = leaf.ndim > 0 and leaf.shape[-1] in outputs[path[:-1]]
            return self._along(leaf.ndim - 1 if fits else None)

        return jax.tree_util.tree_map_with_path(by_outputs, state)

    def _along(self, axis: int | None) -> NamedSharding:
        """Splits an axis; None: nothing."""
        return self.everywhere if axis is None else self.split(axis)

    def _longest_axis(self, shape: Sequence[int]) -> int | None:
        """The longest axis that the number of devices divides, the first of equal ones; None for small arrays."""
        fit = [axis for axis, size in enumerate(shape) if size % self.count == 0]
        return max(fit, key=lambda axis: shape[axis]) if fit and math.prod(shape) >= LEAST_SPLIT else None

    def _outputs(self, state: Any) -> dict[Any, set[int]]:
        """For each layer, by its path in a tree: the numbers of outputs of its large matrices that can be split."""
        found: dict[Any, set[int]] = collections.defaultdict(set)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            is_matrix = leaf.ndim == 2 or (leaf.ndim == 4 and _key(path[-2:-1]) in self.connected)
            if is_matrix and math.prod(leaf.shape) >= LEAST_SPLIT and leaf.shape[-1] % self.count == 0:
                found[path[:-1]].add(leaf.shape[-1])
        return found

    def state_text(self, what: str, state: Any) -> str:
        """Says how much memory a part of the state of training takes.

        Args:
          what: name of the part, for the line.
          state: a tree of arrays or their shapes.

        Returns:
          "parameters: 1.1 GB in all, 0.14 GB on each of 8 devices", and which large arrays are whole on each where
          others are split.
        """
        leaves = jax.tree_util.tree_leaves_with_path(state)
        shardings = jax.tree.leaves(self.state_shardings(state))
        pairs = [(path, leaf, split) for (path, leaf), split in zip(leaves, shardings, strict=True)]
        total = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for _, leaf, _ in pairs)
        each = sum(math.prod(split.shard_shape(leaf.shape)) * leaf.dtype.itemsize for _, leaf, split in pairs)
        text = f"{what}: {_gigabytes(total)} in all, {_gigabytes(each)} on each of {self.count} devices"
        if self.sharding != "fsdp":
            return text
        names = [
            f"{jax.tree_util.keystr(path, simple=True, separator='.')} {list(leaf.shape)}"
            for path, leaf, split in pairs
            if split is self.everywhere and math.prod(leaf.shape) >= LEAST_SPLIT
        ]
        return f"{text}; whole on each, as {self.count} divides no axis: {', '.join(names)}" if names else text

    def make(self, function: Callable[[], Any]) -> Any:
        """Makes the state of training on the devices: where it is split, no device ever holds the whole.

        Args:
          function: makes the state.

        Returns:
          What it returns, split as `state_shardings` says; to the bit what `place` would put there.
        """
        if self.count == 1 or self.sharding == "data":
            return self.place(function())
        return jax.jit(function, out_shardings=self.state_shardings(jax.eval_shape(function)))()

    def place(self, state: Any) -> Any:
        """Puts the state of training on the devices, split as `state_shardings` says.

        Args:
          state: a tree of arrays, of which every process has the whole.

        Returns:
          The same tree, on the devices.
        """
        return arrays_of_all.put(state, self.state_shardings(state))

    def fetch(self, tree: Any) -> Any:
        """Copies a tree from the devices, however it is split over them.

        Args:
          tree: a tree of arrays.

        Returns:
          The same tree of NumPy arrays, whole.
        """
        return arrays_of_all.fetch(tree)

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
            hosts = collections.Counter(device.process_index for device in self.mesh.devices.flat)
            each = "/".join(str(count) for count in sorted(set(hosts.values())))
            what = "local devices" if len(hosts) == 1 else f"devices ({each} of each of {len(hosts)} processes)"
            raise ValueError(
                f"{field} (={batch_size}) must be a positive multiple of the {self.count} {what}, e.g. {near}"
            )
        return batch_size // self.count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Devices) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Any, ...]:
        return self.mesh, self.sharding, self.connected


def _key(path: Sequence[Any]) -> Any:
    """The name at the end of a path in a tree; None where it has none."""
    return getattr(path[-1], "key", None) if path else None


def _gigabytes(count: float) -> str:
    """Bytes as decimal gigabytes with two digits, below ten megabytes as megabytes."""
    return f"{count / 1e9:.2g} GB" if count >= 1e7 else f"{count / 1e6:.2g} MB"
