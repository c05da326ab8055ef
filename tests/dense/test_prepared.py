"""What follows from net, window and channels is derived once."""

import jax.numpy as jnp
import pytest

from cnn import dense, geometry, nets
from cnn.layers import Conv, Dense, Flatten, MaxPool
from cnn.windows import GeometryError
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
