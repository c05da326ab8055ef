"""Maps as zarr arrays, which TensorStore writes; it is imported where it is used, because it takes long to import.

Arrays are written without sharding, which GDAL does not read.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.dense.streaming import map_files
from cnn.dense.streaming.sinks.base import FileSink
from cnn.images import paths

PENDING_WRITES = 2  # blocks that are being written to a zarr array at a time
READ_CACHE = 2**24  # bytes of decoded chunks that are kept while a pyramid is made


def create(
    path: str,
    shape: Sequence[int],
    dtype: np.dtype,
    chunk: Sequence[int],
    names: Sequence[str],
    version: int = 3,
    attributes: Mapping[str, Any] | None = None,
) -> Any:
    """Makes a zarr array, in place of whatever zarr array is there.

    Args:
      path: path of its directory.
      shape: its shape.
      dtype: its dtype. Values that are not written read as NaN, of unsigned dtypes as the largest value.
      chunk: shape of its chunks.
      names: names of its axes (version 3).
      version: version of the zarr format, 3 or 2.
      attributes: its attributes (version 3).

    Returns:
      A TensorStore.
    """
    import tensorstore

    floating = dtype.kind == "f"
    fill = "NaN" if floating else int(np.iinfo(dtype).max)
    metadata: dict[str, Any] = {"shape": list(shape), "fill_value": fill}
    if version == 3:
        grid = {"name": "regular", "configuration": {"chunk_shape": list(chunk)}}
        # Floating chunks are not compressed, as scores would hardly shrink. The codecs are named, because TensorStore
        # takes sharding otherwise.
        codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
        if not floating:
            codecs.append({"name": "zstd", "configuration": {"level": 3, "checksum": False}})
        metadata |= {"data_type": dtype.name, "chunk_grid": grid, "dimension_names": list(names), "codecs": codecs}
        metadata["attributes"] = dict(attributes or {})
    else:
        metadata |= {"dtype": dtype.str, "chunks": list(chunk), "compressor": None}
    spec = {**_where(path, version), "metadata": metadata, "create": True, "delete_existing": True}
    return tensorstore.open(spec, read=True, write=True).result()


def open_array(path: str, write: bool = False, cache_bytes: int = 0) -> Any:
    """Opens a zarr array of version 2 or 3.

    Args:
      path: path of its directory.
      write: whether it is written, too.
      cache_bytes: largest memory for decoded chunks, bytes.

    Returns:
      A TensorStore.
    """
    import tensorstore

    version = 3 if (paths.zarr_metadata(path) or "").endswith("zarr.json") else 2
    pool = {"cache_pool": {"total_bytes_limit": cache_bytes}}
    return tensorstore.open({**_where(path, version), "context": pool}, read=True, write=write).result()


def _where(path: str, version: int) -> dict[str, Any]:
    kvstore = {"driver": "file", "path": paths.for_tensorstore(path)}
    return {"driver": "zarr3" if version == 3 else "zarr", "kvstore": kvstore}


class ArraySink(FileSink):
    """A map in a TensorStore, whose threads write it and sync the file of each chunk."""

    def __init__(self, array: Any, name: str, shape: Sequence[int], dtype: np.dtype) -> None:
        """Wraps a TensorStore [h, w, K]; the arguments are those of `Sink`."""
        super().__init__(array, name, shape, dtype)
        self._pending: deque[Any] = deque()

    def _put(self, y: int, x: int, block: np.ndarray) -> None:
        with self._writing():
            self._pending.append(self._array[y : y + block.shape[0], x : x + block.shape[1]].write(block))
            self._wait(PENDING_WRITES)

    def _get(self, rows: slice, columns: slice) -> np.ndarray:
        return np.asarray(self._array[rows, columns].read().result())

    def flush(self) -> None:
        with self._writing():
            self._wait(0)

    def _wait(self, most: int) -> None:
        """Waits until at most so many blocks are being written; one that is waited for in vain stays in the line."""
        while len(self._pending) > most:
            self._pending[0].result()
            self._pending.popleft()


class ZarrSink(ArraySink):
    """A zarr array [h, w, K] with what its scores are in its attributes."""

    def __init__(
        self,
        path: str,
        shape: Sequence[int],
        dtype: np.dtype,
        chunk: Sequence[int] | None,
        version: int,
        about: Mapping[str, Any],
    ) -> None:
        """Opens the array, or makes it if there is a shape of its chunks.

        Args:
          path: path of its directory.
          shape: shape (h, w, K) of the map.
          dtype: dtype of its values.
          chunk: shape of its chunks; None: the array is there already.
          version: version of the zarr format of a new array, 3 or 2.
          about: what its attributes say of it.

        Raises:
          StorageError: if it is another map.
        """
        if chunk is None:
            array = open_array(path, write=True)
            # A damaged description is written anew, which the journal keeps too.
            if about and not (paths.zarr_metadata(path) or "").endswith("zarr.json"):
                map_files.repair_attributes(path, about)
        else:
            array = create(path, shape, dtype, chunk, map_files.AXES, version, map_files.attributes(about))
            if version == 2:  # TensorStore leaves version 2's attributes, a file of their own, alone
                map_files.write_attributes(path, about)
        super().__init__(array, path, shape, dtype)
