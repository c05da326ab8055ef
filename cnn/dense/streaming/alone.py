"""One stream at a time writes a map: two that wrote the same tiles would mix two nets or images in it, unseen."""

import contextlib
from collections.abc import Iterator

from cnn.images.errors import StorageError
from cnn.runtime import locks


def lock_path(path: str) -> str:
    """The path of a map's lock: `map.zarr.lock` for `map.zarr`."""
    return f"{path}.lock"


@contextlib.contextmanager
def alone(path: str | None) -> Iterator[None]:
    """Holds the lock of a map, a small file beside it (`cnn.runtime.locks`).

    Where it cannot be written, because the folder is read-only or the disk full, there is none: nor can the map be.

    Args:
      path: path of the map; None: it is in no file.

    Raises:
      StorageError: if another stream holds it; names it.
    """
    with contextlib.ExitStack() as stack:
        if path is not None:
            try:
                stack.enter_context(locks.alone(lock_path(path), f"{path}: another stream is writing it now"))
            except locks.Taken as error:
                raise StorageError(f"{error}") from error
            except OSError:
                pass
        yield
