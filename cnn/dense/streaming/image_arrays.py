"""Image files as arrays that can be sliced: memory-mapped if the pixels are stored uncompressed, else decoded in parts.

TensorStore is imported where it is used, because it takes longer to import than this package.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn.dense.streaming.errors import StorageError
from cnn.dense.streaming.pictures import open_picture
from cnn.dense.streaming.places import zarr_metadata
from cnn.dense.streaming.tiff_arrays import open_tiff
from cnn.dense.streaming.views import Mapped
from cnn.windows import shape_text

ROWS, COLUMNS = ("y", "height", "row", "rows"), ("x", "width", "column", "columns")  # names of an array's axes
CHANNELS = ("c", "channel", "channels", "class", "band", "bands", "rgb")


def open_file(path: str, channels: int | None, cache_bytes: int) -> Any:
    """Opens an image file.

    Args:
      path: path of a `.npy` file, of a zarr array's directory, of a `.tif` or `.tiff` file, or of any other picture
        that Pillow reads.
      channels: number of channels, 1 or 3, that pictures and TIFFs of bytes are converted to; None: 1 for a grey
        picture, 3 for others. The channels of arrays (.npy, zarr) and of floating values are not changed.
      cache_bytes: largest memory for decoded chunks (zarr) or segments (TIFF), bytes.

    Returns:
      An array-like object with .shape ([H, W] or [H, W, C]) and .dtype, which can be sliced as [rows, columns].

    Raises:
      StorageError: if the file is missing or malformed, holds several images, or holds values that are not intensities.
    """
    if not os.path.exists(path):
        raise StorageError(f"{path}: there is no such file or directory")
    suffix = os.path.splitext(path)[1].lower()
    try:
        if os.path.isdir(path):
            return _open_zarr(path, cache_bytes)
        if suffix == ".npy":
            return Mapped(np.lib.format.open_memmap(path, mode="r"))
        if suffix in (".tif", ".tiff"):
            return open_tiff(path, channels, cache_bytes)
        return open_picture(path, channels)
    except StorageError:
        raise
    except Exception as error:  # the libraries raise many kinds: ValueError, struct.error, zlib.error, KeyError, ...
        raise StorageError(f"{path}: cannot be read: {error}") from error


def _open_zarr(path: str, cache_bytes: int) -> Any:
    import tensorstore

    metadata = zarr_metadata(path)
    if metadata is None:
        raise StorageError(f"{path}: a directory without zarr.json or .zarray is not a zarr array")
    with open(metadata) as file:
        if metadata.endswith(".zgroup") or json.load(file).get("node_type") == "group":
            inside = sorted(e.name for e in os.scandir(path) if e.is_dir() and zarr_metadata(e.path))
            raise StorageError(f"{path}: a zarr group; name one of its arrays: {', '.join(inside) or 'it has none'}")
    spec = {
        "driver": "zarr3" if metadata.endswith("zarr.json") else "zarr",
        "kvstore": {"driver": "file", "path": path},
        "context": {"cache_pool": {"total_bytes_limit": cache_bytes}},
        "recheck_cached_data": "open",  # an image does not change while it is read
    }
    array = tensorstore.open(spec, read=True).result()
    labels = array.domain.labels
    return _axes_last(path, array, labels) if any(labels) else array


def _axes_last(path: str, array: Any, labels: Sequence[str]) -> Any:
    """An array whose axes have names, as [H, W] or [H, W, C]; others, such as time, may have one entry each."""
    found = {axis: [i for i, label in enumerate(labels) if label.lower() in names] for axis, names in
             (("rows", ROWS), ("columns", COLUMNS), ("channels", CHANNELS))}  # fmt: skip
    if not all(len(places) == 1 for places in (found["rows"], found["columns"])) or len(found["channels"]) > 1:
        return array  # names that say nothing here; the order of the axes counts
    order = [place for places in found.values() for place in places]
    others = [i for i in range(array.rank) if i not in order]
    for i in others:
        if array.shape[i] != 1:
            raise StorageError(
                f"{path}: {shape_text(array.shape)} with axes {', '.join(labels)} is {array.shape[i]} images along "
                f"{labels[i] or i}; an image is [H, W] or [H, W, C]; write the one that is meant as an array of its own"
            )
    return array[tuple(0 if i in others else slice(None) for i in range(array.rank))].transpose(
        [i - sum(other < i for other in others) for i in order]
    )
