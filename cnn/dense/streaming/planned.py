"""What a stream would do: its image, tiles and memory, and what its map says; before anything is written.

A stream begins with it, and a dry run says it: so that both have the same numbers, and refuse the same.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cnn.dense import tiles
from cnn.dense.prepared import input_channels, prepare_trained
from cnn.dense.streaming import journal as journals
from cnn.dense.streaming import places, skipping
from cnn.dense.streaming import sink as sinks
from cnn.dense.streaming import written as writing
from cnn.dense.streaming.about import describe, last_of
from cnn.dense.streaming.memory import Budget, choose_tiles
from cnn.dense.streaming.skipping import Skipping
from cnn.dense.streaming.written import Written
from cnn.dense.tiles import Tiling
from cnn.images import paths, ranges
from cnn.images.source import CACHE_BYTES, Source, open_image
from cnn.nets import Net
from cnn.nets.arrays_in import check_floating, constants, number_of, without_mask
from cnn.runtime.byte_sizes import as_bytes

Variables = Mapping[str, Any]


class Planned(NamedTuple):
    """What a stream would do.

    Attributes:
      image: the image.
      mean: mean of the training data for each channel; None: the image is normalised already.
      std: its standard deviation.
      plan: `cnn.dense.tiles.plan_tiles` with all arguments bound except `outputs`, `memory_limit` and `backend`.
      limit: memory for tiles, parameters and caches, bytes.
      budget: what of it tiles may take, and the devices.
      counted: the tiles that the journal counts.
      running: the tiles to begin with: the same, or parts of them.
      skips: how windows are left out; None: none is.
      written: what the map holds.
      facts: the journal's fields.
      journal: the journal that lies beside the sink; None: there is none, or it is overwritten.
      begun: the same, if a tile of its map is done.
    """

    image: Source
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    plan: Callable[..., Tiling]
    limit: int
    budget: Budget
    counted: Tiling
    running: Tiling
    skips: Skipping | None
    written: Written
    facts: Mapping[str, Any]
    journal: Mapping[str, Any] | None
    begun: Mapping[str, Any] | None


def plan_stream(
    net: Net,
    variables: Variables,
    source: Any,
    sink: Any,
    *,
    window: Any,
    stride: Any = None,
    backend: str = "auto",
    context: str | None = None,
    mean: Any = None,
    std: Any = None,
    memory_limit: int | str = 2 * 2**30,
    tile: int | Sequence[int] | None = None,
    overwrite: bool = False,
    devices: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    cover: bool = False,
    value_range: Sequence[float] | None = None,
    skip: str | None = None,
    skip_windows: str = "any",
    write: str = "scores",
    map_dtype: str = "float32",
    opened: Callable[[Source], None] | None = None,
) -> Planned:
    """Plans a stream; nothing is written.

    Args:
      net, variables, source, sink, window, stride, backend, context, mean, std, memory_limit, tile, overwrite, devices,
        class_names, cover, value_range, skip, skip_windows, write, map_dtype: as for `cnn.dense.stream`.
      opened: called with the image when it is open; None: nothing is.

    Returns:
      A `Planned`.

    Raises:
      StorageError, TypeError, GeometryError, ValueError, MemoryError: as `cnn.dense.stream`.
    """
    limit = as_bytes(memory_limit, "memory_limit")
    cache_bytes = min(CACHE_BYTES, limit // 8)
    channels = input_channels(net, variables)
    image, mean, std = _open_image(source, sink, channels, mean, std, cache_bytes, value_range)
    path = journals.journal_path(sink)
    journal = journals.read_journal(path) if path and not overwrite else None
    begun = journal if journal and journal["done"] else None  # without a finished tile a journal binds nobody
    if opened is not None:
        opened(image)
    devices = list(devices or jax.local_devices())
    prepared = prepare_trained(net, variables, window, image.shape[2], position_invariant=True)
    plan = functools.partial(
        tiles.plan_tiles,
        prepared,
        image.shape,
        stride,
        context=context,
        itemsize=image.dtype.itemsize,
        cover=cover,
    )
    free = limit - cache_bytes - _parameter_bytes(variables, devices)
    beside = image.beside + (skipping.BESIDE if skip or image.mask is not None else 0)
    budget = Budget(free, devices, image.dtype.itemsize, beside)
    counted, running = choose_tiles(plan, budget, backend, tile, begun)
    skips = skipping.plan(image, counted, skip, skip_windows)
    written = writing.resolve(write, map_dtype, prepared.table[-1].output_shape[-1], net.output_activation)
    shape, identity = (*counted.grid.size, written.bands), journals.net_identity(net, variables)
    about = describe(image, counted, written, class_names, identity, {"mean": mean, "std": std})
    computes = {**identity, **_describe(image, counted, mean, std, skips), **_written(written)}
    facts = {
        "computes": computes,
        "map": shape,
        "tiles": math.prod(counted.counts),
        "about": about,
    }
    facts["computes"]["platform"] = devices[0].platform
    return Planned(image, mean, std, plan, limit, budget, counted, running, skips, written, facts, journal, begun)


def check_sink(job: Planned, sink: str, overwrite: bool) -> None:
    """Refuses a map that the stream could not make or continue, as far as that is known without reading pixels.

    Args:
      job: what it would do.
      sink: path of the map.
      overwrite: whether an existing map may be replaced.

    Raises:
      StorageError: as `cnn.dense.stream`.
    """
    shape, dtype, about = job.facts["map"], job.written.dtype, job.facts["about"]
    if job.begun is not None:
        journals.check_continued(str(journals.journal_path(sink)), job.begun, job.facts)
    replaced = overwrite or job.journal is not None
    sinks.check_place(paths.resolve(sink), shape, dtype, job.begun is not None, replaced, about=about)


def _open_image(
    source: Any, sink: Any, channels: int | None, mean: Any, std: Any, cache_bytes: int, value_range: Any
) -> tuple[Source, tuple[float, ...] | None, tuple[float, ...] | None]:
    """The image, and mean and std for each of its channels, if they go together and the image is not the sink."""
    source = without_mask(source, "stream: the source's pixels")
    channels = channels or number_of(mean)
    image = open_image(source, net_channels=channels, value_range=value_range, cache_bytes=cache_bytes)
    ranged = image.said or image.value_range != ranges.of_dtype(np.float32)
    mean, std = constants(mean, std, image.shape[2], "stream", of_bytes=ranged)
    if mean is None:
        check_floating(image.stored, f"{image.name}: its pixels", "; or give mean and std of the training data")
    for one in (image.path or image.array, image.mask_path, *image.facts.files):
        if one is not None:
            places.check_apart(one, sink)
    return image, mean, std


def _describe(
    image: Source,
    counted: Tiling,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    skips: Skipping | None,
) -> dict[str, Any]:
    """Everything beside the net and the pixels that the bytes of a map depend on, field by field."""
    constants = {"mean": mean, "std": std}
    return {
        "source shape": list(image.shape),
        "source dtype": str(image.dtype),
        "window": counted.grid.window,
        "stride": counted.grid.stride,
        "context": counted.context,
        "backend": counted.backend,
        **{
            name: None if value is None else np.asarray(value, np.float64).tolist() for name, value in constants.items()
        },
        "tile": counted.outputs,
        **last_of(counted),
        **({} if image.value_range == ranges.of_dtype(image.dtype) else {"value range": list(image.value_range)}),
        **skipping.describe(skips, image),
    }


def _written(written: writing.Written) -> dict[str, Any]:
    return {
        "write": written.kind,
        "map dtype": written.dtype.name,
        "output activation": written.output_activation,
    }


def _parameter_bytes(variables: Variables, devices: Sequence[Any]) -> int:
    copies = len(devices) if devices[0].platform == "cpu" else 1
    return copies * sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
