"""What a finished map holds beside its scores, as one digest: a pyramid's smaller levels, its descriptions, a TIFF.

The journal keeps it, so that damage to what viewers show is found where the map is asked for again. The scores
themselves have fingerprints of their own (`cnn.dense.streaming.fingerprints`).
"""

import hashlib
import os
import re
from collections.abc import Iterator

LEVEL = re.compile(r"\d+")  # of a pyramid
_CHUNK = re.compile(r"\d+")  # the parts of "c/0/1/0"
DESCRIPTION = "zarr.json"


def digest(path: str) -> str:
    """The digest of what the end of a stream wrote; what readers of a map do not look at is not in it.

    Args:
      path: path of a finished OME-Zarr or TIFF.

    Returns:
      Of a TIFF the SHA-256 of the file; of a pyramid that of names and contents of its `zarr.json` files and of the
      chunks of its levels from 1 on. "" if there is no such file.

    Raises:
      OSError: if a file cannot be read.
    """
    if not os.path.isdir(path):
        return _of_file(path) if os.path.isfile(path) else ""
    found = hashlib.sha256()
    for name in _names(path):
        found.update(f"{name} {_of_file(os.path.join(path, *name.split('/')))}\n".encode())
    return found.hexdigest()


def _names(path: str) -> Iterator[str]:
    """Names of the files of a pyramid that are in its digest, in order."""
    levels = sorted((name for name in os.listdir(path) if LEVEL.fullmatch(name)), key=int)
    for folder in ("", *levels):
        name = f"{folder}/{DESCRIPTION}" if folder else DESCRIPTION
        if os.path.isfile(os.path.join(path, *name.split("/"))):
            yield name
        if folder not in ("", "0"):
            yield from _chunks(path, f"{folder}/c")


def _chunks(path: str, folder: str) -> Iterator[str]:
    place = os.path.join(path, *folder.split("/"))
    for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
        if _CHUNK.fullmatch(name):
            inside = f"{folder}/{name}"
            if os.path.isfile(os.path.join(place, name)):
                yield inside
            else:
                yield from _chunks(path, inside)


def _of_file(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
