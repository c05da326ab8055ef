"""TIFF files as arrays that can be sliced: memory-mapped if they are not compressed, else decoded in parts.

tifffile is imported where it is used, because it takes longer to import than this package.
"""

import logging
import math
from collections import OrderedDict
from typing import Any

import numpy as np

from cnn.images import pictures, tiff_pages
from cnn.images.errors import StorageError
from cnn.images.pictures import open_picture
from cnn.images.views import Coloured, Mapped, Turned
from cnn.windows import overlap, shape_text

COLOURS = ("MINISBLACK", "RGB")  # photometric interpretations whose stored values are intensities
JPEG = (6, 7, 33007, 34892)  # TIFF compressions of the JPEG family
CODECS = "without it tifffile reads no compression, deflate, LZMA and PackBits, not LZW, JPEG, JPEG 2000 or WebP"
LOG = logging.getLogger(__name__)
_ORIENTATION = 274  # number of TIFF's tag


def open_tiff(path: str, channels: int | None, cache_bytes: int) -> Any:
    """Opens the one image of a TIFF; of an image pyramid its largest level.

    Grey and RGB images of bytes are read as grey or RGB, whichever is asked for, with the values that
    `cnn.images.pictures.decode` gives; floating values, and other numbers of channels, as they are stored. All others
    (16-bit values, palettes, CMYK, inverted grey, transparency), and bytes in a compression that only `imagecodecs`
    decodes in parts (LZW, JPEG) where that package is not installed, are decoded as a whole by that function.

    Args:
      path: path of the file.
      channels: number of channels that are wanted; None: those of the file.
      cache_bytes: largest memory for decoded segments, bytes.

    Returns:
      An array-like object with .shape and .dtype, upright, which can be sliced as [rows, columns].

    Raises:
      StorageError: if the file holds several images, or its compression or its values cannot be read.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        try:
            page = tiff_pages.meant(file).keyframe
        except ValueError as error:
            raise StorageError(f"{path}: {error}") from error
        colour = getattr(page.photometric, "name", str(page.photometric))
        known = colour in COLOURS or (colour == "YCBCR" and page.compression in JPEG)  # is decoded to RGB
        samples, floating = page.samplesperpixel, page.dtype is not None and page.dtype.kind == "f"
        converted = channels not in (None, samples)
        if not floating and (not known or page.dtype != np.uint8 or converted and samples not in (1, 3)):
            return _whole(path, channels, f"{samples} channels of {page.dtype}, {colour}")
        if page.is_memmappable and page.dtype is not None:
            dtype = np.dtype(file.byteorder + page.dtype.char)
            array = np.memmap(path, dtype, "r", page.dataoffsets[0], page.shaped)
            stored = array[0, 0] if page.shaped[0] == 1 else array[:, 0, :, :, 0].transpose(1, 2, 0)
            opened: Any = Mapped(array, stored)
        else:
            try:
                opened = _Segments(path, page, cache_bytes)
            except _UndecodableError as error:
                if floating or channels not in (None, *pictures.MODES):
                    raise
                return _whole_instead(path, channels, error)
        turn = page.tags.get(_ORIENTATION)
        opened = Turned(opened, turn.value) if turn is not None and 1 < turn.value <= 8 else opened
        return Coloured(opened, channels) if converted and not floating and channels in pictures.MODES else opened


def _whole(path: str, channels: int | None, stored: str) -> Any:
    """A TIFF that is not read in parts."""
    try:
        return open_picture(path, channels)
    except StorageError as error:
        raise StorageError(f"{error} ({stored}); save it as grey or RGB, uint8, or with floating values") from error


class _UndecodableError(StorageError):
    """A compression that tifffile does not decode, because there is no codec for it."""


def _whole_instead(path: str, channels: int | None, error: _UndecodableError) -> Any:
    """A TIFF of bytes whose parts cannot be decoded: read as `--mode=predict` reads it, which a line says."""
    try:
        picture = open_picture(path, channels)
    except StorageError:
        raise error from None
    LOG.warning(
        "%s: read as a whole picture, %.0f MiB beyond the memory limit; `python -m pip install imagecodecs` lets a "
        "stream read it in parts",
        *(path, picture.nbytes / 2**20),
    )
    return picture


class _Segments:
    """A compressed TIFF page; its segments (tiles or strips) are decoded when read, and the latest are kept."""

    def __init__(self, path: str, page: Any, cache_bytes: int) -> None:
        self.shape, self.dtype = (page.imagelength, page.imagewidth, page.samplesperpixel), page.dtype
        self._path, self._decode, self._nodata, self._page = path, page.decode, page.nodata, page.index
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
            self._decode(None, 0, **self._options)
            self._segment(0)
        except StorageError:
            raise
        except Exception as error:  # KeyError, ModuleNotFoundError, AttributeError, ValueError, ...
            coding = f"{getattr(page.compression, 'name', page.compression)}, predictor {page.predictor}"
            raise _UndecodableError(
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
        try:
            segment, _, shape = self._decode(data, index, **self._options)
        except Exception as error:  # codecs raise zlib.error, LZMAError, RuntimeError, kinds of their own, ...
            raise StorageError(self._damage(index, error)) from error
        segment = np.full(shape, self._nodata, self.dtype) if segment is None else segment
        self._cache[index] = segment[0]
        while len(self._cache) > self._kept:
            self._cache.popitem(last=False)
        return self._cache[index]

    def _damage(self, index: int, error: Exception) -> str:
        """What is damaged, and where it lies in the picture as it is stored."""
        place = index % (self._grid[0] * self._grid[1])
        corner = [cell * size for cell, size in zip(divmod(place, self._grid[1]), self._size, strict=True)]
        ends = [min(first + size, n) for first, size, n in zip(corner, self._size, self.shape, strict=False)]
        what = "tile" if self._size[1] < self.shape[1] else "strip"
        return (
            f"{self._path}: page {self._page}, {what} {index} (rows {corner[0]} to {ends[0]}, columns {corner[1]} to "
            f"{ends[1]}) is damaged: {error}; take an undamaged copy of the file"
        )
