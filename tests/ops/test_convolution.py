"""`cnn.ops.convolution`: every algorithm equals XLA's convolution, in value and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnn import ops
from cnn.windows import Window
from tests.made import draw


def plain(images, kernel, window, groups=1):
    return lax.conv_general_dilated(
        images,
        kernel,
        window.stride,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision="highest",
    )


# name: (images, kernel, window, groups, whether there must be no convolution, on CPU, if position invariant)
CASES = {
    "1x1": ((2, 5, 6, 7), (1, 1, 7, 4), Window(), 1, True),
    "1x1, dilation means nothing": ((2, 5, 6, 7), (1, 1, 7, 4), Window(dilation=(2, 3)), 1, True),
    "1x1 stride 2": ((2, 5, 7, 7), (1, 1, 7, 4), Window(stride=(2, 2)), 1, True),
    "1x1 stride 3, rest": ((2, 6, 7, 7), (1, 1, 7, 4), Window(stride=(3, 2)), 1, True),
    "1x1 padded": ((2, 5, 7, 7), (1, 1, 7, 4), Window(padding=((1, 0), (0, 2))), 1, False),
    "1x1 groups": ((2, 5, 7, 6), (1, 1, 3, 4), Window(), 2, False),
    "whole map": ((2, 5, 6, 7), (5, 6, 7, 4), Window((5, 6)), 1, True),
    "whole map, stride means nothing": ((2, 5, 6, 7), (5, 6, 7, 4), Window((5, 6), (3, 2)), 1, True),
    "whole map, padded": ((2, 5, 6, 9), (5, 6, 9, 4), Window((5, 6), padding=((1, 1), (0, 2))), 1, False),
    "whole map, groups": ((2, 5, 6, 8), (5, 6, 4, 4), Window((5, 6)), 2, False),
    "as large as the map, dilated": ((2, 3, 3, 9), (2, 2, 9, 4), Window((2, 2), dilation=(2, 2)), 1, False),
    "few to many": ((2, 8, 7, 3), (5, 4, 3, 64), Window((5, 4)), 1, False),
    "few to many, dilated": ((2, 8, 7, 3), (3, 3, 3, 70), Window((3, 3), dilation=(3, 2)), 1, True),
    "few to many, strided": ((2, 10, 7, 3), (5, 3, 3, 64), Window((5, 3), (2, 3)), 1, True),
    "few to many, padded": ((2, 5, 5, 3), (5, 5, 3, 64), Window((5, 5), padding=((2, 2), (2, 2))), 1, False),
    "few to many, groups": ((2, 8, 7, 4), (5, 4, 2, 64), Window((5, 4)), 2, False),
    "large": ((1, 5, 6, 64), (4, 4, 64, 1024), Window((4, 4)), 1, True),
    "many to many": ((2, 6, 7, 16), (3, 3, 16, 64), Window((3, 3)), 1, False),
    "thin": ((2, 6, 7, 3), (3, 3, 3, 6), Window((3, 3)), 1, True),
    "thin, padded": ((2, 6, 7, 3), (3, 2, 3, 6), Window((3, 2), padding=((1, 0), (2, 1))), 1, True),
    "thin, strided": ((2, 9, 11, 2), (3, 4, 2, 5), Window((3, 4), (2, 3)), 1, True),
    "thin, dilated": ((2, 9, 11, 1), (3, 2, 1, 3), Window((3, 2), (1, 2), ((1, 1), (0, 3)), (2, 4)), 1, True),
    "thin, groups": ((2, 6, 7, 4), (3, 3, 2, 6), Window((3, 3)), 2, False),
    "thin and wide": ((1, 6, 49, 3), (3, 3, 3, 6), Window((3, 3)), 1, True),
    "channels padded": ((2, 6, 7, 9), (3, 2, 9, 16), Window((3, 2)), 1, False),
    "channels padded, padded": (
        (2, 6, 7, 6),
        (3, 3, 6, 32),
        Window((3, 3), (1, 2), ((1, 1), (1, 0)), (1, 2)),
        1,
        False,
    ),
    "channels padded and wide": ((2, 6, 49, 7), (3, 3, 7, 16), Window((3, 3)), 1, False),
    "first layer": ((2, 6, 7, 3), (3, 3, 3, 32), Window((3, 3), padding=((1, 1), (1, 1))), 1, True),
    "first layer, wide": ((2, 6, 30, 1), (3, 3, 1, 32), Window((3, 3), (2, 1), ((1, 0), (2, 1)), (1, 2)), 1, True),
    "first layer, 64": ((2, 8, 6, 3), (3, 3, 3, 64), Window((3, 3), padding=((1, 1), (1, 1))), 1, True),
    "direct wide, no whole vector": ((2, 8, 6, 5), (3, 3, 5, 9), Window((3, 3), (2, 1), ((0, 1), (2, 0))), 1, True),
    "direct wide, many channels": ((2, 8, 6, 12), (2, 2, 12, 20), Window((2, 2)), 1, True),
    "smaller than the kernel": ((3, 2, 2, 24), (3, 3, 24, 40), Window((3, 3), padding=((1, 1), (1, 1))), 1, True),
    "narrower than the kernel": ((3, 6, 2, 9), (3, 5, 9, 8), Window((3, 5), (2, 1), ((1, 1), (2, 2))), 1, True),
    "smaller, dilated": ((2, 4, 5, 12), (3, 3, 12, 16), Window((3, 3), (1, 2), ((1, 2), (2, 2)), (2, 2)), 1, True),
    "smaller, few to many": ((2, 2, 2, 3), (3, 3, 3, 32), Window((3, 3), padding=((1, 1), (1, 1))), 1, True),
    "smaller, groups": ((2, 2, 2, 8), (3, 3, 4, 8), Window((3, 3), padding=((1, 1), (1, 1))), 2, False),
    "thin, too many taps": ((1, 9, 8, 8), (5, 5, 8, 6), Window((5, 5)), 1, False),
    # From sixteen images on, thin kernels are computed in batch-last layout.
    "batch last": ((16, 9, 12, 3), (5, 5, 3, 3), Window((5, 5)), 1, True),
    "batch last, four columns": ((17, 6, 10, 2), (3, 3, 2, 5), Window((3, 3), padding=((0, 1), (2, 0))), 1, True),
    "batch last, eleven columns": ((16, 5, 13, 1), (2, 3, 1, 8), Window((2, 3)), 1, True),
    "batch last, strided": ((16, 9, 11, 2), (3, 4, 2, 5), Window((3, 4), (2, 3)), 1, True),
    "batch last, dilated": ((16, 9, 11, 1), (3, 2, 1, 3), Window((3, 2), (1, 2), ((1, 1), (0, 3)), (2, 4)), 1, True),
    "batch last, one output": ((18, 4, 5, 3), (4, 5, 3, 2), Window((4, 5), padding=((0, 0), (0, 0))), 1, True),
    "batch split": ((64, 4, 5, 16), (3, 3, 16, 24), Window((3, 3), padding=((1, 1), (1, 1))), 1, False),
    "batch split, strided": ((64, 6, 5, 20), (3, 2, 20, 16), Window((3, 2), (2, 1)), 1, False),
    "one feature": ((2, 8, 7, 3), (1, 1, 3, 1), Window(), 1, True),
}


def algorithm_of(name, position_invariant):
    image_shape, kernel_shape, window, groups, _ = CASES[name]
    return ops.algorithm_for(ops.shapes_of(image_shape, kernel_shape, window, groups, position_invariant)).name


def test_each_algorithm_is_among_the_cases():
    taken = {algorithm_of(name, position_invariant) for name in CASES for position_invariant in (True, False)}
    gradients = {ops.gradients_for(ops.shapes_of(*CASES[name][:4])) for name in CASES}
    # Winograd's has tests of its own.
    names = {
        "product",
        "product_in_blocks",
        "whole",
        "im2col",
        "direct",
        "direct_batch_last",
        "direct_wide",
        "pad_channels",
        "extra_row",
        "xla",
    }
    assert taken == names
    of_images, of_kernel = ({record.name for record in each} for each in zip(*filter(None, gradients), strict=True))
    assert of_images == {"batch_last", "banded_matmul", "xla"}
    assert of_kernel == {"batch_last", "banded_matmul", "im2col_columns", "im2col", "split_batch", "xla"}


OTHERS = [name for name in CASES if algorithm_of(name, True) != algorithm_of(name, False)]


@pytest.mark.parametrize(
    "name, position_invariant", [(name, True) for name in CASES] + [(name, False) for name in OTHERS]
)
def test_algorithms_equal_xla(name, position_invariant):
    image_shape, kernel_shape, window, groups, products = CASES[name]
    images, kernel = jnp.asarray(draw(0, image_shape)), jnp.asarray(draw(1, kernel_shape))

    def convolution(images, kernel, window, groups):
        return ops.convolution(images, kernel, window, groups, position_invariant)

    def output_and_gradients(form):
        def run(images, kernel):
            y, transposed = jax.vjp(lambda i, k: form(i, k, window, groups), images, kernel)
            return y, transposed(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

        return jax.jit(run)

    traced = jax.jit(lambda i, k: convolution(i, k, window, groups)).trace(images, kernel)
    program = traced.lower(lowering_platforms=("cpu",)).as_text()
    assert ("stablehlo.convolution" in program) == (position_invariant and not products)
    got = jax.tree.leaves(output_and_gradients(convolution)(images, kernel))
    expected = jax.tree.leaves(output_and_gradients(plain)(images, kernel))
    assert len(got) == 3
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        # Two orders of summing up to 1,024 terms in float32, each partial sum rounded at 6e-8 in random directions.
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-6 * np.abs(b).max())


@pytest.mark.parametrize("name", ["thin", "batch last", "first layer"])
def test_half_precision_is_summed_in_single(name):
    """One rounding to bfloat16, 2^-9 of the sum, and not one for each of up to 75 terms."""
    image_shape, kernel_shape, window, groups, _ = CASES[name]
    images, kernel = (jnp.asarray(draw(i, shape), jnp.bfloat16) for i, shape in enumerate((image_shape, kernel_shape)))
    found = jax.jit(lambda i, k: ops.convolution(i, k, window, groups))(images, kernel)
    assert found.dtype == jnp.bfloat16
    expected = plain(images.astype(jnp.float32), kernel.astype(jnp.float32), window, groups)
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, rtol=2.0**-8, atol=1e-5)


@pytest.mark.parametrize("name", ["large", "thin", "few to many"])
def test_algorithms_are_for_cpu(name):
    # An accelerator has a convolution of its own that is faster than a product of patches or a sum of taps.
    image_shape, kernel_shape, window, groups, _ = CASES[name]
    arguments = jnp.zeros(image_shape), jnp.zeros(kernel_shape)
    convolve = jax.jit(lambda i, k: ops.convolution(i, k, window, groups))
    program = convolve.trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("stablehlo.convolution") == 1
    assert "stablehlo.dot_general" not in program and "stablehlo.slice" not in program
