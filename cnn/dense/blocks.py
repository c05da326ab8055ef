"""Cutting a map into tiles: which pixels a tile reads, which of its scores are kept, and where they are written.

Along one axis a tile is a `Block` with named slices. A tile of an image is the product of two blocks. The idea is
StarDist's (Weigert, Schmidt, `stardist/big.py`).
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cnn.windows import Pair, overlap


class Block(NamedTuple):
    """One tile along one axis.

    Attributes:
      first: position of the tile's input in the image, pixels; negative if the input begins before the image.
      read: the pixels of the image that the tile reads.
      place: where these pixels lie in the tile's input; the rest of the input lies beyond the image and is zero.
      keep: the scores of the tile that are kept.
      write: where these scores lie in the map.
    """

    first: int
    read: slice
    place: slice
    keep: slice
    write: slice


class Tile(NamedTuple):
    """A block of rows times a block of columns; each slice as (rows, columns), ready to index an array.

    Attributes:
      rows, columns: the blocks.
    """

    rows: Block
    columns: Block

    @property
    def corner(self) -> Pair:
        """Position (y, x) of the tile's input in the image, pixels; may lie outside the image."""
        return self.rows.first, self.columns.first

    @property
    def read(self) -> tuple[slice, slice]:
        """The part of the image that the tile reads."""
        return self.rows.read, self.columns.read

    @property
    def place(self) -> tuple[slice, slice]:
        """Where that part lies in the tile's input."""
        return self.rows.place, self.columns.place

    @property
    def keep(self) -> tuple[slice, slice]:
        """The scores of the tile that are kept."""
        return self.rows.keep, self.columns.keep

    @property
    def write(self) -> tuple[slice, slice]:
        """Where these scores lie in the map."""
        return self.rows.write, self.columns.write


class Cut(NamedTuple):
    """How one axis of a map is cut.

    Attributes:
      pixels: length of the image, pixels.
      scores: length of the map, scores, without one at the border.
      outputs: length of a tile's output, scores.
      extent: length of a tile's input, pixels.
      before: number of pixels that a tile reads before its first window.
      stride: distance between neighbouring scores, pixels.
      last: first pixel of the last window, if it lies flush with the border and off the stride; its score is the first
        of a tile of its own. None: there is none.
      last_extent: length of that tile's input, pixels.
    """

    pixels: int
    scores: int
    outputs: int
    extent: int
    before: int
    stride: int
    last: int | None = None
    last_extent: int = 0

    @property
    def count(self) -> int:
        """Number of tiles."""
        return -(-self.scores // self.outputs) + (self.last is not None)

    def written(self, tiles: int) -> int:
        """Number of scores that the first tiles write.

        Args:
          tiles: number of tiles, at most `count`.

        Returns:
          Number of scores.
        """
        return min(tiles * self.outputs, self.scores) + (self.last is not None and tiles == self.count)

    def blocks(self, part: slice | None = None) -> list[Block]:
        """Cuts the map, or a part of it, into tiles; the last keeps what is left.

        Args:
          part: the scores of the map to cut; None: all.

        Returns:
          The blocks in order.
        """
        start, stop = (0, self.scores + (self.last is not None)) if part is None else (part.start, part.stop)
        regular = range(start, min(stop, self.scores), self.outputs)
        blocks = [self._block(score, min(score + self.outputs, stop, self.scores)) for score in regular]
        return [*blocks, self._block(self.scores, stop)] if stop > self.scores else blocks

    def _block(self, start: int, stop: int) -> Block:
        """The tile whose first score is `start`; scores from `stop` on are dropped."""
        at_border = self.last is not None and start == self.scores
        first = (self.last if at_border and self.last is not None else start * self.stride) - self.before
        read, place = overlap(first, self.last_extent if at_border else self.extent, self.pixels)
        return Block(first, read, place, slice(0, stop - start), slice(start, stop))


def product(cuts: Sequence[Cut], within: Tile | None = None) -> Iterator[Tile]:
    """All tiles of a map, row by row.

    Args:
      cuts: how rows and how columns of the map are cut.
      within: a tile of another cut of the same map: only the scores that it writes are cut; None: the whole map.

    Returns:
      An iterator of tiles.
    """
    parts = within.write if within else (None, None)
    rows, columns = (cut.blocks(part) for cut, part in zip(cuts, parts, strict=True))
    return itertools.starmap(Tile, itertools.product(rows, columns))
