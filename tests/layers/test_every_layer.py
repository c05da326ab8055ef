"""What every layer does alike: gradients against finite differences, bfloat16, and `train`, which must be given."""

import inspect
import math

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from cnn.layers import (
    LRN,
    AvgPool,
    BatchNorm,
    BlurPool,
    ChannelShuffle,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Gate,
    LocallyConnected,
    MaxPool,
    NMaxPool,
    PReLU,
    Scale,
)
from tests.made import apply, draw, shapes_of
from tests.reference import layers as reference
from tests.reference.activation_cases import all_activations

# Every kind of layer, with an input it takes.
EXAMPLES = {
    "conv": (Conv(4, (3, 2), stride=(2, 1), padding=1), (2, 5, 6, 3)),
    "conv edge": (Conv(3, 3, padding=((1, 2), (0, 1)), padding_mode="edge"), (2, 4, 5, 2)),
    "conv reflect": (Conv(3, 3, padding=2, padding_mode="reflect"), (2, 4, 5, 2)),
    "conv mean": (Conv(3, 3, padding=1, padding_mode="mean"), (2, 4, 5, 2)),
    "conv constant": (Conv(3, 3, padding=1, padding_mode="constant", padding_value=-0.5), (2, 4, 5, 2)),
    "conv groups": (Conv(4, 3, groups=2, dilation=(1, 2)), (2, 5, 6, 4)),
    "locally connected": (LocallyConnected(3, 3, stride=(1, 2), padding=((1, 0), (0, 0))), (2, 4, 5, 2)),
    "max pool": (MaxPool(3, stride=2, padding=1, rounding="ceil"), (2, 6, 7, 2)),
    "average pool": (AvgPool(3, stride=2, padding=1, rounding="ceil"), (2, 6, 7, 2)),
    "average pool counting padding": (
        AvgPool(3, stride=2, padding=1, rounding="ceil", count_padding=True),
        (2, 6, 7, 2),
    ),
    "n-max pool": (NMaxPool(3, stride=2, padding=1, rounding="ceil", n=3), (2, 6, 7, 2)),
    "blur pool": (BlurPool(3, 2, padding=1, padding_mode="reflect", rounding="floor"), (2, 6, 7, 2)),
    "channel shuffle": (ChannelShuffle(2), (2, 3, 4, 6)),
    "gate": (Gate(2), (2, 3, 4, 6)),
    "lrn": (LRN(alpha=0.1), (2, 3, 4, 6)),
    "batch norm": (BatchNorm(), (3, 3, 4, 2)),
    "prelu": (PReLU(), (3, 3, 4, 2)),
    "prelu of all channels": (PReLU(shared=True), (3, 3, 4, 2)),
    "scale": (Scale(), (3, 3, 4, 2)),
    "flatten": (Flatten("chw"), (2, 3, 4, 5)),
    "flatten random": (Flatten("random"), (2, 3, 4, 5)),
    "dense": (Dense(4), (3, 7)),
    **{
        " ".join(map(str, [layer.function, *fields.values()])): (layer, (2, 3, 4, 2))
        for layer, fields in all_activations()
    },
}


def spread(shape):
    """Values at least 0.02 apart and 0.01 from 0, in random order: no step of a finite difference meets a kink."""
    count = math.prod(shape)
    values = (np.arange(count) - count // 2 + 0.5) * 0.02
    return np.random.default_rng(5).permutation(values).reshape(shape)


def draw_variables(layer, shape):
    """Random float32 variables as `init` would shape them; positive, as one of them is a variance."""
    shapes = shapes_of(layer, shape)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes))
    return jax.tree.map(lambda leaf: np.abs(draw(7, leaf.shape)) + np.float32(0.1), shapes)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "lrn"])
def test_gradients_by_finite_differences(name):
    layer, shape = EXAMPLES[name]
    variables = draw_variables(layer, shape)
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        rest = {key: value for key, value in variables.items() if key != "params"}

        def output(params, x):
            return layer.apply({"params": params, **rest}, x, train=True, mutable=list(rest))[0]

        # Central differences in float64: errors of 1e-5^2 from the third derivative, and 1e-16 / 1e-5 from rounding.
        arguments = (variables.get("params", {}), jnp.asarray(spread(shape)))
        jax.test_util.check_grads(jax.jit(output), arguments, 1, ("rev",), atol=1e-8, rtol=1e-8, eps=1e-5)


def test_lrn_gradient_by_finite_differences_of_the_reference():
    # LRN computes in float32 whatever it is given; so the differences are taken of the float64 reference instead.
    x, cotangent = draw(0, (2, 3, 4, 7)), draw(1, (2, 3, 4, 7))
    gradient = jax.vjp(lambda x: apply(LRN(alpha=0.1), {}, x), x)[1](jnp.asarray(cotangent))[0]
    for seed in range(4):
        step = 1e-4 * draw(2 + seed, x.shape).astype(np.float64)
        ends = [reference.local_response_norm(x + side * step, 5, 2.0, 0.1, 0.75) for side in (1, -1)]
        expected = ((ends[0] - ends[1]) * cotangent).sum() / 2e-4
        actual = (np.asarray(gradient, np.float64) * step / 1e-4).sum()
        assert abs(actual - expected) < 1e-5 * np.sqrt(x.size)  # float32 rounding of 168 gradients of size about 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_bfloat16(name):
    layer, shape = EXAMPLES[name]
    x = jnp.asarray(spread(shape) % 1.9 - 0.9, jnp.bfloat16)
    variables = draw_variables(layer, shape)
    run = jax.jit(lambda x: layer.apply(variables, x, train=False))
    y, full = run(x), run(x.astype(jnp.float32))
    assert y.dtype == jnp.bfloat16 and full.dtype == jnp.float32
    # bfloat16 rounds at 2^-9 = 0.2 % of a value: parameters, products, the result. Ten such errors in a row make 2 %.
    np.testing.assert_allclose(np.asarray(y, np.float32), full, rtol=0, atol=0.02 * np.abs(full).max())


def test_train_has_no_default():
    for name, (layer, shape) in EXAMPLES.items():
        parameter = inspect.signature(type(layer).__call__).parameters["train"]
        assert parameter.default is inspect.Parameter.empty and parameter.kind is inspect.Parameter.KEYWORD_ONLY, name
        with pytest.raises(TypeError, match="train"):
            layer.apply({}, jnp.zeros(shape))
    with pytest.raises(TypeError, match="train"):
        Dropout(0.5).apply({}, jnp.zeros((2, 3)))
