"""What a map file says about its scores, and whether a file was made by this program: others are never replaced.

A map's journal lies beside it; a zarr also carries attributes under `MARK`: the window, stride and context of its
scores, the pixel of its first window, the shape of its image and the names of its classes.
"""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnn.images.errors import StorageError
from cnn.images.paths import zarr_metadata

ANEW = "overwrite=True (--overwrite) begins anew"  # the way out of a map that cannot be continued
MARK = "score_map"  # the attribute
_CHUNK = re.compile(r"\d+(\.\d+)*")  # names of chunks: "0.1.0" (version 2), and the parts of "c/0/1/0" (version 3)
_OWN = {"zarr.json", "c", ".zarray", ".zattrs"}


def journal_path(path: str) -> str:
    """The path of a map's journal: `map.zarr.progress.json` for `map.zarr`."""
    return f"{path}.progress.json"


def attributes(about: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a zarr that is a map.

    Args:
      about: what they say of it; values that JSON can hold.

    Returns:
      The attributes.
    """
    return {MARK: dict(about)}


def write_attributes(path: str, about: Mapping[str, Any]) -> None:
    """Writes the attributes of a zarr of version 2.

    Args:
      path: path of its directory.
      about: what they say of it.
    """
    with open(os.path.join(path, ".zattrs"), "w") as file:
        json.dump(attributes(about), file, indent=2)


def check_ours(path: str) -> None:
    """Refuses to replace what is no map of this program, or holds files beside it.

    Args:
      path: path of a file or directory.

    Raises:
      StorageError: if it must not be replaced; says why.
    """
    journal = os.path.isfile(journal_path(path))
    if path.lower().endswith(".npy"):
        ours = journal and os.path.isfile(path) and _is_map_file(path)
    else:
        ours = os.path.isdir(path) and _is_map_directory(path, journal)
    if not ours:
        raise StorageError(
            f"{path}: it is not known as a map of this program, beside which its journal "
            f"{os.path.basename(journal_path(path))} would lie, and is not replaced; name another, or remove it"
        )
    foreign = _foreign(path) if os.path.isdir(path) else None
    if foreign:
        raise StorageError(
            f"{path}: it holds {foreign}, which is no part of a map and would be removed with it; move that, or name "
            "another"
        )


def _is_map_file(path: str) -> bool:
    """Whether a .npy file is the map that its journal describes, as far as shape and dtype say."""
    try:
        array = np.lib.format.open_memmap(path, "r")
    except ValueError:
        return False
    try:
        with open(journal_path(path)) as file:
            journal = json.load(file)
        shape = tuple(journal["map"]) if journal["done"] else array.shape  # before the first tile, of an earlier map
    except (OSError, ValueError, KeyError, TypeError):  # a damaged journal: only its name counts
        shape = array.shape
    return array.ndim == 3 and array.shape == shape and array.dtype.kind == "f"


def _is_map_directory(path: str, journal: bool) -> bool:
    """Whether a directory is a map: by its attributes; without metadata, as of a stopped beginning, by its journal."""
    metadata = zarr_metadata(path)
    if metadata is None:
        return journal
    own = metadata if metadata.endswith("zarr.json") else os.path.join(path, ".zattrs")
    try:
        with open(own) as file:
            found = json.load(file)
    except (OSError, ValueError):
        return journal and metadata.endswith(".zarray")  # a map of version 2 that was stopped before its attributes
    return MARK in (found.get("attributes", {}) if metadata.endswith("zarr.json") else found)


def _foreign(path: str) -> str | None:
    """A file or directory in a zarr that is no part of it, if there is one."""
    for folder, folders, files in os.walk(path):
        for name in sorted(folders + files):
            known = name in _OWN if folder == path else False
            if not known and not _CHUNK.fullmatch(name):
                return os.path.join(os.path.relpath(folder, path), name).removeprefix(f".{os.sep}")
    return None
