"""The worked example of `cnn.dense.lattice` and `fragments`: a pool of 2 every 2, a convolution of 2, on 8 pixels."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnn import dense, nets
from cnn.dense import backends, dilation, fragments, lattice
from cnn.layers import Conv, MaxPool

NET = nets.net([MaxPool((1, 2)), Conv(1, (1, 2), use_bias=False)])
PIXELS = np.array([3, 1, 4, 1, 5, 9, 2, 6], np.float32)
VARIABLES = {"params": {"conv1": {"kernel": jnp.array([1.0, 10.0]).reshape(1, 2, 1, 1)}}}
# The larger of each pixel and the next, at every position; a score adds ten times the value two positions on.
LARGER = np.maximum(PIXELS[:-1], PIXELS[1:])
SCORES = LARGER[:5] + 10 * LARGER[2:]


@pytest.fixture
def axis():
    return dense.prepare(NET, (1, 4), 1).axes((1, 8))[1]


def test_positions_of_one_pass(axis):
    assert [(s.extent, s.stride, s.spacing, s.limit) for s in axis.slides] == [(2, 2, 1, 7), (2, 1, 2, 6)]
    assert (axis.limit, axis.last, axis.offset) == (4, 1, 0)
    plain = dilation.dilated(axis, 0, 2, 3, clip=False)
    assert (plain.first, plain.length, plain.count) == (0, 8, 3)
    assert [(step.stride, step.dilation) for step in plain.steps] == [(2, 1), (1, 1)]


def test_dilated_every_position_is_computed_and_taps_move_apart(axis):
    route = dilation.dilated(axis, 0, 1, 5, clip=False)
    assert (route.first, route.length) == (0, 8)
    pool, conv = route.steps
    assert (pool.stride, pool.dilation, conv.stride, conv.dilation) == (1, 1, 1, 2)
    assert [(g.start, g.stop) for step in route.steps for g in step.groups] == [(0, 8), (0, 7)]  # 8 pixels, 7 values


def test_fragments_the_pool_runs_twice_and_the_convolution_as_it_is(axis):
    route = fragments.fragmented(axis, 1, 5, clip=False)
    pool, conv = route.steps
    assert (pool.stride, conv.stride, conv.dilation) == (2, 1, 1)
    assert pool.groups == (lattice.Group((0,), 0, 8, (0, 0), 0), lattice.Group((0,), 1, 9, (0, 0), 0))
    assert conv.groups == (lattice.Group((0, 1), 0, 4, (0, 0), 0),)  # two fragments of 4 values, one batch
    assert route.length == 9 and route.order == (0, 1) and route.count == 5  # pixel 8 is read as zero, score 5 dropped


def test_fragments_that_must_not_read_beyond_the_image_are_filled_up(axis):
    pool = fragments.fragmented(axis, 1, 5, clip=True).steps[0]
    assert pool.groups == (lattice.Group((0,), 0, 8, (0, 0), 0), lattice.Group((0,), 1, 7, (0, 0), 1))


def test_a_stride_that_skips_fragments(axis):
    route = fragments.fragmented(axis, 4, 2, clip=False)  # scores 0 and 4: the run from pixel 1 is not wanted
    assert [len(step.groups) for step in route.steps] == [1, 1] and route.steps[1].stride == 2


@pytest.mark.parametrize("backend", ["crops", "shift", "atrous", "mpf"])
def test_all_ways_give_the_scores(backend):
    image = jnp.asarray(PIXELS).reshape(1, 1, 8, 1)
    for stride in (1, 2, 3, 4):
        found = dense.score_map(NET, VARIABLES, image, (1, 4), (1, stride), backend)
        np.testing.assert_array_equal(found.scores[0, 0, :, 0], SCORES[::stride])


def test_shifts_are_the_whole_net_on_later_pixels():
    grid = dense.plan_grid(NET, (1, 8, 1), (1, 4), 1)
    passes = backends.plan_passes(dense.prepare(NET, (1, 4), 1), (1, 8, 1), grid, "shift")
    assert [(one.corner, one.columns, one.schedule.extent) for one in passes] == [
        ((0, 0), slice(0, None, 2), (1, 8)),
        ((0, 1), slice(1, None, 2), (1, 6)),
    ]
