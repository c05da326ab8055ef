"""The crop and dense protocols: positions, intervals and costs by value; crops and dense equal where they must be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from cnn import convert, dense, geometry, nets
from cnn.layers import Activation, Conv, Dense, Flatten, MaxPool
from cnn.protocols import measuring, methods, on_scenes
from cnn.runs.checkpoint import Run
from tests.made import random_variables

WINDOW = (8, 8, 1)


def make_run(net, variables=None, window=WINDOW, classes=3):
    if variables is None:
        variables = random_variables(net, window[:2], window[2])
    return Run(net, variables, ConfigDict(), (0.3,), (0.5,), tuple(map(str, range(classes))), window, "", 0)


def small_net(padding="valid"):
    return nets.net(Conv(4, 3, padding=padding), Activation("relu"), MaxPool(2), Flatten(), Dense(3))


def pictures(count, height=13, width=11, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, height, width, 1)).astype(np.uint8), rng.integers(0, 3, count)


@pytest.fixture(name="found", scope="module")
def _found():
    return on_scenes.evaluate_scenes(make_run(small_net()), *pictures(7), batch_size=3, timing_images=3)


def rows_of(found, method):
    return {row.averaging: row for row in found.rows if row.method == method}


@pytest.mark.slow
def test_rows_are_every_method_with_every_averaging(found):
    sliding = ["ten crops", "all crops, stride 2", "dense, stride 2", "dense, stride 1"]
    wanted = [("resize the whole", "none"), ("centre crop", "none")]
    wanted += [(method, over) for method in sliding for over in ("probabilities", "logits", "max")]
    assert [(row.method, row.averaging) for row in found.rows] == wanted
    assert {row.examples for row in found.rows} == {7}
    windows = {row.method: row.windows for row in found.rows}
    assert windows == dict(zip([m for m, _ in wanted[:2]] + sliding, [1, 1, 10, 3 * 2, 3 * 2, 6 * 4], strict=True))


@pytest.mark.slow
def test_accuracy_is_that_of_the_scores_and_the_batch_size_does_not_enter(found):
    run, (images, labels) = make_run(small_net()), pictures(7)
    once = on_scenes.evaluate_scenes(run, images, labels, batch_size=100, timing_images=100)
    assert [row.accuracy for row in once.rows] == [row.accuracy for row in found.rows]
    assert once.timing_images == 7 and found.timing_images == 3
    x = (jnp.asarray(images, jnp.float32) / 255 - 0.3) / 0.5
    scores = dense.score_map(run.net, run.variables, x, (8, 8), 1, "crops").scores
    for over in methods.AVERAGES:
        right = (np.asarray(dense.average(scores, over)).argmax(-1) == labels).mean()
        assert rows_of(found, "dense, stride 1")[over].accuracy == pytest.approx(right)
    centre = np.asarray(run.net.apply(run.variables, x[:, 2:10, 1:9], train=False))
    assert rows_of(found, "centre crop")["none"].accuracy == pytest.approx((centre.argmax(-1) == labels).mean())


@pytest.mark.slow
def test_crops_and_dense_are_the_same_for_a_net_without_padding(found):
    crops, whole = rows_of(found, "all crops, stride 2"), rows_of(found, "dense, stride 2")
    assert [row.accuracy for row in crops.values()] == [row.accuracy for row in whole.values()]
    assert {row.context for row in found.rows} == {"both"}
    assert found.agreement.expected and found.agreement.windows == 7 * 3 * 2
    assert found.agreement.difference <= 1e-5 and found.agreement.argmax_differs == 0


@pytest.mark.slow
def test_crops_and_dense_differ_for_a_padded_net_and_the_context_says_so():
    found = on_scenes.evaluate_scenes(
        make_run(small_net("same")), *pictures(4), batch_size=2, timing_images=2, strides=[]
    )
    assert not found.agreement.expected and found.agreement.difference > 1e-3
    contexts = {row.method: row.context for row in found.rows}
    assert contexts.pop("dense, stride 2") == "image"
    assert set(contexts.values()) == {"crop"} and len(contexts) == 4


@pytest.mark.slow
def test_multiply_adds_are_those_of_the_geometry(found):
    one = geometry.table(small_net(), WINDOW).macs
    assert one == 6 * 6 * 9 * 4 + 3 * 3 * 4 * 3
    # 12x10 is what the 3x2 windows at stride 2 cover.
    whole = geometry.table(convert.convolutional(small_net(), WINDOW), (12, 10, 1)).macs
    macs = {row.method: row.multiply_adds for row in found.rows}
    assert macs["resize the whole"] == macs["centre crop"] == one
    assert macs["ten crops"] == 10 * one and macs["all crops, stride 2"] == 6 * one
    assert macs["dense, stride 2"] == whole == 10 * 8 * 9 * 4 + 3 * 2 * 36 * 3
    assert macs["dense, stride 1"] == 4 * whole  # four shifts of the same extent
    assert found.predicted_saving == pytest.approx(6 * one / whole)


@pytest.mark.slow
def test_times_are_measured_and_their_ratio_is_the_measured_saving(found):
    times = {row.method: row.milliseconds for row in found.rows}
    assert min(times.values()) > 0
    assert found.measured_saving == pytest.approx(times["all crops, stride 2"] / times["dense, stride 2"])


def test_a_net_whose_answers_are_known_by_hand():
    # Class 1 scores the mean of its 4x4 pixels less a half, class 0 nothing: "is this window mostly bright?"
    net = nets.net(Flatten(), Dense(2))
    kernel = jnp.stack([jnp.zeros(16), jnp.full(16, 1 / 16)], axis=1)
    variables = {"params": {"flatten1": {}, "fc1": {"kernel": kernel, "bias": jnp.array([0.0, -0.5])}}}
    run = make_run(net, variables, (4, 4, 1), 2)._replace(mean=(0.0,), std=(1.0,))
    images = np.zeros((4, 12, 12, 1), np.uint8)
    images[1, :4, :4] = images[2, 8:, 8:] = images[3, 1:5, 6:10] = 255
    found = on_scenes.evaluate_scenes(run, images, np.array([0, 1, 1, 1]))
    accuracy = {(row.method, row.averaging): row.accuracy for row in found.rows}
    assert accuracy["resize the whole", "none"] == accuracy["centre crop", "none"] == 0.25
    assert accuracy["ten crops", "max"] == 0.75  # patches in corners, but for the last
    assert accuracy["all crops, stride 1", "max"] == accuracy["dense, stride 1", "max"] == 1
    assert accuracy["dense, stride 1", "logits"] == 0.25  # a patch is a small part of the image


@pytest.mark.slow
def test_rows_carry_their_interval(found):
    for row in found.rows:
        assert (row.low, row.high) == measuring.wilson(round(row.accuracy * 7), 7)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": np.zeros((2, 13, 11, 1), np.float32)}, r"images are float32 \[2, 13, 11, 1\]"),
        ({"images": np.zeros((2, 13, 11, 3), np.uint8)}, r"images have 3 channels, the net takes 1"),
        ({"images": np.zeros((2, 7, 11, 1), np.uint8)}, r"window 8x8 is larger than the image 7x11"),
        ({"labels": np.zeros(3)}, r"labels have shape \[3\], there are 2 images"),
        ({"batch_size": 0}, r"batch_size \(=0\)"),
        ({"timing_images": 0}, r"timing_images \(=0\)"),
        ({"strides": [0]}, r"stride \(=0\) must be at least 1"),
    ],
)
def test_errors_name_the_field(change, message):
    images, labels = pictures(2)
    with pytest.raises(ValueError, match=message):
        on_scenes.evaluate_scenes(make_run(small_net()), **{"images": images, "labels": labels, **change})


@pytest.mark.slow
def test_a_net_that_diverged_is_right_nowhere():
    run = make_run(small_net())
    run = run._replace(variables=jax.tree.map(lambda leaf: leaf * np.nan, run.variables))
    images, _ = pictures(4)
    found = on_scenes.evaluate_scenes(run, images, np.zeros(4, int), batch_size=2, timing_images=1, strides=[])
    assert {row.accuracy for row in found.rows} == {0}
    assert np.isnan(found.agreement.difference) and found.agreement.argmax_differs == found.agreement.windows
