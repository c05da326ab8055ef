"""How an image and its score map are split over devices by rows; `cnn.dense.split_images` places and runs them."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.core
from jax.export import is_symbolic_dim

from cnn.dense import tiles
from cnn.dense.blocks import Block
from cnn.dense.contexts import able, resolve_context
from cnn.dense.cost import VALUE_BYTES, cost
from cnn.dense.prepared import PreparedNet
from cnn.dense.tiles import Tiling
from cnn.runtime.byte_sizes import bytes_text
from cnn.windows import GeometryError, Pair, shape_text


class Split(NamedTuple):
    """How an image and its map are split over devices; hashable, so that it can be a static argument of jit.

    Attributes:
      tiling: the map's rows of each device as tiles of all columns.
      count: number of devices.
      held: number of the image's rows that each device holds; the last ones may lie below the image.
      above, below: number of rows that each device gets from the devices before and after it.
      offsets: for each device the first of the rows that it holds and got that its scores depend on.
    """

    tiling: Tiling
    count: int
    held: int
    above: int
    below: int
    offsets: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Predicted peak memory of each device beside the parameters, for one image.

        The rows that it holds, those with its neighbours', and what a tile takes (`cnn.dense.tiles.tile_bytes`).
        """
        rows = self.held + (self.above + self.held + self.below)
        _, width, channels = self.tiling.image_shape
        return VALUE_BYTES * rows * width * channels + tiles.tile_bytes(self.tiling)


def check_devices(devices: Sequence[Any]) -> tuple[Any, ...]:
    """The devices that an image is split over.

    Args:
      devices: what a caller gave.

    Returns:
      The same.

    Raises:
      ValueError: if there are none, one is named twice, is no device of this process, or they are of two platforms.
    """
    local, found = set(jax.local_devices()), tuple(devices)
    strange = [device for device in found if not isinstance(device, jax.Device) or device not in local]
    if strange or not found or len(set(found)) < len(found) or len({device.platform for device in found}) > 1:
        raise ValueError(
            f"score_map: devices (={list(found)}) must be devices of this process, of one platform, each named once, "
            f"such as jax.local_devices(), which are {len(local)}"
        )
    return found


@functools.lru_cache(maxsize=256)
def plan_split(
    prepared: PreparedNet,
    image_shape: tuple[int, int, int],
    stride: Pair | None,
    backend: str,
    context: str | None,
    count: int,
    memory_limit: int | None = None,
    images: int = 1,
    cover: bool = False,
) -> Split:
    """Plans how an image is split.

    Args:
      prepared: the classifier and its window. Where it is position-invariant each device computes at least as many rows
        of scores as are rounded like the whole map (`cnn.dense.tiles.LEAST_OUTPUTS`), so that of a small map some
        devices may have no part.
      image_shape: (height, width, channels), pixels.
      stride: distance between scores, pixels; None: the native stride.
      backend: "auto", "crops", "shift", "atrous" or "mpf"; "auto" is the one of least predicted cost for the rows of
        one device.
      context: as for `cnn.dense.score_map`.
      count: number of devices.
      memory_limit: bytes that each device may take beside the parameters; None: no limit.
      images: number of images that are computed at once.
      cover: as for `cnn.dense.score_map`.

    Returns:
      A `Split`.

    Raises:
      ValueError, GeometryError: as `cnn.dense.tiles.plan_tiles`; also for a size that is symbolic.
      MemoryError: if each backend needs more than the memory limit.
    """
    if any(is_symbolic_dim(n) for n in image_shape):
        raise GeometryError(
            f"score_map: an image of {shape_text(image_shape[:2])} pixels cannot be split over devices, as its size is "
            f"symbolic; take sizes that are numbers, or leave devices out"
        )
    resolved = resolve_context(prepared, backend, context)
    names = able(resolved) if backend == "auto" else (backend,)
    splits = [_split(prepared, image_shape, stride, name, context, count, cover) for name in names]
    needs = [images * split.bytes for split in splits]
    if memory_limit is not None and min(needs) > memory_limit:
        raise MemoryError(
            f"score_map: {images} x {shape_text(image_shape)} pixels, split over {count} devices, need at least "
            f"{bytes_text(min(needs))} on each ({names[needs.index(min(needs))]}), the limit is "
            f"{bytes_text(memory_limit)}; take more devices or fewer images at once, or dense.stream, which cuts the "
            f"image into tiles"
        )
    fitting = [split for split, need in zip(splits, needs, strict=True) if memory_limit is None or need <= memory_limit]
    return fitting[0] if len(fitting) == 1 else min(fitting, key=_cost)


def _cost(split: Split) -> float:
    tiling = split.tiling
    return cost(tiling.prepared, (*tiling.alone.extent, tiling.image_shape[2]), tiling.alone, tiling.backend)


def _split(
    prepared: PreparedNet,
    image_shape: tuple[int, int, int],
    stride: Pair | None,
    backend: str,
    context: str | None,
    count: int,
    cover: bool,
) -> Split:
    """How an image is split for one backend."""
    asked: Any = {"context": context, "cover": cover}
    least = tiles.LEAST_OUTPUTS if prepared.position_invariant else 1
    whole = tiles.plan_tiles(prepared, image_shape, stride, backend, **asked)
    rows, columns = whole.grid.regular
    tiling = tiles.plan_tiles(
        prepared, image_shape, stride, backend, outputs=(-(-rows // count), columns), least=least, **asked
    )
    held = -(-image_shape[0] // count)
    firsts = [block.first for block in _regular(tiling)]
    above = max(0, *(device * held - first for device, first in enumerate(firsts)))
    ends = (first + tiling.extent[0] for first in firsts)
    below = max(0, *(end - (device + 1) * held for device, end in enumerate(ends)))
    # A device without a part of the map computes some scores of what it has, because all run one program.
    firsts += [device * held for device in range(len(firsts), count)]
    last = above + held + below - tiling.extent[0]
    offsets = (min(first - device * held + above, last) for device, first in enumerate(firsts))
    return Split(tiling, count, held, above, below, tuple(offsets))


def _regular(tiling: Tiling) -> list[Block]:
    """The blocks of rows without one at the border."""
    blocks = tiling.cuts[0].blocks()
    return blocks if tiling.grid.last[0] is None else blocks[:-1]
