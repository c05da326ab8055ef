"""Image files as arrays that can be sliced, whatever their format: by suffix, and by what lies there."""

import os
from typing import Any

import numpy as np

from cnn.images.errors import StorageError
from cnn.images.facts import Choice, Facts
from cnn.images.pictures import open_picture, transparency
from cnn.images.tiff_arrays import open_tiff
from cnn.images.views import Mapped
from cnn.images.zarr_arrays import open_zarr

ANY = Choice()


def is_array(path: str) -> bool:
    """Whether a file holds an array, which is read as it is, and no picture, which is read as grey or RGB."""
    return os.path.isdir(path) or not os.path.isfile(path) or path.lower().endswith((".npy", ".h5", ".hdf5"))


def is_picture(path: str) -> bool:
    """Whether a file is in a format that web pages show, which Pillow decodes as a whole."""
    return path.lower().endswith((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm"))


def open_file(path: str, channels: int | None, cache_bytes: int, choice: Choice = ANY) -> tuple[Any, Facts]:
    """Opens an image file.

    Args:
      path: path of a `.npy` file, of a zarr array's directory, of a `.tif` or `.tiff` file, or of any other picture
        that Pillow reads.
      channels: number of channels, 1 or 3, that pictures and TIFFs of bytes are converted to; None: 1 for a grey
        picture, 3 for others. The channels of arrays (.npy, zarr) and of floating values are not changed.
      cache_bytes: largest memory for decoded chunks (zarr) or segments (TIFF), bytes.
      choice: which image of the file is meant.

    Returns:
      (an array-like object with .shape ([H, W] or [H, W, C]) and .dtype, which can be sliced as [rows, columns]; what
      the file says of it).

    Raises:
      StorageError: if the file is missing or malformed, holds several images, or holds values that are not intensities.
    """
    if not os.path.exists(path):
        raise StorageError(f"{path}: there is no such file or directory")
    suffix = os.path.splitext(path)[1].lower()
    try:
        if os.path.isdir(path):
            return open_zarr(path, cache_bytes), Facts()
        if suffix == ".npy":
            return Mapped(np.lib.format.open_memmap(path, mode="r")), Facts()
        if suffix in (".tif", ".tiff"):
            return open_tiff(path, channels, cache_bytes), Facts()
        return open_picture(path, channels), Facts(valid=transparency(path))
    except StorageError:
        raise
    except Exception as error:  # the libraries raise many kinds: ValueError, struct.error, zlib.error, KeyError, ...
        raise StorageError(f"{path}: cannot be read: {error}") from error
