"""Pictures of ablation studies: effects with their intervals, learning curves, means along an ordered factor.

Matplotlib is imported where it is used. A few cells share one panel and are named at the ends of their lines; more get
a panel each, where all others stand in grey: nobody can distinguish nine colours.
"""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import optimize

from cnn.reports.figure import BLUE, GREY, INK, figure
from experiments.ablation.statistics import Difference, Summary, significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOGETHER = 5  # cells that share a panel
# Distinct for the colour-blind, and dark enough for text on white.
COLOURS = (BLUE, "#c2500a", "#1b7f5c", "#8e4a9e", INK)
FAINT = "#d4d4d4"
LINE_HEIGHT = 12.0  # of a label, points
Curve = Sequence[tuple[float, float]]  # (epoch, value) of one seed


class EffectRow(NamedTuple):
    """One cell of a study.

    Attributes:
      name: name of the cell.
      difference: its difference to the baseline; None for the baseline itself.
      text: what stands beside it, its score, say.
      seeds: each seed's own difference, in the unit of `difference`.
    """

    name: str
    difference: Difference | None
    text: str = ""
    seeds: Sequence[float] = ()


def effects_picture(path: str, rows: Sequence[EffectRow], title: str, unit: str = "points") -> None:
    """Draws each cell's difference to the baseline with its 95 % interval; filled: significant after correction.

    Args:
      path: path of the PNG to write.
      rows: the rows from top to bottom; one without a difference is the baseline, which the axis then names.
      title: title of the picture.
      unit: unit of the differences; "points": they are fractions and are drawn as percent points.

    Raises:
      ValueError: if there are no rows.
    """
    from matplotlib.lines import Line2D

    if not rows:
        raise ValueError("effects_picture: there are no rows to draw")
    letters = max(len(row.name) for row in rows) + max(len(row.text) for row in rows)
    with figure(path, (4.4 + 0.07 * letters, 0.36 * len(rows) + 1.3)) as page:
        axes = page.subplots()
        _draw_effects(axes, rows, unit)
        axes.set_title(title, loc="left")
        dot: dict[str, Any] = {"marker": "o", "color": BLUE}
        keys = [
            Line2D([], [], markerfacecolor=BLUE, label="Holm-corrected p < 0.05", **dot),
            Line2D([], [], markerfacecolor="white", label="0.05 or more", **dot),
            Line2D([], [], color=GREY, marker="o", alpha=0.5, markersize=4, linestyle="", label="one seed"),
        ]
        title_of_keys = "mean of the paired differences, 95 % interval"
        page.legend(handles=keys, loc="outside lower center", ncols=3, frameon=False, fontsize=8, title=title_of_keys)


def _draw_effects(axes: "Axes", rows: Sequence[EffectRow], unit: str) -> None:
    scale = 100 if unit == "points" else 1
    baseline = next((f" to {row.name}" for row in rows if row.difference is None), "")
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1.5)
    for y, (_, difference, text, seeds) in enumerate(rows):
        axes.annotate(
            text, (1, y), (8, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=8, color=INK
        )
        axes.axhline(y, color=FAINT, linewidth=0.6, zorder=0.5)
        if difference is None:
            axes.plot(0, y, marker="D", color=INK, markersize=5, label="baseline")
            continue
        _, mean, _, low, high, *_ = (scale * value for value in difference)
        axes.plot(scale * np.asarray(seeds), [y] * len(seeds), "o", color=GREY, alpha=0.5, markersize=4, label="seeds")
        if not math.isnan(low):
            axes.plot([low, high], [y, y], color=BLUE, linewidth=1.8, solid_capstyle="butt", label="interval")
        fill = BLUE if significant(difference) else "white"
        axes.plot(mean, y, "o", color=BLUE, markerfacecolor=fill, markersize=7, markeredgewidth=1.5, label="mean")
        if difference.n == 0:
            axes.text(0, y, " no result ", va="center", fontsize=8, color=GREY, backgroundcolor="white", zorder=1)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    shown = "percent points" if unit == "points" else unit
    axes.set_xlabel(f"difference{baseline}{f' ({shown})' if shown else ''}")
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.margins(x=0.06)


def curves_picture(path: str, curves: Mapping[str, Sequence[Curve]], ylabel: str) -> None:
    """Draws the learning curves of cells: the mean of the seeds as a line, their range as a band.

    Args:
      path: path of the PNG to write.
      curves: for each cell, for each seed, its (epoch, value) pairs in any order. A cell's line goes over the epochs
        that all of its seeds have; a value that is not finite leaves a gap.
      ylabel: name of the values, with their unit.

    Raises:
      ValueError: if there are no cells.
    """
    bands = {name: _band(seeds) for name, seeds in curves.items()}
    title = _title([len(seeds) for seeds in curves.values()], "range")

    def draw(axes: "Axes", name: str, colour: str, front: bool, shift: float) -> None:
        from matplotlib.ticker import MaxNLocator

        epochs, mean, low, high = bands[name]
        if front:
            axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.plot(epochs, mean, color=colour, linewidth=1.8 if front else 0.9, zorder=3 if front else 1, label=name)

    _panels(path, {name: (band[0], band[1]) for name, band in bands.items()}, draw, "epoch", ylabel, title)


def _band(seeds: Sequence[Curve]) -> np.ndarray:
    """Epochs that all seeds have, and mean, lowest and highest value there, [4, epochs]."""
    values = [dict(seed) for seed in seeds]
    epochs = sorted(set.intersection(*map(set, values))) if values else []
    if not epochs:
        return np.empty((4, 0))
    table = np.array([[value[epoch] for epoch in epochs] for value in values], np.float64)
    table[~np.isfinite(table)] = np.nan
    return np.stack([np.array(epochs, np.float64), table.mean(axis=0), table.min(axis=0), table.max(axis=0)])


def means_picture(
    path: str, x: Sequence[float], cells: Mapping[str, Sequence[Summary]], xlabel: str, ylabel: str
) -> None:
    """Draws means along an ordered factor, a line for each cell, with the 95 % intervals as bars.

    The axis is logarithmic where that spaces the factor's values more evenly: 100, 300, 1000, say.

    Args:
      path: path of the PNG to write.
      x: values of the factor, at least one.
      cells: for each cell, a `Summary` for each x.
      xlabel, ylabel: names of the factor and of the values, with their units.

    Raises:
      ValueError: if there are no cells, or a cell has another number of summaries than there are x.
    """
    for name, summaries in cells.items():
        if len(summaries) != len(x):
            raise ValueError(f"means_picture: {name!r} has {len(summaries)} summaries, there are {len(x)} x")
    order = np.argsort(x)
    places = np.asarray(x, np.float64)[order]
    table = {name: np.array([summaries[i] for i in order], np.float64) for name, summaries in cells.items()}

    def draw(axes: "Axes", name: str, colour: str, front: bool, shift: float) -> None:
        from matplotlib.ticker import NullFormatter, NullLocator
        from matplotlib.transforms import ScaledTranslation

        _, mean, _, low, high = table[name].T
        if front:  # beside each other, so that intervals at the same x are not drawn over each other
            page = axes.get_figure()
            assert page is not None
            beside = axes.transData + ScaledTranslation(shift * 4 / 72, 0, page.dpi_scale_trans)
            bars = {"elinewidth": 1.2, "capsize": 2, "marker": "o", "markersize": 4, "linewidth": 1.6, "zorder": 3}
            axes.errorbar(places, mean, [mean - low, high - mean], color=colour, transform=beside, label=name, **bars)
        else:
            axes.plot(places, mean, color=colour, linewidth=0.9, zorder=1, label=name)
        # A shifted line is not seen by the limits that Matplotlib finds.
        axes.update_datalim(
            [(place, value) for row in (mean, low, high) for place, value in zip(places, row, strict=True)]
        )
        axes.set_xscale("log" if is_log_spaced(places) else "linear")
        axes.set_xticks(places, [f"{place:,.10g}" for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.autoscale_view()

    title = _title([summary.n for summaries in cells.values() for summary in summaries], "95 % interval")
    _panels(path, {name: (places, rows[:, 1]) for name, rows in table.items()}, draw, xlabel, ylabel, title)


def _title(counts: Sequence[int], spread: str) -> str:
    """What lines and the spread around them are, for a number of seeds in each cell."""
    least, most = min(counts, default=0), max(counts, default=0)
    if most < 2:
        return "one seed"
    return f"mean and {spread} of {most if least == most else f'{least} to {most}'} seeds"


def is_log_spaced(places: np.ndarray) -> bool:
    """Whether the logarithms of sorted values are more evenly spaced than the values.

    Args:
      places: float64 [n], sorted.

    Returns:
      Whether a logarithmic axis suits them; never for fewer than three, or with one that is not positive.
    """
    if len(places) < 3 or places[0] <= 0:
        return False
    spread = [np.std(steps) / np.mean(steps) for steps in (np.diff(np.log(places)), np.diff(places))]
    return bool(spread[0] < spread[1])


def _panels(
    path: str,
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    draw: Callable[["Axes", str, str, bool, float], None],
    xlabel: str,
    ylabel: str,
    title: str,
) -> None:
    """One panel with all lines where they are few, else one for each.

    Args:
      path: path of the PNG to write.
      lines: (x, y) of each cell, for the names at their ends.
      draw: called with axes, the cell, a colour, whether it is in front, and its place among its neighbours.
      xlabel, ylabel, title: names of the axes, and title of the picture.
    """
    names = list(lines)
    if not names:
        raise ValueError(f"{path}: there are no cells to draw")
    if len(names) <= TOGETHER:
        height = 3.4
        with figure(path, (5.6 + 0.07 * max(map(len, names)), height)) as page:
            axes = page.subplots()
            for i, name in enumerate(names):
                draw(axes, name, COLOURS[i], True, i - (len(names) - 1) / 2)
            _frame(axes)
            axes.set(xlabel=xlabel, ylabel=ylabel)
            axes.set_title(title, loc="left", fontsize=8, color=GREY)
            _name_ends(axes, lines, LINE_HEIGHT / (72 * (height - 0.9)))
        return
    columns = 3 if len(names) <= 9 else 4
    rows = math.ceil(len(names) / columns)
    with figure(path, (2.7 * columns, 2.0 * rows + 0.7)) as page:
        panels = page.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        for axes, name in zip(panels, names, strict=False):  # the last row may have room left
            for other in names:
                if other != name:
                    draw(axes, other, FAINT, False, 0)
            draw(axes, name, BLUE, True, 0)
            _frame(axes)
            empty = not np.isfinite(lines[name][1]).any()
            axes.set_title(textwrap.fill(name + ": no values" * empty, 36), loc="left", fontsize=9, color=BLUE)
        for axes in panels[max(0, len(names) - columns) : len(names)]:
            axes.tick_params(labelbottom=True)
        page.supxlabel(f"{xlabel}\n{title}; the other cells in grey", fontsize=9)
        page.supylabel(ylabel, fontsize=9)


def _frame(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _name_ends(axes: "Axes", lines: Mapping[str, tuple[np.ndarray, np.ndarray]], apart: float) -> None:
    """Writes each cell's name at the end of its line, moved as little as keeps the names apart.

    Args:
      axes: axes that the lines are drawn on.
      lines: (x, y) of each cell.
      apart: least distance of two names, in heights of the axes.
    """
    axes.set_ylim(axes.get_ylim())  # the names are placed in these limits
    ends = []
    for x, y in lines.values():
        seen = np.flatnonzero(np.isfinite(y))
        ends.append((float(x[seen[-1]]), float(y[seen[-1]])) if seen.size else (math.nan, math.nan))
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [0.5 if math.isnan(y) else float(to_axes.transform((x, y))[1]) for x, y in ends]
    for name, colour, end, place in zip(lines, COLOURS, ends, spread_out(wanted, apart), strict=False):
        text: dict[str, Any] = {"textcoords": "axes fraction", "color": colour, "va": "center", "fontsize": 9}
        if math.isnan(end[1]):
            axes.annotate(f"{name}: no values", (1.04, place), (1.04, place), "axes fraction", **text)
        else:
            arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2}
            arrow["relpos"] = (0, 0.5)
            axes.annotate(name, end, (1.04, place), "data", arrowprops=arrow, **text)


def spread_out(wanted: Sequence[float], apart: float) -> np.ndarray:
    """The places nearest to those wanted, by least squares, that keep a distance from each other.

    Args:
      wanted: places, in [0, 1].
      apart: smallest distance of two places.

    Returns:
      float64 array, in the order of `wanted`, within 0 and 1 as far as there is room.
    """
    order = np.argsort(wanted, kind="stable")
    steps = apart * np.arange(len(order))
    # With the distances taken out, what is left has only to keep its order.
    fitted = optimize.isotonic_regression(np.asarray(wanted)[order] - steps).x
    places = np.empty(len(order))
    places[order] = np.clip(fitted, 0, max(0.0, 1 - steps[-1])) + steps
    return places
