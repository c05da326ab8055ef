"""Where sources and sinks lie: a sink is never its source, in it or around it, and replaces only what was ours."""

import os
from typing import Any

import numpy as np

from cnn.dense.streaming import map_files
from cnn.images.errors import StorageError
from cnn.images.paths import resolve, zarr_metadata

MOST_WORK = 10_000  # of NumPy's search for memory that two arrays share; beyond, they count as sharing


def check_apart(source: Any, sink: Any) -> None:
    """Refuses a sink that is its source, holds it or lies in it, or lies in another array.

    Args:
      source: path or array that is read.
      sink: path or array that is written.

    Raises:
      StorageError: if they are not apart; names both.
    """
    if isinstance(source, np.ndarray) and isinstance(sink, np.ndarray) and _share(source, sink):
        raise StorageError("the sink lies in the memory of the source, which would be lost; pass an array of its own")
    written = _path(sink)
    if written is None:
        return
    read = _path(source)
    if read is not None and any(_related(read, one) for one in map_files.all_paths(written)):
        raise StorageError(
            f"{written}: the map would lie in its source {read}, or in its place, and the source would be lost; name "
            "another sink"
        )
    folder = os.path.dirname(written)
    while folder != os.path.dirname(folder):
        metadata = zarr_metadata(folder)
        if metadata and not _is_group(metadata):
            raise StorageError(f"{written}: it lies in the zarr array {folder}; name a sink outside of it")
        folder = os.path.dirname(folder)


def _is_group(metadata: str) -> bool:
    if metadata.endswith(".zgroup"):
        return True
    with open(metadata, errors="replace") as file:
        text = "".join(file.read().split())
    return '"node_type":"group"' in text


def _share(one: np.ndarray, other: np.ndarray) -> bool:
    options: Any = {"max_work": MOST_WORK}
    try:
        return np.shares_memory(one, other, **options)
    except np.exceptions.TooHardError:
        return True


def _path(where: Any) -> str | None:
    """The file or directory behind a path or an array of a file, links resolved; None: none is known."""
    if isinstance(where, (str, os.PathLike)):
        return os.path.realpath(resolve(where))
    while isinstance(where, np.ndarray):  # views of a memory map are maps without a name, or plain arrays
        filename = getattr(where, "filename", None)
        if filename:
            return os.path.realpath(filename)
        where = where.base
    url = getattr(getattr(where, "kvstore", None), "url", "")
    if url.startswith("file://"):
        return os.path.realpath(url.removeprefix("file://"))
    filename = getattr(getattr(where, "file", None), "filename", None)  # h5py's
    root = getattr(getattr(where, "store", None), "root", None) or getattr(getattr(where, "store", None), "path", None)
    if root is not None and hasattr(where, "chunks"):  # zarr-python's; of an array in a group, the group's with it
        filename = root
    return os.path.realpath(filename) if isinstance(filename, (str, os.PathLike)) else None


def _related(one: str, other: str) -> bool:
    """Whether two paths are one file, by whatever name, or one lies in the other."""
    if os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other):
        return True
    return os.path.commonpath([one, other]) in (one, other)
