"""`cnn.ops.with_wide_sums`: gradients of half precision against sums in float64, through every kind of program."""

import jax
import jax.numpy as jnp
import numpy as np

from cnn import ops
from cnn.windows import Window
from tests.made import draw

X = draw(0, (512, 4, 4, 3))
KERNEL, MATRIX, BIAS = draw(1, (3, 3, 3, 16)), draw(2, (64, 4)), draw(3, (4,))


def loss(params, x):
    """A convolution by the records of `cnn.ops`, a product that is computed again, a sum in a loop."""
    half = {name: value.astype(jnp.bfloat16) for name, value in params.items()}
    maps = ops.convolution(x, half["kernel"], Window((3, 3)))
    flat = maps.reshape(len(x), -1)
    scores = jax.checkpoint(lambda flat, matrix: ops.product(flat, matrix))(flat, half["matrix"])
    scores, _ = jax.lax.scan(lambda values, _: (values + half["bias"][None], None), scores, length=1)
    return scores.astype(jnp.float32).sum()


def test_gradients_are_sums_in_float32():
    """All ones come back from the loss, so that each gradient is a sum of 512 or 2,048 terms that bfloat16 holds."""
    x = jnp.asarray(X).astype(jnp.bfloat16)
    params = {"kernel": KERNEL, "matrix": MATRIX, "bias": BIAS}

    def gradients(params, x):
        value, pull = jax.vjp(lambda params: loss(params, x), params)
        return ops.with_wide_sums(pull)(jnp.ones_like(value))[0]

    wide = jax.jit(gradients)(params, x)
    assert jax.tree.map(lambda leaf: leaf.dtype, wide) == jax.tree.map(lambda leaf: leaf.dtype, params)
    exact = np.asarray(x, np.float64)
    patches = np.lib.stride_tricks.sliding_window_view(exact, (3, 3), axis=(1, 2))  # [N, 2, 2, C, 3, 3]
    matrix = np.asarray(jnp.asarray(MATRIX).astype(jnp.bfloat16), np.float64)
    back = np.asarray(jnp.asarray(matrix.sum(axis=1)).astype(jnp.bfloat16), np.float64).reshape(2, 2, 16)
    kernel = np.einsum("nabcij,abk->ijck", patches, back)
    # The scale is that of the terms' absolute sum: 2,048 float32 additions round by about sqrt(2,048) / 2^24 of it.
    size = np.einsum("nabcij,abk->ijck", np.abs(patches), np.abs(back))
    assert (np.abs(wide["kernel"] - kernel) < 3e-6 * size).all()
    np.testing.assert_array_equal(wide["bias"], np.full(4, 512, np.float32))


def test_results_that_are_half_stay_half():
    x = jnp.asarray(X[:, 0, 0]).astype(jnp.bfloat16)
    found = jax.jit(ops.with_wide_sums(lambda x: {"products": x @ x.T, "sum": x.sum(axis=0), "same": x}))(x)
    assert {name: value.dtype for name, value in found.items()} == dict.fromkeys(found, jnp.bfloat16)
    np.testing.assert_array_equal(found["same"], x)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(np.asarray(found["products"], np.float64), exact @ exact.T, rtol=2**-8, atol=1e-6)
