"""The stored values of TIFF pages, read region by region: mapped where they lie as they are, else decoded in parts."""

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cnn.images.errors import MORE_MEMORY, DamagedError, StorageError
from cnn.images.views import Mapped
from cnn.windows import overlap, shape_text

JPEG = (6, 7, 33007, 34892)  # TIFF compressions of the JPEG family
CODECS = "without it tifffile reads no compression, deflate, LZMA and PackBits, not LZW, JPEG, JPEG 2000 or WebP"
EXTRA = "`python -m pip install -r requirements-images.txt`"  # that holds imagecodecs
WORKERS = min(4, os.cpu_count() or 1)  # parts that are decoded at a time; they are independent of each other


class UndecodableError(StorageError):
    """A compression that tifffile does not decode, because there is no codec for it."""


class Cache:
    """Decoded parts of pages, the latest of them, up to a number of bytes; several threads may use it."""

    def __init__(self, limit: int) -> None:
        """Begins with nothing.

        Args:
          limit: largest memory of all parts together, bytes.
        """
        self.limit, self._bytes, self._lock = limit, 0, threading.Lock()
        self._parts: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def get(self, key: tuple[int, int]) -> np.ndarray | None:
        """A part that is kept, which becomes the latest; None: it is not kept."""
        with self._lock:
            if key in self._parts:
                self._parts.move_to_end(key)
            return self._parts.get(key)

    def put(self, key: tuple[int, int], part: np.ndarray) -> None:
        """Keeps a part, and lets the oldest go."""
        with self._lock:
            if key not in self._parts:
                self._bytes += part.nbytes
            self._parts[key] = part
            while self._bytes > self.limit:
                self._bytes -= self._parts.popitem(last=False)[1].nbytes


def stored_page(page: Any, cache: Cache, fill: float = 0) -> Any:
    """The values of one page as they are stored.

    Args:
      page: a `tifffile.TiffPage` or `TiffFrame`; its file may be closed afterwards.
      cache: where decoded parts are kept.
      fill: the value of pixels whose part is not stored.

    Returns:
      An array-like object [H, W, samples], sliced as [rows, columns].

    Raises:
      StorageError: if the page is cut off, is stored in too large parts, or cannot be decoded.
    """
    keyframe = page.keyframe
    if keyframe.dtype is None or keyframe.dtype.kind not in "buif":
        what = keyframe.dtype or f"SampleFormat {keyframe.sampleformat}, {keyframe.bitspersample} bits"
        raise StorageError(f"{_path(page)}: page {page.index}: {what} is not an intensity; save real numbers")
    if page.is_memmappable and all(page.databytecounts):
        return mapped_plane(page, page.dataoffsets[0])
    return Segments(page, cache, fill)


def mapped_plane(page: Any, offset: int) -> Any:
    """Values that lie in a file as they are, without compression.

    Args:
      page: the page whose shape and dtype they have.
      offset: where they begin, bytes.

    Returns:
      As `stored_page`.

    Raises:
      StorageError: if the file ends before they do.
    """
    keyframe, path = page.keyframe, _path(page)
    dtype = np.dtype(keyframe.parent.byteorder + keyframe.dtype.char)
    end, size = offset + math.prod(keyframe.shaped) * dtype.itemsize, os.path.getsize(path)
    if end > size:
        raise StorageError(
            f"{path}: page {page.index} is cut off: its pixels end at byte {end}, the file at {size}; take an "
            "undamaged copy of the file"
        )
    array = np.memmap(path, dtype, "r", offset, keyframe.shaped)
    one_plane = keyframe.shaped[0] == 1
    return Mapped(array, array[0, 0] if one_plane else array[:, 0, :, :, 0].transpose(1, 2, 0))


class Segments:
    """A page that is stored in tiles or strips; those of a region are decoded when they are read.

    Attributes:
      shape: (height, width, samples), pixels.
      dtype: dtype of the values.
    """

    def __init__(self, page: Any, cache: Cache, fill: float = 0) -> None:
        """Takes from a page what is needed to decode its parts, and decodes the first.

        Args:
          page: a `tifffile.TiffPage` or `TiffFrame`.
          cache: where decoded parts are kept.
          fill: the value of pixels whose part is not stored.

        Raises:
          StorageError: if one part is larger than the cache.
          UndecodableError: if there is no codec for it.
        """
        keyframe = page.keyframe
        self.shape, self.dtype = (keyframe.imagelength, keyframe.imagewidth, keyframe.samplesperpixel), keyframe.dtype
        self._path, self._page, self._cache = _path(page), page.index, cache
        self._decode, self._fill = keyframe.decode, fill
        if keyframe.compression in JPEG and keyframe.shaped[0] > 1:
            self._decode = self._jpeg_plane
        self._offsets, self._counts = page.dataoffsets, page.databytecounts
        jpeg = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
        self._options = jpeg if keyframe.compression in JPEG else {}
        strip = (min(keyframe.rowsperstrip, self.shape[0]), self.shape[1])
        self._size = (keyframe.tilelength, keyframe.tilewidth) if keyframe.is_tiled else strip
        self._what = "tile" if keyframe.is_tiled else "strip"
        self._grid = tuple(-(-n // s) for n, s in zip(self.shape[:2], self._size, strict=True))
        self._planes = keyframe.shaped[0]
        needed = self._planes * math.prod(self._grid)
        if len(self._counts) < needed:  # said before each of what may be millions is looked for
            raise DamagedError(
                f"{self._path}: page {self._page} of {shape_text(self.shape[:2])} pixels needs {needed:,} "
                f"{self._what}s and lists {len(self._counts):,}; take an undamaged copy of the file"
            )
        segment = math.prod(self._size) * self.shape[2] // self._planes * self.dtype.itemsize
        if segment > cache.limit:
            raise StorageError(
                f"{self._path}: compressed in parts of {shape_text(self._size)} pixels, {segment / 2**20:.0f} MiB "
                f"each, and {cache.limit / 2**20:.0f} MiB may be kept; write it anew with tiles, or {MORE_MEMORY}"
            )
        try:
            self._decode(None, 0, **self._options)
            self._segment(next((i for i, count in enumerate(self._counts) if count), 0))
        except Exception as error:  # KeyError, ModuleNotFoundError, AttributeError, ValueError, ...
            if isinstance(error, StorageError) and _installed():
                raise  # the codec is there; the part is damaged
            coding = f"{getattr(keyframe.compression, 'name', keyframe.compression)}, predictor {keyframe.predictor}"
            raise UndecodableError(
                f"{self._path}: page {self._page} is compressed with {coding}, which does not decode: "
                f"{error.__cause__ or error}. " + ("tifffile and imagecodecs have no codec for it; write it anew with "
                "deflate or LZW" if _installed() else f"Other codecs come with {EXTRA}; {CODECS}")
            ) from error  # fmt: skip

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """The values of a region [rows, columns] with samples; both slices lie in the page."""
        (y0, y1), (x0, x1) = ((part.start, part.stop) for part in region)
        height, width = self._size
        depth = self.shape[2] // self._planes
        out = np.empty((y1 - y0, x1 - x0, self.shape[2]), self.dtype)
        places = [
            (plane, i, j)
            for plane in range(self._planes)
            for i in range(y0 // height, -(-y1 // height))
            for j in range(x0 // width, -(-x1 // width))
        ]

        def fill(place: tuple[int, int, int]) -> None:
            plane, i, j = place
            # The part of the region that lies in this segment, as slices of the region and of the segment.
            rows, down = overlap(i * height - y0, height, y1 - y0)
            columns, across = overlap(j * width - x0, width, x1 - x0)
            segment = self._segment((plane * self._grid[0] + i) * self._grid[1] + j)
            out[rows, columns, plane * depth : (plane + 1) * depth] = segment[down, across]

        if len(places) < 2 or WORKERS < 2:
            for place in places:
                fill(place)
        else:
            with ThreadPoolExecutor(WORKERS) as threads:
                for _ in threads.map(fill, places):
                    pass
        return out

    def _segment(self, index: int) -> np.ndarray:
        """One tile or strip [rows, columns, samples], decoded or kept."""
        key = (id(self), index)
        kept = self._cache.get(key)
        if kept is not None:
            return kept
        data = None
        try:
            if self._counts[index]:  # a part of no bytes is not stored: all its pixels have the fill value
                with open(self._path, "rb") as file:
                    file.seek(self._offsets[index])
                    data = file.read(self._counts[index])
            segment, _, shape = self._decode(data, index, **self._options)
            (top, bottom), (left, right) = self._corners(index)
            if segment is not None and (segment.shape[1] < bottom - top or segment.shape[2] < right - left):
                raise ValueError(f"it decodes to {segment.shape[1]}x{segment.shape[2]} pixels")
        except Exception as error:  # codecs raise zlib.error, LZMAError, RuntimeError, kinds of their own, ...
            raise StorageError(self._damage(index, error)) from error
        segment = np.full(shape, self._fill, self.dtype)[0] if segment is None else segment[0]
        self._cache.put(key, segment)
        return segment

    def _jpeg_plane(self, data: bytes | None, index: int, jpegtables: Any = None, jpegheader: Any = None) -> Any:
        """A part of one plane of several, which tifffile takes for all colours at once."""
        rows = self._size[0]
        if self._what == "strip":
            rows = min(rows, self.shape[0] - index % self._grid[0] * rows)
        shape = (1, rows, self._size[1], 1)
        if data is None:
            return None, None, shape
        import imagecodecs  # pyright: ignore[reportMissingImports]

        pixels = imagecodecs.jpeg_decode(data, tables=jpegtables, header=jpegheader)
        return pixels.reshape(1, *pixels.shape[:2], 1), None, shape

    def _corners(self, index: int) -> list[tuple[int, int]]:
        """Where a part lies: its first and last rows, and columns, ends exclusive."""
        cells = divmod(index % (self._grid[0] * self._grid[1]), self._grid[1])
        parts = zip(cells, self._size, self.shape[:2], strict=True)
        return [(cell * size, min(cell * size + size, n)) for cell, size, n in parts]

    def _damage(self, index: int, error: Exception) -> str:
        """What is damaged, and where it lies in the picture as it is stored."""
        (top, bottom), (left, right) = self._corners(index)
        return (
            f"{self._path}: page {self._page}, {self._what} {index} (rows {top} to {bottom}, columns "
            f"{left} to {right}) is damaged: {error}; take an undamaged copy of the file"
        )


class Gathered:
    """Several arrays of one size as the channels of one.

    Attributes:
      shape: (height, width, channels), pixels.
      dtype: dtype of the values.
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        """Wraps arrays.

        Args:
          arrays: array-like objects [H, W, samples] of one size and dtype.
        """
        self._arrays = arrays
        self.shape = (*arrays[0].shape[:2], sum(one.shape[2] for one in arrays))
        self.dtype = arrays[0].dtype.newbyteorder("=")

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """The values of a region [rows, columns], the channels of all arrays behind each other."""
        return np.concatenate([np.asarray(one[region]) for one in self._arrays], axis=2)


def _path(page: Any) -> str:
    return os.path.abspath(page.parent.filehandle.path)


def _installed() -> bool:
    """Whether the package of codecs is there."""
    try:
        import imagecodecs  # noqa: F401  # pyright: ignore[reportMissingImports]  # only whether it is there
    except ImportError:
        return False
    return True
