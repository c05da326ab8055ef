"""The predicted cost of a score map, layer by layer and before it is computed, and the cheapest backend."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from cnn.dense import passes
from cnn.dense.arguments import BACKEND, named
from cnn.dense.backends import crop_batch, plan_passes
from cnn.dense.contexts import able
from cnn.dense.grid import Grid
from cnn.dense.passes import Schedule
from cnn.dense.prepared import PreparedNet, prepare
from cnn.layers import Branches, Conv
from cnn.nets import Net
from cnn.runtime.byte_sizes import bytes_text
from cnn.windows import shape_text

VALUE_BYTES = 4  # float32
MACS_PER_BYTE = 10.0  # the cost of moving a byte, in multiply-adds


class LayerCost(NamedTuple):
    """The cost of one layer in a score map.

    Attributes:
      name: name of the layer.
      kind: kind of the layer, such as "conv".
      macs: multiply-adds for the map of one image.
      bytes: memory for its input, output and temporary values together, bytes.
    """

    name: str
    kind: str
    macs: int
    bytes: int


@named(backend=BACKEND)
def multiply_adds(net: Net, image_shape: Sequence[int], grid: Grid, backend: str) -> int:
    """Multiply-adds of one image's score map.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      grid: where the windows lie, from `plan_grid`.
      backend: "crops", "shift", "atrous" or "mpf".

    Returns:
      The number of multiply-adds.
    """
    prepared = prepare(net, grid.window, image_shape[2])
    return sum(cost.macs for cost in layer_costs(prepared, image_shape, grid, backend))


def layer_costs(prepared: PreparedNet, image_shape: Sequence[int], grid: Grid, backend: str) -> list[LayerCost]:
    """The cost of each layer of the classifier in the score map of one image.

    Args:
      prepared: the classifier and its window.
      image_shape: (height, width, channels), pixels.
      grid: where the windows lie, from `plan_grid`.
      backend: "crops", "shift", "atrous" or "mpf".

    Returns:
      One `LayerCost` for each layer that the backend runs.
    """
    channels = image_shape[2]
    if backend == "crops":
        windows = grid.size[0] * grid.size[1]
        batch = min(windows, crop_batch(prepared))
        costs, shape = [], prepared.image_shape
        for row, layer in zip(prepared.table, prepared.net.layers, strict=True):
            values = batch * (math.prod(shape) + math.prod(row.output_shape))
            if isinstance(layer, Conv):
                values += layer.workspace(shape, batch)
            if isinstance(layer, Branches):
                values += _values_inside(layer, shape, batch)
            costs.append(LayerCost(row.name, row.kind, windows * row.macs, VALUE_BYTES * values))
            shape = row.output_shape
        return costs
    costs = []
    for one in plan_passes(prepared, image_shape, grid, backend):
        done = schedule_costs(one.schedule, channels)
        if not costs:
            costs = done
        else:
            costs = [
                a._replace(macs=a.macs + b.macs, bytes=max(a.bytes, b.bytes)) for a, b in zip(costs, done, strict=True)
            ]
    return costs


def _values_inside(block: Branches, shape: Sequence[int], batch: int) -> int:
    """Temporary values of a layer that branches, for a batch of crops: what its paths gave, and the largest layer."""
    kept, most = 0, 0
    for number in range(1, len(block.checked()) + 1):
        for layer, seen in block.walk(number, tuple(shape)):
            values = batch * (math.prod(seen) + math.prod(layer.output_shape(seen)))
            if isinstance(layer, Branches):
                values += _values_inside(layer, seen, batch)
            if isinstance(layer, Conv):
                values += layer.workspace(seen, batch)
            most = max(most, kept + values)
        kept += batch * math.prod(block.path_shape(number, tuple(shape)))
    return max(most, kept)


def schedule_costs(schedule: Schedule, channels: int) -> list[LayerCost]:
    """The cost of each layer in one pass.

    Args:
      schedule: how each layer runs in the pass.
      channels: number of channels of the images.

    Returns:
      One `LayerCost` for each layer.
    """
    return [
        LayerCost(work.name, work.kind, work.macs, VALUE_BYTES * (work.inputs + work.outputs + work.workspace))
        for work in passes.work(schedule, channels)
    ]


def schedule_bytes(schedule: Schedule, channels: int) -> int:
    """Predicted peak memory of one pass beside the parameters: its pixels, and the layer that needs most.

    Args:
      schedule: how each layer runs in the pass.
      channels: number of channels of the images.

    Returns:
      Peak memory, bytes.
    """
    costs = schedule_costs(schedule, channels)
    return VALUE_BYTES * math.prod(schedule.extent) * channels + max(cost.bytes for cost in costs)


def backend_bytes(prepared: PreparedNet, image_shape: Sequence[int], grid: Grid, backend: str, images: int = 1) -> int:
    """Predicted peak memory of a score map beside the parameters: pixels and scores twice, and the largest layer.

    Args:
      prepared: the classifier and its window.
      image_shape: (height, width, channels), pixels.
      grid: where the windows lie, from `plan_grid`.
      backend: "crops", "shift", "atrous" or "mpf".
      images: number of images that are computed at once.

    Returns:
      Peak memory, bytes. Crops run in batches, so that only their pixels and scores grow with the number of images.
    """
    layer = max(cost.bytes for cost in layer_costs(prepared, image_shape, grid, backend))
    classes = prepared.table[-1].output_shape[-1]
    scores = 2 * grid.size[0] * grid.size[1] * classes  # those of a pass, and those of the whole map
    pixels = 2 * math.prod(image_shape)  # the image, and the part that a pass reads
    return images * VALUE_BYTES * (scores + pixels) + layer * (1 if backend == "crops" else images)


def cost(prepared: PreparedNet, image_shape: Sequence[int], grid: Grid, backend: str) -> float:
    """Cost of a map, for comparing backends: its multiply-adds, and `MACS_PER_BYTE` for each byte that is moved.

    Args:
      prepared: the classifier and its window.
      image_shape: (height, width, channels), pixels.
      grid: where the windows lie, from `plan_grid`.
      backend: "crops", "shift", "atrous" or "mpf".

    Returns:
      The cost, in multiply-adds.
    """
    total = 0.0
    if backend == "crops":
        windows = grid.size[0] * grid.size[1]
        batch = min(windows, crop_batch(prepared))
        for layer in layer_costs(prepared, image_shape, grid, backend):
            total += layer.macs + MACS_PER_BYTE * layer.bytes * windows / batch
        return total
    for one in plan_passes(prepared, image_shape, grid, backend):
        for layer in schedule_costs(one.schedule, image_shape[2]):
            total += layer.macs + MACS_PER_BYTE * layer.bytes
    return total


def cheapest(
    prepared: PreparedNet,
    image_shape: Sequence[int],
    grid: Grid,
    context: str,
    memory_limit: int | None = None,
    images: int = 1,
) -> str:
    """The backend of least `cost` among those that compute a context and stay under a memory limit.

    Args:
      prepared: the classifier and its window.
      image_shape: (height, width, channels), pixels.
      grid: where the windows lie, from `plan_grid`.
      context: "crop", "image" or "both".
      memory_limit: bytes that the computation may take beside the parameters; None: no limit.
      images: number of images that are computed at once.

    Returns:
      "crops", "shift", "atrous" or "mpf".

    Raises:
      MemoryError: if no backend stays under the limit.
    """
    names = able(context)
    if memory_limit is not None:
        names = check_memory(prepared, image_shape, grid, names, memory_limit, images)
    return min(names, key=lambda name: cost(prepared, image_shape, grid, name))


def check_memory(
    prepared: PreparedNet,
    image_shape: Sequence[int],
    grid: Grid,
    backends: Sequence[str],
    memory_limit: int,
    images: int = 1,
) -> tuple[str, ...]:
    """The backends that stay under a memory limit.

    Args:
      prepared: the classifier and its window.
      image_shape: (height, width, channels), pixels.
      grid: where the windows lie, from `plan_grid`.
      backends: names of backends.
      memory_limit: bytes that the computation may take beside the parameters.
      images: number of images that are computed at once.

    Returns:
      Those that do, at least one.

    Raises:
      MemoryError: if none does; names the one that needs least, what it needs and the limit.
    """
    needs = {name: backend_bytes(prepared, image_shape, grid, name, images) for name in backends}
    fits = tuple(name for name, needed in needs.items() if needed <= memory_limit)
    if not fits:
        least = min(needs, key=needs.__getitem__)
        raise MemoryError(
            f"score_map: {images} x {shape_text(image_shape)} pixels at stride {shape_text(grid.stride)} need at least "
            f"{bytes_text(needs[least])} ({least}), the limit is {bytes_text(memory_limit)}; run fewer images at once, "
            f"or dense.stream, which cuts the image into tiles"
        )
    return fits
