"""Whether a map in a file is the one that its stream wrote: compared with the fingerprint of its scores in its journal.

A map that was moved without its journal cannot be compared, and is taken as it is.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cnn.dense.streaming import beside, fingerprints
from cnn.runtime import json_files

CHECKED_BYTES = 2**28  # the largest map that is compared whenever it is opened: a tenth of a second's work


def fault(
    path: str, array: Any, about: Mapping[str, Any], journal: Mapping[str, Any] | None, check: bool | None
) -> str | None:
    """What is wrong with a finished map.

    Args:
      path: path of the map.
      array: its values [h, w, K], read where it is sliced.
      about: what it says of itself.
      journal: its journal; None: there is none.
      check: whether its scores, and what it holds beside them, are compared; None: its scores alone, if they are at
        most `CHECKED_BYTES`.

    Returns:
      The end of a sentence about the map; None if nothing is wrong or known.
    """
    if journal is None or not journal.get("complete"):
        return None
    said = journal.get("about") or {}
    differ = [name for name in said if name in about and not _same(said[name], about[name])]
    if differ:
        return f"its {differ[0]} is {str(about[differ[0]])[:40]}, and {str(said[differ[0]])[:40]} in its journal"
    dtype = np.dtype(getattr(array.dtype, "numpy_dtype", array.dtype))
    size = int(np.prod(array.shape, dtype=np.int64)) * dtype.itemsize
    tile, written = (journal.get("computes") or {}).get("tile"), journal.get("written")
    wanted = size <= CHECKED_BYTES if check is None else check
    if not wanted or not written or not _is_pair(tile):
        return None
    found = fingerprints.EMPTY
    for rows, columns in _tiles(array.shape, tile, journal["computes"].get("last") or (None, None)):
        found = fingerprints.chain(found, fingerprints.checksum(np.asarray(array[rows, columns])))
    if found != written:
        return "its scores are not those that its stream wrote, by its journal"
    if check and journal.get("beside") not in (None, beside.digest(path)):
        return (
            "its scores are those that its stream wrote, and its smaller levels, overviews or descriptions are not, by "
            "its journal; the same stream makes those of an OME-Zarr anew"
        )
    return None


def _same(one: Any, other: Any) -> bool:
    return json_files.digest(one) == json_files.digest(other)


def _is_pair(tile: Any) -> bool:
    return isinstance(tile, list) and len(tile) == 2 and all(type(n) is int and n > 0 for n in tile)


def _tiles(shape: Any, tile: Any, last: Any) -> Iterator[tuple[slice, slice]]:
    """The parts of a map that its tiles wrote, in order: those of the last windows off the stride are apart."""
    parts = []
    for size, length, border in zip(shape[:2], tile, last, strict=True):
        regular = size - (border is not None)
        found = [slice(first, min(first + length, regular)) for first in range(0, regular, length)]
        parts.append(found + ([slice(regular, size)] if border is not None else []))
    return itertools.product(*parts)
