"""`cnn.ops.batch_last`: what works in batch-last layout equals what works as usual, and is used on CPU alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ops
from cnn.layers import ACTIVATIONS, BatchNorm
from cnn.ops import batch_last
from cnn.windows import Window
from tests.helpers import PROGRAMS, run_python
from tests.made import draw

POOLS = {
    "max": lambda x: ops.max_pool(x, Window((2, 2), (2, 2)), (3, 4)),
    "max, a row left over": lambda x: ops.max_pool(x, Window((4, 3), (4, 3)), (1, 3)),
    "max, overlapping": lambda x: ops.max_pool(x, Window((3, 2), (2, 1), ((1, 0), (0, 1))), (3, 9)),
    "average": lambda x: ops.average_pool(x, Window((2, 3), (2, 3)), (3, 3)),
    "average, padded": lambda x: ops.average_pool(x, Window((3, 3), (2, 2), ((1, 1), (1, 1))), (3, 5)),
    "sum, dilated": lambda x: ops.sum_pool(x, Window((2, 2), (1, 2), dilation=(2, 3)), (4, 3)),
}
FUNCTIONS = POOLS | {name: ACTIVATIONS[name] for name in ("relu", "tanh", "gelu")}


def weights_of(images):
    return np.cos(np.arange(images[0].size, dtype=np.float32)).reshape(images.shape[1:])


def with_gradients(function, *arguments):
    """The output, and the gradient of every argument, of weights that differ between all places of an image."""

    def run(*arguments):
        y, transposed = jax.vjp(function, *arguments)
        return y, transposed(jnp.broadcast_to(weights_of(y), y.shape))

    return jax.tree.leaves(jax.jit(run)(*arguments))


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_batch_equals_its_images(name):
    # Few images stay in the usual layout: each by itself is the plain form.
    images = np.round(draw(0, (18, 6, 9, 3)), 1)  # with ties
    assert batch_last.is_faster(images.shape) and not batch_last.is_faster(images[:1].shape)
    batch = with_gradients(FUNCTIONS[name], images)
    single = [with_gradients(FUNCTIONS[name], image[None]) for image in images]
    for a, b in zip(batch, zip(*single, strict=True), strict=True):
        # The same numbers in the same order; tanh and gelu are polynomials that vectors and remainders may fuse apart.
        np.testing.assert_allclose(a, np.concatenate(b), rtol=1e-6, atol=1e-7)


def test_a_bias_and_its_gradient():
    images, bias = draw(0, (16, 5, 4, 8)), draw(1, (8,))
    y, of_images, of_bias = with_gradients(ops.add_bias, images, bias)
    np.testing.assert_array_equal(y, images + bias)
    weights = weights_of(y)
    np.testing.assert_array_equal(of_images, np.broadcast_to(weights, y.shape))
    # 320 terms of up to 1, rounded at 6e-8 of partial sums.
    np.testing.assert_allclose(of_bias, 16 * weights.astype(float).sum((0, 1)), atol=1e-4)


@pytest.mark.parametrize(
    "kernel_shape, otherwise",
    [((5, 5, 3, 6), "direct_batch_last"), ((3, 3, 1, 32), "direct_wide"), ((3, 3, 3, 33), "direct_wide")],
)
def test_what_must_be_position_invariant_has_the_same_bits_in_any_batch(kernel_shape, otherwise):
    # A tile among others and the image by itself agree to the bit. In batch-last layout the compiler joins other
    # products to sums, with one rounding for the two.
    images, kernel, window = draw(0, (40, 12, 11, kernel_shape[2])), draw(1, kernel_shape), Window(kernel_shape[:2])
    shapes = ops.shapes_of(images.shape, kernel.shape, window, position_invariant=False)
    assert ops.algorithm_for(shapes).name == otherwise
    convolve = jax.jit(lambda x: ops.convolution(x, kernel, window))
    np.testing.assert_array_equal(convolve(images), np.concatenate([convolve(image[None]) for image in images]))


def test_there_and_back():
    images = draw(0, (20, 3, 4, 2))
    laid_out = batch_last.to_batch_last(images)
    np.testing.assert_array_equal(laid_out, images.transpose(3, 1, 2, 0))
    np.testing.assert_array_equal(batch_last.from_batch_last(laid_out), images)


@pytest.mark.parametrize("shape, pay", [((16, 5, 5, 8), True), ((15, 5, 5, 8), False), ((16, 5, 5, 9), False)])
def test_the_layout_is_for_batches_with_few_channels_on_cpu(shape, pay):
    def program(platform):
        pool = jax.jit(POOLS["max"]).trace(jnp.zeros(shape))
        return pool.lower(lowering_platforms=(platform,)).as_text()

    assert ("LayoutConstraint" in program("cpu")) == pay
    assert "LayoutConstraint" not in program("cuda") and "transpose" not in program("cuda")


def test_a_vector_is_no_image():
    np.testing.assert_array_equal(batch_last.in_batch_last(jnp.negative, jnp.ones((20, 4))), -np.ones((20, 4)))


@pytest.mark.slow
@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_in_batch_last_layout_is_flax_own(train):
    """Output, gradients and running statistics are the same, under the same names, in either layout."""
    images, shift, scale, mean, var = draw(0, (18, 6, 9, 3)), *(draw(seed, (3,)) for seed in range(1, 5))
    variables = {"params": {"scale": 1 + scale, "bias": shift}, "batch_stats": {"mean": mean, "var": 1 + np.abs(var)}}
    plain = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)
    ours = BatchNorm()
    weights = weights_of(images)

    def run(apply, params):
        y, transposed, statistics = jax.vjp(apply, images, params, has_aux=True)
        return y, transposed(jnp.broadcast_to(weights, y.shape)), statistics

    def of_flax(x, params):
        return plain.apply({**variables, "params": params}, x, mutable=["batch_stats"])

    def of_ours(x, params):
        nested = {"params": {"norm": params}, "batch_stats": {"norm": variables["batch_stats"]}}
        y, statistics = ours.apply(nested, x, train=train, mutable=["batch_stats"])
        return y, {"batch_stats": statistics["batch_stats"]["norm"]}

    expected = jax.tree.leaves(run(of_flax, variables["params"]))
    found = jax.tree.leaves(run(of_ours, variables["params"]))
    assert batch_last.is_faster(images.shape) and len(expected) == 6
    for a, b in zip(found, expected, strict=True):
        # Sums of 972 terms in another order, each partial sum rounded at 6e-8.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


@pytest.mark.slow
def test_a_batch_that_is_split_over_devices_is_not_gathered():
    """XLA's partitioner would gather it for a layout; within a shard_map there is nothing to gather."""
    done = run_python(PROGRAMS / "split_batch.py", JAX_NUM_CPU_DEVICES=2)
    assert done.returncode == 0, done.stderr
