"""Maps as GeoTIFFs: written into a working map, which any stop leaves whole, and from that into the file at the end."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from cnn.dense.streaming import beside, map_files
from cnn.dense.streaming.sinks import geotiff_tags, pyramid
from cnn.dense.streaming.sinks.base import reading_beside, writing
from cnn.dense.streaming.sinks.tiff_maps import TiffMap
from cnn.dense.streaming.sinks.zarr_arrays import READ_CACHE, ArraySink
from cnn.images.errors import StorageError
from cnn.windows import Pair

TILE = 256  # scores; sides of the TIFF's tiles
MOST_BANDS = 65_535  # of a TIFF
LEVELS = {"f": 1, "u": 6}  # of deflate: scores are nearly noise, which more work does not make smaller
CLASSIC_BYTES = 2**31  # of values; a TIFF of more is written as BigTIFF


class GeoTiffSink(ArraySink):
    """A tiled TIFF, one band for each class; `map.tif.part.zarr` is the working map."""

    def __init__(
        self,
        path: str,
        shape: Sequence[int],
        dtype: np.dtype,
        chunk: Pair | None,
        about: Mapping[str, Any],
        complete: bool,
    ) -> None:
        """Opens the working map, or makes it if there is a size of its chunks; or opens the finished file.

        Args:
          path: path of the TIFF.
          shape: shape (h, w, K) of the map.
          dtype: dtype of its values.
          chunk: height and width of the working map's chunks, scores; None: the map is there already.
          about: what it says of its scores.
          complete: whether the TIFF is finished.

        Raises:
          StorageError: if it is another map.
        """
        self._path, self._about, self._working = path, about, map_files.working_path(path)
        self.unfinished = not complete
        if complete:
            super().__init__(_ReadOnly(TiffMap(path)), path, shape, dtype)
            return
        if chunk is None:
            array = pyramid.open_level(self._working, 0, write=True)
        else:
            for old in (self._working, path):
                _remove(old)
            os.makedirs(self._working)
            map_files.replace_json(os.path.join(self._working, "zarr.json"), map_files.group_of(about))
            array = pyramid.create_level(self._working, 0, (shape[2], *shape[:2]), dtype, chunk, planes=1)
        if array.rank != 3:
            raise StorageError(f"{self._working}: its level 0 has {array.rank} axes, a map has c, y and x")
        super().__init__(array.transpose([1, 2, 0]), path, shape, dtype)

    def _get(self, rows: slice, columns: slice) -> np.ndarray:
        return super()._get(rows, columns) if self.unfinished else self._array[rows, columns]

    def finish(self) -> None:
        with writing(self.name):
            pyramid.build(self._working, self._about.get("written") == "class")
            try:
                _write(self._path + ".part", self._working, self._about)
            except BaseException:
                with suppress(OSError):
                    os.remove(self._path + ".part")
                raise
            os.replace(self._path + ".part", self._path)

    def digest(self) -> str:
        with reading_beside(self.name):
            return beside.digest(self._path)

    def tidy(self) -> None:
        _remove(self._working)


class _ReadOnly:
    """A finished TIFF as the array of a sink; nothing is written into it any more."""

    def __init__(self, array: TiffMap) -> None:
        self.shape, self.dtype, self._array = array.shape, array.dtype, array

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        return self._array[region]

    def __setitem__(self, region: Any, block: np.ndarray) -> None:
        raise ValueError("a finished TIFF is not written to")


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def _write(path: str, working: str, about: Mapping[str, Any]) -> None:
    """Writes a pyramid into a TIFF: the map, then each level as a reduced page, which GDAL takes for an overview."""
    import tifffile

    first = pyramid.open_level(working, 0)
    planes, dtype, levels = first.shape[0], np.dtype(first.dtype.numpy_dtype), pyramid.level_sizes(first.shape[1:])
    size = 4 / 3 * np.prod(first.shape, dtype=float) * dtype.itemsize
    several = {"planarconfig": "separate", "extrasamples": ["unspecified"] * (planes - 1)} if planes > 1 else {}
    missing = [geotiff_tags.no_data_tag()] if dtype.kind == "f" else []
    own = [geotiff_tags.metadata_tag(about, planes), *geotiff_tags.place_tags(about)]
    with tifffile.TiffWriter(path, bigtiff=size > CLASSIC_BYTES) as file:
        for level, (height, width) in enumerate(levels):
            file.write(
                _tiles(pyramid.open_level(working, level, cache_bytes=READ_CACHE), dtype),
                shape=(planes, height, width) if planes > 1 else (height, width),
                dtype=dtype,
                tile=(TILE, TILE),
                photometric="minisblack",
                compression="adobe_deflate",
                compressionargs={"level": LEVELS[dtype.kind]},
                subfiletype=1 if level else 0,
                metadata=None,
                software="cnn",
                extratags=missing if level else [*own, *missing],
                buffersize=2**22,
                **several,
                **({} if level else geotiff_tags.resolution(about)),
            )
    with open(path, "r+b") as written:
        os.fsync(written.fileno())


def _tiles(array: Any, dtype: np.dtype) -> Iterator[np.ndarray]:
    """The tiles of a level, band by band, row by row; those at the border are filled up."""
    planes, height, width = array.shape
    fill = np.nan if dtype.kind == "f" else np.iinfo(dtype).max
    for plane in range(planes):
        for y in range(0, height, TILE):
            for x in range(0, width, TILE):
                part = array[plane, y : min(y + TILE, height), x : min(x + TILE, width)].read().result()
                tile = np.full((TILE, TILE), fill, dtype)
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile
