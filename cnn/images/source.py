"""Images that are read region by region."""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnn.images import channels as channels_lib
from cnn.images import choices, masks, paths, ranges, resampled
from cnn.images.dtypes import numpy_dtype
from cnn.images.errors import StorageError
from cnn.images.facts import NOTHING, Choice, Facts, Spacing
from cnn.images.files import is_array, open_file
from cnn.images.views import Chosen, Coloured
from cnn.runtime.ranges import short
from cnn.runtime.ranges import whole as whole_number
from cnn.windows import overlap, shape_text

CACHE_BYTES = 256 * 2**20  # for decoded chunks or segments, which neighbouring regions need again


class Source:
    """An image of any size that is read region by region.

    Attributes:
      name: name of the image in messages.
      shape: (height, width, channels), pixels.
      dtype: the dtype that `read` returns, in native byte order: uint8, int8, uint16, int16 or floating as stored.
        Wider integers, and floating values of which a range is said, are read as float32 fractions of the range; other
        float64 as float32, because JAX computes in float32.
      stored: dtype of the pixels as they are stored.
      value_range: (low, high): the values that count as 0 and as 1.
      said: whether the caller says the range, and it is not that of the dtype.
      array: the object that is read.
      path: path of the image's file; None: an array.
      facts: what the file says of the image beside the pixels.
      mask: which pixels count, as the caller says: bool [H, W], can be sliced as [rows, columns]; None: all.
      mask_path: path of the mask's file; None: there is none.
    """

    def __init__(
        self,
        array: Any,
        name: str,
        path: str | None = None,
        facts: Facts = NOTHING,
        value_range: Sequence[float] | None = None,
    ) -> None:
        """Wraps an object with .shape and .dtype that can be sliced; `open_image` opens files too.

        Args:
          array: integer or floating [H, W] or [H, W, C].
          name: name of the image in messages.
          path: path of the image's file; None if there is no file.
          facts: what the file says of the image.
          value_range: (low, high): the values that count as 0 and as 1; None: the lowest and highest of an integer
            dtype, 0 and 1 of a floating one.

        Raises:
          StorageError: if rank, dtype or range are others.
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
        if not jnp.issubdtype(dtype, jnp.integer) and not jnp.issubdtype(dtype, jnp.floating):
            raise StorageError(f"{name}: dtype {dtype} must be integer or floating, as intensities are")
        self.shape: tuple[int, int, int] = (shape[0], shape[1], 1 if len(shape) == 2 else shape[2])
        if not all(shape):
            raise StorageError(f"{name}: it is {shape_text(shape)} and has no pixels; take a whole copy of the image")
        self.value_range = ranges.check(value_range, dtype, name)
        self.said, self.stored = value_range is not None, dtype
        floating = jnp.issubdtype(dtype, jnp.floating)
        self.scaled = self.said if floating else dtype.name not in ranges.SMALL
        single = self.scaled or floating and dtype.itemsize > 4
        self.dtype = np.dtype(np.float32) if single else dtype.newbyteorder("=")
        self.mask: Any = None
        self.mask_path: str | None = None

    @property
    def spacing(self) -> Spacing | None:
        """The size of a pixel; None: unknown."""
        return self.facts.spacing

    @property
    def axes(self) -> tuple[str, str, str]:
        """The axes of `shape` and of what `read` gives, by name; they are the same for every file."""
        return ("y", "x", "c")

    @property
    def beside(self) -> int:
        """Memory that reading a region takes for each pixel beside the region itself, bytes."""
        return self.shape[2] * self.stored.itemsize if self.stored != self.dtype or self.scaled else 0

    def read(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Reads a region; where it reaches outside the image, it is zero.

        Args:
          y0: first row, pixels; may be negative.
          y1: end of the rows, exclusive, pixels.
          x0: first column, pixels; may be negative.
          x1: end of the columns, exclusive, pixels.

        Returns:
          A new array [y1 - y0, x1 - x0, C] of `dtype`.

        Raises:
          StorageError: if a part of the image's file is damaged; says which.
        """
        height, width, channels = self.shape
        (rows, down), (columns, across) = overlap(y0, y1 - y0, height), overlap(x0, x1 - x0, width)
        size = (rows.stop - rows.start, columns.stop - columns.start)
        region = (np.empty if size == (y1 - y0, x1 - x0) else np.zeros)((y1 - y0, x1 - x0, channels), self.dtype)
        if min(size):
            stored = self._stored(rows, columns).reshape(*size, channels)
            region[down, across] = ranges.fractions(stored, self.value_range) if self.scaled else stored
        return region

    def valid(
        self, y0: int, y1: int, x0: int, x1: int, *, only_mask: bool = False, pixels: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Which pixels of a region hold something: in the mask, where there is one, and not without data by the file.

        Args:
          y0, y1, x0, x1: the region, as for `read`.
          only_mask: whether only the caller's mask counts, not what the file says.
          pixels: what `read` gives for the region, if it is at hand: so that it need not be read again.

        Returns:
          bool [y1 - y0, x1 - x0], False outside of the image; None: neither mask nor file say anything, so that every
          pixel of the image holds something.

        Raises:
          StorageError: if a part of a file is damaged; says which.
        """
        parts: list[Any] = [self.mask] if self.mask is not None else []
        nodata = None if only_mask else self.facts.nodata
        if not only_mask and self.facts.valid is not None:
            parts.append(self.facts.valid)
        if not parts and nodata is None:
            return None
        height, width, channels = self.shape
        (rows, down), (columns, across) = overlap(y0, y1 - y0, height), overlap(x0, x1 - x0, width)
        size = (rows.stop - rows.start, columns.stop - columns.start)
        found = np.zeros((y1 - y0, x1 - x0), bool)
        if not min(size):
            return found
        inside = np.ones(size, bool)
        for part in parts:
            inside &= np.asarray(self._part(part, rows, columns), bool).reshape(size)
        if nodata is not None:
            # Of scaled pixels, and of float64 that was rounded, the stored values count.
            at_hand = pixels is not None and not self.scaled and self.stored.itemsize <= self.dtype.itemsize
            stored = pixels[down, across] if pixels is not None and at_hand else self._stored(rows, columns)
            inside &= masks.holds_data(stored.reshape(*size, channels), nodata)
        found[down, across] = inside
        return found

    def _stored(self, rows: slice, columns: slice) -> np.ndarray:
        """The pixels of a region that lies in the image, as they are stored."""
        return self._part(self.array, rows, columns)

    def _part(self, array: Any, rows: slice, columns: slice) -> np.ndarray:
        """A region of the image or of a mask of it."""
        if self.path is None:  # errors of the user's own object are the user's
            return np.asarray(array[rows, columns])
        try:
            return np.asarray(array[rows, columns])
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
    channels: Sequence[int | str] | None = None,
    page: int | None = None,
    level: int | None = None,
    select: Mapping[str, int] | None = None,
    value_range: Sequence[float] | None = None,
    nodata: float | None = None,
    mask: Any = None,
    scale: float | None = None,
    spacing: float | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Source:
    """Opens an image of any size for reading region by region.

    Args:
      what: an array, integer or floating [H, W] or [H, W, C], or any other object with .shape and .dtype that can be
        sliced (memory maps, TensorStore, h5py, zarr, dask); or a path: `.npy` (memory-mapped); a zarr array or an
        OME-Zarr, version 2 or 3, a directory or a zip file, whose axes may have names in any order; an HDF5 file,
        "FILE::DATASET"; `.tif` or `.tiff` (memory-mapped if it is not compressed, else decoded tile by tile or strip by
        strip); a whole slide (OpenSlide); a raster that GDAL reads (`cnn.images.rasters`); or any other picture that
        Pillow reads, which is decoded whole and upright (`cnn.images.pictures`). A `Source` is taken as it is, with the
        choices made here.
      net_channels: number of channels that the net takes, at least 1; pictures are read as grey or RGB. None: the
        number that the image has, or that are chosen.
      channels: numbers, counted from 0, or names of the channels that are read, in that order; None: all.
      page: which page of the file, counted from 0; None: its only one.
      level: which level of its pyramid; None: 0, the largest.
      select: entries along other axes, e.g. {"t": 0, "z": 3}.
      value_range: (low, high): the values that count as 0 and as 1, such as (0, 4095) of 12-bit pixels; values beyond
        it count as its nearest end. None: the lowest and highest value of an integer dtype; 0 and 1 of floating pixels,
        which are read as they are.
      nodata: the value of pixels that hold nothing, in units of the file, in place of the file's own; may be NaN.
      mask: which pixels count: an array or the path of any image, not zero where they do, of the image's size or of
        another level of its pyramid (`cnn.images.masks.Mask`); None: all.
      scale: resampled pixels for each pixel of the image, e.g. 0.5 (`cnn.images.resampled`), of the level that is
        chosen; without a choice of the largest, read from the smallest level that is at least as fine.
      spacing: size of a resampled pixel, in micrometres, metres or degrees, as the file has it (`Facts.spacing`).
      cache_bytes: largest memory for decoded chunks of a zarr array or segments of a TIFF, bytes.

    Returns:
      The image as a `Source`.

    Raises:
      StorageError: if the file is missing or malformed, or rank, dtype, range, mask or channels do not fit; says what
        to do.
    """
    for name, number, least in (("net_channels", net_channels, 1), ("cache_bytes", cache_bytes, 0)):
        if number is not None and not whole_number(least, 2**62)(number):
            raise StorageError(f"open_image: {name} (={short(number)}) must be a whole number of at least {least}")
    choice = Choice(page, level, select)
    taken = net_channels if channels is None else None  # where channels are chosen, they are those of the file

    def at(level: int | None) -> Source:
        opened = _opened(what, taken, choice._replace(level=level), value_range, cache_bytes)
        changed = _changed(opened, channels, value_range, nodata)
        return changed if mask is None else _masked(changed, mask)

    if scale is None and spacing is None:
        source = at(level)
    else:
        whole, array, facts = resampled.at_resolution(at, level, scale, spacing, _is_path(what))
        source = copy.copy(whole) if array is None else _resampled(whole, array)
        source.facts = facts
    if net_channels is not None and source.shape[2] != net_channels:
        raise StorageError(
            f"{source.name}: {shape_text(source.shape)} has {source.shape[2]} channels, the net takes {net_channels}; "
            f"{_channels_hint(source, net_channels)}"
        )
    return source


def _is_path(what: Any) -> bool:
    return isinstance(what, (str, os.PathLike))


def _opened(
    what: Any, net_channels: int | None, choice: Choice, value_range: Sequence[float] | None, cache_bytes: int
) -> Source:
    """The image as it is stored; pictures in the number of channels that the net takes."""
    if isinstance(what, Source):
        if choice != Choice():
            raise StorageError(f"{what.name}: it is open already; choose its page, level or axes where it is opened")
        return what
    if not _is_path(what):
        choices.only(f"array of type {type(what).__name__}", "an array", choice)
        return Source(what, f"array of type {type(what).__name__}", None, NOTHING, value_range)
    path = paths.resolve(what)
    array, facts = open_file(path, net_channels, cache_bytes, choice)
    if net_channels == 3 and _is_grey(array, path) and not is_array(path):
        array = Coloured(array, 3)
    return Source(array, path, paths.inside_of(path)[0], facts, value_range)


def _is_grey(array: Any, path: str) -> bool:
    return numpy_dtype(array, path).kind == "u" and (*array.shape, 1)[2] == 1


def _changed(
    source: Source, channels: Sequence[int | str] | None, value_range: Sequence[float] | None, nodata: Any
) -> Source:
    """A source with what is asked of it; the very source if that is nothing new."""
    again = value_range is not None and not (source.said and tuple(value_range) == source.value_range)
    if channels is None and nodata is None and not again:
        return source
    array, facts = source.array, source.facts
    if channels is not None:
        numbers = channels_lib.resolve(channels, facts.channel_names, source.shape[2], source.name)
        array = Chosen(array, numbers)
        names = facts.channel_names
        facts = facts._replace(channel_names=names and tuple(names[i] for i in numbers))
    if nodata is not None:
        facts = facts._replace(nodata=masks.number(nodata, source.name))
    said = value_range if value_range is not None else source.value_range if source.said else None
    made = Source(array, source.name, source.path, facts, said)
    made.mask, made.mask_path = source.mask, source.mask_path
    return made


def _resampled(source: Source, array: Any) -> Source:
    """A source at another resolution, whose pixels count as those of the source do."""
    said = source.value_range if source.said and not source.scaled else None  # others are fractions already
    made = Source(array, source.name, source.path, NOTHING, said)
    made.value_range, made.said = source.value_range, source.said
    made.mask, made.mask_path = array.mask, source.mask_path
    return made


def _masked(source: Source, mask: Any) -> Source:
    """A source of which the pixels of a mask count, as a source of its own."""
    path, name, facts = None, f"mask of type {type(mask).__name__}", NOTHING
    if _is_path(mask):
        path = name = paths.resolve(mask)
        mask, facts = open_file(path, None, CACHE_BYTES // 4)
    elif isinstance(mask, Source):
        path, name, facts, mask = mask.path, mask.name, mask.facts, mask.array
    if not (hasattr(mask, "shape") and hasattr(mask, "dtype") and hasattr(mask, "__getitem__")):
        raise StorageError(f"{name}: a mask is a path or has .shape, .dtype and slices; numpy.asarray makes one")
    made = copy.copy(source)
    made.mask, made.mask_path = masks.Mask(mask, source.shape, name, source.name, facts), path
    return made


def _channels_hint(source: Source, channels: int) -> str:
    """The way out where a net takes another number of channels than an image has."""
    count, names = source.shape[2], source.facts.channel_names
    if source.shape[0] == channels:
        return f"its channels seem to be first: {'save' if source.path else 'pass'} numpy.moveaxis(array, 0, -1)"
    has = f" (it has {channels_lib.listing(names, count)})" if names else ""
    chosen = ",".join(str(i % count) for i in range(channels)) if count else ""
    if source.path and channels in (1, 3) and count in (1, 3) and not names:
        return (
            "arrays are read as they are, pictures (.png, .tif of bytes) as grey or RGB, as the net takes them; "
            f"choose channels in order: --channels={chosen}"
        )
    if count > channels:
        return f"choose {channels} of them in order{has}: --channels={chosen} (channels=({chosen},), data.channels)"
    return f"stack them, take another net, or choose one several times{has}: --channels={chosen}"
