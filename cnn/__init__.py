"""Classic convolutional classifiers in JAX: train them, take them apart, and run them densely over larger images."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; at run time `__getattr__` imports the same modules
    from cnn import convert, data, dense, geometry, layers, nets, ops, train, windows
    from cnn.runs import checkpoint

__version__ = "0.1.0"

__all__ = ["checkpoint", "convert", "data", "dense", "geometry", "layers", "nets", "ops", "train", "windows"]


def __getattr__(name: str) -> Any:
    """Imports a module of `__all__` when it is first used, so that `import cnn` imports no JAX."""
    if name in __all__:
        return importlib.import_module(f"cnn.runs.{name}" if name == "checkpoint" else f"cnn.{name}")
    raise AttributeError(f"module 'cnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
