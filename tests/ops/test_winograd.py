"""Winograd's form of wide convolutions: equal to the plain one in value and gradient; used where it may be."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnn import convert, geometry, nets, ops
from cnn.layers import Conv, Dense, Flatten
from cnn.ops import winograd
from cnn.windows import Window
from tests.made import draw, random_variables, shapes_of

SAME = ((1, 1), (1, 1))


def plain64(images, kernel, padding):
    """Written out in float64, tap by tap."""
    images = np.pad(images.astype(np.float64), ((0, 0), *padding, (0, 0)))
    rows, columns = images.shape[1] - 2, images.shape[2] - 2
    return sum(
        np.einsum("nyxc,ck->nyxk", images[:, i : i + rows, j : j + columns], kernel[i, j].astype(np.float64))
        for i in range(3)
        for j in range(3)
    )


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (3, 4), (5, 3)])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), SAME, ((2, 0), (1, 2)), ((0, 1), (2, 2))])
def test_equals_the_definition(size, padding):
    images, kernel = draw(0, (2, *size, 20)), draw(1, (3, 3, 20, 7))
    expected = plain64(images, kernel, padding)
    got = winograd.convolution(jnp.asarray(images), jnp.asarray(kernel), Window((3, 3), padding=padding))
    assert got.shape == expected.shape and got.dtype == jnp.float32
    # Sums of 180 products, and of 16 such sums: some 1e-7 of the largest value; XLA's convolution differs as much.
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), SAME, ((2, 0), (1, 2))])
def test_gradients_are_the_plain_ones(padding):
    window = Window((3, 3), padding=padding)
    images, kernel = jnp.asarray(draw(0, (24, 9, 8, 128))), jnp.asarray(draw(1, (3, 3, 128, 136)))
    assert ops.algorithm_for(ops.shapes_of(images.shape, kernel.shape, window, 1, False)).name == "winograd"

    def plain(images, kernel):
        return lax.conv_general_dilated(
            images, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
        )

    def fast(images, kernel):
        return ops.convolution(images, kernel, window, position_invariant=False)

    def gradients(function):
        y, transposed = jax.vjp(function, images, kernel)
        return y, *transposed(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

    for got, expected in zip(jax.jit(gradients, static_argnums=0)(fast), gradients(plain), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=5e-6 * np.abs(expected).max())


def test_where_it_is_used():
    def how(images, kernel, window, groups=1, position_invariant=False):
        return ops.algorithm_for(ops.shapes_of(images, kernel, window, groups, position_invariant)).name

    wide, images = (3, 3, 128, 128), (4, 16, 16, 128)
    assert winograd.tiles(images, Window((3, 3), padding=SAME)) == 256
    assert winograd.tiles((2, 7, 4, 1), Window((3, 3), padding=((0, 1), (0, 0)))) == 2 * 3 * 1
    assert how(images, wide, Window((3, 3), padding=SAME)) == "winograd"
    assert how(images, wide, Window((3, 3), padding=SAME), position_invariant=True) == "xla"
    assert how((3, 16, 16, 128), wide, Window((3, 3), padding=SAME)) == "xla"  # 192 tiles
    assert how(images, (3, 3, 128, 127), Window((3, 3), padding=SAME)) == "xla"
    assert how(images, (3, 3, 64, 128), Window((3, 3), padding=SAME), groups=2) == "xla"
    assert how(images, wide, Window((3, 3), (2, 1), SAME)) == "xla"
    assert how(images, wide, Window((3, 3), (1, 1), SAME, (1, 2))) == "xla"
    assert how((4, 19, 16, 128), wide, Window((3, 3), padding=((3, 0), (1, 1)))) == "xla"
    assert how((64, 512, 512, 128), wide, Window((3, 3), padding=SAME)) == "xla"  # its transforms would be 64 GiB
    assert how(images, (3, 2, 128, 128), Window((3, 2))) == "extra_row"


@pytest.mark.parametrize(
    "shape, features, padding",
    [((1, 56, 56, 128), 128, "same"), ((8, 28, 28, 256), 256, "same"), ((4, 57, 57, 128), 256, "valid")],
)
def test_workspace_is_xlas(shape, features, padding):
    """Against the compiler's own count: never less, and at most half as much again."""
    layer = Conv(features, 3, padding=padding)
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = shapes_of(layer, images.shape)
    compiled = jax.jit(lambda v, x: layer.apply(v, x, train=False)).lower(variables, images).compile()
    found = compiled.memory_analysis().temp_size_in_bytes
    assert found <= 4 * layer.workspace(shape[1:], shape[0]) <= 1.5 * found
    assert found > 4 * shape[0] * (math.prod(shape[1:]) + math.prod(layer.output_shape(shape[1:])))


def test_workspace_is_of_the_form_that_is_used():
    wide = Conv(128, 3, padding="same")
    tile, kernel = 16 * 128 + 4 * 128, 2 * 16 * 128 * 128
    assert wide.workspace((16, 16, 128), images=4) == 256 * tile + kernel
    assert wide.workspace((16, 16, 128), images=3) == 0  # 192 tiles: plain
    assert wide.workspace((32, 32, 128)) == 256 * tile + kernel
    assert wide.clone(position_invariant=True).workspace((32, 32, 128)) == 0
    large = Conv(8, 5, padding="same")  # larger than the image: patches, taken apart and joined
    assert large.workspace((3, 4, 6)) == 2 * 3 * 4 * 5 * 5 * 6
    assert large.workspace((3, 4, 6), images=7) == 7 * large.workspace((3, 4, 6))


def test_half_precision_takes_the_plain_form():
    images, kernel = jnp.zeros((4, 16, 16, 128), jnp.bfloat16), jnp.zeros((3, 3, 128, 128), jnp.bfloat16)

    def convolve(images, kernel):
        return ops.convolution(images, kernel, Window((3, 3), padding=SAME), position_invariant=False)

    for cast, convolution in ((jnp.bfloat16, True), (jnp.float32, False)):
        traced = jax.jit(convolve).trace(images.astype(cast), kernel.astype(cast))
        assert ("convolution" in traced.lower(lowering_platforms=("cpu",)).as_text()) == convolution
        assert "stablehlo.convolution" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.slow
def test_dense_nets_round_alike_everywhere():
    """The converted net's map of a part of an image is, to the bit, a part of its map, at odd places too."""
    net = nets.net([Conv(128, 3, padding="valid"), Conv(128, 3), Flatten(), Dense(3)])
    window = (10, 10, 2)
    converted = convert.convolutional(net, window)
    assert [layer.position_invariant for layer in converted.layers if isinstance(layer, Conv)] == [True] * 3
    assert [layer.position_invariant for layer in net.layers if isinstance(layer, Conv)] == [False] * 2
    free = convert.convolutional(net, window, position_invariant=False)
    assert not any(layer.position_invariant for layer in free.layers if isinstance(layer, Conv)) and str(free) == str(
        converted
    )
    variables = random_variables(net, window[:2], 2)
    conv_net, conv_variables = convert.fc_to_conv(net, variables, window)
    images = jnp.asarray(draw(5, (1, 48, 48, 2)))
    whole = np.asarray(conv_net.apply(conv_variables, images, train=False))
    part = np.asarray(conv_net.apply(conv_variables, images[:, 1:46, 3:48], train=False))
    np.testing.assert_array_equal(part, whole[:, 1:37, 3:39])
    # The other algorithm: near to it everywhere.
    np.testing.assert_allclose(
        free.apply(conv_variables, images, train=False), whole, rtol=0, atol=1e-5 * np.abs(whole).max()
    )
    # The classifier, with the other algorithm, gives the same scores but for rounding.
    crops = jnp.concatenate([images[:, y : y + 10, x : x + 10] for y in range(38) for x in range(0, 38, 4)])
    shapes = [row.output_shape for row in geometry.table(net, window)]
    assert (
        ops.algorithm_for(ops.shapes_of((len(crops), *shapes[0]), (3, 3, 128, 128), Window((3, 3)), 1, False)).name
        == "winograd"
    )
    scores = np.asarray(net.apply(variables, crops, train=False)).reshape(38, 10, 3)
    np.testing.assert_allclose(scores, whole[0, :38, :38:4], rtol=0, atol=1e-5 * np.abs(whole).max())
