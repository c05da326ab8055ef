"""What dense evaluation is predicted to cost: multiply-adds, bytes, and which backend `auto` takes for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import dense, geometry, nets
from cnn.dense import backends, cost
from cnn.layers import Activation, AvgPool, Conv, Dense, Flatten
from tests.made import draw, random_variables, shapes_of


def test_predicted_cost():
    """Multiply-adds of VGG-16 at 384: 36 crops 557 G, one pass 49.6 G, stride 16 by shifts 198 G."""
    net, shape = nets.create("vgg16"), (384, 384, 3)
    native = dense.plan_grid(net, shape, (224, 224), None)
    assert (native.native, native.size) == ((32, 32), (6, 6))
    assert round(dense.multiply_adds(net, shape, native, "crops") / 1e9) == 557
    assert round(dense.multiply_adds(net, shape, native, "shift") / 1e9, 1) == 49.6
    for stride, size, shifts, fragments in ((16, 11, 198, 63), (8, 21, 793, 129)):
        fine = dense.plan_grid(net, shape, (224, 224), stride)
        assert fine.size == (size, size)
        by_shifts = dense.multiply_adds(net, shape, fine, "shift") / 1e9
        assert 0.96 * shifts < by_shifts < shifts  # every pass over the whole image; those that start later end sooner
        assert round(dense.multiply_adds(net, shape, fine, "mpf") / 1e9) == fragments
        assert dense.multiply_adds(net, shape, fine, "atrous") <= dense.multiply_adds(net, shape, fine, "mpf")


def test_plan_prints_every_layer_and_marks_what_auto_takes():
    net = nets.create("vgg16")
    plan = dense.plan(net, (384, 384, 3), 16, window=(224, 224))
    assert [one.backend for one in plan] == ["crops", "shift", "atrous", "mpf"]
    assert plan["mpf"].map_size == (11, 11)
    assert plan["crops"].macs == 121 * geometry.table(net, (224, 224, 3)).macs
    assert sum(layer.macs for layer in plan["mpf"].layers) == plan["mpf"].macs
    one = next(layer for layer in plan["atrous"].layers if layer.name == "conv1_1")
    assert one.macs == 384 * 384 * 27 * 64
    text = str(plan)
    assert plan.chosen in ("atrous", "mpf") and f"{plan.chosen} *" in text
    assert "conv5_3" in text and f"{plan['mpf'].macs:,}" in text and "11x11" in text
    assert dense.plan(net, (384, 384, 3), 16, 2**20, window=(224, 224)).chosen is None
    assert "!" in str(dense.plan(net, (384, 384, 3), 16, 2**20, window=(224, 224)))
    with pytest.raises(KeyError, match="no backend 'fft'"):
        plan["fft"]


@pytest.mark.parametrize(
    "name, window, shape, stride", [("qa_net", 32, (200, 180, 3), 1), ("lenet5", 32, (120, 160, 1), 2)]
)
@pytest.mark.parametrize("backend", ["shift", "atrous", "mpf"])
def test_predicted_bytes_are_xlas(name, window, shape, stride, backend):
    """Against the compiler's own count of one pass: never less, and at most twice as much."""
    net = nets.create(name)
    grid = dense.plan_grid(net, shape, (window, window), stride)
    variables = shapes_of(net, (1, window, window, shape[2]))
    prepared = dense.prepare(net, (window, window), shape[2])
    schedule = backends.plan_passes(prepared, shape, grid, backend)[0].schedule
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    compiled = backends.run_pass.whole.lower(prepared, schedule, variables, images, 0, 0).compile()
    found = compiled.memory_analysis()
    predicted = cost.schedule_bytes(schedule, shape[2])
    assert found.temp_size_in_bytes + found.output_size_in_bytes <= predicted * 1.1
    assert predicted <= 2 * (found.temp_size_in_bytes + found.output_size_in_bytes)


def wide_net(padding):
    convs = [Conv(128, 3, padding=padding) for _ in range(3)]
    return nets.net(*convs, Activation("relu"), AvgPool(None), Flatten(), Dense(10))


@pytest.mark.parametrize("padding, window, size", [("same", 32, 64), ("valid", 32, 64), ("same", 48, 80)])
def test_predicted_bytes_of_crops_are_xlas(padding, window, size):
    """Winograd's transforms, which classifiers of wide layers compute with, are counted; against one batch of crops."""
    net, shape = wide_net(padding), (size, size, 3)
    grid = dense.plan_grid(net, shape, (window, window), 4)
    variables = shapes_of(net, (1, window, window, 3))
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    prepared = dense.prepare(net, (window, window), 3)
    batch = backends.crop_batch(prepared)
    corners = jax.ShapeDtypeStruct((batch, 3), jnp.int32)
    compiled = backends.run_crops.whole.lower(net, grid.window, variables, images, corners).compile()
    found = compiled.memory_analysis()
    found = found.temp_size_in_bytes + found.output_size_in_bytes
    predicted = cost.backend_bytes(prepared, shape, grid, "crops")
    assert found <= predicted <= 1.7 * found
    # Inputs and outputs alone, all that is counted of the layers' other forms, are too few.
    largest = 2 * 4 * batch * window**2 * 128
    assert largest < found / 1.5


@pytest.mark.slow
def test_auto_takes_the_cheaper_one():
    net = nets.create("qa_net")
    variables = random_variables(net, (32, 32), 1)
    assert dense.score_map(net, variables, draw(9, (1, 64, 64, 1)), (32, 32), 1).backend in ("atrous", "mpf")
    assert dense.score_map(net, variables, draw(9, (1, 96, 96, 1)), (32, 32), 64).backend == "crops"


@pytest.mark.slow
def test_auto_stays_under_the_memory_limit():
    net = nets.create("qa_net")
    variables, images = random_variables(net, (32, 32), 1), draw(9, (1, 64, 64, 1))
    needs = {one.backend: one.peak_bytes for one in dense.plan(net, (64, 64, 1), 1, window=(32, 32))}
    assert needs["shift"] < needs["mpf"]
    found = dense.score_map(net, variables, images, (32, 32), 1, memory_limit=needs["shift"])
    assert found.backend == "shift"
    free = dense.score_map(net, variables, images, (32, 32), 1)
    np.testing.assert_allclose(found.scores, free.scores, rtol=0, atol=1e-5 * np.abs(free.scores).max())
    with pytest.raises(MemoryError, match=r"64x64x1 pixels at stride 1x1 need at least .* KiB .*dense.stream"):
        dense.score_map(net, variables, images, (32, 32), 1, memory_limit=1000)
