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
from cnn.dense.streaming.journal import write_journal
from cnn.dense.streaming.source_and_sink import Sink, Source
from cnn.dense.tiles import Tiling
from cnn.nets import Net
from cnn.windows import Pair, shape_text

READ_AHEAD = 2  # tiles read before a device asks for them
IN_FLIGHT = 2  # tiles on a device: one at work, one waiting
JOURNAL_SECONDS = 5.0  # between two waits for the disk: work that a kill may cost, besides the tiles in flight
LOG = logging.getLogger(__name__)


class Job(NamedTuple):
    """What stays the same while tiles shrink.

    Attributes:
      net: the classifier.
      variables: its variables, a copy on each device.
      devices: which tiles are spread over.
      source: the image.
      sink: the map.
      base: the tiles that are counted.
      mean: of the training data, [C], or None.
      std: likewise.
    """

    net: Net
    variables: Sequence[Mapping[str, Any]]
    devices: Sequence[Any]
    source: Source
    sink: Sink
    base: Tiling
    mean: Sequence[float] | None
    std: Sequence[float] | None


class Record:
    """How many tiles are done: in the journal (if there is one) only when they are on the disk.

    Attributes:
      done: tiles whose scores were written, in order.
    """

    def __init__(self, sink: Sink, path: str | None, facts: Mapping[str, Any], done: int) -> None:
        """Begins a journal, or goes on with one.

        Args:
          sink: where the scores go.
          path: of the journal; None: there is none.
          facts: what the journal says besides; its "tiles" is their number.
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


class Piece(NamedTuple):
    """A part of the map that one run of the net computes: its first score, how many are kept, if it ends a tile."""

    start: Pair
    kept: Pair
    last: bool


def run_all(job: Job, tiling: Tiling, plan: Callable[..., Tiling], record: Record, progress: bool) -> int:
    """Computes what is missing; in smaller tiles when memory runs out, which is logged.

    Args:
      job: what is to be done.
      tiling: tiles to begin with, each within one of `job.base`.
      plan: `plan(outputs=...)` gives smaller ones.
      record: what is done already; counts on.
      progress: whether to show a bar.

    Returns:
      How often memory ran out.
    """
    shrunk, total = 0, math.prod(job.base.counts)
    megapixels = [pixels_done(job.base, n) / 1e6 for n in (record.done, total)]
    bar = tqdm(
        total=megapixels[1],
        initial=megapixels[0],
        unit="MP",
        bar_format="{percentage:3.0f}% |{bar}| {n:.1f} of {total:.1f} MP, {elapsed}<{remaining}, {rate_noinv_fmt}",
        mininterval=0.2 if sys.stderr.isatty() else 10,  # in a log file each update is a line
        disable=not progress,
    )
    try:
        while record.done < total:
            try:
                for last in _run(job, tiling, record.done):
                    if last:
                        record.add()
                        bar.update(pixels_done(job.base, record.done) / 1e6 - bar.n)
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                reason = str(error).strip().split("\n")[0] or type(error).__name__
                smaller = _shrink(plan, tiling) if _out_of_memory(error) else None
                if smaller is None:
                    raise
                LOG.warning(
                    "out of memory (%s): tiles of %s scores are cut to %s; going on at tile %d of %d",
                    *(reason, shape_text(tiling.outputs), shape_text(smaller.outputs), record.done + 1, total),
                )
                tiling, shrunk = smaller, shrunk + 1
    except BaseException:
        with suppress(Exception):  # what stopped the stream is the error to be seen
            record.save()
        raise
    finally:
        bar.close()
        job.sink.close()
    return shrunk


def pixels_done(tiling: Tiling, done: int) -> float:
    """The part of an image that the first tiles of its map stand for.

    Args:
      tiling: of the map.
      done: how many tiles.

    Returns:
      Pixels: the image's, times the part of the scores that are in these tiles.
    """
    (height, width), (rows, columns) = tiling.size, tiling.outputs
    whole, rest = divmod(done, tiling.counts[1])
    top, bottom = min(whole * rows, height), min((whole + 1) * rows, height)
    scores = top * width + (bottom - top) * min(rest * columns, width)
    return tiling.image_shape[0] * tiling.image_shape[1] * scores / (height * width)


def _pieces(base: Tiling, tiling: Tiling, first: int) -> Iterator[Piece]:
    """The missing tiles of `base`, in order, each cut into pieces of the size of `tiling`."""
    for index in range(first, math.prod(base.counts)):
        low = [n * size for n, size in zip(divmod(index, base.counts[1]), base.outputs, strict=True)]
        high = [min(a + size, end) for a, size, end in zip(low, base.outputs, base.size, strict=True)]
        ys, xs = (range(a, b, step) for a, b, step in zip(low, high, tiling.outputs, strict=True))
        for y, x in itertools.product(ys, xs):
            kept = (min(tiling.outputs[0], high[0] - y), min(tiling.outputs[1], high[1] - x))
            yield Piece((y, x), kept, (y, x) == (ys[-1], xs[-1]))


def _corner(tiling: Tiling, piece: Piece) -> Pair:
    """The pixel where the input of a piece starts."""
    y, x = (first + n * step for first, n, step in zip(tiling.corner(0, 0), piece.start, tiling.stride, strict=True))
    return y, x


def _run(job: Job, tiling: Tiling, first: int) -> Iterator[bool]:
    """Computes and writes the tiles from `first` on; yields after each piece whether it ends a tile.

    At any moment there are at most READ_AHEAD regions that are read and, for each device, IN_FLIGHT pieces.
    """
    pieces = _pieces(job.base, tiling, first)
    reads: deque[tuple[Piece, Future[np.ndarray]]] = deque()
    running: deque[tuple[Piece, jax.Array]] = deque()
    turns = itertools.cycle(zip(job.devices, job.variables, strict=True))

    def read(piece: Piece) -> np.ndarray:
        y, x = _corner(tiling, piece)
        return job.source.read(y, y + tiling.extent[0], x, x + tiling.extent[1])

    def submit() -> None:
        for piece in itertools.islice(pieces, 1):
            reads.append((piece, reader.submit(read, piece)))

    reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
    try:
        for _ in range(READ_AHEAD):
            submit()
        while reads or running:
            while reads and len(running) < IN_FLIGHT * len(job.devices):
                piece, region = reads.popleft()
                device, variables = next(turns)
                pixels = jax.device_put(region.result(), device)
                submit()
                corner = _corner(tiling, piece)
                scores = tiles.run_tile(job.net, tiling, variables, pixels, corner, job.mean, job.std)
                running.append((piece, scores))
            piece, scores = running.popleft()
            job.sink.write(*piece.start, np.asarray(scores)[: piece.kept[0], : piece.kept[1]])
            yield piece.last
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
