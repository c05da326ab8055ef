"""Whole slides through OpenSlide: levels, the size of a pixel, and what was scanned.

Where nothing was scanned, pixels are transparent: they are read in the slide's own background colour, else white.
Colour profiles are not applied.
"""

import math
import os
import threading
from typing import Any

import numpy as np

from cnn.images import choices, units
from cnn.images.computed import Computed
from cnn.images.errors import StorageError
from cnn.images.extras import needed
from cnn.images.facts import Choice, Facts
from cnn.images.views import Coloured

SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm")
BLOCK = 512  # pixels; see `_Level`
WHITE = "FFFFFF"


def known(path: str) -> bool:
    """Whether OpenSlide is installed and knows a file.

    Args:
      path: path of the file.

    Returns:
      Whether it does; it may fail to read it nevertheless.
    """
    try:
        return needed("openslide", path, "a slide").OpenSlide.detect_format(path) is not None
    except StorageError:
        return False


def open_slide(path: str, channels: int | None, cache_bytes: int, choice: Choice) -> tuple[Any, Facts]:
    """Opens a whole slide.

    Args:
      path: path of the file.
      channels: 1 for grey, 3 or None for RGB.
      cache_bytes: largest memory for decoded tiles, bytes.
      choice: which `level`.

    Returns:
      (an array-like uint8 [H, W, 3], or [H, W, 1]; what the file says of it).

    Raises:
      StorageError: if OpenSlide cannot read it, or it has no such level.
    """
    openslide = needed("openslide", path, "a whole slide")
    choices.only(path, "a whole slide", choice, "level")
    if openslide.OpenSlide.detect_format(path) is None:
        raise StorageError(
            f"{path}: it is none of the whole slides that OpenSlide {openslide.__library_version__} reads"
        )
    slide = _open(path, cache_bytes)
    sizes = tuple((height, width) for width, height in slide.level_dimensions)
    number = choices.one_of(path, "level", choice.level or 0, [f"{h}x{w}" for h, w in sizes], "levels")
    level = _Level(path, slide, number, cache_bytes)
    colours: Any = Computed((*sizes[number], 3), np.uint8, level.colours)
    ratio = [whole / part for whole, part in zip(sizes[0], sizes[number], strict=True)]
    size = [_number(slide.properties.get(f"openslide.mpp-{axis}")) for axis in "yx"]
    facts = Facts(
        spacing=units.spacing(size[0] * ratio[0], size[1] * ratio[1], "micrometre"),
        valid=Computed(sizes[number], np.bool_, level.scanned),
        levels=sizes if len(sizes) > 1 else (),
        chosen={"level": number} if len(sizes) > 1 else {},
        files=tuple(filter(os.path.isdir, [os.path.splitext(path)[0]])) if path.lower().endswith(".mrxs") else (),
    )
    return (Coloured(colours, 1) if channels == 1 else colours), facts


def is_exact(path: str, level: int) -> bool:
    """Whether OpenSlide gives the very pixels that are stored at a level, and does not interpolate between them.

    Args:
      path: path of a slide that OpenSlide knows.
      level: number of the level.

    Returns:
      Whether the level is smaller than the slide by a whole number; also where there is no such level.
    """
    slide = _open(path, 0)
    return level >= slide.level_count or float(slide.level_downsamples[level]).is_integer()


def _open(path: str, cache_bytes: int) -> Any:
    import openslide

    try:
        slide = openslide.OpenSlide(path)
        slide.set_cache(openslide.OpenSlideCache(cache_bytes))
    except openslide.OpenSlideError as error:
        raise StorageError(f"{path}: OpenSlide cannot read it: {error}; take an undamaged copy of the file") from error
    return slide


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


class _Level:
    """A level of a slide.

    OpenSlide takes places in pixels of the whole slide. Where a level is not smaller by a whole number, it interpolates
    between the stored pixels; such levels are read in blocks that always begin at the same places, so that a pixel is
    the same in whichever region it is read.
    """

    def __init__(self, path: str, slide: Any, level: int, cache_bytes: int) -> None:
        self._path, self._slide, self._level, self._cache_bytes = path, slide, level, cache_bytes
        self._ratio = float(slide.level_downsamples[level])
        colour = slide.properties.get("openslide.background-color") or WHITE
        self._background = tuple(int(colour[i : i + 2], 16) for i in (0, 2, 4))
        self._lock, self._latest = threading.Lock(), (None, np.zeros(0))

    def colours(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """uint8 [h, w, 3]: the colours of a region, over the background."""
        from PIL import Image

        pixels = self._pixels(y0, y1, x0, x1)
        if pixels[..., 3].all() and pixels[..., 3].min() == 255:
            return pixels[..., :3]
        below = Image.new("RGBA", (x1 - x0, y1 - y0), (*self._background, 255))
        return np.asarray(Image.alpha_composite(below, Image.fromarray(pixels)))[..., :3]

    def scanned(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """bool [h, w]: which pixels of a region are not wholly transparent."""
        return self._pixels(y0, y1, x0, x1)[..., 3] > 0

    def _pixels(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """uint8 [h, w, 4]: colours and opacity; the latest region is kept, because both are asked for in turn."""
        key = (y0, y1, x0, x1)
        with self._lock:
            if self._latest[0] == key:
                return self._latest[1]
            if not (y1 > y0 and x1 > x0):
                return np.zeros((y1 - y0, x1 - x0, 4), np.uint8)
            pixels = self._stored(*key) if self._ratio.is_integer() else self._in_blocks(*key)
            if pixels.nbytes <= self._cache_bytes:
                self._latest = (key, pixels)
            return pixels

    def _in_blocks(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        out = np.empty((y1 - y0, x1 - x0, 4), np.uint8)
        for top in range(y0 // BLOCK * BLOCK, y1, BLOCK):
            for left in range(x0 // BLOCK * BLOCK, x1, BLOCK):
                block = self._stored(top, top + BLOCK, left, left + BLOCK)
                rows, columns = slice(max(y0, top), min(y1, top + BLOCK)), slice(max(x0, left), min(x1, left + BLOCK))
                inside = block[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
                out[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0] = inside
        return out

    def _stored(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        import openslide

        place = (round(x0 * self._ratio), round(y0 * self._ratio))
        try:
            return np.asarray(self._slide.read_region(place, self._level, (x1 - x0, y1 - y0)))
        except openslide.OpenSlideError as error:
            self._slide = _open(self._path, self._cache_bytes)  # after an error OpenSlide refuses all other regions too
            raise StorageError(
                f"{self._path}: level {self._level}, rows {y0} to {y1}, columns {x0} to {x1} cannot be read: {error}; "
                "take an undamaged copy of the file"
            ) from error
