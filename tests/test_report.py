"""Tables by value, the pixels that a score is painted on by value, and pictures that are written and not blank."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cnn import report


def boxes_of(rows, columns):
    """[h, w, 4] from (y0, y1) of each row and (x0, x1) of each column."""
    return np.array([[(y0, x0, y1, x1) for x0, x1 in columns] for y0, y1 in rows])


def spans(count, window, stride, start=0):
    return [(start + i * stride, start + i * stride + window) for i in range(count)]


def test_markdown_by_value():
    wanted = "| name | n \\| m |\n| ---- | -----: |\n| a    |  1,000 |\n| b    |  2.50% |\n"
    assert report.markdown(["name", "n | m"], [["a", "1,000"], ["b", "2.50%"]]) == wanted
    assert report.markdown(["a"], [[1], ["x"]]).splitlines()[1] == "| --- |"  # one word: not a column of numbers
    assert report.markdown(["a", "b"], []).count("\n") == 2
    with pytest.raises(ValueError, match="row 1 has 1 cells, there are 2 headers"):
        report.markdown(["a", "b"], [[1, 2], [3]])


def test_paint_at_stride_one_fills_one_pixel_for_each_window():
    scores = np.arange(12.0).reshape(3, 4)
    got = report.paint(scores, boxes_of(spans(3, 5, 1), spans(4, 5, 1)), (7, 8, 1))
    assert np.array_equal(got[2:5, 2:6], scores)  # the middle pixel of a window of five
    assert np.isnan(got).sum() == 7 * 8 - 12
    # An even window has no middle pixel: its centre is the edge between two, and the first of them is taken.
    got = report.paint(scores, boxes_of(spans(3, 4, 1), spans(4, 4, 1)), (6, 7))
    assert np.array_equal(got[1:4, 1:5], scores) and np.isnan(got).sum() == 6 * 7 - 12


def test_paint_at_a_larger_stride_fills_cells_around_the_centres():
    scores = np.array([[1.0, 2.0], [3.0, 4.0]])
    got = report.paint(scores, boxes_of(spans(2, 8, 4), spans(2, 6, 2)), (12, 8, 3))
    wanted = np.full((12, 8), np.nan)
    wanted[2:10, 2:6] = np.repeat(np.repeat(scores, 4, axis=0), 2, axis=1)  # centres y 4, 8 and x 3, 5
    assert np.array_equal(got, wanted, equal_nan=True)


def test_paint_of_boxes_that_start_elsewhere_moves_with_them():
    scores = np.random.default_rng(0).random((3, 3))
    at = report.paint(scores, boxes_of(spans(3, 6, 3), spans(3, 6, 3)), (30, 30))
    moved = report.paint(scores, boxes_of(spans(3, 6, 3, 4), spans(3, 6, 3, 11)), (30, 30))
    assert np.array_equal(moved, np.roll(at, (4, 11), axis=(0, 1)), equal_nan=True)


def test_paint_takes_the_mean_where_cells_overlap():
    # Boxes cut at the border: [0, 6), [0, 10), [4, 14) have their centres at 3, 5 and 9, their cells are 4 wide.
    scores = np.array([[1.0], [2.0], [5.0]])
    got = report.paint(scores, boxes_of([(0, 6), (0, 10), (4, 14)], [(0, 2)]), (14, 2))
    assert np.array_equal(got[:, 0], [np.nan, 1, 1, 1.5, 1.5, 2, 2, 5, 5, 5, 5, np.nan, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(got[:, 0], got[:, 1], equal_nan=True)


def test_paint_of_a_single_score_fills_its_box():
    got = report.paint(np.array([[0.7]]), np.array([[[1, 2, 4, 7]]]), (5, 8))
    assert (got[1:4, 2:7] == 0.7).all() and np.isnan(got).sum() == 40 - 15


def test_paint_refuses_what_does_not_fit():
    boxes = boxes_of(spans(2, 4, 2), spans(3, 4, 2))
    with pytest.raises(ValueError, match=r"scores \(3, 2\) and boxes \(2, 3, 4\)"):
        report.paint(np.zeros((3, 2)), boxes, (8, 8))
    boxes[0, 1, 0] += 1
    with pytest.raises(ValueError, match="not in rows and columns"):
        report.paint(np.zeros((2, 3)), boxes, (8, 8))


def read(path):
    """A picture as float64 [H, W, 3]; fails if it is blank or tiny."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"), np.float64)
    assert min(pixels.shape[:2]) > 100 and max(pixels.shape[:2]) < 3000 and pixels.std() > 5
    return pixels


@pytest.mark.parametrize("channels, class_index, true_box", [(1, None, (1, 2, 9, 10)), (3, 0, None)])
def test_score_map_picture(tmp_path, channels, class_index, true_box):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 26, channels)).astype(np.uint8)
    scores, boxes = rng.normal(size=(4, 5, 3)), boxes_of(spans(4, 8, 4), spans(5, 8, 4))
    path = tmp_path / "new" / "map.png"  # a folder that is not there yet
    report.score_map_picture(str(path), image, scores, boxes, ["a", "$b$", "c"], class_index, true_box)
    picture = read(path)
    orange = np.abs(picture - [255, 127, 14]).max(axis=-1) < 8
    assert orange.sum() > 200  # the best window is outlined


def test_score_map_picture_paints_where_the_window_is(tmp_path):
    # A black image: what is yellow is the one window with probability 1. Its cell must lie inside its own outline.
    scores = np.zeros((4, 4, 2))
    scores[..., 0], scores[2, 1] = 20, [-20, 20]
    boxes = boxes_of(spans(4, 12, 6), spans(4, 12, 6))
    report.score_map_picture(str(tmp_path / "map.png"), np.zeros((30, 30, 1), np.uint8), scores, boxes, "ab", 1)
    picture = read(tmp_path / "map.png")
    right = picture[:, picture.shape[1] // 2 : int(picture.shape[1] * 0.88)]  # without the bar
    yellow = (right[..., 0] > 150) & (right[..., 1] > 150) & (right[..., 2] < 90)
    orange = np.abs(right - [255, 127, 14]).max(axis=-1) < 8
    orange[int(0.85 * len(orange)) :] = False  # the legend
    for axis in (0, 1):
        cell, outline = (np.flatnonzero(mask.any(axis=1 - axis)) for mask in (yellow, orange))
        assert abs((cell.min() + cell.max()) - (outline.min() + outline.max())) / 2 < 4  # the same centre
        assert np.ptp(cell) / np.ptp(outline) == pytest.approx(0.5, abs=0.05)  # stride 6 in a window of 12


@pytest.mark.parametrize("classes, names", [(3, ["cat", "dog", "$x"]), (12, ["only one"]), (80, [])])
def test_confusion_picture(tmp_path, classes, names):
    confusion = np.random.default_rng(0).integers(0, 30, (classes, classes)) + np.diag([90] * classes)
    confusion[1] = 0  # a class without examples
    report.confusion_picture(str(tmp_path / "confusion.png"), confusion, names)
    read(tmp_path / "confusion.png")


@pytest.mark.parametrize("lines", [0, 1, 40])
def test_curves_picture(tmp_path, lines):
    metrics = [{"step": 10 * i, "split": "train", "loss": 2 / (i + 1), "accuracy": 0.9} for i in range(lines)]
    metrics += [{"step": 10 * i, "split": "validation", "loss": 0.5} for i in range(0, lines, 10)]
    metrics += [{"step": 10 * lines, "split": "test", "loss": 0.0, "accuracy": 1.0, "examples": 3}]
    report.curves_picture(str(tmp_path / "curves.png"), metrics)
    read(tmp_path / "curves.png")


def test_samples_picture(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(11) % 3
    report.samples_picture(str(tmp_path / "samples.png"), images, labels, ["a", "b", "c"], (labels + 1) % 3)
    read(tmp_path / "samples.png")
    with pytest.raises(ValueError, match="no images"):
        report.samples_picture(str(tmp_path / "none.png"), images[:0], labels[:0], ["a"])


def test_importing_the_report_does_not_import_matplotlib():
    code = "import sys, cnn.report; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
