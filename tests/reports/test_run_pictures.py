"""Tables by value, and pictures that are written and not blank."""

import subprocess
import sys

import numpy as np
import pytest

from cnn.reports import figure, markdown, run_pictures
from tests.drawn import keep_pages, read


def test_markdown_by_value():
    wanted = "| name | n \\| m |\n| ---- | -----: |\n| a    |  1,000 |\n| b    |  2.50% |\n"
    assert markdown.markdown(["name", "n | m"], [["a", "1,000"], ["b", "2.50%"]]) == wanted
    assert markdown.markdown(["a"], [[1], ["x"]]).splitlines()[1] == "| --- |"  # one word: not a column of numbers
    assert markdown.markdown(["a", "b"], []).count("\n") == 2
    with pytest.raises(ValueError, match="row 1 has 1 cells, there are 2 headers"):
        markdown.markdown(["a", "b"], [[1, 2], [3]])


@pytest.mark.parametrize("classes, names", [(3, ["cat", "dog", "$x"]), (12, ["only one"]), (80, [])])
def test_confusion_picture(tmp_path, classes, names):
    confusion = np.random.default_rng(0).integers(0, 30, (classes, classes)) + np.diag([90] * classes)
    confusion[1] = 0  # a class without examples
    run_pictures.confusion_picture(str(tmp_path / "confusion.png"), confusion, names)
    read(tmp_path / "confusion.png")


@pytest.mark.parametrize("lines", [0, 1, 40])
def test_curves_picture(tmp_path, lines):
    metrics = [{"step": 10 * i, "split": "train", "loss": 2 / (i + 1), "accuracy": 0.9} for i in range(lines)]
    metrics += [{"step": 10 * i, "split": "validation", "loss": 0.5} for i in range(0, lines, 10)]
    metrics += [{"step": 10 * lines, "split": "test", "loss": 0.0, "accuracy": 1.0, "examples": 3}]
    run_pictures.curves_picture(str(tmp_path / "curves.png"), metrics)
    read(tmp_path / "curves.png")


@pytest.fixture
def pages(monkeypatch):
    """The figures that `run_pictures` draws."""
    return keep_pages(monkeypatch, run_pictures)


def test_samples_picture(tmp_path, pages):
    images = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(11) % 3
    predictions = (labels + 1) % 3
    predictions[4] = labels[4]
    run_pictures.samples_picture(str(tmp_path / "samples.png"), images, labels, ["a", "b", "c"], predictions)
    read(tmp_path / "samples.png")
    titles = [axes.get_title() for axes in pages[0].axes[:11]]
    assert titles[:5] == ["b\nis a", "c\nis b", "a\nis c", "b\nis a", "b"]
    for axes, image in zip(pages[0].axes, images, strict=False):
        assert np.array_equal(axes.images[0].get_array(), image)
    probabilities = np.full(11, 0.9996)  # not 100 %: it is not certain
    names = ["a" * 20, "b", "c"]
    run_pictures.samples_picture(
        str(tmp_path / "sure.png"), images, labels, names, predictions, probabilities, title="net, data"
    )
    assert pages[1].get_suptitle() == "net, data"
    assert pages[1].axes[2].get_title() == f"{'a' * 13}… (99.9 %)\nis c"
    with pytest.raises(ValueError, match="no images"):
        run_pictures.samples_picture(str(tmp_path / "none.png"), images[:0], labels[:0], ["a"])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_images_of_any_number_of_channels_are_drawn(tmp_path, pages, channels):
    """In the file a bright image is bright and a dark one dark; other numbers of channels than 1 and 3 are averaged."""
    images = np.zeros((2, 6, 6, channels), np.uint8)
    images[0, ..., -1], images[1] = 240, 30  # the last channel alone
    path = tmp_path / "samples.png"
    run_pictures.samples_picture(str(path), images, np.array([0, 1]), ["a", "b"])
    remark = "" if channels in (1, 3) else f"images in grey: the mean of {channels} channels"
    assert pages[0].get_suptitle() == remark
    picture = read(path)
    shown = [[240, 240, 240], [0, 0, 240]][channels == 3] if channels in (1, 3) else [240 // channels] * 3
    for axes, wanted in zip(pages[0].axes, (shown, [30] * 3), strict=True):
        count = (np.abs(picture - wanted).max(axis=-1) <= 1).sum()
        box = axes.get_window_extent()
        assert count == pytest.approx(box.width * box.height * (figure.DPI / pages[0].dpi) ** 2, rel=0.05)


def test_drawable_by_value():
    image = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) * 10
    assert np.array_equal(figure.drawable(image), [[15, 55, 95], [135, 175, 215]])
    assert np.array_equal(figure.drawable(image[..., :1]), image[..., 0])
    assert np.array_equal(figure.drawable(image[..., :3]), image[..., :3])
    with pytest.raises(ValueError, match="at least one channel"):
        figure.drawable(image[..., :0])
    with pytest.raises(ValueError, match=r"has shape \(2, 3\)"):
        figure.drawable(image[..., 0])


def test_means_over_few_steps_are_merged():
    # Pauses every 10 steps, and after step 14 and 30 - 4 for other reasons.
    points = [(10, 1.0), (14, 6.0), (20, 2.0), (26, 0.5), (30, 3.0), (33, 9.0)]
    merged = run_pictures.even_means(points)
    assert [step for step, _ in merged] == [10, 20, 33]  # what is left at the end joins the last
    assert [value for _, value in merged] == pytest.approx([1.0, (4 * 6 + 6 * 2) / 10, (6 * 0.5 + 4 * 3 + 3 * 9) / 13])
    even = [(5, 1.0), (10, 0.5), (15, 2.0)]
    assert run_pictures.even_means(even) == even
    assert run_pictures.even_means([]) == [] and run_pictures.even_means([(0, 1.5)]) == [(0, 1.5)]


def test_the_curve_of_training_has_no_teeth(tmp_path, pages):
    metrics = [{"step": s, "split": "train", "loss": 1.0, "accuracy": 0.9} for s in range(100, 1001, 100)]
    metrics += [{"step": s, "split": "train", "loss": 9.0, "accuracy": 0.1} for s in range(101, 1000, 100)]
    metrics += [{"step": s, "split": "validation", "loss": 0.5, "accuracy": 0.8} for s in range(101, 1000, 100)]
    remark = run_pictures.train_remark(0.3)
    run_pictures.curves_picture(str(tmp_path / "curves.png"), metrics, "net, trained on data", remark)
    train, validation = pages[0].axes[1].lines
    assert list(train.get_xdata())[1:-1] == [200, 300, 400, 500, 600, 700, 800, 900]
    assert np.ptp(train.get_ydata()) < 0.01
    assert list(validation.get_xdata()) == list(range(101, 1000, 100))  # measured, not averaged: as they are
    assert "leaves out the 30% that were moved out of the window" in pages[0].get_supxlabel().replace("\n", " ")
    assert "moved" not in run_pictures.train_remark(0.0) and "weighs" not in run_pictures.train_remark(0.0)
    assert "its loss weighs the classes" in run_pictures.train_remark(0.0, weighted=True)
    assert pages[0].get_suptitle() == "net, trained on data"


def test_importing_the_report_does_not_import_matplotlib():
    code = "import sys, cnn.reports.figure; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
