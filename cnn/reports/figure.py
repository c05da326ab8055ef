"""What every picture shares: its style, its file, its colours; pictures themselves are in the modules that draw them.

Matplotlib is imported where it is used: it takes longer to import than `cnn`.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
INK, GREY, BLUE, SKY, ORANGE = "#222222", "#8a8a8a", "#2a6fbb", "#35c7f0", "#ff7f0e"
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
