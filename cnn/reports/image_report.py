"""One image, of any size: its score map drawn, averaged and named, or streamed from file to file."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn import data, dense, geometry
from cnn.data.image_files import resize
from cnn.images import ranges, whole
from cnn.images.source import CACHE_BYTES
from cnn.nets import outputs
from cnn.protocols import crops, methods
from cnn.protocols.progress import Progress
from cnn.reports import figure, run_report, score_map_pictures
from cnn.runs import logs
from cnn.runs.checkpoint import Run
from cnn.runtime import own_code
from cnn.training import evaluate
from cnn.windows import shape_text

TOP = 5  # classes named for a picture
POLARITY_MARGIN = 0.3  # how much nearer the inverted picture's brightness must be to the training images' own


def map_picture(
    path: str,
    run: Run,
    image: np.ndarray,
    stride: int | None = None,
    class_index: int | None = None,
    true_box: Sequence[int] | np.ndarray | None = None,
    subject: str = "",
    cover: bool = False,
) -> dense.ScoreMap:
    """Runs a net densely over one image and draws the image with the score map laid over it.

    Args:
      path: path of the PNG to write.
      run: a trained net.
      image: uint8 [H, W, C], or float32 fractions of its range, at least as large as the window.
      stride: distance between windows, pixels; None: the native stride.
      class_index: whose probability is drawn; None: the class of the largest score of all.
      true_box: where the object is, (y0, x0, y1, x1), if known.
      subject: what the image is, for the title: "scene 3".
      cover: whether more windows lie flush with the right and bottom border (`cnn.dense.score_map`).

    Returns:
      The image's score map, N = 1.

    Raises:
      GeometryError: if the image is smaller than the window, with the numbers.
    """
    window = run.image_shape[:2]
    pixels = data.normalise(image[None], run.mean, run.std)
    found = dense.score_map(run.net, run.variables, pixels, window, stride, cover=cover)
    score_map_pictures.score_map_picture(
        path,
        _shown(image),
        np.asarray(found.scores)[0],
        found.grid,
        run.class_names,
        class_index,
        true_box,
        _title(run, subject),
        found.output_activation,
    )
    return found


def run_image(
    run: Run,
    path: str,
    output_dir: str,
    *,
    stride: int | None = None,
    scales: Sequence[int] = (),
    cover: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Runs a net densely over a picture in a file, prints the averaged scores, and draws the score map.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`).
      path: file of the picture, at least as large as the window; it is not resized. Its polarity must be that of the
        training images (digits: bright on black).
      output_dir: receives NAME_map.png, NAME_classes.png (a heat map for each of the best classes), NAME_best.png (the
        best window) and, at stride 1, NAME_pixels.png (the class of the window around each pixel); NAME_map.json (the
        returned numbers) and report.html; made if missing.
      stride: distance between windows, pixels; None: the native stride.
      scales: lengths that the picture's shortest side is also resized to, pixels; the probabilities of all windows of
        one scale are averaged, and then those of all scales (Simonyan, Zisserman (2015), section 3.2).
      cover: whether more windows lie flush with the right and bottom border (`cnn.dense.score_map`).
      progress: says what is being done; None: nothing is said.

    Returns:
      {"picture": path of the PNG, "windows": (h, w), "centre_crop": the best classes of the picture as `main.py
      --mode=predict` sees it, for each of `cnn.protocols.methods.AVERAGES` the best classes of the map, and "scales",
      those of all scales if there are any}; the `TOP`
      best classes are (name, score) each, best first.

    Raises:
      DataError: if the file is not a picture.
      ValueError: if the picture is smaller than the window, or the stride is below 1.
    """
    progress = progress or Progress(shown=False)
    image = _read(run, path)
    size = shape_text(image.shape[:2])
    stem = os.path.join(output_dir, os.path.splitext(os.path.basename(path))[0])
    progress.stage(f"compiling the net and running it over {size} pixels")
    subject = os.path.basename(path)
    found = map_picture(f"{stem}_map.png", run, image, stride, subject=subject, cover=cover)
    windows = found.scores.shape[1:3]
    result: dict[str, Any] = {"picture": f"{stem}_map.png", "windows": windows}
    result["centre_crop"] = _best(run, _centre_probabilities(run, path))
    print(f"{path}: {size} pixels, {shape_text(windows)} windows", flush=True)
    for over in methods.AVERAGES:
        result[over] = _best(run, np.asarray(dense.average(found, over))[0])
        form = ".1%" if over == "probabilities" else ".2f"
        print(f"  {over + ':':15}{', '.join(f'{name} {value:{form}}' for name, value in result[over])}", flush=True)
    if scales:
        result["scales"] = _best(run, _over_scales(run, path, image, stride, scales, cover))
        best = ", ".join(f"{name} {value:.1%}" for name, value in result["scales"])
        print(f"  over scales {', '.join(map(str, scales))} pixels: {best}", flush=True)
    _print_remarks(run, _shown(image), result["centre_crop"])
    progress.stage("drawing")
    _draw(stem, run, _shown(image), found, stride, _title(run, subject))
    facts = {
        "image": path,
        "size": image.shape[:2],
        "stride": stride,
        "scales": list(scales),
        "last": found.grid.last,
        "net": own_code.short(run.config.net.name),
        "steps": run.step,
    }
    logs.write_json(f"{stem}_map.json", {**facts, **result, **logs.environment()})
    print(f"  wrote {stem}_*.png and {run_report.write_dense_page(output_dir)}", flush=True)
    return result


def _read(run: Run, path: str) -> np.ndarray:
    """The picture, uint8 or float32 [H, W, C]; raises where it is smaller than the window."""
    height, width, channels = run.image_shape
    image = whole.read_whole(path, channels, chosen=run.channels, value_range=run.value_range)
    if image.shape[0] < height or image.shape[1] < width:
        raise ValueError(
            f"{path} is {shape_text(image.shape[:2])} pixels (height x width), smaller than the net's window "
            f"{height}x{width}; enlarge or pad it to at least {max(height, image.shape[0])}x"
            f"{max(width, image.shape[1])}"
        )
    return image


def _shown(image: np.ndarray) -> np.ndarray:
    """A picture in 8 bits, as it is drawn."""
    return image if image.dtype == np.uint8 else ranges.eight_bits(image, (0.0, 1.0))


def _best(run: Run, values: np.ndarray) -> list[tuple[str, float]]:
    """The best classes of scores or probabilities [K], best first."""
    return [(figure.class_name(run.class_names, int(k)), float(values[k])) for k in np.argsort(-values)[:TOP]]


def _over_scales(
    run: Run, path: str, image: np.ndarray, stride: int | None, scales: Sequence[int], cover: bool
) -> np.ndarray:
    """Probabilities [K]: the mean over scales of the mean over all windows of a scale."""
    found = []
    for scale in scales:
        resized = resize(image, crops.scaled_size(image.shape[:2], scale))
        if min(side - least for side, least in zip(resized.shape[:2], run.image_shape[:2], strict=True)) < 0:
            raise ValueError(
                f"{path} resized to the scale {scale} is {shape_text(resized.shape[:2])} pixels, smaller than the "
                f"net's window {shape_text(run.image_shape[:2])}; take larger scales"
            )
        pixels = data.normalise(resized[None], run.mean, run.std)
        scored = dense.score_map(run.net, run.variables, pixels, run.image_shape[:2], stride, cover=cover)
        found.append(np.asarray(dense.average(scored, "probabilities"))[0])
    return np.mean(found, axis=0)


def _centre_probabilities(run: Run, path: str) -> np.ndarray:
    """Probabilities [K] of the picture as `cnn.training.predict` sees it: resized to the window, and centre-cropped."""
    options: Any = {"chosen": run.channels, "value_range": run.value_range}
    image = data.load_image(path, run.image_shape[:2], run.image_shape[2], **options)
    scores = evaluate.logits(run.net, run.variables, image[None], run.mean, run.std)
    # The average over a single window: its probabilities.
    return np.asarray(dense.average(scores, "probabilities", run.net.output_activation))[0]


def _print_remarks(run: Run, image: np.ndarray, centre_crop: list[tuple[str, float]]) -> None:
    """Says how this answer differs from a prediction's, and whether the picture's polarity looks wrong."""
    name, probability = centre_crop[0]
    print(
        f"  main.py --mode=predict says {name} ({probability:.1%}): it resizes the picture's shortest side to "
        f"{min(run.image_shape[:2])} pixels and looks at the centre alone; here every window of the picture at its own "
        f"size counts",
        flush=True,
    )
    if run.config.data.name == data.IMPORTED:  # its mean is a constant of the net, not that of pictures
        return
    trained, shown = float(np.mean(run.mean)), float(image.mean() / 255)
    if abs(1 - shown - trained) + POLARITY_MARGIN < abs(shown - trained):
        print(
            f"  the training images have a mean brightness of {trained:.2f} and this picture {shown:.2f}: if it shows "
            f"dark on bright where they were bright on dark, or the reverse, invert it",
            flush=True,
        )


def _title(run: Run, subject: str) -> str:
    """Net, data and image of a picture, in a line."""
    config: Any = run.config
    about = figure.run_title(own_code.short(config.net.name), own_code.short(config.data.name))
    return f"{about}; {subject}" if subject else about


def _draw(stem: str, run: Run, image: np.ndarray, found: dense.ScoreMap, stride: int | None, title: str) -> None:
    """Draws the best classes' heat maps, the best window and, at stride 1, the class around each pixel."""
    scores, grid = np.asarray(found.scores)[0], found.grid
    best_classes = np.argsort(-outputs.class_scores(scores).max(axis=(0, 1)))[:TOP]
    named, shown = run.class_names, best_classes.tolist()
    score_map_pictures.class_heat_picture(
        f"{stem}_classes.png", image, scores, grid, named, shown, title=title, output_activation=found.output_activation
    )
    best = dense.best_boxes(found._replace(boxes=grid.window_boxes()))  # the windows, not all that they saw
    score_map_pictures.best_boxes_picture(f"{stem}_best.png", image[None], best, run.class_names, title=title)
    if stride == 1:
        classes = dense.class_map(scores, grid, image.shape)
        score_map_pictures.class_map_picture(f"{stem}_pixels.png", image, classes, run.class_names, title)


def run_stream(
    run: Run,
    source: str,
    sink: str,
    memory: int,
    *,
    stride: int | None = None,
    context: str | None = None,
    overwrite: bool = False,
    cover: bool = False,
    progress: Progress | None = None,
) -> dense.StreamResult:
    """Runs a net densely over an image of any size, from file to file (`cnn.dense.stream`), and says what it did.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`).
      source: .zarr, .npy, .tif or any picture; its polarity must be that of the training images.
      sink: .zarr or .npy file of the map [h, w, K], float32; a map that was begun is continued.
      memory: memory for tiles and parameters, bytes.
      stride: distance between windows, pixels; None: the native stride.
      context: "crop" or "image"; None: "image".
      overwrite: whether to begin anew where there is a map.
      cover: whether more windows lie flush with the right and bottom border (`cnn.dense.score_map`).
      progress: says what is being done; None: nothing is said.

    Returns:
      What was done.

    Raises:
      ValueError: if the image, the map or an option does not fit (`cnn.dense.stream`).
      MemoryError: if no tile stays under `memory`.
    """
    if progress is not None:
        progress.stage("planning tiles and compiling the net for one; the bar moves when the first tile is done")
    classes = geometry.table(run.net, run.image_shape)[-1].output_shape[-1]
    options: Any = {"channels": run.channels, "value_range": run.value_range}
    opened = dense.open_image(
        source, net_channels=run.image_shape[2], cache_bytes=min(CACHE_BYTES, memory // 8), **options
    )
    done = dense.stream(
        run.net,
        run.variables,
        opened,
        sink,
        window=run.image_shape[:2],
        stride=stride,
        context=context,
        mean=run.mean,
        std=run.std,
        memory_limit=memory,
        overwrite=overwrite,
        cover=cover,
        class_names=[figure.class_name(run.class_names, k) for k in range(classes)],
    )
    last = (
        ""
        if done.last == (None, None)
        else ", and the last {} at pixel {}".format(
            " and ".join(name for name, start in zip(("row", "column"), done.last, strict=True) if start is not None),
            " and ".join(str(start) for start in done.last if start is not None),
        )
    )
    print(
        f"{source}: {shape_text(done.image_shape[:2])} pixels -> {sink}: {shape_text(done.shape)} logits, float32\n"
        f"  score (i, j) belongs to the window {shape_text(done.window)} at pixel "
        f"(i * {done.stride[0]}, j * {done.stride[1]}){last}; context {done.context!r}\n"
        f"  {done.tiles - done.tiles_done_before} of {done.tiles} tiles of {shape_text(done.outputs)} scores in "
        f"{done.seconds:.1f} s, {done.megapixels_per_second:.2f} megapixels/s ({done.backend})\n"
        f"  equal to the map of one pass {'to the bit' if done.to_the_bit else 'within 1e-5 of the largest score'}",
        flush=True,
    )
    return done
