"""Whether a file or directory was made by this program as a map: others are never replaced."""

import os
import re
from typing import Any

import numpy as np

from cnn.dense.streaming import map_files
from cnn.dense.streaming.sinks import tiff_maps
from cnn.images.errors import StorageError
from cnn.images.paths import zarr_metadata
from cnn.runtime import json_files

# Names of chunks, "0.1.0" (version 2), and of the parts of "c/0/1/0" (version 3); also as a stopped TensorStore
# leaves them.
_CHUNK = re.compile(r"\d+(\.\d+)*(\.__lock)?")
_LEVEL = re.compile(r"\d+")  # of a pyramid
_OWN = {"zarr.json", "zarr.json.__lock", "zarr.json.part", "c", ".zarray", ".zarray.__lock", ".zattrs", ".zattrs.part"}


def check_ours(path: str) -> None:
    """Refuses to replace what is no map of this program, or holds files beside it.

    Args:
      path: path of a file or directory, of which there is something: of a TIFF that was begun, the working map.

    Raises:
      StorageError: if it must not be replaced; says why.
    """
    journal, lower = os.path.isfile(map_files.journal_path(path)), path.lower()
    if lower.endswith((".tif", ".tiff")):
        _check(path, not os.path.lexists(path) or (journal and os.path.isfile(path) and tiff_maps.is_map(path)))
        working = map_files.working_path(path)
        if os.path.lexists(working):
            _check_directory(working, journal)
        return
    if lower.endswith(".npy"):
        _check(path, journal and os.path.isfile(path) and _is_map_file(path))
        return
    _check_directory(path, journal)


def _check_directory(path: str, journal: bool) -> None:
    _check(path, os.path.isdir(path) and _is_map_directory(path, journal))
    check_inside(path)


def check_inside(path: str) -> None:
    """Refuses to remove a part of a zarr where other files lie in it.

    Args:
      path: path of a map's directory.

    Raises:
      StorageError: if something in it is no part of a map; names it.
    """
    foreign = _foreign(path)
    if foreign:
        raise StorageError(
            f"{path}: it holds {foreign}, which is no part of a map and would be removed with it; move that, or name "
            "another"
        )


def check_beside(path: str) -> None:
    """Refuses a map whose other files would replace what is no file of a map.

    Args:
      path: path of the map.

    Raises:
      StorageError: if something else lies in their place; names it.
    """
    if not map_files.has_sidecar(path):
        return
    begun = os.path.lexists(map_files.journal_path(path))
    beside = [] if begun else [path + ".part"]
    if map_files.read_sidecar(path) is None:
        beside.append(map_files.sidecar_path(path))
    there = next((name for name in beside if os.path.lexists(name)), None)
    if there:
        raise StorageError(f"{path}: {there} is no file of a map and would be replaced; move it, or name another map")


def _check(path: str, ours: bool) -> None:
    if not ours:
        journal = os.path.basename(map_files.journal_path(path))
        raise StorageError(
            f"{path}: it is not known as a map of this program, beside which its journal {journal} would lie, and is "
            "not replaced; name another, or remove it"
        )


def _is_map_file(path: str) -> bool:
    """Whether a .npy file is the map that its journal describes, as far as shape and dtype say."""
    try:
        array = np.lib.format.open_memmap(path, "r")
    except ValueError:
        return False
    journal = _journal(path)
    if array.dtype.kind == "u":  # as images are, too: only if the sidecar or the journal says that it holds classes
        known = [map_files.read_sidecar(path) or {}, journal.get("about") or {}]
        return any(
            one.get("written") == "class" and (tuple(one["map"]), one["dtype"]) == (array.shape, array.dtype.name)
            for one in known
        )
    shape = tuple(journal["map"]) if journal.get("done") else array.shape  # before the first tile, of an earlier map
    return array.ndim == 3 and array.shape == shape and array.dtype.kind == "f"


def _journal(path: str) -> dict[str, Any]:
    """The journal of a map; of a damaged one only its name counts."""
    try:
        found = json_files.read(map_files.journal_path(path))
        return {"map": list(found["map"]), "done": found["done"], "about": found.get("about")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _is_map_directory(path: str, journal: bool) -> bool:
    """Whether a directory is a map: by its attributes; without metadata, as of a stopped beginning, by its journal."""
    metadata = zarr_metadata(path)
    if metadata is None:
        return journal
    own = metadata if metadata.endswith("zarr.json") else os.path.join(path, ".zattrs")
    try:
        found = json_files.read(own)
        found = found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return journal and metadata.endswith(".zarray")  # a map of version 2 that was stopped before its attributes
    return map_files.MARK in (found.get("attributes") or {} if metadata.endswith("zarr.json") else found)


def _foreign(path: str) -> str | None:
    """A file or directory in a zarr that is no part of it, if there is one."""
    for folder, folders, files in os.walk(path):
        for name in sorted(folders + files):
            known = name in _OWN and (folder == path or _LEVEL.fullmatch(os.path.relpath(folder, path)))
            if not known and not _CHUNK.fullmatch(name):
                return os.path.join(os.path.relpath(folder, path), name).removeprefix(f".{os.sep}")
    return None
