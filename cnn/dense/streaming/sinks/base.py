"""The interface of all sinks, which is the sink into an array, and what sinks of files have in common."""

import contextlib
import errno
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnn.images.dtypes import numpy_dtype
from cnn.images.errors import StorageError
from cnn.windows import shape_text

_ANNOTATIONS = re.compile(r" \[(tensorstore_spec|source locations|os_error_code)=.*")
AGAIN = "the same call continues where it stopped"  # the way out of a disk that is full


class Sink:
    """A map of any size that is written block by block, here into an array; sinks that write files derive from it.

    Attributes:
      name: name of the map in messages.
      shape: (h, w, K): rows and columns of scores, and classes.
      dtype: dtype of its values.
      unfinished: whether `finish` has work to do once all blocks are on the disk.
    """

    unfinished = False

    def __init__(self, array: Any, name: str, shape: Sequence[int], dtype: np.dtype) -> None:
        """Wraps a writable array; `cnn.dense.streaming.sink.open_sink` makes files too.

        Args:
          array: [h, w, K], whose dtype holds all values of `dtype` without loss.
          name: name of the map in messages.
          shape: the shape (h, w, K) that the array must have.
          dtype: dtype of the blocks that are written.

        Raises:
          StorageError: if the array has another shape, its dtype does not fit, or it is read-only.
        """
        if not all(hasattr(array, needed) for needed in ("shape", "dtype", "__setitem__")):
            raise StorageError(
                f"{name}: a sink is a path (.npy, .zarr, .ome.zarr, .tif) or an array that can be written to"
            )
        self.name, self.shape, self.dtype, self._array = name, tuple(shape), np.dtype(dtype), array
        if tuple(array.shape) != self.shape or not np.can_cast(dtype, numpy_dtype(array, name), "safe"):
            raise StorageError(
                f"{name}: it is {shape_text(array.shape)} of {array.dtype}, the map is {shape_text(shape)} of {dtype}; "
                "make one like it, or name another"
            )
        if isinstance(array, np.ndarray) and not array.flags.writeable:
            raise StorageError(f"{name}: it is read-only; pass a copy, or open it for writing")

    def write(self, y: int, x: int, block: np.ndarray) -> None:
        """Writes a block into the map; only after `flush` is it certain to be on the disk.

        Args:
          y: first row of the map, scores.
          x: first column of the map, scores.
          block: scores [rows, columns, K] in the map's dtype; must not be changed until `flush`.

        Raises:
          ValueError: if the block has another dtype or does not lie within the map.
          StorageError: if a file cannot be written; says why, and the way out.
        """
        low, high = (y, x, 0), (y + block.shape[0], x + block.shape[1], block.shape[2])
        fits = min(low) >= 0 and high[2] == self.shape[2] and all(a <= b for a, b in zip(high, self.shape, strict=True))
        if not fits or block.dtype != self.dtype:
            raise ValueError(
                f"{self.name}: a block {shape_text(block.shape)} of {block.dtype} at ({y}, {x}) does not lie in the "
                f"map {shape_text(self.shape)} of {self.dtype}"
            )
        self._put(y, x, block)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Reads a part of the map; of blocks that are still being written, `flush` must have been waited for.

        Args:
          rows, columns: the part, scores.

        Returns:
          Scores [rows, columns, K].
        """
        return np.asarray(self._array[rows, columns])

    def flush(self) -> None:
        """Waits until all blocks that were written are on the disk."""
        if hasattr(self._array, "flush"):
            self._array.flush()

    def finish(self) -> None:
        """Makes of the blocks what the file has beside them, such as a pyramid; may be repeated after any stop."""

    def tidy(self) -> None:
        """Removes what was only needed until the map was finished; the journal must say already that it is."""

    def digest(self) -> str:
        """What `finish` made, as `cnn.dense.streaming.beside.digest` has it; "" where it makes nothing."""
        return ""

    def make_anew(self) -> bool:
        """Makes that once more of the blocks of a finished map.

        Returns:
          Whether this kind of map can.
        """
        return False

    def close(self) -> None:
        """Closes the file, without waiting for the disk."""

    def _put(self, y: int, x: int, block: np.ndarray) -> None:
        self._array[y : y + block.shape[0], x : x + block.shape[1]] = block


class FileSink(Sink):
    """What sinks of files have in common: once something could not be written, nothing counts as written any more.

    A block may fail after it was passed on, and a second `flush` would no longer know of it.
    """

    _failed = ""

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        with reading(self.name, rows, columns):
            return self._get(rows, columns)

    def _get(self, rows: slice, columns: slice) -> np.ndarray:
        raise NotImplementedError  # each format has its own

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        if self._failed:
            raise StorageError(self._failed)
        try:
            with writing(self.name):
                yield
        except Exception as error:
            self._failed = str(error)
            raise


def plain(error: Exception) -> str:
    """The text of an error in a line, without the annotations that TensorStore adds, such as all of an array's spec.

    Args:
      error: the error.

    Returns:
      The text.
    """
    return _ANNOTATIONS.sub("", " ".join(str(error).split()))


@contextlib.contextmanager
def writing(name: str) -> Iterator[None]:
    """Errors of the system and of TensorStore while a map is written, as one line that names the map.

    Args:
      name: name of the map.

    Raises:
      StorageError: in their place.
    """
    try:
        yield
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        way = f"make room on the disk; {AGAIN}" if full else f"when the cause is gone, {AGAIN}"
        raise StorageError(f"{name}: cannot be written: {plain(error)}; {way}") from error


@contextlib.contextmanager
def reading(name: str, rows: slice, columns: slice) -> Iterator[None]:
    """Errors of a damaged map while a part of it is read, as one line that names map and part.

    Args:
      name: name of the map.
      rows, columns: the part, scores.

    Raises:
      StorageError: in their place.
    """
    try:
        yield
    except (StorageError, MemoryError):
        raise
    except Exception as error:  # of TensorStore, of TIFF's codecs and of the system, of many kinds
        raise StorageError(
            f"{name}: rows {rows.start} to {rows.stop}, columns {columns.start} to {columns.stop} of the map cannot be "
            f"read: {plain(error)}; overwrite=True (--overwrite) computes it anew"
        ) from error


@contextlib.contextmanager
def reading_beside(name: str) -> Iterator[None]:
    """Errors of the system while what a map holds beside its scores is read, as one line that names the map.

    Args:
      name: name of the map.

    Raises:
      StorageError: in their place.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{name}: {error.filename or 'a file of it'} cannot be read: {error.strerror or error}; restore it, or "
            "overwrite=True (--overwrite) computes the map anew"
        ) from error
