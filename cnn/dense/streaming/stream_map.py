"""The score map of an image of any size, computed tile by tile, from any array or file into another.

Tiles of one fixed shape are run through the net; they overlap by window - stride pixels. Convolutions are
position-invariant, so that the map is, to the bit, that of `score_map(..., position_invariant=True)`, on CPUs and if
tiles are not too small (`cnn.dense.tiles.equals_whole`). One thread reads ahead, each device computes one tile while
another waits, and scores are written in order.
"""

import functools
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from cnn.dense import tiles
from cnn.dense.arguments import named
from cnn.dense.streaming import journal as journals
from cnn.dense.streaming import planned
from cnn.dense.streaming.alone import alone
from cnn.dense.streaming.begun import begin, resume
from cnn.dense.streaming.pipeline import Task, pixels_done, run_all
from cnn.dense.streaming.together import check_shared, take_parts
from cnn.dense.streaming.together import run as run_together
from cnn.images import paths
from cnn.images.source import Source
from cnn.nets import Net
from cnn.runtime import processes
from cnn.windows import Pair, shape_text

LOG = logging.getLogger(__name__)

Variables = Mapping[str, Any]


class StreamResult(NamedTuple):
    """What a stream computed, and how fast.

    Attributes:
      shape: (h, w, K) of the map: rows and columns of scores, and classes.
      image_shape: (H, W, C) of the image, pixels.
      window: height and width of a window, pixels.
      stride: distance between neighbouring scores, (vertical, horizontal), pixels. The pixels that each score sees are
        `boxes(net, image_shape, plan_grid(net, image_shape, window, stride, cover=cover), context)`.
      context: what windows see beyond their border: "image", "crop" or "both", as in `ScoreMap`.
      backend: name of the backend that computed the tiles.
      outputs: (rows, columns) of scores of one tile, when the stream began.
      tiles: number of tiles in the whole map.
      tiles_done_before: number of tiles that were in the sink when the stream began.
      shrunk: number of times that memory ran out and the tiles were made smaller.
      seconds: duration of the stream, seconds.
      megapixels_per_second: pixels of the image for which this stream computed scores, or left them out, divided by its
        duration; 0 if there were none.
      to_the_bit: whether the map equals, to the bit, that of `score_map(..., position_invariant=True)`, as far as it
        was measured (`cnn.dense.tiles.equals_whole`); if not, within 1e-5 of the largest score.
      last: first pixel (y, x) of the last windows where these lie flush with the border, off the stride (`cover`); None
        along an axis without.
      skipped_windows: number of windows of the map, in tiles done before too, that were left out and are NaN.
      skipped_tiles: number of tiles that have no others, and were not computed.
    """

    shape: tuple[int, int, int]
    image_shape: tuple[int, int, int]
    window: Pair
    stride: Pair
    context: str
    backend: str
    outputs: Pair
    tiles: int
    tiles_done_before: int
    shrunk: int
    seconds: float
    megapixels_per_second: float
    to_the_bit: bool
    last: tuple[int | None, int | None] = (None, None)
    skipped_windows: int = 0
    skipped_tiles: int = 0


@named()
def stream(
    net: Net,
    variables: Variables,
    source: Any,
    sink: Any,
    *,
    window: Sequence[int],
    stride: int | Sequence[int] | None = None,
    backend: str = "auto",
    context: str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    memory_limit: int | str = 2 * 2**30,
    tile: int | Sequence[int] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    devices: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    cover: bool = False,
    value_range: Sequence[float] | None = None,
    skip: str | None = None,
    skip_windows: str = "any",
    write: str = "scores",
    map_dtype: str = "float32",
    together: bool = False,
) -> StreamResult:
    """Class scores of every window of an image of any size, written tile by tile.

    A stream into a file may be stopped in any way. Started again with the same arguments, it continues at its first
    missing tile, and the file ends with the same bytes; a finished stream computes nothing. Before that it reads the
    image and the map of all finished tiles again: if a pixel or a score has changed, it is refused; smaller levels of
    an OME-Zarr that have changed are made anew. Its journal, `NAME.progress.json`, lies beside the file. What the
    scores are (`cnn.dense.streaming.about`) stands in the file, and of a .npy in the sidecar `NAME.json`: `open_map`
    reads it. If memory runs out, the tiles are made smaller, which is logged, and the stream continues.

    Args:
      net: a classifier; fully connected layers are converted as needed.
      variables: its variables.
      source: the image, integer or floating [H, W] or [H, W, C]: an array that can be sliced, or the path of a .npy,
        zarr, TIFF, JPEG, PNG, ... file; or what `cnn.images.source.open_image` makes of one, which chooses pages,
        levels, channels, a mask and the no-data value.
      sink: where the map is written, [h, w, K]: a path, whose suffix says the kind, or a writable array (which has no
        journal). .npy and .zarr are arrays; .ome.zarr (OME-Zarr 0.5) and .tif or .tiff (GeoTIFF) have a pyramid too,
        and lie on the image in viewers; they hold no windows off the stride (`cover`).
      window: (height, width) that the net was trained on, pixels.
      stride: distance between windows, one number or (vertical, horizontal), pixels; None: the native stride.
      backend: "auto", "crops", "shift", "atrous" or "mpf", see `score_map`.
      context: "crop" or "image", see `score_map`; None: the context that the backend computes.
      mean: mean of the training data as fractions of the full range of pixel values, one number or C; None: the source
        is floating, and normalised already.
      std: standard deviation of the training data, one number or C; given if and only if `mean` is.
      memory_limit: bytes that tiles, parameters and caches may take in the memory of this machine and, if there are
        accelerators, in the memory of each of them, a number or a text such as "2GB". An array, or a picture that must
        be decoded whole, is not counted.
      tile: number of scores of one tile, one number or (rows, columns); computed in parts if it needs more than the
        memory limit. None: as in an earlier stream into this sink, otherwise as many as fit.
      overwrite: whether to begin anew and replace the map that the sink holds; other files are never replaced.
      progress: whether to show a progress bar with megapixels per second.
      devices: the devices that tiles are spread over; None: all local devices.
      class_names: names of the K classes, kept with the map; None: it has none.
      cover: whether more windows lie flush with the bottom and right border (see `score_map`); the map says where.
      value_range: (low, high): the pixel values that count as 0 and as 1, of which mean and std are fractions; None:
        those of the source, by default the lowest and highest of an integer dtype.
      skip: "nodata": windows that see pixels that hold nothing, by the source's no-data value, mask or alpha, are NaN;
        "constant": windows whose pixels are all one colour; None: neither. What a source's own mask
        (`open_image(mask=)`) leaves out is NaN whatever is said here. Tiles of such windows alone are not computed.
      skip_windows: "any": a window is left out where it sees one pixel that does not count; "all": where it sees no
        other.
      write: "scores" (logits), "probabilities" by the net's output activation, or "class": the class of the largest
        score and its probability, [h, w, 2], as fractions of the largest value of uint8, or of uint16 for more than 254
        classes; a class of that largest value is none.
      map_dtype: dtype of scores and probabilities, "float32" or "float16".
      together: whether the tiles are spread over the processes that work together (`cnn.runtime.processes`), which all
        call this alike, on the same file. The map has the bytes that one process writes; .npy and arrays cannot be
        shared.

    Returns:
      A `StreamResult`.

    Raises:
      StorageError: if source or sink cannot be used, the sink is its source, lies in it or holds it, is being written
        by another stream, or was begun with another net, image or option.
      TypeError: if the source is not floating, and mean and std are not given.
      GeometryError: if window, stride and image do not fit the net, or a layer cannot slide.
      ValueError: if backend, context, write or map_dtype are unknown, mean, std or memory limit are not such numbers,
        or there are not K class names.
      MemoryError: if no tile stays within the memory limit; or if memory runs out and tiles cannot be made smaller.
    """
    started = time.monotonic()
    path = journals.journal_path(sink)
    plan = functools.partial(
        planned.plan_stream,
        net,
        variables,
        source,
        sink,
        window=window,
        stride=stride,
        backend=backend,
        context=context,
        mean=mean,
        std=std,
        memory_limit=memory_limit,
        tile=tile,
        overwrite=overwrite,
        devices=devices,
        class_names=class_names,
        cover=cover,
        value_range=value_range,
        skip=skip,
        skip_windows=skip_windows,
        write=write,
        map_dtype=map_dtype,
    )
    said = _say_planning if progress else None
    if together and processes.count() > 1:
        check_shared(sink, cover)
        job, running, done, shrunk, skipped = run_together(plan, variables, sink, overwrite, progress, said)
        return _result(job, running, done, shrunk, skipped, started)
    job = plan(opened=said)
    with alone(None if path is None else paths.resolve(sink)):
        if path:
            take_parts(path, overwrite)
        if path and not overwrite and journals.read_journal(path) != job.journal:
            job = plan()  # another stream wrote the map while this one was planned
        return _run(job, variables, sink, path, overwrite, progress, started)


def _run(
    job: planned.Planned,
    variables: Variables,
    sink: Any,
    path: str | None,
    overwrite: bool,
    progress: bool,
    started: float,
) -> StreamResult:
    """Computes what is missing of a map that was planned."""
    image, counted, facts, skips, running = job.image, job.counted, job.facts, job.skips, job.running
    if job.begun is not None:
        target, counter = resume(sink, image, counted, facts, job.begun, skips)
    else:
        target, counter = begin(sink, counted, facts, overwrite or job.journal is not None, skips)
    done, total, shrunk = counter.done, facts["tiles"], 0
    if done < total:
        placed = [jax.device_put(variables, device) for device in job.budget.devices]
        constants = job.mean, job.std
        task = Task(
            placed, job.budget.devices, image, target, counted, path is not None, *constants, job.written, skips
        )
        smaller = functools.partial(job.plan, backend=counted.backend)
        shrunk, running = run_all(task, running, smaller, counter, progress)
    else:
        counter.finish()
        target.close()
        message = f"{target.name}: finished already, all {total} tiles are computed; nothing to do"
        LOG.info(message)
        if progress:
            tqdm.write(message, file=sys.stderr)
    return _result(job, running, done, shrunk, counter.skipped, started)


def _result(
    job: planned.Planned, running: tiles.Tiling, done: int, shrunk: int, skipped: Pair, started: float
) -> StreamResult:
    """What was computed, and how fast."""
    image, counted, total = job.image, job.counted, job.facts["tiles"]
    seconds = time.monotonic() - started
    rate = (pixels_done(counted, total) - pixels_done(counted, done)) / 1e6 / seconds
    asked = (counted.grid.window, counted.grid.stride, counted.context, counted.backend, counted.outputs)
    exact = tiles.equals_whole(running, job.budget.devices[0].platform)
    return StreamResult(
        job.facts["map"], image.shape, *asked, total, done, shrunk, seconds, rate, exact, counted.grid.last, *skipped
    )


def _say_planning(image: Source) -> None:
    tqdm.write(f"{image.name}: {shape_text(image.shape)}; planning tiles", file=sys.stderr)
