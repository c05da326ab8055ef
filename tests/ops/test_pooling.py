"""`cnn.ops.pooling`: counts, ties and extreme values; gradients are compared with PyTorch in test_layers_torch."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ops
from cnn.windows import Window, output_size


def test_window_counts():
    # 4 pixels, windows of 3 every 2 from -1: pixels -1..1, 1..3 and, hanging over, 3..5.
    window = Window((3, 1), (2, 1), ((1, 1), (0, 0)))
    size = output_size((4, 2), window, "ceil", "pool")
    counts = ops.window_counts((4, 2), window, size)
    np.testing.assert_array_equal(counts, np.array([2, 3, 1], np.float32)[None, :, None, None] * np.ones((1, 1, 2, 1)))


def test_counts_along_an_axis_are_those_of_a_walk():
    cases = itertools.product((1, 2, 5, 8), (1, 2, 3, 5), (1, 2, 4), (0, 1, 3), (0, 2), (1, 2, 3), (1, 4))
    for length, kernel, stride, low, high, dilation, size in cases:
        window = Window((kernel, 1), (stride, 1), ((low, high), (0, 0)), (dilation, 1))
        taps = [[i * stride - low + k * dilation for k in range(kernel)] for i in range(size)]
        expected = [sum(0 <= at < length for at in row) for row in taps]
        np.testing.assert_array_equal(ops.axis_counts(length, window, size, 0), expected)
        counted = [sum(at < length + high for at in row) for row in taps]
        with_padding = ops.window_counts((length, 1), window, (size, 1), with_padding=True)
        np.testing.assert_array_equal(with_padding[0, :, 0, 0], counted)


@pytest.mark.parametrize("count, channels", [(2, 12), (16, 3)])  # as they are, and as planes
@pytest.mark.parametrize(
    "window",
    [
        Window((2, 2), (2, 2)),
        Window((3, 2), (3, 2)),
        Window((6, 6), (6, 6)),  # more taps than are looked at one by one
        Window((2, 2), (3, 4)),  # pixels between windows
        Window((3, 3), (1, 1)),
        Window((4, 3), (2, 2), ((0, 2), (1, 0))),
        Window((3, 3), (2, 2), ((1, 1), (1, 1))),
        Window((2, 3), (1, 2), ((0, 0), (0, 1)), (2, 1)),
    ],
)
def test_the_first_of_equal_maxima_has_the_gradient(window, count, channels):
    """Row by row, as of `lax.reduce_window`: of four values only, so that most windows hold their maximum twice."""
    images = np.random.default_rng(0).integers(0, 4, (count, 12, 12, channels)).astype(np.float32)
    size = output_size((12, 12), window, "floor", "pool")
    weights = np.random.default_rng(1).integers(1, 100, (count, *size, channels)).astype(np.float32)
    expected = np.zeros(images.shape, np.float32)
    for n, a, b, c in np.ndindex(weights.shape):
        steps = itertools.product(range(window.kernel[0]), range(window.kernel[1]))
        (top, _), (left, _) = window.padding
        places = [
            (a * window.stride[0] - top + i * window.dilation[0], b * window.stride[1] - left + j * window.dilation[1])
            for i, j in steps
        ]
        inside = [place for place in places if min(place) >= 0 and max(place) < 12]
        expected[(n, *max(inside, key=lambda place: images[(n, *place, c)]), c)] += weights[n, a, b, c]

    def gradient(pool):
        return jax.jit(jax.grad(lambda x: (weights * pool(x)).sum()))(jnp.asarray(images))

    # Whole numbers below 2^24: sums are exact.
    np.testing.assert_array_equal(gradient(lambda x: ops.max_pool(x, window, size)), expected)
    if window.dilation == (1, 1):  # reduce_window has no gradient of dilated windows
        shape, strides = (1, *window.kernel, 1), (1, *window.stride, 1)
        padding = ((0, 0), *window.padding, (0, 0))
        plain = gradient(lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, shape, strides, padding))
        np.testing.assert_array_equal(plain, expected)


@pytest.mark.parametrize("value", [-np.inf, 0.0, -3.0e38])
def test_pools_of_extreme_values(value):
    x = jnp.full((1, 3, 3, 1), value, jnp.float32)
    window = Window((2, 2), (2, 2), ((1, 0), (1, 0)))
    for pool in (ops.max_pool, lambda x, *rest: ops.n_max_pool(x, *rest, 1)):
        np.testing.assert_array_equal(pool(x, window, (2, 2)), np.full((1, 2, 2, 1), value, np.float32))


@pytest.mark.parametrize("pool", [ops.max_pool, ops.average_pool, ops.sum_pool, lambda *a: ops.n_max_pool(*a, 2)])
def test_a_nan_of_either_sign_stays(pool):
    """The processor's own inf - inf is a NaN with a minus sign, which sorts below all numbers."""
    images = np.zeros((1, 2, 4, 1), np.float32)
    images[0, 0, 0], images[0, 1, 3] = np.nan, np.copysign(np.float32(np.nan), np.float32(-1))
    found = pool(jnp.asarray(images), Window((2, 2), (2, 2)), (1, 2))
    assert np.isnan(found).all()
