"""Images resized to another shape: until they cover it, with the centre cut out, or whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


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
      image: uint8 [H, W, C], any number of channels, or float32 fractions.
      size: (height, width), pixels; the aspect ratio becomes theirs.

    Returns:
      [height, width, C] of the same dtype; the very array if it has that size already.
    """
    from PIL import Image

    if image.shape[:2] == tuple(size):
        return image
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((size[1], size[0]), Image.Resampling.BICUBIC))
        for plane in np.moveaxis(image, -1, 0)
    ]
    resized = np.stack(planes, axis=-1)
    return resized if image.dtype == np.uint8 else np.clip(resized, 0, 1)  # as bytes are cut where it overshoots


def fit(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes an image until it just covers a size, and cuts out the centre, as `resize_and_crop` does.

    Args:
      pixels: uint8 [H, W, C], or floating fractions [H, W, C].
      height: rows wanted.
      width: columns wanted.

    Returns:
      [height, width, C]: uint8, or float32 from 0 to 1; each channel is resized by itself.
    """
    from PIL import Image

    if pixels.shape[:2] == (height, width):
        return pixels
    floating = pixels.dtype != np.uint8
    if not floating and pixels.shape[2] == 3:
        return np.asarray(resize_and_crop(Image.fromarray(pixels), height, width))
    planes = [
        np.ascontiguousarray(plane) for plane in np.moveaxis(pixels.astype(np.float32) if floating else pixels, -1, 0)
    ]
    fitted = np.stack([np.asarray(resize_and_crop(Image.fromarray(x), height, width)) for x in planes], axis=-1)
    return np.clip(fitted, 0, 1) if floating else fitted  # as bytes are cut where resizing overshoots
