"""Images that are read region by region, and maps that are written block by block."""

import hashlib
import math
import os
import shutil
from collections import deque
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnn.dense.blocks import overlap
from cnn.dense.streaming.image_arrays import StorageError, open_file, zarr_metadata
from cnn.windows import shape_text

CACHE_BYTES = 256 * 2**20  # for decoded chunks or segments, which neighbouring regions need again
PENDING_WRITES = 2  # blocks that are being written to a zarr array at a time


class Source:
    """An image of any size that is read region by region.

    Attributes:
      name: name of the image in messages.
      shape: (height, width, channels), pixels.
      dtype: the dtype that `read` returns: uint8 or floating, in native byte order. float64 is read as float32, because
        JAX computes in float32.
    """

    def __init__(self, array: Any, name: str, modified: int | None = None) -> None:
        """Wraps an object with .shape and .dtype that can be sliced; `open_source` opens files too.

        Args:
          array: uint8 or floating [H, W] or [H, W, C].
          name: name of the image in messages.
          modified: time at which the image's file was last changed, nanoseconds; None if there is no file.

        Raises:
          StorageError: if rank or dtype are others.
        """
        if not (hasattr(array, "shape") and hasattr(array, "dtype") and hasattr(array, "__getitem__")):
            raise StorageError(f"{name}: a source is a path or has .shape, .dtype and slices; numpy.asarray makes one")
        if type(array).__module__.startswith("tensorstore"):
            array = array.translate_to[(0,) * array.ndim]  # indices of a TensorStore view need not begin at 0
        self.name, self._array, self._modified = name, array, modified
        shape = tuple(int(n) for n in array.shape)
        if len(shape) not in (2, 3):
            raise StorageError(
                f"{name}: shape {shape} must be [H, W] or [H, W, C]; open it and pass one image of it, e.g. array[0]"
            )
        dtype = numpy_dtype(array, name)
        if dtype != np.uint8 and not jnp.issubdtype(dtype, np.floating):
            top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
            raise StorageError(
                f"{name}: dtype {dtype} must be uint8 or floating; scale it to the range of the training images, "
                f"e.g. (array / {top}).astype(numpy.float32), and pass that"
            )
        self.shape: tuple[int, int, int] = (shape[0], shape[1], 1 if len(shape) == 2 else shape[2])
        self.dtype = np.dtype(np.float32) if dtype == np.float64 else dtype.newbyteorder("=")

    def read(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Reads a region; where it reaches outside the image, it is zero.

        Args:
          y0: first row, pixels; may be negative.
          y1: end of the rows, exclusive, pixels.
          x0: first column, pixels; may be negative.
          x1: end of the columns, exclusive, pixels.

        Returns:
          A new array [y1 - y0, x1 - x0, C], uint8 or floating (`dtype`).
        """
        height, width, channels = self.shape
        (rows, down), (columns, across) = overlap(y0, y1 - y0, height), overlap(x0, x1 - x0, width)
        size = (rows.stop - rows.start, columns.stop - columns.start)
        region = (np.empty if size == (y1 - y0, x1 - x0) else np.zeros)((y1 - y0, x1 - x0, channels), self.dtype)
        if min(size):
            region[down, across] = np.asarray(self._array[rows, columns]).reshape(*size, channels)
        return region

    def identity(self) -> dict[str, Any]:
        """Facts that distinguish this image from others, without reading all of it.

        Returns:
          {"shape", "dtype", "modified": time of the last change of its file or None, "pixels": a hash of 16 patches}.
        """
        digest = hashlib.sha256()
        for y in np.linspace(0, max(0, self.shape[0] - 16), 4, dtype=int).tolist():
            for x in np.linspace(0, max(0, self.shape[1] - 16), 4, dtype=int).tolist():
                digest.update(self.read(y, y + 16, x, x + 16).tobytes())
        return {
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "modified": self._modified,
            "pixels": digest.hexdigest()[:16],
        }


def open_source(what: Any, channels: int | None = None, cache_bytes: int = CACHE_BYTES) -> Source:
    """Opens an image of any size for reading region by region.

    Args:
      what: an array, uint8 or floating [H, W] or [H, W, C], or any other object with .shape and .dtype that can be
        sliced (memory maps, TensorStore, h5py, zarr); or a path: `.npy` (memory-mapped); the directory of a zarr array,
        version 2 or 3; `.tif` or `.tiff` (memory-mapped if it is not compressed, else decoded tile by tile or strip by
        strip); or any other picture that Pillow reads, which is decoded whole, upright and in 8 bits
        (`cnn.data.image_files.decode`).
      channels: number of channels that the net takes, at least 1; None: the number that the image has.
      cache_bytes: largest memory for decoded chunks of a zarr array or segments of a TIFF, bytes.

    Returns:
      The image as a `Source`.

    Raises:
      StorageError: if the file is missing or malformed, or rank, dtype or number of channels do not fit; says what to
        do.
    """
    if isinstance(what, Source):
        source = what
    elif isinstance(what, (str, os.PathLike)):
        path = os.fspath(what)
        source = Source(open_file(path, channels, cache_bytes), path, os.stat(zarr_metadata(path) or path).st_mtime_ns)
    else:
        source = Source(what, f"array of type {type(what).__name__}")
    if channels is not None and source.shape[2] != channels:
        raise StorageError(
            f"{source.name}: {shape_text(source.shape)} has {source.shape[2]} channels, the net takes {channels}; "
            + (f"pass array[..., :{channels}]" if source.shape[2] > channels else "stack them, or take another net")
        )
    return source


def numpy_dtype(array: Any, name: str) -> np.dtype:
    """The dtype of an array of any library, as a NumPy dtype.

    Args:
      array: an object with .dtype.
      name: name of the array, for the error message.

    Returns:
      The NumPy dtype.

    Raises:
      StorageError: if NumPy has no such dtype.
    """
    try:
        return np.dtype(getattr(array.dtype, "numpy_dtype", array.dtype))  # TensorStore has its own dtypes
    except TypeError:
        raise StorageError(f"{name}: dtype {array.dtype} is not NumPy's; pass numpy.asarray(array)") from None


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
        array = np.lib.format.open_memmap(path, "r+" if existing else "w+", dtype, tuple(shape))
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

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class _ZarrSink(Sink):
    """A zarr array, written by the threads of TensorStore, which sync the file of each chunk."""

    def __init__(
        self, path: str, shape: Sequence[int], dtype: np.dtype, existing: bool, chunk: Sequence[int], version: int
    ) -> None:
        import tensorstore

        if existing:
            version = 3 if (zarr_metadata(path) or "").endswith("zarr.json") else 2
        spec: dict[str, Any] = {"driver": "zarr3" if version == 3 else "zarr"}
        spec["kvstore"] = {"driver": "file", "path": path}
        if not existing:
            # Scores that are not computed yet read as NaN. Chunks are not compressed, as scores would hardly shrink.
            metadata: dict[str, Any] = {"shape": list(shape), "fill_value": "NaN"}
            if version == 3:
                grid = {"name": "regular", "configuration": {"chunk_shape": list(chunk)}}
                metadata |= {"data_type": dtype.name, "chunk_grid": grid, "dimension_names": ["y", "x", "class"]}
            else:
                metadata |= {"dtype": dtype.str, "chunks": list(chunk), "compressor": None}
            spec |= {"metadata": metadata, "create": True, "delete_existing": True}
        super().__init__(tensorstore.open(spec, read=True, write=True).result(), path, shape, dtype)
        self._pending: deque[Any] = deque()

    def _put(self, y: int, x: int, block: np.ndarray) -> None:
        self._pending.append(self._array[y : y + block.shape[0], x : x + block.shape[1]].write(block))
        while len(self._pending) > PENDING_WRITES:
            self._pending.popleft().result()

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
) -> Sink:
    """Opens a map of any size for writing block by block.

    Args:
      where: path of a `.npy` file or a `.zarr` directory, or an array [h, w, K] that can be written to.
      shape: shape (h, w, K) of the map.
      dtype: floating dtype of the map.
      chunk: shape (h, w, K) of the chunks of a zarr array; blocks that cover whole chunks are written fastest. None: at
        most 256x256xK.
      existing: whether to continue an existing file instead of making a new one.
      overwrite: whether an existing file may be replaced.
      zarr_format: version of the zarr format, 3 or 2.

    Returns:
      A `Sink`, which the caller must close.

    Raises:
      StorageError: if the file exists already or, with `existing`, does not; if it has another shape or dtype, or is
        not a map; if its name has no known suffix; or if the disk has too little room.
    """
    shape, dtype = tuple(int(n) for n in shape), np.dtype(dtype)
    if not isinstance(where, (str, os.PathLike)):
        return Sink(where, f"array of type {type(where).__name__}", shape, dtype)
    path = os.fspath(where).rstrip(os.sep)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (".npy", ".zarr") or zarr_format not in (2, 3):
        raise StorageError(f"{path}: maps are written as .npy or .zarr (zarr_format 3 or 2, not {zarr_format})")
    there = os.path.lexists(path)
    if existing and not there:
        raise StorageError(f"{path}: it was begun and is gone; overwrite=True begins anew")
    if there and not existing:
        if not overwrite:
            raise StorageError(f"{path}: it exists; name another, or overwrite=True replaces it")
        if not (os.path.isfile(path) if suffix == ".npy" else zarr_metadata(path)):
            raise StorageError(f"{path}: it is no {suffix} map, and is not replaced; name another")
    if not there:
        folder = os.path.dirname(os.path.abspath(path))
        os.makedirs(folder, exist_ok=True)
        needed, free = math.prod(shape) * dtype.itemsize, shutil.disk_usage(folder).free
        if needed > free:
            raise StorageError(
                f"{path}: the map {shape_text(shape)} of {dtype} takes {needed / 2**30:.1f} GiB, and "
                f"{free / 2**30:.1f} GiB are free; name another disk, or take a larger stride"
            )
    try:
        if suffix == ".npy":
            return _NpySink(path, shape, dtype, existing)
        chunk = chunk or (min(256, shape[0]), min(256, shape[1]), shape[2])
        return _ZarrSink(path, shape, dtype, existing, chunk, zarr_format)
    except StorageError:
        raise
    except ValueError as error:  # raised by NumPy and TensorStore for files that they cannot open
        raise StorageError(f"{path}: cannot be opened as a map: {error}") from error
