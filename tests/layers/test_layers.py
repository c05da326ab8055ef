"""Each layer by value against the NumPy float64 reference, and what its docstring promises."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from cnn import layers
from cnn.layers import (
    LRN,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    LocallyConnected,
    MaxPool,
    NMaxPool,
    PReLU,
    Scale,
)
from cnn.windows import GeometryError
from tests.made import apply, draw
from tests.reference import layers as reference
from tests.reference.activation_cases import all_activations
from tests.reference.cases import CONVOLUTIONS, LOCAL, POOLS


def assert_close(actual, expected):
    """Equal up to float32 rounding.

    Sums here have at most 250 terms; each product and partial sum is rounded at 6e-8 of its size, and the errors are
    of random sign: about sqrt(250) * 6e-8 = 1e-6 of the largest value. 5e-6 leaves room for sums that cancel.
    """
    assert actual.dtype == jnp.float32
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-6 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv(name):
    size, channels, fields, expected = CONVOLUTIONS[name]
    layer = Conv(**{"features": 6, **fields})
    x = draw(0, (2, *size, channels))
    kernel, bias = draw(1, layer.kernel_shape(x.shape[1:])), draw(2, (layer.features,))
    y = apply(layer, {"kernel": kernel, "bias": bias}, x)
    assert_close(y, reference.convolution(x, kernel, bias, **expected))
    assert y.shape[1:] == layer.output_shape(x.shape[1:])
    without = apply(layer.clone(use_bias=False), {"kernel": kernel}, x)
    assert_close(without, reference.convolution(x, kernel, np.zeros(layer.features), **expected))


@pytest.mark.parametrize("name", LOCAL)
def test_locally_connected(name):
    size, channels, fields, expected = LOCAL[name]
    layer = LocallyConnected(4, **fields)
    x = draw(0, (2, *size, channels))
    shape = layer.output_shape(x.shape[1:])
    kernel, bias = draw(1, layer.kernel_shape(x.shape[1:])), draw(2, shape)
    y = apply(layer, {"kernel": kernel, "bias": bias}, x)
    window = layer.window(x.shape[1:]).kernel
    assert_close(y, reference.locally_connected(x, kernel, bias, window, **expected))
    without = apply(layer.clone(use_bias=False), {"kernel": kernel}, x)
    assert_close(without, reference.locally_connected(x, kernel, np.zeros(shape), window, **expected))


def test_locally_connected_with_equal_kernels_is_a_convolution():
    x, kernel, bias = draw(0, (2, 6, 7, 3)), draw(1, (3, 2, 3, 4)), draw(2, (4,))
    shared = apply(Conv(4, (3, 2)), {"kernel": kernel, "bias": bias}, x)
    column = kernel.transpose(2, 0, 1, 3).reshape(-1, 4)  # channel by channel, then down, then across
    params = {"kernel": np.tile(column, (4, 6, 1, 1)), "bias": np.tile(bias, (4, 6, 1))}
    assert_close(apply(LocallyConnected(4, (3, 2)), params, x), shared)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCAL)
def test_locally_connected_is_a_product_of_extracted_patches(name):
    """Values and gradients, against the patches that XLA extracts by a convolution."""
    size, channels, fields, _ = LOCAL[name]
    layer = LocallyConnected(4, use_bias=False, **fields)
    x = draw(0, (3, *size, channels))
    window, kernel = layer.window(x.shape[1:]), draw(1, layer.kernel_shape(x.shape[1:]))

    def plain(kernel, x):
        patches = jax.lax.conv_general_dilated_patches(
            x, *window[:3], rhs_dilation=window.dilation, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.einsum("nhwp,hwpk->nhwk", patches, kernel)

    def ours(kernel, x):
        return layer.apply({"params": {"kernel": kernel}}, x, train=False)

    found, backward = jax.vjp(ours, kernel, x)
    expected, plain_backward = jax.vjp(plain, kernel, x)
    assert_close(found, expected)
    weights = draw(2, found.shape)
    for ours_gradient, gradient in zip(backward(weights), plain_backward(weights), strict=True):
        assert_close(ours_gradient, gradient)


KINDS = {
    "max": (MaxPool, {}, max),
    "average": (AvgPool, {}, reference.mean),
    "2-max": (NMaxPool, dict(n=2), reference.n_largest_mean(2)),
    "3-max": (NMaxPool, dict(n=3), reference.n_largest_mean(3)),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools(name):
    size, fields, expected = POOLS[name]
    pools = {kind: make(**fields, **more) for kind, (make, more, _) in KINDS.items()}
    pools |= {"1-max": NMaxPool(n=1, **fields), "all-max": NMaxPool(n=math.prod(expected["kernel"]), **fields)}
    x = draw(0, (2, *size, 3), shift=-2.0)  # mostly negative: a padded zero that counted would win or weigh
    results = jax.jit(lambda x: {kind: layer.apply({}, x, train=False) for kind, layer in pools.items()})(x)
    for kind, (_, _, reduce) in KINDS.items():
        assert_close(results[kind], reference.pool(x, reduce, **expected))
        assert results[kind].shape[1:] == pools[kind].output_shape(x.shape[1:])
    assert_close(apply(AvgPool(count_padding=True, **fields), {}, x), reference.padded_mean_pool(x, **expected))
    np.testing.assert_array_equal(results["1-max"], results["max"])
    assert_close(results["all-max"], results["average"])


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
@pytest.mark.parametrize("fields", [{}, dict(size=1), dict(size=4, k=1.0, alpha=0.3, beta=0.5), dict(alpha=0.5)])
def test_lrn(channels, fields):
    x = draw(0, (2, 3, 4, channels)) * 3
    expected = reference.local_response_norm(x, **{"size": 5, "k": 2.0, "alpha": 1e-4, "beta": 0.75, **fields})
    assert_close(apply(LRN(**fields), {}, x), expected)


# Fields for the functions that take some, beside their defaults.


def test_activations():
    x = np.concatenate([draw(0, (2, 3, 5, 4)) * 3, np.zeros((2, 1, 5, 4), np.float32)], axis=1)
    cases = list(all_activations())
    assert {layer.function for layer, _ in cases} == set(layers.ACTIVATIONS) == set(reference.ACTIVATIONS)
    found = jax.jit(lambda x: [layer.apply({}, x, train=False) for layer, _ in cases])(x)
    for y, (layer, fields) in zip(found, cases, strict=True):
        expected = reference.activation(x, layer.function, **fields)
        assert y.dtype == jnp.float32 and layer.output_shape(x.shape[1:]) == x.shape[1:]
        # One rounding of each value or two, and the same of what cancels: the sum of -1 and an exponential.
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6, err_msg=str(layer))
    defaults = layers.Activation("hard_sigmoid", slope=1 / 6, offset=0.5)
    np.testing.assert_array_equal(apply(defaults, {}, x), apply(layers.Activation("hard_sigmoid"), {}, x))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            dict(function="relu", slope=0.1),
            "relu has no slope .=0.1., it takes no field; functions with a slope: le",
        ),
        (dict(function="elu", low=0), "elu has no low .=0., it takes slope; functions with a low: clip"),
        (dict(function="clip"), "clip takes low, high or both, and has none"),
        (dict(function="clip", low=2, high=1), "low .=2. must not be above high .=1."),
        (dict(function="celu", slope=0), "must not be 0"),
        (dict(function="elu", slope="2"), "slope .='2'. must be a finite number"),
        (dict(function="elu", slope=float("nan")), "slope .=nan. must be a finite number"),
        (dict(function="elu", slope=True), "slope .=True. must be a finite number"),
        (dict(function="elu", slope=(1, 2)), "must be a finite number"),
        (dict(function=7), "function .=7. is none of relu"),
        (dict(function=("relu",)), "is none of relu"),
        (dict(function="log_softmax"), "is none of relu"),
    ],
)
def test_activations_that_are_refused(fields, message):
    with pytest.raises(GeometryError, match=message):
        layers.Activation(**fields).output_shape((4, 4, 2))


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5, 6), (16, 3, 4, 2)])  # the last one in batch-last layout
def test_prelu_and_scale(shape):
    x, slope, scale, bias = draw(0, shape), *(draw(i, shape[-1:]) for i in (1, 2, 3))

    def run(x, slope, scale, bias):
        return (
            PReLU().apply({"params": {"slope": slope}}, x, train=False),
            PReLU(shared=True).apply({"params": {"slope": slope[:1]}}, x, train=False),
            Scale().apply({"params": {"scale": scale, "bias": bias}}, x, train=False),
            Scale(use_bias=False).apply({"params": {"scale": scale}}, x, train=False),
        )

    own, shared, scaled, without = jax.jit(run)(x, slope, scale, bias)
    assert_close(own, reference.prelu(x, slope))
    assert_close(shared, reference.prelu(x, slope[:1]))
    assert_close(scaled, reference.batch_norm(x, np.zeros_like(bias), np.ones_like(bias), scale, bias, 0.0))
    assert_close(without, reference.batch_norm(x, np.zeros_like(bias), np.ones_like(bias), scale, 0 * bias, 0.0))
    counts = [layer.param_count(shape[1:]) for layer in (PReLU(), PReLU(True), Scale(), Scale(False))]
    assert counts == [shape[-1], 1, 2 * shape[-1], shape[-1]]
    start = PReLU().init(jax.random.key(0), x, train=False)["params"]
    np.testing.assert_array_equal(start["slope"], np.full(shape[-1:], 0.25, np.float32))
    # The slope's gradient is that of the values below 0, whatever lies above.
    gradient = jax.grad(lambda s: PReLU().apply({"params": {"slope": s}}, np.abs(x) * np.inf, train=False).sum())(slope)
    np.testing.assert_array_equal(gradient, np.zeros_like(slope))


def test_a_word_is_no_flag():
    for layer, shape in (
        (AvgPool(count_padding="false"), (4, 4, 2)),
        (PReLU(shared="no"), (3,)),
        (Scale(use_bias=None), (3,)),
        (Conv(2, 3, use_bias="no"), (4, 4, 2)),
        (LocallyConnected(2, 3, use_bias=2), (4, 4, 2)),
        (Dense(2, use_bias=[]), (3,)),
    ):
        with pytest.raises(GeometryError, match="must be True or False"):
            layer.output_shape(shape)
    assert PReLU(shared=np.True_).param_count((4, 4, 3)) == AvgPool(count_padding=1).output_shape((2, 2, 1))[2] == 1


def test_padding_value_is_refused_without_its_mode():
    for fields, message in (
        (dict(padding_value=1.0), "padding_value .=1.0. is for padding_mode 'constant', and padding_mode is 'zero'"),
        (dict(padding_mode="constant", padding_value=np.nan), "must be a finite number"),
        (dict(padding_mode="constant", padding_value="1"), "must be a finite number"),
    ):
        with pytest.raises(GeometryError, match=message):
            Conv(2, 3, padding=1, **fields).output_shape((5, 5, 2))


def test_softmax_of_scores():
    x = draw(0, (3, 7)) * 5
    assert_close(nn.softmax(x), reference.softmax(x))


def test_dense():
    x, kernel, bias = draw(0, (3, 20)), draw(1, (20, 7)), draw(2, (7,))
    assert_close(apply(Dense(7), {"kernel": kernel, "bias": bias}, x), reference.dense(x, kernel, bias))
    without = apply(Dense(7, inputs=20, use_bias=False), {"kernel": kernel}, x)
    assert_close(without, reference.dense(x, kernel, np.zeros(7)))


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5, 6)])
def test_batch_norm(shape):
    layer = BatchNorm(momentum=0.8, epsilon=1e-3)
    x, channels = draw(0, shape, shift=1.5) * 2, shape[-1]
    scale, bias, mean = draw(1, (channels,)), draw(2, (channels,)), draw(3, (channels,))
    variance = draw(4, (channels,)) ** 2 + 0.5
    variables = {
        "params": {"norm": {"scale": scale, "bias": bias}},
        "batch_stats": {"norm": {"mean": mean, "var": variance}},
    }
    assert_close(layer.apply(variables, x, train=False), reference.batch_norm(x, mean, variance, scale, bias, 1e-3))
    y, updates = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    batch_mean, batch_variance = reference.batch_moments(x)
    assert_close(y, reference.batch_norm(x, batch_mean, batch_variance, scale, bias, 1e-3))
    # running = momentum * running + (1 - momentum) * batch, with the biased variance of the batch
    assert_close(updates["batch_stats"]["norm"]["mean"], 0.8 * mean + 0.2 * batch_mean)
    assert_close(updates["batch_stats"]["norm"]["var"], 0.8 * variance + 0.2 * batch_variance)


def test_dropout():
    x = np.full((100, 200), 3.0, np.float32)
    layer = Dropout(0.3)
    np.testing.assert_array_equal(apply(layer, {}, x), x)
    first, again, other = (
        np.asarray(layer.apply({}, x, train=True, rngs={"dropout": jax.random.key(seed)})) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_allclose(first[first != 0], 3.0 / 0.7, rtol=1e-6)  # one division in float32
    # 20,000 draws: the standard deviation of the share is sqrt(0.3 * 0.7 / 20,000) = 0.0032; five of them.
    assert abs((first == 0).mean() - 0.3) < 0.016
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)}), x)


@pytest.mark.parametrize(
    ("layer", "shape", "fan_in"),
    [
        (Conv(64, 3), (1, 8, 8, 16), 144),
        (Conv(64, 3, groups=4), (1, 8, 8, 16), 36),
        (LocallyConnected(8, 3), (1, 8, 8, 16), 144),  # one output value sees one kernel volume, as in a convolution
        (Dense(64), (1, 144), 144),
    ],
)
def test_initial_values(layer, shape, fan_in):
    key = jax.random.key(0, impl="rbg")  # compiles faster than the default
    params = jax.jit(lambda x: layer.init(key, x, train=False))(jnp.zeros(shape))["params"]
    # He et al. (2015): variance 2 / fan-in. 9,216 draws or more of a truncated normal: 5 standard errors are < 4 %.
    assert abs(float(params["kernel"].std()) / math.sqrt(2 / fan_in) - 1) < 0.04
    assert (params["bias"] == 0).all()
