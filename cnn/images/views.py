"""Arrays that are read region by region: from a mapped file, in another orientation, with other channels or axes."""

import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

# EXIF's orientation -> whether rows and columns, once exchanged if it is 5 or more, run backwards.
_BACKWARDS = {
    1: (False, False),
    2: (False, True),
    3: (True, True),
    4: (True, False),
    5: (False, False),
    6: (False, True),
    7: (True, True),
    8: (True, False),
}
# Pillow's weights of red, green and blue in a grey picture (ITU-R 601), in units of 2**-16.
_LUMA = np.array([19595, 38470, 7471], np.uint32)


class Mapped:
    """A memory-mapped file whose pages are released after each read, as they would count as memory of this process.

    Attributes:
      shape: shape of the array.
      dtype: its dtype.
    """

    def __init__(self, array: np.memmap, view: np.ndarray | None = None) -> None:
        """Wraps a memory map.

        Args:
          array: the map.
          view: a view of it, which is read; None: the map itself.
        """
        self._map, self._view = array.base, array if view is None else view
        self.shape, self.dtype = self._view.shape, self._view.dtype

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """A copy of the pixels of a region [rows, columns]."""
        pixels = np.array(self._view[region])
        if isinstance(self._map, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
        return pixels


class Turned:
    """A picture that lies on a side or is mirrored, read upright.

    Attributes:
      shape: (height, width, channels) of the upright picture, pixels.
      dtype: its dtype.
    """

    def __init__(self, array: Any, orientation: int) -> None:
        """Wraps an array.

        Args:
          array: [H, W] or [H, W, C], the picture as it lies; can be sliced as [rows, columns].
          orientation: EXIF's orientation, 1 to 8.
        """
        self._array, self._exchanged = array, orientation >= 5
        self._backwards = _BACKWARDS[orientation]
        size = array.shape[:2]
        self.shape = (*(size[::-1] if self._exchanged else size), *array.shape[2:])
        self.dtype = array.dtype

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """The pixels of a region [rows, columns]; both slices have a start and a stop."""
        parts = [
            slice(size - part.stop, size - part.start) if backwards else part
            for part, size, backwards in zip(region, self.shape, self._backwards, strict=False)
        ]
        pixels = np.asarray(self._array[parts[1], parts[0]] if self._exchanged else self._array[parts[0], parts[1]])
        pixels = pixels.swapaxes(0, 1) if self._exchanged else pixels
        down, across = (slice(None, None, -1 if backwards else 1) for backwards in self._backwards)
        return pixels[down, across]


class Coloured:
    """A picture of whole numbers, grey or RGB, read as the other of the two; the values of bytes are those of Pillow.

    Attributes:
      shape: (height, width, channels), pixels.
      dtype: that of the picture.
    """

    def __init__(self, array: Any, channels: int) -> None:
        """Wraps an array.

        Args:
          array: uint8 or uint16 [H, W], [H, W, 1] or [H, W, 3]; can be sliced as [rows, columns]. To be read as RGB it
            may have any dtype.
          channels: 1 or 3.
        """
        self._array, self.dtype = array, np.dtype(array.dtype)
        self.shape = (*array.shape[:2], channels)

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """The pixels of a region [rows, columns]."""
        pixels = np.asarray(self._array[region])
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        if self.shape[2] == 3:
            return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        # The sum stays below 2**32, also of 16 bits.
        return ((pixels.astype(np.uint32) @ _LUMA + 0x8000) >> 16).astype(self.dtype)[..., None]


class Chosen:
    """Some channels of an image, in another order.

    Attributes:
      shape: (height, width, channels), pixels.
      dtype: that of the image.
    """

    def __init__(self, array: Any, channels: Sequence[int]) -> None:
        """Wraps an array.

        Args:
          array: [H, W] or [H, W, C]; can be sliced as [rows, columns].
          channels: numbers of the channels.
        """
        self._array, self._channels = array, list(channels)
        self.shape, self.dtype = (*array.shape[:2], len(self._channels)), array.dtype

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """The pixels of a region [rows, columns]."""
        pixels = np.asarray(self._array[region])
        return pixels.reshape(*pixels.shape[:2], -1)[..., self._channels]
