"""Maps in TIFF files, read in parts; tifffile is imported where it is used, because it takes long to import."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import unescape  # nosec B406 # replaces three names in a text, and parses none

import numpy as np

from cnn.dense.streaming.map_files import MARK
from cnn.images import xml_text
from cnn.windows import overlap

CACHE_BYTES = 2**26  # of decoded tiles, which neighbouring parts need again
GDAL_METADATA = 42112  # number of the tag


class TiffMap:
    """The largest page of a map's TIFF.

    Attributes:
      shape: (h, w, K).
      dtype: dtype of its values.
      about: what it says of itself.
    """

    def __init__(self, path: str) -> None:
        """Opens a file.

        Args:
          path: path of the TIFF.

        Raises:
          ValueError: if it is no map of this program.
        """
        import tifffile

        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            self.about = _about(page)
            if not page.is_tiled or page.dtype is None or (page.samplesperpixel > 1 and page.planarconfig != 2):
                raise ValueError("it is not tiled, class by class, as maps are")
            self.shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
            self.dtype = page.dtype
            self._decode, self._tile = page.decode, (page.tilelength, page.tilewidth)
            self._offsets, self._counts = page.dataoffsets, page.databytecounts
        self._path = path
        self._grid = [-(-n // size) for n, size in zip(self.shape[:2], self._tile, strict=True)]
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._kept = max(1, CACHE_BYTES // (self._tile[0] * self._tile[1] * self.dtype.itemsize))

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """The scores of a part [rows, columns], [h, w, K]; both slices have a start and a stop."""
        (y0, y1), (x0, x1) = ((part.start, part.stop) for part in region)
        height, width = self._tile
        out = np.empty((y1 - y0, x1 - x0, self.shape[2]), self.dtype)
        with open(self._path, "rb") as file:
            for plane in range(self.shape[2]):
                for i in range(y0 // height, -(-y1 // height)):
                    for j in range(x0 // width, -(-x1 // width)):
                        rows, down = overlap(i * height - y0, height, y1 - y0)
                        columns, across = overlap(j * width - x0, width, x1 - x0)
                        tile = self._read(file, (plane * self._grid[0] + i) * self._grid[1] + j)
                        out[rows, columns, plane] = tile[down, across]
        return out

    def _read(self, file: Any, index: int) -> np.ndarray:
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        file.seek(self._offsets[index])
        data = file.read(self._counts[index])
        if len(data) < self._counts[index] or not data:
            raise ValueError(f"tile {index} is not in the file")
        tile, _, _ = self._decode(data, index)
        self._cache[index] = tile.reshape(tile.shape[-3:-1])
        while len(self._cache) > self._kept:
            self._cache.popitem(last=False)
        return self._cache[index]


def _about(page: Any) -> Mapping[str, Any]:
    """What a page says of itself, from GDAL's metadata."""
    tag = page.tags.get(GDAL_METADATA)
    if tag is not None:
        root = xml_text.parse(str(tag.value))
        for item in () if root is None else root:
            if item.get("name") == MARK:
                return json.loads(unescape(item.text or ""))  # `geotiff_tags` escapes it twice
    raise ValueError(f"its tag GDAL_METADATA has no item {MARK}")


def is_map(path: str) -> bool:
    """Whether a file is a map's TIFF."""
    try:
        TiffMap(path)
    except Exception:  # tifffile raises many kinds for files that are no TIFF
        return False
    return True
