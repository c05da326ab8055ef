"""Maps as .npy files."""

import math
import os
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from cnn.dense.streaming.sinks.base import FileSink
from cnn.images.errors import StorageError


class NpySink(FileSink):
    """A .npy file, written row by row, because the pages of a memory map would count as memory of this process."""

    def __init__(self, path: str, shape: Sequence[int], dtype: np.dtype, existing: bool, complete: bool) -> None:
        """Opens the file, or makes it.

        Args:
          path: path of the file.
          shape: shape (h, w, K) of the map.
          dtype: dtype of its values.
          existing: whether the file is there already.
          complete: whether it is finished, and may be where nothing can be written.

        Raises:
          StorageError: if it is another map, or lies in Fortran order.
        """
        if not existing:
            # Under another name until its header is on the disk: a file that is replaced stays whole until then, and
            # other names (hard links) of it keep their contents.
            try:
                np.lib.format.open_memmap(path + ".part", "w+", dtype, tuple(shape)).flush()
                os.replace(path + ".part", path)
            except BaseException:
                with suppress(OSError):
                    os.remove(path + ".part")
                raise
        array = np.lib.format.open_memmap(path, "c" if complete else "r+")
        super().__init__(array, path, shape, dtype)
        if not array.flags.c_contiguous:
            raise StorageError(f"{path}: it lies in Fortran order, a map in C order; name another file")
        self._offset = array.offset
        self._array = None
        self._file = open(path, "rb" if complete else "r+b")  # noqa: SIM115  stays open as long as the sink

    def _put(self, y: int, x: int, block: np.ndarray) -> None:
        row_bytes, pixel_bytes = (math.prod(self.shape[n:]) * self.dtype.itemsize for n in (1, 2))
        with self._writing():
            for i, row in enumerate(np.ascontiguousarray(block)):
                self._file.seek(self._offset + (y + i) * row_bytes + x * pixel_bytes)
                self._file.write(row.data)

    def _get(self, rows: slice, columns: slice) -> np.ndarray:
        with self._writing():
            self._file.flush()
        mapped = np.memmap(self._file.name, self.dtype, "r", self._offset, self.shape)
        return np.array(mapped[rows, columns])

    def flush(self) -> None:
        with self._writing():
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with suppress(OSError):  # of a full disk, which `flush` has told: what was not flushed is not counted
            self._file.close()
