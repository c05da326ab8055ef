"""Pictures of a run: its confusion, its curves, its samples."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.reports.figure import BLUE, GREY, INK, ORANGE, class_name, figure, show

COUNTED_CLASSES = 20  # a confusion picture of more classes has no numbers in its cells
NAMED_CLASSES = 40  # and of more than this, no names on its axes
SPLIT_STYLES: Mapping[str, Mapping[str, Any]] = {
    "train": {"color": GREY, "linewidth": 1.0},
    "validation": {"color": BLUE, "linewidth": 1.8, "marker": "o", "markersize": 3.5},
    "test": {"color": ORANGE, "linewidth": 1.8, "marker": "*", "markersize": 12, "zorder": 3},
}


def confusion_picture(path: str, confusion: np.ndarray, class_names: Sequence[str]) -> None:
    """Draws a confusion matrix: shade by the fraction of each label's examples, numbers are counts.

    Args:
      path: of the PNG to write.
      confusion: counts [K, K]; row: label, column: prediction.
      class_names: names of the classes; classes beyond the names show their number.
    """
    confusion = np.asarray(confusion)
    classes = len(confusion)
    names = [class_name(class_names, k) for k in range(classes)]
    fractions = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.42 * classes + 1.8, 4.2, 9.0))
    right = int(np.trace(confusion))
    with figure(path, (side + 0.6, side)) as page:
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


def curves_picture(path: str, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Draws loss and accuracy over the steps of a run, a line for each split.

    Args:
      path: of the PNG to write.
      metrics: the lines of metrics.jsonl: {"step", "split": "train", "validation" or "test", "loss", "accuracy"}, in
        any order; a line without a value adds nothing to its curve.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    with figure(path, (8.4, 3.2)) as page:
        panels = page.subplots(1, 2)
        for axes, field in zip(panels, ("loss", "accuracy"), strict=True):
            for split, style in SPLIT_STYLES.items():
                points = sorted((m["step"], m[field]) for m in metrics if m.get("split") == split and field in m)
                if points:
                    label = f"{split} ({points[-1][1]:.4f} at the end)"
                    axes.plot(*zip(*points, strict=True), label=label, **style)
            axes.set(xlabel="step", ylabel="loss (nats, log scale)" if field == "loss" else field)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
            axes.set_axisbelow(True)
            if axes.lines:
                axes.legend(frameon=False, fontsize=8)
        if any(m.get("loss", 0) > 0 for m in metrics):
            panels[0].set_yscale("log")
            panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panels[0].yaxis.set_minor_formatter(NullFormatter())


def samples_picture(
    path: str,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    predictions: np.ndarray | None = None,
    columns: int = 8,
) -> None:
    """Draws images in a grid with their labels; where a prediction differs it stands in front, in orange.

    Args:
      path: of the PNG to write.
      images: uint8 [N, H, W, C], C 1 or 3, N at least 1.
      labels: integer [N].
      class_names: names of the classes.
      predictions: integer [N], if there are any.
      columns: images in a row.

    Raises:
      ValueError: if there are no images.
    """
    count = len(images)
    if count == 0:
        raise ValueError("samples_picture: there are no images to draw")
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    with figure(path, (1.15 * columns, 1.35 * rows)) as page:
        panels = page.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels:
            axes.set_axis_off()
        for i in range(count):
            show(panels[i], images[i])
            label = class_name(class_names, int(labels[i]))
            if predictions is None or predictions[i] == labels[i]:
                panels[i].set_title(label, fontsize=8)
            else:
                predicted = class_name(class_names, int(predictions[i]))
                panels[i].set_title(f"{predicted}, is {label}", fontsize=8, color="#c2500a")
