"""Tables and pictures of results. Matplotlib is imported where it is used: it takes longer to import than `cnn`."""

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


def paint(scores: np.ndarray, boxes: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """Lays a map of scores over the pixels they belong to.

    Each score fills a cell around the centre of its box, as large as the distance between neighbouring boxes, so that
    the cells of unclipped boxes tile the image without gaps. A pixel belongs to a cell if the pixel's centre lies in it
    (the upper and left edges count as inside). Along an axis with a single score its cell is its whole box.

    Args:
      scores: [h, w], one number for each box.
      boxes: pixel boxes (y0, x0, y1, x1), y1 and x1 exclusive, [h, w, 4], in rows and columns as `cnn.dense.boxes` has.
      image_shape: (H, W, ...), pixels.

    Returns:
      float64 [H, W]: the mean of the scores whose cells cover a pixel; NaN where none does.

    Raises:
      ValueError: if scores and boxes differ in shape, or the boxes are not in rows and columns.
    """
    boxes = np.asarray(boxes)
    if boxes.shape != (*np.shape(scores), 4) or boxes.ndim != 3:
        raise ValueError(f"paint: scores {np.shape(scores)} and boxes {boxes.shape} must be [h, w] and [h, w, 4]")
    rows, columns = boxes[:, 0, 0::2], boxes[0, :, 1::2]  # (h, 2) and (w, 2): start and end
    if (boxes[..., 0::2] != rows[:, None]).any() or (boxes[..., 1::2] != columns[None]).any():
        raise ValueError("paint: the boxes are not in rows and columns (y by row alone, x by column alone)")
    vertical, horizontal = _covers(rows, image_shape[0]), _covers(columns, image_shape[1])
    total = vertical @ np.asarray(scores, np.float64) @ horizontal.T
    count = vertical.sum(axis=1)[:, None] * horizontal.sum(axis=1)[None, :]
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _covers(spans: np.ndarray, size: int) -> np.ndarray:
    """Which of `size` pixels (rows) lie in the cell of which span [n, 2] (columns), float64 0 or 1."""
    spans = spans.astype(np.float64)
    if len(spans) == 1:
        low, high = spans[:, 0], spans[:, 1]
    else:
        # Boxes cut at the image's border are closer together; the largest distance is that of whole ones.
        stride = np.diff(spans, axis=0).max()
        low = spans.mean(axis=1) - stride / 2
        high = low + stride
    pixels = np.arange(size)[:, None] + 0.5
    return ((low <= pixels) & (pixels < high)).astype(np.float64)


def score_map_picture(
    path: str,
    image: np.ndarray,
    scores: np.ndarray,
    boxes: np.ndarray,
    class_names: Sequence[str],
    class_index: int | None = None,
    true_box: Sequence[int] | np.ndarray | None = None,
) -> None:
    """Draws an image, and beside it the image under one class's probability at every window (see `paint`).

    Args:
      path: of the PNG to write.
      image: uint8 [H, W, C], C 1 or 3.
      scores: class scores (logits), [h, w, K].
      boxes: pixel boxes (y0, x0, y1, x1), [h, w, 4].
      class_names: names of the classes, [K].
      class_index: which class; None: that of the largest score of all.
      true_box: where the object is, (y0, x0, y1, x1), if known.

    Raises:
      ValueError: if scores and boxes do not fit each other.
    """
    from matplotlib.lines import Line2D

    scores = np.asarray(scores, np.float64)
    if class_index is None:
        class_index = int(scores.max(axis=(0, 1)).argmax())
    # The largest score rather than probability: many windows may round to a probability of 1.
    best = np.unravel_index(scores[..., class_index].argmax(), scores.shape[:2])
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probability = (shifted / shifted.sum(axis=-1, keepdims=True))[..., class_index]
    name = class_name(class_names, class_index)
    height, width = image.shape[:2]
    panel = 3.6 * min(1.6, max(0.6, height / width))
    with _figure(path, (8.4, panel + 0.9)) as figure:
        left, right = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes in (left, right):
            _show(axes, image)
            axes.set_xlabel("x (pixels)")
        left.set_ylabel("y (pixels)")
        overlay = right.imshow(paint(probability, boxes, image.shape), cmap="viridis", vmin=0, vmax=1, alpha=0.8)
        overlay.set_extent((-0.5, width - 0.5, height - 0.5, -0.5))
        bar = figure.colorbar(overlay, ax=right, fraction=0.05, pad=0.02, label=f"probability of {name!r}")
        if bar.solids is not None:
            bar.solids.set_alpha(1)
        for axes in (left, right):
            if true_box is not None:
                _outline(axes, true_box, SKY, linestyle=(0, (4, 2)))
            _outline(axes, boxes[best], ORANGE)
        left.set_title(f"best window: {name!r} with probability {probability[best]:.3f}")
        right.set_title(f"every window, {scores.shape[0]} x {scores.shape[1]}")
        lines = [Line2D([], [], color=ORANGE, linewidth=2, label=f"best window for {name!r}")]
        if true_box is not None:
            lines.append(Line2D([], [], color=SKY, linewidth=2, linestyle=(0, (4, 2)), label="the object"))
        figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False)


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
    with _figure(path, (side + 0.6, side)) as figure:
        axes = figure.subplots()
        counted = classes <= COUNTED_CLASSES
        cells = np.ma.masked_equal(fractions, 0) if counted else fractions
        shown = axes.imshow(cells, cmap="magma_r", vmin=0, vmax=1)
        figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03, label="fraction of the label's examples")
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

    with _figure(path, (8.4, 3.2)) as figure:
        panels = figure.subplots(1, 2)
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
    with _figure(path, (1.15 * columns, 1.35 * rows)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels:
            axes.set_axis_off()
        for i in range(count):
            _show(panels[i], images[i])
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
def _figure(path: str, size: tuple[float, float]) -> Iterator["Figure"]:
    """A figure of (width, height) inches that is written to a PNG at the end; no display, no global state kept."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(size, layout="compressed")
        FigureCanvasAgg(figure)
        yield figure
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        figure.savefig(path, dpi=DPI, format="png", bbox_inches="tight", pad_inches=0.1)


def _show(axes: "Axes", image: np.ndarray) -> None:
    """Shows a uint8 image [H, W, C], grey or colour, without stretching its values."""
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)


def _outline(axes: "Axes", box: Any, colour: str, linestyle: Any = "solid") -> None:
    """Draws a pixel box (y0, x0, y1, x1), with a dark rim so that it shows on any picture."""
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
