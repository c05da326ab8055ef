"""What a score map says as a whole: its averages, small maps and best windows, against sums over the whole array."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

from cnn import dense
from cnn.dense import Grid
from cnn.reports import map_summary, small_maps
from cnn.reports.map_summary import summarise


class Map(NamedTuple):
    """A map in memory, with what `dense.OpenedMap` has."""

    values: np.ndarray
    window: tuple[int, int]
    stride: tuple[int, int]
    image_shape: tuple[int, int, int]
    written: str = "scores"

    @property
    def shape(self) -> Any:
        return self.values.shape

    def read(self, rows, columns):
        return self.values[rows, columns]

    def corners(self, axis):
        return self.stride[axis] * np.arange(self.shape[axis])

    def box(self, row, column):
        y, x = row * self.stride[0], column * self.stride[1]
        return y, x, y + self.window[0], x + self.window[1]


def made(rng, classes=5, size=(40, 57), window=(12, 16), stride=(4, 3), rest=(3, 2)):
    values = rng.normal(0, 3, (*size, classes)).astype(np.float32)
    shape = tuple((n - 1) * s + w + r for n, s, w, r in zip(size, stride, window, rest, strict=True))
    return Map(values, window, stride, (*shape, 1))


def probabilities(values, activation="softmax"):
    values = np.asarray(values, np.float64)
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-values))
    e = np.exp(values - values.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def largest_on(opened, p, size):
    """The small map of probabilities [h, w]: the largest value of the whole heat map on each of its pixels."""
    grid = Grid(opened.window, opened.stride, p.shape, opened.stride)
    heat = dense.heat_map(p, grid, opened.image_shape)
    edges = [np.arange(n + 1) * extent // n for n, extent in zip(size, heat.shape, strict=True)]
    result = np.full(size, np.nan)
    for i in range(size[0]):
        for j in range(size[1]):
            part = heat[edges[0][i] : edges[0][i + 1], edges[1][j] : edges[1][j + 1]]
            if not np.isnan(part).all():
                result[i, j] = np.nanmax(part)
    return np.where(np.isnan(result), 0, 1 + np.rint(254 * np.nan_to_num(result)))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("block", [2**22, 300], ids=["one block", "many blocks"])
def test_averages_and_small_maps_are_those_of_the_whole(monkeypatch, block, activation):
    monkeypatch.setattr(map_summary, "BLOCK_VALUES", block)
    opened = made(np.random.default_rng(0))
    opened.values[3, 5] = np.nan  # a window without scores
    size = (60, 47)
    found = summarise(opened, size, activation, 5)
    known = np.delete(opened.values.reshape(-1, 5), 3 * 57 + 5, axis=0)
    for over in ("probabilities", "logits", "max"):
        expected = np.asarray(dense.average(known[None], over, activation))[0]
        np.testing.assert_allclose(found.averages[over], expected, rtol=1e-5, atol=1e-6)
    assert (found.windows, found.known) == (40 * 57, 40 * 57 - 1)
    p = probabilities(opened.values, activation)
    np.testing.assert_allclose(found.shares, np.bincount(known.argmax(axis=1), minlength=5) / len(known))
    for k, layer in found.layers.items():
        assert abs(layer.astype(int) - largest_on(opened, p[..., k], size)).max() <= 1  # one level of rounding
    together = np.stack([found.layers[k] for k in range(5)])
    np.testing.assert_array_equal(found.certainty, together.max(axis=0))
    centred = found.certainty > 0
    assert (together[found.winner[centred], *np.nonzero(centred)] == found.certainty[centred]).all()


def test_a_map_coarser_than_its_small_map_and_one_of_a_single_window():
    opened = made(np.random.default_rng(1), size=(5, 1), window=(32, 32), stride=(32, 32), rest=(0, 0))
    found = summarise(opened, (80, 16), "softmax", 5)
    p = probabilities(opened.values)
    for k in range(5):
        assert abs(found.layers[k].astype(int) - largest_on(opened, p[..., k], (80, 16))).max() <= 1


@pytest.mark.parametrize("block", [2**22, 300], ids=["one block", "many blocks"])
def test_best_windows_are_the_best_that_do_not_overlap_and_never_the_background(monkeypatch, block):
    monkeypatch.setattr(map_summary, "BLOCK_VALUES", block)
    opened = made(np.random.default_rng(2), classes=3)
    opened.values[...] = (0, 0, 5)  # the last class is the background
    opened.values[7, 9], opened.values[7, 10] = (9, 0, 5), (8, 0, 5)  # neighbours: one of them is shown
    opened.values[30, 50] = (7, 0, 0)
    found = summarise(opened, (60, 47), "softmax", 3, background=2)
    first = [one for one in found.best if one.class_index == 0][:2]
    assert [one.box for one in first] == [opened.box(30, 50), opened.box(7, 9)]
    assert first[1].probability == pytest.approx(probabilities(opened.values)[7, 9, 0])
    assert not any(one.class_index == 2 for one in found.best)
    assert set(np.unique(found.winner)) <= {-1, 0, 1}
    for k in (0, 1):
        boxes = [one.box for one in found.best if one.class_index == k]
        for i, (y, x, *_) in enumerate(boxes):
            assert all(abs(y - v) >= 12 or abs(x - u) >= 16 for v, u, *_ in boxes[:i])


def test_many_classes_have_small_maps_of_the_most_probable_alone():
    opened = made(np.random.default_rng(3), classes=40, size=(9, 11))
    found = summarise(opened, (20, 20), "softmax", 40)
    p = probabilities(opened.values)
    best = np.argsort(-p.max(axis=(0, 1)))[: map_summary.LAYERS]
    assert sorted(found.layers) == sorted(best.tolist())
    for k in best:
        assert abs(found.layers[k].astype(int) - largest_on(opened, p[..., k], (20, 20))).max() <= 1


def test_maps_of_probabilities_and_of_winning_classes():
    opened = made(np.random.default_rng(4), classes=4)
    p = probabilities(opened.values).astype(np.float32)
    of_scores = summarise(opened, (50, 50), "softmax", 4)
    found = summarise(opened._replace(values=p, written="probabilities"), (50, 50), "softmax", 4)
    assert list(found.averages) == ["probabilities"]
    np.testing.assert_allclose(found.averages["probabilities"], of_scores.averages["probabilities"], rtol=1e-5)
    winning = np.stack([p.argmax(axis=-1), np.rint(255 * p.max(axis=-1))], axis=-1).astype(np.uint8)
    winning[0, 0] = 255, 0  # a window that was skipped
    found = summarise(opened._replace(values=winning, written="class"), (50, 50), "softmax", 4)
    assert found.averages == {} and found.known == 40 * 57 - 1
    shares = np.bincount(winning.reshape(-1, 2)[1:, 0], minlength=4) / (40 * 57 - 1)
    np.testing.assert_allclose(found.shares, shares)
    for k in range(4):
        expected = largest_on(opened, np.where(winning[..., 0] == k, winning[..., 1] / 255, np.nan), (50, 50))
        assert abs(found.layers[k].astype(int) - expected).max() <= 1


def test_a_single_score_tells_two_classes_apart_and_nothing_is_summed_of_a_map_without_scores():
    opened = made(np.random.default_rng(5), classes=1)
    found = summarise(opened, (40, 40), "sigmoid", 2)
    expected = np.asarray(dense.average(opened.values.reshape(1, -1, 1), "probabilities", "sigmoid"))[0]
    np.testing.assert_allclose(found.averages["probabilities"], expected, rtol=1e-5)
    empty = summarise(opened._replace(values=np.full_like(opened.values, np.nan)), (40, 40), "softmax", 2)
    assert empty.known == 0 and not empty.layers and not empty.best
    assert all(math.isnan(value) for value in empty.averages["probabilities"])
    assert (empty.winner == -1).all() and (empty.certainty == 0).all()


def test_infinite_scores_have_the_probabilities_of_very_large_ones():
    planes = np.float32([[np.inf, np.inf, -np.inf, np.nan], [0, np.inf, -np.inf, 0]])[:, None]
    found = small_maps.probabilities(planes, "softmax")[:, 0]
    np.testing.assert_array_equal(found, [[1, 0.5, 0.5, np.nan], [0, 0.5, 0.5, np.nan]])
