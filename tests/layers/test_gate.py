"""Gates (squeeze and excitation): values against NumPy, where they slide exactly, and what is refused elsewhere."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import convert, dense, exchange, geometry, nets
from cnn.exchange import dense_form
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.layers import Activation, AvgPool, Branches, Conv, Dense, Dropout, Flatten, Gate
from cnn.windows import GeometryError
from tests.made import draw, random_variables

WINDOW = (9, 8)
HEAD = [AvgPool(None), Flatten(), Dense(3)]
# In the middle of a net, padded, and within a path.
MIDDLE = nets.net([Conv(4, 3, stride=2, padding=1, rounding="floor"), Gate(2), Conv(4, 2), Activation("tanh")], HEAD)
PATH = nets.net([Conv(4, 3), Branches(((Conv(4, 3, padding=1), Gate(hidden=3)), ()))], HEAD)
# Where a mean over the window follows, or where the map is one value.
LAST = nets.net(
    [
        Conv(5, 3, stride=2, rounding="floor"),
        Gate(2),
        Dropout(0.1),
        Gate(hidden=2, gate="hard_sigmoid", use_bias=False),
    ],
    [AvgPool(None), Branches(((Gate(2),), ())), Gate(1, activation="tanh"), Flatten(), Dense(3)],
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gated(x, params, around=None):
    """x [H, W, C] times its gate in float64; `around`: the mean of as many values (h, w) around each place."""
    x, height, width = np.asarray(x, np.float64), *x.shape[:2]
    squeeze, excite = ({k: np.asarray(v, np.float64) for k, v in params[k].items()} for k in ("squeeze", "excite"))
    y = np.empty_like(x)
    for i, j in np.ndindex(height, width):
        part = x
        if around:
            (up, down), (left, right) = (((n - 1) // 2, n // 2) for n in around)
            part = x[max(0, i - up) : i + down + 1, max(0, j - left) : j + right + 1]
        hidden = np.maximum(part.mean(axis=(0, 1)) @ squeeze["kernel"][0, 0] + squeeze["bias"], 0)
        y[i, j] = x[i, j] * sigmoid(hidden @ excite["kernel"][0, 0] + excite["bias"])
    return y


def test_values_and_counts():
    net = nets.net(Gate(2))
    variables, x = random_variables(net, (5, 6), 6), draw(0, (2, 5, 6, 6))
    found = net.apply(variables, x, train=False)
    expected = np.stack([gated(one, variables["params"]["gate1"]) for one in x])
    np.testing.assert_allclose(found, expected, atol=1e-6)  # float32 sums of 30 values of size 1
    row = geometry.table(net, (5, 6, 6), variables)["gate1"]
    assert row.params == 2 * 6 * 3 + 3 + 6 == sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert (row.macs, row.receptive_field, row.offset, str(net)) == (36, (5, 6), (0, 0), "INPUT -> GATE")
    again = nets.from_config(nets.to_config(nets.net(LAST.layers)))
    assert again == LAST
    assert geometry.table(nets.create("se_resnet18"), (224, 224, 3)).params == 11_689_512 + 89_080  # the published one


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Gate(), r"gate1 \(gate\): reduction \(=16\) must be a whole number from 1 to the number of channels \(=3\)"),
        (Gate(0), r"reduction \(=0\) must be a whole number from 1"),
        (Gate(hidden=0), r"hidden \(=0\) must be at least 1"),
        (Gate(1, activation="none"), r"activation \(='none'\) is none of relu, "),
        (Gate(1, gate=2), r"gate \(=2\) is none of relu, "),
        (Gate(1, use_bias=3), r"use_bias \(=3\)"),
    ],
)
def test_what_does_not_fit_is_named(layer, message):
    with pytest.raises(GeometryError, match=message):
        geometry.table(nets.net(layer), (8, 8, 3))


def test_variables_that_are_not_of_a_gate_are_named():
    net = nets.net(Gate(1))
    variables = random_variables(net, (4, 4), 3)
    variables["params"]["gate1"]["excite"]["kernel"] = np.zeros((1, 1, 2, 3), np.float32)
    with pytest.raises(geometry.VariablesError, match=r"gate1 \(gate\): its excite's kernel has shape \(1, 1, 2, 3\)"):
        geometry.table(net, (4, 4, 3), variables)
    del variables["params"]["gate1"]["squeeze"]
    with pytest.raises(geometry.VariablesError, match=r"the variables lack its squeeze's kernel"):
        geometry.table(net, (4, 4, 3), variables)


def crops(net, variables, image, stride):
    """The net on every window, cut out by NumPy."""
    size = [(n - w) // s + 1 for n, w, s in zip(image.shape, WINDOW, stride, strict=False)]
    corners = [(i * stride[0], j * stride[1]) for i, j in np.ndindex(*size)]
    cut = np.stack([image[y : y + WINDOW[0], x : x + WINDOW[1]] for y, x in corners])
    return np.asarray(jax.jit(lambda x: net.apply(variables, x, train=False))(cut)).reshape(*size, -1)


@pytest.mark.parametrize("backend", ["mpf", *(pytest.param(b, marks=pytest.mark.slow) for b in ("shift", "atrous"))])
def test_a_gate_before_a_mean_over_the_window_slides_exactly(backend):
    variables, image = random_variables(LAST, WINDOW, 2), draw(1, (14, 13, 2))
    assert not dense.has_padding(LAST, WINDOW, 2)
    found = dense.score_map(LAST, variables, jnp.asarray(image)[None], WINDOW, (1, 2), backend)
    assert found.context == "both" and found.boxes[0, 0].tolist() == [0, 0, 9, 7]  # the last column is left over
    expected = crops(LAST, variables, image, (1, 2))
    assert np.ptp(expected, axis=(0, 1)).max() > 1e-2 * np.abs(expected).max()  # windows differ
    # float32 sums in another order, as of all backends.
    np.testing.assert_allclose(found.scores[0], expected, atol=1e-5 * np.abs(expected).max())


def test_other_gates_need_a_context_that_is_asked_for():
    variables, images = random_variables(PATH, WINDOW, 2), jnp.asarray(draw(1, (1, 11, 12, 2)))
    named = r"block1/gate1 \(gate\): weighs the 7x6 values of each window by that window's mean"
    for backend in ("auto", "mpf"):
        with pytest.raises(GeometryError, match=named + r".*take context='crop' \(backend 'crops'.*context='image'"):
            dense.score_map(PATH, variables, images, WINDOW, 1, backend)
    with pytest.raises(GeometryError, match=named):
        dense.plan(PATH, (11, 12, 2), 1, window=WINDOW)
    with pytest.raises(ValueError, match="computes context 'image', not 'crop': the net has a gate of each window's"):
        dense.score_map(PATH, variables, images, WINDOW, 1, "atrous", context="crop")
    with pytest.raises(GeometryError, match=named + ".*take backend='crops'"):
        convert.fc_to_conv(PATH, variables, (*WINDOW, 2))
    found = dense.score_map(PATH, variables, images, WINDOW, 1, context="crop")
    assert (found.context, found.backend) == ("crop", "crops") and found.boxes[1, 1].tolist() == [1, 1, 10, 9]
    expected = crops(PATH, variables, np.asarray(images[0]), (1, 1))
    np.testing.assert_allclose(found.scores[0], expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_in_context_image_the_mean_is_that_of_the_values_around():
    """One pass of another net, whose values NumPy computes; every backend, tiles and finer strides agree with it."""
    variables, image = random_variables(MIDDLE, WINDOW, 2), draw(1, (24, 23, 2))
    plan = convert.plan(MIDDLE, geometry.table(MIDDLE, (*WINDOW, 2)), centred_gates=True)
    first, last = nets.net(MIDDLE.layers[0]), nets.net(plan.net.layers[2:])
    slid = plan.variables(variables)
    part = [{k: {n: v for n, v in slid["params"].items() if n in names}} for k, names in
            (("params", {"conv1"}), ("params", {"conv2", "fc1"}))]  # fmt: skip
    middle = gated(np.asarray(first.apply(part[0], image[None], train=False))[0], slid["params"]["gate1"], (5, 4))
    expected = np.asarray(last.apply(part[1], middle[None].astype(np.float32), train=False))[0]
    options = {"window": WINDOW, "context": "image"}
    finest = {}
    for backend in ("shift", "mpf"):
        found = dense.score_map(MIDDLE, variables, jnp.asarray(image)[None], stride=2, backend=backend, **options)
        height, width = found.scores.shape[1:3]
        np.testing.assert_allclose(
            found.scores[0], expected[:height, :width], atol=1e-5 * np.abs(expected).max(), err_msg=backend
        )
        finest[backend] = dense.score_map(
            MIDDLE, variables, jnp.asarray(image)[None], stride=1, backend=backend, **options
        )
        at_2 = finest[backend].scores[0, ::2, ::2]
        np.testing.assert_allclose(at_2, found.scores[0], atol=1e-5 * np.abs(expected).max())
    (tiles,) = dense.score_maps(MIDDLE, variables, [image], stride=1, backend="mpf", tile=16, **options)
    np.testing.assert_allclose(tiles.scores, finest["shift"].scores, atol=1e-5 * np.abs(expected).max())
    # A pixel changes the scores whose boxes hold it, and no other.
    changed = image.copy()
    changed[3, 20] = np.nan
    scores = dense.score_map(MIDDLE, variables, jnp.asarray(changed)[None], stride=1, backend="mpf", **options).scores[
        0
    ]
    y0, x0, y1, x1 = np.moveaxis(tiles.boxes, -1, 0)
    np.testing.assert_array_equal(np.isnan(scores).any(-1), (y0 <= 3) & (y1 > 3) & (x0 <= 20) & (x1 > 20))
    assert np.isnan(scores).any() and not np.isnan(scores).all()
    report = dense.check(MIDDLE, variables, WINDOW, strides=[1])
    assert {one.context for one in report} == {"crop", "image"} and report.difference < 1e-5


def test_what_is_not_written(tmp_path):
    run = Classifier(PATH, random_variables(PATH, WINDOW, 2), (*WINDOW, 2), (0.5,) * 2, (1.0,) * 2, ("a", "b", "c"))
    with pytest.raises(ExchangeError, match=r"a.stablehlo: block1/gate1 \(gate\): .*write it with dense=False"):
        dense_form.of(run, True, None, "a.stablehlo")
    alone = nets.net([Gate(1)], HEAD)
    run = dataclasses.replace(run, net=alone, variables=random_variables(alone, WINDOW, 2))
    for suffix in ("onnx", "safetensors"):
        with pytest.raises(ExchangeError, match=r"gate1 \(gate\): .*StableHLO|gate1 \(gate\): Gate is not written"):
            exchange.save(tmp_path / f"a.{suffix}", run)
