"""Pictures of score maps: written, not blank, and what is drawn lies where it belongs."""

import subprocess
import sys

import numpy as np
import pytest

from cnn.dense import to_pixels
from cnn.reports import score_map_pictures
from tests.drawn import keep_pages, read
from tests.reference.grids import grid_of, spans

ORANGE = [255, 127, 14]


@pytest.fixture
def pages(monkeypatch):
    """The figures that `score_map_pictures` draws."""
    return keep_pages(monkeypatch, score_map_pictures)


def example(channels=1, window=8):
    """An image, and scores of three classes whose probabilities reach from nowhere near 0 to nowhere near 1."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 26, channels)).astype(np.uint8)
    scores = rng.normal(0, 0.2, (4, 5, 3))
    return image, scores, grid_of(spans(4, window, 4), spans(5, window, 4))


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)


def test_the_scale_reaches_over_the_values_of_the_map(tmp_path, pages):
    image, scores, grid = example()
    score_map_pictures.score_map_picture(str(tmp_path / "m.png"), image, scores, grid, "abc", 1, title="net; page.png")
    shown = softmax(scores)[..., 1]
    left, right, bar = pages[0].axes
    heat = right.images[1]
    assert heat.get_clim() == pytest.approx((shown.min(), shown.max())) and shown.max() < 0.6
    assert bar.get_ylabel() == f"probability of 'b': {shown.min():.3g} to {shown.max():.3g}"
    assert bar.get_ylim() == pytest.approx((shown.min(), shown.max()))
    assert pages[0].get_suptitle() == "net; page.png"
    # Half a window at the border has no value, and the picture says why.
    assert np.isnan(np.asarray(heat.get_array().filled(np.nan))[0]).all()
    assert right.get_xlabel().endswith(score_map_pictures.BARE_BORDER) and left.get_xlabel() == "x (pixels)"


def test_panels_of_classes_share_a_scale(tmp_path, pages):
    image, scores, grid = example()
    score_map_pictures.class_heat_picture(str(tmp_path / "m.png"), image, scores, grid, "abc", [2, 0], title="net")
    shown = softmax(scores)[..., [2, 0]]
    panels = [axes for axes in pages[0].axes if len(axes.images) == 2]
    assert [axes.images[1].get_clim() for axes in panels] == [pytest.approx((shown.min(), shown.max()))] * 2
    assert pages[0].axes[-1].get_ylabel() == f"probability: {shown.min():.3g} to {shown.max():.3g}"
    assert pages[0].get_suptitle() == "net" and score_map_pictures.BARE_BORDER in pages[0].get_supxlabel()


def test_a_map_of_one_value_is_drawn_as_the_lowest(tmp_path, pages):
    image, scores, grid = example()
    score_map_pictures.score_map_picture(str(tmp_path / "m.png"), image, np.zeros_like(scores), grid, "abc", 1)
    heat = pages[0].axes[1].images[1]
    assert heat.get_clim() == pytest.approx((1 / 3, 4 / 3))
    assert pages[0].axes[2].get_ylabel() == "probability of 'b': 0.333 to 0.333"


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_overlays_lie_over_the_mean_of_other_channels(tmp_path, pages, channels):
    image, scores, grid = example(channels)
    mean = np.rint(image.mean(axis=-1))
    path = str(tmp_path / "map.png")
    score_map_pictures.score_map_picture(path, image, scores, grid, "abc")
    score_map_pictures.class_heat_picture(path, image, scores, grid, "abc")
    best = to_pixels.Best(np.array([[0, 0, 8, 8]]), np.array([1]), np.array([0.5], np.float32))
    score_map_pictures.best_boxes_picture(path, image[None], best, "abc")
    score_map_pictures.class_map_picture(path, image, np.full((20, 26), 1), "abc")
    for page in pages:
        assert np.array_equal(page.axes[0].images[0].get_array(), mean)
        assert page.get_suptitle() == f"images in grey: the mean of {channels} channels"


@pytest.mark.parametrize("channels, class_index, true_box", [(1, None, (1, 2, 9, 10)), (3, 0, None)])
def test_score_map_picture(tmp_path, channels, class_index, true_box):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 26, channels)).astype(np.uint8)
    scores, grid = rng.normal(size=(4, 5, 3)), grid_of(spans(4, 8, 4), spans(5, 8, 4))
    path = tmp_path / "new" / "map.png"  # a folder that is not there yet
    score_map_pictures.score_map_picture(str(path), image, scores, grid, ["a", "$b$", "c"], class_index, true_box)
    picture = read(path)
    orange = np.abs(picture - ORANGE).max(axis=-1) < 8
    assert orange.sum() > 200  # the best window is outlined


def test_score_map_picture_paints_where_the_window_is(tmp_path):
    # A black image: what is yellow is the one window with probability 1. Its cell must lie inside its own outline.
    scores = np.zeros((4, 4, 2))
    scores[..., 0], scores[2, 1] = 20, [-20, 20]
    grid = grid_of(spans(4, 12, 6), spans(4, 12, 6))
    score_map_pictures.score_map_picture(
        str(tmp_path / "map.png"), np.zeros((30, 30, 1), np.uint8), scores, grid, "ab", 1
    )
    picture = read(tmp_path / "map.png")
    right = picture[:, picture.shape[1] // 2 : int(picture.shape[1] * 0.88)]  # without the bar
    yellow = (right[..., 0] > 150) & (right[..., 1] > 150) & (right[..., 2] < 90)
    orange = np.abs(right - ORANGE).max(axis=-1) < 8
    orange[int(0.85 * len(orange)) :] = False  # the legend
    for axis in (0, 1):
        cell, outline = (np.flatnonzero(mask.any(axis=1 - axis)) for mask in (yellow, orange))
        assert abs((cell.min() + cell.max()) - (outline.min() + outline.max())) / 2 < 4  # the same centre
        assert np.ptp(cell) / np.ptp(outline) == pytest.approx(0.5, abs=0.05)  # stride 6 in a window of 12


def test_class_heat_picture_shows_the_classes_with_the_largest_probability(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    image, grid = rng.integers(0, 256, (20, 26, 3)).astype(np.uint8), grid_of(spans(4, 8, 4), spans(5, 8, 4))
    scores = rng.normal(size=(4, 5, 9))
    scores[1, 2, 7], scores[3, 0, 2] = 40, 50  # both round to a probability of 1; the larger score comes first
    drawn = []
    monkeypatch.setattr(score_map_pictures, "class_name", lambda names, k: drawn.append(k) or str(names[k]))
    score_map_pictures.class_heat_picture(str(tmp_path / "heat.png"), image, scores, grid, list("abcdefghi"))
    assert drawn[:2] == [2, 7] and len(set(drawn)) == score_map_pictures.PANELS
    orange = np.abs(read(tmp_path / "heat.png") - ORANGE).max(axis=-1) < 8
    assert orange.sum() > 500  # a box in each panel
    drawn.clear()
    score_map_pictures.class_heat_picture(
        str(tmp_path / "two.png"), image[..., :1], scores, grid, list("abcdefghi"), [8, 1]
    )
    assert drawn == [8, 1]
    read(tmp_path / "two.png")
    with pytest.raises(ValueError, match="no classes"):
        score_map_pictures.class_heat_picture(str(tmp_path / "none.png"), image, scores, grid, "abcdefghi", [])


def test_best_boxes_picture(tmp_path):
    images = np.zeros((5, 24, 24, 1), np.uint8)
    boxes = np.array([[2 * i, i, 2 * i + 12, i + 12] for i in range(5)])
    best = to_pixels.Best(boxes, np.arange(5), np.linspace(0, 1, 5, dtype=np.float32))
    path = tmp_path / "best.png"
    score_map_pictures.best_boxes_picture(str(path), images, best, ["a", "b"], true_boxes=boxes + 3)
    assert (np.abs(read(path) - ORANGE).max(axis=-1) < 8).sum() > 500
    with pytest.raises(ValueError, match="4 images and 5 boxes"):
        score_map_pictures.best_boxes_picture(str(path), images[:4], best, [])


def test_class_map_picture_colours_each_class_where_it_is(tmp_path):
    classes = np.full((24, 30), -1)
    classes[4:20, 4:15], classes[4:20, 15:26] = 3, 1
    score_map_pictures.class_map_picture(
        str(tmp_path / "map.png"), np.zeros((24, 30, 3), np.uint8), classes, ["a", "b", "c"]
    )
    picture = read(tmp_path / "map.png")
    right = picture[: int(0.85 * len(picture)), picture.shape[1] // 2 :]
    blue, orange = (np.abs(right - 0.65 * np.array(colour)).max(axis=-1) < 12 for colour in ([31, 119, 180], ORANGE))
    assert blue.sum() == pytest.approx(orange.sum(), rel=0.05)  # 3 and 1: equally many, the lower number first
    assert np.flatnonzero(orange.any(axis=0)).max() < np.flatnonzero(blue.any(axis=0)).min()
    with pytest.raises(ValueError, match=r"a map \(24, 29\) of an image"):
        score_map_pictures.class_map_picture(
            str(tmp_path / "map.png"), np.zeros((24, 30, 3), np.uint8), classes[:, 1:], []
        )


@pytest.mark.parametrize("count", [0, 1, 18, 37])
def test_class_map_picture_of_any_number_of_classes(tmp_path, count):
    classes = np.random.default_rng(0).integers(0, count, (20, 40)) if count else np.full((20, 40), -1)
    image = np.random.default_rng(1).integers(0, 256, (20, 40, 1)).astype(np.uint8)
    score_map_pictures.class_map_picture(str(tmp_path / "map.png"), image, classes, [])
    read(tmp_path / "map.png")


def test_importing_overlays_does_not_import_matplotlib():
    code = "import sys, cnn.reports.score_map_pictures; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_windows_without_a_score_show_no_colour_and_are_never_the_best(tmp_path, pages):
    image, scores, grid = example()
    scores[1, 2], scores[3, 3, 1] = np.nan, 0.9
    for class_index in (1, None):
        score_map_pictures.score_map_picture(str(tmp_path / "m.png"), image, scores, grid, "abc", class_index)
    score_map_pictures.class_heat_picture(str(tmp_path / "c.png"), image, scores, grid, "abc")
    known = np.delete(softmax(scores)[..., 1].ravel(), 7)
    for page, panel in zip(pages, (1, 1, 0), strict=True):
        heat = page.axes[panel].images[1]
        shown = heat.get_array()
        assert np.asarray(shown.mask)[4 * 1 + 4, 4 * 2 + 4] and not np.asarray(shown.mask)[10, 10]
        assert heat.get_cmap().get_bad()[3] == 0
        box = page.axes[panel].patches[-1]
        assert (box.get_x(), box.get_y()) == (11.5, 11.5)  # of window (3, 3)
        text = page.get_supxlabel() or page.axes[panel].get_xlabel()
        assert score_map_pictures.BARE_BORDER in text and score_map_pictures.BARE_NAN in text
    assert pages[0].axes[1].images[1].get_clim() == pytest.approx((known.min(), known.max()))
    # No window has a score: nothing is outlined, and the picture says so.
    pages.clear()
    scores[:] = np.nan
    score_map_pictures.score_map_picture(str(tmp_path / "m.png"), image, scores, grid, "abc")
    score_map_pictures.class_heat_picture(str(tmp_path / "c.png"), image, scores, grid, "abc")
    none = to_pixels.Best(np.zeros((1, 4), int), np.array([-1]), np.array([np.nan], np.float32))
    score_map_pictures.best_boxes_picture(str(tmp_path / "b.png"), image[None], none, "abc")
    assert pages[0].axes[0].get_title() == "no window has a score of 'a'"
    assert pages[1].axes[0].get_title() == "a, no score"
    assert pages[2].axes[0].get_title() == "no window has a score"
    assert all(not axes.patches for page in pages for axes in page.axes[:2])
