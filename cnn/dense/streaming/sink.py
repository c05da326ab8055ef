"""Opening maps of every kind for writing, and where none can be made."""

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.dense.streaming import map_files, own_maps
from cnn.dense.streaming.map_files import ANEW
from cnn.dense.streaming.sinks import base, geotiff_tags
from cnn.dense.streaming.sinks.base import Sink
from cnn.dense.streaming.sinks.geotiff import MOST_BANDS, GeoTiffSink
from cnn.dense.streaming.sinks.npy import NpySink
from cnn.dense.streaming.sinks.ome_zarr import OmeZarrSink
from cnn.dense.streaming.sinks.zarr_arrays import ZarrSink
from cnn.images import paths
from cnn.images.errors import StorageError
from cnn.windows import shape_text

SUFFIXES = (".npy", ".zarr", ".ome.zarr", ".tif", ".tiff")
KINDS = "as .npy, .zarr, .ome.zarr, .tif or .tiff"
REGULAR = (".ome.zarr", ".tif", ".tiff")  # kinds that place their scores by one distance between them
LARGEST_CHUNK = 512  # scores; largest size of a zarr array's chunk along an axis
ALIGNMENT = 64  # scores; larger tiles are multiples of it, so that the chunks of a zarr array divide them
DEFAULT_CHUNK = 256  # scores


def open_sink(
    where: Any,
    shape: Sequence[int],
    dtype: Any = np.float32,
    chunk: Sequence[int] | None = None,
    existing: bool = False,
    overwrite: bool = False,
    zarr_format: int = 2,
    about: Mapping[str, Any] | None = None,
    complete: bool = False,
) -> Sink:
    """Opens a map of any size for writing block by block.

    Args:
      where: path of a map, whose suffix (`SUFFIXES`) says its kind, or an array [h, w, K] that can be written to.
      shape: shape (h, w, K) of the map.
      dtype: dtype of its values: floating, uint8 or uint16.
      chunk: height and width of the chunks of a zarr array; blocks that cover whole chunks are written fastest.
        None: at most 256x256.
      existing: whether to continue an existing file instead of making a new one.
      overwrite: whether an existing map may be replaced; what is no map of this program never is.
      zarr_format: version of the zarr format of a .zarr, 2, which all readers know, or 3, which GDAL 3.10
        does not read.
      about: what the map says of itself (`cnn.dense.streaming.about`).
      complete: whether the existing map is finished.

    Returns:
      A `Sink`, which the caller must close.

    Raises:
      StorageError: if the file exists already or, with `existing`, does not; if it has another shape or dtype, or is
        not a map; if its name has no known suffix, or that kind cannot hold the map; or if the disk has too
        little room.
    """
    shape, dtype, about = tuple(int(n) for n in shape), np.dtype(dtype), about or {}
    if not isinstance(where, (str, os.PathLike)):
        return Sink(where, f"array of type {type(where).__name__}", shape, dtype)
    path = paths.resolve(where)
    check_place(path, shape, dtype, existing, overwrite, zarr_format, about)
    make_folder(path)
    sides = (chunk[0], chunk[1]) if chunk else (min(DEFAULT_CHUNK, shape[0]), min(DEFAULT_CHUNK, shape[1]))
    try:
        sink = _open(path, shape, dtype, None if existing else sides, zarr_format, about, complete)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be opened as a map: {base.plain(error)}; name another place, or make room"
        ) from error
    except ValueError as error:  # raised by NumPy, tifffile and TensorStore for files that they cannot open
        way = "make room on the disk" if "No space left" in str(error) else ANEW
        raise StorageError(f"{path}: cannot be opened as a map: {base.plain(error)}; {way}") from error
    if about and map_files.has_sidecar(path) and map_files.read_sidecar(path) != about:
        try:
            map_files.replace_json(map_files.sidecar_path(path), map_files.attributes(about))
        except BaseException:
            sink.close()
            raise
    return sink


def _open(
    path: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    sides: tuple[int, int] | None,
    zarr_format: int,
    about: Mapping[str, Any],
    complete: bool,
) -> Sink:
    suffix = suffix_of(path)
    if suffix == ".npy":
        return NpySink(path, shape, dtype, sides is None, complete)
    if suffix == ".ome.zarr":
        return OmeZarrSink(path, shape, dtype, sides, about, complete)
    if suffix == ".zarr":
        return ZarrSink(path, shape, dtype, None if sides is None else (*sides, shape[2]), zarr_format, about)
    return GeoTiffSink(path, shape, dtype, sides, about, complete)


def make_folder(path: str) -> None:
    """Makes the folder of a map.

    Args:
      path: path of the map.

    Raises:
      StorageError: if it cannot be made.
    """
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path}: its folder {folder} cannot be made: {error.strerror or error}; name another place"
        ) from error


def discard(path: str) -> None:
    """Removes what `open_sink` has made of a new map.

    Args:
      path: path of the map.
    """
    for made in map_files.all_paths(path):
        if os.path.isdir(made) and not os.path.islink(made):
            shutil.rmtree(made)
        elif os.path.lexists(made):
            os.remove(made)


def exists(path: str) -> bool:
    """Whether anything is in the place of a map, or of the working map of a TIFF."""
    tiff = suffix_of(path) in (".tif", ".tiff")
    return os.path.lexists(path) or (tiff and os.path.lexists(map_files.working_path(path)))


def suffix_of(path: str) -> str:
    """The suffix of a path, in lower case: one of `SUFFIXES` for maps; ".ome.zarr" is one suffix."""
    lower = path.lower()
    return ".ome.zarr" if lower.endswith(".ome.zarr") else os.path.splitext(lower)[1]


def chunk_of(outputs: int) -> int:
    """Size of a zarr array's chunk along an axis: a divisor of the tile's size, so that each chunk is written once.

    Args:
      outputs: number of scores of a tile along the axis.

    Returns:
      Number of scores, at most `LARGEST_CHUNK`; the tile's size if it has no divisor from `ALIGNMENT` to that.
    """
    parts = [n for n in range(min(outputs, LARGEST_CHUNK), ALIGNMENT - 1, -1) if outputs % n == 0]
    return parts[0] if parts else outputs


def check_place(
    path: str,
    shape: Sequence[int],
    dtype: np.dtype,
    existing: bool,
    overwrite: bool,
    zarr_format: int = 2,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Refuses a place where `open_sink` cannot make or continue a map, before anything is written.

    Args:
      path: path of the map.
      shape: its shape (h, w, K).
      dtype: its dtype.
      existing: whether it is continued.
      overwrite: whether it may be replaced.
      zarr_format: version of the zarr format.
      about: what it says of itself.

    Raises:
      StorageError: as `open_sink`.
    """
    suffix, about = suffix_of(path), about or {}
    if suffix not in SUFFIXES:
        raise StorageError(f"{path}: maps are written {KINDS}, not as {suffix or 'a name without a suffix'!s}")
    if zarr_format not in (2, 3):
        raise StorageError(f"{path}: zarr_format (={zarr_format}) must be 3 or 2")
    _check_kind(path, suffix, shape, about)
    there = exists(path)
    if existing:
        if not there:
            raise StorageError(f"{path}: it was begun and is gone; {ANEW}")
        return
    if there and not overwrite:
        raise StorageError(f"{path}: it exists; name another, or overwrite=True (--overwrite) replaces it")
    if there:
        own_maps.check_ours(path)
    own_maps.check_beside(path)
    _check_room(path, shape, dtype, suffix)


def _check_kind(path: str, suffix: str, shape: Sequence[int], about: Mapping[str, Any]) -> None:
    """Refuses a map that its kind of file cannot hold."""
    last = about.get("last")
    if last and suffix in REGULAR:
        places = " and ".join(
            f"{name} at pixel {first}" for name, first in zip(("row", "column"), last, strict=True) if first is not None
        )
        raise StorageError(
            f"{path}: the last {places} lies off the stride (cover), which {suffix} cannot say; name a .zarr or .npy, "
            "or leave out cover"
        )
    if suffix in (".tif", ".tiff"):
        if shape[2] > MOST_BANDS:
            raise StorageError(
                f"{path}: a TIFF has at most {MOST_BANDS} bands, the map {shape[2]}; name a .zarr, or write='class'"
            )
        geotiff_tags.place_tags({"offset": [0, 0], "window": [1, 1], "stride": [1, 1], **about})


def _check_room(path: str, shape: Sequence[int], dtype: np.dtype, suffix: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder):
        if os.path.exists(folder):
            raise StorageError(f"{path}: {folder} is a file, not a directory; name another")
        folder = os.path.dirname(folder)
    # A pyramid adds a third; a TIFF lies beside its working map until it is whole, perhaps hardly smaller.
    parts = {".ome.zarr": 4 / 3, ".tif": 8 / 3, ".tiff": 8 / 3}.get(suffix, 1)
    needed, free = int(parts * math.prod(shape) * dtype.itemsize), shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{path}: the map {shape_text(shape)} of {dtype} takes {_bytes_text(needed)}, and {_bytes_text(free)} are "
            "free; name another disk, or take a larger stride"
        )


def _bytes_text(count: int) -> str:
    """A number of bytes in the unit that suits it, such as "4.0 GiB" or "30 bytes"."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count >= 1024**power:
            return f"{count / 1024**power:.1f} {unit}"
    return f"{count} bytes"
