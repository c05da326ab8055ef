"""Pictures of score maps: heat maps over the image, the best box, a class for each pixel.

Matplotlib is imported where it is used. What is drawn comes from `cnn.dense.to_pixels`; nothing is computed twice.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn.dense.grid import Grid
from cnn.dense.to_pixels import Best, first_largest, heat_map
from cnn.nets import outputs
from cnn.nets.arrays_in import score_array
from cnn.reports.figure import ORANGE, SKY, channels_remark, class_name, figure, head, outline, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

DASHED = (0, (4, 2))
PANELS = 6  # classes that a grid shows where none are named
COLOURS = 18  # classes that a class map shows in colours of their own, as many as the palette has
BARE_BORDER = "bare border: no window is centred within half a window of it"
BARE_NAN = "bare inside: windows without a score (NaN)"


def score_map_picture(
    path: str,
    image: np.ndarray,
    scores: np.ndarray,
    grid: Grid,
    class_names: Sequence[str],
    class_index: int | None = None,
    true_box: Sequence[int] | np.ndarray | None = None,
    title: str = "",
    output_activation: str = "softmax",
) -> None:
    """Draws an image, and beside it the image under one class's probability at every window (see `heat_map`).

    The scale reaches from the lowest to the highest probability of the map; the colour bar says which they are.

    Args:
      path: path of the PNG to write.
      image: uint8 [H, W, C] (`cnn.reports.figure.drawable`).
      scores: class scores (logits), [h, w, K].
      grid: where the windows lie (`cnn.dense.ScoreMap.grid`).
      class_names: names of the classes, [K].
      class_index: which class; None: that of the largest score of all.
      true_box: where the object is, (y0, x0, y1, x1), if known.
      title: first line above the picture, such as the net and the data.
      output_activation: what the scores mean, the net's output activation (`cnn.nets.outputs`).

    Raises:
      ValueError: if the scores are not those of the grid.
    """
    from matplotlib.lines import Line2D

    scores = np.asarray(score_array(scores, "score_map_picture"), np.float64)
    probabilities = np.exp(outputs.log_probabilities(scores, output_activation))
    scores = outputs.class_scores(scores)
    if class_index is None:
        class_index = int(scores.max(axis=(0, 1), where=_known(scores), initial=-np.inf).argmax())
    # The largest score rather than probability: many windows may round to a probability of 1.
    best = _best_window(scores, class_index)
    probability = probabilities[..., class_index]
    name = class_name(class_names, class_index)
    windows = grid.window_boxes()
    panel = 3.6 * _aspect(image)
    with figure(path, (8.4, panel + 1.4)) as page:
        head(page, title, channels_remark(image.shape[-1]))
        left, right = page.subplots(1, 2, sharex=True, sharey=True)
        for axes in (left, right):
            show(axes, image)
            axes.set_xlabel("x (pixels)")
        left.set_ylabel("y (pixels)")
        limits = _limits(probability)
        shown = heat_map(probability, grid, image.shape)
        _bar(page, right, _heat(right, shown, limits), f"probability of {name!r}", limits)
        for axes in (left, right):
            if true_box is not None:
                outline(axes, true_box, SKY, linestyle=DASHED)
            if best is not None:
                outline(axes, windows[best], ORANGE)
        left.set_title(
            f"no window has a score of {name!r}"
            if best is None
            else f"largest score of {name!r}: probability {probability[best]:.3f}"
        )
        right.set_title(f"every window, {scores.shape[0]} x {scores.shape[1]}")
        remark = _bare(grid, image.shape, scores)
        if remark:
            right.set_xlabel(f"x (pixels)\n{remark}")
        lines = [Line2D([], [], color=ORANGE, linewidth=2, label=f"window with the largest score of {name!r}")]
        if true_box is not None:
            lines.append(Line2D([], [], color=SKY, linewidth=2, linestyle=DASHED, label="the object"))
        page.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False)


def class_heat_picture(
    path: str,
    image: np.ndarray,
    scores: np.ndarray,
    grid: Grid,
    class_names: Sequence[str],
    classes: Sequence[int] | None = None,
    columns: int = 3,
    title: str = "",
    output_activation: str = "softmax",
) -> None:
    """Draws the image under the probability of each of several classes, a panel for each, with its best window.

    The panels share one scale, from the lowest to the highest of all probabilities drawn.

    Args:
      path: path of the PNG to write.
      image: uint8 [H, W, C] (`cnn.reports.figure.drawable`).
      scores: class scores (logits), [h, w, K].
      grid: where the windows lie (`cnn.dense.ScoreMap.grid`).
      class_names: names of the classes, [K].
      classes: which, in order; None: the `PANELS` with the largest probability anywhere, the largest first.
      columns: panels in a row.
      title: first line above the picture, such as the net and the data.
      output_activation: what the scores mean, the net's output activation (`cnn.nets.outputs`).

    Raises:
      ValueError: if there is no class to draw, or the scores are not those of the grid.
    """
    scores = np.asarray(score_array(scores, "class_heat_picture"), np.float64)
    probability = np.exp(outputs.log_probabilities(scores, output_activation))
    scores = outputs.class_scores(scores)
    largest = probability.max(axis=(0, 1), where=_known(scores), initial=0)
    if classes is None:
        # By score where probabilities round to the same number.
        order = np.lexsort((-scores.max(axis=(0, 1), where=_known(scores), initial=-np.inf), -largest))
        classes = [int(k) for k in order[:PANELS]]
    if not len(classes):
        raise ValueError("class_heat_picture: there are no classes to draw")
    windows = grid.window_boxes()
    columns = min(columns, len(classes))
    rows = math.ceil(len(classes) / columns)
    limits = _limits(probability[..., list(classes)])
    with figure(path, (max(2.8 * columns + 0.8, 5.6), (2.8 * _aspect(image) + 0.3) * rows + 0.7)) as page:
        head(page, title, channels_remark(image.shape[-1]))
        panels = page.subplots(rows, columns, squeeze=False)
        overlay, remark = None, _bare(grid, image.shape, scores)
        for axes in panels.ravel():
            axes.set_axis_off()
        for axes, k in zip(panels.ravel(), classes, strict=False):  # the last row may have room left
            show(axes, image)
            shown = heat_map(probability[..., k], grid, image.shape)
            overlay = _heat(axes, shown, limits)
            best = _best_window(scores, k)
            if best is not None:
                outline(axes, windows[best], ORANGE)
            most = "no score" if best is None else f"at most {largest[k]:.3f}"
            axes.set_title(f"{class_name(class_names, k)}, {most}", fontsize=9)
        if overlay is not None:
            _bar(page, panels, overlay, "probability", limits)
        if remark:
            page.supxlabel(f"orange: the window with the largest score of the class; {remark}", fontsize=8)


def best_boxes_picture(
    path: str,
    images: np.ndarray,
    best: Best,
    class_names: Sequence[str],
    true_boxes: Sequence[Sequence[int]] | np.ndarray | None = None,
    columns: int = 4,
    title: str = "",
) -> None:
    """Draws images in a grid, each with its best window, that window's class and score.

    Args:
      path: path of the PNG to write.
      images: uint8 [N, H, W, C], N at least 1 (`cnn.reports.figure.drawable`).
      best: their best windows, from `cnn.dense.to_pixels.best_boxes`.
      class_names: names of the classes.
      true_boxes: where the objects are, (y0, x0, y1, x1) for each image, if known; dashed.
      columns: images in a row.
      title: first line above the picture, such as the net and the data.

    Raises:
      ValueError: if there are no images, or not one box for each.
    """
    count = len(images)
    if count == 0 or count != len(best.boxes):
        raise ValueError(f"best_boxes_picture: {count} images and {len(best.boxes)} boxes; one box for each image")
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    with figure(path, (max(2.2 * columns, 3.6), (2.2 * _aspect(images[0]) + 0.3) * rows + 0.4)) as page:
        head(page, title, channels_remark(images.shape[-1]))
        panels = page.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels:
            axes.set_axis_off()
        for i in range(count):
            show(panels[i], images[i])
            if true_boxes is not None:
                outline(panels[i], true_boxes[i], SKY, linestyle=DASHED)
            if best.classes[i] < 0:
                panels[i].set_title("no window has a score", fontsize=9)
                continue
            outline(panels[i], best.boxes[i], ORANGE)
            panels[i].set_title(f"{class_name(class_names, int(best.classes[i]))}, {best.scores[i]:.3g}", fontsize=9)


def class_map_picture(
    path: str, image: np.ndarray, classes: np.ndarray, class_names: Sequence[str], title: str = ""
) -> None:
    """Draws an image, and beside it the image under each pixel's class, with a legend.

    Args:
      path: path of the PNG to write.
      image: uint8 [H, W, C] (`cnn.reports.figure.drawable`).
      classes: int [H, W], from `cnn.dense.to_pixels.class_map`; below 0: no class, the image is bare.
      class_names: names of the classes. If more than `COLOURS` occur, the rarest share one grey.
      title: first line above the picture, such as the net and the data.

    Raises:
      ValueError: if the map is not of the image's size.
    """
    from matplotlib.patches import Patch

    classes = np.asarray(classes)
    if classes.shape != image.shape[:2]:
        raise ValueError(f"class_map_picture: a map {classes.shape} of an image {image.shape}; sizes must be equal")
    found, counts = np.unique(classes[classes >= 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    found, shares = found[order], counts[order] / max(1, counts.sum())
    palette = _palette()
    painted = np.zeros((*classes.shape, 4))
    patches = []
    own = len(found) if len(found) <= COLOURS else COLOURS - 1
    for colour, k, share in zip(palette, found[:own], shares[:own], strict=False):  # fewer classes than colours
        painted[classes == k] = (*colour, 0.65)
        patches.append(Patch(color=colour, label=f"{class_name(class_names, int(k))}, {share:.1%}"))
    if own < len(found):
        painted[np.isin(classes, found[own:])] = (0.5, 0.5, 0.5, 0.65)
        patches.append(Patch(color=(0.5, 0.5, 0.5), label=f"{len(found) - own} others, {shares[own:].sum():.1%}"))
    legend_rows = math.ceil(len(patches) / 4)
    with figure(path, (8.4, 3.9 * _aspect(image) + 0.9 + 0.22 * legend_rows)) as page:
        head(page, title, channels_remark(image.shape[-1]))
        left, right = page.subplots(1, 2, sharex=True, sharey=True)
        for axes in (left, right):
            show(axes, image)
            axes.set_xlabel("x (pixels)")
        left.set_ylabel("y (pixels)")
        right.imshow(painted)
        right.set_title("class of the window around each pixel")
        if (classes < 0).any():
            right.set_xlabel(f"x (pixels)\n{BARE_BORDER}, or its score is NaN")
        if patches:
            page.legend(handles=patches, loc="outside lower center", ncols=min(4, len(patches)), frameon=False)


def _known(scores: np.ndarray) -> np.ndarray:
    """Which scores count, those of windows without a NaN: bool, of the scores' shape."""
    return np.broadcast_to(~np.isnan(scores).any(axis=-1, keepdims=True), scores.shape)


def _best_window(scores: np.ndarray, class_index: int) -> tuple[int, int] | None:
    """Row and column of the window with the largest score of a class; None if no window has a score."""
    of_class = scores[..., class_index].reshape(1, -1)
    best = int(first_largest(of_class, _known(scores)[..., class_index].reshape(1, -1))[0])
    return None if best < 0 else divmod(best, scores.shape[1])


def _bare(grid: Grid, image_shape: Sequence[int], scores: np.ndarray) -> str:
    """Why pixels show no colour: no window is centred near them, or the window has no score; empty if all show one."""
    border = np.isnan(heat_map(np.zeros(grid.size), grid, image_shape)).any()
    return "; ".join(([BARE_BORDER] if border else []) + ([] if _known(scores).all() else [BARE_NAN]))


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest finite value; 0 and 1 where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _heat(axes: "Axes", shown: np.ndarray, limits: tuple[float, float]) -> "AxesImage":
    """Lays a heat map [H, W] over the image; pixels without a value stay bare."""
    low, high = limits
    # One value everywhere has no range; an empty one would be drawn in an arbitrary colour.
    return axes.imshow(shown, cmap="viridis", vmin=low, vmax=high if high > low else low + 1, alpha=0.8)


def _bar(page: "Figure", axes: Any, overlay: "AxesImage", label: str, limits: tuple[float, float]) -> None:
    """A colour bar whose label says the range of the values."""
    low, high = limits
    bar = page.colorbar(overlay, ax=axes, fraction=0.05, pad=0.02, label=f"{label}: {low:.3g} to {high:.3g}")
    if bar.solids is not None:
        bar.solids.set_alpha(1)


def _aspect(image: np.ndarray) -> float:
    """Height over width, within what a page can show."""
    return min(1.6, max(0.6, image.shape[0] / image.shape[1]))


def _palette() -> list[tuple[float, float, float]]:
    """`COLOURS` colours, the strong ones first; without the two greys, which stand for the others."""
    from matplotlib import colormaps

    colours: Any = colormaps["tab20"]
    return [tuple(colours.colors[i][:3]) for i in (*range(0, 20, 2), *range(1, 20, 2)) if i not in (14, 15)]
