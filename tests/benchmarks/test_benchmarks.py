"""Benchmarks: PyTorch's and MONAI's numbers are ours, times are taken in turn, ratios are medians."""

import importlib.util

import jax
import numpy as np
import pytest

from benchmarks import comparison, contenders, timing
from benchmarks.contenders import Problem
from cnn import convert, dense, nets
from cnn.layers import LRN, Activation, AvgPool, BatchNorm, Conv, Dense, Flatten, MaxPool, NMaxPool
from tests.made import draw
from tests.made import random_variables as make

REASON = "compares with PyTorch: python -m pip install -r requirements-peers.txt"
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason=REASON)
needs_monai = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None or importlib.util.find_spec("monai") is None,
    reason="compares with MONAI: python -m pip install -r requirements-peers.txt",
)

STRIDED = nets.net(
    [Conv(8, 5, stride=2, padding=((1, 2), (0, 1))), Activation("relu"), LRN(), MaxPool(3, stride=2, rounding="ceil")],
    [Conv(8, 3, groups=2, padding=1, padding_mode="edge"), BatchNorm(), Activation("gelu"), AvgPool(3, 2, padding=1)],
    [Conv(6, 2, dilation=2), Flatten("chw"), Dense(12), Activation("tanh"), Dense(5)],
)
UNPADDED = nets.net([Conv(4, 3), Activation("relu"), MaxPool(2)], [Conv(5, 2), MaxPool(2), Flatten(), Dense(3)])


def problem(stride, size=(28, 26), **limits):
    variables = make(UNPADDED, (12, 12), 2)
    limits = {"crop_macs": 10**12, "crop_windows": 10**6} | limits
    return Problem(UNPADDED, variables, draw(3, (*size, 2)), (12, 12), stride, **limits)


@needs_torch
@pytest.mark.parametrize(
    "net, shape",
    [
        (nets.create("qa_net"), (32, 32, 3)),
        (nets.create("full_cnn", flatten_order="chw", dropout=0.5), (28, 28, 1)),
        (nets.create("full_cnn", features=(4, 8), width=16, flatten_order="random"), (12, 12, 1)),
        (STRIDED, (38, 38, 4)),
        (nets.create("preact_resnet", depth=8, width=2, padding="valid"), (32, 32, 3)),
        (nets.create("squeezenet", num_classes=3), (64, 64, 3)),
    ],
    ids=["qa_net", "full_cnn", "random order", "strided", "sum", "concat"],
)
def test_the_torch_net_is_ours(net, shape):
    import torch

    from benchmarks.torch_nets import to_torch

    variables, images = make(net, shape[:2], shape[2]), draw(3, (3, *shape))
    module = to_torch(net, variables, shape)
    with torch.inference_mode():
        got = module(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    expected = np.asarray(jax.jit(lambda x: net.apply(variables, x, train=False))(images))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@needs_torch
def test_the_converted_torch_net_is_ours():
    import torch

    from benchmarks.torch_nets import to_torch

    variables, images = make(UNPADDED, (12, 12), 2), draw(3, (2, 24, 20, 2))
    conv_net, conv_variables = convert.fc_to_conv(UNPADDED, variables, (12, 12, 2))
    module = to_torch(conv_net, conv_variables, (12, 12, 2))
    with torch.inference_mode():
        got = module(torch.tensor(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    expected = np.asarray(jax.jit(lambda x: conv_net.apply(conv_variables, x, train=False))(images))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@needs_torch
def test_a_layer_that_torch_has_not_is_named():
    from benchmarks.torch_nets import to_torch

    net = nets.net([NMaxPool(2), Flatten(), Dense(3)])
    with pytest.raises(TypeError, match=r"pool1 \(n-max pool\): PyTorch has no module"):
        to_torch(net, make(net, (8, 8), 1), (8, 8, 1))


def expected_scores(one):
    found = dense.score_map(one.net, one.variables, jax.numpy.asarray(one.image[None]), one.window, one.stride, "crops")
    return np.asarray(found.scores)[0]


@needs_torch
@pytest.mark.parametrize("stride", [(4, 4), (1, 1), (2, 3), (8, 6)])
def test_torch_by_shifts_computes_the_same_map(stride):
    one = problem(stride)
    contender = contenders.pytorch(one)
    expected = expected_scores(one)
    np.testing.assert_allclose(contender.run().numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    own = dense.multiply_adds(one.net, one.image.shape, one.grid, "shift")
    assert contender.macs == own if stride in ((4, 4), (1, 1)) else contender.macs >= own  # ours skips what it can


@needs_monai
@pytest.mark.parametrize("stride", [(4, 4), (1, 1), (2, 7)])
def test_monai_computes_the_same_map(stride):
    one = problem(stride)
    contender = contenders.monai(one)
    expected = expected_scores(one)
    np.testing.assert_allclose(contender.run().numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@needs_monai
def test_a_contender_that_would_be_slow_computes_the_upper_rows():
    one = problem((1, 1), crop_windows=40)  # rows of 15 windows
    contender = contenders.monai(one)
    assert contender.rows == 2
    expected = expected_scores(one)[:2]
    np.testing.assert_allclose(contender.run().numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_crops_within_their_means():
    one = problem((1, 1))
    each = dense.multiply_adds(one.net, one.image.shape, one.grid, "crops") // one.grid.size[0]
    contender = contenders.ours(one._replace(crop_macs=3 * each + 1), "crops")
    assert contender.rows == 3 and contender.macs == 17 * each
    np.testing.assert_allclose(np.asarray(contender.run()), expected_scores(one)[:3], rtol=0, atol=1e-5)
    assert contenders.native_pass(one).rows == 5


def test_contenders_take_turns(monkeypatch):
    clock, calls = [0.0], []

    def function(name, seconds):
        def run():
            calls.append(name)
            clock[0] += seconds

        return run

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    runs = {"a": function("a", 1.0), "b": function("b", 50.0), "c": function("c", 0.1)}
    times = timing.alternate(runs, 3, slow_seconds=20, slow_rounds=1)
    assert times["a"] == pytest.approx([1, 1, 1])
    assert times["b"] == [pytest.approx(50), None, None]
    assert times["c"] == pytest.approx([0.1] * 3)
    # Each twice before, then in turn; a quick one several times in its turn, a slow one only once.
    assert "".join(calls) == "aabbcc" + "abcc" + "acc" + "acc"


def test_ratios_are_medians_within_rounds():
    assert timing.median_ratio([10, 40, 9], [1, 10, 3]) == 4  # 10, 4, 3: not 10 / 3, the ratio of medians
    assert timing.median_ratio([10, None, 9], [2, 1, 3]) == 4
    assert timing.median([3, None, 1, 8]) == 3


def test_a_row_of_the_report():
    one = problem((2, 2), size=(20, 20))  # 5 x 5 windows, 3 x 3 at the native stride

    def run():
        return np.zeros((1, 1, 1))

    found = {
        "ours: crops": contenders.Contender(run, 1000, "both", 2),  # two rows of five
        "ours: mpf": contenders.Contender(run, 100, "both", 5),
        comparison.NATIVE: contenders.Contender(run, 50, "native", 3),
        "PyTorch": contenders.Contender(run, 100, "both", 5),
    }
    times = {"ours: crops": [4.0, 6.0], "ours: mpf": [2.0, 2.0], comparison.NATIVE: [1.0, 1.0], "PyTorch": [4.0, 5.0]}
    rows = {row["name"]: row for row in comparison.rows_of(one, found, times)}
    assert rows["ours: crops"]["milliseconds"] == pytest.approx(12500)  # scaled to five rows
    mpf = rows["ours: mpf"]
    assert (mpf["speedup"], mpf["predicted"], mpf["reached"]) == pytest.approx((6.25, 10, 0.625))
    assert mpf["to_torch"] == pytest.approx((2 / 4 + 2 / 5) / 2)
    assert (mpf["to_native"], mpf["to_native_predicted"]) == pytest.approx((2, 2))
    assert mpf["gflops"] == pytest.approx(1e-7) and "monai_to_it" not in mpf and "reached" not in rows["PyTorch"]


def test_contenders_that_disagree_are_an_error():
    def contender(value, context="both"):
        return contenders.Contender(lambda: np.full((2, 2, 1), value), 1, context, 2)

    found = {"a": contender(1.0), "b": contender(1.00001), "c": contender(5.0, "shifted")}
    assert comparison.check(found, {})["b"] == pytest.approx(1e-5, rel=1e-3)
    with pytest.raises(ArithmeticError, match=r"d differs from the others by 1\.0e-02"):
        comparison.check(found | {"d": contender(1.01)}, {})

    def broken():
        raise RuntimeError("no compiler\nat all")

    found["PyTorch, compiled"] = contenders.Contender(broken, 1, "both", 2)
    absent = {}
    assert "PyTorch, compiled" not in comparison.check(found, absent) and "PyTorch, compiled" not in found
    assert absent == {"PyTorch, compiled": "RuntimeError: no compiler"}

    def silent():
        raise RuntimeError

    assert comparison.attempt("PyTorch, compiled", silent, absent) is None
    assert absent["PyTorch, compiled"] == "RuntimeError: "
    with pytest.raises(RuntimeError):
        comparison.attempt("PyTorch", silent, absent)
