"""Image files as arrays that can be sliced, whatever their format: by what lies there, and by suffix."""

import contextlib
import os
import stat
from typing import Any

import numpy as np

from cnn.images import choices, extras, hdf5, ome_zarr, rasters, slides
from cnn.images.axes import arrange
from cnn.images.errors import DamagedError, StorageError
from cnn.images.facts import Choice, Facts
from cnn.images.paths import inside_of
from cnn.images.pictures import is_known, open_picture, transparency
from cnn.images.tiff_arrays import open_tiff
from cnn.images.views import Mapped

ANY = Choice()
TIFFS = (".tif", ".tiff")
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the first bytes of TIFF and BigTIFF
ZIPS = (".zip", ".ozx")  # a zarr in a zip file; .ozx is OME-Zarr's name of it
# What a folder is searched for; a file that is named may have any suffix.
SUFFIXES = (
    *(*TIFFS, *ZIPS, *slides.SUFFIXES, *rasters.SUFFIXES, ".npy", ".zarr", ".h5", ".hdf5", ".lsm", ".stk", ".btf"),
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tga", ".avif", ".qptiff"),
)
JPEG_2000 = (".jp2", ".j2k", ".jpx")  # which Pillow reads too, as a whole


def is_array(path: str) -> bool:
    """Whether a file holds an array, which is read as it is, and no picture, which is read as grey or RGB.

    Args:
      path: its path; of a dataset in a file of several too.

    Returns:
      Whether it is a .npy file, a zarr or an HDF5 file, or there is no such file.
    """
    file, inside = inside_of(path)
    if inside or not os.path.isfile(file):
        return True
    return os.path.splitext(file)[1].lower() in (".npy", *ZIPS) or hdf5.is_hdf5(file)


def is_picture(path: str) -> bool:
    """Whether a file is in a format that web pages show, which Pillow decodes as a whole."""
    return path.lower().endswith((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm"))


def open_file(path: str, channels: int | None, cache_bytes: int, choice: Choice = ANY) -> tuple[Any, Facts]:
    """Opens an image file.

    Args:
      path: path of a `.npy` file; of the directory or zip file of a zarr array or an OME-Zarr; of an HDF5 file; of a
        `.tif` or `.tiff` file; of a whole slide that OpenSlide reads; of a raster that GDAL reads; or of any other
        picture that Pillow reads. "FILE::NAME" names a dataset in a file of several (HDF5, zarr in a zip file, netCDF).
      channels: number of channels, 1 or 3, that pictures and TIFFs of bytes are converted to; None: 1 for a grey
        picture, 3 for others. The channels of arrays (.npy, zarr, HDF5) and of floating values are not changed.
      cache_bytes: largest memory for decoded chunks, tiles or segments, bytes.
      choice: which image of the file is meant.

    Returns:
      (an array-like object with .shape ([H, W] or [H, W, C]) and .dtype, which can be sliced as [rows, columns]; what
      the file says of it).

    Raises:
      StorageError: if the file is missing or malformed, holds several images, lacks what was chosen, or holds values
        that are not intensities; or a package that reads it is not installed.
    """
    file, inside = inside_of(path)
    if not os.path.exists(file):
        raise StorageError(f"{file}: there is no such file or directory")
    mode = os.stat(file).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a pipe or a device may wait for ever
        raise StorageError(f"{file}: it is a pipe, a socket or a device, not a file; save the image in a file")
    choice = choices.whole(path, choice)
    try:
        return _open(file, inside, channels, cache_bytes, choice)
    except StorageError:
        raise
    except Exception as error:  # the libraries raise many kinds: ValueError, struct.error, zlib.error, KeyError, ...
        raise StorageError(f"{path}: cannot be read: {error}") from error


def _open(file: str, inside: str, channels: int | None, cache_bytes: int, choice: Choice) -> tuple[Any, Facts]:
    suffix = os.path.splitext(file)[1].lower()
    if os.path.isdir(file) or suffix in ZIPS:
        return ome_zarr.open_zarr(file, inside, cache_bytes, choice)
    if hdf5.is_hdf5(file):
        return hdf5.open_hdf5(file, inside, cache_bytes, choice)
    if suffix in rasters.SUFFIXES and (suffix not in JPEG_2000 or extras.there("rasterio")):
        return rasters.open_raster(file, inside, channels, cache_bytes, choice)
    if inside:
        raise StorageError(f"{file}: it holds no datasets with names such as {inside}; name the file alone")
    if suffix == ".npy":
        choices.only(file, "a .npy file", choice, "select")
        array, chosen = arrange(file, np.lib.format.open_memmap(file, mode="r"), None, choice.select)
        return (Mapped(array) if isinstance(array, np.memmap) else array), Facts(chosen=chosen)
    if suffix in TIFFS:
        return _open_tiff_or_slide(file, channels, cache_bytes, choice)
    if suffix in slides.SUFFIXES:
        return _open_slide_or_tiff(file, channels, cache_bytes, choice)
    return _open_other(file, channels, cache_bytes, choice)


def _starts_with(file: str, signature: bytes) -> bool:
    with open(file, "rb") as opened:
        return opened.read(len(signature)) == signature


def _tiff(file: str, channels: int | None, cache_bytes: int, choice: Choice) -> tuple[Any, Facts]:
    return open_tiff(file, channels, cache_bytes, choice)


def _open_tiff_or_slide(file: str, channels: int | None, cache_bytes: int, choice: Choice) -> tuple[Any, Facts]:
    """A TIFF; as a slide only where it cannot be read as a TIFF and OpenSlide knows it."""
    try:
        return _tiff(file, channels, cache_bytes, choice)
    except DamagedError:
        raise
    except Exception:
        if not slides.known(file):
            raise
        try:
            return slides.open_slide(file, channels, cache_bytes, choice)
        except StorageError:
            pass
        raise


def _open_slide_or_tiff(file: str, channels: int | None, cache_bytes: int, choice: Choice) -> tuple[Any, Facts]:
    """A slide; as a TIFF where OpenSlide does not know it, is not installed, or would interpolate between pixels."""
    if slides.known(file) and (channels is None or channels in (1, 3)):
        if slides.is_exact(file, choice.level or 0):
            return slides.open_slide(file, channels, cache_bytes, choice)
        try:
            return _tiff(file, channels, cache_bytes, choice)
        except DamagedError:
            raise
        except Exception:  # as many kinds as in `open_file`: not a TIFF, or one that tifffile does not read
            return slides.open_slide(file, channels, cache_bytes, choice)
    if _starts_with(file, b"II") or _starts_with(file, b"MM"):
        return _tiff(file, channels, cache_bytes, choice)
    if channels not in (None, 1, 3):
        raise StorageError(f"{file}: a whole slide is read as 1 or 3 channels, the net takes {channels}")
    return slides.open_slide(file, channels, cache_bytes, choice)


def _open_other(file: str, channels: int | None, cache_bytes: int, choice: Choice) -> tuple[Any, Facts]:
    """A TIFF of any name, such as .lsm, or a picture that Pillow reads; what Pillow does not know, GDAL may read."""
    if any(_starts_with(file, signature) for signature in TIFF_SIGNATURES):
        return _open_tiff_or_slide(file, channels, cache_bytes, choice)
    if not is_known(file) and extras.there("rasterio"):
        with contextlib.suppress(StorageError, UnicodeError):  # Pillow's is raised below; GDAL takes UTF-8 names alone
            return rasters.open_raster(file, "", channels, cache_bytes, choice)
    choices.only(file, "a picture", choice)
    return open_picture(file, channels), Facts(valid=transparency(file))
