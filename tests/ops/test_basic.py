"""`cnn.ops`: padding, and normalisation in half precision."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnn.ops import basic
from tests.made import draw


@pytest.mark.parametrize("mode", basic.PADDING_MODES)
def test_pad_is_numpys(mode):
    x = draw(0, (2, 5, 4, 3))
    padding = ((2, 1), (0, 3))
    expected = np.pad(x, ((0, 0), *padding, (0, 0)), mode="constant" if mode == "zero" else mode)
    np.testing.assert_allclose(
        basic.pad(jnp.asarray(x), padding, mode), expected, rtol=0, atol=1e-6
    )  # means in float32
    assert basic.pad(jnp.asarray(x, jnp.bfloat16), padding, mode).dtype == jnp.bfloat16


def test_padding_of_a_small_image_by_hand():
    x = jnp.arange(1.0, 7.0).reshape(1, 2, 3, 1)  # 1 2 3 / 4 5 6
    rows = {
        "zero": [[0, 0, 0, 0], [0, 1, 2, 3], [0, 4, 5, 6]],
        "edge": [[1, 1, 2, 3], [1, 1, 2, 3], [4, 4, 5, 6]],
        "reflect": [[5, 4, 5, 6], [2, 1, 2, 3], [5, 4, 5, 6]],
        "mean": [[3.5, 2.5, 3.5, 4.5], [2, 1, 2, 3], [5, 4, 5, 6]],
    }
    for mode, expected in rows.items():
        np.testing.assert_array_equal(basic.pad(x, ((1, 0), (1, 0)), mode)[0, :, :, 0], expected)


def test_lrn_of_half_precision_is_computed_in_float32():
    # 300^2 overflows float16 (65,504): squared in half precision the result would be 0.
    x = jnp.full((1, 1, 1, 3), 300.0, jnp.float16)
    y = basic.local_response_norm(x, 3, 1.0, 1.0, 0.5)
    assert y.dtype == jnp.float16
    expected = 300 / np.sqrt(1 + 90_000 * np.array([2.0, 3.0, 2.0]))
    np.testing.assert_allclose(np.asarray(y[0, 0, 0], np.float32), expected, rtol=2**-11)  # the rounding of float16
