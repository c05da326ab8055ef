"""What is wrong with files of a folder: a stop, or a count and a list of what is left out; and lines that say so."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from cnn.images import paths
from cnn.images.errors import DataError
from cnn.runtime import processes

SHOWN = 3  # files that a line names


class Skipped(NamedTuple):
    """A file that is left out of a data set.

    Attributes:
      file: its path within the folder, with what is no UTF-8 written as \\udcff.
      reason: why, in words.
    """

    file: str
    reason: str


class Leftovers:
    """Takes what is wrong with the files of one folder.

    Attributes:
      root: the folder that files are named from.
      skipped: what is left out so far.
      remarks: lines on what is used all the same, each said once on standard error.
    """

    def __init__(self, root: str, on_error: str = "stop") -> None:
        """Starts with nothing.

        Args:
          root: the folder.
          on_error: "stop": the first file that cannot be used is an error; "skip": it is left out.
        """
        self.root, self._stops = root, on_error == "stop"
        self.skipped: list[Skipped] = []
        self.remarks: list[str] = []

    @property
    def stops(self) -> bool:
        """Whether a file that cannot be used is an error."""
        return self._stops

    def name(self, path: str) -> str:
        """A file's path within the folder."""
        return paths.printable(os.path.relpath(path, self.root))

    def leave_out(self, files: Sequence[tuple[str, str]], message: str = "") -> None:
        """Takes files that cannot be used.

        Args:
          files: (path, reason) of each.
          message: what the error says where it stops; "": the first file and its reason.

        Raises:
          DataError: where files that cannot be used stop; says how to leave them out.
        """
        if files and self._stops:
            self._stop(message or f"{paths.printable(files[0][0])}: {files[0][1]}")
        self.skipped += [Skipped(self.name(path), " ".join(reason.split())) for path, reason in files]

    def _stop(self, message: str) -> NoReturn:
        raise DataError(f"{message}; data.on_error=skip leaves such files out, and counts them")

    def remark(self, text: str) -> None:
        """Says what a reader of the results has to know, and keeps it."""
        self.remarks.append(text)
        if processes.is_first():
            print(f"{paths.printable(self.root)}: {text}", file=sys.stderr, flush=True)

    def say_skipped(self, total: int) -> None:
        """Says how many files were left out, and why; nothing where there are none. The first process says it for all.

        Args:
          total: files that there are, with these.
        """
        if not self.skipped or not processes.is_first():
            return
        first = [f"{one.file} ({one.reason})" for one in self.skipped[:SHOWN]]
        more = f" and {len(self.skipped) - SHOWN:,} more" if self.skipped[SHOWN:] else ""
        print(
            f"{paths.printable(self.root)}: left out {len(self.skipped):,} of {total:,} files (data.on_error=skip): "
            f"{'; '.join(first)}{more}",
            file=sys.stderr,
            flush=True,
        )


def listed(names: Sequence[str], most: int = SHOWN) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def unusable(path: str, suffixes: Sequence[str]) -> str | None:
    """Why a file cannot be a picture, by its kind, name and size, without reading it.

    A pipe, a socket or a device is never opened: reading one may wait for ever.

    Args:
      path: path of the file.
      suffixes: suffixes of pictures, in small letters.

    Returns:
      The reason; None if it may be one.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return "a link to nothing" if os.path.islink(path) else "a file that is gone"
    except OSError as error:
        return f"{(error.strerror or 'it cannot be looked at').lower()}"
    kind = kind_of(found.st_mode)
    if kind is not None:
        return kind
    if os.path.splitext(path)[1].lower() not in suffixes:
        return "a file of another kind"
    if not found.st_size:
        return "an empty file, of 0 bytes"
    return None if os.access(path, os.R_OK) else "a file that may not be read (permission denied)"


def kind_of(mode: int) -> str | None:
    """What a file is by its mode, in words; None: a file of bytes."""
    if stat.S_ISREG(mode):
        return None
    kinds = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a pipe (FIFO)"), (stat.S_ISSOCK, "a socket"))
    return next((words for test, words in kinds if test(mode)), "a device")
