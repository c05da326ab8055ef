"""Image files as arrays that can be sliced: memory-mapped if the pixels are stored uncompressed, else decoded in parts.

TensorStore, tifffile and Pillow are imported where they are used, because each takes longer to import than this
package.
"""

import json
import math
import mmap
import os
from collections import OrderedDict
from typing import Any

import numpy as np

from cnn.data import image_files
from cnn.dense.blocks import overlap
from cnn.windows import shape_text

TIFF_COLOURS = ("MINISBLACK", "RGB")  # photometric interpretations whose stored values are intensities
JPEG = (6, 7, 33007, 34892)  # TIFF compressions of the JPEG family
CODECS = "without it tifffile reads no compression, deflate, LZMA and PackBits, not LZW, JPEG, JPEG 2000 or WebP"


class StorageError(image_files.DataError):
    """A source or sink that cannot be used; the message names it, the numbers, and what to do."""


def open_file(path: str, channels: int | None, cache_bytes: int) -> Any:
    """Opens an image file.

    Args:
      path: path of a `.npy` file, of a zarr array's directory, of a `.tif` or `.tiff` file, or of any other picture
        that Pillow reads.
      channels: number of channels, 1 or 3, that a picture is converted to; None: 1 for a grey picture, 3 for others.
        The channels of the other formats are not changed.
      cache_bytes: largest memory for decoded chunks (zarr) or segments (TIFF), bytes.

    Returns:
      An array-like object with .shape ([H, W] or [H, W, C]) and .dtype, which can be sliced as [rows, columns].

    Raises:
      StorageError: if the file is missing or malformed, holds several images, or holds values that are not intensities.
    """
    if not os.path.exists(path):
        raise StorageError(f"{path}: there is no such file or directory")
    suffix = os.path.splitext(path)[1].lower()
    try:
        if os.path.isdir(path):
            return _open_zarr(path, cache_bytes)
        if suffix == ".npy":
            return _Mapped(np.lib.format.open_memmap(path, mode="r"))
        if suffix in (".tif", ".tiff"):
            return _open_tiff(path, cache_bytes)
        return _open_picture(path, channels)
    except image_files.DataError:
        raise
    except Exception as error:  # the libraries raise many kinds: ValueError, struct.error, zlib.error, KeyError, ...
        raise StorageError(f"{path}: cannot be read: {error}") from error


def zarr_metadata(path: str) -> str | None:
    """The metadata file of a zarr array or group.

    Args:
      path: path of a directory.

    Returns:
      Path of its `zarr.json` (version 3), `.zarray` or `.zgroup` (version 2); None if it is not a zarr array or group.
    """
    names = (os.path.join(path, name) for name in ("zarr.json", ".zarray", ".zgroup"))
    return next((name for name in names if os.path.isfile(name)), None)


def _open_zarr(path: str, cache_bytes: int) -> Any:
    import tensorstore

    metadata = zarr_metadata(path)
    if metadata is None:
        raise StorageError(f"{path}: a directory without zarr.json or .zarray is not a zarr array")
    with open(metadata) as file:
        if metadata.endswith(".zgroup") or json.load(file).get("node_type") == "group":
            inside = sorted(e.name for e in os.scandir(path) if e.is_dir() and zarr_metadata(e.path))
            raise StorageError(f"{path}: a zarr group; name one of its arrays: {', '.join(inside) or 'it has none'}")
    spec = {
        "driver": "zarr3" if metadata.endswith("zarr.json") else "zarr",
        "kvstore": {"driver": "file", "path": path},
        "context": {"cache_pool": {"total_bytes_limit": cache_bytes}},
        "recheck_cached_data": "open",  # an image does not change while it is read
    }
    return tensorstore.open(spec, read=True).result()


class _Mapped:
    """A memory-mapped file whose pages are released after each read, as they would count as memory of this process."""

    def __init__(self, array: np.memmap, view: np.ndarray | None = None) -> None:
        self._map, self._view = array.base, array if view is None else view
        self.shape, self.dtype = self._view.shape, self._view.dtype

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        pixels = np.array(self._view[region])
        if isinstance(self._map, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
        return pixels


def _open_picture(path: str, channels: int | None) -> np.ndarray:
    from PIL import Image

    # Pillow refuses pictures above some 179 million pixels, to protect servers from hostile uploads. Here users name
    # their own files, which are meant to be large; the size is compared with a limit of memory instead.
    guard, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if channels is None:
                channels = 1 if len(picture.getbands()) <= 2 and picture.mode != "P" else 3
        if channels not in image_files.MODES:
            raise StorageError(f"{path}: a picture is read as 1 or 3 channels, the net takes {channels}; pass an array")
        if height * width * channels > image_files.MAX_BYTES:
            raise StorageError(
                f"{path}: {height}x{width}x{channels} is {height * width * channels / 2**30:.1f} GiB when decoded, and "
                f"it cannot be decoded in parts (limit {image_files.MAX_BYTES / 2**30:g} GiB); convert it to a zarr or "
                "a tiled TIFF"
            )
        return np.asarray(image_files.decode(path, channels))
    finally:
        Image.MAX_IMAGE_PIXELS = guard


def _open_tiff(path: str, cache_bytes: int) -> Any:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]  # of an image pyramid this is level 0, the largest
        page = series.keyframe
        if len(series) != 1 or page.imagedepth != 1:
            raise StorageError(
                f"{path}: {len(series)} pages, together {shape_text(series.shape)} ({series.axes}); an image is one "
                "page, [H, W] or [H, W, C]; write the one that is meant as a file of its own"
            )
        colour = getattr(page.photometric, "name", str(page.photometric))
        if colour not in TIFF_COLOURS and not (colour == "YCBCR" and page.compression in JPEG):  # is decoded to RGB
            raise StorageError(f"{path}: its colours are {colour}; save it as one of {', '.join(TIFF_COLOURS)}")
        if page.is_memmappable and page.dtype is not None:
            dtype = np.dtype(file.byteorder + page.dtype.char)
            array = np.memmap(path, dtype, "r", page.dataoffsets[0], page.shaped)
            return _Mapped(array, array[0, 0] if page.shaped[0] == 1 else array[:, 0, :, :, 0].transpose(1, 2, 0))
        return _Segments(path, page, cache_bytes)


class _Segments:
    """A compressed TIFF page; its segments (tiles or strips) are decoded when read, and the latest are kept."""

    def __init__(self, path: str, page: Any, cache_bytes: int) -> None:
        self.shape, self.dtype = (page.imagelength, page.imagewidth, page.samplesperpixel), page.dtype
        self._path, self._decode, self._nodata = path, page.decode, page.nodata
        self._offsets, self._counts = page.dataoffsets, page.databytecounts
        jpeg = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        self._options = jpeg if page.compression in JPEG else {}
        self._size = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        self._size = (min(self._size[0], self.shape[0]), self._size[1])
        self._grid = tuple(-(-n // s) for n, s in zip(self.shape[:2], self._size, strict=True))
        self._planes = page.shaped[0]
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        segment = math.prod(self._size) * self.shape[2] // self._planes * self.dtype.itemsize
        if segment > cache_bytes:
            raise StorageError(
                f"{path}: compressed in parts of {shape_text(self._size)} pixels, {segment / 2**20:.0f} MiB each, and "
                f"{cache_bytes / 2**20:.0f} MiB may be kept; write it anew with tiles, or give it more memory"
            )
        self._kept = cache_bytes // max(1, segment)
        try:
            self._segment(0)
        except Exception as error:  # codecs raise KeyError, ModuleNotFoundError, AttributeError, zlib.error, ...
            coding = f"{getattr(page.compression, 'name', page.compression)}, predictor {page.predictor}"
            raise StorageError(
                f"{path}: compressed with {coding}, which does not decode: {error}. Other codecs come with "
                f"`python -m pip install imagecodecs`; {CODECS}"
            ) from error

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        (y0, y1), (x0, x1) = ((part.start, part.stop) for part in region)
        height, width = self._size
        depth = self.shape[2] // self._planes
        out = np.empty((y1 - y0, x1 - x0, self.shape[2]), self.dtype)
        for plane in range(self._planes):
            for i in range(y0 // height, -(-y1 // height)):
                for j in range(x0 // width, -(-x1 // width)):
                    # The part of the region that lies in this segment, as slices of the region and of the segment.
                    rows, down = overlap(i * height - y0, height, y1 - y0)
                    columns, across = overlap(j * width - x0, width, x1 - x0)
                    segment = self._segment((plane * self._grid[0] + i) * self._grid[1] + j)
                    out[rows, columns, plane * depth : (plane + 1) * depth] = segment[down, across]
        return out

    def _segment(self, index: int) -> np.ndarray:
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        data = None
        if self._counts[index]:  # a segment of no bytes is not stored: all its pixels have the file's nodata value
            with open(self._path, "rb") as file:
                file.seek(self._offsets[index])
                data = file.read(self._counts[index])
        segment, _, shape = self._decode(data, index, **self._options)
        segment = np.full(shape, self._nodata, self.dtype) if segment is None else segment
        self._cache[index] = segment[0]
        while len(self._cache) > self._kept:
            self._cache.popitem(last=False)
        return self._cache[index]
