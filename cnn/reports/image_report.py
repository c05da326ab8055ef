"""One image of any size, run densely: its map in a file, averages on the terminal, pictures and a page.

The image is streamed into a map, and everything that is said and drawn is made of that map and of pixels that were kept
on the way, in bounded memory.
"""

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn import data, dense
from cnn.images import Source, ranges, whole
from cnn.images.resizing import fit, resize
from cnn.protocols.progress import Progress
from cnn.reports import figure, html, image_facts, image_pictures, map_page, run_report, streamed
from cnn.reports.html import Section
from cnn.reports.image_overview import make_overview
from cnn.reports.streamed import Asked, Looked
from cnn.runs import logs
from cnn.runs.checkpoint import Run
from cnn.runtime import own_code
from cnn.training import evaluate
from cnn.windows import shape_text

TOP = 5  # classes named for a picture
POLARITY_MARGIN = 0.3  # how much nearer the inverted picture's brightness must be to the training images' own
WHOLE_BYTES = 2**28  # of an image that is resized to --scales in memory
BYTES_A_PIXEL = 1000  # of memory that a pass over a whole image takes
MOST_SHRUNK = 32  # beyond, a picture that is resized to the window shows nothing, and its prediction says nothing
SIZES = ("scale", "spacing")  # what says how large an image is read
OF_A_MAP = ("write", "map_dtype", "tile", "overwrite")  # what is asked of a map that is kept
UNSEEN = {"mask", "nodata"}  # what is asked of an image and changes none of its pixels
MAP_SUFFIX = ".zarr"  # of maps inside a directory of results
PAGE_SUFFIX = ".report.html"  # of the page beside a map


def run_image(
    run: Run,
    path: str,
    output_dir: str,
    *,
    stride: int | None = None,
    scales: Sequence[int] = (),
    cover: bool = False,
    asked: Asked | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Runs a net densely over an image in a file, prints the averaged scores, and makes pictures and a page.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`).
      path: file of the image, at least as large as the window; it is not resized. Its polarity must be that of the
        training images (digits: bright on black).
      output_dir: receives the map NAME_map.zarr, which is continued where it was begun; NAME_map.png and, of a small
        image, NAME_classes.png (a heat map for each of the best classes), NAME_best.png (the best window) and, at
        stride 1, NAME_pixels.png (the class of the window around each pixel); NAME_overview.json (what report.html
        shows of it), NAME_map.json (the returned numbers) and report.html; made if missing.
      stride: distance between windows, pixels; None: the native stride.
      scales: lengths that the picture's shortest side is also resized to, pixels; the probabilities of all windows of
        one scale are averaged, and then those of all scales (Simonyan, Zisserman (2015), section 3.2).
      cover: whether more windows lie flush with the right and bottom border (`cnn.dense.score_map`).
      asked: all else that is asked, also in place of the three before it.
      progress: says what is being done; None: nothing is said.

    Returns:
      {"picture": path of the PNG, "windows": (h, w), "centre_crop": the best classes of the picture as `main.py
      --mode=predict` sees it, where it is small enough for that to say something, for each of
      `cnn.protocols.methods.AVERAGES` the best classes of the map, and "scales", those of all scales if there are any};
      the `TOP` best classes are (name, score) each, best first.

    Raises:
      DataError: if the file is not an image, or the map was begun with another image or option.
      ValueError: if the image is smaller than the window, or the stride is below 1.
    """
    progress = progress or Progress(shown=False)
    asked = asked or Asked(streaming=_set(stride=stride, cover=cover), scales=scales)
    sink = map_path(path, output_dir)
    stem = sink.removesuffix(f"_map{MAP_SUFFIX}")
    looked = streamed.look(run, path, sink, asked, progress)
    windows = looked.done.shape[:2]
    print(f"{path}: {shape_text(looked.source.shape[:2])} pixels, {shape_text(windows)} windows", flush=True)
    result = {"picture": f"{stem}_map.png", "windows": windows, **_say(run, path, looked, asked, beside=True)}
    for line in image_facts.lines(looked, path)[2:]:
        print(line, flush=True)
    progress.stage("drawing")
    image_pictures.draw(stem, run, looked, os.path.basename(path))
    logs.write_json(f"{stem}_overview.json", make_overview(looked, os.path.basename(path))._asdict())
    facts = {"image": path, "size": looked.source.shape[:2], "stride": asked.streaming.get("stride")}
    facts |= {"scales": list(asked.scales), "last": looked.done.last, **image_facts.facts(looked)}
    facts |= {"net": own_code.short(run.config.net.name), "steps": run.step}
    logs.write_json(f"{stem}_map.json", {**facts, **result, **logs.environment(together=True)})
    print(f"  wrote {sink}, {stem}_*.png and {run_report.write_dense_page(output_dir)}", flush=True)
    return result


def run_map(run: Run, path: str, sink: str, asked: Asked, progress: Progress | None = None) -> dict[str, Any]:
    """Runs a net densely over an image into a map of the user's name, and writes a page beside it.

    Args:
      run: a trained net.
      path: file of the image; its polarity must be that of the training images.
      sink: file of the map [h, w, K]; a map that was begun is continued. The page lies beside it, as
        `NAME.report.html`.
      asked: what is asked.
      progress: says what is being done; None: nothing is said.

    Returns:
      As `run_image`, without "picture", and with the facts of the map.

    Raises:
      ValueError: if the image, the map or an option does not fit (`cnn.dense.stream`).
      MemoryError: if no tile stays under the memory limit.
    """
    progress = progress or Progress(shown=False)
    looked = streamed.look(run, path, sink, asked, progress)
    print("\n".join(image_facts.lines(looked, path)), flush=True)
    result = {"windows": looked.done.shape[:2], **_say(run, path, looked, asked)}
    facts = {"image": path, "size": looked.source.shape[:2], "stride": asked.streaming.get("stride")}
    facts |= {**image_facts.facts(looked), **result, **logs.environment(together=True)}
    progress.stage("drawing")
    items = map_page.items(facts, make_overview(looked, os.path.basename(path)))
    sections = [Section(os.path.basename(path), items), run_report.made(facts)]
    html.write(sink + PAGE_SUFFIX, f"{os.path.basename(path)}, run densely", sections)
    print(f"  wrote {sink} and {sink + PAGE_SUFFIX}", flush=True)
    return facts


def _set(**options: Any) -> dict[str, Any]:
    """The options that say something."""
    return {name: value for name, value in options.items() if value not in (None, False)}


def map_path(path: str, output_dir: str) -> str:
    """Where the map of an image lies in a directory of results."""
    file, _, inside = path.partition("::")
    file = os.path.splitext(file.rstrip(os.sep))[0]
    return os.path.join(output_dir, f"{result_name(f'{file}::{inside}')}_map{MAP_SUFFIX}")


def result_name(path: str) -> str:
    """The name of an image in names of results: that of its file, with the place inside of a file of several."""
    file, _, inside = path.partition("::")
    return "_".join(filter(None, [os.path.basename(file.rstrip(os.sep)), inside.strip("/").replace("/", "_")]))


def _say(run: Run, path: str, looked: Looked, asked: Asked, beside: bool = False) -> dict[str, list[tuple[str, float]]]:
    """Prints the best classes by each average and what is to be said of them; returns these classes.

    With `beside` the classes that a prediction of the whole picture gives are said too.
    """
    result: dict[str, Any] = {}
    predicted = _centre_probabilities(run, looked, asked) if beside else None
    if predicted is not None:
        result["centre_crop"] = _best(looked.names, predicted)
    if not looked.summary.known:
        print("  no window has a score, and no class an average", flush=True)
    for over, values in streamed.averages(looked).items():
        result[over] = _best(looked.names, values)
        form = ".1%" if over == "probabilities" else ".2f"
        if looked.summary.known:
            print(f"  {over + ':':15}{', '.join(f'{name} {value:{form}}' for name, value in result[over])}", flush=True)
    if "probabilities" not in result:
        result["shares"] = _best(looked.names, looked.summary.shares)
        best = ", ".join(f"{name} {value:.1%}" for name, value in result["shares"])
        if looked.summary.known:
            print(f"  {'windows:':15}{best}", flush=True)
    if asked.scales:
        result["scales"] = _best(looked.names, _over_scales(run, path, looked, asked))
        best = ", ".join(f"{name} {value:.1%}" for name, value in result["scales"])
        print(f"  over scales {', '.join(map(str, asked.scales))} pixels: {best}", flush=True)
    if asked.detections:
        print("\n".join(image_facts.detection_lines(looked, asked.detections)), flush=True)
    _print_remarks(run, looked, result)
    return result


def _best(names: Sequence[str], values: np.ndarray) -> list[tuple[str, float]]:
    """The best classes of scores or probabilities [K], best first."""
    return [(figure.class_name(names, int(k)), float(values[k])) for k in np.argsort(-values)[:TOP]]


def _is_plain(source: Source) -> bool:
    """Whether an image has bytes of the full range, as the training images."""
    return source.dtype == np.uint8 and source.value_range == ranges.of_dtype(np.uint8)


def _over_scales(run: Run, path: str, looked: Looked, asked: Asked) -> np.ndarray:
    """Probabilities [K]: the mean over scales of the mean over all windows of a scale."""
    source, found = looked.source, []
    left_out = asked.streaming.get("skip") or asked.reading.get("mask")
    most = min(WHOLE_BYTES, asked.memory // BYTES_A_PIXEL)
    sizes = streamed.scaled_sizes(run, path, source, asked.scales)
    largest = max(math.prod(size) for size in (*sizes, source.shape[:2])) * source.shape[2]
    image = None
    if _is_plain(source) and not left_out and largest <= most:
        image = source.read(0, source.shape[0], 0, source.shape[1])
    for scale, size in zip(asked.scales, sizes, strict=True):
        if image is None:
            found.append(_streamed_average(run, path, looked, asked, scale))
            continue
        pixels = data.normalise(resize(image, size)[None], run.mean, run.std)
        options: dict[str, Any] = {name: asked.streaming.get(name) for name in ("stride", "context")}
        options["cover"] = bool(asked.streaming.get("cover"))
        scored = dense.score_map(run.net, run.variables, pixels, run.image_shape[:2], **options)
        found.append(np.asarray(dense.average(scored, "probabilities", run.net.output_activation))[0])
    return np.mean(found, axis=0)


def _streamed_average(run: Run, path: str, looked: Looked, asked: Asked, scale: int) -> np.ndarray:
    """Mean probabilities [K] of an image that is resized while it is read, into a map that is thrown away."""
    reading = {name: value for name, value in asked.reading.items() if name not in SIZES}
    shape = looked.source.shape
    if len(reading) < len(asked.reading):  # a factor counts from the image as it is stored
        stored = streamed.reading_of(run, reading)
        shape = dense.open_image(path, net_channels=run.image_shape[2], **stored).shape
    streaming = {name: value for name, value in asked.streaming.items() if name not in OF_A_MAP}
    again = asked._replace(
        reading={**reading, "scale": scale / min(shape[:2])},
        streaming=streaming,
        detections=None,
        scales=(),
        background=None,
    )
    with tempfile.TemporaryDirectory(dir=os.path.dirname(looked.opened.path) or ".") as folder:
        found = streamed.look(run, path, os.path.join(folder, "map.zarr"), again, Progress(shown=False))
        return found.summary.averages["probabilities"]


def _centre_probabilities(run: Run, looked: Looked, asked: Asked) -> np.ndarray | None:
    """Probabilities [K] of the picture as `cnn.training.predict` sees it: resized to the window, and centre-cropped.

    None where the picture is so large that this says nothing, is read in a way that no prediction reads it, or has NaN,
    which a prediction refuses.
    """
    if asked.reading.keys() - UNSEEN:
        return None
    source, window = looked.source, run.image_shape[:2]
    shrunk = min(n / w for n, w in zip(source.shape, window, strict=False))
    if shrunk > MOST_SHRUNK or math.prod(source.shape) * source.dtype.itemsize > WHOLE_BYTES:
        return None
    images = fit(whole.read_whole(source), *window)[None]
    if np.isnan(images).any():
        return None
    scores = evaluate.logits(run.net, run.variables, images, run.mean, run.std)
    # The average over a single window: its probabilities.
    return np.asarray(dense.average(scores, "probabilities", run.net.output_activation))[0]


def _print_remarks(run: Run, looked: Looked, result: Mapping[str, Any]) -> None:
    """Says how this answer differs from a prediction's, and whether the picture's polarity looks wrong."""
    if "centre_crop" in result:
        name, probability = result["centre_crop"][0]
        print(
            f"  main.py --mode=predict says {name} ({probability:.1%}): it resizes the picture's shortest side to "
            f"{min(run.image_shape[:2])} pixels and looks at the centre alone; here every window of the picture at its "
            f"own size counts",
            flush=True,
        )
    if run.config.data.name == data.IMPORTED or not _is_plain(looked.source):
        return  # an imported net's mean is a constant of the net, not that of pictures
    trained, shown = float(np.mean(run.mean)), looked.source.mean()
    if abs(1 - shown - trained) + POLARITY_MARGIN < abs(shown - trained):
        print(
            f"  the training images have a mean brightness of {trained:.2f} and this picture {shown:.2f}: if it shows "
            f"dark on bright where they were bright on dark, or the reverse, invert it",
            flush=True,
        )
