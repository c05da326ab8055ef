"""The memory of a stream, and the largest tiles that stay within a limit of it."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cnn.dense import tiles
from cnn.dense.streaming.pipeline import IN_FLIGHT, READ_AHEAD
from cnn.dense.streaming.sink import ALIGNMENT
from cnn.dense.streaming.sinks.zarr_arrays import PENDING_WRITES
from cnn.dense.tiles import Tiling
from cnn.runtime.byte_sizes import bytes_text
from cnn.windows import as_pair, shape_text


class Budget(NamedTuple):
    """The memory that tiles may take, and the devices that they run on.

    Attributes:
      bytes: memory for all tiles, bytes.
      devices: the devices that tiles are spread over.
      itemsize: size of one value of the source, bytes.
      beside: memory for each pixel of one tile beside its values, bytes.
    """

    bytes: int
    devices: Sequence[Any]
    itemsize: int
    beside: int = 0


def largest_tiles(plan: Callable[..., Tiling], budget: Budget) -> Tiling:
    """The largest tiles with which a stream stays within a budget of memory.

    Args:
      plan: `cnn.dense.tiles.plan_tiles` with all arguments bound except `outputs`, `memory_limit` and `backend`.
      budget: the memory that the stream may take, and its devices.

    Returns:
      A tiling whose tiles all have nearly the same size.

    Raises:
      MemoryError: if no tile stays within the budget.
    """
    if budget.bytes <= 0:
        raise MemoryError(
            f"stream: parameters on {len(budget.devices)} devices and the cache take {bytes_text(-budget.bytes)} more "
            "than memory_limit; give more memory (--memory), or fewer devices"
        )
    limit = budget.bytes // IN_FLIGHT
    for _ in range(8):
        tiling = plan(memory_limit=limit)
        needed = stream_bytes(tiling, budget)
        if needed <= budget.bytes:
            break
        limit = int(0.98 * limit * budget.bytes / needed)
    else:
        raise MemoryError(
            f"stream: tiles of {shape_text(tiling.outputs)} scores take {bytes_text(needed)} on {len(budget.devices)} "
            f"devices, {bytes_text(budget.bytes)} are left of memory_limit; give more memory (--memory)"
        )
    return plan(backend=tiling.backend, outputs=tuple(_even(tiling, axis) for axis in range(2)))


def stream_bytes(tiling: Tiling, budget: Budget) -> int:
    """Predicted memory of a stream: on a CPU the sum of host and devices, otherwise the larger of host and one device.

    Args:
      tiling: the tiles of the stream.
      budget: the devices, and the size of the source's values.

    Returns:
      Memory, bytes.
    """
    classes = tiling.prepared.table[-1].output_shape[-1]
    read = math.prod(tiling.extent) * tiling.image_shape[2] * budget.itemsize
    read_ahead = (READ_AHEAD + 1) * read + math.prod(tiling.extent) * budget.beside
    host = read_ahead + (PENDING_WRITES + 1) * math.prod(tiling.outputs) * classes * 4
    device = IN_FLIGHT * tiles.tile_bytes(tiling)
    return host + len(budget.devices) * device if budget.devices[0].platform == "cpu" else max(host, device)


def choose_tiles(
    plan: Callable[..., Tiling],
    budget: Budget,
    backend: str,
    tile: int | Sequence[int] | None,
    journal: Mapping[str, Any] | None,
) -> tuple[Tiling, Tiling]:
    """The tiles that the journal counts, and the tiles to begin with: the same, or parts of them if memory is short.

    Tiles that were asked for, or those of a stream that is continued, are computed in parts if the memory limit is
    below what they need; a stream that is continued keeps its backend too.

    Args:
      plan: `cnn.dense.tiles.plan_tiles` with all arguments bound except `outputs`, `memory_limit` and `backend`.
      budget: the memory that the stream may take, and its devices.
      backend: name of the backend; "auto": the cheapest.
      tile: scores of a tile, one number or (rows, columns); None: as in the journal, otherwise as many as fit.
      journal: that of a stream that is continued; None: it begins.

    Returns:
      (the tiles that are counted, those to begin with).

    Raises:
      MemoryError: if no tile stays within the budget.
    """
    earlier = journal["computes"] if journal else {}
    backend = earlier.get("backend", backend) if backend == "auto" else backend
    plan = functools.partial(plan, backend=backend)
    asked = earlier.get("tile") if tile is None else tile
    kept = None if asked is None else plan(outputs=as_pair(asked, "tile", "stream"))
    if kept and tile is not None and stream_bytes(kept, budget) <= budget.bytes:
        return kept, kept  # as asked for, even where tiles of another shape would be larger
    fitting = largest_tiles(plan, budget)
    if kept is None:
        return fitting, fitting
    outputs = (min(kept.outputs[0], fitting.outputs[0]), min(kept.outputs[1], fitting.outputs[1]))
    return kept, kept if outputs == kept.outputs else plan(backend=kept.backend, outputs=outputs)


def _even(tiling: Tiling, axis: int) -> int:
    """Number of scores of a tile along an axis with which the last tile is hardly smaller than the others."""
    native, stride = tiling.grid.native[axis], tiling.grid.step[axis]
    unit = math.lcm(ALIGNMENT, native // math.gcd(native, stride))  # a multiple of the period of the stride
    most = tiling.outputs[axis] // unit * unit
    scores = tiling.grid.regular[axis]
    if scores <= tiling.outputs[axis] or not most:
        return tiling.outputs[axis]
    count = -(-scores // most)
    return -(-scores // (count * unit)) * unit
