"""Images that are read into memory as a whole: what training, predictions and pictures of results look at."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn.images import pictures, ranges
from cnn.images.errors import DataError
from cnn.images.files import is_picture
from cnn.images.source import Source, open_image
from cnn.windows import shape_text


def read_whole(
    what: Any,
    channels: int | None = None,
    *,
    chosen: Sequence[int | str] | None = None,
    value_range: Sequence[float] | None = None,
) -> np.ndarray:
    """Reads an image as a net sees it: the same pixels as a stream reads in tiles.

    Args:
      what: path of an image, or whatever else `cnn.images.source.open_image` opens.
      channels: number of channels that the net takes; None: those of the image.
      chosen: numbers or names of the channels that are meant, in order; None: all.
      value_range: (low, high): the values that count as 0 and as 1; None: those of the dtype.

    Returns:
      uint8 [H, W, C] of an image of bytes of the full range; of others float32 fractions of their range.

    Raises:
      DataError: if it cannot be read, or is larger than `cnn.images.pictures.MAX_BYTES`.
    """
    source, pixels = _read(what, channels, chosen, value_range)
    if source.dtype == np.uint8 and source.value_range == ranges.of_dtype(np.uint8):
        return pixels
    if source.dtype.name in ranges.SMALL:
        return ranges.fractions(pixels, source.value_range)
    if not source.said:
        ranges.check_fractions(pixels, source.name)
    return pixels.astype(np.float32)


def read_bytes(
    what: Any,
    channels: int | None = None,
    *,
    chosen: Sequence[int | str] | None = None,
    value_range: Sequence[float] | None = None,
) -> np.ndarray:
    """Reads an image in 8 bits, as training keeps it: `read_whole`, scaled by its range.

    Args:
      what, channels, chosen, value_range: as for `read_whole`.

    Returns:
      uint8 [H, W, C]: 0 and 255 are the ends of the range, values beyond it count as its nearest end.

    Raises:
      DataError: as `read_whole`; and if a pixel is NaN, which bytes do not have.
    """
    source, pixels = _read(what, channels, chosen, value_range)
    small = source.dtype.name in ranges.SMALL
    if not small:
        if not source.said:
            ranges.check_fractions(pixels, source.name)
        if np.isnan(pixels).any():
            raise DataError(f"{source.name}: it has pixels that are NaN, which 8 bits, as training keeps, do not have")
    return ranges.eight_bits(pixels, source.value_range if small else (0.0, 1.0))


def _read(what: Any, channels: int | None, chosen: Any, value_range: Any) -> tuple[Source, np.ndarray]:
    source = open_image(what, net_channels=channels, channels=chosen, value_range=value_range)
    height, width, _ = source.shape
    size = int(np.prod(source.shape)) * source.dtype.itemsize
    if size > pictures.MAX_BYTES:
        raise DataError(
            f"{source.name}: {shape_text(source.shape)} is {size / 2**30:.1f} GiB, the limit of what is read as a "
            f"whole {pictures.MAX_BYTES / 2**30:g} GiB; run the net over it from file to file: "
            "experiments.dense_eval with --image and --output=MAP.zarr"
        )
    return source, source.read(0, height, 0, width)


def size(path: str) -> tuple[int, int]:
    """The size of an image, from its file's header alone where the format says it there.

    Args:
      path: path of any file that `cnn.images.source.open_image` opens.

    Returns:
      (height, width), pixels, upright.

    Raises:
      DataError: if it cannot be read.
    """
    if is_picture(path):
        return pictures.picture_size(path)
    height, width, _ = open_image(path).shape
    return height, width
