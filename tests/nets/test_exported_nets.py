"""Every registered net, exported on this host for other platforms, and for sizes that are not known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from cnn import convert, geometry, nets
from tests.made import draw, random_variables, shapes_of
from tests.registered import ACCELERATORS, NAMES, WINDOWS


def applied(net):
    return jax.jit(functools.partial(net.apply, train=False))


@pytest.mark.parametrize("name", NAMES)
def test_every_net_is_exported(name):
    window = WINDOWS[name]
    net = nets.create(name, num_classes=4)
    variables = shapes_of(net, (1, *window))
    (count,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((count, *window), jnp.float32)
    exported = export.export(applied(net), platforms=("cpu", *ACCELERATORS))(variables, images)
    assert exported.out_avals[0].shape == (count, 4)

    if geometry.first_centred(net.layers, geometry.table(net, window)):
        return  # its gates weigh whole windows, so that it has no form for other sizes
    converted = convert.convolutional(net, window)
    variables = shapes_of(converted, (1, *window))
    # Any size that is large enough, and sizes of which it is known that they divide: the second is the way to have all
    # other sizes refused by JAX itself.
    for text in ("b, h, w", f"b, 64*h + {window[0]}, 64*w + {window[1]}"):
        least = [f"{size} >= {n}" for size, n in zip("hw", window[:2], strict=True)] if text == "b, h, w" else []
        shape = (*export.symbolic_shape(text, constraints=least), window[2])
        exported = export.export(applied(converted), platforms=ACCELERATORS)(
            variables, jax.ShapeDtypeStruct(shape, jnp.float32)
        )
        assert exported.out_avals[0].shape[::3] == (shape[0], 4)
        assert "stablehlo.transpose" not in exported.mlir_module()


@pytest.mark.slow
@pytest.mark.parametrize("name, options", [("qa_net", {}), ("layer_pattern", {"norm": True}), ("sharing_net", {})])
def test_exported_for_any_size_the_values_are_the_nets(name, options):
    window = WINDOWS[name]
    net = nets.create(name, num_classes=4, **options)
    variables = random_variables(net, window[:2], window[2])
    converted, variables = convert.fc_to_conv(net, variables, window)
    least = [f"{size} >= {n}" for size, n in zip("hw", window[:2], strict=True)]
    sizes = (*export.symbolic_shape("b, h, w", constraints=least), window[2])
    images = jax.ShapeDtypeStruct(sizes, jnp.float32)
    exported = export.export(applied(converted), platforms=("cpu", "cuda"))(variables, images)
    for count, down, across in ((1, 0, 0), (17, 4, 8)):
        images = draw(0, (count, window[0] + down, window[1] + across, window[2]))
        found, expected = exported.call(variables, images), applied(converted)(variables, images)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
