"""Which windows of a stream are left out: those that see pixels outside of a mask, without data, or of one colour.

A window that is left out has NaN as all its scores, and a tile of such windows alone is not computed. The scores of all
others are those of a stream without skipping, to the bit. What counts are the pixels that a score sees
(`cnn.dense.boxes`), as far as they lie in the image.
"""

import logging
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from cnn.dense.blocks import Tile
from cnn.dense.grid import with_sight
from cnn.dense.tiles import Tiling
from cnn.images.source import Source
from cnn.windows import Pair

KINDS = ("nodata", "constant")
WINDOWS = ("any", "all")
BESIDE = 6  # bytes a pixel of a tile that its flags take while they are counted
BAND = 2**22  # pixels whose flags are summed at once
LOG = logging.getLogger(__name__)

Spans = tuple[np.ndarray, np.ndarray]  # first pixel and end of what the scores along one axis see


class Skipping(NamedTuple):
    """How a stream leaves windows out.

    Attributes:
      kind: "nodata": windows that see pixels that hold nothing, by the file or by the mask; "constant": windows whose
        pixels are all one colour, and those that the mask leaves out; None: those that the mask leaves out.
      windows: "any": a window is left out where it sees one pixel that does not count; "all": where it sees no other.
      rows, columns: what the scores of the map see along each axis, cut at the image's border, pixels.
    """

    kind: str | None
    windows: str
    rows: Spans
    columns: Spans

    def valid(self, source: Source, corner: Pair, extent: Pair, pixels: np.ndarray | None = None) -> np.ndarray | None:
        """Which pixels of a part of the image count.

        Args:
          source: the image.
          corner: first pixel (y, x) of the part.
          extent: its (height, width), pixels.
          pixels: what was read of it, if it is at hand.

        Returns:
          bool [height, width]; None: all that lie in the image.
        """
        (y, x), (height, width) = corner, extent
        return source.valid(y, y + height, x, x + width, only_mask=self.kind != "nodata", pixels=pixels)

    def skipped(self, source: Source, tile: Tile, pixels: np.ndarray, valid: np.ndarray | None) -> np.ndarray | None:
        """Which scores of a tile are left out.

        Args:
          source: the image.
          tile: the tile.
          pixels: the pixels that it reads, [height, width, C].
          valid: which of them count, from `valid`.

        Returns:
          bool, of the shape of the scores that the tile writes; None: none is left out.
        """
        down, across = tile.write
        rows = tuple(edge[down] for edge in self.rows)
        columns = tuple(edge[across] for edge in self.columns)
        corner = int(rows[0][0]), int(columns[0][0])
        extent = int(rows[1][-1]) - corner[0], int(columns[1][-1]) - corner[1]
        shift = corner[0] - tile.corner[0], corner[1] - tile.corner[1]
        inside = all(s >= 0 and s + n <= m for s, n, m in zip(shift, extent, pixels.shape, strict=False))
        if inside:
            part = (slice(shift[0], shift[0] + extent[0]), slice(shift[1], shift[1] + extent[1]))
            pixels, valid = pixels[part], None if valid is None else valid[part]
        else:
            (y, x), (height, width) = corner, extent
            pixels = source.read(y, y + height, x, x + width)
            valid = self.valid(source, corner, extent, pixels)
        spans = (rows[0] - corner[0], rows[1] - corner[0]), (columns[0] - corner[1], columns[1] - corner[1])
        found = None
        if valid is not None and not valid.all():
            found = box_counts(~valid, *spans) > 0 if self.windows == "any" else box_counts(valid, *spans) == 0
        if self.kind == "constant":
            same = _constant(pixels, *spans)
            found = same if found is None else found | same
        return found if found is not None and found.any() else None


def plan(source: Source, tiling: Tiling, skip: str | None, skip_windows: str) -> Skipping | None:
    """How a stream leaves windows out.

    Args:
      source: the image; if it has a mask, that counts whatever `skip` says.
      tiling: the tiles.
      skip: "nodata", "constant" or None.
      skip_windows: "any" or "all".

    Returns:
      A `Skipping`; None: nothing is left out.

    Raises:
      ValueError: if one is another word.
    """
    if skip not in (None, *KINDS):
        raise ValueError(f"stream: skip (={skip!r}) must be one of {', '.join(KINDS)}, or None")
    if skip_windows not in WINDOWS:
        raise ValueError(f"stream: skip_windows (={skip_windows!r}) must be one of {', '.join(WINDOWS)}")
    if skip is None and source.mask is None:
        return None
    if skip == "nodata" and source.valid(0, 0, 0, 0) is None:
        LOG.warning(
            "%s: it says of no pixel that it holds nothing, so that skip='nodata' leaves none out; say which do: "
            "open_image(nodata=VALUE) or open_image(mask=FILE)",
            source.name,
        )
    grid = with_sight(tiling.prepared, tiling.image_shape, tiling.grid, tiling.context)
    spans = []
    for axis in range(2):
        first, end = (np.clip(edge, 0, tiling.image_shape[axis]) for edge in grid.spans(axis))
        spans.append((first, end))
    return Skipping(skip, skip_windows, spans[0], spans[1])


def describe(skipping: Skipping | None, source: Source) -> dict[str, object]:
    """What a map depends on beside the pixels and the mask's own, field by field; nothing where all is computed."""
    if skipping is None:
        return {}
    nodata = source.facts.nodata if skipping.kind == "nodata" else None
    return {
        "skip": skipping.kind,
        "skip_windows": skipping.windows,
        "mask": source.mask is not None,
        "nodata": None if nodata is None else str(nodata),  # NaN is no JSON
    }


def box_counts(flags: np.ndarray, rows: Spans, columns: Spans) -> np.ndarray:
    """How many flags are set in each of a grid of boxes, by sums from the first row and column on.

    Args:
      flags: bool [H, W].
      rows: first pixels and ends of the boxes along the vertical axis, both ascending, int [h] each.
      columns: likewise along the horizontal axis, int [w] each.

    Returns:
      int32 [h, w].
    """
    (top, bottom), (left, right) = rows, columns
    counts = np.zeros((len(top), len(left)), np.int32)
    limit, start = max(1, BAND // max(1, flags.shape[1])), 0
    while start < len(top):
        stop = max(start + 1, int(np.searchsorted(bottom, top[start] + limit, "right")))
        band = flags[top[start] : bottom[stop - 1]]
        if band.any():
            sums = np.zeros((band.shape[0] + 1, band.shape[1]), np.int32)
            np.cumsum(band, axis=0, dtype=np.int32, out=sums[1:])
            strips = sums[bottom[start:stop] - top[start]] - sums[top[start:stop] - top[start]]
            sums = np.zeros((len(strips), band.shape[1] + 1), np.int32)
            np.cumsum(strips, axis=1, dtype=np.int32, out=sums[:, 1:])
            counts[start:stop] = sums[:, right] - sums[:, left]
        start = stop
    return counts


def _constant(pixels: np.ndarray, rows: Spans, columns: Spans) -> np.ndarray:
    """Which boxes have pixels of one colour alone: no two neighbours differ."""
    fewer_rows, fewer_columns = ((first, np.maximum(end - 1, first)) for first, end in (rows, columns))
    beside, below = _differ(pixels[:, 1:], pixels[:, :-1]), _differ(pixels[1:], pixels[:-1])
    return (box_counts(beside, rows, fewer_columns) == 0) & (box_counts(below, fewer_rows, columns) == 0)


def _differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which pixels differ in a channel; NaN is as NaN."""
    found = np.zeros(one.shape[:2], bool)
    for channel in range(one.shape[2]):
        a, b = one[..., channel], other[..., channel]
        differ = a != b
        if jnp.issubdtype(one.dtype, jnp.floating):
            differ &= ~(np.isnan(a) & np.isnan(b))
        found |= differ
    return found
