"""The two orders of flattening: permutations of each other, in values and in the kernel of the next layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import nets
from tests.made import draw, random_variables, shapes_of


def permuted(params):
    """The qa_net's variables with the rows of fc1 in the order of the other way of flattening, and that order."""
    order = np.arange(150).reshape(5, 5, 6).transpose(2, 0, 1).ravel()  # place in "hwc" of each value of "chw"
    kernel = params["fc1"]["kernel"][order]
    return {**params, "fc1": {**params["fc1"], "kernel": kernel}}, order


def stages_of(order, params, images):
    net = nets.create("qa_net", flatten_order=order)
    return net.apply({"params": params}, images, train=False, method="activations")[1]


@pytest.mark.slow
def test_flattening_orders_are_permutations_of_each_other():
    images, params = draw(0, (4, 32, 32, 3)), random_variables(nets.create("qa_net"), (32, 32), 3)["params"]
    other, order = permuted(params)
    hwc, chw = stages_of("hwc", params, images), stages_of("chw", other, images)
    assert (hwc["flatten1"] != chw["flatten1"]).any()
    np.testing.assert_array_equal(hwc["flatten1"][:, order], chw["flatten1"])
    # Put back in one order before the product, everything after is the same to the bit.
    back = np.argsort(order)
    fc1 = chw["flatten1"][:, back] @ other["fc1"]["kernel"][back] + params["fc1"]["bias"][None]
    np.testing.assert_array_equal(fc1, hwc["fc1"])
    # The product of the permuted factors sums its 150 terms (and the bias) in another order: each of the two sums is
    # within 151 * 2^-24 * sum |x||w| of the exact one.
    bound = 2 * 151 * 2.0**-24 * (np.abs(hwc["flatten1"]) @ np.abs(params["fc1"]["kernel"]))
    assert (np.abs(hwc["fc1"] - chw["fc1"]) <= bound).all()
    np.testing.assert_allclose(chw["fc2"], hwc["fc2"], rtol=0, atol=1e-5 * np.abs(hwc["fc2"]).max())
    # Without the permutation of the kernel it is another function.
    assert (np.abs(stages_of("chw", params, images)["fc2"] - hwc["fc2"]) > 0.01).any()


@pytest.mark.slow
def test_flattening_orders_agree_to_the_bit_where_sums_are_exact():
    # Whole numbers below 2^24 add up without rounding, in any order.
    random = np.random.default_rng(0)
    images = jnp.asarray(random.integers(0, 4, size=(4, 32, 32, 3)), jnp.float32)
    shapes = shapes_of(nets.create("qa_net"), images.shape)["params"]
    params = jax.tree.map(lambda a: jnp.asarray(random.integers(-1, 2, size=a.shape), jnp.float32), shapes)
    other, _ = permuted(params)
    hwc, chw = stages_of("hwc", params, images), stages_of("chw", other, images)
    largest = max(float(jnp.abs(stage).max()) for stage in hwc.values())
    assert 100 < largest < 2**24
    np.testing.assert_array_equal(hwc["fc2"], chw["fc2"])
    assert len(np.unique(hwc["fc2"])) > 10
