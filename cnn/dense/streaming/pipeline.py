"""Tiles through devices: read ahead, computed a few at a time, written in order, counted when they are on the disk."""

import itertools
import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from cnn.dense import tiles
from cnn.dense.blocks import Tile
from cnn.dense.streaming.journal import write_journal
from cnn.dense.streaming.source_and_sink import Sink, Source
from cnn.dense.tiles import Tiling
from cnn.windows import Pair, shape_text

READ_AHEAD = 2  # tiles read before a device asks for them
IN_FLIGHT = 2  # tiles on a device: one at work, one waiting
JOURNAL_SECONDS = 5.0  # between two waits for the disk: work that a kill may cost, besides the tiles in flight
LOG = logging.getLogger(__name__)


class Task(NamedTuple):
    """What stays the same while tiles shrink.

    Attributes:
      variables: the classifier's, a copy on each device.
      devices: the devices that tiles are spread over.
      source: the image.
      sink: the map.
      counted: the tiles that the journal counts.
      mean: mean of the training data, [C], or None.
      std: its standard deviation, [C], or None.
    """

    variables: Sequence[Mapping[str, Any]]
    devices: Sequence[Any]
    source: Source
    sink: Sink
    counted: Tiling
    mean: Sequence[float] | None
    std: Sequence[float] | None


class Progress:
    """How many tiles are done: in the journal (if there is one) only when they are on the disk.

    Attributes:
      done: tiles whose scores were written, in order.
    """

    def __init__(self, sink: Sink, path: str | None, facts: Mapping[str, Any], done: int) -> None:
        """Begins a journal, or goes on with one.

        Args:
          sink: where the scores go.
          path: path of the journal; None: the sink has none.
          facts: what the journal says besides; its "tiles" is the number of tiles.
          done: how many of them are in the sink.
        """
        self.done, self._saved = done, done
        self._sink, self._path, self._facts = sink, path, facts
        self._time = time.monotonic()
        if done == 0:
            self._write()

    def add(self) -> None:
        """Counts a tile whose scores were written."""
        self.done += 1
        if time.monotonic() >= self._time + JOURNAL_SECONDS or self.done == self._facts["tiles"]:
            self.save()

    def save(self) -> None:
        """Waits for the disk, then counts."""
        if self._saved < self.done:
            self._sink.flush()
            self._write()

    def _write(self) -> None:
        if self._path:
            complete = self.done == self._facts["tiles"]
            write_journal(self._path, {**self._facts, "done": self.done, "complete": complete})
        self._saved, self._time = self.done, time.monotonic()


def run_all(task: Task, tiling: Tiling, plan: Callable[..., Tiling], progress: Progress, show: bool) -> int:
    """Computes the missing tiles; in smaller ones when memory runs out, which is logged.

    Args:
      task: what is to be done.
      tiling: tiles to begin with, each within one of `task.counted`.
      plan: `plan(outputs=...)` gives smaller ones.
      progress: which tiles are done already; counts on.
      show: whether to show a bar.

    Returns:
      How often memory ran out.
    """
    shrunk, total = 0, math.prod(task.counted.counts)
    bar = _bar(task.counted, progress.done, show)
    try:
        while progress.done < total:
            try:
                for last in _run(task, tiling, progress.done):
                    if last:
                        progress.add()
                        bar.set_description_str("", refresh=False)
                        bar.update(pixels_done(task.counted, progress.done) / 1e6 - bar.n)
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                reason = str(error).strip().split("\n")[0] or type(error).__name__
                smaller = _shrink(plan, tiling) if _out_of_memory(error) else None
                if smaller is None:
                    raise
                LOG.warning(
                    "out of memory (%s): tiles of %s scores are cut to %s; going on at tile %d of %d",
                    *(reason, shape_text(tiling.outputs), shape_text(smaller.outputs), progress.done + 1, total),
                )
                tiling, shrunk = smaller, shrunk + 1
    except BaseException:
        with suppress(Exception):  # what stopped the stream is the error to be seen
            progress.save()
        raise
    finally:
        bar.close()
        task.sink.close()
    return shrunk


def _bar(tiling: Tiling, done: int, show: bool) -> tqdm:
    """The bar of megapixels; until the first tile is done it says what takes so long."""
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
    """The part of an image that the first tiles of its map stand for.

    Args:
      tiling: the tiles of the map.
      done: how many of them.

    Returns:
      Pixels: the image's, times the part of the scores that are in these tiles.
    """
    (height, width), (rows, columns) = tiling.grid.size, tiling.outputs
    whole, rest = divmod(done, tiling.counts[1])
    top, bottom = min(whole * rows, height), min((whole + 1) * rows, height)
    scores = top * width + (bottom - top) * min(rest * columns, width)
    return tiling.image_shape[0] * tiling.image_shape[1] * scores / (height * width)


def _pieces(counted: Tiling, tiling: Tiling, first: int) -> Iterator[tuple[Tile, bool]]:
    """The missing tiles of `counted`, in order, each cut into tiles of `tiling`; and whether that was its last."""
    for tile in itertools.islice(counted.tiles(), first, None):
        for piece in tiling.tiles(within=tile):
            yield piece, all(a.stop == b.stop for a, b in zip(piece.write, tile.write, strict=True))


def _run(task: Task, tiling: Tiling, first: int) -> Iterator[bool]:
    """Computes and writes the tiles from `first` on; yields after each piece whether it ends a tile.

    At any moment there are at most READ_AHEAD regions that are read and, for each device, IN_FLIGHT pieces.
    """
    pieces = _pieces(task.counted, tiling, first)
    reads: deque[tuple[Tile, bool, Future[np.ndarray]]] = deque()
    running: deque[tuple[Tile, bool, jax.Array]] = deque()
    turns = itertools.cycle(zip(task.devices, task.variables, strict=True))

    def read(corner: Pair) -> np.ndarray:
        (y, x), (height, width) = corner, tiling.extent
        return task.source.read(y, y + height, x, x + width)

    def submit() -> None:
        for piece, last in itertools.islice(pieces, 1):
            reads.append((piece, last, reader.submit(read, piece.corner)))

    reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
    try:
        for _ in range(READ_AHEAD):
            submit()
        while reads or running:
            while reads and len(running) < IN_FLIGHT * len(task.devices):
                piece, last, region = reads.popleft()
                device, variables = next(turns)
                pixels = jax.device_put(region.result(), device)
                submit()
                scores = tiles.run_tile(tiling, variables, pixels, piece.corner, task.mean, task.std)
                running.append((piece, last, scores))
            piece, last, scores = running.popleft()
            task.sink.write(piece.rows.write.start, piece.columns.write.start, np.asarray(scores)[piece.keep])
            yield last
    finally:
        reader.shutdown(cancel_futures=True)


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _shrink(plan: Callable[..., Tiling], tiling: Tiling) -> Tiling | None:
    """Half the scores along the longer axis, or along the other if that one cannot be halved; None: neither can."""
    for axis in sorted((0, 1), key=lambda axis: -tiling.outputs[axis]):
        outputs = list(tiling.outputs)
        outputs[axis] //= 2
        if outputs[axis] >= tiles.LEAST_OUTPUTS:
            smaller = plan(outputs=(outputs[0], outputs[1]))
            if smaller.outputs[axis] < tiling.outputs[axis]:
                return smaller
    return None
