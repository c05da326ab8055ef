"""Arrays of any number of axes as images: rows, columns and channels by name or by order, other axes by choice."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.images.choices import as_index
from cnn.images.errors import MORE_MEMORY, StorageError
from cnn.windows import shape_text

ROWS = ("y", "height", "row", "rows", "lat", "latitude")  # names of axes, in lower case
COLUMNS = ("x", "width", "column", "columns", "lon", "longitude")
LEAST_CHUNK = 2**24  # bytes; a chunk of this size is always decoded
CHANNELS = ("c", "channel", "channels", "class", "band", "bands", "rgb")


class Arranged:
    """An array of any number of axes, read as an image.

    Attributes:
      shape: (height, width) or (height, width, channels), pixels.
      dtype: dtype of the values.
    """

    def __init__(self, array: Any, axes: Sequence[int], fixed: Mapping[int, int]) -> None:
        """Wraps an array.

        Args:
          array: has .shape, .dtype and slices (h5py, TensorStore, memory maps); nothing is read until a region is.
          axes: numbers of the axes that are rows, columns and, if there are any, channels.
          fixed: entry along each other axis, axis -> index.
        """
        self._array, self._axes, self._fixed = array, tuple(axes), dict(fixed)
        stored = sorted(axes)
        self._order = [stored.index(axis) for axis in axes]
        self.shape = tuple(int(array.shape[axis]) for axis in axes)
        self.dtype = getattr(array.dtype, "numpy_dtype", array.dtype)  # TensorStore has its own dtypes

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """The pixels of a region [rows, columns]."""
        parts: list[Any] = [slice(None)] * len(self._array.shape)
        parts[self._axes[0]], parts[self._axes[1]] = region
        for axis, index in self._fixed.items():
            parts[axis] = index
        return np.asarray(self._array[tuple(parts)]).transpose(self._order)


def arrange(
    name: str, array: Any, labels: Sequence[str | None] | None, select: Mapping[str, int] | None
) -> tuple[Any, dict[str, int]]:
    """An array as an image.

    Where the names of the axes say which are rows and columns, they decide, in any order. Else the order of the axes
    counts: rows, columns, channels; such axes are selected by their numbers, "0", "1", ...

    Args:
      name: name of the array in messages.
      array: has .shape, .dtype and slices.
      labels: a name for each axis; None or "" where one has none.
      select: the entry along axes beside rows and columns, by name; an axis of one entry needs none.

    Returns:
      (the array itself, or its view as [H, W] or [H, W, C]; the entries along other axes, name -> index).

    Raises:
      StorageError: if an axis has several entries and none is selected, or there is no such axis or entry.
    """
    shape = tuple(int(n) for n in array.shape)
    names = [label or str(i) for i, label in enumerate(labels or [None] * len(shape))]
    fixed = {}
    for key, value in (select or {}).items():
        axis = _axis(name, key, names, shape)
        fixed[axis] = as_index(name, f"select of {key}", value)
        if not 0 <= fixed[axis] < shape[axis]:
            raise StorageError(f"{name}: select of {key} (={fixed[axis]}) must be 0 to {shape[axis] - 1}")
    found = [[i for i, n in enumerate(names) if n.lower() in known] for known in (ROWS, COLUMNS)]
    if all(len(axes) == 1 for axes in found):
        order, fixed = _by_name(name, names, shape, (found[0][0], found[1][0]), fixed)
    else:
        order = [i for i in range(len(shape)) if i not in fixed]
        if len(order) > 3:
            spare = {names[i]: 0 for i in order[: len(order) - 3]}
            raise StorageError(
                f"{name}: {_sizes(names, shape)} has {len(shape)} axes, and an image is [H, W] or [H, W, C]; choose an "
                f"entry along the others, e.g. {_as_select(spare)}"
            )
    chosen = {names[axis]: index for axis, index in sorted(fixed.items())}
    if not fixed and order == list(range(len(shape))) or len(order) < 2:
        return array, chosen  # fewer axes than two are refused by their shape
    return Arranged(array, order, fixed), chosen


def check_chunk(name: str, chunk: Sequence[int], itemsize: int, cache_bytes: int) -> None:
    """Refuses an array whose chunks are larger than what may be kept of it: each is decoded as a whole.

    Args:
      name: name of the array in messages.
      chunk: shape of its chunks.
      itemsize: size of one value, bytes.
      cache_bytes: largest memory for decoded chunks, bytes.

    Raises:
      StorageError: if one chunk is larger.
    """
    size = math.prod(int(n) for n in chunk) * itemsize
    if size > max(cache_bytes, LEAST_CHUNK):
        raise StorageError(
            f"{name}: stored in chunks of {shape_text(chunk)} values, {size / 2**20:,.0f} MiB each, and "
            f"{cache_bytes / 2**20:,.0f} MiB may be kept; write it anew with smaller chunks, or {MORE_MEMORY}"
        )


def _by_name(
    name: str, names: Sequence[str], shape: Sequence[int], rows_columns: tuple[int, int], fixed: dict[int, int]
) -> tuple[list[int], dict[int, int]]:
    """Axes of an image whose rows and columns are known by name, and the entries along all others."""
    lost = [names[i] for i in rows_columns if i in fixed]
    if lost:
        raise StorageError(f"{name}: select is for axes beside rows and columns, and {lost[0]} is one; leave it out")
    left = [i for i in range(len(shape)) if i not in fixed and i not in rows_columns]
    channels = [i for i in left if names[i].lower() in CHANNELS]
    if len(channels) > 1:
        also = " and ".join(names[i] for i in channels)
        raise StorageError(
            f"{name}: {_sizes(names, shape)} has channels along {also}; choose an entry along one of them, e.g. "
            f"{_as_select({names[channels[0]]: 0})}"
        )
    others = [i for i in left if i not in channels]
    several = [i for i in others if shape[i] != 1]
    if several:
        counts = " and ".join(f"{shape[i]} images along {names[i]}" for i in several)
        raise StorageError(
            f"{name}: {shape_text(shape)} with axes {', '.join(names)} is {counts}; choose one with "
            f"{_as_select({names[i]: 0 for i in several})}"
        )
    return [*rows_columns, *channels], {**fixed, **dict.fromkeys(others, 0)}


def _axis(name: str, key: str, names: Sequence[str], shape: Sequence[int]) -> int:
    """The axis of a name; small and capital letters are one where that is unambiguous."""
    found = [i for i, n in enumerate(names) if n == key] or [i for i, n in enumerate(names) if n.lower() == key.lower()]
    if len(found) != 1:
        raise StorageError(f"{name}: there is no axis {key!r} to select along; its axes are {_sizes(names, shape)}")
    return found[0]


def _sizes(names: Sequence[str], shape: Sequence[int]) -> str:
    return ", ".join(f"{n}={size}" for n, size in zip(names, shape, strict=True))


def _as_select(entries: Mapping[str, int]) -> str:
    """An example of `select`, as an argument and as a flag."""
    return f"select={dict(entries)} (--select={','.join(f'{n}={i}' for n, i in entries.items())})"
