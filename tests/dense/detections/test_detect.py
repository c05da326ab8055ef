"""Detections equal those of the definition, whatever the parts in which a map is read."""

import tracemalloc

import hypothesis
import numpy as np
import pytest
import scipy.special
from hypothesis import strategies as st

from cnn import dense, nets
from cnn.layers import Conv, Dense, Flatten, MaxPool
from tests.dense.detections.small_maps import SmallMap, places
from tests.made import random_variables
from tests.reference import detections as reference

OVERLAPS = (0.0, 0.1, 0.3, 1 / 3, 0.6, 1.0)


@st.composite
def cases(draw):
    """A map with ties, plateaus, unknown windows and long chains, and how it is asked."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(1, 13)), draw(st.integers(1, 13)), draw(st.integers(2, 3))
    kind = draw(st.sampled_from(["plain", "ties", "plateaus", "chains"]))
    p = rng.random(shape)
    if kind == "ties":
        p = rng.integers(0, 4, shape) / 4
    elif kind == "plateaus":
        p = np.kron(rng.integers(0, 5, (5, 5, shape[2])) / 4, np.ones((3, 3, 1)))[: shape[0], : shape[1]]
    elif kind == "chains":  # better and better down the rows, every second window
        bumps = (np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 2)[..., None]
        p = bumps * (0.3 + 0.02 * np.arange(shape[0])[:, None, None] + 0.001 * p)
    p[rng.random(shape) < draw(st.sampled_from([0, 0.1, 0.5]))] = np.nan
    stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    last = [
        None if size < 2 or draw(st.booleans()) else (size - 2) * step + draw(st.integers(1, step))
        for size, step in zip(shape, stride, strict=False)
    ]
    options = {
        "overlap": draw(st.sampled_from(OVERLAPS)),
        "per_class": draw(st.booleans()),
        "reach": (draw(st.integers(1, 2)), draw(st.integers(1, 3))),
    }
    grid = {"window": (draw(st.integers(1, 9)), draw(st.integers(1, 9))), "stride": stride, "last": last}
    return SmallMap(p.astype(np.float32), **grid), options, [draw(st.integers(1, 14)), draw(st.integers(1, 14))]


@pytest.mark.slow
@hypothesis.settings(max_examples=60)
@hypothesis.given(cases())
def test_any_parts_give_the_whole_maps_detections(case):
    opened, options, tile = case
    corners = opened.corners(0), opened.corners(1)
    expected = reference.detect(opened.read(), corners, opened.window, [0.25] * opened.shape[2], **options)
    whole = list(dense.detect(opened, threshold=0.25, **options))
    assert places(whole) == expected
    assert list(dense.detect(opened, threshold=0.25, tile=tile, **options)) == whole
    for found in whole:
        y, x = corners[0][found.row], corners[1][found.column]
        assert (found.y0, found.x0) == (y, x)
        assert (found.y1, found.x1) == (y + opened.window[0], x + opened.window[1])
        assert found.probability == opened.read()[found.row, found.column, found.class_index]


def test_a_chain_of_overlaps_is_followed_over_all_parts():
    """Each window of a column overlaps the next, which is better: the last one decides all others."""
    p = np.full((400, 3, 1), np.nan, np.float32)
    p[::2, 1, 0] = np.linspace(0.5, 0.9, 200)
    p = np.concatenate([1 - p, p], axis=-1)
    opened = SmallMap(p, window=(8, 8), stride=(2, 2))  # two rows apart: half of a window is shared
    found = list(dense.detect(opened, threshold=0.5, classes=[1], overlap=0.3, tile=7))
    assert [each.row for each in found] == list(range(2, 400, 4))
    found = list(dense.detect(opened, threshold=0.5, classes=[1], overlap=0.34, tile=7))  # 1/3 is not above it
    assert [each.row for each in found] == list(range(0, 400, 2))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_detections():
    class Endless(SmallMap):
        """Made where it is read."""

        def read(self, rows=slice(None), columns=slice(None)):
            i, j = np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop)
            p = np.where((i % 4 == 1) & (j % 4 == 2), 0.6 + 0.1 * np.sin(i * 3 + j), 0.1)
            return np.stack([1 - p, p], axis=-1).astype(np.float32)

    peaks = []
    for rows in (1_000, 6_000):
        opened = Endless(np.broadcast_to(np.float32(0), (rows, 400, 2)), stride=(4, 4))
        tracemalloc.start()
        try:
            found = sum(1 for _ in dense.detect(opened, threshold=0.5, background=0, tile=(100, 400)))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert found == rows * 400 // 16
    assert peaks[1] < 1.1 * peaks[0]


def test_a_higher_threshold_gives_a_part_of_the_detections_of_a_lower_one():
    opened = SmallMap(np.random.default_rng(2).random((40, 40, 2), np.float32), window=(9, 9))
    for per_class in (True, False):
        low, high = (list(dense.detect(opened, threshold=t, per_class=per_class)) for t in (0.2, 0.9))
        assert high == [each for each in low if each.probability >= np.float32(0.9)]
        assert 0 < len(high) < len(low)


def test_scores_probabilities_and_winners_are_found_alike():
    rng = np.random.default_rng(0)
    scores = (4 * rng.normal(size=(40, 30, 4))).astype(np.float32)
    scores[3:6, 3:6] = np.nan
    scores[20, 7, 2], scores[30, 9] = np.inf, (60, 0, 0, 0)
    scores[30, 10] = (80, 0, 0, 0)  # a probability of 1 as well, but a better score
    softmax = np.stack([np.full(4, np.nan) if np.isnan(s).any() else _softmax(s) for s in scores.reshape(-1, 4)])
    softmax = softmax.reshape(scores.shape)
    corners = tuple(2 * np.arange(n) for n in scores.shape[:2])
    found = list(dense.detect(SmallMap(scores, "scores"), threshold=0.6, tile=(9, 11)))
    with np.errstate(divide="ignore"):
        logs = np.log(softmax)
    logs[30, 9, 0], logs[30, 10, 0] = -3e-26, -5e-35
    assert places(found) == reference.detect(logs, corners, (8, 8), [np.log(0.6)] * 4, 0.3, True, (1, 1))
    assert (30, 10, 0) in places(found) and (20, 7, 2) in places(found)
    np.testing.assert_allclose([each.probability for each in found], [softmax[p] for p in places(found)], rtol=1e-6)
    # Beside equal probabilities of 1 the first counts, else the same windows are found.
    scores[30, 9] = 0
    softmax[30, 9] = 0.25
    expected = places(dense.detect(SmallMap(scores, "scores"), threshold=0.6))
    assert places(dense.detect(SmallMap(softmax.astype(np.float32)), threshold=0.6)) == expected
    winner, best = np.where(np.isnan(softmax[..., 0]), 65535, softmax.argmax(-1)), np.nan_to_num(softmax).max(-1)
    classes = np.stack([winner, np.round(best * 65535)], axis=-1).astype(np.uint16)
    assert places(dense.detect(SmallMap(classes, "class"), threshold=0.6)) == expected
    # Of several labels each has a probability of its own.
    sigmoid = SmallMap(scores, "scores", output_activation="sigmoid")
    logistic = scipy.special.log_expit(scores.astype(np.float64))
    expected = reference.detect(logistic, corners, (8, 8), [np.log(0.8)] * 4, 0.3, False, (1, 1))
    assert places(dense.detect(sigmoid, threshold=0.8, per_class=False, tile=10)) == expected
    # A single score tells two classes apart.
    one = SmallMap(scores[..., :1], "scores")
    two = SmallMap(np.concatenate([0 * scores[..., :1], scores[..., :1]], axis=-1), "scores")
    assert list(dense.detect(one, threshold=0.7)) == list(dense.detect(two, threshold=0.7))


def _softmax(scores):
    return scipy.special.softmax(scores) if np.isfinite(scores).all() else (scores == np.inf) / 1.0


def test_classes_and_thresholds_are_named():
    p = np.zeros((9, 9, 3), np.float32)
    p[1, 1], p[1, 7], p[7, 1] = (0.9, 0.05, 0.05), (0.2, 0.5, 0.3), (0.1, 0.2, 0.7)
    opened = SmallMap(p, class_names=("paper", "one", "two"), window=(4, 4))

    def found(**options):
        return [each.class_name for each in dense.detect(opened, **{"threshold": 0.4, **options})]

    assert found() == ["paper", "one", "two"]
    assert found(background="paper") == found(background=0) == found(classes=["two", 1]) == ["one", "two"]
    assert found(threshold=(0.95, 0.4, 0.6)) == found(threshold={"one": 0.4, 2: 0.6}) == ["one", "two"]
    assert found(threshold={"two": 0.70001}) == []
    assert found(threshold=np.float32(0.7)) == ["paper", "two"]
    opened.class_names = None
    assert found(background=0) == ["1", "2"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"threshold": 0}, r"detect: threshold \(=0\) must be a probability"),
        ({"threshold": float("nan")}, "must be a probability"),
        ({"threshold": None}, r"threshold \(=None\) must be a number, or one for each class"),
        ({"threshold": "high"}, r"threshold \(='high'\) must be a number"),
        ({"threshold": (0.5, 0.5)}, "2 values for 3 classes"),
        ({"threshold": {"four": 0.5}}, "'four' is no class of the map; it has 3: one, two, two"),
        ({"background": "two"}, "several classes are named 'two'; give the index"),
        ({"background": 3}, "background: 3 is no class"),
        ({"classes": [0], "background": 0}, "no class is looked for"),
        ({"overlap": 1.5}, r"overlap \(=1.5\) must be a number from 0 to 1"),
        ({"reach": 0}, "reach"),
        ({"tile": 0}, "tile"),
    ],
)
def test_what_cannot_be_asked(options, message):
    opened = SmallMap(np.zeros((3, 3, 3), np.float32), class_names=("one", "two", "two"))
    with pytest.raises(ValueError, match=message):  # at once, not when the first detection is read
        dense.detect(opened, **{"threshold": 0.5, **options})
    assert not opened.reads


@pytest.mark.parametrize("cover", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_maps_of_streams_and_in_memory_are_searched_alike(tmp_path, cover):
    net = nets.net([Conv(8, 5), MaxPool(2)], [Flatten(), Dense(3)])
    variables = random_variables(net, (8, 8), 1)
    image = np.random.default_rng(1).random((61, 47, 1), np.float32)
    with pytest.raises(TypeError, match="detect: opened_map is a ndarray; give what dense.open_map"):
        dense.detect(image, threshold=0.5)
    names, path = ["a", "b", "c"], tmp_path / "map.npy"
    options = {"window": (8, 8), "stride": 2, "cover": cover}
    dense.stream(net, variables, image, path, class_names=names, progress=False, **options)
    opened = dense.open_map(path)
    grid = dense.plan_grid(net, image.shape, **options)
    made = dense.ScoreMap(opened.read()[None], grid.boxes(image.shape), "both", "crops", grid)
    found = list(dense.detect(opened, threshold=0.4, overlap=0.1, tile=5))
    assert len(found) > 5 and found[-1].class_name in names
    assert places(dense.detect(made, threshold=0.4, overlap=0.1)) == places(found)
    assert all(opened.box(each.row, each.column) == each[5:] for each in found)
    with pytest.raises(ValueError, match="a map of 2 images"):
        dense.detect(made._replace(scores=np.zeros((2, 3, 3, 3))), threshold=0.5)
