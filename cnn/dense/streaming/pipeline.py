"""The pipeline of tiles: read ahead, computed on all devices, written in order, counted when they are on the disk."""

import itertools
import logging
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from cnn.dense import tile_runs, tiles
from cnn.dense.blocks import Tile
from cnn.dense.streaming import fingerprints
from cnn.dense.streaming.progress import Progress
from cnn.dense.streaming.sinks.base import Sink
from cnn.dense.streaming.skipping import Skipping
from cnn.dense.streaming.written import Written
from cnn.dense.tiles import Tiling
from cnn.images import ranges
from cnn.images.errors import StorageError
from cnn.images.source import Source
from cnn.runtime import locks
from cnn.windows import Pair, shape_text

READ_AHEAD = 2  # tiles that are read before a device needs them
IN_FLIGHT = 2  # tiles on each device: one is being computed, one is waiting
LOG = logging.getLogger(__name__)
_NOTHING = np.zeros((0, 0, 0), np.uint8)


class Task(NamedTuple):
    """The parts of a stream that stay the same when tiles are made smaller.

    Attributes:
      variables: the classifier's variables, one copy on each device.
      devices: the devices that tiles are spread over.
      source: the image that is read.
      sink: the map that is written.
      counted: the tiles that the journal counts.
      journalled: whether there is a journal, which keeps fingerprints of what tiles read and wrote.
      mean: mean of the training data, C numbers; None if the source is normalised.
      std: standard deviation of the training data, C numbers; None if the source is normalised.
      written: what of the scores is written into the sink.
      skipping: how windows are left out; None: none is.
    """

    variables: Sequence[Mapping[str, Any]]
    devices: Sequence[Any]
    source: Source
    sink: Sink
    counted: Tiling
    journalled: bool
    mean: Sequence[float] | None
    std: Sequence[float] | None
    written: Written
    skipping: Skipping | None = None


def run_all(
    task: Task, tiling: Tiling, plan: Callable[..., Tiling], progress: Progress, show: bool
) -> tuple[int, Tiling]:
    """Computes the missing tiles; when memory runs out it continues with smaller ones, which is logged.

    Args:
      task: what is to be computed, on which devices, from which source into which sink.
      tiling: the tiles to begin with; each lies within one tile of `task.counted`.
      plan: `plan(outputs=...)` makes a tiling with smaller tiles.
      progress: number of tiles that are done already; is updated.
      show: whether to show a progress bar.

    Returns:
      (number of times that memory ran out, the tiles at the end).
    """
    shrunk, total = 0, math.prod(task.counted.counts)
    bar = _bar(task.counted, progress.next, show)
    try:
        while progress.next < total:
            try:
                for checksums in _run(task, tiling, progress.next, progress.step):
                    if checksums:
                        progress.add(*checksums)
                        bar.set_description_str("", refresh=False)
                        bar.update(pixels_done(task.counted, min(progress.next, total)) / 1e6 - bar.n)
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                reason = str(error).strip().split("\n")[0] or type(error).__name__
                smaller = _shrink(plan, tiling) if _out_of_memory(error) else None
                if smaller is None:
                    raise
                LOG.warning(
                    "out of memory (%s): tiles of %s scores are cut to %s; going on at tile %d of %d",
                    *(reason, shape_text(tiling.outputs), shape_text(smaller.outputs), progress.next + 1, total),
                )
                tiling, shrunk = smaller, shrunk + 1
        progress.finish()
    except locks.Lost:
        raise
    except BaseException:
        with suppress(Exception):  # the error that stopped the stream must not be hidden by a second one
            progress.save()
        raise
    finally:
        bar.close()
        task.sink.close()
    return shrunk, tiling


def _bar(tiling: Tiling, done: int, show: bool) -> tqdm:
    """The progress bar, in megapixels; until the first tile is done it says that the program is being compiled."""
    return tqdm(
        total=pixels_done(tiling, math.prod(tiling.counts)) / 1e6,
        initial=pixels_done(tiling, done) / 1e6,
        desc="compiling, reading the first tile",
        unit="MP",
        bar_format="{desc}{percentage:3.0f}% |{bar}| {n:.1f} of {total:.1f} MP, "
        "{elapsed}<{remaining}, {rate_noinv_fmt}",
        mininterval=0.2 if sys.stderr.isatty() else 10,  # in a log file each update is a line
        disable=not show,
    )


def pixels_done(tiling: Tiling, done: int) -> float:
    """The number of pixels of an image that correspond to the first tiles of its map.

    Args:
      tiling: the tiles of the map.
      done: number of tiles, counted from the first.

    Returns:
      Number of pixels of the image, times the fraction of all scores that are in these tiles.
    """
    (height, width), (rows, columns) = tiling.grid.size, tiling.cuts
    whole, rest = divmod(done, columns.count)
    top, bottom = rows.written(whole), rows.written(min(whole + 1, rows.count))
    scores = top * width + (bottom - top) * columns.written(rest)
    return tiling.image_shape[0] * tiling.image_shape[1] * scores / (height * width)


def _pieces(counted: Tiling, tiling: Tiling, first: int, step: int) -> Iterator[tuple[Tile, Tile | None]]:
    """Every `step`-th tile of `counted` from `first` on, in pieces of `tiling`, and the tile that each is last of."""
    for tile in itertools.islice(counted.tiles(), first, None, step):
        for piece in tiling.tiles(within=tile):
            last = all(a.stop == b.stop for a, b in zip(piece.write, tile.write, strict=True))
            yield piece, tile if last else None


class _Read(NamedTuple):
    """What was read for a piece: its pixels, their checksum if it is a whole tile, and the scores that are left out."""

    pixels: np.ndarray
    checksum: int | None
    skipped: np.ndarray | None


def _run(task: Task, tiling: Tiling, first: int, step: int) -> Iterator[tuple[int, int, int, bool] | None]:
    """Computes and writes every `step`-th tile from `first` on; yields after each piece what `Progress.add` takes, if
    it is the tile's last.

    At any time at most READ_AHEAD regions are being read or wait, and at most IN_FLIGHT pieces are on each device.
    """
    pieces = _pieces(task.counted, tiling, first, step)
    reads: deque[tuple[Tile, Tile | None, Future[_Read]]] = deque()
    running: deque[tuple[Tile, Tile | None, jax.Array | None, _Read]] = deque()
    turns = itertools.cycle(zip(task.devices, task.variables, strict=True))
    whole = task.journalled and tiling.outputs == task.counted.outputs
    skipped = 0  # windows of the tile whose pieces are being written

    def submit() -> None:
        for piece, last in itertools.islice(pieces, 1):
            reads.append((piece, last, reader.submit(_read, task, piece, tiling.like(piece).extent, whole)))

    reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
    try:
        for _ in range(READ_AHEAD):
            submit()
        while reads or running:
            while reads and len(running) < IN_FLIGHT * len(task.devices):
                piece, last, region = reads.popleft()
                read, scores = region.result(), None
                submit()
                if read.skipped is None or not read.skipped.all():
                    device, variables = next(turns)
                    pixels = jax.device_put(read.pixels, device)
                    given = (piece.corner, task.mean, task.std, task.source.value_range)
                    scores = tile_runs.run_tile(tiling.like(piece), variables, pixels, *given)
                    del pixels
                running.append((piece, last, scores, read._replace(pixels=_NOTHING)))
            piece, last, scores, read = running.popleft()
            try:
                block = task.written.of(_block(tiling, piece, scores, read.skipped))
            except StorageError as error:
                raise StorageError(f"{task.sink.name}: {error}") from error
            locks.check()  # another stream has taken the map over, if this process stood still for long
            task.sink.write(piece.rows.write.start, piece.columns.write.start, block)
            skipped += 0 if read.skipped is None else int(read.skipped.sum())
            if last is None:
                yield None
            else:
                count = math.prod(part.stop - part.start for part in last.write)
                yield *_checksums(task, last, block, read.checksum), skipped, skipped == count
                skipped = 0
    finally:
        reader.shutdown(cancel_futures=True)


def _read(task: Task, piece: Tile, extent: Pair, whole: bool) -> _Read:
    """Reads the pixels of a piece, and sees which of its windows are left out."""
    (y, x), (height, width) = piece.corner, extent
    pixels = task.source.read(y, y + height, x, x + width)
    if task.mean is not None and not task.source.said and jnp.issubdtype(pixels.dtype, jnp.floating):
        ranges.check_fractions(pixels, task.source.name)
    valid = task.skipping.valid(task.source, piece.corner, extent, pixels) if task.skipping else None
    skipped = task.skipping.skipped(task.source, piece, pixels, valid) if task.skipping else None
    return _Read(pixels, fingerprints.of_read(pixels, valid) if whole else None, skipped)


def _block(tiling: Tiling, piece: Tile, scores: jax.Array | None, skipped: np.ndarray | None) -> np.ndarray:
    """The scores of a piece, float32 [h, w, K]; NaN where they are left out."""
    if scores is None:
        size = (part.stop - part.start for part in piece.write)
        return np.full((*size, tiling.prepared.table[-1].output_shape[-1]), np.nan, np.float32)
    block = np.asarray(scores, np.float32)[piece.keep]  # a net in half precision has scores in half precision
    if skipped is not None:
        block = block.copy()  # what JAX gives cannot be written to
        block[skipped] = np.nan
    return block


def _checksums(task: Task, tile: Tile, block: np.ndarray, read: int | None) -> tuple[int, int]:
    """Checksums of a tile's pixels and scores; those of one that was run in pieces are read anew."""
    if not task.journalled:
        return 0, 0
    if read is not None:
        return read, fingerprints.checksum(block)
    task.sink.flush()
    extent = task.counted.like(tile).extent
    read = fingerprints.of_pixels(task.source, tile, extent, task.skipping)
    return read, fingerprints.of_scores(task.sink, tile)


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _shrink(plan: Callable[..., Tiling], tiling: Tiling) -> Tiling | None:
    """A tiling with half the scores along the longer axis, or else along the other; None if neither can be halved."""
    for axis in sorted((0, 1), key=lambda axis: -tiling.outputs[axis]):
        outputs = list(tiling.outputs)
        outputs[axis] //= 2
        if outputs[axis] >= tiles.LEAST_OUTPUTS:
            smaller = plan(outputs=(outputs[0], outputs[1]))
            if smaller.outputs[axis] < tiling.outputs[axis]:
                return smaller
    return None
