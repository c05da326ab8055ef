"""`nets.init`: the variables that a net's own `init` makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import geometry, nets
from cnn.layers import Activation, BatchNorm, Conv, Dense, Flatten

NET = nets.net(Conv(4, 3), BatchNorm(), Activation(), Flatten(), Dense(3))


@pytest.mark.slow  # by the optimisations that users have; the fast part compiles with fewer
def test_the_same_bits_as_the_net_s_own_init():
    expected = NET.init(jax.random.key(7), jnp.zeros((1, 6, 5, 2)), train=False)
    variables = nets.init(NET, (6, 5, 2), seed=7)
    assert type(variables) is dict and set(variables) == {"params", "batch_stats"}
    jax.tree.map(np.testing.assert_array_equal, variables, dict(expected))


def test_seeds_differ_and_each_call_gives_a_dict_of_its_own():
    first, second = nets.init(NET, (6, 5, 2)), nets.init(NET, (6, 5, 2))
    del first["params"]
    assert "params" in second
    other = nets.init(NET, (6, 5, 2), seed=1)
    assert (second["params"]["conv1"]["kernel"] != other["params"]["conv1"]["kernel"]).any()


def test_an_image_that_is_too_small_is_named():
    with pytest.raises(geometry.GeometryError, match="conv1"):
        nets.init(NET, (2, 5, 2))
