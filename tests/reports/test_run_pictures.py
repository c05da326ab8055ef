"""Tables by value, and pictures that are written and not blank."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cnn.reports import markdown, run_pictures


def test_markdown_by_value():
    wanted = "| name | n \\| m |\n| ---- | -----: |\n| a    |  1,000 |\n| b    |  2.50% |\n"
    assert markdown.markdown(["name", "n | m"], [["a", "1,000"], ["b", "2.50%"]]) == wanted
    assert markdown.markdown(["a"], [[1], ["x"]]).splitlines()[1] == "| --- |"  # one word: not a column of numbers
    assert markdown.markdown(["a", "b"], []).count("\n") == 2
    with pytest.raises(ValueError, match="row 1 has 1 cells, there are 2 headers"):
        markdown.markdown(["a", "b"], [[1, 2], [3]])


def read(path):
    """A picture as float64 [H, W, 3]; fails if it is blank or tiny."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"), np.float64)
    assert min(pixels.shape[:2]) > 100 and max(pixels.shape[:2]) < 3000 and pixels.std() > 5
    return pixels


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


def test_samples_picture(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(11) % 3
    run_pictures.samples_picture(str(tmp_path / "samples.png"), images, labels, ["a", "b", "c"], (labels + 1) % 3)
    read(tmp_path / "samples.png")
    with pytest.raises(ValueError, match="no images"):
        run_pictures.samples_picture(str(tmp_path / "none.png"), images[:0], labels[:0], ["a"])


def test_importing_the_report_does_not_import_matplotlib():
    code = "import sys, cnn.reports.figure; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
