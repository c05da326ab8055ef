"""Zarr arrays of versions 2 and 3 as images, with their axes in any order.

TensorStore is imported where it is used, because it takes longer to import than this package.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

from cnn.images.errors import StorageError
from cnn.images.paths import zarr_metadata
from cnn.windows import shape_text

ROWS, COLUMNS = ("y", "height", "row", "rows"), ("x", "width", "column", "columns")  # names of an array's axes
CHANNELS = ("c", "channel", "channels", "class", "band", "bands", "rgb")


def open_zarr(path: str, cache_bytes: int) -> Any:
    """Opens a zarr array.

    Args:
      path: path of its directory.
      cache_bytes: largest memory for decoded chunks, bytes.

    Returns:
      A TensorStore [H, W] or [H, W, C].

    Raises:
      StorageError: if it is no array, or holds several images.
    """
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
