"""Pictures of one image's score map as files: drawn with axes where the image is small, plain where it is large."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn import data, dense
from cnn.dense.grid import with_sight
from cnn.dense.prepared import prepare
from cnn.nets import outputs
from cnn.reports import figure, overview, score_map_pictures
from cnn.reports.streamed import Looked
from cnn.runs.checkpoint import Run
from cnn.runtime import own_code

TOP = 5  # classes that have a panel
DRAWN_PIXELS, DRAWN_SCORES = 2**20, 2**24  # of images and maps that are drawn with axes, every pixel of them


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
      image: uint8 [H, W, C], at least as large as the window.
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
    _draw_map(path, run, image, found, class_index, true_box, subject)
    return found


def draw(stem: str, run: Run, looked: Looked, subject: str) -> None:
    """Draws the pictures of a map, and removes those of an earlier map that are not drawn again.

    Of a small image NAME_map.png, NAME_classes.png, NAME_best.png and, at stride 1, NAME_pixels.png; of a large one
    NAME_map.png alone, the most probable class of each part in its colour.

    Args:
      stem: path of the pictures without "_map.png".
      run: the trained net.
      looked: the map and what it says.
      subject: what the image is, for titles.
    """
    for name in ("map", "classes", "best", "pixels"):
        if os.path.exists(f"{stem}_{name}.png"):
            os.remove(f"{stem}_{name}.png")
    shape = looked.done.shape
    small = math.prod(looked.source.shape[:2]) <= DRAWN_PIXELS and math.prod(shape) <= DRAWN_SCORES
    if not small or getattr(looked.opened, "written", "scores") != "scores" or not looked.summary.known:
        _draw_large(f"{stem}_map.png", looked)
        return
    source, done = looked.source, looked.done
    image = looked.shown.pixels(source.read(0, source.shape[0], 0, source.shape[1]))
    image = image if image.ndim == 3 else image[..., None]
    scores = looked.opened.read().astype(np.float32)
    window, context = done.window, done.context
    grid = dense.plan_grid(run.net, source.shape, window, done.stride, cover=done.last != (None, None))
    grid = with_sight(prepare(run.net, window, source.shape[2]), source.shape, grid, context)
    found = dense.ScoreMap(
        scores[None], grid.boxes(source.shape), context, done.backend, grid, run.net.output_activation
    )
    title = _title(run, subject)
    _draw_map(f"{stem}_map.png", run, image, found, None, None, subject)
    top = outputs.class_scores(scores)
    top = np.where(np.isnan(top).any(axis=-1, keepdims=True), -np.inf, top).max(axis=(0, 1))
    shown = np.argsort(-top)[:TOP].tolist()
    score_map_pictures.class_heat_picture(
        f"{stem}_classes.png",
        image,
        scores,
        grid,
        run.class_names,
        shown,
        title=title,
        output_activation=run.net.output_activation,
    )
    best = dense.best_boxes(found._replace(boxes=grid.window_boxes()))  # the windows, not all that they saw
    score_map_pictures.best_boxes_picture(f"{stem}_best.png", image[None], best, run.class_names, title=title)
    if done.stride == (1, 1):
        classes = dense.class_map(scores, grid, image.shape)
        score_map_pictures.class_map_picture(f"{stem}_pixels.png", image, classes, run.class_names, title)


def _draw_map(
    path: str,
    run: Run,
    image: np.ndarray,
    found: dense.ScoreMap,
    class_index: int | None,
    true_box: Any,
    subject: str,
) -> None:
    score_map_pictures.score_map_picture(
        path,
        image,
        np.asarray(found.scores)[0],
        found.grid,
        run.class_names,
        class_index,
        true_box,
        _title(run, subject),
        found.output_activation,
    )


def _draw_large(path: str, looked: Looked) -> None:
    """The thumbnail under the map of all classes."""
    from PIL import Image

    summary = looked.summary
    objects = [k for k in summary.layers if (summary.winner == k).any()]
    values, table = overview.class_picture(summary.winner, summary.certainty, overview.colours(objects))
    page = Image.fromarray(looked.source.thumbnail(looked.shown)).convert("RGBA").resize(values.shape[::-1])
    layer = table[values].astype(float)
    layer[..., 3] *= 0.75
    page.alpha_composite(Image.fromarray(layer.round().astype(np.uint8), "RGBA"))
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    page.convert("RGB").save(path, dpi=(96, 96))


def _title(run: Run, subject: str) -> str:
    """Net, data and image of a picture, in a line."""
    config: Any = run.config
    about = figure.run_title(own_code.short(config.net.name), own_code.short(config.data.name))
    return f"{about}; {subject}" if subject else about
