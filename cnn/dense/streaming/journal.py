"""The journal of a stream: a small JSON file beside its sink that says what is computed and how many tiles are done.

A tile counts as done only when its scores are on the disk, and the file is replaced atomically. So the journal is true
whenever the process may be killed. It holds no times: the same map has the same journal.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from cnn.dense.streaming import map_files
from cnn.dense.streaming.map_files import ANEW
from cnn.images import paths
from cnn.images.errors import StorageError
from cnn.nets import Net
from cnn.runtime import json_files
from cnn.runtime.json_files import JsonError

EARLIER = {"write": "scores", "map dtype": "float32"}  # what maps held before there was a choice
SAID_LATER = ("output activation",)
PLACES = ("spacing", "origin", "georeference", "reduced")  # of the image, by which a map's scores are placed
CHECKSUM = "checksum"  # of all other fields
FIELDS = {"computes", "tiles", "done", "complete", "read", "written"}
KINDS = {"computes": dict, "tiles": int, "done": int, "complete": bool, "read": str, "written": str}
KINDS |= {"about": dict, "beside": str}  # which not all have


def journal_path(where: Any) -> str | None:
    """The path of a sink's journal.

    Args:
      where: the sink: the path of a map's file or directory, or an array.

    Returns:
      `map.zarr.progress.json` for `map.zarr`; None for an array, which has no journal.
    """
    return map_files.journal_path(paths.resolve(where)) if isinstance(where, (str, os.PathLike)) else None


def net_identity(net: Net, variables: Mapping[str, Any]) -> dict[str, str]:
    """Short texts by which trained nets can be distinguished.

    Args:
      net: the classifier.
      variables: its variables.

    Returns:
      {"net": its layer pattern and a hash of all fields of its layers, "variables": a hash of the names, shapes and
      values of all variables}.
    """
    # Functions among the fields print their address in memory, which differs between processes.
    fields = re.sub(r" at 0x[0-9a-f]+", "", repr(net.layers))
    structure = hashlib.sha256(fields.encode()).hexdigest()[:16]
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return {"net": f"{net} ({structure})", "variables": digest.hexdigest()[:16]}


def read_journal(path: str) -> dict[str, Any] | None:
    """Reads a journal.

    Args:
      path: path of the journal.

    Returns:
      The journal as `write_journal` wrote it; None if the file does not exist.

    Raises:
      StorageError: if the file is not a journal, is not as it was written, or cannot be read.
    """
    try:
        journal = _parsed(path)
        if not journal.keys() >= FIELDS:
            raise ValueError(f"it must hold {', '.join(sorted(FIELDS))}")
        for name, kind in KINDS.items():
            if type(journal.get(name, kind())) is not kind:
                raise ValueError(f"its {name} is {str(journal[name])[:40]!r}, which no stream wrote")
        for name in ("map", "skipped"):
            if name in journal and not _are_counts(journal[name]):
                raise ValueError(f"its {name} is {str(journal[name])[:40]!r}, which no stream wrote")
        if not 0 <= journal["done"] <= journal["tiles"]:
            raise ValueError(f"it counts {journal['done']} of {journal['tiles']} tiles")
    except (FileNotFoundError, NotADirectoryError):
        return None  # of a place where no map can be, too, which making the map says
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}; name another sink") from error
    except ValueError as error:
        raise StorageError(f"{path}: not the journal of a stream ({error}); {ANEW}") from error
    return journal


def read_if_whole(path: str) -> dict[str, Any] | None:
    """Reads a journal of any version, of which only that it is as it was written is known.

    Args:
      path: path of the journal.

    Returns:
      The journal; None if the file does not exist.

    Raises:
      StorageError: if it is damaged.
    """
    try:
        return _parsed(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        text = (error.strerror if isinstance(error, OSError) else None) or error
        raise StorageError(f"{path}: it is damaged ({text})") from error


def _parsed(path: str) -> dict[str, Any]:
    """The object that a journal holds, if its checksum is right; those of earlier versions have none."""
    try:
        found = json_files.read(path)
    except JsonError as error:
        raise ValueError(f"it {error}") from error
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    checksum = found.pop(CHECKSUM, None)
    if checksum is not None and checksum != json_files.digest(found):
        raise ValueError("it has other bytes than were written")
    return found


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def write_journal(path: str, journal: Mapping[str, Any]) -> None:
    """Replaces a journal atomically: even after a power failure the file holds either the old or the new journal.

    Args:
      path: path of the journal.
      journal: values that JSON can hold, with at least the fields "computes" (what is computed), "tiles" (number of
        tiles of the whole map), "done" (how many of them, in order, are in the sink), "complete" (whether all are),
        "read" and "written" (fingerprints of the pixels and scores of these tiles, `cnn.dense.streaming.fingerprints`);
        of a finished map with a pyramid also "beside" (`cnn.dense.streaming.beside`).
    """
    map_files.replace_json(path, {**journal, CHECKSUM: json_files.digest(journal)})


def check_same(path: str, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to continue a map that was begun with another net, image or option.

    Args:
      path: path of the journal, for the error message.
      earlier: what the map was begun with, field by field.
      now: what is to be computed now, field by field.

    Raises:
      StorageError: if a field differs; names the fields, both values, and what to do.
    """
    now = json.loads(json.dumps(now))  # `earlier` comes from JSON, where tuples are lists
    differing = [
        f"{name} ({earlier.get(name)} there, {now.get(name)} now)"
        for name in sorted(earlier.keys() | now.keys())
        if earlier.get(name) != now.get(name)
    ]
    if differing:
        raise StorageError(
            f"{path.removesuffix('.progress.json')} was begun with another {', '.join(differing)}; name another sink, "
            f"or {ANEW}"
        )


def check_continued(path: str, begun: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """`check_same` of journals, of which an earlier one may say less.

    Args:
      path: path of the journal, for the error message.
      begun: the journal.
      facts: its fields as they are now.

    Raises:
      StorageError: if net, image, its place, names of classes or an option are others.
    """
    said = {name: facts["computes"][name] for name in SAID_LATER} | EARLIER  # of journals that do not say it
    check_same(path, {**said, **begun["computes"]}, facts["computes"])
    # Names of classes, and where the image lies, which the map would keep; what an earlier version does not say is not
    # compared.
    earlier, now = begun.get("about") or {}, facts["about"]
    names = [name for name in PLACES if name in earlier]
    names += ["class_names"] if now["class_names"] is not None and "class_names" in earlier else []
    check_same(path, {name: earlier[name] for name in names}, {name: now[name] for name in names})
