"""TIFF files as arrays that can be sliced, and what they say of their image.

tifffile is imported where it is used, because it takes longer to import than this package.
"""

import logging
from typing import Any

import numpy as np

from cnn.images import pictures, tiff_facts
from cnn.images.errors import DataError, StorageError
from cnn.images.facts import Choice, Facts
from cnn.images.pictures import open_picture
from cnn.images.tiff_colours import Meaning, as_channels, meaning
from cnn.images.tiff_georeference import georeference, placed
from cnn.images.tiff_pages import Layout, layout, mask_page
from cnn.images.tiff_segments import EXTRA, Cache, Gathered, UndecodableError, mapped_plane, stored_page
from cnn.images.views import Coloured, Turned

LOG = logging.getLogger(__name__)
ANY = Choice()
_ORIENTATION = 274  # number of TIFF's tag


def open_tiff(path: str, channels: int | None, cache_bytes: int, choice: Choice = ANY) -> tuple[Any, Facts]:
    """Opens the image of a TIFF that is meant, region by region.

    Values are those that are stored, of any dtype, with these exceptions, which are those of
    `cnn.images.pictures.decode`: palettes and CMYK become RGB, grey whose white is 0 is inverted, grey of 1, 2 or 4
    bits is spread over a byte, and grey or RGB of 8 or 16 bits with transparency is laid over white. Grey and RGB
    pictures of 8 or 16 bits are read as the other of the two if `channels` says so; where `channels` is the number of
    stored samples, transparency is one of them. Pages or axes that OME-TIFF and ImageJ name as channels are gathered.

    What tifffile does not decode (YCbCr without JPEG, Lab; a compression without a codec) is decoded as a whole by
    `decode` where it is a picture of bytes.

    Args:
      path: path of the file.
      channels: number of channels that are wanted; None: those of the file.
      cache_bytes: largest memory for decoded tiles or strips, bytes.
      choice: page, level and entries along other axes.

    Returns:
      (an array-like object with .shape and .dtype, upright, which can be sliced as [rows, columns]; what the file says
      of it).

    Raises:
      StorageError: if the file holds several images and none is chosen, there is no such page, level or entry, or its
        compression or its values cannot be read.
    """
    import tifffile

    logging.getLogger("tifffile").addFilter(_not_of_nodata)
    with tifffile.TiffFile(path) as file:
        try:
            found = layout(file, choice)
        except ValueError as error:
            raise StorageError(f"{path}: {error}") from error
        page = found.series.keyframe
        nodata = tiff_facts.nodata(page)
        cache = Cache(cache_bytes)
        several = found.gathered or found.samples is not None
        rule = as_channels(page, len(found.pages), found.samples) if several else meaning(page, channels, nodata)
        if rule is None:
            return _whole(path, channels, choice, page), _facts(file, path, found)
        try:
            stored = _stored(path, found, cache)
        except UndecodableError as error:
            if page.dtype != np.uint8 or not _plain(choice) or channels not in (None, *pictures.MODES):
                raise
            return _whole_instead(path, channels, error), _facts(file, path, found)
        array, turn = Converted(stored, rule), _orientation(page)
        valid = _valid(file, found, stored, rule, cache)
        facts = _facts(file, path, found)._replace(
            nodata=nodata if rule.kept else None, valid=None if valid is None else _turned(valid, turn)
        )
        facts = facts._replace(chosen={**facts.chosen, **rule.chosen})
    array = _turned(array, turn)
    recoloured = rule.picture and channels in pictures.MODES and channels != rule.channels
    return (Coloured(array, channels) if recoloured and channels and array.dtype.kind == "u" else array), facts


class Converted:
    """Stored values read as intensities.

    Attributes:
      shape: (height, width, channels), pixels.
      dtype: dtype of the intensities.
    """

    def __init__(self, stored: Any, rule: Meaning) -> None:
        """Wraps the stored values.

        Args:
          stored: [H, W, samples]; can be sliced as [rows, columns].
          rule: how they become intensities.
        """
        self._stored, self._convert = stored, rule.convert
        self.shape, self.dtype = (*stored.shape[:2], rule.channels), rule.dtype

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """The intensities of a region [rows, columns]."""
        pixels = np.asarray(self._stored[region])
        pixels = pixels if self._convert is None else self._convert(pixels)
        return pixels.astype(self.dtype, copy=False)


class Holds:
    """Which pixels hold something.

    Attributes:
      shape: (height, width), pixels.
      dtype: bool.
    """

    def __init__(self, stored: Any, holds: Any) -> None:
        """Wraps the values that say it.

        Args:
          stored: [H, W, samples]; can be sliced as [rows, columns].
          holds: values [h, w, samples] -> bool [h, w].
        """
        self._stored, self._holds = stored, holds
        self.shape, self.dtype = stored.shape[:2], np.dtype(bool)

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """Bool [h, w] of a region [rows, columns]."""
        return self._holds(np.asarray(self._stored[region]))


class Both:
    """Pixels that hold something by two accounts.

    Attributes:
      shape: (height, width), pixels.
      dtype: bool.
    """

    def __init__(self, one: Any, other: Any) -> None:
        """Wraps two arrays bool [H, W] that can be sliced as [rows, columns]."""
        self._one, self._other, self.shape, self.dtype = one, other, one.shape, np.dtype(bool)

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """Bool [h, w] of a region [rows, columns]."""
        return self._one[region] & self._other[region]


def _stored(path: str, found: Layout, cache: Cache) -> Any:
    """The stored values of the pages that are meant, [H, W, samples]."""
    page = found.series.keyframe
    if found.planes is None:
        arrays = [stored_page(one, cache, tiff_facts.fill_value(page)) for one in found.pages]
    else:
        offset = found.series.dataoffset
        if offset is None:
            raise StorageError(
                f"{path}: {len(found.series)} pages do not hold its {'x'.join(map(str, found.series.shape))} values; "
                "take a complete copy of the file"
            )
        arrays = [mapped_plane(found.pages[0], offset + number * page.nbytes) for number in found.planes]
    return arrays[0] if len(arrays) == 1 else Gathered(arrays)


def _not_of_nodata(record: logging.LogRecord) -> bool:
    """Keeps tifffile from warning of no-data values that it does not cast, such as -3.4e38 of float32."""
    return "GDAL_NODATA" not in record.getMessage()


def _valid(file: Any, found: Layout, stored: Any, rule: Meaning, cache: Cache) -> Any:
    """Which pixels hold something, as transparency and a page of mask say; None: all."""
    accounts = [] if rule.holds is None else [Holds(stored, rule.holds)]
    mask = mask_page(file, found)
    if mask is not None:
        accounts.append(Holds(stored_page(mask, cache), lambda pixels: pixels[..., 0] != 0))
    return Both(*accounts) if len(accounts) == 2 else accounts[0] if accounts else None


def _orientation(page: Any) -> int:
    """EXIF's orientation, 1 to 8."""
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag is not None and isinstance(tag.value, int) and 1 < tag.value <= 8 else 1


def _turned(array: Any, orientation: int) -> Any:
    return array if orientation == 1 else Turned(array, orientation)


def _facts(file: Any, path: str, found: Layout) -> Facts:
    """What the file says, for the picture as it is read: upright, at its level."""
    page = found.series.keyframe
    base = found.base
    turn, size, largest = _orientation(base), found.sizes[found.level], found.sizes[0]
    where = georeference(base, path)
    spacing = tiff_facts.spacing(file, found, where, base)
    chosen = dict(found.chosen)
    pixel = None
    if spacing is not None:
        pixel, chosen["spacing"] = spacing
        pixel = pixel._replace(y=pixel.y * (largest[0] / size[0]), x=pixel.x * (largest[1] / size[1]))
        pixel = pixel._replace(y=pixel.x, x=pixel.y) if turn >= 5 else pixel
    if 8 < max(np.atleast_1d(page.bitspersample)) < 16:
        chosen["bits"] = int(max(np.atleast_1d(page.bitspersample)))
    return Facts(
        channel_names=tiff_facts.channel_names(file, found),
        spacing=pixel,
        georeference=None if where is None else placed(where, largest, size, turn),
        levels=tuple((x, y) if turn >= 5 else (y, x) for y, x in found.sizes) if len(found.sizes) > 1 else (),
        chosen=chosen,
    )


def _plain(choice: Choice) -> bool:
    """Whether that image is meant which every command takes."""
    return choice.page is None and not choice.level and not choice.select


def _whole(path: str, channels: int | None, choice: Choice, page: Any) -> Any:
    """A TIFF that is not read in parts."""
    colour = getattr(page.photometric, "name", page.photometric)
    coding = getattr(page.compression, "name", page.compression)
    what = f"{page.samplesperpixel} channels of {page.dtype}, {colour}, compression {coding}"
    if not _plain(choice):
        raise StorageError(f"{path}: page {page.index} ({what}) is not read in parts; save it as grey or RGB")
    try:
        return open_picture(path, channels)
    except DataError as error:
        raise StorageError(
            f"{path}: cannot be read in parts ({what}) nor as a picture: {error.__cause__ or error}; save it as grey or"
            " RGB"
        ) from error


def _whole_instead(path: str, channels: int | None, error: UndecodableError) -> Any:
    """A TIFF of bytes whose parts cannot be decoded: read as `--mode=predict` reads it, which a line says."""
    try:
        picture = open_picture(path, channels)
    except DataError:
        raise error from None
    LOG.warning(
        "%s: read as a whole picture, %.0f MiB beyond the memory limit; %s lets a stream read it in parts",
        *(path, picture.nbytes / 2**20, EXTRA),
    )
    return picture
