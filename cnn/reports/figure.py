"""What every picture shares: its style, its file, its colours, how an image of any number of channels is shown.

Matplotlib is imported where it is used: it takes longer to import than `cnn`.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn.runtime import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
INK, GREY, BLUE, SKY, ORANGE = "#222222", "#8a8a8a", "#2a6fbb", "#35c7f0", "#ff7f0e"
WARNING = "#c2500a"  # text that says that something is wrong, dark enough for white
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
      index: number of the class.

    Returns:
      The text to print.
    """
    return class_names[index] if index < len(class_names) else str(index)


def run_title(net: str, data: str) -> str:
    """The title of what a run draws: the net, and the data that it was trained on."""
    return f"{net}, trained on {data}"


def shortened(text: str, letters: int = 20) -> str:
    """A text of no more than a number of letters; a longer one ends in an ellipsis."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


@contextlib.contextmanager
def figure(path: str, size: tuple[float, float]) -> Iterator["Figure"]:
    """A figure that is written to a PNG at the end of the `with` block; no display, no global state kept.

    Args:
      path: path of the PNG to write; its folder is made where it is missing.
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
        with whole.written(path) as part:
            page.savefig(part, dpi=DPI, format="png", bbox_inches="tight", pad_inches=0.1)


def drawable(image: np.ndarray) -> np.ndarray:
    """The pixels that stand for an image in a picture.

    Args:
      image: uint8 [H, W, C], with any number of channels.

    Returns:
      uint8 [H, W] for one channel (grey), [H, W, 3] for three (red, green, blue), and for any other number [H, W], the
      mean over the channels (`channels_remark` says so).

    Raises:
      ValueError: if the image has another number of axes, or no channels.
    """
    if image.ndim != 3 or image.shape[-1] == 0:
        raise ValueError(f"an image to draw has shape {image.shape}; give [H, W, C] with at least one channel")
    if image.shape[-1] == 3:
        return image
    return np.rint(image.mean(axis=-1)).astype(np.uint8)


def channels_remark(channels: int) -> str:
    """What a picture has to say about its images.

    Args:
      channels: number of channels of the images.

    Returns:
      "images in grey: the mean of 7 channels"; "" for one channel or three, which are shown as they are.
    """
    return "" if channels in (1, 3) else f"images in grey: the mean of {channels} channels"


def show(axes: "Axes", image: np.ndarray) -> None:
    """Shows an image without stretching its values.

    Args:
      axes: axes to draw on.
      image: uint8 [H, W, C], with any number of channels (`drawable`).
    """
    axes.imshow(drawable(image), cmap="gray", vmin=0, vmax=255)


def head(page: "Figure", *lines: str) -> None:
    """Writes the title of a whole picture.

    Args:
      page: the picture.
      lines: its lines; empty ones are left out, and without any there is no title.
    """
    text = "\n".join(line for line in lines if line)
    if text:
        page.suptitle(text, fontsize=9)


def outline(axes: "Axes", box: Any, colour: str, linestyle: Any = "solid") -> None:
    """Draws a pixel box, with a dark rim so that it shows on any picture.

    Args:
      axes: axes to draw on.
      box: (y0, x0, y1, x1), pixels, y1 and x1 exclusive.
      colour, linestyle: colour and style of the line, by Matplotlib's names.
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
