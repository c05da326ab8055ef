"""Score maps in files, read region by region with the places of their scores."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.dense.streaming import own_maps
from cnn.images import paths
from cnn.images.errors import StorageError
from cnn.images.source import open_image


class OpenedMap:
    """A score map in a file.

    Attributes:
      path: path of the file.
      shape: (h, w, K): rows and columns of scores, and classes.
      window: (height, width) of the pixels that a score sees, pixels.
      stride: distance between neighbouring scores, (vertical, horizontal), pixels.
      offset: (y, x) of the first window in the image, pixels.
      last: first pixel (y, x) of the last windows where these lie flush with the border, off the stride; None along an
        axis without.
      image_shape: (H, W, C) of the image, pixels.
      class_names: names of the K classes; None: they have none.
      about: everything that the map says of itself (`cnn.dense.streaming.own_maps`).
    """

    def __init__(self, path: str, array: Any, about: Mapping[str, Any]) -> None:
        """Wraps an array of scores; `open_map` opens files.

        Args:
          path: path of the file.
          array: [h, w, K], can be sliced as [rows, columns].
          about: what the map says of itself.
        """
        self.path, self._array, self.about = path, array, about
        self.shape: tuple[int, int, int] = tuple(array.shape)
        self.window, self.stride, self.offset = (
            (int(about[name][0]), int(about[name][1])) for name in ("window", "stride", "offset")
        )
        self.last = tuple(about.get("last", (None, None)))
        self.image_shape = tuple(about["image_shape"])
        self.class_names = about.get("class_names")

    def read(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """Reads scores.

        Args:
          rows: the rows of scores.
          columns: the columns of scores.

        Returns:
          float32 [h, w, K].
        """
        (y0, y1, _), (x0, x1, _) = (part.indices(n) for part, n in zip((rows, columns), self.shape, strict=False))
        return self._array.read(y0, y1, x0, x1)

    def corners(self, axis: int) -> np.ndarray:
        """The first pixel of the window of each row or column of scores.

        Args:
          axis: 0 for rows, 1 for columns.

        Returns:
          int64 [h] or [w], pixels.
        """
        first = self.offset[axis] + self.stride[axis] * np.arange(self.shape[axis], dtype=np.int64)
        last = self.last[axis]
        if last is not None:
            first[-1] = last
        return first

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """The window of one score: (y0, x0, y1, x1), pixels, both ends exclusive."""
        y, x = int(self.corners(0)[row]), int(self.corners(1)[column])
        return y, x, y + self.window[0], x + self.window[1]


def open_map(path: str | os.PathLike[str]) -> OpenedMap:
    """Opens a score map that `stream` wrote.

    Args:
      path: path of the .zarr or .npy.

    Returns:
      An `OpenedMap`.

    Raises:
      StorageError: if it is no map of this program; says why.
    """
    name = paths.resolve(path)
    return OpenedMap(name, open_image(name), _about(name))


def _about(path: str) -> Mapping[str, Any]:
    metadata = paths.zarr_metadata(path) if os.path.isdir(path) else None
    if metadata:
        own = metadata if metadata.endswith("zarr.json") else os.path.join(path, ".zattrs")
        keys: Sequence[str] = ("attributes", own_maps.MARK) if metadata.endswith("zarr.json") else (own_maps.MARK,)
    else:
        own, keys = own_maps.journal_path(path), ("about",)
    try:
        with open(own) as file:
            found = json.load(file)
        for key in keys:
            found = found[key]
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: {own} says nothing of a map ({error}); dense.stream writes maps") from error
