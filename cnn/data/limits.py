"""How much memory decoded pictures may take."""

import os

from cnn.images import pictures
from cnn.images.errors import DataError


def most_in_memory() -> float:
    """How many bytes of decoded pictures are held in memory where nothing else is asked for.

    Returns:
      `cnn.images.pictures.MAX_BYTES`, or half of the machine's memory where that is less.
    """
    names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
    if "SC_PHYS_PAGES" not in names:  # Windows
        return pictures.MAX_BYTES
    return min(pictures.MAX_BYTES, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2)


def check_memory(count: int, shape: tuple[int, int, int]) -> None:
    """Refuses a set that does not fit in memory before any of it is read.

    Args:
      count: images.
      shape: (H, W, C) of each, uint8.

    Raises:
      DataError: more than `cnn.images.pictures.MAX_BYTES`; says how many, and which image_size would fit.
    """
    height, width, channels = shape
    needed = count * height * width * channels
    if needed > pictures.MAX_BYTES:
        shrink = (pictures.MAX_BYTES / needed) ** 0.5
        raise DataError(
            f"{count} images of {height}x{width}x{channels} need {needed / 2**30:.1f} GiB of memory, above "
            f"the limit of {pictures.MAX_BYTES / 2**30:g} GiB (cnn.images.pictures.MAX_BYTES); a data.image_size of "
            f"{int(min(height, width) * shrink)} or less fits"
        )
