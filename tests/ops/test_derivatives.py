"""Every derivative that JAX has works for every layer and net, and equals that of XLA's plain forms, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import geometry, nets, ops
from cnn.layers import (
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    LocallyConnected,
    MaxPool,
    NMaxPool,
    PReLU,
    Scale,
    SumPool,
)
from cnn.windows import Window
from tests.made import random_variables

LAYERS = {
    "conv, direct in batch-last layout": ((16, 9, 8, 2), [Conv(3, 3)]),
    "conv, direct in batch-last layout, strided": ((16, 9, 9, 2), [Conv(3, 3, stride=2)]),
    "conv, direct": ((2, 9, 8, 2), [Conv(3, 3)]),
    "conv, first layer": ((2, 8, 8, 3), [Conv(32, 3, padding="same")]),
    "conv, first layer, strided": ((2, 9, 9, 1), [Conv(32, 3, stride=2)]),
    "conv, padded channels": ((2, 8, 7, 6), [Conv(16, 3)]),
    "conv, split batch": ((64, 4, 4, 16), [Conv(16, 3, padding=1)]),
    "conv, winograd": ((2, 32, 32, 128), [Conv(128, 3, padding="same")]),
    "conv, smaller than the kernel": ((2, 2, 2, 12), [Conv(16, 3, padding=1)]),
    "conv, groups and dilation": ((2, 9, 9, 8), [Conv(8, 3, groups=2, dilation=2)]),
    "conv, reflected": ((2, 8, 8, 12), [Conv(12, 3, padding=1, padding_mode="reflect")]),
    "conv, filled": ((2, 8, 8, 12), [Conv(12, 3, padding=1, padding_mode="constant", padding_value=0.5)]),
    "conv, position invariant": ((16, 9, 8, 2), [Conv(3, 3, position_invariant=True)]),
    "locally connected": ((2, 7, 7, 2), [LocallyConnected(3, 3)]),
    "max pool": ((2, 8, 8, 9), [MaxPool(2)]),
    "max pool, batch-last layout": ((16, 8, 8, 3), [MaxPool(2)]),
    "max pool, overlapping and padded": ((2, 9, 9, 9), [MaxPool(3, stride=2, padding=1)]),
    "max pool, dilated": ((2, 9, 9, 9), [MaxPool(2, stride=1, dilation=2)]),
    "max pool, large": ((2, 9, 9, 9), [MaxPool(7, stride=1)]),
    "average pool": ((16, 8, 8, 3), [AvgPool(2)]),
    "average pool, padded": ((2, 9, 9, 9), [AvgPool(3, stride=2, padding=1)]),
    "average pool, padding counts": (
        (16, 8, 9, 3),
        [AvgPool(3, stride=2, padding=1, rounding="ceil", count_padding=True)],
    ),
    "sum pool": ((2, 9, 9, 9), [SumPool(3, stride=1)]),
    "n-max pool": ((2, 8, 8, 3), [NMaxPool(2, n=2)]),
    "lrn": ((2, 5, 5, 7), [LRN()]),
    "batch norm": ((16, 5, 5, 3), [BatchNorm()]),
    "prelu and scale": ((2, 5, 5, 3), [PReLU(), Scale()]),
    "prelu and scale, batch-last layout": ((16, 5, 5, 3), [PReLU(), Scale(), PReLU(shared=True)]),
    "dropout": ((2, 5, 5, 3), [Dropout(0.3)]),
    "activation": ((16, 5, 5, 3), [Activation("tanh")]),
    "activations": (
        (2, 5, 5, 3),
        [*(Activation(f) for f in ("gelu_exact", "mish", "celu", "selu", "hard_swish")), Activation("elu", slope=0.5)],
    ),
    "dense, large": ((2, 4, 4, 64), [Flatten("chw"), Dense(1024)]),
}


def narrow(net):
    """A net with fully connected layers of at most 128 outputs: float64 of 4096 by 4096 weights takes minutes."""
    return nets.net(
        *(
            layer.clone(features=128) if isinstance(layer, Dense) and layer.features > 128 else layer
            for layer in net.layers
        )
    )


NETS = {
    "qa_net": (nets.create("qa_net"), (16, 32, 32, 3)),
    "full_cnn": (nets.create("full_cnn"), (64, 12, 12, 1)),
    "lenet5": (nets.create("lenet5"), (16, 32, 32, 1)),
    "alexnet": (narrow(nets.create("alexnet", num_classes=5)), (1, 67, 67, 3)),
    "vgg11": (nets.create("vgg11", num_classes=5, width=128), (1, 32, 32, 3)),
    "giusti_n4": (nets.create("giusti_n4"), (1, 95, 95, 1)),
    "sharing_net": (nets.create("sharing_net"), (2, 28, 28, 1)),
    "layer_pattern": (nets.create("layer_pattern", norm=True), (16, 16, 16, 3)),
}


def derivatives(net, variables, images, weights, kinds):
    """Derivatives of one number, by kind: of its value along two directions in the parameters and the images."""
    rest = {name: value for name, value in variables.items() if name != "params"}
    params = variables["params"]
    rng = np.random.default_rng(2)
    # As large as what they are directions of: a net whose weights are many times as large has an output that is, and of
    # its sine the last digits alone would be left.
    first, second = (
        jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) * jnp.sqrt(jnp.mean(leaf**2)), (params, images))
        for _ in range(2)
    )

    def loss(params, images):
        # A curved function of the output, so that a second derivative in the output matters.
        return (jnp.sin(net.apply({"params": params, **rest}, images, train=False)) * weights).sum()

    def along(t):
        moved = jax.tree.map(lambda x, a, b: x + t[0] * a + t[1] * b, (params, images), first, second)
        return loss(*moved)

    zero = jnp.zeros(2)
    gradient = jax.grad(loss, argnums=(0, 1))

    def slope(params, images):
        products = jax.tree.map(lambda g, a: (g * a).sum(), gradient(params, images), first)
        return sum(jax.tree.leaves(products))

    two = jax.tree.map(lambda x, a: jnp.stack([x, x + 0.1 * a]), params, first[0])
    by_kind = {
        "value": lambda: loss(params, images),
        "grad": lambda: gradient(params, images),
        "jvp": lambda: jax.jvp(loss, (params, images), first)[1],
        "linearize": lambda: jax.linearize(loss, params, images)[1](*second),
        "jacfwd": lambda: jax.jacfwd(along)(zero),
        "hessian": lambda: jax.hessian(along)(zero),
        "grad of grad": lambda: jax.grad(slope, argnums=(0, 1))(params, images),
        "checkpoint": lambda: jax.grad(jax.checkpoint(loss))(params, images),
        "vmap": lambda: jax.vmap(loss, in_axes=(0, None))(two, images),
        "vmap of grad": lambda: jax.vmap(jax.grad(loss), in_axes=(0, None))(two, images),
        "vmap of images": lambda: jax.vmap(lambda x: loss(params, x))(jnp.stack([images, images + 0.1 * first[1]])),
    }
    return {kind: by_kind[kind]() for kind in kinds}


KINDS = (
    "value",
    "grad",
    "jvp",
    "linearize",
    "jacfwd",
    "hessian",
    "grad of grad",
    "checkpoint",
    "vmap",
    "vmap of grad",
    "vmap of images",
)
# Whole nets are compiled for these, one of each idea, and for the others only traced: compiling all of them takes ten
# minutes, most of it for the gradient of a gradient. Every layer, and `lenet5`, has the values of all; the nets whose
# layers all stand in another net are traced alone.
OF_NETS = dict.fromkeys(NETS, ("value", "grad", "jvp", "hessian", "vmap of grad"))
OF_NETS |= {"lenet5": KINDS, "vgg11": (), "giusti_n4": (), "sharing_net": ()}


def check(net, shape, kinds=KINDS):
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), random_variables(net, shape[1:3], shape[3]))
        images = rng.normal(size=shape)
        output = jax.eval_shape(functools.partial(net.apply, train=False), variables, images)
        weights = rng.normal(size=output.shape)
        others = tuple(kind for kind in KINDS if kind not in kinds)
        shapes = jax.eval_shape(lambda *given: derivatives(net, *given, weights, others), variables, images)
        assert set(shapes) == set(others)
        run = jax.jit(lambda variables, images: derivatives(net, variables, images, weights, kinds))
        fast = run(variables, images)
        with ops.plain():
            plain = run(variables, images)
        for name in plain:
            for a, b in zip(jax.tree.leaves(fast[name]), jax.tree.leaves(plain[name]), strict=True):
                assert a.dtype == b.dtype == jnp.float64
                # Sums in another order, in float64: some 1e-16 of the largest term at each of up to 1e6 terms.
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max(), err_msg=name)
            assert any(np.any(leaf) for leaf in jax.tree.leaves(plain[name])) or name == "hessian", name


QUICK = ("conv, split batch", "max pool, batch-last layout", "average pool, padded", "lrn")


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in LAYERS])
def test_layers(name):
    """A layer without parameters stands behind one that has some."""
    shape, layers = LAYERS[name]
    before = [] if geometry.table(nets.net(*layers), shape[1:]).params else [Conv(shape[3], 1)]
    check(nets.net(*before, *layers), shape)


@pytest.mark.long
@pytest.mark.parametrize("name", NETS)
def test_nets(name):
    check(*NETS[name], kinds=OF_NETS[name])


def custom_operations(net, shape):
    """Names of what is no operation of JAX's own, in a net's output and gradient."""
    variables = random_variables(net, shape[1:3], shape[3])

    def loss(params, images):
        return net.apply({**variables, "params": params}, images, train=False).sum()

    found = set()

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            found.add(equation.primitive.name)
            for value in equation.params.values():
                for inner in value if isinstance(value, (tuple, list)) else [value]:
                    inner = getattr(inner, "jaxpr", inner)
                    if hasattr(inner, "eqns"):
                        walk(inner)

    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    walk(jax.make_jaxpr(loss)(variables["params"], image).jaxpr)
    walk(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(variables["params"], image).jaxpr)
    return found & {"linear", "platform_index", "memory_order", "fitted"}


@pytest.mark.parametrize("name", NETS)
def test_within_plain_nothing_custom_is_traced(name):
    net, shape = NETS[name]
    assert "linear" in custom_operations(net, shape) or name in ("sharing_net",)
    with ops.plain():
        assert custom_operations(net, shape) == set()


def test_a_jitted_function_is_traced_again_within_plain():
    """The choice is part of the keys under which compiled programs are kept."""
    traced = []

    @jax.jit
    def run(images):
        traced.append(ops.is_plain())
        return ops.max_pool(images, Window((2, 2), (2, 2)), (2, 2))

    images = jnp.arange(32.0).reshape(2, 4, 4, 1)
    for _ in range(2):
        run(images)
        with ops.plain():
            run(images)
    assert traced == [False, True]
    with pytest.raises(ValueError, match=r"ops \(='slow'\) must be one of fast, plain"), ops.use("slow"):
        pass
