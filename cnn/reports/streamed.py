"""A trained net run over one image of any size, from file to file, and what the map says as a whole."""

import heapq
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn import dense, geometry
from cnn.dense.detections.write import check_place
from cnn.images import Source
from cnn.images.paths import check_name
from cnn.nets import outputs
from cnn.protocols import crops, methods
from cnn.protocols.progress import Progress
from cnn.reports import figure, overview, thumbnails
from cnn.reports.map_summary import Summary, summarise
from cnn.reports.thumbnails import Shown, Watched
from cnn.runs.checkpoint import Run
from cnn.windows import shape_text

MEMORY = 2 * 10**9
CACHE_BYTES = 256 * 2**20  # most that decoded parts of the image may take, as in `cnn.dense.stream`
SMALL_MAP = 1000  # pixels of the longer side of small maps
BACKGROUND = "background"  # a class of this name is no object, where nothing else is said


class Asked(NamedTuple):
    """What is asked of an image; only what is said is passed on.

    Attributes:
      reading: arguments of `cnn.dense.open_image`: page, level, select, channels, value_range, nodata, mask, scale,
        spacing.
      streaming: arguments of `cnn.dense.stream`: stride, context, cover, overwrite, write, map_dtype, skip,
        skip_windows.
      memory: memory for tiles and parameters, bytes.
      scales: lengths that the image's shortest side is also resized to, pixels.
      detections: path of the .csv or .geojson of detections; None: none are looked for.
      threshold: least probability of a detection.
      background: name or number of the class that is no object; None: that of the name `BACKGROUND`, if there is one.
      overlap: largest overlap of two detections of a class; None: that of `cnn.dense.detect`.
    """

    reading: Mapping[str, Any] = {}
    streaming: Mapping[str, Any] = {}
    memory: int = MEMORY
    scales: Sequence[int] = ()
    detections: str | None = None
    threshold: float = 0.5
    background: str | None = None
    overlap: float | None = None


class Looked(NamedTuple):
    """A map with what was seen on the way.

    Attributes:
      source: the image, with pixels for its thumbnail.
      opened: the map.
      done: what the stream computed.
      summary: what the map says as a whole.
      names: names of the classes.
      counts: number of detections of each class; None: none were looked for.
      outlines: the most probable detections.
      shown: how the image's values are shown.
    """

    source: Watched
    opened: Any
    done: dense.StreamResult
    summary: Summary
    names: Sequence[str]
    counts: Mapping[str, int] | None
    outlines: Sequence[Any]
    shown: Shown


def names(run: Run) -> list[str]:
    """The names of a net's scores, one each."""
    scores = geometry.table(run.net, run.image_shape)[-1].output_shape[-1]
    return [figure.class_name(run.class_names, k) for k in range(scores)]


def class_names(run: Run) -> list[str]:
    """The names of a net's classes, of which a single score tells two apart."""
    count = outputs.class_count(len(names(run)))
    return [figure.class_name(run.class_names, k) for k in range(count)]


def background_of(run: Run, asked: str | None) -> int | None:
    """The class that is no object.

    Args:
      run: a trained net.
      asked: its name or number; None: the class of the name `BACKGROUND`.

    Returns:
      Its number; None: there is none.

    Raises:
      ValueError: if there is no such class.
    """
    known = class_names(run)
    if asked is None:
        return known.index(BACKGROUND) if BACKGROUND in known else None
    if asked in known:
        return known.index(asked)
    if asked.isdecimal() and int(asked) < len(known):
        return int(asked)
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    raise ValueError(f"--background={asked}: no such class; the net has {len(known)}: {listed}")


def open_source(run: Run, path: str, asked: Asked) -> Source:
    """Opens an image as the net takes it.

    Args:
      run: a trained net.
      path: the image's file.
      asked: what of it is read.

    Returns:
      The image.

    Raises:
      ValueError: if it cannot be read, the net takes other channels, or it is smaller than the window.
    """
    check_name(path)
    cache = min(CACHE_BYTES, asked.memory // 8)
    reading = reading_of(run, asked.reading)
    source = dense.open_image(path, net_channels=run.image_shape[2], cache_bytes=cache, **reading)
    (height, width), window = source.shape[:2], run.image_shape[:2]
    if height < window[0] or width < window[1]:
        raise ValueError(
            f"{path} is {height}x{width} pixels (height x width), smaller than the net's window {shape_text(window)}; "
            f"enlarge or pad it to at least {max(height, window[0])}x{max(width, window[1])}"
        )
    return source


def reading_of(run: Run, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `cnn.dense.open_image`: what is asked, and the range and channels that a run keeps.

    Args:
      run: a trained net.
      asked: what is asked (`Asked.reading`).

    Returns:
      Name -> value.

    Raises:
      ValueError: if the run was trained on another range.
    """
    reading = dict(asked)
    kept = getattr(run, "value_range", None)  # that of the training images
    if kept is not None:
        kept = tuple(float(x) for x in kept)
        given = reading.setdefault("value_range", kept)
        if tuple(given) != kept:
            raise ValueError(
                f"--range={given[0]:g},{given[1]:g}: the net was trained on values from {kept[0]:g} to {kept[1]:g}; "
                "leave the flag out"
            )
    if getattr(run, "channels", None) is not None:  # those that it was trained on
        reading.setdefault("channels", run.channels)
    return reading


def scaled_sizes(run: Run, path: str, source: Source, scales: Sequence[int]) -> list[tuple[int, int]]:
    """The sizes of an image at scales, the lengths of its shortest side.

    Args:
      run: a trained net.
      path: the image's file, for the error.
      source: the image.
      scales: the scales, pixels.

    Returns:
      (height, width) for each.

    Raises:
      ValueError: if the window does not fit into one of them.
    """
    sizes = [crops.scaled_size(source.shape[:2], scale) for scale in scales]
    for scale, size in zip(scales, sizes, strict=True):
        if any(side < least for side, least in zip(size, run.image_shape, strict=False)):
            raise ValueError(
                f"{path} resized to the scale {scale} is {shape_text(size)} pixels, smaller than the net's window "
                f"{shape_text(run.image_shape[:2])}; take larger scales"
            )
    return sizes


def stream(run: Run, source: Any, sink: str, asked: Asked, progress: Progress | None = None) -> dense.StreamResult:
    """Runs a net densely over an image, from file to file (`cnn.dense.stream`).

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`).
      source: the image (`open_source`).
      sink: file of the map; a map that was begun is continued.
      asked: what is asked.
      progress: says what is being done; None: nothing is said, and no bar shown.

    Returns:
      What was done.

    Raises:
      ValueError: if the image, the map or an option does not fit (`cnn.dense.stream`).
      MemoryError: if no tile stays under the limit.
    """
    if progress is not None:
        progress.stage("planning tiles and compiling the net for one; the bar moves when the first tile is done")
    return dense.stream(run.net, run.variables, source, sink, together=True, **arguments(run, asked))


def arguments(run: Run, asked: Asked) -> dict[str, Any]:
    """The arguments by name of `cnn.dense.stream` for a run and what is asked."""
    constants = {"window": run.image_shape[:2], "mean": run.mean, "std": run.std}
    return {**constants, "memory_limit": asked.memory, "class_names": names(run), **asked.streaming}


def look(run: Run, path: str, sink: str, asked: Asked, progress: Progress) -> Looked:
    """Streams an image, sums its map up, and looks for detections.

    Args:
      run: a trained net.
      path: the image's file.
      sink: file of the map.
      asked: what is asked.
      progress: says what is being done.

    Returns:
      The map and what it says.

    Raises:
      ValueError: if the image, the map or an option does not fit.
      MemoryError: if no tile stays under the limit.
    """
    background = background_of(run, asked.background)
    if asked.detections:
        check_place(os.path.expanduser(asked.detections), sink)
    source = Watched(open_source(run, path, asked))
    scaled_sizes(run, path, source, asked.scales)  # before anything is computed
    done = stream(run, source, sink, asked, progress)
    progress.stage("summing up the map")
    opened = dense.open_map(sink)
    known = class_names(run)
    summary = summarise(
        opened, thumbnails.fitted(source.shape, SMALL_MAP), run.net.output_activation, len(known), background
    )
    counts, kept = None, []
    if asked.detections:
        progress.stage(f"looking for detections in {shape_text(done.shape[:2])} windows")
        counts, kept = _detect(opened, source, asked.detections, asked, background)
    return Looked(source, opened, done, summary, known, counts, kept, source.brightness())


def _detect(
    opened: Any, source: Source, path: str, asked: Asked, background: int | None
) -> tuple[Mapping[str, int], list[Any]]:
    """Writes the detections of a map; returns their counts, and the most probable ones."""
    where: dict[str, Any] = {}
    if source.facts.levels and source.facts.levels[0] != source.shape[:2]:
        # In pixels of the file's largest image, which viewers show.
        where["scale"] = [whole / n for whole, n in zip(source.facts.levels[0], source.shape, strict=False)]
    options: dict[str, Any] = {"overlap": asked.overlap} if asked.overlap is not None else {}
    options |= {"background": background} if background is not None else {}
    kept: list[tuple[float, int, Any]] = []
    found = dense.detect(opened, threshold=asked.threshold, **options)
    counts = dense.write_detections(path, _keep_best(found, kept), opened, **where)
    return counts, [one for _, _, one in sorted(kept, reverse=True)]


def _keep_best(found: Iterable[Any], kept: list[tuple[float, int, Any]]) -> Iterator[Any]:
    """Passes detections on, and keeps the most probable of them."""
    for i, one in enumerate(found):
        entry = (float(one.probability), -i, one)
        if len(kept) < overview.OUTLINES:
            heapq.heappush(kept, entry)
        elif entry > kept[0]:
            heapq.heapreplace(kept, entry)
        yield one


def averages(looked: Looked) -> dict[str, np.ndarray]:
    """Averages over all windows that have a score, float64 [K] each, in the order in which they are printed."""
    return {over: looked.summary.averages[over] for over in methods.AVERAGES if over in looked.summary.averages}
