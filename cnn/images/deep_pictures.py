"""Pictures of more than 8 bits in formats that are decoded as a whole: 16-bit grey, 16-bit colours, floating values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn.images.errors import DataError
from cnn.images.views import Coloured, Turned

if TYPE_CHECKING:
    from PIL import Image

EXTRA = "python -m pip install -r requirements-images.txt"
_GAP = rb"(?:\s|#[^\n]*\n)+"  # space and comments between the numbers of a PPM's head
_PPM = re.compile(rb"P([36])" + _GAP.join([b"", rb"(\d+)", rb"(\d+)", rb"(\d+)\s"]))  # width, height, largest value
_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH, _COLOUR = 24, 25  # places in a PNG file of the bits of a sample, and of the kind of its pixels
_GREY = 0  # that kind
_HEAD = 2**16  # bytes of a file in which this stands, also behind long comments


def is_deep(image: Image.Image, path: str) -> bool:
    """Whether a picture has more than 8 bits a sample.

    Args:
      image: the opened picture.
      path: path of its file; Pillow itself says nothing of the 16 bits of the colours of a PNG or PPM.

    Returns:
      Whether `read` reads it.
    """
    return image.mode.startswith("I") or image.mode == "F" or _is_deep_colour(path)


def _is_deep_colour(path: str) -> bool:
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if head.startswith((b"P3", b"P6")):
        found = _PPM.match(head)
        return found is not None and int(found[4]) > 255
    return head.startswith(_PNG) and len(head) > _COLOUR and head[_DEPTH] == 16 and head[_COLOUR] != _GREY


def read(image: Image.Image, path: str, channels: int | None, orientation: int) -> np.ndarray:
    """The pixels of a picture of more than 8 bits, upright.

    Args:
      image: the opened picture, at the page that is meant.
      path: path of its file.
      channels: 1 for grey, 3 for RGB; None: as it is stored.
      orientation: EXIF's orientation, 1 to 8.

    Returns:
      [H, W] or [H, W, 3]: uint16, int32 or float32.

    Raises:
      DataError: if it needs a package that is missing, or floating colours would have to become grey.
    """
    pixels = _colours(path) if _is_deep_colour(path) else _grey(image)
    pixels = Turned(pixels, orientation)[0 : _sides(pixels, orientation)[0], 0 : _sides(pixels, orientation)[1]]
    stored = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels in (None, stored):
        return pixels
    return np.ascontiguousarray(Coloured(pixels, channels or stored)[:, :])  # pyright: ignore[reportArgumentType]


def _sides(pixels: np.ndarray, orientation: int) -> tuple[int, int]:
    height, width = pixels.shape[:2]
    return (width, height) if orientation >= 5 else (height, width)


def _grey(image: Image.Image) -> np.ndarray:
    """Grey of 16 bits, whole numbers of 32, or floating values; what is transparent is white."""
    image.load()
    pixels: Any = np.asarray(image)
    if image.mode.startswith("I") and image.format in ("PNG", "PPM"):  # which hold no more than 16 bits
        pixels = pixels.astype(np.uint16)
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            pixels[pixels == transparent] = np.iinfo(np.uint16).max
    return pixels if pixels.dtype.isnative else pixels.astype(pixels.dtype.newbyteorder("="))


def _colours(path: str) -> np.ndarray:
    """A PNG of 16-bit colours, or of grey with transparency, laid over white, or a PPM; Pillow keeps 8 bits of it."""
    with open(path, "rb") as file:
        content = file.read()
    if content.startswith((b"P3", b"P6")):
        return _portable(content)
    try:
        import imagecodecs
    except ImportError:
        raise DataError(f"it is a PNG of 16-bit colours, for which a package is missing: {EXTRA}") from None
    pixels = np.asarray(imagecodecs.png_decode(content))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] in (2, 4):
        part = pixels[..., -1:].astype(np.float64) / 65535
        pixels = np.round(pixels[..., :-1] * part + 65535 * (1 - part)).astype(np.uint16)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _portable(content: bytes) -> np.ndarray:
    """A PPM of more than 8 bits: its largest value becomes 65535, as Pillow has it for grey."""
    found = _PPM.match(content)
    assert found is not None
    width, height, largest = (int(number) for number in found.groups()[1:])
    if found[1] == b"3":  # numbers in words
        words = re.sub(rb"#[^\n]*", b"", content[found.end() :]).split()
        values = np.array(words[: width * height * 3], np.uint16).reshape(height, width, 3)
    else:
        values = np.frombuffer(content, ">u2", width * height * 3, found.end()).reshape(height, width, 3)
    return values.astype(np.uint16) if largest == 65535 else np.round(values * (65535 / largest)).astype(np.uint16)
