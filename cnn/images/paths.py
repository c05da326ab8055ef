"""Paths of images and maps."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from cnn.images.errors import DataError

METADATA = ("zarr.json", ".zarray", ".zgroup")  # of a zarr array or group: version 3, and two of version 2


def resolve(where: Any) -> str:
    """A path as the user's shell might have left it: with `~`, or a slash at its end.

    Args:
      where: a path.

    Returns:
      The path without both.
    """
    path = os.path.expanduser(os.fspath(where))
    return path.rstrip(os.sep) or path


def zarr_metadata(path: str) -> str | None:
    """The metadata file of a zarr array or group.

    Args:
      path: path of a directory.

    Returns:
      Path of its `zarr.json` (version 3), `.zarray` or `.zgroup` (version 2); None if it is not a zarr array or group.
    """
    names = (os.path.join(path, name) for name in METADATA)
    return next((name for name in names if os.path.isfile(name)), None)


def say_left_out(folder: str, names: Sequence[str], why: str) -> None:
    """Says on standard error which entries of a folder are not read; nothing where there are none.

    Args:
      folder: the folder.
      names: the entries.
      why: why they are not read, in words.
    """
    if names:
        shown = ", ".join(names[:8]) + (", ..." if names[8:] else "")
        print(f"{folder}: left out {len(names)} entries that {why}: {shown}", file=sys.stderr, flush=True)


def for_tensorstore(path: str) -> str:
    """A path as TensorStore takes it, which refuses `.`, `..` and `//` in one.

    Args:
      path: path of a file or directory, which need not be there yet.

    Returns:
      The absolute path of the same place, without these and without symbolic links.
    """
    return os.path.realpath(path)


def inside_of(path: str) -> tuple[str, str]:
    """The two parts of "FILE::NAME", which names a dataset in a file of several.

    Args:
      path: a path; one that exists as it stands is a file's, whatever is in it.

    Returns:
      (path of the file, name in it; "" where there is none).
    """
    if "::" not in path or os.path.exists(path):
        return path, ""
    file, _, name = path.partition("::")
    return file, name


def printable(text: str) -> str:
    """A text that any file and terminal can hold: bytes of a file's name that are no UTF-8 are written as \\udcff."""
    return text.encode("utf-8", "backslashreplace").decode()


def check_name(path: str) -> None:
    """Refuses a file whose name is not UTF-8: no map, table or page could name it.

    Args:
      path: path of the file.

    Raises:
      DataError: if its name is not UTF-8.
    """
    if printable(path) != path:
        raise DataError(f"{printable(path)}: its name is not UTF-8, which maps and pages name it in; rename it")
