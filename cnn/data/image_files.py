"""Pictures in files: any mode, size and orientation -> uint8 arrays of one shape."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

MODES = {1: "L", 3: "RGB"}  # channels -> Pillow's name
MAX_BYTES = 8 * 2**30  # a set larger than this is not read into memory


class DataError(ValueError):
    """A data set that is missing, malformed or too large; the message says which, and what to do."""


def decode(file: str | IO[bytes], channels: int) -> Image.Image:
    """Reads one picture upright, as 8-bit grey or RGB.

    The EXIF orientation is applied. Transparent pixels are laid over white, as a viewer shows them; 16-bit
    grey is scaled to 8 bits; palette, CMYK and other modes are converted.

    Args:
      file: path, or an open binary file.
      channels: 1 for grey, 3 for RGB.

    Returns:
      A loaded Pillow image of mode "L" or "RGB".

    Raises:
      DataError: not a picture that Pillow can read, or values that have no 8-bit meaning.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            image: Image.Image = opened
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I") or image.mode == "F":
                image = _to_eight_bits(image)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image if image.mode == MODES[channels] else image.convert(MODES[channels])
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, ...
        raise _unreadable(file, error) from error


def _unreadable(file: str | IO[bytes], error: Exception) -> DataError:
    return DataError(f"cannot read {file if isinstance(file, str) else 'it'} as an image: {error}")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    from PIL import Image

    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"mode {image.mode!r} with values {values.min()} to {values.max()}: only 8-bit and unsigned "
            "16-bit pixels have a known range; save it as one of these"
        )
    return Image.fromarray(np.round(values / 257.0).astype(np.uint8))  # 65535 / 257 = 255


def resize_and_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resizes an image (bicubic, antialiased) until it just covers a size, and cuts out the centre.

    Args:
      image: a Pillow image.
      height: rows wanted.
      width: columns wanted.

    Returns:
      A Pillow image of width x height; the very image if it already has that size.
    """
    from PIL import Image

    if image.size == (width, height):
        return image
    scale = max(height / image.height, width / image.width)
    covering = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    image = image.resize(covering, Image.Resampling.BICUBIC)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def resize(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resizes one image (Pillow's bicubic, antialiased), each channel by itself.

    Args:
      image: uint8 [H, W, C], any number of channels.
      size: (height, width), pixels; the aspect ratio becomes theirs.

    Returns:
      uint8 [height, width, C]; the very array if it has that size already.
    """
    from PIL import Image

    if image.shape[:2] == tuple(size):
        return image
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((size[1], size[0]), Image.Resampling.BICUBIC))
        for plane in np.moveaxis(image, -1, 0)
    ]
    return np.stack(planes, axis=-1)


def picture_size(file: str | IO[bytes]) -> tuple[int, int]:
    """The size that `decode` will give a picture, from the file's header alone.

    Args:
      file: path, or an open binary file.

    Returns:
      (height, width), pixels, upright.

    Raises:
      DataError: not a picture that Pillow can read.
    """
    from PIL import ExifTags, Image

    try:
        with Image.open(file) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)  # by a quarter
            return image.size if turned else (image.height, image.width)
    except Exception as error:  # as in `decode`
        raise _unreadable(file, error) from error


def load_images(paths: Sequence[str], image_size: int | tuple[int, int], channels: int) -> np.ndarray:
    """Reads pictures as a net wants them: shortest side resized (antialiased), then the centre cut out.

    Args:
      paths: files that Pillow can read; grey, RGB(A), palette, CMYK, 16-bit, with any EXIF orientation.
      image_size: pixels, one number for a square or (height, width).
      channels: 1 for grey, 3 for RGB.

    Returns:
      uint8 [N, height, width, channels].

    Raises:
      DataError: a file that cannot be read (it is named), a size below 1, channels other than 1 or 3, or more
        than MAX_BYTES of pixels.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height < 1 or width < 1:
        raise DataError(f"image_size (={height}x{width}) must be at least 1x1 pixel")
    if channels not in MODES:
        raise DataError(f"channels (={channels}) must be 1 (grey) or 3 (RGB)")
    check_memory(len(paths), (height, width, channels))
    images = np.empty((len(paths), height, width, channels), np.uint8)

    def read(i: int) -> None:
        image = resize_and_crop(decode(os.fspath(paths[i]), channels), height, width)
        images[i] = np.asarray(image).reshape(height, width, channels)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes outside the GIL
        for _ in pool.map(read, range(len(paths))):
            pass
    return images


def check_memory(count: int, shape: tuple[int, int, int]) -> None:
    """Refuses a set that does not fit in memory before any of it is read.

    Args:
      count: images.
      shape: (H, W, C) of each, uint8.

    Raises:
      DataError: more than MAX_BYTES; says how many, and which image_size would fit.
    """
    height, width, channels = shape
    needed = count * height * width * channels
    if needed > MAX_BYTES:
        shrink = (MAX_BYTES / needed) ** 0.5
        raise DataError(
            f"{count} images of {height}x{width}x{channels} need {needed / 2**30:.1f} GiB of memory, above "
            f"the limit of {MAX_BYTES / 2**30:g} GiB (cnn.data.image_files.MAX_BYTES); a data.image_size of "
            f"{int(min(height, width) * shrink)} or less fits"
        )
