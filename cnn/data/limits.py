"""How much memory decoded pictures may take."""

import math
import os
import sys
from collections.abc import Sequence

from cnn.images import pictures
from cnn.images.errors import DataError
from cnn.runtime import processes

MOST_COVERING = 2**27  # pixels of an enlarged picture of which the centre is cut out


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


def streams(in_memory: str, count: int, shape: tuple[int, int, int]) -> bool:
    """Whether pictures stay in their files; says so on standard error.

    Args:
      in_memory: "yes", "no" or "auto", by how much memory they take.
      count: number of images that this process reads.
      shape: (H, W, C) of each, uint8.

    Returns:
      True where they stay; of several processes, which all call this, the same in all.

    Raises:
      DataError: if they are to be in memory and do not fit.
    """
    if in_memory == "yes":
        try:
            check_memory(count, shape)
        except DataError as error:
            raise DataError(f"{error}; data.in_memory=no leaves them in their files") from error
        return False
    # Of several processes, which have different numbers of pictures, none streams alone.
    if in_memory == "auto" and all(processes.gather(count * math.prod(shape) <= most_in_memory())):
        return False
    text = f"{sum(processes.gather(count)):,} pictures stay in their files (data.in_memory={in_memory})"
    if processes.is_first():
        print(f"{text}: each is read once now to know it", file=sys.stderr, flush=True)
    return True


def check_covering(name: str, shape: Sequence[int], size: tuple[int, int]) -> None:
    """Refuses a picture so narrow that it would become huge where it just covers a size.

    Args:
      name: name of the picture in messages.
      shape: its (height, width, ...), pixels.
      size: (height, width) that it is resized to, pixels.

    Raises:
      DataError: if it would have more than MOST_COVERING pixels, and more than it has.
    """
    scale = max(size[0] / shape[0], size[1] / shape[1])
    covering = (round(shape[0] * scale), round(shape[1] * scale))
    if scale > 1 and covering[0] * covering[1] > MOST_COVERING:
        raise DataError(
            f"{name}: {shape[0]}x{shape[1]} pixels become {covering[0]}x{covering[1]} where they just cover "
            f"{size[0]}x{size[1]}, which takes too much memory; cut the part that is meant out of it"
        )
