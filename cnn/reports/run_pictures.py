"""Pictures of a run: its confusion, its curves, its samples."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.reports.figure import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    WARNING,
    channels_remark,
    class_name,
    figure,
    head,
    shortened,
    show,
)

COUNTED_CLASSES = 20  # a confusion picture of more classes has no numbers in its cells
NAMED_CLASSES = 40  # and of more than this, no names on its axes
REMARK_LETTERS = 120  # of a line below the curves
NAME_LETTERS = 14  # of a class's name above a sample
SPLIT_STYLES: Mapping[str, Mapping[str, Any]] = {
    "train": {"color": GREY, "linewidth": 1.0},
    "validation": {"color": BLUE, "linewidth": 1.8, "marker": "o", "markersize": 3.5},
    "test": {"color": ORANGE, "linewidth": 1.8, "marker": "*", "markersize": 12, "zorder": 3},
}


def confusion_picture(path: str, confusion: np.ndarray, class_names: Sequence[str], title: str = "") -> None:
    """Draws a confusion matrix: shade by the fraction of each label's examples, numbers are counts.

    Args:
      path: path of the PNG to write.
      confusion: counts [K, K]; row: label, column: prediction.
      class_names: names of the classes; classes beyond the names show their number.
      title: line above the picture, such as the net and the data.
    """
    confusion = np.asarray(confusion)
    classes = len(confusion)
    names = [class_name(class_names, k) for k in range(classes)]
    fractions = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.42 * classes + 1.8, 4.2, 9.0))
    right = int(np.trace(confusion))
    with figure(path, (side + 0.6, side)) as page:
        head(page, title)
        axes = page.subplots()
        counted = classes <= COUNTED_CLASSES
        cells = np.ma.masked_equal(fractions, 0) if counted else fractions
        shown = axes.imshow(cells, cmap="magma_r", vmin=0, vmax=1)
        page.colorbar(shown, ax=axes, fraction=0.046, pad=0.03, label="fraction of the label's examples")
        axes.set(xlabel="prediction", ylabel="label")
        axes.set_title(f"{right:,} of {confusion.sum():,} right ({right / max(confusion.sum(), 1):.2%})")
        ticks = range(classes) if classes <= NAMED_CLASSES else []
        turned = max(map(len, names)) > 3
        axes.set_xticks(ticks, [names[k] for k in ticks], rotation=90 if turned else 0)
        axes.set_yticks(ticks, [names[k] for k in ticks])
        axes.tick_params(length=0)
        axes.spines[:].set_color("#d0d0d0")
        if counted:
            for i, j in zip(*np.nonzero(confusion), strict=True):
                colour = "white" if fractions[i, j] > 0.45 else INK
                axes.text(j, i, f"{confusion[i, j]}", ha="center", va="center", color=colour, fontsize=8)


def curves_picture(path: str, metrics: Sequence[Mapping[str, Any]], title: str = "", remark: str = "") -> None:
    """Draws loss and accuracy over the steps of a run, a line for each split.

    Args:
      path: path of the PNG to write.
      metrics: the lines of metrics.jsonl: {"step", "split": "train", "validation" or "test", "loss", "accuracy"}, in
        any order; a line without a finite value adds nothing to its curve. A line of the training split is the mean
        over the steps since the one before it; lines over few steps are merged (`even_means`).
      title: line above the picture, such as the net and the data.
      remark: what the reader must know of the training curve, below the picture.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    with figure(path, (8.4, 3.2 + 0.2 * bool(title) + 0.2 * bool(remark))) as page:
        head(page, title)
        panels = page.subplots(1, 2)
        for axes, field in zip(panels, ("loss", "accuracy"), strict=True):
            for split, style in SPLIT_STYLES.items():
                lines = [m for m in metrics if m.get("split") == split and np.isfinite(m.get(field, np.nan))]
                points = sorted((m["step"], m[field]) for m in lines)
                points = even_means(points) if split == "train" else points
                if points:
                    label = f"{split} ({points[-1][1]:.4f} at the end)"
                    # A line through one point has no length: the point is marked.
                    single = {"marker": "o"} if len(points) == 1 else {}
                    axes.plot(*zip(*points, strict=True), label=label, **{**style, **single})
            axes.set(xlabel="step", ylabel="loss (nats, log scale)" if field == "loss" else field)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
            axes.set_axisbelow(True)
            if axes.lines:
                axes.legend(frameon=False, fontsize=8)
        if remark:
            page.supxlabel(textwrap.fill(remark, REMARK_LETTERS), fontsize=8)
        if any(m.get("loss", 0) > 0 for m in metrics):
            panels[0].set_yscale("log")
            panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panels[0].yaxis.set_minor_formatter(NullFormatter())


def train_remark(background: float, *, weighted: bool = False) -> str:
    """What the numbers of the training split are.

    Args:
      background: fraction of training examples that were moved out of the window (`train.background`).
      weighted: whether the loss weighs the classes (`train.class_weights`).

    Returns:
      A clause for pictures and pages.
    """
    said = "train: on the examples as they were shown, augmented, while the net was still learning"
    if background:
        said += f"; its accuracy leaves out the {background:.0%} that were moved out of the window"
    if weighted:
        said += "; its loss weighs the classes, which that of the other splits does not"
    return said


def even_means(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Means over steps, merged until each is over at least as many steps as the longest given one.

    A run also pauses to validate and to save, and then writes the mean over the few steps since the last pause. Such a
    mean is noisier than its neighbours; joined with them by a line it would look like a tooth.

    Args:
      points: (step, mean over the steps since the point before) in the order of the steps; the first mean is over all
        steps up to its own.

    Returns:
      Points of the same kind. What is left at the end, over too few steps, is merged into the last point.
    """
    if not points:
        return []
    ends = [step for step, _ in points]
    lengths = np.maximum(np.diff([0, *ends]), 1)  # a point weighs at least one step
    groups: list[list[int]] = [[]]
    for i in range(len(points)):
        if groups[-1] and lengths[groups[-1]].sum() >= lengths.max():
            groups.append([])
        groups[-1].append(i)
    if len(groups) > 1 and lengths[groups[-1]].sum() < lengths.max():
        last = groups.pop()
        groups[-1] += last
    values = np.array([value for _, value in points], np.float64)
    return [(ends[group[-1]], float(np.average(values[group], weights=lengths[group]))) for group in groups]


def samples_picture(
    path: str,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    predictions: np.ndarray | None = None,
    probabilities: np.ndarray | None = None,
    *,
    columns: int = 8,
    title: str = "",
) -> None:
    """Draws images in a grid with their labels; where a prediction differs it stands in front, in orange.

    Args:
      path: path of the PNG to write.
      images: uint8 [N, H, W, C], N at least 1 (`cnn.reports.figure.drawable`).
      labels: integer [N].
      class_names: names of the classes.
      predictions: predicted classes, integer [N], if there are any.
      probabilities: probability of each prediction, floating [N], if known; shown with predictions that differ.
      columns: images in a row.
      title: line above the picture.

    Raises:
      ValueError: if there are no images.
    """
    count = len(images)
    if count == 0:
        raise ValueError("samples_picture: there are no images to draw")
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    lines = 1 if predictions is None else 2
    remark = channels_remark(images.shape[-1])
    size = (max(1.15 * columns, 3.6), (1.2 + 0.15 * lines) * rows + 0.2 * (bool(title) + bool(remark)))
    with figure(path, size) as page:
        head(page, title, remark)
        panels = page.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels:
            axes.set_axis_off()
        for i in range(count):
            show(panels[i], images[i])
            label = shortened(class_name(class_names, int(labels[i])), NAME_LETTERS)
            if predictions is None or predictions[i] == labels[i]:
                panels[i].set_title(label, fontsize=8)
            else:
                predicted = shortened(class_name(class_names, int(predictions[i])), NAME_LETTERS)
                sure = "" if probabilities is None else f" ({percent(float(probabilities[i]))})"
                panels[i].set_title(f"{predicted}{sure}\nis {label}", fontsize=8, color=WARNING)


def percent(probability: float) -> str:
    """A probability in percent with one decimal, rounded down, so that only a certainty reads 100 %."""
    return f"{math.floor(round(probability * 1000, 6)) / 10:.1f} %"
