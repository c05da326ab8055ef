"""Pages of digits at known places, the crops of them, and how detections are counted."""

import numpy as np
import pytest

from cnn.data import Split
from cnn.dense import Detection
from cnn.runs.checkpoint import Run
from configs import smoke
from experiments.digit_pages import counting, crops, measure, net, pages, summary
from tests.made import random_variables

RNG = np.random.default_rng(0)
DIGITS = np.where(RNG.random((30, 28, 28, 1)) < 0.5, 255, 0).astype(np.uint8)
LABELS = np.arange(30, dtype=np.int32) % 3


def overlap(one, others):
    return (one[0] < others[:, 2]) & (one[2] > others[:, 0]) & (one[1] < others[:, 3]) & (one[3] > others[:, 1])


def test_digits_lie_where_a_page_says():
    options = {"seed": 5, "size": 300, "digits": 12, "strokes": 6}
    page = pages.make(DIGITS, LABELS, number=3, **options)
    assert page.image.shape == (300, 300, 1) and page.image.dtype == np.uint8
    boxes = np.concatenate([page.boxes, page.strokes])
    assert len(page.boxes) == len(page.labels) == 12 and len(page.strokes) == 6
    assert all(overlap(box, boxes).sum() == 1 for box in boxes) and boxes.min() >= 0 and boxes.max() <= 300
    for box, label in zip(page.boxes, page.labels, strict=True):
        dark = page.image[box[0] : box[2], box[1] : box[3]] < 140
        likeness = [(dark == (digit > 127)).mean() for digit in DIGITS]
        assert max(likeness) > 0.95 and LABELS[int(np.argmax(likeness))] == label
    paper = page.image.astype(float)
    for y0, x0, y1, x1 in boxes:
        paper[y0:y1, x0:x1] = np.nan
    assert np.nanmin(paper) > 130  # nothing but the marks is dark
    assert all(page.image[y0:y1, x0:x1].min() < 130 for y0, x0, y1, x1 in page.strokes)
    again, other = pages.make(DIGITS, LABELS, number=3, **options), pages.make(DIGITS, LABELS, number=4, **options)
    np.testing.assert_array_equal(again.image, page.image)
    assert not np.array_equal(other.boxes, page.boxes)
    with pytest.raises(ValueError, match="marks do not fit on a page of 50x50 pixels"):
        pages.make(DIGITS, LABELS, number=0, seed=0, size=50, digits=9, strokes=0)


def test_crops_of_digits_show_them_and_others_do_not():
    images, classes = crops.cut(DIGITS, LABELS, seed=1, count=2)
    assert images.shape[1:] == (28, 28, 1) and images.dtype == np.uint8 and len(images) == len(classes)
    assert set(classes) == {0, 1, 2, 3} and 0.3 < (classes == 3).mean() < 0.8
    dark = (images < 140).mean(axis=(1, 2, 3))
    assert dark[classes < 3].min() > 0.25  # half of each made-up digit is ink, a ninth of it may be cut off
    assert dark[classes == 3].max() < 0.45 and np.median(dark[classes == 3]) < 0.2


def found(label, probability, y, x):
    """A detection of a window of 28 pixels around (y, x)."""
    return Detection(label, str(label), probability, 0, 0, y - 14, x - 14, y + 14, x + 14)


def test_each_digit_is_found_once_by_its_own_class():
    boxes = np.array([[0, 0, 28, 28], [0, 60, 28, 88], [100, 100, 128, 128]])
    page = pages.Page(np.zeros((200, 200, 1), np.uint8), np.array([7, 7, 2]), boxes, np.zeros((0, 4)))
    detections = [
        found(7, 0.6, 14, 20),  # 6 pixels away; the next is nearer, and more probable
        found(7, 0.9, 15, 14),
        found(2, 0.8, 14, 74),  # at a 7
        found(2, 0.7, 114, 122),  # 8 pixels away
        found(2, 0.5, 114, 123),
        found(7, 0.4, 14, 66),
        found(1, 0.95, 180, 180),
    ]
    counts = counting.compare(detections, page)
    right, other, twice, nothing = counting.RIGHT, counting.OTHER_CLASS, counting.TWICE, counting.NOTHING
    assert list(counts.kinds) == [twice, right, other, right, nothing, right, nothing]
    np.testing.assert_array_equal(counts.distances[[1, 3, 5]], [1, 8, 8])
    assert counting.best_threshold([counts]) in (0.4, 0.3, 0.31)  # all three digits need 0.4
    got = counting.results([counting.at(counts, 0.6), counting.at(counts, 0.6)], ["0", "1", "2", "7"])
    assert (got["detections"], got["right"], got["digits"]) == (10, 4, 6)
    assert got["precision"] == {"value": 0.4, "low": pytest.approx(0.4), "high": pytest.approx(0.4)}
    assert got["recall"]["value"] == pytest.approx(2 / 3)
    assert got["wrong"] == {other: 2, nothing: 2, twice: 2} and got["pages_without_a_mistake"] == 0
    assert got["classes"][2]["right"] == 2 and got["classes"][2]["detections"] == 4
    single = page._replace(labels=page.labels[2:], boxes=boxes[2:])
    none = counting.results([counting.compare([found(2, 0.8, 114, 114)], single)], ["2"])
    assert none["pages_without_a_mistake"] == 1 and none["recall"]["value"] == 1


def test_the_summary_shows_all_nets():
    page = pages.Page(np.zeros((1, 1, 1), np.uint8), np.array([1]), np.array([[0, 0, 28, 28]]), np.zeros((0, 4)))
    counts = [counting.compare([found(1, 0.8, 14, 14), found(0, 0.7, 90, 90)], page)]
    net = {
        "threshold": 0.5,
        **counting.results(counts, ["0", "1"]),
        "chosen_on": counting.results(counts, ["0", "1"]),
        "seconds": {"map": 1.5},
        "pages_with_the_same_detections": {"streamed in tiles": [1, 1]},
        "accuracy_of_crops": 0.99,
        "stride": 4,
        "overlap": 0.1,
        "command": "python",
        "device": "cpu",
        "seed": 0,
        "python": "3",
        "packages": {"jax": "1"},
        "commit": "abc",
    }
    text = summary.text([net, {**net, "seed": 1}])
    assert "n = 2" in text and "seed 1" in text and "50.00%" in text and "100.00%" in text and "1 of 1" in text


@pytest.mark.slow
def test_a_net_is_measured_on_small_pages(monkeypatch):
    """One that was never trained: what is found is chance, but the same in parts, in tiles and as a whole."""
    for name, value in {"SIZE": 150, "DIGITS": 4, "STROKES": 2, "LOWEST": 0.01, "TILE": 8}.items():
        monkeypatch.setattr(measure, name, value)
    built = net.wide_lenet(4)
    names, variables = ("0", "1", "2", crops.BACKGROUND), random_variables(built, (28, 28), 1)
    run = Run(built, variables, smoke.get_config(), (0.8,), (0.2,), names, (28, 28, 1), "", 0)
    split = Split(DIGITS, LABELS)
    options = {"choosing": 2, "count": 2, "compared": 2, "stride": 4, "overlap": 0.1}
    got = measure.measure(run, split, split, **options)
    assert got["pages"] == 2 and got["digits"] == 8 and got["detections"] > 0
    assert set(map(tuple, got["pages_with_the_same_detections"].values())) == {(2, 2)}
    assert all(seconds > 0 for seconds in got["seconds"].values())
