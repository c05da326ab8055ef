"""Arrays of several processes: put on devices of all of them, and fetched; with one process nothing is sent."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnn.runtime import processes


def tree_from_first(tree: Any) -> Any:
    """A tree of arrays as the first process has it, in all of them.

    Args:
      tree: arrays of the same shapes and dtypes in all processes; their values count in the first alone.

    Returns:
      The same tree of NumPy arrays.
    """
    if processes.count() == 1:
        return tree
    processes.barrier("from the first")  # which may have read for longer than sums wait
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree, is_source=processes.is_first()))


def rows_of_all(rows: np.ndarray) -> np.ndarray:
    """The rows that each process has of an array, one after another, in all processes.

    Args:
      rows: this process's rows, [n, ...]; of the same dtype and shape but for n in all.

    Returns:
      All rows in the order of the processes.
    """
    if processes.count() == 1:
        return rows
    if rows.dtype.itemsize > 4:  # which JAX would narrow
        as_bytes = np.ascontiguousarray(rows)[..., None].view(np.uint8)
        return np.ascontiguousarray(rows_of_all(as_bytes)).view(rows.dtype)[..., 0]
    sizes = processes.gather(len(rows))
    padded = np.zeros((max(1, *sizes), *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    found = np.asarray(multihost_utils.process_allgather(padded)).reshape(processes.count(), *padded.shape)
    return np.concatenate([part[:size] for part, size in zip(found, sizes, strict=True)])


def put(tree: Any, shardings: Any) -> Any:
    """Puts arrays on devices, some of which may belong to other processes.

    Args:
      tree: arrays, which every process has whole, or which lie as they shall already.
      shardings: where each is to lie; a tree like it, or one sharding for all.

    Returns:
      The same tree, on the devices.
    """
    if processes.count() == 1:
        return jax.device_put(tree, shardings)
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, tree)
    return jax.tree.map(_put, tree, shardings)


def _put(leaf: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    if isinstance(leaf, jax.Array) and (leaf.sharding == sharding or not leaf.is_fully_addressable):
        return leaf if leaf.sharding == sharding else jax.jit(lambda x: x, out_shardings=sharding)(leaf)
    if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda place: value[place])


def put_rows(rows: np.ndarray, sharding: jax.sharding.NamedSharding, length: int) -> jax.Array:
    """Puts an array on devices of all processes, each of which has the rows of its own devices alone.

    Args:
      rows: this process's rows (`share`), [n, ...].
      sharding: splits the first axis over all devices.
      length: number of rows of all processes together.

    Returns:
      [at least `length`, ...]: as many rows on each device; what is beyond `length` is zero.
    """
    own, total_devices = processes.share(), jax.device_count()
    each = -(-length // total_devices)
    first = own.first * each

    def part(place: Any) -> np.ndarray:
        low, high = (int(n or 0) for n in (place[0].start, place[0].stop))
        found = rows[low - first : high - first]
        return np.concatenate([found, np.zeros((high - low - len(found), *rows.shape[1:]), rows.dtype)])

    return jax.make_array_from_callback((each * total_devices, *rows.shape[1:]), sharding, part)


def fetch(tree: Any) -> Any:
    """Copies arrays from devices, also from those of other processes; all processes call it alike.

    Args:
      tree: arrays.

    Returns:
      The same tree of NumPy arrays, whole, in all processes.
    """

    def one(leaf: Any) -> np.ndarray:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return np.array(leaf)
        return np.array(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(one, tree)


def own_rows(array: jax.Array) -> np.ndarray:
    """The rows of an array that lie on this process's devices, in order.

    Args:
      array: split along its first axis.

    Returns:
      Its rows here.
    """
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
