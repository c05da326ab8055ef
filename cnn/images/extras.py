"""Packages that readers need and that are optional."""

import importlib
import importlib.util
from typing import Any

from cnn.images.errors import StorageError

WAY_OUT = "python -m pip install -r requirements-images.txt"


def needed(module: str, path: str, what: str) -> Any:
    """An optional module.

    Args:
      module: its name.
      path: name of the file that is to be read.
      what: what the module reads, in words.

    Returns:
      The module.

    Raises:
      StorageError: if it is not installed, or what it stands on is missing; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a library that it loads is missing
        raise StorageError(f"{path}: {what} is read with {module}, which is not installed; `{WAY_OUT}`") from error


def there(module: str) -> bool:
    """Whether an optional module is installed."""
    return importlib.util.find_spec(module) is not None
