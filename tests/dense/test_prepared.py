"""What follows from net, window and channels is derived once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import dense, geometry, nets
from cnn.layers import Activation, AvgPool, Conv, Dense, Flatten, MaxPool
from cnn.windows import GeometryError
from tests.compilations import Compilations
from tests.made import random_variables


@pytest.fixture
def tables(monkeypatch):
    """Every call of `geometry.table`."""
    calls, table = [], geometry.table

    def counted(net, input_shape, variables=None):
        calls.append(tuple(input_shape))
        return table(net, input_shape, variables)

    monkeypatch.setattr(geometry, "table", counted)
    return calls


def test_a_score_map_walks_its_net_three_times_and_then_never(tables):
    """The classifier, the converted net, and the trained kernels; further maps walk none."""
    net = nets.net([Conv(3, 3, padding=1), MaxPool(2), Flatten(), Dense(7)])
    variables, images = random_variables(net, (8, 8), 1), jnp.ones((1, 16, 17, 1))
    tables.clear()
    dense.score_map(net, variables, images, (8, 8), 1)
    assert tables == [(8, 8, 1)] * 3
    tables.clear()
    dense.score_map(net, variables, images, (8, 8), 1)
    dense.score_map(net, variables, images[:, :15], (8, 8), 2, "mpf")
    assert tables == []


def test_a_prepared_net_is_shared_and_tells_what_it_is():
    net = nets.create("full_cnn")
    prepared = dense.prepare(net, 28, 1)
    assert prepared is dense.prepare(net, (28, 28), 1)
    assert prepared.native_stride == (4, 4) and prepared.padded and prepared.image_shape == (28, 28, 1)
    assert prepared.table.params == 421_642 and not prepared.position_invariant
    assert dense.prepare(net, 28, 1, position_invariant=True) is not prepared
    with pytest.raises(GeometryError, match="nearest that do"):
        dense.prepare(nets.create("qa_net"), 33, 1)


def test_images_of_new_sizes_compile_nothing_but_their_pass():
    """In tiles nothing at all: programs that are left behind for each size would fill the memory."""
    net = nets.net([Conv(3, 3), Activation("relu"), MaxPool(2), Flatten(), Dense(2)])
    variables = random_variables(net, (8, 8), 3)
    image = np.random.default_rng(0).normal(size=(60, 40, 3)).astype(np.float32)

    def whole(height):
        return dense.score_map(net, variables, image[None, :height], (8, 8)).scores

    def tiled(height):
        return dense.score_maps(net, variables, [image[:height]], (8, 8), tile=8)[0].scores

    for compute, programs in ((whole, 1), (tiled, 0)):
        compute(40)
        compute(41)
        for height in (45, 52):
            with Compilations() as counted:
                jax.block_until_ready(compute(height))
            assert counted.count == programs, (compute.__name__, height)


def test_the_callers_array_may_be_written_to_at_once():
    """Maps are computed later than the call returns; a device of the host may share memory with an array of NumPy."""
    net = nets.net([Conv(8, 9), Activation("relu"), AvgPool(4), Flatten(), Dense(2)])
    variables = random_variables(net, (16, 16), 3)
    image = np.random.default_rng(0).normal(size=(1, 300, 300, 3)).astype(np.float32)
    expected = np.asarray(dense.score_map(net, variables, image, (16, 16)).scores)
    for _ in range(5):
        given = image.copy()
        found = dense.score_map(net, variables, given, (16, 16)).scores
        given[:] = np.nan
        np.testing.assert_array_equal(found, expected)
