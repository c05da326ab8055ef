"""Programs for other platforms, and for sizes that are not known: nothing in them depends on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import Mesh, PartitionSpec

from cnn import nets, ops
from cnn.layers import (
    ACTIVATIONS,
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    NMaxPool,
    PReLU,
    Scale,
    SumPool,
)
from cnn.windows import GeometryError, Window
from tests.made import draw, random_variables
from tests.registered import ACCELERATORS

# Layers that have an algorithm or a layout of their own on CPU, for images of these shapes.
LAYERS = {
    "batch norm": ((16, 6, 6, 3), [BatchNorm()]),
    "thin": ((16, 9, 8, 2), [Conv(3, 3), MaxPool(2, rounding="floor")]),
    "first layer": ((2, 8, 8, 3), [Conv(32, 3)]),
    "split batch": ((64, 4, 4, 16), [Conv(16, 3, padding=1)]),
    "winograd": ((2, 32, 32, 128), [Conv(128, 3, padding=1)]),
    "few channels, wide": ((16, 9, 8, 6), [Conv(16, 3), AvgPool(2, rounding="floor")]),
}


def with_gradient(net):
    def run(variables, images):
        def loss(params, images):
            y, statistics = net.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return jnp.sin(y).sum(), statistics

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], images)

    return run


def count(program, *operations):
    return [program.count(operation) for operation in operations]


@pytest.mark.parametrize("name", LAYERS)
def test_programs_for_accelerators_hold_no_algorithm_for_cpu(name, monkeypatch):
    shape, layers = LAYERS[name]
    net = nets.net(*layers)
    variables = random_variables(net, shape[1:3], shape[3])
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    programs = {}
    for plain in (False, True):
        with ops.use("plain" if plain else "fast"), monkeypatch.context() as patch:
            for asked in ("default_backend", "devices", "local_devices"):
                patch.setattr(jax, asked, None)  # whoever asks for the host's platform fails
            traced = jax.jit(with_gradient(net)).trace(variables, images)
            programs[plain] = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ACCELERATORS}
            programs[plain]["cpu"] = traced.lower(lowering_platforms=("cpu",)).as_text()
    operations = ("LayoutConstraint", "stablehlo.convolution", "stablehlo.dot_general", "stablehlo.transpose")
    for platform in ACCELERATORS:
        assert count(programs[False][platform], *operations) == count(programs[True][platform], *operations)
    assert programs[False]["cpu"] != programs[False]["cuda"]


@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "cuda", "tpu")])
def test_programs_for_cpu_are_exported(platforms):
    """No later XLA is bound to know a constraint on the layout; JAX refuses to export one."""
    net = nets.net(Conv(3, 3), BatchNorm(), MaxPool(2), Flatten(), Dense(2))
    variables, images = random_variables(net, (8, 8), 3), draw(0, (16, 8, 8, 3))
    run = jax.jit(with_gradient(net))
    exported = export.export(run, platforms=platforms)(variables, images)
    found, expected = exported.call(variables, images), run(variables, images)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
    assert "LayoutConstraint" not in exported.mlir_module()
    assert "LayoutConstraint" in run.lower(variables, images).as_text()


SYMBOLIC = {
    "conv, same, strided": [Conv(3, 3, stride=2, padding="same", rounding="floor")],
    "conv, reflected": [Conv(3, 3, padding=1, padding_mode="reflect")],
    "conv, dilated, 1x1": [Conv(3, 3, dilation=2), Conv(2, 1)],
    "max, left over": [MaxPool(3, rounding="floor")],
    "max, hanging over": [MaxPool(3, stride=2, padding=1, rounding="ceil")],
    "max, dilated": [MaxPool(2, stride=1, dilation=2)],
    "average, padded": [AvgPool(3, stride=2, padding=1, rounding="floor")],
    "sum": [SumPool(2, stride=1)],
    "average, padding counts": [AvgPool(3, stride=2, padding=1, rounding="ceil", count_padding=True), PReLU()],
    "constant padding": [Conv(4, 3, padding=1, padding_mode="constant", padding_value=0.5), Scale(), PReLU(True)],
    "n-max": [NMaxPool(2, n=2, stride=1)],
    "global": [MaxPool(None)],
    "global average": [AvgPool(None), Flatten(), Dense(2)],
    "pointwise": [BatchNorm(), LRN()],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SYMBOLIC)
def test_symbolic_sizes(name):
    net = nets.net(*SYMBOLIC[name])
    variables = random_variables(net, (9, 10), 3)

    def run(variables, images):
        value, of_images = jax.vjp(lambda x: net.apply(variables, x, train=False), images)
        return value, of_images(jnp.cos(value))[0]

    sizes = export.symbolic_shape("b, h, w, 3", constraints=("h >= 7", "w >= 7"))
    exported = export.export(jax.jit(run))(variables, jax.ShapeDtypeStruct(sizes, "float32"))
    for shape in ((2, 9, 10, 3), (17, 12, 7, 3)):
        images = draw(0, shape)
        for a, b in zip(exported.call(variables, images), run(variables, images), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


def test_a_size_that_does_not_divide_is_refused_when_the_program_is_called():
    net = nets.net(MaxPool(2))
    sizes = export.symbolic_shape("b, h, w, 3", constraints=("h >= 2", "w >= 2"))
    exported = export.export(jax.jit(lambda x: net.apply({}, x, train=False)))(jax.ShapeDtypeStruct(sizes, "float32"))
    images = draw(0, (1, 4, 6, 3))
    np.testing.assert_array_equal(exported.call(images), net.apply({}, images, train=False))
    with pytest.raises(ValueError, match="refin") as found:
        exported.call(draw(0, (1, 4, 5, 3)))
    text = f"{found.value} {found.value.__cause__}"
    assert "pool1 (max pool): width does not divide: (w - 2 + 0+0) / 2 + 1 is not whole" in text


def test_a_size_that_never_divides_or_may_be_too_small_is_refused_at_once():
    net = nets.net(MaxPool(2))
    run = jax.jit(lambda x: net.apply({}, x, train=False))
    with pytest.raises(GeometryError, match=r"height does not divide: \(2\*h \+ 1 - 2 \+ 0\+0\) / 2 \+ 1 is not whole"):
        export.export(run)(jax.ShapeDtypeStruct(export.symbolic_shape("b, 2*h + 1, 2*w, 3"), "float32"))
    with pytest.raises(GeometryError, match=r"kernel 2 is larger .* not known: height h .* constraints=\('h >= 32'"):
        export.export(run)(jax.ShapeDtypeStruct(export.symbolic_shape("b, h, w, 3"), "float32"))


SHARDED = {
    "thin": [Conv(4, 3), MaxPool(2)],
    "split batch": [Conv(16, 1), Conv(16, 3)],
    "winograd": [Conv(128, 3, padding=1), Conv(128, 3, padding=1), AvgPool(2)],
    "large product": [Flatten(), Dense(8192), Dense(128)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED)
def test_derivatives_where_jax_checks_over_which_devices_arrays_vary(name):
    layers = SHARDED[name]
    net = nets.net(*layers, *([] if isinstance(layers[-1], Dense) else [Flatten()]), Dense(2))
    variables, images = random_variables(net, (8, 8), 3), draw(0, (64, 8, 8, 3))
    mesh, alone, split = Mesh(np.array(jax.devices()[:1]), ("batch",)), PartitionSpec(), PartitionSpec("batch")

    def run(variables, images):
        loss = lambda variables, images: jnp.sin(net.apply(variables, images, train=False)).sum()  # noqa: E731
        along = jax.jvp(lambda images: net.apply(variables, images, train=False), (images,), (images,))[1]
        return *jax.grad(loss, argnums=(0, 1))(variables, images), along

    sharded = jax.shard_map(run, mesh=mesh, in_specs=(alone, split), out_specs=(alone, split, split), check_vma=True)
    found, expected = jax.jit(sharded)(variables, images), jax.jit(run)(variables, images)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.slow
def test_strict_promotion_and_64_bits():
    layers = [Conv(4, 3), BatchNorm(), LRN(), MaxPool(2), Conv(8, 1), AvgPool(3), NMaxPool(1, n=1), PReLU(), Scale()]
    counting = AvgPool(3, stride=1, padding=1, count_padding=True)
    filled = Conv(4, 3, padding=1, padding_mode="constant", padding_value=0.5)
    net = nets.net(*layers, counting, filled, Flatten(), Dense(2))
    variables = random_variables(net, (8, 8), 3)
    for wide in (False, True):
        for dtype in ("bfloat16", "float32", "float64")[: 2 + wide]:
            with jax.enable_x64(wide), jax.numpy_dtype_promotion("strict"):
                images = jax.ShapeDtypeStruct((16, 8, 8, 3), dtype)
                (value, _), gradient = jax.eval_shape(with_gradient(net), variables, images)
                assert value.dtype == gradient[1].dtype == dtype
                for function in ACTIVATIONS:
                    layer = Activation(function, low=0 if function == "clip" else None)
                    assert jax.eval_shape(lambda x, one=layer: one.apply({}, x, train=False), images).dtype == dtype


def test_window_counts_of_a_symbolic_size_are_those_of_its_value():
    window = Window((3, 3), (2, 2), ((1, 1), (1, 1)))
    run = jax.jit(lambda x: ops.window_counts(x.shape[1:3], window, ((x.shape[1] + 1) // 2, (x.shape[2] + 1) // 2)))
    sizes = export.symbolic_shape("1, h, w, 1", constraints=("h >= 2", "w >= 2"))
    exported = export.export(run)(jax.ShapeDtypeStruct(sizes, "float32"))
    expected = ops.window_counts((5, 6), window, (3, 3))
    np.testing.assert_array_equal(exported.call(jnp.zeros((1, 5, 6, 1))), expected)
