"""Score maps in tiles of one shape: images of any size by one program, every tile equal to its place in the map.

A tile is so many scores, and the pixels that they see. A tile at the far border computes scores beyond the map, which
are not kept; the pixels that it reads beyond the image are zeros. In a net without padding a tile is an image of its
own. In a padded net (context "image") a tile reads as far around itself as its scores see, and what lies beyond the
image's border is masked in every layer, as padding is: the border of a tile never shows.
"""

import functools
import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from cnn import convert, data
from cnn.dense import lattice, passes
from cnn.dense.backends import fixed_padding, plan_passes, run_backend
from cnn.dense.cost import backend_bytes, cheapest, schedule_bytes
from cnn.dense.grid import Grid, plan_grid
from cnn.dense.maps import resolve_context
from cnn.dense.passes import Frame, Schedule, Variables
from cnn.nets import Net
from cnn.runtime.compiler import jit_net
from cnn.windows import GeometryError, Pair, as_pair, shape_text

# Scores of a tile along each axis: XLA sums a product of few rows (fewer than 64 to 144, by its shape) in another
# order on CPU, and a small tile wastes its overlap.
LEAST_OUTPUTS = 16
_SEVERAL_RUNS = ("crops", "shift")  # backends that run a tile in more than one program


class Tiling(NamedTuple):
    """Tiles of one shape over one image.

    Attributes:
      image_shape: (height, width, channels), pixels.
      window, stride, native: as in `cnn.dense.Grid`.
      size: scores of the whole map.
      outputs: scores of one tile.
      extent: pixels that a tile reads.
      before: pixels that it reads before its first window; 0 in a net without padding.
      backend, context: how it is computed, as in `cnn.dense.ScoreMap`.
    """

    image_shape: tuple[int, int, int]
    window: Pair
    stride: Pair
    native: Pair
    size: Pair
    outputs: Pair
    extent: Pair
    before: Pair
    backend: str
    context: str

    @property
    def counts(self) -> Pair:
        """Tiles along each axis."""
        return -(-self.size[0] // self.outputs[0]), -(-self.size[1] // self.outputs[1])

    def corner(self, i: int, j: int) -> Pair:
        """First pixel (y, x) that tile (i, j) reads; may lie outside the image, where pixels are zeros.

        Args:
          i, j: row and column of the tile.

        Returns:
          (y, x), pixels.
        """
        return (
            i * self.outputs[0] * self.stride[0] - self.before[0],
            j * self.outputs[1] * self.stride[1] - self.before[1],
        )


def plan_tiles(
    net: Net,
    image_shape: Sequence[int],
    window: Sequence[int],
    stride: int | Sequence[int] | None = None,
    backend: str = "auto",
    *,
    outputs: int | Sequence[int] | None = None,
    memory_limit: int | None = None,
    context: str | None = None,
    itemsize: int = 4,
    fixed: bool = False,
) -> Tiling:
    """Chooses the tiles of a map.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      window: (height, width) that the net was trained on, pixels.
      stride: between scores, pixels; None: the net's own.
      backend, context: as `cnn.dense.score_map` takes them.
      outputs: scores of a tile along each axis, rounded up to whole periods of the stride, at least `LEAST_OUTPUTS`
        (of each part, where a tile is run in parts) and not more than the map has; None: as many as the memory limit
        allows.
      memory_limit: of one tile's run beside the parameters, bytes; None: one tile for the whole map.
      itemsize: bytes of a value of the source, which a tile's pixels hold too.
      fixed: `outputs` stay as they are even if the map has fewer, so that images of all sizes share one program.

    Returns:
      A `Tiling`.

    Raises:
      ValueError: for an unknown backend or context, or if the two do not go together.
      GeometryError: if window, stride and image do not fit, a layer cannot slide, or padding of a tile is not defined.
      MemoryError: if the smallest tile needs more than the memory limit.
    """
    height, width, channels = (int(n) for n in image_shape)
    shape = (height, width, channels)
    grid = plan_grid(net, shape, window, stride)
    context = resolve_context(net, grid.window, channels, backend, context)
    if context == "image":
        label = fixed_padding(net, shape, grid)
        if label:
            raise GeometryError(
                f"{label}: only zero padding can be continued from tile to tile; take context='crop', or a score map "
                f"of the whole image"
            )
    period = [n // math.gcd(n, s) for n, s in zip(grid.native, grid.stride, strict=True)]
    # Where a tile is run in parts, one for each remainder modulo the net's stride, each part must be large enough.
    parts = [p if backend == "shift" or n % s else 1 for p, n, s in zip(period, grid.native, grid.stride, strict=True)]

    def tiling(asked: Sequence[int]) -> Tiling:
        sizes = [max(n, LEAST_OUTPUTS * p) for n, p in zip(asked, parts, strict=True)]
        if not fixed:
            sizes = [min(n, m) for n, m in zip(sizes, grid.size, strict=True)]
        rounded = tuple(-(-n // p) * p for n, p in zip(sizes, period, strict=True))
        return _resolved(net, shape, grid, backend, context, (rounded[0], rounded[1]))

    if outputs is not None:
        return tiling(as_pair(outputs, "outputs", "plan_tiles"))
    if memory_limit is None:
        return tiling(grid.size)
    fits = None
    low, high = 1, max(grid.size)
    while low <= high:  # the largest square that fits
        middle = (low + high) // 2
        tried = tiling((middle, middle))
        if tile_bytes(net, tried) + itemsize * math.prod(tried.extent) * channels <= memory_limit:
            fits, low = tried, middle + 1
        else:
            high = middle - 1
    if fits is None:
        smallest = tiling((1, 1))
        raise MemoryError(
            f"a tile of {shape_text(smallest.outputs)} scores (stride {shape_text(grid.stride)}, {smallest.backend}) "
            f"needs {tile_bytes(net, smallest) / 2**20:,.1f} MiB, the limit is {memory_limit / 2**20:,.1f} MiB; give "
            f"more memory, or take backend 'crops'"
        )
    return fits


def _resolved(
    net: Net,
    shape: tuple[int, int, int],
    grid: Grid,
    backend: str,
    context: str,
    outputs: Pair,
) -> Tiling:
    """A tiling of a given tile; "auto" becomes the backend that is cheapest for it."""
    alone = [(n - 1) * s + w for n, s, w in zip(outputs, grid.stride, grid.window, strict=True)]
    if backend == "auto":
        tile_grid = grid._replace(size=outputs)
        backend = cheapest(net, (alone[0], alone[1], shape[2]), tile_grid, context)
    whole_passes = all(s % n == 0 for s, n in zip(grid.stride, grid.native, strict=True))
    if backend == "shift" and (context == "image" or whole_passes):
        # The same numbers: one pass if there is only one, and on a masked tile each shift would repeat the margin.
        backend = "atrous"
    if context != "image":
        extent, before = (alone[0], alone[1]), (0, 0)
    else:
        schedule, before = _framed(net, shape, grid, backend, outputs)
        extent = schedule.extent
    return Tiling(shape, grid.window, grid.stride, grid.native, grid.size, outputs, extent, before, backend, context)


def _framed(net: Net, shape: tuple[int, int, int], grid: Grid, backend: str, outputs: Pair) -> tuple[Schedule, Pair]:
    """The pass over a tile of a padded net, and how many pixels it reads before its first window."""
    conv_net = convert.convolutional(net, (*grid.window, shape[2]))
    routes = []
    for i, axis in enumerate(lattice.axes(conv_net, grid.window, shape)):
        if backend == "atrous":
            routes.append(lattice.dilated(axis, 0, grid.stride[i], outputs[i], clip=False))
        else:
            routes.append(lattice.fragmented(axis, grid.stride[i], outputs[i], clip=False))
    before = (-routes[0].first, -routes[1].first)
    # Limits are those of the image in hand, given when it runs; without them all images share a program.
    free = [
        route._replace(
            first=0,
            steps=tuple(
                step if step.mask is None else step._replace(mask=step.mask._replace(limit=0)) for step in route.steps
            ),
        )
        for route in routes
    ]
    return Schedule(conv_net, free[0], free[1]), before


def tile_bytes(net: Net, tiling: Tiling) -> int:
    """Predicted peak of one tile's run: its pixels as floats, activations and scores, beside the parameters.

    Args:
      net: the classifier.
      tiling: from `plan_tiles`.

    Returns:
      Bytes.
    """
    channels = tiling.image_shape[2]
    if tiling.context == "image":
        schedule, _ = _framed(net, tiling.image_shape, _grid(tiling), tiling.backend, tiling.outputs)
        return schedule_bytes(schedule, channels)
    grid = _grid(tiling)._replace(size=tiling.outputs)
    return backend_bytes(net, (*tiling.extent, channels), grid, tiling.backend)


def _grid(tiling: Tiling) -> Grid:
    return Grid(tiling.window, tiling.stride, tiling.size, tiling.native)


def run_tile(
    net: Net,
    tiling: Tiling,
    variables: Variables,
    pixels: jax.Array,
    corner: Pair,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> jax.Array:
    """Scores of one tile; asynchronous, on the device where the pixels are.

    Args:
      net: the classifier.
      tiling: from `plan_tiles`.
      variables: the classifier's, on the same device.
      pixels: [*tiling.extent, C], from `tiling.corner`; floating and normalised, or with `mean` and `std` as
        `cnn.data.normalise` takes them.
      corner: of the tile, from `tiling.corner`.
      mean, std: of the training images, [C], or None.

    Returns:
      [*tiling.outputs, K]. One compilation serves all tiles of a shape, at every place of images of any size.
    """
    table = None
    if mean is not None and std is not None:
        if pixels.dtype == jnp.uint8 and tiling.backend not in _SEVERAL_RUNS:
            table = _normalised_bytes(tuple(map(float, mean)), tuple(map(float, std)))
        else:
            # By itself, not as a part of the pass: fused into it, values are rounded by where they stand in a tile.
            pixels = data.normalise(pixels, mean, std)
    if tiling.backend in _SEVERAL_RUNS:
        grid = _grid(tiling)._replace(size=tiling.outputs)
        return run_backend(net, variables, pixels[None], grid, tiling.backend)[0]
    frame, hashable = None, cast(Hashable, net)  # as all Flax modules are
    if tiling.context == "image":
        frame = Frame(np.add(corner, tiling.before).astype(np.int32), _limits(hashable, tiling))
    return _run_schedule(net, tiling.window, _schedule(hashable, tiling), variables, pixels, table, frame)


@functools.lru_cache(maxsize=64)
def _normalised_bytes(mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """What `cnn.data.normalise` makes of each byte: float32 [256, C]; a table has no place that rounding could see."""
    values = np.repeat(np.arange(256, dtype=np.uint8)[:, None], len(mean), axis=1)
    return np.asarray(data.normalise(values, mean, std))


@functools.lru_cache(maxsize=64)
def _schedule(net: Any, tiling: Tiling) -> Schedule:
    """The one pass over a tile."""
    if tiling.context == "image":
        return _framed(net, tiling.image_shape, _grid(tiling), tiling.backend, tiling.outputs)[0]
    grid = _grid(tiling)._replace(size=tiling.outputs)
    return plan_passes(net, (*tiling.extent, tiling.image_shape[2]), grid, tiling.backend)[0].schedule


@functools.lru_cache(maxsize=64)
def _limits(net: Any, tiling: Tiling) -> np.ndarray:
    """Largest real position of each layer's input, int32 [layers, 2]."""
    conv_net = convert.convolutional(net, (*tiling.window, tiling.image_shape[2]))
    both = lattice.axes(conv_net, tiling.window, tiling.image_shape)
    return np.array([[slide.limit for slide in axis.slides] for axis in both], np.int32).T


@functools.partial(jit_net, static_argnums=(0, 1, 2))
def _run_schedule(
    net: Net,
    window: Pair,
    schedule: Schedule,
    variables: Variables,
    pixels: jax.Array,
    table: jax.Array | None,
    frame: Frame | None,
) -> jax.Array:
    """One tile; its place and its image's size, if it needs them, are traced."""
    _, conv_variables = convert.fc_to_conv(net, variables, (*window, pixels.shape[2]))
    if table is not None:
        channels = pixels.shape[2]
        flat = pixels.astype(jnp.int32) * channels + np.arange(channels, dtype=np.int32)[None, None]
        pixels = table.reshape(-1).at[flat].get(mode="promise_in_bounds")
    beyond = [max(0, n - m) for n, m in zip(schedule.extent, pixels.shape[:2], strict=True)]
    pixels = jnp.pad(pixels, ((0, beyond[0]), (0, beyond[1]), (0, 0)))
    part = pixels[: schedule.extent[0], : schedule.extent[1]]
    scores: Any = passes.run(schedule, conv_variables, part[None], frame)
    return scores[0]
