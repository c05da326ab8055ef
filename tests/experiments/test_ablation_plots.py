"""Pictures of ablation studies: what is drawn is read back from the artists, and the PNGs are not blank."""

import math
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex

from experiments.ablation import plots
from experiments.ablation.plots import EffectRow
from experiments.ablation.statistics import Difference, paired, summarise
from tests.drawn import keep_pages, read

SURE = Difference(5, -0.0081, 0.002, -0.0110, -0.0052, p=0.0004, p_holm=0.002, detectable=0.004)
UNSURE = Difference(5, 0.0010, 0.003, -0.0022, 0.0042, p=0.04, p_holm=0.12, detectable=0.005)


@pytest.fixture
def pages(monkeypatch):
    """The figures that `plots` draws."""
    return keep_pages(monkeypatch, plots)


def lines(axes, label):
    """Data of the lines with a label: [(x, y), ...]."""
    return [tuple(map(list, line.get_data())) for line in axes.lines if line.get_label() == label]


def test_effects_are_drawn_where_they_are(tmp_path, pages):
    path = tmp_path / "new" / "effects.png"
    rows = [
        EffectRow("max", None, "99.0 %"),
        EffectRow("average", SURE, "98.2 %", [-0.006, -0.010]),
        EffectRow("n_max $", UNSURE, "99.1 %"),
    ]
    plots.effects_picture(str(path), rows, "Pooling")
    read(path)
    (axes,) = pages[0].axes
    assert axes.get_title(loc="left") == "Pooling"
    assert axes.get_xlabel() == "difference to max (percent points)"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["max", "average", "n_max $"]
    assert [text.get_text() for text in axes.texts] == ["99.0 %", "98.2 %", "99.1 %"]
    assert [text.xy[1] for text in axes.texts] == [0, 1, 2]
    assert axes.yaxis_inverted()  # the first row is on top
    assert lines(axes, "baseline") == [([0], [0])]
    assert np.ravel(lines(axes, "mean")) == pytest.approx([-0.81, 1, 0.10, 2])
    assert np.ravel(lines(axes, "interval")) == pytest.approx([-1.10, -0.52, 1, 1, -0.22, 0.42, 2, 2])
    assert np.ravel(lines(axes, "seeds")[0]) == pytest.approx([-0.6, -1.0, 1, 1]) and lines(axes, "seeds")[1] == (
        [],
        [],
    )
    left, right = axes.get_xlim()
    assert left < -1.10 and right > 0.42
    filled = [to_hex(line.get_markerfacecolor()) for line in axes.lines if line.get_label() == "mean"]
    assert filled == [plots.BLUE, "#ffffff"]  # p is below 0.05 in both, p_holm only in the first
    keys = [text.get_text() for text in pages[0].legends[0].get_texts()]
    assert keys == ["Holm-corrected p < 0.05", "0.05 or more", "one seed"]


def test_effects_in_another_unit_and_without_a_baseline(tmp_path, pages):
    plots.effects_picture(str(tmp_path / "effects.png"), [EffectRow("a", SURE)], "", "seconds")
    (axes,) = pages[0].axes
    assert axes.get_xlabel() == "difference (seconds)"
    assert np.ravel(lines(axes, "mean")) == pytest.approx([-0.0081, 0])
    assert axes.get_xlim()[1] > 0  # zero is always seen
    with pytest.raises(ValueError, match="no rows"):
        plots.effects_picture(str(tmp_path / "none.png"), [], "")


def test_effects_of_one_seed_and_of_none(tmp_path, pages):
    one, none = paired([0.75], [0.5]), paired([], [])
    rows = [EffectRow("one", one, "", [0.25]), EffectRow("none", none, "diverged")]
    path = tmp_path / "effects.png"
    plots.effects_picture(str(path), rows, "")
    read(path)
    (axes,) = pages[0].axes
    assert lines(axes, "interval") == [] and lines(axes, "seeds") == [([25.0], [0]), ([], [])]
    assert lines(axes, "mean")[0] == ([25.0], [0]) and math.isnan(lines(axes, "mean")[1][0][0])
    assert [text.get_text().strip() for text in axes.texts] == ["", "diverged", "no result"]


def test_curves_are_the_mean_and_the_range_of_the_seeds(tmp_path, pages):
    curves = {
        "max": [[(2, 0.6), (1, 0.5), (3, 0.9)], [(1, 0.7), (2, 0.8)]],  # in any order; epoch 3 in one seed only
        "average": [[(1, 0.2), (2, 0.3)], [(1, 0.4), (2, math.nan)]],
        "gone": [],
    }
    path = tmp_path / "curves.png"
    plots.curves_picture(str(path), curves, "accuracy")
    read(path)
    (axes,) = pages[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "accuracy")
    assert axes.get_title(loc="left") == "mean and range of 0 to 2 seeds"
    assert np.array(lines(axes, "max")[0]) == pytest.approx(np.array([[1, 2], [0.6, 0.7]]))
    assert np.array(lines(axes, "average")[0]) == pytest.approx(np.array([[1, 2], [0.3, math.nan]]), nan_ok=True)
    band = axes.collections[0].get_paths()[0].vertices
    assert {tuple(corner) for corner in np.round(band, 6)} >= {(1, 0.5), (1, 0.7), (2, 0.6), (2, 0.8)}
    assert band[:, 1].min() == 0.5 and band[:, 1].max() == 0.8
    labels = {text.get_text(): text for text in axes.texts}
    assert set(labels) == {"max", "average", "gone: no values"}
    # Each name points at the end of its own line, in its colour.
    assert labels["max"].xy == pytest.approx((2, 0.7)) and labels["average"].xy == pytest.approx((1, 0.3))
    for name in ("max", "average"):
        (line,) = (line for line in axes.lines if line.get_label() == name)
        assert labels[name].get_color() == line.get_color()


def test_many_curves_have_a_panel_each(tmp_path, pages):
    curves = {f"cell {i} with a name of some length": [[(0, 0.1 * i), (10, 0.1 * i + 0.2)]] for i in range(7)}
    path = tmp_path / "curves.png"
    plots.curves_picture(str(path), curves, "accuracy")
    read(path)
    shown = [axes for axes in pages[0].axes if axes.axison]
    assert [axes.get_title(loc="left").replace("\n", " ") for axes in shown] == list(curves)
    for i, (name, axes) in enumerate(zip(curves, shown, strict=True)):
        blue = [line for line in axes.lines if line.get_color() == plots.BLUE]
        assert [line.get_label() for line in blue] == [name] and len(axes.lines) == 7
        assert list(blue[0].get_ydata()) == pytest.approx([0.1 * i, 0.1 * i + 0.2])
        assert axes.get_ylim() == shown[0].get_ylim()  # to be compared
    assert pages[0].get_supxlabel().startswith("epoch\none seed") and pages[0].get_supylabel() == "accuracy"


def test_means_are_drawn_with_their_intervals(tmp_path, pages):
    values = {"a": [[0.5, 0.7], [0.8, 0.9], [0.9, 0.9]], "b": [[0.4], [0.6], []]}
    cells = {name: [summarise(each) for each in table] for name, table in values.items()}
    path = tmp_path / "means.png"
    order = [2, 0, 1]  # x may come in any order
    turned = {name: [each[i] for i in order] for name, each in cells.items()}
    x = [100, 1000, 10000]
    plots.means_picture(str(path), [x[i] for i in order], turned, "training examples", "test accuracy")
    read(path)
    (axes,) = pages[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training examples", "test accuracy")
    assert axes.get_title(loc="left") == "mean and 95 % interval of 0 to 2 seeds"
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["100", "1,000", "10,000"]
    first, second = axes.containers
    assert list(first[0].get_xdata()) == x and list(first[0].get_ydata()) == pytest.approx([0.6, 0.85, 0.9])
    ends = [segment[:, 1].tolist() for segment in first[2][0].get_segments()]
    assert ends == [pytest.approx([each.low, each.high]) for each in cells["a"]]
    assert list(second[0].get_ydata()) == pytest.approx([0.4, 0.6, math.nan], nan_ok=True)
    low, high = axes.get_ylim()
    assert low < cells["a"][0].low and high > cells["a"][0].high  # nothing is cut off
    left, right = axes.get_xlim()
    assert left < 100 and right > 10000
    assert {text.get_text(): text.xy for text in axes.texts} == {
        "a": pytest.approx((10000, 0.9)),
        "b": pytest.approx((1000, 0.6)),
    }
    # The cells stand beside each other, so that their bars can be told apart.
    pixels = [container[0].get_transform().transform((1000, 0.6))[0] for container in (first, second)]
    assert pixels[1] - pixels[0] == pytest.approx(4 / 72 * pages[0].dpi)


def test_many_means_have_a_panel_each(tmp_path, pages):
    cells = {f"cell {i}": [summarise([0.1 * i, 0.1 * i + 0.02]) for _ in range(3)] for i in range(9)}
    path = tmp_path / "means.png"
    plots.means_picture(str(path), [0, 2, 4], cells, "shift (pixels)", "accuracy")
    read(path)
    assert len(pages[0].axes) == 9
    for i, axes in enumerate(pages[0].axes):
        assert axes.get_title(loc="left") == f"cell {i}" and axes.get_xscale() == "linear"
        (bars,) = axes.containers
        assert list(bars[0].get_ydata()) == pytest.approx([0.1 * i + 0.01] * 3)
        low, high = axes.get_ylim()
        assert low < cells["cell 0"][0].low and high > cells["cell 8"][0].high


@pytest.mark.parametrize(
    "x, log",
    [
        ([100, 300, 1000, 3000, 10000], True),
        ([1, 2, 4, 8], True),
        ([1, 2, 3, 4], False),
        ([0, 1, 2, 4, 8], False),  # zero has no logarithm
        ([10, 100], False),  # two places are evenly spaced either way
        ([-4, -2, 0, 2], False),
        ([0.001, 0.01, 0.1], True),
    ],
)
def test_where_the_axis_is_logarithmic(x, log):
    assert plots.is_log_spaced(np.array(x, np.float64)) is log


@pytest.mark.parametrize("draw", [plots.curves_picture, lambda p, cells, y: plots.means_picture(p, [], cells, "x", y)])
def test_pictures_of_no_cells_are_refused(tmp_path, draw):
    with pytest.raises(ValueError, match="no cells"):
        draw(str(tmp_path / "none.png"), {}, "y")


def test_means_need_a_summary_for_each_place(tmp_path):
    with pytest.raises(ValueError, match="'a' has 1 summaries, there are 2 x"):
        plots.means_picture(str(tmp_path / "means.png"), [1, 2], {"a": [summarise([1])]}, "x", "y")


def test_names_are_moved_as_little_as_keeps_them_apart():
    assert plots.spread_out([0.9, 0.1, 0.5], 0.1) == pytest.approx([0.9, 0.1, 0.5])
    assert plots.spread_out([0.5, 0.5, 0.1], 0.1) == pytest.approx([0.45, 0.55, 0.1])
    assert plots.spread_out([1.0, 0.99, 0.98], 0.1) == pytest.approx([1.0, 0.9, 0.8])  # never beyond the axes
    rng = np.random.default_rng(0)
    for _ in range(50):
        wanted = rng.uniform(size=5)
        places = plots.spread_out(wanted, 0.15)
        assert (np.argsort(places) == np.argsort(wanted)).all()
        assert np.diff(np.sort(places)).min() >= 0.15 - 1e-9 and places.min() >= 0 and places.max() <= 1 + 1e-9


def test_importing_the_plots_does_not_import_matplotlib():
    code = "import sys, experiments.ablation.plots; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
