"""Score maps in files, read region by region with the places of their scores."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnn.dense.arguments import PATH, YES_OR_NO, named
from cnn.dense.streaming import journal as journals
from cnn.dense.streaming import map_files, whole
from cnn.dense.streaming.about import georeference_of
from cnn.dense.streaming.map_files import MARK
from cnn.dense.streaming.sink import suffix_of
from cnn.dense.streaming.sinks.base import plain, reading
from cnn.dense.streaming.sinks.coordinates import map_transform
from cnn.dense.streaming.sinks.tiff_maps import TiffMap
from cnn.dense.streaming.sinks.zarr_arrays import open_array
from cnn.dense.streaming.written import KINDS, Written
from cnn.images import paths
from cnn.images.errors import StorageError
from cnn.images.facts import Spacing
from cnn.images.views import Mapped
from cnn.nets import outputs
from cnn.runtime import json_files

CACHE_BYTES = 2**26  # of decoded chunks
NEEDED = ("window", "stride", "offset", "image_shape")


class OpenedMap:
    """A score map in a file.

    Attributes:
      path: path of the file.
      shape: (h, w, K): rows and columns of scores, and classes; of a map of classes (h, w, 2).
      dtype: dtype of its values.
      written: what it holds: "scores", "probabilities" or "class", see `dense.stream`.
      output_activation: what the net's scores mean, "softmax" or "sigmoid" (`cnn.nets.outputs`).
      window: (height, width) of the pixels that a score sees, pixels.
      stride: distance between neighbouring scores, (vertical, horizontal), pixels.
      offset: (y, x) of the first window in the image, pixels.
      last: first pixel (y, x) of the last windows where these lie flush with the border, off the stride; None along an
        axis without.
      image_shape: (H, W, C) of the image, pixels.
      class_names: names of the K classes; None: they have none.
      spacing: the size of the image's pixels; None: unknown.
      georeference: where the image lies on the Earth: its transform is one of pixels of the image, as `box` has them;
        None: unknown.
      about: everything that the map says of itself (`cnn.dense.streaming.about`).
    """

    def __init__(self, path: str, array: Any, about: Mapping[str, Any]) -> None:
        """Wraps an array of scores; `open_map` opens files.

        Args:
          path: path of the file.
          array: [h, w, K], can be sliced as [rows, columns].
          about: what the map says of itself.

        Raises:
          ValueError: if the array is not the map that is described.
        """
        self.path, self._array, self.about = path, array, about
        self.shape: tuple[int, int, int] = tuple(array.shape)
        self.dtype = np.dtype(getattr(array.dtype, "numpy_dtype", array.dtype))
        if len(self.shape) != 3 or tuple(about.get("map", self.shape)) != self.shape:
            raise ValueError(f"its shape is {self.shape}, its description is of a map {tuple(about.get('map', ()))}")
        self.window, self.stride, self.offset = (
            (int(about[name][0]), int(about[name][1])) for name in ("window", "stride", "offset")
        )
        self.last = tuple(about.get("last", (None, None)))
        self.image_shape = tuple(about["image_shape"])
        self.class_names = about.get("class_names")
        if not isinstance(self.class_names, list | tuple | None):
            raise ValueError(f"its class_names (={self.class_names!r}) are no list")
        self.written: str = about.get("written", "scores")
        if self.written not in KINDS:
            raise ValueError(f"it holds {self.written!r}, none of {', '.join(KINDS)}")
        self.output_activation: str = outputs.check_activation(about.get("output_activation", "softmax"), "open_map")
        spacing = about.get("spacing")
        self.spacing = Spacing(**spacing) if spacing else None
        self.georeference = georeference_of(about.get("georeference"))

    def read(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """Reads what is written.

        Args:
          rows: the rows of scores.
          columns: the columns of scores.

        Returns:
          Scores or probabilities, float32 [h, w, K]; of a map of classes the class and its probability, uint8 or
          uint16 [h, w, 2], as `dense.stream` has them.

        Raises:
          StorageError: if a part of the file is damaged; says which.
        """
        (y0, y1, _), (x0, x1, _) = (part.indices(n) for part, n in zip((rows, columns), self.shape, strict=False))
        down, across = slice(y0, max(y0, y1)), slice(x0, max(x0, x1))
        with reading(self.path, down, across):
            values = np.asarray(self._array[down, across])
        return values if self.written == "class" else values.astype(np.float32)

    def probabilities(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """Reads probabilities, computed from the scores where these are written.

        Args:
          rows: the rows of scores.
          columns: the columns of scores.

        Returns:
          float32 [h, w, K], or [h, w, 2] for K = 1 score; NaN where there is none.

        Raises:
          StorageError: if a part of the file is damaged, or the map holds the winning class only.
        """
        if self.written == "class":
            raise StorageError(
                f"{self.path}: it holds the winning class and its probability only, which `read` gives; stream with "
                "write='probabilities' for those of all classes"
            )
        values = self.read(rows, columns)
        if self.written == "probabilities":
            return values
        classes = outputs.class_count(self.shape[2])
        return Written("probabilities", np.dtype(np.float32), classes, self.output_activation).of(values)

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """(a, b, c, d, e, f): the corner (column x, row y) of scores lies at (a x + b y + c, d x + e y + f).

        In the coordinates of `georeference` where there is one, else in pixels of the image; score (i, j), whose centre
        is (j + 0.5, i + 0.5), lies at the centre of its window. The last windows of `last` lie elsewhere.
        """
        return map_transform(self.about)

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


@named(path=PATH, unfinished=YES_OR_NO)
def open_map(path: str | os.PathLike[str], *, unfinished: bool = False, check: bool | None = None) -> OpenedMap:
    """Opens a score map that `stream` wrote.

    Args:
      path: path of the .npy, .zarr, .ome.zarr or .tif.
      unfinished: whether a map that was begun and is not whole may be opened; scores that are missing read as NaN, of
        a .npy as 0.
      check: whether all of its scores, and the smaller levels that viewers show, are read and compared with its
        journal, if that lies beside it; None: the scores alone, of maps of at most 256 MiB
        (`cnn.dense.streaming.whole`).

    Returns:
      An `OpenedMap`.

    Raises:
      StorageError: if it is no map of this program, is damaged, or is not finished; says why.
    """
    name = paths.resolve(path)
    journal = _journal(name, unfinished)
    begun = journal is None and map_files.is_marked_unfinished(name)
    if not unfinished and (begun or (journal is not None and not journal.get("complete", True))):
        tiles = "some" if journal is None else f"{journal.get('done')} of {journal.get('tiles')}"
        raise StorageError(
            f"{name}: it is not finished, {tiles} tiles are computed; run the "
            "stream again, which continues it, or open_map(..., unfinished=True) reads what is there"
        )
    if not os.path.exists(name) and not os.path.isdir(map_files.working_path(name)):
        raise StorageError(f"{name}: there is no such file or directory")
    try:
        array, about = _opened(name, journal)
        missing = [key for key in NEEDED if key not in about]
        if missing:
            raise ValueError(f"it says nothing of {', '.join(missing)}")
        opened = OpenedMap(name, array, about)
        wrong = whole.fault(name, array, about, journal, check)
        if wrong:
            raise StorageError(f"{name}: {wrong}; restore it, or stream it anew (--overwrite)")
        return opened
    except StorageError:
        raise
    except Exception as error:  # NumPy, tifffile and TensorStore raise many kinds for what they cannot read
        raise StorageError(
            f"{name}: cannot be opened as a map of this program: {type(error).__name__}: "
            f"{plain(error)[:300]}; dense.stream writes maps, and dense.open_image opens images"
        ) from error


def _journal(path: str, unfinished: bool) -> dict[str, Any] | None:
    """The journal beside a map, which a finished map does without; a damaged one may be of one that is not."""
    try:
        return journals.read_if_whole(map_files.journal_path(path))
    except StorageError as error:
        if unfinished:
            return None
        raise StorageError(
            f"{error}, so that nobody knows whether all scores of {path} are there; restore it, or remove it if they "
            "are, or open_map(..., unfinished=True)"
        ) from error


def _opened(path: str, journal: Mapping[str, Any] | None) -> tuple[Any, Mapping[str, Any]]:
    """A map's array, [h, w, K], and what it says of itself."""
    if os.path.isdir(path):
        return _opened_zarr(path)
    if suffix_of(path) in (".tif", ".tiff"):
        if not os.path.exists(path):  # it is not finished
            return _opened_zarr(map_files.working_path(path))
        tiff = TiffMap(path)
        return tiff, tiff.about
    about = map_files.read_sidecar(path) or (journal or {}).get("about")
    if not about:
        raise ValueError(f"there is no {map_files.sidecar_path(path)}, nor a journal, which say where its scores lie")
    return Mapped(np.lib.format.open_memmap(path, mode="r")), about


def _opened_zarr(path: str) -> tuple[Any, Mapping[str, Any]]:
    metadata = paths.zarr_metadata(path)
    if metadata is None:
        raise ValueError("a directory without zarr.json or .zarray is not a zarr")
    third = metadata.endswith("zarr.json")
    found = json_files.read(metadata if third else os.path.join(path, ".zattrs"))
    if not isinstance(found, dict):
        raise ValueError("its metadata are no object")
    group = found.get("node_type") == "group"
    attributes = found.get("attributes", {}) if third else found
    if MARK not in attributes:
        raise ValueError(f"its attributes have no {MARK}")
    if not group:
        return _Store(open_array(path, cache_bytes=CACHE_BYTES)), attributes[MARK]
    level = open_array(os.path.join(path, "0"), cache_bytes=CACHE_BYTES)
    return _Store(level.transpose([1, 2, 0])), attributes[MARK]


class _Store:
    """A TensorStore [h, w, K] that is read where it is sliced."""

    def __init__(self, array: Any) -> None:
        self.shape, self.dtype, self._array = tuple(array.shape), array.dtype, array

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        return np.asarray(self._array[region].read().result())
