"""What a dense run over images would read, compute and write, and how long it would take, before it is begun."""

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from cnn import dense
from cnn.dense import tile_runs
from cnn.dense.detections.write import check_place
from cnn.dense.streaming.memory import stream_bytes
from cnn.dense.streaming.planned import Planned, check_sink, plan_stream
from cnn.dense.tiles import Tiling
from cnn.images import Source
from cnn.protocols.progress import Progress
from cnn.reports import streamed
from cnn.reports.images_report import of_one, said_of
from cnn.reports.streamed import Asked
from cnn.runs.checkpoint import Run
from cnn.runtime.byte_sizes import bytes_text
from cnn.windows import shape_text

MEASURED = 128  # scores along each axis of the tile that is run to know the speed


def texts(run: Run, paths: Sequence[str], sinks: Sequence[str], asked: Asked, progress: Progress) -> tuple[str, int]:
    """`text` for several images; of one that cannot be read, why.

    Args:
      run: a trained net.
      paths: the images.
      sinks: their maps.
      asked: what is asked of each.
      progress: says what is being done.

    Returns:
      (several lines for each image, how many would be refused).
    """
    found, refused = [], 0
    for path, sink in zip(paths, sinks, strict=True):
        try:
            found.append(text(run, path, sink, of_one(asked, sink), progress))
        except (ValueError, OSError, MemoryError) as error:
            refused += 1
            found.append(": ".join(said_of(path, error)))
    return "\n".join(found), refused


def text(run: Run, path: str, output: str, asked: Asked, progress: Progress) -> str:
    """Says what a run over one image would do. One small tile is computed to know the speed; nothing is written.

    Args:
      run: a trained net.
      path: the image's file.
      output: the map, or the directory that it would lie in.
      asked: what is asked.
      progress: says what is being done.

    Returns:
      Several lines.

    Raises:
      ValueError: if the image cannot be read, window, stride and image do not fit, or a run would be refused.
      MemoryError: if no tile stays within the memory limit.
    """
    streamed.background_of(run, asked.background)
    if asked.detections:
        check_place(os.path.expanduser(asked.detections), output)
    source = streamed.open_source(run, path, asked)
    options = asked.streaming
    streamed.scaled_sizes(run, path, source, asked.scales)
    job = plan_stream(run.net, run.variables, source, output, **streamed.arguments(run, asked))
    check_sink(job, output, bool(options.get("overwrite")))
    tiling, count = job.counted, job.facts["tiles"]
    done = job.begun["done"] if job.begun else 0
    progress.stage("running one tile to know the speed")
    seconds, measured = _measured(run, source, job.plan, job.running)
    costs = dense.plan(
        run.net,
        source.shape,
        options.get("stride"),
        window=run.image_shape[:2],
        context=options.get("context"),
        cover=bool(options.get("cover")),
    )
    less = "; less where windows are skipped" if options.get("skip") or asked.reading.get("mask") else ""
    less += f"; {1 - done / count:.1%} of that for the tiles that are missing" if done else ""
    memory = stream_bytes(job.running, job.budget) + job.limit - job.budget.bytes
    lines = [
        _image_line(source, path),
        _map_line(job, output, options.get("write", "scores")),
        f"  tiles: {count:,} of {shape_text(tiling.outputs)} scores, {shape_text(tiling.extent)} pixels each "
        f"({tiling.backend}, context {tiling.context!r})",
        f"  multiply-adds: {costs[tiling.backend].macs:.3g}; window by window they were {costs['crops'].macs:.3g}",
        f"  memory: {bytes_text(memory)} of {bytes_text(asked.memory)}",
        f"  time: about {_duration(seconds)}, {math.prod(source.shape[:2]) / 1e6 / seconds:.1f} megapixels/s, from "
        f"{measured}{less}",
        "  nothing was written",
    ]
    return "\n".join(lines)


def _image_line(source: Source, path: str) -> str:
    facts = source.facts
    parts = [f"{path}: {shape_text(source.shape)} pixels of {source.dtype}"]
    if facts.spacing:
        parts.append(f"{facts.spacing.y:.4g} x {facts.spacing.x:.4g} {facts.spacing.unit} each")
    parts += [f"{name} {_said(value)}" for name, value in facts.chosen.items()]
    if facts.levels:
        parts.append("levels " + ", ".join(map(shape_text, facts.levels)))
    return "; ".join(parts)


def _said(value: Any) -> str:
    if isinstance(value, tuple | list):
        return " x ".join(map(_said, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _map_line(job: Planned, output: str, what: str) -> str:
    """The map: its shape, its bytes, the room for it, and how much of it is there."""
    shape, dtype = job.facts["map"], job.written.dtype
    folder = os.path.abspath(output)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    needed, free = math.prod(shape) * dtype.itemsize, shutil.disk_usage(folder).free
    line = f"  map: {shape_text(shape)} {what} of {dtype}, {bytes_text(needed)} before compression -> {output}"
    line += f" ({bytes_text(free)} free)"
    if job.begun:
        line += f"; it was begun, {job.begun['done']:,} of {job.begun['tiles']:,} tiles are there"
    return line


def _measured(run: Run, source: Source, plan: Callable[..., Tiling], tiling: Tiling) -> tuple[float, str]:
    """Predicted duration, seconds, and what it follows from: one small tile in the middle of the image."""
    outputs = tuple(min(n, MEASURED) for n in tiling.outputs)
    small = plan(backend=tiling.backend, outputs=outputs)
    found = list(small.tiles())
    tile = found[len(found) // 2] if math.prod(small.counts) <= 10_000 else found[0]
    small = small.like(tile)
    (y, x), (height, width) = tile.corner, small.extent
    begin = time.perf_counter()
    pixels = source.read(y, y + height, x, x + width)
    reading = time.perf_counter() - begin
    constants = tuple(map(float, run.mean)), tuple(map(float, run.std))
    jax.block_until_ready(tile_runs.run_tile(small, run.variables, jax.device_put(pixels), tile.corner, *constants))
    begin = time.perf_counter()
    jax.block_until_ready(tile_runs.run_tile(small, run.variables, jax.device_put(pixels), tile.corner, *constants))
    computing = time.perf_counter() - begin
    windows = math.prod(tiling.grid.size) / math.prod(small.outputs)
    area = math.prod(source.shape[:2]) / (height * width)
    seconds = max(computing * windows / len(jax.local_devices()), reading * area)
    said = f"a tile of {shape_text(small.outputs)} scores: {computing:.3g} s, and {reading:.3g} s to read it"
    return max(seconds, 1e-3), said


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
