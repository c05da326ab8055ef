"""Pyramids of maps: a folder of zarr arrays "0", "1", ... with axes c, y, x, each half as large as the one before."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from cnn.dense.streaming.sinks import zarr_arrays
from cnn.dense.streaming.sinks.zarr_arrays import PENDING_WRITES, READ_CACHE
from cnn.windows import Pair

SMALLEST = 256  # scores; a level whose sides are no longer is the last
FEW = 32  # classes; up to as many have chunks of their own each
CHUNK_BYTES = 2**22  # most of a chunk of several classes
AXES = ("c", "y", "x")


def level_sizes(size: Sequence[int]) -> list[Pair]:
    """The sizes of all levels.

    Args:
      size: (h, w) of the map, scores.

    Returns:
      (h, w) of each level, the map's own first; sides are halved and rounded up.
    """
    sizes = [(int(size[0]), int(size[1]))]
    while max(sizes[-1]) > SMALLEST:
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


def create_level(folder: str, level: int, shape: Sequence[int], dtype: np.dtype, chunk: Pair, planes: int = 0) -> Any:
    """Makes one level of a pyramid.

    Args:
      folder: path of the pyramid.
      level: which level.
      shape: (K, h, w).
      dtype: dtype of its values.
      chunk: height and width of its chunks, scores.
      planes: number of classes of a chunk; 0: one for maps of few classes, else as many as `CHUNK_BYTES` hold.

    Returns:
      A TensorStore [K, h, w].
    """
    fitting = max(1, CHUNK_BYTES // (chunk[0] * chunk[1] * dtype.itemsize))
    planes = planes or (1 if shape[0] <= FEW else min(shape[0], fitting))
    return zarr_arrays.create(os.path.join(folder, str(level)), shape, dtype, (planes, *chunk), AXES)


def open_level(folder: str, level: int, write: bool = False, cache_bytes: int = 0) -> Any:
    """Opens one level of a pyramid: a TensorStore [K, h, w]; the arguments are those of `zarr_arrays.open_array`."""
    return zarr_arrays.open_array(os.path.join(folder, str(level)), write, cache_bytes)


def build(folder: str, classes: bool) -> np.ndarray:
    """Makes all further levels of a pyramid from its level 0, in bounded memory.

    Args:
      folder: path of the pyramid.
      classes: whether the map holds a class and its probability (`halve_classes`), not scores (`halve`).

    Returns:
      Smallest and largest finite value of each class in level 0, float64 [K, 2]; NaN where there is none.
    """
    before = open_level(folder, 0, cache_bytes=READ_CACHE)
    found = np.tile(np.array([np.inf, -np.inf]), (before.shape[0], 1))
    for level, size in enumerate(level_sizes(before.shape[1:])):
        if level == 0 and len(level_sizes(size)) > 1:
            continue  # its values are seen while the next level is made
        dtype = np.dtype(before.dtype.numpy_dtype)
        planes, *sides = before.chunk_layout.write_chunk.shape
        chunk = (int(sides[0]), int(sides[1]))
        new = None if level == 0 else create_level(folder, level, (before.shape[0], *size), dtype, chunk, planes)
        pending: deque[Any] = deque()
        try:
            for part in _parts(before.shape[0], size, 2 if classes else planes, chunk):
                block = np.asarray(before[_twice(part, before) if new is not None else part].read().result())
                if level <= 1:
                    _note(found[part[0]], block)
                if new is not None:
                    pending.append(new[part].write(halve_classes(block) if classes else halve(block)))
                while len(pending) > PENDING_WRITES:
                    pending.popleft().result()
            while pending:
                pending.popleft().result()
        finally:  # after a stop nothing writes any more: the next stream makes the level anew
            for writing in pending:
                with suppress(Exception):
                    writing.result()
        before = before if new is None else open_level(folder, level, cache_bytes=READ_CACHE)
    return np.where(np.isfinite(found), found, np.nan)


def _parts(planes: int, size: Pair, depth: int, chunk: Sequence[int]) -> Iterator[tuple[slice, slice, slice]]:
    """The parts [classes, rows, columns] of a level that are made one at a time: whole chunks."""
    for k in range(0, planes, depth):
        for y in range(0, size[0], chunk[0]):
            for x in range(0, size[1], chunk[1]):
                yield (
                    slice(k, min(k + depth, planes)),
                    slice(y, min(y + chunk[0], size[0])),
                    slice(x, min(x + chunk[1], size[1])),
                )


def _twice(part: tuple[slice, slice, slice], before: Any) -> tuple[slice, slice, slice]:
    """The part of the level before, of which a part is made."""
    rows, columns = (slice(2 * p.start, min(2 * p.stop, n)) for p, n in zip(part[1:], before.shape[1:], strict=True))
    return part[0], rows, columns


def _note(found: np.ndarray, block: np.ndarray) -> None:
    """Takes the values of a block into the smallest and largest of each class."""
    values = block.reshape(len(block), -1).astype(np.float64)
    known = np.isfinite(values)
    found[:, 0] = np.minimum(found[:, 0], np.where(known, values, np.inf).min(axis=1))
    found[:, 1] = np.maximum(found[:, 1], np.where(known, values, -np.inf).max(axis=1))


def _fours(block: np.ndarray, fill: float) -> np.ndarray:
    """Squares of four neighbours, [K, rows, columns, 4] from [K, h, w]; beyond an odd border there is `fill`."""
    planes, height, width = block.shape
    padded = np.pad(block, ((0, 0), (0, height % 2), (0, width % 2)), constant_values=fill)
    squares = padded.reshape(planes, -(-height // 2), 2, -(-width // 2), 2)
    return np.moveaxis(squares, 2, 3).reshape(planes, -(-height // 2), -(-width // 2), 4)


def halve(block: np.ndarray) -> np.ndarray:
    """Half as many scores along each axis: the mean of the known ones of each four.

    Args:
      block: floating [K, h, w].

    Returns:
      Same dtype, [K, ceil(h / 2), ceil(w / 2)]; NaN where all four are NaN.
    """
    fours = _fours(block.astype(np.float32), np.nan)
    known = ~np.isnan(fours)
    with np.errstate(invalid="ignore"):  # of no scores, or of infinities of both signs, there is no mean: NaN
        mean = np.where(known, fours, 0).sum(axis=-1) / known.sum(axis=-1).astype(np.float32)
    return mean.astype(block.dtype)


def halve_classes(block: np.ndarray) -> np.ndarray:
    """Half as many windows along each axis: of each four the one whose class is the most probable, the first of equals.

    Args:
      block: unsigned [2, h, w]: the class, the dtype's largest value where there is none, and its probability.

    Returns:
      Same dtype, [2, ceil(h / 2), ceil(w / 2)].
    """
    none = np.iinfo(block.dtype).max
    classes, probability = _fours(block, none)
    ranked = np.where(classes == none, -1, probability.astype(np.int64))
    best = ranked.argmax(axis=-1)[..., None]
    chosen = [np.take_along_axis(values, best, axis=-1)[..., 0] for values in (classes, probability)]
    return np.stack(chosen)
