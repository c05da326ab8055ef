"""One stream at a time writes a map: two that wrote the same tiles would mix two nets or images in it, unseen."""

import contextlib
import errno
import os
from collections.abc import Iterator

from cnn.images.errors import StorageError

_MADE_BY_OTHERS = 20  # times that a lock is looked for again, while other streams end and remove theirs


def lock_path(path: str) -> str:
    """The path of a map's lock: `map.zarr.lock` for `map.zarr`."""
    return f"{path}.lock"


@contextlib.contextmanager
def alone(path: str | None) -> Iterator[None]:
    """Holds the lock of a map, an empty file beside it; the system lets go of it when a process is killed.

    Where no lock can be had, because the folder is read-only or its file system knows none, there is none.

    Args:
      path: path of the map; None: it is in no file.

    Raises:
      StorageError: if another stream holds it.
    """
    if path is None:
        yield
        return
    folder = os.path.dirname(os.path.abspath(path))
    new = _missing(folder)
    held = None
    try:
        with contextlib.suppress(OSError):  # where no map can be made either, which is said later
            os.makedirs(folder, exist_ok=True)
            held = _take(path)
        yield
    finally:
        if held is not None:
            _release(lock_path(path), held)
        for made in new:  # of a call that was refused, nothing is left
            with contextlib.suppress(OSError):
                os.rmdir(made)


def _missing(folder: str) -> list[str]:
    """The folders that are to be made for one, the innermost first."""
    found = []
    while not os.path.lexists(folder):
        found.append(folder)
        folder = os.path.dirname(folder)
    return found


def _take(path: str) -> int | None:
    """A descriptor of the lock's file; None where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    for _ in range(_MADE_BY_OTHERS):
        held = os.open(lock_path(path), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(held), os.stat(lock_path(path))):
                return held
        except FileNotFoundError:  # another stream ended in between, and removed it
            pass
        except OSError as error:
            os.close(held)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise StorageError(
                    f"{path}: another stream is writing it now and holds {lock_path(path)}; wait until it ends, or "
                    "name another sink"
                ) from error
            return None
        os.close(held)
    return None


def _release(path: str, held: int) -> None:
    """Removes the lock's file, if it is as it was made, and lets go of it."""
    with contextlib.suppress(OSError):
        if os.fstat(held).st_size == 0:
            os.remove(path)
    os.close(held)
