"""Files that are written whole or not at all, and what is said where the disk is full or may not be written to."""

import contextlib
import errno
import os
from collections.abc import Iterator

from cnn.runtime import locks

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


def cannot_write(path: str, error: BaseException) -> OSError:
    """The error to raise where something cannot be written.

    Args:
      path: the file or folder.
      error: what the system or a library says.

    Returns:
      An error of one line: the path, the reason and the way out.
    """
    number = getattr(error, "errno", None)
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    if number in _FULL or any(os.strerror(one) in text for one in _FULL):
        way = "make room on the disk, the same command goes on"
        number = number or errno.ENOSPC
        text = os.strerror(number)
    elif number in _REFUSED or any(os.strerror(one) in text for one in _REFUSED):
        way = "make it writable, or name another place"
    else:
        way = "when the cause is gone, the same command goes on"
    found = OSError(f"{path} cannot be written: {text[:200]}; {way}")
    found.errno = number
    return found


@contextlib.contextmanager
def written(path: str) -> Iterator[str]:
    """A file that appears under its name only when the block is done without an error; until then what was there stays.

    Args:
      path: where the file shall lie.

    Yields:
      The name of the unfinished file, in the same folder; an error of the system within the block is one of writing it.

    Raises:
      OSError: if it cannot be written; names it and the way out.
      Lost: if this process held a lock, and has it no longer.
    """
    locks.check()
    part = path + ".part"
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        _remove(part)
        if error.errno is None:  # said already
            raise
        raise cannot_write(path, error) from error
    except BaseException:
        _remove(part)
        raise


class Appended:
    """A file that grows by whole pieces: one that does not fit on the disk is taken back."""

    def __init__(self, path: str) -> None:
        """Opens a file, which is made if missing.

        Args:
          path: the file.

        Raises:
          OSError: if it cannot be written.
        """
        self._path = path
        try:
            self._file: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            raise cannot_write(path, error) from error

    def add(self, piece: bytes) -> None:
        """Appends a piece.

        Args:
          piece: its bytes.

        Raises:
          OSError: if it cannot be written; the file ends with the piece before it.
          Lost: if this process held a lock, and has it no longer.
        """
        locks.check()
        if self._file is None:
            raise ValueError(f"{self._path} is closed")
        try:
            done = 0
            while done < len(piece):
                done += os.write(self._file, piece[done:])  # of a disk that becomes full: a part, then the error
            self._size += done
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise cannot_write(self._path, error) from error

    def sync(self) -> None:
        """Waits until all pieces are on the disk."""
        if self._file is not None:
            try:
                os.fsync(self._file)
            except OSError as error:
                raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                os.close(file)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.remove(path)
