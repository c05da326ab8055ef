"""Images that are read region by region."""

import functools
import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnn.images import choices, paths, resampled
from cnn.images.errors import StorageError
from cnn.images.facts import Choice, Facts
from cnn.images.files import open_file
from cnn.windows import overlap, shape_text

NOTHING = Facts()
CACHE_BYTES = 256 * 2**20  # for decoded chunks or segments, which neighbouring regions need again


class Source:
    """An image of any size that is read region by region.

    Attributes:
      name: name of the image in messages.
      shape: (height, width, channels), pixels.
      dtype: the dtype that `read` returns: uint8 or floating, in native byte order. float64 is read as float32, because
        JAX computes in float32.
      array: the object that is read.
      path: path of the image's file; None: an array.
      facts: what the file says of the image beside the pixels.
    """

    def __init__(self, array: Any, name: str, path: str | None = None, facts: Facts = NOTHING) -> None:
        """Wraps an object with .shape and .dtype that can be sliced; `open_image` opens files too.

        Args:
          array: uint8 or floating [H, W] or [H, W, C].
          name: name of the image in messages.
          path: path of the image's file; None if there is no file.
          facts: what the file says of the image.

        Raises:
          StorageError: if rank or dtype are others.
        """
        if not (hasattr(array, "shape") and hasattr(array, "dtype") and hasattr(array, "__getitem__")):
            raise StorageError(f"{name}: a source is a path or has .shape, .dtype and slices; numpy.asarray makes one")
        if type(array).__module__.startswith("tensorstore"):
            array = array.translate_to[(0,) * array.ndim]  # indices of a TensorStore view need not begin at 0
        self.name, self.array, self.path, self.facts = name, array, path, facts
        shape = tuple(int(n) for n in array.shape)
        if len(shape) not in (2, 3):
            raise StorageError(
                f"{name}: shape {shape} must be [H, W] or [H, W, C]; "
                + ("write one image of it as a file of its own" if path else "pass one image of it, e.g. array[0]")
            )
        dtype = numpy_dtype(array, name)
        if dtype != np.uint8 and not jnp.issubdtype(dtype, np.floating):
            top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
            raise StorageError(
                f"{name}: dtype {dtype} must be uint8 or floating; scale it to the range of the training images, "
                f"e.g. (array / {top}).astype(numpy.float32), and {'save' if path else 'pass'} that"
            )
        self.shape: tuple[int, int, int] = (shape[0], shape[1], 1 if len(shape) == 2 else shape[2])
        self.dtype = np.dtype(np.float32) if dtype == np.float64 else dtype.newbyteorder("=")

    def read(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Reads a region; where it reaches outside the image, it is zero.

        Args:
          y0: first row, pixels; may be negative.
          y1: end of the rows, exclusive, pixels.
          x0: first column, pixels; may be negative.
          x1: end of the columns, exclusive, pixels.

        Returns:
          A new array [y1 - y0, x1 - x0, C], uint8 or floating (`dtype`).

        Raises:
          StorageError: if a part of the image's file is damaged; says which.
        """
        height, width, channels = self.shape
        (rows, down), (columns, across) = overlap(y0, y1 - y0, height), overlap(x0, x1 - x0, width)
        size = (rows.stop - rows.start, columns.stop - columns.start)
        region = (np.empty if size == (y1 - y0, x1 - x0) else np.zeros)((y1 - y0, x1 - x0, channels), self.dtype)
        if min(size):
            region[down, across] = self._stored(rows, columns).reshape(*size, channels)
        return region

    def _stored(self, rows: slice, columns: slice) -> np.ndarray:
        """The pixels of a region that lies in the image."""
        if self.path is None:  # errors of the user's own object are the user's
            return np.asarray(self.array[rows, columns])
        try:
            return np.asarray(self.array[rows, columns])
        except (StorageError, MemoryError):
            raise
        except Exception as error:  # of TensorStore and of the system, of many kinds
            where = f"rows {rows.start} to {rows.stop}, columns {columns.start} to {columns.stop}"
            raise StorageError(
                f"{self.name}: {where} cannot be read: {error}; take an undamaged copy of the file"
            ) from error


def open_image(
    what: Any,
    *,
    net_channels: int | None = None,
    page: int | None = None,
    level: int | None = None,
    select: Mapping[str, int] | None = None,
    scale: float | None = None,
    spacing: float | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Source:
    """Opens an image of any size for reading region by region.

    Args:
      what: an array, uint8 or floating [H, W] or [H, W, C], or any other object with .shape and .dtype that can be
        sliced (memory maps, TensorStore, h5py, zarr, dask); or a path: `.npy` (memory-mapped); a zarr array or an
        OME-Zarr, version 2 or 3, a directory or a zip file, whose axes may have names in any order; an HDF5 file,
        "FILE::DATASET"; `.tif` or `.tiff` (memory-mapped if it is not compressed, else decoded tile by tile or strip by
        strip); a whole slide (OpenSlide); a raster that GDAL reads (`cnn.images.rasters`); or any other picture that
        Pillow reads, which is decoded whole, upright and in 8 bits (`cnn.images.pictures.decode`).
      net_channels: number of channels that the net takes, at least 1; pictures of bytes are read as grey or
        RGB. None: the number that the image has.
      page: which page of the file, counted from 0; None: its only one.
      level: which level of its pyramid; None: 0, the largest.
      select: entries along other axes, e.g. {"t": 0, "z": 3}.
      scale: resampled pixels for each pixel of the image, e.g. 0.5 (`cnn.images.resampled`), of the level that is
        chosen; without a choice of the largest, read from the smallest level that is at least as fine.
      spacing: size of a resampled pixel, in micrometres, metres or degrees, as the file has it (`Facts.spacing`).
      cache_bytes: largest memory for decoded chunks of a zarr array or segments of a TIFF, bytes.

    Returns:
      The image as a `Source`.

    Raises:
      StorageError: if the file is missing or malformed, or rank, dtype or number of channels do not fit; says what to
        do.
    """
    if scale is not None or spacing is not None:
        kept = functools.partial(
            open_image, what, net_channels=net_channels, page=page, select=select, cache_bytes=cache_bytes
        )
        is_file = isinstance(what, (str, os.PathLike))
        source, array, facts = resampled.at_resolution(lambda n: kept(level=n), level, scale, spacing, is_file)
        return Source(source.array if array is None else array, source.name, source.path, facts)
    if not isinstance(what, (str, os.PathLike)):
        choices.only(f"array of type {type(what).__name__}", "an array", Choice(page, level, select))
    if isinstance(what, Source):
        source = what
    elif isinstance(what, (str, os.PathLike)):
        path = paths.resolve(what)
        array, facts = open_file(path, net_channels, cache_bytes, Choice(page, level, select))
        source = Source(array, path, paths.inside_of(path)[0], facts)
    else:
        source = Source(what, f"array of type {type(what).__name__}")
    if net_channels is not None and source.shape[2] != net_channels:
        raise StorageError(
            f"{source.name}: {shape_text(source.shape)} has {source.shape[2]} channels, the net takes {net_channels}; "
            f"{_channels_hint(source, net_channels)}"
        )
    return source


def _channels_hint(source: Source, channels: int) -> str:
    """The way out where a net takes another number of channels than an image has."""
    verb = "save" if source.path else "pass"
    if source.shape[0] == channels:
        return f"its channels seem to be first: {verb} numpy.moveaxis(array, 0, -1)"
    if source.path and channels in (1, 3) and source.shape[2] in (1, 3):
        return "arrays are read as they are, pictures (.png, .tif of bytes) as grey or RGB, as the net takes them"
    return f"{verb} array[..., :{channels}]" if source.shape[2] > channels else "stack them, or take another net"


def numpy_dtype(array: Any, name: str) -> np.dtype:
    """The dtype of an array of any library, as a NumPy dtype.

    Args:
      array: an object with .dtype.
      name: name of the array, for the error message.

    Returns:
      The NumPy dtype.

    Raises:
      StorageError: if NumPy has no such dtype.
    """
    try:
        return np.dtype(getattr(array.dtype, "numpy_dtype", array.dtype))  # TensorStore has its own dtypes
    except TypeError:
        raise StorageError(f"{name}: dtype {array.dtype} is not NumPy's; pass numpy.asarray(array)") from None
