"""One image over several devices: the map of one device, and no device with more than its part."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import dense, nets
from cnn.dense import split_plans
from cnn.layers import Conv, Dense, Flatten, MaxPool
from cnn.windows import GeometryError
from tests.helpers import PROGRAMS, run_python
from tests.made import draw, random_variables

NET = nets.net([Conv(4, 3, padding=1), MaxPool(2, rounding="floor"), Flatten(), Dense(2)])
WINDOW = (8, 8)
# Where the windows are split over devices a convolution sums as many products in another order of vectors; this is the
# bound that tiles and whole maps are held to. The largest difference seen is 1.2e-7.
TOLERANCE = 1e-5


@pytest.mark.slow
def test_one_device_of_one():
    variables, images = random_variables(NET, WINDOW, 1), draw(0, (2, 23, 21, 1))
    whole = dense.score_map(NET, variables, jnp.asarray(images), WINDOW, 3, "mpf", position_invariant=True)
    split = dense.score_map(
        NET, variables, images, WINDOW, 3, "mpf", position_invariant=True, devices=jax.local_devices()[:1]
    )
    np.testing.assert_array_equal(split.scores, whole.scores)
    assert (split.context, split.grid) == (whole.context, whole.grid)


def test_what_cannot_be_split():
    variables, images = random_variables(NET, WINDOW, 1), draw(0, (1, 20, 20, 1))
    device = jax.local_devices()[0]
    for devices in ([], [device, device], ["cpu"]):
        with pytest.raises(ValueError, match=r"score_map: devices \(=.* each named once, such as jax.local_devices"):
            dense.score_map(NET, variables, images, WINDOW, devices=devices)
    with pytest.raises(TypeError, match=r"devices \(=2\) must be a list, or None"):
        dense.score_map(NET, variables, images, WINDOW, devices=2)  # type: ignore[arg-type]
    with pytest.raises(MemoryError, match=r"split over 1 devices, need at least .* on each .*dense.stream"):
        dense.score_map(NET, variables, images, WINDOW, devices=[device], memory_limit=1000)
    edge = nets.net([Conv(3, 3, padding=1, padding_mode="edge"), Flatten(), Dense(2)])
    with pytest.raises(GeometryError, match=r"conv1 .*only constant padding can be continued"):
        dense.score_map(edge, random_variables(edge, WINDOW, 1), images, WINDOW, devices=[device])
    none = dense.score_map(NET, variables, images[:0], WINDOW, devices=[device])
    assert none.scores.shape == (0, 7, 7, 2)


def test_a_plan_says_what_each_device_takes():
    shape = (4000, 1000, 1)
    one, eight = (dense.plan(NET, shape, 2, window=WINDOW, devices=count) for count in (1, 8))
    for name in ("atrous", "mpf"):
        assert eight[name].macs == one[name].macs and eight[name].map_size == one[name].map_size
        assert one[name].peak_bytes / 8 < eight[name].peak_bytes < one[name].peak_bytes / 5
    limit = eight["mpf"].peak_bytes
    assert dense.plan(NET, shape, 2, limit, window=WINDOW, devices=8).chosen is not None
    assert dense.plan(NET, shape, 2, limit, window=WINDOW).chosen is None
    # Every device holds as many rows, and gets no more than what its windows see beyond them.
    prepared = dense.prepare(NET, WINDOW, 1)
    split = split_plans.plan_split(prepared, shape, (2, 2), "mpf", None, 8)
    assert split.held == 500 and split.above + split.below <= 3 * WINDOW[0]


@pytest.mark.slow
def test_eight_devices_give_the_map_of_one():
    done = run_python(PROGRAMS / "split_image.py")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for case in found["cases"]:
        assert case["difference"] <= (0 if case["invariant"] else TOLERANCE), case
        rows, columns = case["scores"][1:3]
        # Evenly over as many devices as divide the rows, or the columns if these are more.
        used = max(k for k in range(1, 9) if rows % k == 0 or columns % k == 0)
        assert case["devices"] == used and len(case["shards"]) == 1, case
        assert np.prod(case["shards"][0]) * used == np.prod(case["scores"]), case
    one, eight = found["memory"]["1"], found["memory"]["8"]
    assert eight["argument"] * 8 == one["argument"] and eight["output"] * 8 == one["output"]
    # An eighth of the whole and, twice, the rows of the image that its neighbours have a part of.
    assert eight["temporary"] <= one["temporary"] / 8 + 2 * eight["argument"]
    for took in (one, eight):
        assert took["argument"] + took["output"] + took["temporary"] <= 1.2 * took["planned"], took
