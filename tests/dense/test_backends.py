"""Random nets: all backends equal the crops, and each other to the bit where the arithmetic is the same.

`HYPOTHESIS_PROFILE=thorough python -m pytest -n 0 tests/dense/test_backends.py` draws 250 nets for each test.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from cnn import convert, dense, nets, windows
from cnn.dense import backends
from cnn.layers import Activation, AvgPool, Branches, Conv, Dense, Flatten, PReLU, Scale
from cnn.runtime.programs import Programs
from cnn.windows import GeometryError
from tests.made import random_variables
from tests.random_nets import cases
from tests.reference import dense as reference

# float32 sums of up to some hundred products in another order, relative to the largest score; see the bound.
TOLERANCE = 1e-5
# XLA:CPU sums products of fewer rows in another order: up to 144, by shape, found by trying all sizes.
ROWS = 256


def leaves(layers, downs, acrosses):
    """Layers that do not branch, those of all paths among them, each with its steps along both axes."""
    for layer, down, across in zip(layers, downs, acrosses, strict=True):
        if isinstance(layer, Branches):
            for path, vertical, horizontal in zip(layer.paths, down.paths, across.paths, strict=True):
                yield from leaves(path, vertical.steps, horizontal.steps)
        else:
            yield layer, down, across


def smallest_product(net, image_shape, grid, backend):
    """Rows of the smallest matrix product that a backend runs for one image: output pixels of a piece."""
    rows = []
    prepared = dense.prepare(net, grid.window, image_shape[2])
    for one in backends.plan_passes(prepared, image_shape, grid, backend):
        schedule = one.schedule
        for layer, down, across in leaves(schedule.net.layers, schedule.vertical.steps, schedule.horizontal.steps):
            if isinstance(layer, Conv):
                sizes = []
                for step, kernel in zip((down, across), layer.kernel_shape((1, 1, layer.groups))[:2], strict=True):
                    extent = (kernel - 1) * step.dilation + 1
                    sizes.append(
                        min(
                            len(g.fragments) * windows.count(g.stop - g.start + sum(g.padding), extent, step.stride)
                            for g in step.groups
                        )
                    )
                rows.append(sizes[0] * sizes[1])
    return min(rows)


@pytest.mark.long
@pytest.mark.parametrize("branches", [False, True])
@given(st.data())
def test_backends_equal_crops_and_each_other(branches, data):
    case = data.draw(cases(branches=branches))
    net, window, image_shape, stride = case
    note(f"{net}: window {window}, image {image_shape}, stride {stride}")
    variables = random_variables(net, window, image_shape[2])
    images = jnp.asarray(np.random.default_rng(1).normal(size=(1, *image_shape)), jnp.float32)
    maps = {
        name: dense.score_map(net, variables, images, window, stride, name, position_invariant=True)
        for name in ("crops", "shift", "atrous", "mpf")
    }
    maps["auto"] = dense.score_map(net, variables, images, window, stride)  # whichever algorithms are fastest
    assert {m.context for m in maps.values()} == {"both"}
    crops = np.asarray(maps["crops"].scores)
    grid = dense.plan_grid(net, image_shape, window, stride)
    assert crops.shape[1:3] == grid.size
    largest = np.abs(crops).max()
    passes = ("shift", "atrous", "mpf")
    sure = {name for name in passes if smallest_product(net, image_shape, grid, name) >= ROWS}
    for name, found in maps.items():
        scores = np.asarray(found.scores)
        assert scores.shape == crops.shape
        assert np.abs(scores - crops).max() <= TOLERANCE * largest, name
        np.testing.assert_array_equal(found.boxes, maps["crops"].boxes)
    for name in sorted(sure)[1:]:
        np.testing.assert_array_equal(maps[name].scores, maps[sorted(sure)[0]].scores, err_msg=f"{name} {sorted(sure)}")


@pytest.mark.slow
def test_padding_is_put_by_position():
    """Layers that make something else of 0, padding that is not 0, windows that hang over padding that counts."""
    net = nets.net(
        [Conv(3, 3, padding=((1, 2), (2, 0)), padding_mode="constant", padding_value=0.7), Activation("sigmoid")],
        [AvgPool(3, 2, padding=1, rounding="ceil", count_padding=True), Activation("clip", low=0.2), Scale()],
        [AvgPool((2, 3), 2, padding=((1, 0), (1, 1)), rounding="ceil", count_padding=True), PReLU(), Flatten()],
        Dense(3),
    )
    window, image_shape = (12, 11), (37, 34, 2)
    variables = random_variables(net, window, 2)
    image = np.random.default_rng(1).normal(size=image_shape).astype(np.float32)
    conv_net, conv_variables = convert.fc_to_conv(net, variables, (*window, 2))
    grid = dense.plan_grid(net, image_shape, window, 1)
    expected = reference.score_map(conv_net, conv_variables, image, (1, 1), grid.size)
    found = {
        name: dense.score_map(net, variables, jnp.asarray(image)[None], window, 1, name).scores[0]
        for name in ("atrous", "mpf")
    }
    # In tiles, several of which end at the border of the image.
    for name in ("atrous", "mpf"):
        tiles = list(dense.score_maps(net, variables, [image], window, 1, name, tile=16))
        found[f"{name}, tiles"] = tiles[0].scores[0]
    for name, scores in found.items():
        assert np.abs(np.asarray(scores) - expected).max() <= TOLERANCE * np.abs(expected).max(), name
    crops = dense.score_map(net, variables, jnp.asarray(image)[None], window, 7, "crops").scores[0]
    alone = reference.window_scores(conv_net, conv_variables, image, window, (7, 7), crops.shape[:2])
    assert np.abs(np.asarray(crops) - alone).max() <= TOLERANCE * np.abs(alone).max()


@pytest.mark.slow
@pytest.mark.parametrize("branches", [False, True])
@given(st.data())
def test_backends_of_padded_nets_equal_the_definition(branches, data):
    """Context "image": padding beyond the image's border alone, position by position in NumPy."""
    case = data.draw(cases(padded=True, branches=branches))
    net, window, image_shape, stride = case
    note(f"{net}: window {window}, image {image_shape}, stride {stride}")
    variables = random_variables(net, window, image_shape[2])
    image = np.random.default_rng(1).normal(size=image_shape).astype(np.float32)
    grid = dense.plan_grid(net, image_shape, window, stride)
    conv_net, conv_variables = convert.fc_to_conv(net, variables, (*window, image_shape[2]))
    expected = reference.score_map(conv_net, conv_variables, image, grid.stride, grid.size)
    for name in ("shift", "atrous", "mpf"):
        try:
            found = dense.score_map(net, variables, jnp.asarray(image)[None], window, stride, name)
        except GeometryError as error:  # fragments may end beyond the image, and an n-max pool cannot leave out values
            assert name == "mpf" and "a padded n-max pool" in str(error)
            continue
        assert found.context == "image"
        assert np.abs(found.scores[0] - expected).max() <= TOLERANCE * np.abs(expected).max(), name


def test_a_map_of_many_passes_keeps_the_programs_of_all(monkeypatch):
    """In a padded net each shifted pass is a program of its own; the next map of this size compiles none of them."""
    net = nets.net([Conv(2, 3, padding=1), Activation(), Conv(3, 3, stride=3, padding=1), Flatten(), Dense(2)])
    variables = random_variables(net, (7, 7), 1)
    made = []

    def jit(function):
        made.append(function)
        return function

    few = Programs(backends.run_pass.__wrapped__, jit, most=3)
    monkeypatch.setattr(backends.run_pass, "_programs", few)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 14, 14, 1)), jnp.float32)
    first, again = (dense.score_map(net, variables, image, (7, 7), backend="shift", stride=1).scores for _ in range(2))
    assert len(made) == len(few) == 9
    np.testing.assert_array_equal(first, again)
