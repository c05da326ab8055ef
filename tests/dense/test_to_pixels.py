"""Pixels of scores: heat maps, best boxes and class maps against plain loops."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import dense, nets
from cnn.dense import to_pixels
from cnn.layers import Activation, Conv, Dense, Flatten, MaxPool
from cnn.nets import outputs
from tests.made import draw
from tests.made import random_variables as make
from tests.reference.grids import boxes_of, grid_of, spans


def same(got, wanted):
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6)


def by_loop(scores, rows, columns, image_shape, method):
    """Pixel by pixel, from what each score saw, not cut at the image's border."""
    result = np.full(image_shape[:2], np.nan)
    ends = []
    for these in (rows, columns):
        centres = [(low + high) / 2 for low, high in these]
        half = (these[1][0] - these[0][0]) / 2 if len(these) > 1 else (these[0][1] - these[0][0]) / 2
        ends.append((centres, centres[0] - half, centres[-1] + half))
    for y in range(image_shape[0]):
        for x in range(image_shape[1]):
            weights = []
            for place, (centres, low, high) in zip((y + 0.5, x + 0.5), ends, strict=True):
                if not low <= place < high:
                    break
                if method == "cells":
                    # Of two centres equally near the later: the upper edge of a cell counts as inside.
                    near = min(range(len(centres)), key=lambda i: (abs(centres[i] - place), -i))
                    weights.append({near: 1.0})
                elif place <= centres[0]:
                    weights.append({0: 1.0})
                elif place >= centres[-1]:
                    weights.append({len(centres) - 1: 1.0})
                else:
                    i = max(i for i, centre in enumerate(centres) if centre <= place)
                    part = (place - centres[i]) / (centres[i + 1] - centres[i])
                    weights.append({i: 1 - part, i + 1: part})
            else:
                result[y, x] = sum(a * b * scores[i, j] for i, a in weights[0].items() for j, b in weights[1].items())
    return result


LAYOUTS = {
    # rows and columns before they are cut at the image's border, and the size of the image
    "stride 1, odd and even window": (spans(3, 5, 1), spans(4, 4, 1), (7, 7)),
    "coarser": (spans(3, 8, 4), spans(4, 6, 3), (18, 15)),
    "odd stride, odd window": (spans(2, 7, 5), spans(3, 9, 3), (14, 15)),
    "starts elsewhere": (spans(3, 6, 3, 4), spans(2, 6, 2, 11), (20, 21)),
    "one row": (spans(1, 6, 1, 2), spans(3, 4, 2), (9, 8)),
    "one score": (spans(1, 3, 1, 1), spans(1, 5, 1, 2), (5, 8)),
    "cut at all sides": (spans(4, 12, 4, -4), spans(3, 11, 6, -3), (16, 17)),
    "cells beyond the image": (spans(3, 4, 6, -3), spans(4, 10, 4, -4), (13, 14)),
}


@pytest.mark.parametrize("method", to_pixels.METHODS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_heat_map_against_loops(name, method):
    rows, columns, size = LAYOUTS[name]
    scores = draw(0, (len(rows), len(columns), 2))
    # A window lies in the image; what it sees may reach out of it.
    grid = grid_of(rows, columns)._replace(window=(1, 1))
    got = to_pixels.heat_map(scores, grid, (*size, 3), method)
    for k in range(2):
        same(got[..., k], by_loop(scores[..., k], rows, columns, size, method))
    same(to_pixels.heat_map(scores[..., 1], grid, size, method), got[..., 1])
    assert np.isfinite(got).any()


def test_heat_map_of_one_pixel_cells_is_the_scores():
    scores = np.arange(12.0).reshape(3, 4)
    for method in to_pixels.METHODS:
        got = to_pixels.heat_map(scores, grid_of(spans(3, 5, 1), spans(4, 5, 1)), (7, 8, 1), method)
        np.testing.assert_array_equal(got[2:5, 2:6], scores)  # the middle pixel of a window of five
        assert np.isnan(got).sum() == 7 * 8 - 12
        # An even window has no middle pixel; bilinear interpolates between centres that lie on the edges of pixels.
        got = to_pixels.heat_map(scores, grid_of(spans(3, 4, 1), spans(4, 4, 1)), (6, 7), method)
        assert np.isnan(got).sum() == 6 * 7 - 12
        if method == "cells":
            np.testing.assert_array_equal(got[1:4, 1:5], scores)


def test_heat_map_keeps_a_nan_to_itself():
    scores = draw(0, (3, 3))
    scores[1, 1] = np.nan
    got = to_pixels.heat_map(scores, grid_of(spans(3, 4, 4), spans(3, 4, 4)), (12, 12))
    assert np.isnan(got).sum() == 16 and np.isnan(got[4:8, 4:8]).all()


def test_heat_map_refuses_what_does_not_fit():
    grid = grid_of(spans(2, 4, 2), spans(3, 4, 2))
    with pytest.raises(ValueError, match=r"scores have shape \(3, 2\); a grid of 2x3 windows needs \(2, 3\) or"):
        to_pixels.heat_map(np.zeros((3, 2)), grid, (8, 8))
    with pytest.raises(ValueError, match="method .*'cubic'.*cells, bilinear"):
        to_pixels.heat_map(np.zeros((2, 3)), grid, (8, 8), "cubic")
    for function in (to_pixels.heat_map, to_pixels.class_map):
        with pytest.raises(TypeError, match=r"takes the grid of a map \(ScoreMap.grid"):
            function(np.zeros((2, 3, 1)), boxes_of(spans(2, 4, 2), spans(3, 4, 2)), (8, 8))


def test_a_map_carries_its_grid_also_where_every_box_is_cut():
    """Padded windows as large as nearly all of the image: cut boxes would not tell how far apart they are."""
    net = nets.net([Conv(4, 3, padding=1), MaxPool(2), Conv(5, 3, padding=1), Flatten(), Dense(3)])
    found = dense.score_map(net, make(net, (8, 8), 1), jnp.asarray(draw(0, (1, 10, 10, 1))), (8, 8), 1)
    assert found.boxes[1, 1].tolist() == found.boxes[0, 0].tolist() or found.boxes[1, 1].tolist() == [0, 0, 10, 10]
    assert (found.grid.stride, found.grid.size, found.grid.window) == ((1, 1), (3, 3), (8, 8))
    assert found.grid.offset == (-3, -3) and found.grid.seen == (14, 14)
    np.testing.assert_array_equal(found.grid.boxes((10, 10)), found.boxes)
    assert found.grid.window_boxes()[2, 1].tolist() == [2, 1, 10, 9]
    # Centres are those of the windows: of the even window's two middle pixels the first.
    heat = to_pixels.heat_map(np.asarray(found.scores)[0, ..., 0], found.grid, (10, 10))
    np.testing.assert_array_equal(heat[3:6, 3:6], found.scores[0, ..., 0])
    assert np.isnan(heat).sum() == 100 - 9


def a_map(scores, boxes):
    return dense.ScoreMap(jnp.asarray(scores), boxes, "both", "crops", dense.Grid((1, 1), (1, 1), (1, 1), (1, 1)))


def test_best_boxes_against_loops():
    scores, boxes = 5 * draw(0, (3, 4, 5, 6)), boxes_of(spans(4, 9, 2), spans(5, 7, 3))
    exponentials = np.exp(scores.astype(np.float64))
    values = {"logits": scores, "probabilities": exponentials / exponentials.sum(-1, keepdims=True)}
    for over, these in values.items():
        for class_index in (None, 0, 4):
            got = to_pixels.best_boxes(a_map(scores, boxes), class_index, over)
            for n in range(3):
                best = (-np.inf, 0, 0, 0)
                for i in range(4):
                    for j in range(5):
                        for k in range(6) if class_index is None else [class_index]:
                            if these[n, i, j, k] > best[0]:
                                best = (these[n, i, j, k], i, j, k)
                assert got.classes[n] == best[3]
                np.testing.assert_array_equal(got.boxes[n], boxes[best[1], best[2]])
                np.testing.assert_allclose(got.scores[n], best[0], rtol=1e-5)
            assert got.scores.dtype == np.float32


def test_best_boxes_tells_probabilities_apart_that_round_to_one():
    scores = np.zeros((1, 1, 3, 2), np.float32)
    scores[0, 0, :, 0] = [50, 90, 70]
    boxes = boxes_of(spans(1, 4, 1), spans(3, 4, 2))
    got = to_pixels.best_boxes(a_map(scores, boxes), over="probabilities")
    assert got.scores[0] == 1 and got.boxes[0].tolist() == [0, 2, 4, 6]
    # The largest logit need not be the largest probability.
    scores[0, 0, 1, 1] = 90
    assert to_pixels.best_boxes(a_map(scores, boxes)).boxes[0].tolist() == [0, 2, 4, 6]
    assert to_pixels.best_boxes(a_map(scores, boxes), over="probabilities").boxes[0].tolist() == [0, 4, 4, 8]


def test_best_boxes_says_what_it_takes():
    found = a_map(np.zeros((1, 2, 2, 3)), boxes_of(spans(2, 4, 1), spans(2, 4, 1)))
    wrong: Any
    for wrong in (3, -1, 1.0, True, "1", float("nan")):
        with pytest.raises(ValueError, match=r"class_index \(=.*\) must be a whole number from 0 to 2"):
            to_pixels.best_boxes(found, wrong)
    wrong = found.scores
    with pytest.raises(TypeError, match="takes a map .* not a .*Array"):
        to_pixels.best_boxes(wrong)
    with pytest.raises(ValueError, match="over .*'max'"):
        to_pixels.best_boxes(found, over="max")


@pytest.mark.parametrize("window, stride, size", [((5, 4), 1, (9, 7)), ((5, 4), 3, (14, 13)), ((4, 7), 2, (11, 7))])
def test_class_map_against_loops(window, stride, size):
    rows = spans((size[0] - window[0]) // stride + 1, window[0], stride)
    columns = spans((size[1] - window[1]) // stride + 1, window[1], stride)
    scores = draw(0, (len(rows), len(columns), 4))
    got = to_pixels.class_map(scores, grid_of(rows, columns), (*size, 3))
    assert got.dtype == np.int32 and got.shape == size
    for y in range(size[0]):
        for x in range(size[1]):
            wanted, nearest = [], []
            for place, these, extent, n in zip((y, x), (rows, columns), window, size, strict=True):
                start = place - (extent - 1) // 2
                wanted.append(0 <= start <= n - extent)
                distances = [abs(place + 0.5 - (low + high) / 2) for low, high in these]
                nearest.append(len(these) - 1 - int(np.argmin(distances[::-1])))
            assert got[y, x] == (scores[tuple(nearest)].argmax() if all(wanted) else -1)


def test_class_map_at_stride_one_is_the_centred_crops_class():
    """By the definition: cut out the window around a pixel, classify it."""
    net = nets.net([Conv(4, 3), Activation("tanh"), MaxPool(2), Flatten(), Dense(3)])
    for window in ((8, 8), (10, 8)):
        variables, image = make(net, window, 2), jnp.asarray(draw(0, (1, 15, 13, 2)))
        classify = jax.jit(lambda crop, variables=variables: net.apply(variables, crop, train=False).argmax())
        found = dense.score_map(net, variables, image, window, 1)
        got = to_pixels.class_map(np.asarray(found.scores[0]), found.grid, image.shape[1:])
        assert (got >= 0).sum() == found.boxes.shape[0] * found.boxes.shape[1]
        for y, x in np.argwhere(got >= 0)[::5]:
            y0, x0 = y - (window[0] - 1) // 2, x - (window[1] - 1) // 2
            crop = image[:, y0 : y0 + window[0], x0 : x0 + window[1]]
            assert got[y, x] == int(classify(crop))


@pytest.mark.parametrize("function", [to_pixels.heat_map, to_pixels.class_map])
def test_pictures_refuse_a_map_of_another_image(function):
    scores, grid = np.zeros((3, 3, 2)), grid_of(spans(3, 5, 2), spans(3, 5, 2))
    with pytest.raises(ValueError, match="last window, 4 to 9, ends beyond the image 8x9"):
        function(scores, grid, (8, 9))
    with pytest.raises(ValueError, match=r"image_shape \(=\(20, 30, 30, 3\)\) must .* images.shape\[1:\]"):
        function(scores, grid, (20, 30, 30, 3))  # of a batch: neither of its first two axes is the image's height
    for wrong in ((9,), 9, (9.0, 9.0), (0, 9)):
        with pytest.raises(ValueError, match=r"image_shape \(=.*\) must be"):
            function(scores, grid, wrong)


def test_class_map_takes_scores_of_every_class():
    with pytest.raises(ValueError, match=r"scores have shape \(3, 3\); a grid of 3x3 windows needs \(3, 3, K\)"):
        to_pixels.class_map(np.zeros((3, 3)), grid_of(spans(3, 5, 2), spans(3, 5, 2)), (9, 9))


def test_a_nan_window_has_no_class_and_is_never_the_best():
    scores = np.zeros((4, 4, 3), np.float32)
    scores[..., 1], scores[1, 1] = 1, np.nan
    grid = grid_of(spans(4, 7, 3), spans(4, 7, 3))
    classes = to_pixels.class_map(scores, grid, (16, 16))
    assert classes[6, 6] == -1 and classes[3, 3] == 1
    for over in ("logits", "probabilities"):
        best = to_pixels.best_boxes(a_map(scores[None], grid.boxes((16, 16))), over=over)
        assert best.classes.tolist() == [1] and best.boxes.tolist() == [[0, 0, 7, 7]]
        assert best.scores[0] == pytest.approx(1 if over == "logits" else np.e / (np.e + 2))
    # Of windows that are all -inf the first one known, also behind one that is not.
    scores[:] = -np.inf
    scores[0] = np.nan
    best = to_pixels.best_boxes(a_map(scores[None], grid.boxes((16, 16))))
    assert best.boxes.tolist() == [[3, 0, 10, 7]] and best.scores[0] == -np.inf
    none = to_pixels.best_boxes(a_map(np.full((1, 4, 4, 3), np.nan), grid.boxes((16, 16))))
    assert none.classes.tolist() == [-1] and none.boxes.tolist() == [[0, 0, 0, 0]] and np.isnan(none.scores[0])
    empty = to_pixels.best_boxes(a_map(np.zeros((0, 4, 4, 3)), grid.boxes((16, 16))))
    assert empty.boxes.shape == (0, 4) and empty.classes.shape == empty.scores.shape == (0,)


def test_infinite_scores_keep_their_order_and_reach_no_other_pixel():
    logs = outputs.log_probabilities(np.array([[0, np.inf, 1], [np.inf, np.inf, 0], [-np.inf] * 3, [0, -np.inf, 0]]))
    np.testing.assert_allclose(np.exp(logs), [[0, 1, 0], [0.5, 0.5, 0], [1 / 3] * 3, [0.5, 0, 0.5]], rtol=1e-15)
    scores = np.array([[1.0, np.inf, 2.0, np.nan, 3.0]])
    grid = grid_of(spans(1, 1, 1), spans(5, 5, 2))
    heat = to_pixels.heat_map(scores, grid, (1, 13), "bilinear")[0]
    # Windows are centred on pixels 2, 4, 6, ...; between them two scores count.
    np.testing.assert_array_equal(heat[1:11], [1, 1, np.inf, np.inf, np.inf, 2, np.nan, np.nan, np.nan, 3])


def test_averages_of_scores_that_are_not_finite():
    scores = np.zeros((3, 1, 2, 3), np.float32)
    scores[0, 0, 0, 1], scores[1, 0, 1, 2], scores[2, 0, 0, 0] = np.inf, -np.inf, np.nan
    np.testing.assert_allclose(dense.average(scores)[:2], [[1 / 6, 4 / 6, 1 / 6], [5 / 12, 5 / 12, 1 / 6]], rtol=1e-6)
    assert np.isnan(dense.average(scores)[2]).all()
    np.testing.assert_array_equal(dense.average(scores, "max"), [[0, np.inf, 0], [0, 0, 0], [np.nan, 0, 0]])
    np.testing.assert_array_equal(dense.average(scores, "logits"), [[0, np.inf, 0], [0, 0, -np.inf], [np.nan, 0, 0]])
    assert [dense.average(scores[:0], over).shape for over in ("probabilities", "logits", "max")] == [(0, 3)] * 3
    np.testing.assert_array_equal(dense.average([[[0, 0]]]), [[0.5, 0.5]])
    for wrong, error in ((np.zeros((2, 3), complex), TypeError), (np.zeros(3), ValueError), (["a"], TypeError)):
        with pytest.raises(error, match="scores"):
            dense.average(wrong)
    # The gradient is that of the softmax, where scores are finite.
    weights = jnp.array([[1.0, 2.0, 4.0]])
    of = [jax.jit(jax.grad(lambda x, f=f: (f(x) * weights).sum())) for f in (dense.average, jax.nn.softmax)]
    np.testing.assert_allclose(of[0](draw(0, (1, 3))), of[1](draw(0, (1, 3))), atol=1e-7)
