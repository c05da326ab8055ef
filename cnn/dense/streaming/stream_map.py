"""The score map of an image of any size, tile by tile, from any array or file into another.

Tiles of one fixed shape go through the net; they overlap by window - stride. Convolutions are position-invariant, and
the map is, to the bit, that of `score_map(..., position_invariant=True)` (for tiles of at least
`cnn.dense.tiles.LEAST_OUTPUTS` scores along each axis: smaller products are summed in another order). One thread reads
ahead, every device has a tile at work and one waiting, and scores are written in order.
"""

import functools
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from cnn.dense import tiles
from cnn.dense.prepared import input_channels, prepare
from cnn.dense.streaming import journal as journals
from cnn.dense.streaming.pipeline import IN_FLIGHT, READ_AHEAD, Progress, Task, pixels_done, run_all
from cnn.dense.streaming.source_and_sink import CACHE_BYTES, PENDING_WRITES, Sink, Source, open_sink, open_source
from cnn.dense.tiles import Tiling
from cnn.nets import Net
from cnn.windows import Pair, as_pair, shape_text

ALIGNMENT = 64  # scores; tiles are multiples of it if they are larger, so that a zarr's chunks divide them
LARGEST_CHUNK = 512  # scores along an axis of a zarr's chunk
LOG = logging.getLogger(__name__)

Variables = Mapping[str, Any]


class StreamResult(NamedTuple):
    """What a stream did.

    Attributes:
      shape: (h, w, K) of the map.
      image_shape: (H, W, C).
      window: height and width of a window, pixels.
      stride: distance between neighbouring scores, pixels; the scores' pixels are `boxes(net, image_shape,
        plan_grid(net, image_shape, window, stride), context)`.
      context: "image", "crop" or "both", as in `ScoreMap`.
      backend: how it was computed.
      outputs: scores of one tile, (rows, columns), as the stream began.
      tiles: number of them in the whole map.
      tiles_done_before: how many of them were in the sink already.
      shrunk: how often memory ran out and the tiles were cut smaller.
      seconds: the time it took.
      megapixels_per_second: pixels of the image that were computed now, by the time; 0 if there were none.
    """

    shape: tuple[int, int, int]
    image_shape: tuple[int, int, int]
    window: Pair
    stride: Pair
    context: str
    backend: str
    outputs: Pair
    tiles: int
    tiles_done_before: int
    shrunk: int
    seconds: float
    megapixels_per_second: float


def stream(
    net: Net,
    variables: Variables,
    source: Any,
    sink: Any,
    *,
    window: Sequence[int],
    stride: int | Sequence[int] | None = None,
    backend: str = "auto",
    context: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    memory_limit: int = 2 * 2**30,
    tile: int | Sequence[int] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    devices: Sequence[Any] | None = None,
) -> StreamResult:
    """Class scores of every window of an image of any size, written as they come.

    A stream into a file that is stopped, in whatever way, and started again with the same arguments goes on at its
    first missing tile and ends in the same bytes; a finished one does nothing. Beside the file lies its journal,
    `NAME.progress.json`. If memory runs out, the tiles are cut smaller, which is logged, and the stream goes on.

    Args:
      net: a classifier; fully connected layers are converted as needed.
      variables: its variables.
      source: an image, [H, W] or [H, W, C], uint8 or floating: an array that can be sliced, or the path of a .npy,
        zarr, TIFF, JPEG, PNG, ...; see `cnn.dense.streaming.source_and_sink.open_source`.
      sink: the path of a .npy or .zarr, or an array [h, w, K] that can be written to (it has no journal); float32.
      window: (height, width) that the net was trained on, pixels.
      stride: distance between windows, one number or (vertical, horizontal), pixels; None: the native stride.
      backend: as `score_map` takes it.
      context: as `score_map` takes it.
      mean: mean of the training data, [C], in units of the full range; None: pixels are as the net takes them.
      std: its standard deviation, [C]; given if and only if `mean` is.
      memory_limit: bytes that tiles, parameters and caches may take on this machine; on accelerators, on each of them,
        and on the machine that feeds them. An array, or a picture that must be decoded whole, is not counted.
      tile: scores of one tile, one number or (rows, columns); None: what an earlier try took, or as many as fit.
      overwrite: begin anew, whatever the sink holds.
      progress: whether to show a bar with megapixels a second.
      devices: the devices to spread the tiles over; None: all local ones.

    Returns:
      A `StreamResult`.

    Raises:
      StorageError: a source or sink that cannot be used, or a sink that was begun with something else.
      GeometryError: if window, stride and image do not fit the net, or a layer cannot slide.
      ValueError: an unknown backend or context, or one of mean and std without the other.
      MemoryError: a memory limit that no tile fits; or memory ran out, and tiles cannot be smaller.
    """
    begin = time.monotonic()
    if (mean is None) != (std is None):
        raise ValueError(f"stream: mean (={mean}) and std (={std}) go together; give both, or neither")
    cache_bytes = min(CACHE_BYTES, memory_limit // 8)
    image = open_source(source, len(mean) if mean is not None else input_channels(net, variables), cache_bytes)
    path = journals.journal_path(sink)
    journal = journals.read_journal(path) if path and not overwrite else None
    if progress:
        tqdm.write(f"{image.name}: {shape_text(image.shape)}; planning tiles", file=sys.stderr)
    devices = list(devices or jax.local_devices())
    prepared = prepare(net, as_pair(window, "window", "stream"), image.shape[2], position_invariant=True)
    prepared.check_variables(variables)
    plan = functools.partial(
        tiles.plan_tiles, prepared, image.shape, stride, context=context, itemsize=image.dtype.itemsize
    )
    budget = Budget(memory_limit - cache_bytes - _parameter_bytes(variables, devices), devices, image.dtype.itemsize)
    counted, running = _choose_tiles(plan, budget, backend, tile, journal)

    computes = {**journals.net_identity(net, variables), **_describe(image, counted, mean, std)}
    computes["platform"] = devices[0].platform
    if journal and path:
        journals.check_same(path, journal["computes"], computes)
    shape = (*counted.grid.size, prepared.table[-1].output_shape[-1])
    target, counter = _begin(sink, shape, counted, journal, computes, overwrite)
    done, total, shrunk = counter.done, math.prod(counted.counts), 0
    if done < total:
        placed = [jax.device_put(variables, device) for device in devices]
        task = Task(placed, devices, image, target, counted, mean, std)
        smaller = functools.partial(plan, backend=counted.backend)
        shrunk = run_all(task, running, smaller, counter, progress)
    else:
        target.close()
        message = f"{target.name}: finished already, all {total} tiles are computed; nothing to do"
        LOG.info(message)
        if progress:
            tqdm.write(message, file=sys.stderr)
    seconds = time.monotonic() - begin
    rate = (pixels_done(counted, total) - pixels_done(counted, done)) / 1e6 / seconds
    facts = (counted.grid.window, counted.grid.stride, counted.context, counted.backend, counted.outputs)
    return StreamResult(shape, image.shape, *facts, total, done, shrunk, seconds, rate)


def _begin(
    sink: Any,
    shape: tuple[int, int, int],
    counted: Tiling,
    journal: Mapping[str, Any] | None,
    computes: Mapping[str, Any],
    overwrite: bool,
) -> tuple[Sink, Progress]:
    """Opens the sink, new or where an earlier stream stopped, and its journal."""
    path, done = journals.journal_path(sink), journal["done"] if journal else 0
    if overwrite and path:
        with suppress(FileNotFoundError):
            os.remove(path)  # before the map that it describes
    chunk = (*(chunk_of(n) for n in counted.outputs), shape[2])
    # A stream that was stopped before its first tile was safe makes its file anew.
    target = open_sink(sink, shape, np.float32, chunk, existing=done > 0, overwrite=overwrite or journal is not None)
    facts = {"computes": computes, "map": shape, "tiles": math.prod(counted.counts)}
    return target, Progress(target, path, facts, done)


class Budget(NamedTuple):
    """What tiles may take, and where they run.

    Attributes:
      bytes: memory, bytes.
      devices: the devices that tiles are spread over.
      itemsize: bytes of a value of the source.
    """

    bytes: int
    devices: Sequence[Any]
    itemsize: int


def _choose_tiles(
    plan: Callable[..., Tiling],
    budget: Budget,
    backend: str,
    tile: int | Sequence[int] | None,
    journal: Mapping[str, Any] | None,
) -> tuple[Tiling, Tiling]:
    """The tiles that the journal counts, and the tiles to begin with: the same, or parts of them if memory is short.

    A stream that goes on keeps its tiles and its backend, whatever memory it has now.
    """
    earlier = journal["computes"] if journal else {}
    backend = earlier.get("backend", backend) if backend == "auto" else backend
    plan = functools.partial(plan, backend=backend)
    if tile is not None:
        asked = plan(outputs=as_pair(tile, "tile", "stream"))
        return asked, asked
    fitting = largest_tiles(plan, budget)
    if "tile" not in earlier:
        return fitting, fitting
    kept = plan(outputs=as_pair(earlier["tile"], "tile", "stream"))
    outputs = (min(kept.outputs[0], fitting.outputs[0]), min(kept.outputs[1], fitting.outputs[1]))
    return kept, kept if outputs == kept.outputs else plan(backend=kept.backend, outputs=outputs)


def _describe(
    image: Source, counted: Tiling, mean: Sequence[float] | None, std: Sequence[float] | None
) -> dict[str, Any]:
    """What, beside the net, decides the bytes of a map, field by field."""
    constants = {"mean": mean, "std": std}
    return {
        **{f"source {name}": value for name, value in image.identity().items()},
        "window": counted.grid.window,
        "stride": counted.grid.stride,
        "context": counted.context,
        "backend": counted.backend,
        **{
            name: None if value is None else np.asarray(value, np.float64).tolist() for name, value in constants.items()
        },
        "tile": counted.outputs,
    }


def largest_tiles(plan: Callable[..., Tiling], budget: Budget) -> Tiling:
    """The largest tiles of which as many as are in memory at a time stay within a budget.

    Args:
      plan: `cnn.dense.tiles.plan_tiles` but for the arguments that this function chooses.
      budget: what they may take.

    Returns:
      Tiles, all of nearly the same size.

    Raises:
      MemoryError: if no tile stays within the budget.
    """
    if budget.bytes <= 0:
        raise MemoryError(
            f"stream: parameters on {len(budget.devices)} devices and the cache take {-budget.bytes / 2**20:.0f} MiB "
            "more than memory_limit; give more memory, or fewer devices"
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
            f"stream: tiles of {shape_text(tiling.outputs)} scores take {needed / 2**20:.0f} MiB on "
            f"{len(budget.devices)} devices, {budget.bytes / 2**20:.0f} MiB are left of memory_limit; give more memory"
        )
    return plan(backend=tiling.backend, outputs=tuple(_even(tiling, axis) for axis in range(2)))


def stream_bytes(tiling: Tiling, budget: Budget) -> int:
    """Memory that a stream takes: on a CPU host and devices share it, else the larger of both.

    Args:
      tiling: its tiles.
      budget: its devices, and the source's values.

    Returns:
      Bytes.
    """
    classes = tiling.prepared.table[-1].output_shape[-1]
    read = math.prod(tiling.extent) * tiling.image_shape[2] * budget.itemsize
    host = (READ_AHEAD + 1) * read + (PENDING_WRITES + 1) * math.prod(tiling.outputs) * classes * 4
    device = IN_FLIGHT * tiles.tile_bytes(tiling)
    return host + len(budget.devices) * device if budget.devices[0].platform == "cpu" else max(host, device)


def _even(tiling: Tiling, axis: int) -> int:
    """Scores of a tile along an axis, such that the last tile is hardly smaller than the others."""
    native, stride = tiling.grid.native[axis], tiling.grid.stride[axis]
    unit = math.lcm(ALIGNMENT, native // math.gcd(native, stride))  # a multiple of what the stride needs
    most = tiling.outputs[axis] // unit * unit
    if tiling.counts[axis] == 1 or not most:
        return tiling.outputs[axis]
    count = -(-tiling.grid.size[axis] // most)
    return -(-tiling.grid.size[axis] // (count * unit)) * unit


def chunk_of(outputs: int) -> int:
    """Scores of a zarr's chunk along an axis: a part of a tile, such that each chunk is written once.

    Args:
      outputs: scores of a tile along the axis.

    Returns:
      At most `LARGEST_CHUNK`; the tile's own size if no number of scores from `ALIGNMENT` on divides it.
    """
    parts = [n for n in range(min(outputs, LARGEST_CHUNK), ALIGNMENT - 1, -1) if outputs % n == 0]
    return parts[0] if parts else outputs


def _parameter_bytes(variables: Variables, devices: Sequence[Any]) -> int:
    copies = len(devices) if devices[0].platform == "cpu" else 1
    return copies * sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
