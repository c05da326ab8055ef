"""Tables and pictures of results; pictures of score maps are in `cnn.overlays`.

Matplotlib is imported where it is used: it takes longer to import than `cnn`.
"""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
COUNTED_CLASSES = 20  # a confusion picture of more classes has no numbers in its cells
NAMED_CLASSES = 40  # and of more than this, no names on its axes
INK, GREY, BLUE, SKY, ORANGE = "#222222", "#8a8a8a", "#2a6fbb", "#35c7f0", "#ff7f0e"
SPLIT_STYLES: Mapping[str, Mapping[str, Any]] = {
    "train": {"color": GREY, "linewidth": 1.0},
    "validation": {"color": BLUE, "linewidth": 1.8, "marker": "o", "markersize": 3.5},
    "test": {"color": ORANGE, "linewidth": 1.8, "marker": "*", "markersize": 12, "zorder": 3},
}
STYLE: dict[Any, Any] = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$"
    "xtick.color": INK,
    "ytick.color": INK,
}


def markdown(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown, its columns lined up; columns of numbers are right-aligned.

    Args:
      headers: one for each column.
      rows: cells, shown by `str`; format numbers before.

    Returns:
      The table, ending in a newline.

    Raises:
      ValueError: if a row has another number of cells than there are headers.
    """
    for i, row in enumerate(rows):
        if len(row) != len(headers):
            raise ValueError(f"markdown: row {i} has {len(row)} cells, there are {len(headers)} headers")
    table = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (headers, *rows)]
    widths = [max(3, *(len(row[i]) for row in table)) for i in range(len(headers))]
    right = [bool(rows) and all(_is_number(row[i]) for row in table[1:]) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
        return "| " + " | ".join(padded) + " |\n"

    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    return line(table[0]) + line(rule) + "".join(line(row) for row in table[1:])


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "").removesuffix("%").removesuffix("x"))
    except ValueError:
        return False
    return True


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


def class_name(class_names: Sequence[str], index: int) -> str:
    """The name of a class, or its number where a net has more outputs than there are names.

    Args:
      class_names: names of the classes.
      index: of the class.

    Returns:
      What to print.
    """
    return class_names[index] if index < len(class_names) else str(index)


@contextlib.contextmanager
def figure(path: str, size: tuple[float, float]) -> Iterator["Figure"]:
    """A figure that is written to a PNG at the end of the `with` block; no display, no global state kept.

    Args:
      path: of the PNG to write; its folder is made where it is missing.
      size: (width, height), inches.

    Yields:
      The figure to draw on.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        page = Figure(size, layout="compressed")
        FigureCanvasAgg(page)
        yield page
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        page.savefig(path, dpi=DPI, format="png", bbox_inches="tight", pad_inches=0.1)


def show(axes: "Axes", image: np.ndarray) -> None:
    """Shows an image without stretching its values.

    Args:
      axes: where to draw.
      image: uint8 [H, W, C], C 1 (grey) or 3.
    """
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)


def outline(axes: "Axes", box: Any, colour: str, linestyle: Any = "solid") -> None:
    """Draws a pixel box, with a dark rim so that it shows on any picture.

    Args:
      axes: where to draw.
      box: (y0, x0, y1, x1), pixels, y1 and x1 exclusive.
      colour, linestyle: as Matplotlib names them.
    """
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    y0, x0, y1, x1 = (float(edge) for edge in box)
    rim = [Stroke(linewidth=3.5, foreground="black"), Normal()]
    # Pixel k covers [k - 0.5, k + 0.5) in a picture's coordinates.
    axes.add_patch(
        Rectangle(
            (x0 - 0.5, y0 - 0.5),
            x1 - x0,
            y1 - y0,
            fill=False,
            edgecolor=colour,
            linewidth=1.6,
            linestyle=linestyle,
            path_effects=rim,
        )
    )
