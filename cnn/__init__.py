"""Classic convolutional classifiers in JAX: train them, take them apart, and run them densely over larger images."""

import importlib
from typing import Any

# The doors of the library. They are opened when they are first used, so that `import cnn` imports no JAX.
_DOORS = {
    "checkpoint": "cnn.runs.checkpoint",
    "convert": "cnn.convert",
    "data": "cnn.data",
    "dense": "cnn.dense",
    "geometry": "cnn.geometry",
    "layers": "cnn.layers",
    "nets": "cnn.nets",
    "ops": "cnn.ops",
    "train": "cnn.train",
    "windows": "cnn.windows",
}

__all__ = ["checkpoint", "convert", "data", "dense", "geometry", "layers", "nets", "ops", "train", "windows"]


def __getattr__(name: str) -> Any:
    """Opens a door."""
    if name in _DOORS:
        return importlib.import_module(_DOORS[name])
    raise AttributeError(f"module 'cnn' has no attribute {name!r}")
