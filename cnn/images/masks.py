"""Which pixels of an image hold something: a mask of the user's, the file's own mask, and its no-data value."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from cnn.images.errors import StorageError
from cnn.images.facts import NOTHING, Facts
from cnn.windows import shape_text

NEAR = (0.75, 4 / 3)  # between these factors a mask is no other level of its image


class Mask:
    """A mask of an image, of the image's size or of another level of its pyramid.

    Each pixel of the image has the value of the mask's pixel in which its centre lies (nearest neighbour).
    """

    def __init__(self, array: Any, shape: tuple[int, ...], name: str, image: str, facts: Facts = NOTHING) -> None:
        """Lays a mask over an image.

        Args:
          array: integer, floating or bool [H', W'] or [H', W', C], whose pixels count where any channel is not zero;
            can be sliced as [rows, columns]. Its sides are those of the image times one factor, rounded. NaN is zero.
          shape: (height, width, ...) of the image, pixels.
          name: name of the mask, for the error.
          image: name of the image, for the error.
          facts: what the mask's file says: pixels of it that hold nothing, such as transparent ones, count as zero.

        Raises:
          StorageError: if it has another rank or another shape than the image.
        """
        self._array, self._name, self._shape = array, name, (int(shape[0]), int(shape[1]))
        self._facts = facts
        size = tuple(int(n) for n in array.shape)
        self._size = size[:2]
        if len(size) not in (2, 3):
            raise StorageError(f"{name}: a mask is [H, W], not {shape_text(size)}")
        if 0 in size or not _fits(self._size, self._shape):
            raise StorageError(
                f"{name}: the mask is {shape_text(self._size)} pixels, its image {image} {shape_text(self._shape)}; a "
                "mask has the image's size, or that of another level of its pyramid: one factor along both axes"
            )

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """Which pixels of a region of the image count: bool [h, w]; both slices have a start and a stop."""
        places = [
            (2 * np.arange(part.start, part.stop) + 1) * here // (2 * there)
            for part, here, there in zip(region, self._size, self._shape, strict=True)
        ]
        if not all(len(place) for place in places):
            return np.zeros([len(place) for place in places], bool)
        rows, columns = (slice(int(place[0]), int(place[-1]) + 1) for place in places)
        try:
            found = self._counts(rows, columns)
        except (StorageError, MemoryError):
            raise
        except Exception as error:  # of TensorStore and of the system, of many kinds
            where = f"rows {rows.start} to {rows.stop}, columns {columns.start} to {columns.stop}"
            raise StorageError(
                f"{self._name}: {where} cannot be read: {error}; take an undamaged copy of the mask"
            ) from error
        if self._size == self._shape:
            return found
        return found[np.ix_(places[0] - places[0][0], places[1] - places[1][0])]

    def _counts(self, rows: slice, columns: slice) -> np.ndarray:
        """Which pixels of a region of the mask are not zero and hold something: bool [h, w]."""
        pixels = np.asarray(self._array[rows, columns])
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        found = ((pixels != 0) & (pixels == pixels)).any(axis=2)  # NaN is not equal to itself
        if self._facts.valid is not None:
            found &= np.asarray(self._facts.valid[rows, columns], bool)
        if self._facts.nodata is not None and pixels.dtype != bool:
            found &= holds_data(pixels, self._facts.nodata)
        return found


def _fits(size: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Whether a mask has its image's size, or that size times one factor, each side rounded up or down."""
    factors = [n / m for n, m in zip(size, image, strict=True)]
    if size == image or any(NEAR[0] < factor < NEAR[1] for factor in factors):
        return size == image  # a mask that is a few pixels off is one of another image
    return abs(factors[0] - factors[1]) < sum(1 / m for m in image) * max(1, *factors)


def number(nodata: Any, name: str) -> float:
    """The value of pixels that hold nothing, as the caller says it.

    Args:
      nodata: what is said.
      name: name of the image, for the error.

    Returns:
      The number.

    Raises:
      StorageError: if it is none.
    """
    try:
        return float(nodata)
    except (TypeError, ValueError):
        raise StorageError(f"{name}: nodata (={nodata!r}) must be a number, such as 0, or nan") from None


def holds_data(pixels: np.ndarray, nodata: float) -> np.ndarray:
    """Which pixels hold something, by the no-data value: all in which not every channel has it.

    As GDAL and rasterio's `dataset_mask` have it.

    Args:
      pixels: [h, w, C], as they are stored.
      nodata: the value of pixels that hold nothing; may be NaN.

    Returns:
      bool [h, w].
    """
    if jnp.issubdtype(pixels.dtype, jnp.floating):
        wanted = np.asarray(nodata).astype(pixels.dtype)
        found = np.isnan(pixels) if np.isnan(wanted) else pixels == wanted
    elif not float(nodata).is_integer() or not np.iinfo(pixels.dtype).min <= nodata <= np.iinfo(pixels.dtype).max:
        return np.ones(pixels.shape[:2], bool)  # which no pixel has
    else:
        found = pixels == pixels.dtype.type(int(nodata))
    return np.logical_not(found.all(axis=2))
