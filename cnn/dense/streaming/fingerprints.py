"""Fingerprints of what the tiles of a stream read and wrote, by which a map is compared with its image and journal.

A tile has two checksums (CRC-32): of the pixels that it read, and of the scores that it wrote. Those of the first
tiles, in order, are chained to one short text each. A change of any pixel or score changes it, but for one chance in
four billion; it does not protect from forgery, and costs a tenth of what a cryptographic hash would.
"""

import hashlib
import zlib
from typing import Any

import numpy as np

from cnn.dense.blocks import Tile
from cnn.dense.streaming.sinks.base import Sink
from cnn.dense.streaming.skipping import Skipping
from cnn.images.source import Source
from cnn.windows import Pair

EMPTY = ""  # the fingerprint of no tiles
BAND_BYTES = 2**24  # of a tile that is read a second time, in bands of rows


def checksum(array: np.ndarray, start: int = 0) -> int:
    """The checksum of an array's values, row by row.

    Args:
      array: any array.
      start: the checksum of the rows before it.

    Returns:
      CRC-32.
    """
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, start)


def chain(before: str, tile: int) -> str:
    """The fingerprint of some tiles and one more.

    Args:
      before: the fingerprint of the tiles before it.
      tile: its checksum.

    Returns:
      The fingerprint, 16 hexadecimal digits.
    """
    return hashlib.sha256(f"{before} {tile}".encode()).hexdigest()[:16]


def of_read(pixels: np.ndarray, valid: np.ndarray | None) -> int:
    """The checksum of the pixels of a tile and, where it counts, of which of them hold something.

    Args:
      pixels: the pixels that a tile reads.
      valid: bool, from `Skipping.valid`; None: all, or there is no skipping.

    Returns:
      CRC-32.
    """
    found = checksum(pixels)
    return found if valid is None else checksum(valid, found)


def of_pixels(source: Source, tile: Tile, extent: Pair, skipping: Skipping | None = None) -> int:
    """The checksum of the pixels of a tile, read anew, in bands.

    Args:
      source: the image.
      tile: the tile.
      extent: (height, width) of the pixels that it reads.
      skipping: how windows are left out; None: none is.

    Returns:
      As `of_read` gives it of the whole tile's pixels.
    """
    (y, x), (height, width) = tile.corner, extent
    rows = _band(width * source.shape[2] * source.dtype.itemsize)
    bands = [(top, min(top + rows, y + height)) for top in range(y, y + height, rows)]
    result = 0
    for top, bottom in bands:
        result = checksum(source.read(top, bottom, x, x + width), result)
    for top, bottom in bands if skipping else ():
        valid = skipping.valid(source, (top, x), (bottom - top, width)) if skipping else None
        result = result if valid is None else checksum(valid, result)
    return result


def of_scores(sink: Sink, tile: Tile) -> int:
    """The checksum of the scores of a tile, read back from the map, in bands.

    Args:
      sink: the map.
      tile: the tile.

    Returns:
      As `checksum` gives it of the whole tile's scores.
    """
    down, across = tile.write
    rows = _band((across.stop - across.start) * sink.shape[2] * 4)
    result = 0
    for top in range(down.start, down.stop, rows):
        result = checksum(sink.read(slice(top, min(top + rows, down.stop)), across), result)
    return result


def _band(row_bytes: int) -> int:
    return max(1, BAND_BYTES // max(1, row_bytes))


def of_first(count: int, tiling: Any, source: Source, sink: Sink, skipping: Skipping | None = None) -> tuple[str, str]:
    """The fingerprints of the first tiles of a map, read anew.

    Args:
      count: number of tiles.
      tiling: the tiles (`cnn.dense.tiles.Tiling`).
      source: the image.
      sink: the map.
      skipping: how windows are left out; None: none is.

    Returns:
      (of the pixels, of the scores).
    """
    read, written = EMPTY, EMPTY
    for _, tile in zip(range(count), tiling.tiles(), strict=False):
        read = chain(read, of_pixels(source, tile, tiling.like(tile).extent, skipping))
        written = chain(written, of_scores(sink, tile))
    return read, written
