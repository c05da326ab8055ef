"""The journal of a stream: what it computes and how much of that is safely in its sink, in a small JSON file beside it.

A journal counts a tile only when the tile's scores are on the disk, and is replaced whole, so that it is true at any
moment at which the process may be killed. It holds no times: the same map has the same journal.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from cnn.dense.streaming.image_arrays import StorageError
from cnn.nets import Net

FIELDS = {"computes", "tiles", "done", "complete"}


def journal_path(where: Any) -> str | None:
    """Where the journal of a sink lies.

    Args:
      where: as `cnn.dense.streaming.source_and_sink.open_sink` takes it.

    Returns:
      `map.zarr.progress.json` for `map.zarr`; None for an array, which has none.
    """
    return f"{os.fspath(where).rstrip(os.sep)}.progress.json" if isinstance(where, (str, os.PathLike)) else None


def net_identity(net: Net, variables: Mapping[str, Any]) -> dict[str, str]:
    """Short names that differ between trained nets.

    Args:
      net: the classifier.
      variables: its variables.

    Returns:
      {"net": its pattern and a hash of all fields of its layers, "variables": a hash of names, shapes and values}.
    """
    fields = re.sub(r" at 0x[0-9a-f]+", "", repr(net.layers))  # an address in memory is no part of a net
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
      StorageError: if it is not a journal.
    """
    try:
        with open(path) as file:
            journal = json.load(file)
        if not isinstance(journal, dict) or not journal.keys() >= FIELDS:
            raise ValueError(f"it must hold {', '.join(sorted(FIELDS))}")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StorageError(f"{path}: not the journal of a stream ({error}); overwrite=True begins anew") from error
    return journal


def write_journal(path: str, journal: Mapping[str, Any]) -> None:
    """Replaces a journal whole or not at all, also if the power fails.

    Args:
      path: path of the journal.
      journal: what JSON can hold, with the FIELDS "computes" (what is computed), "tiles" (of the whole map), "done"
        (how many of them, in order, are in the sink) and "complete".
    """
    with open(path + ".part", "w") as file:
        json.dump(journal, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".part", path)


def check_same(path: str, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to go on with a map of something else.

    Args:
      path: path of the journal, for the error.
      earlier: what the sink was begun with, field by field.
      now: what is to be computed.

    Raises:
      StorageError: if a field differs; says which, both values, and the way out.
    """
    now = json.loads(json.dumps(now))  # tuples are lists there
    differing = [
        f"{name} ({earlier.get(name)} there, {now.get(name)} now)"
        for name in sorted(earlier.keys() | now.keys())
        if earlier.get(name) != now.get(name)
    ]
    if differing:
        raise StorageError(
            f"{path.removesuffix('.progress.json')} was begun with another {', '.join(differing)}; name another sink, "
            "or overwrite=True begins anew"
        )
