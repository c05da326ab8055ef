"""Imports of large libraries, without what they import in turn and is not needed here."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without(package: str) -> Iterator[None]:
    """Within the context a package cannot be imported, as if it were not installed; unless it is imported already.

    For libraries that use another where there is one, such as tensorboardX, which imports all of PyTorch to know its
    tensors: half of the time until the first training step, for a run that has none.

    Args:
      package: name of the package.

    Yields:
      Nothing.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  Python's own way to say that there is no such module
    try:
        yield
    finally:
        sys.modules.pop(package, None)
