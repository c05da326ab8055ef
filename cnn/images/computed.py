"""Arrays whose regions a function computes."""

from collections.abc import Callable
from typing import Any

import numpy as np


class Computed:
    """An array-like object whose regions a function gives.

    Attributes:
      shape: (height, width) or (height, width, channels), pixels.
      dtype: dtype of the values.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, read: Callable[[int, int, int, int], np.ndarray]) -> None:
        """Takes a function.

        Args:
          shape: shape of the array.
          dtype: its dtype.
          read: (first row, end row, first column, end column) -> the values of that region.
        """
        self.shape, self.dtype, self._read = shape, np.dtype(dtype), read

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """The values of a region [rows, columns]."""
        (y0, y1, _), (x0, x1, _) = (part.indices(n) for part, n in zip(region, self.shape, strict=False))
        return self._read(y0, max(y0, y1), x0, max(x0, x1))
