"""Intensities from the stored values of a TIFF: palettes, CMYK, inverted grey, few bits, transparency.

The judge of bytes is `cnn.images.pictures.decode`, by which all commands read pictures: whatever is read here in parts
has the same values there. Values of 16 bits follow the same formulas at their own range.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

_PALETTE, _INKS = 320, 332  # numbers of TIFF's tags
_ASSOCIATED, _UNASSOCIATED = 1, 2  # kinds of ExtraSamples
_LINEAR = ("MINISBLACK", "RGB", "MASK", "LINEAR_RAW", "SEPARATED", "MINISWHITE")  # whose values are intensities
_DECODED = (6, 7, 33007, 34892, 50001, 34927)  # JPEG's family and WebP, whose YCbCr is decoded to RGB
_APERIO_YCC = 33003  # Aperio's JPEG 2000 whose colours are YCbCr, whatever the photometric interpretation says
Convert = Callable[[np.ndarray], np.ndarray]


class Meaning(NamedTuple):
    """How the stored values of a page become intensities.

    Attributes:
      convert: stored values [h, w, samples] -> intensities [h, w, channels]; None: they are the same.
      channels: number of channels.
      dtype: dtype of the intensities.
      holds: stored values [h, w, samples] -> bool [h, w], whether a pixel holds something; None: all do.
      kept: whether the intensities are the stored values.
      picture: whether it is a grey or a coloured picture, which is read as the other where a net takes it so.
      chosen: what was done beside reading, e.g. {"alpha": "laid over white"}.
    """

    convert: Convert | None
    channels: int
    dtype: np.dtype
    holds: Convert | None
    kept: bool
    picture: bool
    chosen: Mapping[str, Any]


def meaning(page: Any, wanted: int | None, nodata: float | None) -> Meaning | None:
    """How the stored values of a page become intensities.

    Args:
      page: the page, a `tifffile.TiffPage`.
      wanted: number of channels that are wanted; None: those of the file.
      nodata: the stored value of pixels that hold nothing; None: there is none.

    Returns:
      The rule; None if the values are no intensities, as those of YCbCr without JPEG and of Lab, or of no known dtype.
    """
    if page.dtype is None:
        return None
    colour, dtype = getattr(page.photometric, "name", str(page.photometric)), page.dtype
    unsigned = dtype.kind in "bu" and dtype.itemsize <= 2
    holds: Convert | None = None if nodata is None else lambda pixels: (pixels != nodata).any(axis=-1)
    if colour == "PALETTE" and page.samplesperpixel == 1 and unsigned and _PALETTE in page.tags:
        return Meaning(_palette(page), 3, np.dtype(np.uint8), holds, False, True, {"colours": "palette"})
    inks = page.tags.get(_INKS)
    if colour == "SEPARATED" and page.samplesperpixel == 4 and dtype.kind == "u" and unsigned and (
            inks is None or inks.value == 1):  # fmt: skip
        return Meaning(_from_cmyk, 3, dtype, holds, False, True, {"colours": "CMYK"})
    if colour == "MINISWHITE" and unsigned:
        spread, top = _spread(page), (1 << _bits(page)) - 1
        return Meaning(
            lambda pixels: spread(top - pixels.astype(_byte_at_least(dtype))),
            *(page.samplesperpixel, _byte_at_least(dtype), holds, False, page.samplesperpixel == 1),
            {"colours": "inverted, white was 0"},
        )
    if page.compression == _APERIO_YCC and page.samplesperpixel == 3 and dtype == np.uint8:
        return Meaning(_from_ycc, 3, dtype, holds, False, True, {"colours": "YCbCr"})
    if colour in _LINEAR or colour == "YCBCR" and page.compression in _DECODED:
        if _bits(page) < 8 and unsigned:
            channels = page.samplesperpixel
            return Meaning(_spread(page), channels, np.dtype(np.uint8), holds, False, channels in (1, 3), {})
        return _linear(page, wanted)
    return None


def as_channels(page: Any, pages: int, samples: slice | None) -> Meaning:
    """The rule of pages or samples that are channels by name: palettes and inverted grey are how viewers show them.

    Args:
      page: one of them.
      pages: how many are gathered.
      samples: which samples of each page; None: all.

    Returns:
      The rule.
    """
    part = samples or slice(0, page.samplesperpixel)
    spread = _spread(page) if page.dtype.kind in "bu" else None

    def convert(pixels: np.ndarray) -> np.ndarray:
        chosen = pixels if samples is None else pixels[..., samples]
        return chosen if spread is None else spread(chosen)

    channels = (part.stop - part.start) * pages
    return Meaning(convert, channels, _byte_at_least(page.dtype), None, _bits(page) >= 8, False, {})


def _linear(page: Any, wanted: int | None) -> Meaning:
    """Grey, RGB or any channels as they are stored, with transparency or without."""
    samples, dtype = page.samplesperpixel, page.dtype
    rgb = getattr(page.photometric, "name", "") != "MINISBLACK" and samples >= 3
    extra = [int(kind) for kind in page.extrasamples]
    kinds = [0] * (samples - len(extra)) + extra
    alpha = next((i for i, kind in enumerate(kinds) if kind in (_ASSOCIATED, _UNASSOCIATED) and i), None)
    if alpha is None:
        if rgb and samples > 3 and wanted in (1, 3):
            chosen = {"channels": f"the 3 colours of {samples} samples"}
            return Meaning(lambda pixels: pixels[..., :3], 3, dtype, None, True, True, chosen)
        return Meaning(None, samples, dtype, None, True, samples == (3 if rgb else 1), {})

    def holds(pixels: np.ndarray) -> np.ndarray:
        return pixels[..., alpha] != 0

    if wanted == samples:
        return Meaning(None, samples, dtype, holds, True, False, {"alpha": "read as a channel"})
    others = [i for i in range(samples) if i != alpha]
    picture = len(others) == (3 if rgb else 1)
    if not picture or dtype.kind != "u" or dtype.itemsize > 2:
        chosen = {"alpha": "left out; says which pixels hold something"}
        return Meaning(lambda pixels: pixels[..., others], len(others), dtype, holds, True, picture, chosen)
    associated = kinds[alpha] == _ASSOCIATED
    return Meaning(
        lambda pixels: over_white(pixels[..., others], pixels[..., alpha, None], associated),
        *(len(others), page.dtype, holds, False, True, {"alpha": "laid over white"}),
    )


def over_white(colours: np.ndarray, alpha: np.ndarray, associated: bool) -> np.ndarray:
    """Lays a transparent picture over white, rounded as Pillow's `alpha_composite` rounds.

    Args:
      colours: uint8 or uint16 [h, w, C].
      alpha: [h, w, 1] of the same dtype; 0 is transparent.
      associated: whether the colours are already multiplied by alpha. Bytes are divided by it first, as Pillow does.

    Returns:
      An array like `colours`.
    """
    top = int(np.iinfo(colours.dtype).max)
    wide = np.uint32 if top == 255 else np.uint64
    values, opacity = colours.astype(wide), alpha.astype(wide)
    if associated and top == 255:
        values = np.minimum(values * wide(top) // np.maximum(opacity, wide(1)), wide(top))
    elif associated:
        return np.minimum(values + (wide(top) - opacity), wide(top)).astype(colours.dtype)
    laid = values * opacity + wide(top) * (wide(top) - opacity)
    if top == 255:  # Pillow's division by 255, in integers
        laid += wide(128)
        return (((laid >> wide(1)) + (laid << wide(7))) >> wide(15)).astype(np.uint8)
    return ((laid + wide(top // 2)) // wide(top)).astype(colours.dtype)


def _palette(page: Any) -> Convert:
    """Indices of a palette -> the colours that they stand for, in 8 bits."""
    table = np.asarray(page.tags[_PALETTE].value, np.uint16).reshape(3, -1).T
    colours = (table >> 8).astype(np.uint8)
    last = len(colours) - 1
    return lambda pixels: colours[np.minimum(pixels[..., 0].astype(np.uint16), last)]


def _from_cmyk(pixels: np.ndarray) -> np.ndarray:
    """Cyan, magenta, yellow and black as RGB, without colour management, rounded as Pillow rounds."""
    top = int(np.iinfo(pixels.dtype).max)
    light = top - pixels[..., 3:4].astype(np.int64)
    ink = pixels[..., :3] * light
    return np.clip(light - (2 * ink + top) // (2 * top), 0, top).astype(pixels.dtype)


def _from_ycc(pixels: np.ndarray) -> np.ndarray:
    """YCbCr of bytes as RGB, in JPEG's integers (ITU-T T.871, section 7; libjpeg's jdcolor.c)."""
    y, cb, cr = (pixels[..., i].astype(np.int32) for i in range(3))
    cb, cr, half = cb - 128, cr - 128, 1 << 15
    red = y + ((91881 * cr + half) >> 16)
    green = y + ((-22554 * cb - 46802 * cr + half) >> 16)
    blue = y + ((116130 * cb + half) >> 16)
    return np.stack([red, green, blue], axis=-1).clip(0, 255).astype(np.uint8)


def _bits(page: Any) -> int:
    return int(np.max(page.bitspersample))


def _byte_at_least(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def _spread(page: Any) -> Convert:
    """Values of fewer than 8 bits over the range of a byte, as every reader of pictures shows them; others stay."""
    top = (1 << _bits(page)) - 1
    if top >= 255:
        return lambda pixels: pixels
    table = np.round(np.arange(256) * (255 / top)).clip(0, 255).astype(np.uint8)
    return lambda pixels: table[pixels.astype(np.uint8)]
