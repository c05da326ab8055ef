"""A picture to look at: an image under its score map, with opacity, class, outlines and scale, as a part of a page.

Everything is in the page: a thumbnail, one small map a class, the best windows. How it looks and what can be pressed is
in overview.css and overview.js.
"""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn.images import Spacing

STYLES, SCRIPTS = ("overview.css",), ("overview.js",)
OUTLINES = 1000  # detections that are drawn at most
COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf"),
    *("#aec7e8", "#ffbb78", "#98df8a", "#ff9896", "#c5b0d5", "#c49c94"),
)
GREY = "#8a8a8a"  # of classes beyond those with a colour of their own
LEVELS = 15  # of opacity that a class's colour has in the map of all classes
EVERY = "every class"
# Viridis, by nine of its colours.
VIRIDIS = ("440154", "472c7a", "3b518b", "2c718e", "21908d", "27ad81", "5cc863", "aadc32", "fde725")
UNITS = {
    "micrometre": ((1000.0, "mm"), (1.0, "µm"), (0.001, "nm")),
    "metre": ((1000.0, "km"), (1.0, "m")),
    "degree": ((1.0, "°"),),
}


class Layer(NamedTuple):
    """A small map of one class, or of all.

    Attributes:
      name: the class's name, or `EVERY`.
      picture: its pixels as a data: address.
    """

    name: str
    picture: str


class Mark(NamedTuple):
    """A window that is shown: one of the best, or a detection.

    Attributes:
      name: its class.
      probability: of the class.
      box: (y0, x0, y1, x1), pixels of the image.
      picture: its pixels as a data: address; "" for an outline alone.
    """

    name: str
    probability: float
    box: Sequence[int]
    picture: str = ""


class Overview(NamedTuple):
    """An image with its score map; values that JSON can hold.

    Attributes:
      title: what the image is, read out in place of the picture.
      size: (height, width) of the image, pixels.
      picture: its thumbnail as a data: address.
      layers: its small maps, the one that is shown first.
      legend: (class, colour, share of the windows) each, of the map of all classes.
      bar: (length of the scale bar as a fraction of the width, its label).
      best: the best windows.
      outlines: detections, the most probable ones.
      found: number of all detections; None: none were looked for.
      remark: what is to be said of the picture.
    """

    title: str
    size: Sequence[int]
    picture: str
    layers: Sequence[Sequence[str]]
    legend: Sequence[tuple[str, str, float]]
    bar: tuple[float, str]
    best: Sequence[Sequence[Any]] = ()
    outlines: Sequence[Sequence[Any]] = ()
    found: int | None = None
    remark: str = ""


def probability_palette() -> np.ndarray:
    """Colours of the values of a small map: viridis, the more opaque the more probable.

    Returns:
      uint8 [256, 4].
    """
    anchors = np.array([[int(text[i : i + 2], 16) for i in (0, 2, 4)] for text in VIRIDIS], float)
    values = np.linspace(0, 1, 255)
    rgb = np.stack([np.interp(values, np.linspace(0, 1, len(anchors)), anchors[:, i]) for i in range(3)], axis=-1)
    opacity = 255 * np.minimum(1, 1.5 * values)
    return np.concatenate([np.zeros((1, 4)), np.column_stack([rgb, opacity])]).round().astype(np.uint8)


def colours(classes: Sequence[int]) -> dict[int, str]:
    """A colour for each class, as far as there are, and grey for the others."""
    return {k: COLOURS[i] if i < len(COLOURS) else GREY for i, k in enumerate(sorted(classes))}


def class_picture(
    winner: np.ndarray, certainty: np.ndarray, palette: Mapping[int, str]
) -> tuple[np.ndarray, np.ndarray]:
    """The map of all classes: each pixel in its class's colour, the more opaque the more probable.

    Args:
      winner: class of each pixel, int [h, w]; -1: none.
      certainty: its probability as `cnn.reports.small_maps.as_bytes` has it, uint8 [h, w].
      palette: class -> colour; classes without one are grey.

    Returns:
      (uint8 [h, w], the colours of its values, uint8 [n, 4]).
    """
    own = sorted({*palette.values()} - {GREY}, key=list(COLOURS).index)
    order = [*own, GREY]
    place = np.full(max([int(winner.max(initial=0)), *palette], default=0) + 1, len(own))
    for k, colour in palette.items():
        place[k] = order.index(colour)
    level = np.rint((certainty.astype(float) - 1) / 254 * (LEVELS - 1)).astype(int)
    values = np.where((winner >= 0) & (certainty > 0), 1 + place[np.maximum(winner, 0)] * LEVELS + level, 0)
    table = [(0, 0, 0, 0)]
    for colour in order:
        rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        table += [(*rgb, round(255 * i / (LEVELS - 1))) for i in range(LEVELS)]
    return values.astype(np.uint8), np.array(table, np.uint8)


def scale_bar(width: int, spacing: Spacing | None) -> tuple[float, str]:
    """A bar of a round length, at most a quarter of an image's width.

    Args:
      width: of the image, pixels.
      spacing: size of a pixel; None: the bar is in pixels.

    Returns:
      (its fraction of the width, its label).
    """
    if spacing is None or not spacing.x > 0 or spacing.unit not in UNITS:
        length = max(1, _round(width / 4))
        return length / width, f"{length:,.0f} px"
    whole = spacing.x * width
    length = _round(whole / 4)
    factor, unit = next(((f, u) for f, u in UNITS[spacing.unit] if length >= f), UNITS[spacing.unit][-1])
    return length / whole, f"{length / factor:,.6g} {unit}"


def _round(value: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is no larger than a number."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(n * power for n in (1, 2, 5) if n * power <= value * (1 + 1e-9))


def figure(overview: Overview, number: int) -> tuple[str, str]:
    """The overview as HTML.

    Args:
      overview: the overview.
      number: its number on the page.

    Returns:
      (HTML, style rules of its own).
    """
    name = f"overview-{number}"
    height, width = overview.size
    smooth = "" if max(height, width) > 500 else f"#{name} .stage img {{ image-rendering: pixelated; }}\n"
    rules = (
        f"#{name} .frame {{ width: min(100%, {80 * width / height:.4g}vh); }}\n"
        f"#{name} .stage {{ aspect-ratio: {width} / {height}; }}\n"
        f"#{name} .bar {{ width: {overview.bar[0]:.4%}; }}\n{smooth}"
    )
    rules += "".join(
        f"#{name} .swatch-{i} {{ background: {colour}; }}\n" for i, (_, colour, _) in enumerate(overview.legend)
    )
    layers = "".join(
        f'<img class="layer" data-layer="{i}" src="{picture}" alt=""{" hidden" if i else ""}>\n'
        for i, (_, picture) in enumerate(overview.layers)
    )
    text = (
        f'<figure id="{name}" class="overview">\n{_controls(overview, name)}'
        f'<div class="frame">\n<div class="view" tabindex="0" role="group" '
        f'aria-label="Image and map; scrolls when enlarged">\n<div class="stage">\n'
        f'<img class="base" src="{overview.picture}" width="{width}" height="{height}" '
        f'alt="{_escape(overview.title)}">\n{layers}{_outlines(overview)}</div>\n</div>\n'
        f'<div class="bar"><span>{_escape(overview.bar[1])}</span></div>\n</div>\n{_key(overview)}'
        f"<figcaption>{_escape(_caption(overview))}</figcaption>\n</figure>\n{_best(overview, name)}"
    )
    return text, rules


def _controls(overview: Overview, name: str) -> str:
    options = "".join(f'<option value="{i}">{_escape(layer[0])}</option>' for i, layer in enumerate(overview.layers))
    outlines = (
        '<label class="check"><input type="checkbox" class="outlined" checked> Detections</label>\n'
        if overview.outlines
        else ""
    )
    return (
        '<div class="controls">\n'
        f'<label>Class <select id="{name}-class">{options}</select></label>\n'
        f'<label>Opacity <input type="range" min="0" max="100" step="5" value="75" id="{name}-opacity"> '
        f'<output for="{name}-opacity">75 %</output></label>\n{outlines}'
        '<div class="zoom" role="group" aria-label="Zoom">'
        '<button type="button" class="out" aria-label="Smaller" disabled>−</button>'
        '<button type="button" class="in" aria-label="Larger">+</button></div>\n</div>\n'
    )


def _outlines(overview: Overview) -> str:
    """Detections, and the mark of the window that is pressed, in pixels of the image."""
    height, width = overview.size
    shades = {name: colour for name, colour, _ in overview.legend}
    boxes = "".join(
        f'<rect data-class="{_escape(name)}" {_rectangle(box)} stroke="{shades.get(name, GREY)}">'
        f"<title>{_escape(name)}, {probability:.1%}</title></rect>\n"
        for name, probability, box, *_ in overview.outlines
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">\n'
        f'<g class="outlines">{boxes}</g><rect class="mark" width="0" height="0"/></svg>\n'
    )


def _rectangle(box: Sequence[int]) -> str:
    y0, x0, y1, x1 = box
    return f'x="{x0}" y="{y0}" width="{x1 - x0}" height="{y1 - y0}"'


def _key(overview: Overview) -> str:
    """What the colours mean: of the map of all classes, and of that of a single one."""
    entries = "".join(
        f'<li><span class="swatch swatch-{i}"></span>{_escape(name)} '
        f'<span class="share">{_percent(share)}</span></li>\n'
        for i, (name, _, share) in enumerate(overview.legend)
    )
    every = f'<ul class="key every">\n{entries}</ul>\n' if entries else ""
    hidden = " hidden" if entries else ""
    return (
        f'{every}<p class="key single"{hidden}><span>0</span><span class="ramp"></span><span>1 probability</span></p>\n'
    )


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or not share else "< 0.1%"


def _caption(overview: Overview) -> str:
    parts = ["Each pixel has the largest probability of the windows that are centred on it."]
    if overview.legend:
        parts.append("Beside each class: the share of the windows in which it is the most probable.")
    if overview.found is not None:
        shown = len(overview.outlines)
        parts.append(
            f"Outlines: the {shown:,} most probable of {overview.found:,} detections."
            if shown < overview.found
            else f"Outlines: all {overview.found:,} detections."
        )
    return " ".join([*parts, overview.remark]).strip()


def _best(overview: Overview, name: str) -> str:
    """The best windows as buttons that show where they lie."""
    if not overview.best:
        return ""
    items = "".join(
        f'<li><button type="button" aria-pressed="false" data-box="{" ".join(map(str, box))}" '
        f'aria-label="{_escape(label)}, {probability:.1%}, at row {box[0]}, column {box[1]}: show on the map">'
        f'<img src="{picture}" alt=""><b>{_escape(label)}</b><span>{probability:.1%}</span>'
        f'<span class="place">{box[0]:,}, {box[1]:,}</span></button></li>\n'
        for label, probability, box, picture in overview.best
    )
    return (
        f'<h3 id="{name}-best">Best windows</h3>\n<p>The most probable windows of each class, with row and column of '
        f"their first pixel; pressed, one is marked on the map.</p>\n"
        f'<ol class="windows" data-overview="{name}" aria-labelledby="{name}-best">\n{items}</ol>\n'
    )


def _escape(text: str) -> str:
    return html.escape(str(text), quote=True)
