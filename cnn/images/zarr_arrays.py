"""Zarr arrays of versions 2 and 3, read chunk by chunk.

TensorStore is imported where it is used, because it takes longer to import than this package.
"""

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from cnn.images.axes import arrange, check_chunk
from cnn.images.errors import StorageError
from cnn.images.zarr_nodes import Node


def open_array(node: Node, cache_bytes: int) -> Any:
    """Opens a zarr array with its axes as they are stored.

    Args:
      node: the array.
      cache_bytes: largest memory for decoded chunks, bytes.

    Returns:
      A TensorStore.

    Raises:
      StorageError: if its metadata name a compression or a dtype that TensorStore does not read.
    """
    import tensorstore

    spec = {
        "driver": "zarr3" if node.version == 3 else "zarr",
        "kvstore": node.store.spec(node.path),
        "context": {"cache_pool": {"total_bytes_limit": cache_bytes}},
        "recheck_cached_data": "open",  # an image does not change while it is read
    }
    try:
        array = tensorstore.open(spec, read=True).result()
    except Exception as error:  # ValueError, NotImplementedError, ...
        said = str(error).split(" [tensorstore_spec=")[0]
        raise StorageError(
            f"{node.name}: cannot be opened: {said}; TensorStore reads blosc, zstd, gzip, zlib and bz2 without "
            "filters: write the array anew with one of them"
        ) from error
    chunk = array.chunk_layout.read_chunk.shape or ()
    check_chunk(node.name, [n or 1 for n in chunk], array.dtype.numpy_dtype.itemsize, cache_bytes)
    return array


def open_zarr_array(node: Node, cache_bytes: int, select: Mapping[str, int] | None) -> tuple[Any, dict[str, int]]:
    """Opens a zarr array as an image.

    Args:
      node: the array.
      cache_bytes: largest memory for decoded chunks, bytes.
      select: the entry along axes beside rows, columns and channels.

    Returns:
      (an array-like [H, W] or [H, W, C]; the entries along other axes, name -> index).

    Raises:
      StorageError: if it cannot be read, or is several images.
    """
    array = open_array(node, cache_bytes)
    return arrange(node.name, array, axis_names(node, array.rank), select)


def axis_names(node: Node, rank: int) -> Sequence[str | None] | None:
    """The names of an array's axes: zarr 3's "dimension_names", or xarray's "_ARRAY_DIMENSIONS" of version 2.

    Args:
      node: the array.
      rank: its number of axes.

    Returns:
      A name for each axis, None where one has none; None: there are no names.
    """
    names = node.metadata.get("dimension_names") or node.attributes.get("_ARRAY_DIMENSIONS")
    return names if isinstance(names, list) and len(names) == rank else None


def nodata(node: Node) -> float | None:
    """The value of pixels that hold nothing: the attribute "_FillValue", as xarray and netCDF write it.

    Args:
      node: the array.

    Returns:
      The value; None: there is none, or it is no number.
    """
    value = node.attributes.get("_FillValue")
    if isinstance(value, str):
        return _from_text(value)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _from_text(value: str) -> float | None:
    """A number in words, such as "NaN", or the eight bytes of a float64 in base64, as xarray writes it in zarr 3."""
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return struct.unpack("<d", base64.b64decode(value, validate=True))[0]
    except (ValueError, struct.error):
        return None
