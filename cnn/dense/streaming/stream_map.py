"""The score map of an image of any size, computed tile by tile, from any array or file into another.

Tiles of one fixed shape are run through the net; they overlap by window - stride pixels. Convolutions are
position-invariant, so that the map is, to the bit, that of `score_map(..., position_invariant=True)`, if tiles have at
least `cnn.dense.tiles.LEAST_OUTPUTS` scores along each axis (smaller products are summed in another order). One thread
reads ahead, each device computes one tile while another waits, and scores are written in order.
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
from cnn.dense.prepared import input_channels, prepare_trained
from cnn.dense.streaming import journal as journals
from cnn.dense.streaming.pipeline import IN_FLIGHT, READ_AHEAD, Progress, Task, pixels_done, run_all
from cnn.dense.streaming.source_and_sink import CACHE_BYTES, PENDING_WRITES, Sink, Source, open_sink, open_source
from cnn.dense.tiles import Tiling
from cnn.nets import Net
from cnn.nets.arrays_in import check_floating, constants, number_of, without_mask
from cnn.runtime.byte_sizes import as_bytes
from cnn.windows import Pair, as_pair, shape_text

ALIGNMENT = 64  # scores; larger tiles are multiples of it, so that the chunks of a zarr array divide them
LARGEST_CHUNK = 512  # scores; largest size of a zarr array's chunk along an axis
LOG = logging.getLogger(__name__)

Variables = Mapping[str, Any]


class StreamResult(NamedTuple):
    """What a stream computed, and how fast.

    Attributes:
      shape: (h, w, K) of the map: rows and columns of scores, and classes.
      image_shape: (H, W, C) of the image, pixels.
      window: height and width of a window, pixels.
      stride: distance between neighbouring scores, (vertical, horizontal), pixels. The pixels that each score sees are
        `boxes(net, image_shape, plan_grid(net, image_shape, window, stride), context)`.
      context: what windows see beyond their border: "image", "crop" or "both", as in `ScoreMap`.
      backend: name of the backend that computed the tiles.
      outputs: (rows, columns) of scores of one tile, when the stream began.
      tiles: number of tiles in the whole map.
      tiles_done_before: number of tiles that were in the sink when the stream began.
      shrunk: number of times that memory ran out and the tiles were made smaller.
      seconds: duration of the stream, seconds.
      megapixels_per_second: pixels of the image for which this stream computed scores, divided by its duration; 0 if
        there were none.
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
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    memory_limit: int | str = 2 * 2**30,
    tile: int | Sequence[int] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    devices: Sequence[Any] | None = None,
) -> StreamResult:
    """Class scores of every window of an image of any size, written tile by tile.

    A stream into a file may be stopped in any way. Started again with the same arguments, it continues at its first
    missing tile, and the file ends with the same bytes; a finished stream does nothing. Its journal,
    `NAME.progress.json`, lies beside the file. If memory runs out, the tiles are made smaller, which is logged, and the
    stream continues.

    Args:
      net: a classifier; fully connected layers are converted as needed.
      variables: its variables.
      source: the image, uint8 or floating [H, W] or [H, W, C]: an array that can be sliced, or the path of a .npy,
        zarr, TIFF, JPEG, PNG, ... file; see `cnn.dense.streaming.source_and_sink.open_source`.
      sink: where the map is written, float32 [h, w, K]: the path of a .npy or .zarr file, or a writable array (which
        has no journal).
      window: (height, width) that the net was trained on, pixels.
      stride: distance between windows, one number or (vertical, horizontal), pixels; None: the native stride.
      backend: "auto", "crops", "shift", "atrous" or "mpf", see `score_map`.
      context: "crop" or "image", see `score_map`; None: the context that the backend computes.
      mean: mean of the training data as fractions of the full range of pixel values, one number or C; None: the source
        is floating, and normalised already.
      std: standard deviation of the training data, one number or C; given if and only if `mean` is.
      memory_limit: bytes that tiles, parameters and caches may take in the memory of this machine and, if there are
        accelerators, in the memory of each of them, a number or a text such as "2GB". An array, or a picture that must
        be decoded whole, is not counted.
      tile: number of scores of one tile, one number or (rows, columns); computed in parts if it needs more than the
        memory limit. None: as in an earlier stream into this sink, otherwise as many as fit.
      overwrite: whether to begin anew and replace what the sink holds.
      progress: whether to show a progress bar with megapixels per second.
      devices: the devices that tiles are spread over; None: all local devices.

    Returns:
      A `StreamResult`.

    Raises:
      StorageError: if source or sink cannot be used, or the sink was begun with another net, image or option.
      TypeError: if the source is not floating, and mean and std are not given.
      GeometryError: if window, stride and image do not fit the net, or a layer cannot slide.
      ValueError: if backend or context are unknown, or mean, std or memory limit are not such numbers.
      MemoryError: if no tile stays within the memory limit; or if memory runs out and tiles cannot be made smaller.
    """
    begin = time.monotonic()
    limit = as_bytes(memory_limit, "memory_limit")
    cache_bytes = min(CACHE_BYTES, limit // 8)
    source = without_mask(source, "stream: the source's pixels")
    image = open_source(source, input_channels(net, variables) or number_of(mean), cache_bytes)
    mean, std = constants(mean, std, image.shape[2], "stream", of_bytes=image.dtype == np.uint8)
    if mean is None:
        check_floating(image.dtype, f"{image.name}: its pixels", "; or give mean and std of the training data")
    path = journals.journal_path(sink)
    journal = journals.read_journal(path) if path and not overwrite else None
    if progress:
        tqdm.write(f"{image.name}: {shape_text(image.shape)}; planning tiles", file=sys.stderr)
    devices = list(devices or jax.local_devices())
    prepared = prepare_trained(net, variables, window, image.shape[2], position_invariant=True)
    plan = functools.partial(
        tiles.plan_tiles, prepared, image.shape, stride, context=context, itemsize=image.dtype.itemsize
    )
    budget = Budget(limit - cache_bytes - _parameter_bytes(variables, devices), devices, image.dtype.itemsize)
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
    """Opens the sink, as a new one or to continue an earlier stream, and its journal."""
    path, done = journals.journal_path(sink), journal["done"] if journal else 0
    if overwrite and path:
        with suppress(FileNotFoundError):
            os.remove(path)  # removed before the map, so that it never describes a map that is gone
    chunk = (*(chunk_of(n) for n in counted.outputs), shape[2])
    # A stream that was stopped before its first tile was on the disk makes its file anew.
    target = open_sink(sink, shape, np.float32, chunk, existing=done > 0, overwrite=overwrite or journal is not None)
    facts = {"computes": computes, "map": shape, "tiles": math.prod(counted.counts)}
    return target, Progress(target, path, facts, done)


class Budget(NamedTuple):
    """The memory that tiles may take, and the devices that they run on.

    Attributes:
      bytes: memory for all tiles, bytes.
      devices: the devices that tiles are spread over.
      itemsize: size of one value of the source, bytes.
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

    Tiles that were asked for, or those of a stream that is continued, are computed in parts if the memory limit is
    below what they need; a stream that is continued keeps its backend too.
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


def _describe(
    image: Source, counted: Tiling, mean: Sequence[float] | None, std: Sequence[float] | None
) -> dict[str, Any]:
    """Everything beside the net that the bytes of a map depend on, field by field."""
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
    """Predicted memory of a stream: on a CPU the sum of host and devices, otherwise the larger of host and one device.

    Args:
      tiling: the tiles of the stream.
      budget: the devices, and the size of the source's values.

    Returns:
      Memory, bytes.
    """
    classes = tiling.prepared.table[-1].output_shape[-1]
    read = math.prod(tiling.extent) * tiling.image_shape[2] * budget.itemsize
    host = (READ_AHEAD + 1) * read + (PENDING_WRITES + 1) * math.prod(tiling.outputs) * classes * 4
    device = IN_FLIGHT * tiles.tile_bytes(tiling)
    return host + len(budget.devices) * device if budget.devices[0].platform == "cpu" else max(host, device)


def _even(tiling: Tiling, axis: int) -> int:
    """Number of scores of a tile along an axis with which the last tile is hardly smaller than the others."""
    native, stride = tiling.grid.native[axis], tiling.grid.stride[axis]
    unit = math.lcm(ALIGNMENT, native // math.gcd(native, stride))  # a multiple of the period of the stride
    most = tiling.outputs[axis] // unit * unit
    if tiling.counts[axis] == 1 or not most:
        return tiling.outputs[axis]
    count = -(-tiling.grid.size[axis] // most)
    return -(-tiling.grid.size[axis] // (count * unit)) * unit


def chunk_of(outputs: int) -> int:
    """Size of a zarr array's chunk along an axis: a divisor of the tile's size, so that each chunk is written once.

    Args:
      outputs: number of scores of a tile along the axis.

    Returns:
      Number of scores, at most `LARGEST_CHUNK`; the tile's size if it has no divisor from `ALIGNMENT` to that.
    """
    parts = [n for n in range(min(outputs, LARGEST_CHUNK), ALIGNMENT - 1, -1) if outputs % n == 0]
    return parts[0] if parts else outputs


def _parameter_bytes(variables: Variables, devices: Sequence[Any]) -> int:
    copies = len(devices) if devices[0].platform == "cpu" else 1
    return copies * sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
