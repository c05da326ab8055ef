"""Pictures in files as arrays of one shape: read upright by `cnn.images.whole`, resized by `cnn.images.resizing`."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from cnn.data import damages
from cnn.data.limits import check_covering, check_memory
from cnn.images import pictures, whole
from cnn.images.errors import DataError
from cnn.images.pictures import MODES
from cnn.images.resizing import fit

JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
BLOCK = 4096  # pictures that are decoded before further ones wait for a thread
# What errors advise where one image is opened, and several commands have no flags for.
_CHANNELS = re.compile(r"(?:choose|stack)[^;]*?--channels=([\d,]+)\)?(?: \(channels=\([^)]*\), data\.channels\))?")
_PART = re.compile(r"choose one by --select=.*?, or write it")


def load_images(
    paths: Sequence[str],
    image_size: int | tuple[int, int],
    channels: int,
    *,
    chosen: Sequence[int | str] | None = None,
    value_range: Sequence[float] | None = None,
) -> np.ndarray:
    """Reads pictures as training wants them: 8 bits, shortest side resized (antialiased), then the centre cut out.

    Args:
      paths: files of any format that `cnn.images.source.open_image` opens; grey, RGB(A), palette, CMYK, with any EXIF
        orientation. Values of more than 8 bits are scaled by their range to 8 bits before they are resized.
      image_size: pixels, one number for a square or (height, width).
      channels: 1 for grey, 3 for RGB; with `chosen`, their number.
      chosen: numbers or names of the channels that are read, in order; None: all.
      value_range: (low, high): the values that count as 0 and as 255; None: those of the dtype.

    Returns:
      uint8 [N, height, width, channels].

    Raises:
      DataError: a file that cannot be read (it is named), a size below 1, channels other than 1 or 3, or more
        than `cnn.images.pictures.MAX_BYTES` of pixels.
    """
    return read_images(paths, image_size, channels, chosen=chosen, value_range=value_range).images


class Read(NamedTuple):
    """Pictures that were read, and what is to be known of them.

    Attributes:
      images: uint8 [N, height, width, channels]; zeros for one that could not be read.
      sizes: (height, width) of each as it is stored, pixels, int64 [N, 2]; 0 for one that could not be read.
      errors: number of the picture -> why it could not be read.
      damages: number of the picture -> what is damaged in its file, though it was decoded (`cnn.data.damages`).
    """

    images: np.ndarray
    sizes: np.ndarray
    errors: dict[int, DataError]
    damages: dict[int, str]


def read_images(
    paths: Sequence[str],
    image_size: int | tuple[int, int],
    channels: int,
    *,
    chosen: Sequence[int | str] | None = None,
    value_range: Sequence[float] | None = None,
    stops: bool = True,
    examine: bool = False,
) -> Read:
    """Reads pictures as `load_images` does, and says of each what may be wrong with it.

    Args:
      paths, image_size, channels, chosen, value_range: as for `load_images`.
      stops: whether the first picture that cannot be read is raised, and no further ones are read.
      examine: whether files are searched for damages that a decoder passes over.

    Returns:
      What was `Read`.

    Raises:
      DataError: as `load_images`; of files that cannot be read only if it `stops`.
    """
    size = checked_size(image_size, channels, chosen)
    check_memory(len(paths), (*size, channels))
    images = np.zeros((len(paths), *size, channels), np.uint8)

    def take(i: int, pixels: np.ndarray, damage: str | None) -> None:
        del damage
        images[i] = pixels

    decoder = Decoder(size, channels, chosen, value_range)
    return Read(images, *decode_each(paths, decoder, take, stops=stops, examine=examine))


class Decoder(NamedTuple):
    """How a picture is decoded for training.

    Attributes:
      size: (height, width) that it gets, pixels.
      channels: number of channels.
      chosen, value_range: as for `load_images`.
    """

    size: tuple[int, int]
    channels: int
    chosen: Sequence[int | str] | None = None
    value_range: Sequence[float] | None = None

    def decode(self, item: str) -> tuple[np.ndarray, tuple[int, int]]:
        """Decodes one file.

        Args:
          item: the file.

        Returns:
          Its pixels, uint8 [height, width, channels], and (height, width) as it is stored, pixels.

        Raises:
          DataError: if it cannot be read.
        """
        pixels = self.whole(item)
        check_covering(item, pixels.shape, self.size)
        return fit(pixels, *self.size), (pixels.shape[0], pixels.shape[1])

    def whole(self, item: str, reduced: Callable[[int, int], int] | None = None) -> np.ndarray:
        """Decodes one file as it is, upright.

        Args:
          item: the file.
          reduced: by what height and width may be divided, as for `cnn.images.pictures.decode`; a JPEG is.

        Returns:
          uint8 [H, W, channels].

        Raises:
          DataError: if it cannot be read.
        """
        try:
            # The header is read once here, and three times by `cnn.images.whole`: a third of the time of decoding.
            if self.chosen is None and self.value_range is None and _is_jpeg(item):
                image = np.asarray(pictures.decode(item, self.channels, reduced))
                return image.reshape(*image.shape[:2], self.channels)
            return whole.read_bytes(item, self.channels, chosen=self.chosen, value_range=self.value_range)
        except DataError as error:
            raise _advised(error, self.channels, of_all=True) from error

    def as_json(self) -> dict[str, Any]:
        """The fields that it is made of again.

        Returns:
          Field -> value.
        """
        return self._asdict()


def _is_jpeg(path: str) -> bool:
    """Whether a file is a JPEG by its name and by its first bytes; False for one that cannot be opened."""
    if not os.fspath(path).lower().endswith(JPEG):
        return False
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(3) == b"\xff\xd8\xff"
    return False


def decode_each(
    items: Sequence[Any],
    decoder: Any,
    take: Callable[[int, np.ndarray, str | None], None],
    *,
    stops: bool,
    examine: bool,
) -> tuple[np.ndarray, dict[int, DataError], dict[int, str]]:
    """Decodes pictures on all cores, each of which is taken and then forgotten.

    Args:
      items: what the decoder decodes: files, or numbers of images in a file.
      decoder: a `Decoder`, or one like it.
      take: (number of the picture, its pixels, what is damaged in its file or None); called by several threads.
      stops, examine: as for `read_images`.

    Returns:
      Sizes, errors and damages, as `Read` has them.

    Raises:
      DataError: of a file that cannot be read, if it `stops`.
    """
    sizes = np.zeros((len(items), 2), np.int64)
    errors: dict[int, DataError] = {}
    found: dict[int, str] = {}

    def read(i: int) -> None:
        try:
            pixels, sizes[i] = decoder.decode(items[i])
        except DataError as error:
            if stops:
                raise
            errors[i] = error
            return
        damage = damages.of_file(items[i]) if examine else None
        if damage:
            found[i] = damage
        take(i, pixels, damage)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes outside the GIL
        for start in range(0, len(items), BLOCK):  # each task that waits takes memory
            for _ in pool.map(read, range(start, min(start + BLOCK, len(items)))):  # an error cancels what is not begun
                pass
    return sizes, dict(sorted(errors.items())), dict(sorted(found.items()))


def load_image(
    path: str,
    image_size: int | tuple[int, int],
    channels: int,
    *,
    chosen: Sequence[int | str] | None = None,
    value_range: Sequence[float] | None = None,
) -> np.ndarray:
    """Reads one picture as a prediction wants it: as `load_images`, but with all bits that it has.

    Args:
      path: the file.
      image_size, channels, chosen, value_range: as for `load_images`.

    Returns:
      [height, width, channels]: uint8 of a picture of bytes of the full range; of others float32 fractions of their
      range, resized as such.

    Raises:
      DataError: as `load_images`.
    """
    height, width = checked_size(image_size, channels, chosen)
    try:
        pixels = whole.read_whole(path, channels, chosen=chosen, value_range=value_range)
    except DataError as error:
        raise _advised(error, channels) from error
    check_covering(path, pixels.shape, (height, width))
    return fit(pixels, height, width)


def _advised(error: DataError, channels: int, of_all: bool = False) -> DataError:
    """An error of one image with the ways out that there are for many: in training (`of_all`), or for a trained net."""
    text, count = str(error), f"{channels} channel{'s' * (channels != 1)}"
    choose = ", or choose channels of all pictures: --config.data.channels=(\\1)" if of_all else ""
    text = _PART.sub("write it", _CHANNELS.sub(f"save it with {count}{choose}", text))
    return error if text == str(error) else DataError(text)


def checked_size(
    image_size: int | tuple[int, int], channels: int, chosen: Sequence[int | str] | None
) -> tuple[int, int]:
    """(height, width) of an image size, pixels.

    Args:
      image_size, channels, chosen: as for `load_images`.

    Returns:
      The two numbers.

    Raises:
      DataError: a size below 1, or channels other than 1 or 3 where none are chosen.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height < 1 or width < 1:
        raise DataError(f"image_size (={height}x{width}) must be at least 1x1 pixel")
    if chosen is None and channels not in MODES:
        raise DataError(f"channels (={channels}) must be 1 (grey) or 3 (RGB)")
    return height, width
