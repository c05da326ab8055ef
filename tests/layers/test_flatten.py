"""Flattening in its three orders, and the permutation that each of them is."""

import numpy as np
import pytest

from cnn import layers
from cnn.layers import Flatten
from cnn.layers.pointwise import FLATTEN_ORDERS
from cnn.windows import GeometryError
from tests.made import apply, draw
from tests.reference import layers as reference


@pytest.mark.parametrize("order", ["hwc", "chw"])
def test_flatten(order):
    x = draw(0, (2, 3, 4, 5))
    np.testing.assert_array_equal(apply(Flatten(order), {}, x), reference.flatten(x, order))


@pytest.mark.parametrize("order", FLATTEN_ORDERS)
def test_flatten_permutation_is_what_flatten_does(order):
    x = draw(0, (3, 4, 5, 6))
    permutation = layers.flatten_permutation(order, (4, 5, 6))
    places = np.arange(120) if permutation is None else permutation
    assert np.array_equal(np.sort(places), np.arange(120))
    np.testing.assert_array_equal(apply(Flatten(order), {}, x), x.reshape(3, -1)[:, places])


def test_random_order_does_not_move():
    """Trained kernels depend on it: it must be the same in every run, and whatever the shape of so many values."""
    frozen = [0, 11, 8, 10, 2, 3, 9, 4, 1, 5, 6, 7]
    for shape in ((2, 2, 3), (12, 1, 1), (1, 3, 4)):
        assert layers.flatten_permutation("random", shape).tolist() == frozen
    large = layers.flatten_permutation("random", (7, 7, 64))
    assert large[:8].tolist() == [300, 610, 1322, 522, 154, 551, 389, 397]
    # No order is left in it: neither the pixels' nor the maps' (three standard deviations of the correlation of none).
    by_map = np.argsort(layers.flatten_permutation("chw", (7, 7, 64)))  # where each place stands in "chw"
    for places in (large, by_map[large]):
        assert abs(np.corrcoef(places, np.arange(3136))[0, 1]) < 3 / 3136**0.5
    with pytest.raises(GeometryError, match=r"flatten_permutation: order \(='whc'\) must be one of hwc, chw, random"):
        layers.flatten_permutation("whc", (2, 2, 3))


def test_flatten_map_by_map_as_drawn():
    maps = np.arange(18, dtype=np.float32).reshape(2, 3, 3)  # two 3x3 maps, numbered in the order of the drawing
    x = maps.transpose(1, 2, 0)[None]
    np.testing.assert_array_equal(apply(Flatten("chw"), {}, x)[0], np.arange(18))
    np.testing.assert_array_equal(apply(Flatten("hwc"), {}, x)[0, :4], [0, 9, 1, 10])
