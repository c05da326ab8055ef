"""Score maps in tiles of one shape: one program for images of any size, whose tiles equal their part of the whole map.

A tile is a block of scores together with the pixels that they depend on (`cnn.dense.blocks`). A tile at the lower or
right border computes scores beyond the map, which are dropped; the pixels that it reads beyond the image are zeros. In
a net without padding a tile is run like an image of its own. In a padded net (context "image") a tile also reads the
pixels around its windows that its scores see, and in every layer the values beyond the image's border are replaced by
padding. So the scores do not depend on where the borders of tiles lie.

Windows that lie flush with the image's border, off the stride (`cover`), are rows and columns of tiles of their own, of
which only the first score along that axis is kept; these tiles are as small as their rounding allows.
"""

import functools
import math
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cnn.dense import blocks
from cnn.dense.backends import BORDER_OUTPUTS, fixed_padding, plan_passes
from cnn.dense.blocks import Cut, Tile
from cnn.dense.contexts import resolve_context
from cnn.dense.cost import backend_bytes, cheapest, schedule_bytes
from cnn.dense.grid import Grid, lay_grid
from cnn.dense.padded_tiles import padded_pass
from cnn.dense.passes import Schedule
from cnn.dense.prepared import PreparedNet
from cnn.runtime.byte_sizes import bytes_text
from cnn.windows import GeometryError, Pair, as_pair, shape_text

# Fewest scores of a tile along each axis. On CPUs XLA splits the sums of small convolutions and products over the
# threads and so rounds them otherwise (`cnn.dense.passes`), and a small tile computes its overlap with others for few
# scores. Measured with 2 and 8 threads; with 32, tiles of up to twice as many scores were needed.
LEAST_OUTPUTS, FEW_THREADS = 16, 8


class Tiling(NamedTuple):
    """Tiles of one shape over one image.

    Attributes:
      prepared: the classifier and its window.
      image_shape: (height, width, channels), pixels.
      grid: where the windows of the whole map lie.
      outputs: (rows, columns) of scores of one tile.
      extent: (height, width) of the pixels that a tile reads.
      before: number of pixels (vertical, horizontal) that a tile reads before its first window; 0 in a net without
        padding.
      backend: name of the backend that computes a tile: "crops", "shift", "atrous" or "mpf".
      context: what windows see beyond their border: "crop", "image" or "both" (`cnn.dense.ScoreMap`).
    """

    prepared: PreparedNet
    image_shape: tuple[int, int, int]
    grid: Grid
    outputs: Pair
    extent: Pair
    before: Pair
    backend: str
    context: str

    @property
    def cuts(self) -> tuple[Cut, Cut]:
        """How rows and columns of the map are cut."""
        grid, cuts = self.grid, []
        border = self.extent if grid.last == (None, None) else _at_border(self, (True, True)).extent
        for i in range(2):
            tile = (self.outputs[i], self.extent[i], self.before[i])
            cuts.append(
                Cut(self.image_shape[i], grid.regular[i], *tile, grid.step[i], grid.last[i], last_extent=border[i])
            )
        return cuts[0], cuts[1]

    @property
    def alone(self) -> Grid:
        """Where the windows of one tile lie, as those of an image of its own."""
        return self.grid._replace(size=self.outputs, last=(None, None))

    def like(self, tile: Tile) -> "Tiling":
        """The tiling whose program runs a tile.

        Args:
          tile: one of `tiles`.

        Returns:
          This tiling, with fewer outputs and a smaller extent along an axis where the tile lies at the border.
        """
        at_border = [
            last is not None and block.write.start == regular
            for last, block, regular in zip(self.grid.last, tile, self.grid.regular, strict=True)
        ]
        return _at_border(self, (at_border[0], at_border[1])) if any(at_border) else self

    @property
    def counts(self) -> Pair:
        """Number of tiles along each axis, (vertical, horizontal)."""
        rows, columns = self.cuts
        return rows.count, columns.count

    def tiles(self, within: Tile | None = None) -> Iterator[Tile]:
        """The tiles, row by row.

        Args:
          within: a tile of another tiling of the same map: only the scores that it writes are cut; None: the whole map.

        Returns:
          An iterator of tiles.
        """
        return blocks.product(self.cuts, within)


class _Order(NamedTuple):
    """What is asked of a tiling before the size of its tiles is chosen."""

    prepared: PreparedNet
    image_shape: tuple[int, int, int]
    grid: Grid
    backend: str
    context: str

    def period(self, axis: int) -> int:
        """Number of scores after which the positions of windows repeat modulo the native stride."""
        return self.grid.native[axis] // math.gcd(self.grid.native[axis], self.grid.step[axis])

    def parts(self, axis: int) -> int:
        """Number of parts that a tile is run in, one for each remainder of the positions modulo the native stride."""
        in_parts = self.backend == "shift" or self.grid.native[axis] % self.grid.step[axis]
        return self.period(axis) if in_parts else 1

    def tiling(self, asked: Sequence[int], fixed: bool = False, least: int | None = None) -> Tiling:
        """A tiling whose tiles have at least `asked` scores along each axis (see `plan_tiles`)."""
        least = LEAST_OUTPUTS if least is None else least
        sizes = [max(n, least * self.parts(axis)) for axis, n in enumerate(asked)]
        if not fixed:
            sizes = [min(n, m) for n, m in zip(sizes, self.grid.regular, strict=True)]
        rows, columns = (-(-n // self.period(axis)) * self.period(axis) for axis, n in enumerate(sizes))
        return _resolved(self, (rows, columns))


def plan_tiles(
    prepared: PreparedNet,
    image_shape: Sequence[int],
    stride: int | Sequence[int] | None = None,
    backend: str = "auto",
    *,
    outputs: int | Sequence[int] | None = None,
    memory_limit: int | None = None,
    context: str | None = None,
    itemsize: int = 4,
    fixed: bool = False,
    cover: bool = False,
    least: int | None = None,
) -> Tiling:
    """Chooses the tiles of a map.

    Args:
      prepared: the classifier and its window. Only if it is position-invariant are tiles equal, to the bit, to their
        part of the whole map.
      image_shape: (height, width, channels), pixels.
      stride: distance between scores, pixels; None: the native stride.
      backend: "auto", "crops", "shift", "atrous" or "mpf" (see `cnn.dense.score_map`).
      outputs: number of scores of a tile along each axis, one number or (rows, columns). It is raised to at least
        `least` (for each part, if a tile is run in parts), limited to the size of the map, and rounded up to
        whole periods of the stride. None: as many as the memory limit allows.
      memory_limit: bytes that the computation of one tile may take beside the parameters; None: no limit, one tile for
        the whole map.
      context: "crop" or "image" (see `cnn.dense.score_map`); None: the context that the backend computes.
      itemsize: bytes of one value of the source image, of which a tile's pixels are held too.
      fixed: whether to keep `outputs` even if the map has fewer scores, so that images of all sizes share one program.
      cover: whether more windows lie flush with the bottom and right border (see `cnn.dense.score_map`).
      least: fewest scores along each axis that `outputs` is raised to; with fewer than `LEAST_OUTPUTS` tiles are
        rounded otherwise than the whole map. None: as many.

    Returns:
      A `Tiling`.

    Raises:
      ValueError: if backend or context are unknown, or the backend does not compute the context.
      GeometryError: if window, stride and image do not fit each other, a layer cannot slide, or, in context "image", a
        layer's padding is not constant.
      MemoryError: if the smallest tile needs more than the memory limit.
    """
    height, width, channels = (int(n) for n in image_shape)
    grid = lay_grid(prepared, image_shape, stride, cover)
    context = resolve_context(prepared, backend, context)
    if context == "image":
        label = fixed_padding(prepared, grid)
        if label:
            raise GeometryError(
                f"{label}: only constant padding can be continued from tile to tile; take context='crop', or a score "
                f"map of the whole image"
            )
    order = _Order(prepared, (height, width, channels), grid, backend, context)
    if outputs is not None:
        return order.tiling(as_pair(outputs, "outputs", "plan_tiles"), fixed, least)
    if memory_limit is None:
        return order.tiling(grid.regular, fixed)
    return _largest(order, memory_limit, itemsize)


def _largest(order: _Order, memory_limit: int, itemsize: int) -> Tiling:
    """The largest square tiles that fit, by bisection."""
    best = None
    low, high = 1, max(order.grid.regular)
    while low <= high:
        middle = (low + high) // 2
        tried = order.tiling((middle, middle))
        pixels = math.prod(tried.extent) * order.image_shape[2]
        if tile_bytes(tried) + itemsize * pixels <= memory_limit:
            best, low = tried, middle + 1
        else:
            high = middle - 1
    if best is None:
        smallest = order.tiling((1, 1))
        raise MemoryError(
            f"a tile of {shape_text(smallest.outputs)} scores (stride {shape_text(order.grid.stride)}, "
            f"{smallest.backend}) needs {bytes_text(tile_bytes(smallest))}, the limit is {bytes_text(memory_limit)}; "
            f"give more memory (--memory), or take backend 'crops'"
        )
    return best


def _resolved(order: _Order, outputs: Pair) -> Tiling:
    """A tiling with tiles of a given size; "auto" is replaced by the backend that is cheapest for one tile."""
    prepared, grid, backend, context = order.prepared, order.grid, order.backend, order.context
    alone = grid._replace(size=outputs, stride=grid.step, last=(None, None))
    if backend == "auto":
        backend = cheapest(prepared, (*alone.extent, order.image_shape[2]), alone, context)
    whole_passes = all(s % n == 0 for s, n in zip(grid.step, grid.native, strict=True))
    if backend == "shift" and (context == "image" or whole_passes):
        # "atrous" gives the same scores. With whole passes there is only one shift; in context "image" every shift
        # would read the pixels around the tile again.
        backend = "atrous"
    extent, before = alone.extent, (0, 0)
    if context == "image":
        schedule, before = padded_pass(prepared, order.image_shape, grid, backend, outputs)
        extent = schedule.extent
    return Tiling(prepared, order.image_shape, grid, outputs, extent, before, backend, context)


@functools.lru_cache(maxsize=64)
def _at_border(tiling: Tiling, axes: tuple[bool, bool]) -> Tiling:
    """The tiling of tiles at the border along the axes that are marked: as few outputs as are rounded like many."""
    order = _Order(tiling.prepared, tiling.image_shape, tiling.grid, tiling.backend, tiling.context)
    outputs = []
    for axis, most in enumerate(tiling.outputs):
        period = order.period(axis)
        least = -(-BORDER_OUTPUTS * order.parts(axis) // period) * period
        outputs.append(min(most, least) if axes[axis] else most)
    return _resolved(order, (outputs[0], outputs[1]))


def equals_whole(tiling: Tiling, platform: str) -> bool:
    """Whether tiles equal, to the bit, their part of the map that is computed in one pass, as far as it was measured.

    Args:
      tiling: tiles of a position-invariant net.
      platform: the platform of the devices, "cpu", "gpu" or "tpu".

    Returns:
      True on CPUs for tiles of enough scores (`LEAST_OUTPUTS`, twice as many if there are more than `FEW_THREADS`
      cores), and for a map that is one tile. Elsewhere False: they agree within 1e-5 of the largest score.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    least = LEAST_OUTPUTS if cores <= FEW_THREADS else 2 * LEAST_OUTPUTS
    return platform == "cpu" and (math.prod(tiling.counts) == 1 or min(tiling.outputs) >= least)


def tile_bytes(tiling: Tiling) -> int:
    """Predicted peak memory of computing one tile beside the parameters: pixels as floats, activations and scores.

    Args:
      tiling: the tiles, from `plan_tiles`.

    Returns:
      Peak memory, bytes.
    """
    channels = tiling.image_shape[2]
    if tiling.context == "image":
        return schedule_bytes(schedule_of(tiling), channels)
    return backend_bytes(tiling.prepared, (*tiling.extent, channels), tiling.alone, tiling.backend)


@functools.lru_cache(maxsize=64)
def schedule_of(tiling: Tiling) -> Schedule:
    """The one pass over a tile, where its backend runs it in one ("atrous" or "mpf").

    Args:
      tiling: the tiles, from `plan_tiles`; for a tile at the border its `like`.

    Returns:
      The pass.
    """
    if tiling.context == "image":
        return padded_pass(tiling.prepared, tiling.image_shape, tiling.grid, tiling.backend, tiling.outputs)[0]
    return plan_passes(tiling.prepared, tiling.extent, tiling.alone, tiling.backend)[0].schedule
