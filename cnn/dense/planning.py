"""`plan`: the predicted cost of a score map by each backend, as a table, before anything is computed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from cnn.dense.arguments import COUNT, named
from cnn.dense.backends import BACKENDS
from cnn.dense.contexts import resolve_context
from cnn.dense.cost import LayerCost, backend_bytes, cheapest, layer_costs
from cnn.dense.grid import lay_grid
from cnn.dense.prepared import prepare
from cnn.dense.split_plans import plan_split
from cnn.nets import Net
from cnn.runtime.byte_sizes import as_bytes
from cnn.windows import Pair, as_image_shape, shape_text


class BackendPlan(NamedTuple):
    """The predicted cost of a score map by one backend.

    Attributes:
      backend: name of the backend.
      context: what windows see beyond their border: "crop", "image" or "both".
      layers: multiply-adds and bytes of each layer.
      macs: multiply-adds for the map of one image.
      peak_bytes: predicted peak memory beside the parameters, of each device, bytes.
      map_size: (height, width) of the map, scores.
      fits: whether the backend stays under the memory limit.
    """

    backend: str
    context: str
    layers: tuple[LayerCost, ...]
    macs: int
    peak_bytes: int
    map_size: Pair
    fits: bool


class Plan(tuple[BackendPlan, ...]):
    """One `BackendPlan` for each backend; prints as a table.

    Attributes:
      chosen: the backend that "auto" uses; None if none stays under the memory limit.
    """

    chosen: str | None

    def __new__(cls, backends: Sequence[BackendPlan], chosen: str | None) -> "Plan":
        plan = super().__new__(cls, backends)
        plan.chosen = chosen
        return plan

    def __getitem__(self, key: Any) -> Any:
        """A `BackendPlan` by position, or by the name of its backend."""
        if isinstance(key, str):
            for one in self:
                if one.backend == key:
                    return one
            raise KeyError(f"no backend {key!r}; backends: {', '.join(one.backend for one in self)}")
        return super().__getitem__(key)

    def __str__(self) -> str:
        names = list(dict.fromkeys(layer.name for one in self for layer in one.layers if layer.macs))
        rows = [["multiply-adds", *(one.backend + (" *" if one.backend == self.chosen else "") for one in self)]]
        for name in names:
            rows.append([name, *(f"{sum(x.macs for x in one.layers if x.name == name):,}" for one in self)])
        crops = self["crops"].macs
        rows.append(["total", *(f"{one.macs:,}" for one in self)])
        rows.append(["crops / this", *(f"{crops / one.macs:.2f}" if one.macs else "-" for one in self)])
        rows.append(["peak MiB", *(f"{one.peak_bytes / 2**20:,.1f}" + ("" if one.fits else " !") for one in self)])
        rows.append(["map", *(shape_text(one.map_size) for one in self)])
        rows.append(["context", *(one.context for one in self)])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        return "\n".join([*lines, "* what auto takes; ! above the memory limit"])


@named(devices=COUNT)
def plan(
    net: Net,
    image_shape: Sequence[int],
    stride: int | Sequence[int] | None = None,
    memory_limit: int | str | None = None,
    *,
    window: Sequence[int],
    context: str | None = None,
    images: int = 1,
    cover: bool = False,
    devices: int = 1,
) -> Plan:
    """Predicts the cost of a score map by each backend.

    Args:
      net: the classifier.
      image_shape: (height, width, channels), pixels.
      stride: distance between windows, pixels; None: the native stride.
      memory_limit: bytes that the computation may take beside the parameters, on each device, a number or a text such
        as "2GB"; None: no limit.
      window: (height, width) that the net was trained on, pixels.
      context: the context that "auto" must compute, "crop" or "image"; None: "image". In a net without padding the two
        are the same.
      images: number of images that are computed at once; bytes are those of all images, multiply-adds those of one.
      cover: whether more windows lie flush with the bottom and right border (see `cnn.dense.score_map`).
      devices: number of devices that the rows of an image are split over (`cnn.dense.score_map`); bytes are those of
        each of them.

    Returns:
      A `Plan`.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if the context is unknown, or a number out of range.
      GeometryError: if the window, stride and image do not fit each other, a layer cannot slide, or the context must be
        given (`cnn.layers.Gate`).
    """
    limit = None if memory_limit is None else as_bytes(memory_limit, "memory_limit")
    if context not in (None, "crop", "image"):
        raise ValueError(f"dense.plan: unknown context {context!r}; contexts: crop, image, or None")
    image_shape = as_image_shape(image_shape, "dense.plan: image_shape")
    prepared = prepare(net, window, image_shape[2])
    grid = lay_grid(prepared, image_shape, stride, cover)
    plans = []
    for name in BACKENDS:
        layers = tuple(layer_costs(prepared, image_shape, grid, name))
        given = "both" if not prepared.padded else "crop" if name == "crops" else "image"
        if devices > 1:
            peak = images * plan_split(prepared, image_shape, grid.stride, name, None, devices, cover=cover).bytes
        else:
            peak = backend_bytes(prepared, image_shape, grid, name, images)
        macs = sum(layer.macs for layer in layers)
        fits = limit is None or peak <= limit
        plans.append(BackendPlan(name, given, layers, macs, peak, grid.size, fits))
    asked = resolve_context(prepared, "auto", context)
    try:
        if devices > 1:
            given = None if asked == "both" else asked
            found = plan_split(prepared, image_shape, grid.stride, "auto", given, devices, limit, images, cover)
            chosen = found.tiling.backend
        else:
            chosen = cheapest(prepared, image_shape, grid, asked, limit, images)
    except MemoryError:
        chosen = None
    return Plan(plans, chosen)
