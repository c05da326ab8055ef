"""Maps that are written block by block."""

import math
import os
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.dense.streaming import own_maps
from cnn.dense.streaming.own_maps import ANEW
from cnn.images import paths
from cnn.images.errors import StorageError
from cnn.images.source import numpy_dtype
from cnn.windows import shape_text

PENDING_WRITES = 2  # blocks that are being written to a zarr array at a time


class Sink:
    """A map of any size that is written block by block, here into an array; sinks that write files derive from it.

    Attributes:
      name: name of the map in messages.
      shape: (h, w, K): rows and columns of scores, and classes.
    """

    def __init__(self, array: Any, name: str, shape: Sequence[int], dtype: np.dtype) -> None:
        """Wraps a writable array; `open_sink` makes files too.

        Args:
          array: [h, w, K], whose dtype holds all values of `dtype` without loss.
          name: name of the map in messages.
          shape: the shape (h, w, K) that the array must have.
          dtype: dtype of the blocks that are written.

        Raises:
          StorageError: if the array has another shape, its dtype does not fit, or it is read-only.
        """
        if not all(hasattr(array, needed) for needed in ("shape", "dtype", "__setitem__")):
            raise StorageError(f"{name}: a sink is a path (.npy, .zarr) or an array that can be written to")
        self.name, self.shape, self._dtype, self._array = name, tuple(shape), dtype, array
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
        """
        low, high = (y, x, 0), (y + block.shape[0], x + block.shape[1], block.shape[2])
        fits = min(low) >= 0 and high[2] == self.shape[2] and all(a <= b for a, b in zip(high, self.shape, strict=True))
        if not fits or block.dtype != self._dtype:
            raise ValueError(
                f"{self.name}: a block {shape_text(block.shape)} of {block.dtype} at ({y}, {x}) does not lie in the "
                f"map {shape_text(self.shape)} of {self._dtype}"
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

    def close(self) -> None:
        """Closes the file, without waiting for the disk."""

    def _put(self, y: int, x: int, block: np.ndarray) -> None:
        self._array[y : y + block.shape[0], x : x + block.shape[1]] = block


class _NpySink(Sink):
    """A .npy file, written row by row, because the pages of a memory map would count as memory of this process."""

    def __init__(self, path: str, shape: Sequence[int], dtype: np.dtype, existing: bool) -> None:
        if not existing:
            # Under another name until its header is on the disk: a file that is replaced stays whole until then, and
            # other names (hard links) of it keep their contents.
            np.lib.format.open_memmap(path + ".part", "w+", dtype, tuple(shape)).flush()
            os.replace(path + ".part", path)
        array = np.lib.format.open_memmap(path, "r+")
        super().__init__(array, path, shape, dtype)
        if not array.flags.c_contiguous:
            raise StorageError(f"{path}: it lies in Fortran order, a map in C order; name another file")
        self._offset = array.offset
        self._array = None
        self._file = open(path, "r+b")  # noqa: SIM115  stays open as long as the sink

    def _put(self, y: int, x: int, block: np.ndarray) -> None:
        row_bytes, pixel_bytes = (math.prod(self.shape[n:]) * self._dtype.itemsize for n in (1, 2))
        for i, row in enumerate(np.ascontiguousarray(block)):
            self._file.seek(self._offset + (y + i) * row_bytes + x * pixel_bytes)
            self._file.write(row.data)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        self._file.flush()
        mapped = np.memmap(self._file.name, self._dtype, "r", self._offset, self.shape)
        return np.array(mapped[rows, columns])

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class _ZarrSink(Sink):
    """A zarr array, written by the threads of TensorStore, which sync the file of each chunk."""

    def __init__(
        self,
        path: str,
        shape: Sequence[int],
        dtype: np.dtype,
        chunk: Sequence[int] | None,
        version: int,
        about: Mapping[str, Any],
    ) -> None:
        """Opens the array, or makes it if there is a shape of its chunks."""
        import tensorstore

        spec: dict[str, Any] = {"kvstore": {"driver": "file", "path": path}}
        if chunk is None:
            version = 3 if (paths.zarr_metadata(path) or "").endswith("zarr.json") else 2
        else:
            # Scores that are not computed yet read as NaN. Chunks are not compressed, as scores would hardly shrink.
            metadata: dict[str, Any] = {"shape": list(shape), "fill_value": "NaN"}
            if version == 3:
                grid = {"name": "regular", "configuration": {"chunk_shape": list(chunk)}}
                metadata |= {"data_type": dtype.name, "chunk_grid": grid, "dimension_names": ["y", "x", "class"]}
                metadata["attributes"] = own_maps.attributes(about)
            else:
                metadata |= {"dtype": dtype.str, "chunks": list(chunk), "compressor": None}
            spec |= {"metadata": metadata, "create": True, "delete_existing": True}
        spec["driver"] = "zarr3" if version == 3 else "zarr"
        super().__init__(tensorstore.open(spec, read=True, write=True).result(), path, shape, dtype)
        if chunk is not None and version == 2:  # TensorStore leaves version 2's attributes, a file of their own, alone
            own_maps.write_attributes(path, about)
        self._pending: deque[Any] = deque()

    def _put(self, y: int, x: int, block: np.ndarray) -> None:
        self._pending.append(self._array[y : y + block.shape[0], x : x + block.shape[1]].write(block))
        while len(self._pending) > PENDING_WRITES:
            self._pending.popleft().result()

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        return np.asarray(self._array[rows, columns].read().result())

    def flush(self) -> None:
        while self._pending:
            self._pending.popleft().result()


def open_sink(
    where: Any,
    shape: Sequence[int],
    dtype: Any = np.float32,
    chunk: Sequence[int] | None = None,
    existing: bool = False,
    overwrite: bool = False,
    zarr_format: int = 3,
    about: Mapping[str, Any] | None = None,
) -> Sink:
    """Opens a map of any size for writing block by block.

    Args:
      where: path of a `.npy` file or a `.zarr` directory, or an array [h, w, K] that can be written to.
      shape: shape (h, w, K) of the map.
      dtype: floating dtype of the map.
      chunk: shape (h, w, K) of the chunks of a zarr array; blocks that cover whole chunks are written fastest. None: at
        most 256x256xK.
      existing: whether to continue an existing file instead of making a new one.
      overwrite: whether an existing map may be replaced; what is no map of this program never is.
      zarr_format: version of the zarr format, 3 or 2.
      about: what a zarr's attributes say of the map (`cnn.dense.streaming.own_maps`).

    Returns:
      A `Sink`, which the caller must close.

    Raises:
      StorageError: if the file exists already or, with `existing`, does not; if it has another shape or dtype, or is
        not a map; if its name has no known suffix; or if the disk has too little room.
    """
    shape, dtype = tuple(int(n) for n in shape), np.dtype(dtype)
    if not isinstance(where, (str, os.PathLike)):
        return Sink(where, f"array of type {type(where).__name__}", shape, dtype)
    path = paths.resolve(where)
    check_place(path, shape, dtype, existing, overwrite, zarr_format)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    try:
        if suffix_of(path) == ".npy":
            return _NpySink(path, shape, dtype, existing)
        chunk = chunk or (min(256, shape[0]), min(256, shape[1]), shape[2])
        return _ZarrSink(path, shape, dtype, None if existing else chunk, zarr_format, about or {})
    except StorageError:
        raise
    except ValueError as error:  # raised by NumPy and TensorStore for files that they cannot open
        raise StorageError(f"{path}: cannot be opened as a map: {error}; {ANEW}") from error


def suffix_of(path: str) -> str:
    """The suffix of a path, in lower case: ".npy" or ".zarr" for maps."""
    return os.path.splitext(path)[1].lower()


def check_place(
    path: str, shape: Sequence[int], dtype: np.dtype, existing: bool, overwrite: bool, zarr_format: int = 3
) -> None:
    """Refuses a place where `open_sink` cannot make or continue a map, before anything is written.

    Args:
      path: path of the map.
      shape: its shape (h, w, K).
      dtype: its dtype.
      existing: whether it is continued.
      overwrite: whether it may be replaced.
      zarr_format: version of the zarr format.

    Raises:
      StorageError: as `open_sink`.
    """
    if suffix_of(path) not in (".npy", ".zarr") or zarr_format not in (2, 3):
        raise StorageError(f"{path}: maps are written as .npy or .zarr (zarr_format 3 or 2, not {zarr_format})")
    there = os.path.lexists(path)
    if existing:
        if not there:
            raise StorageError(f"{path}: it was begun and is gone; {ANEW}")
        return
    if there and not overwrite:
        raise StorageError(f"{path}: it exists; name another, or overwrite=True (--overwrite) replaces it")
    if there:
        own_maps.check_ours(path)
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder):
        if os.path.exists(folder):
            raise StorageError(f"{path}: {folder} is a file, not a directory; name another")
        folder = os.path.dirname(folder)
    needed, free = math.prod(shape) * dtype.itemsize, shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{path}: the map {shape_text(shape)} of {dtype} takes {_bytes_text(needed)}, and {_bytes_text(free)} are "
            "free; name another disk, or take a larger stride"
        )


def _bytes_text(count: int) -> str:
    """A number of bytes in the unit that suits it, such as "4.0 GiB" or "30 bytes"."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count >= 1024**power:
            return f"{count / 1024**power:.1f} {unit}"
    return f"{count} bytes"
