"""The protocol grid against a slow one: each picture by itself, windows cut out in NumPy, averages in float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnn import dense, geometry
from cnn.protocols import crops as crops_lib
from cnn.protocols import measuring, methods, vgg
from cnn.protocols.vgg_options import Options
from tests.protocols.noise import ALL, CLASSES, MEAN, OPTIONS, SCALES, SIZES, STD, WINDOW, make_pictures, make_run

# The slow one


def average(scores, over):
    """[n, K] -> [K] in float64."""
    scores = np.asarray(scores, np.float64)
    if over == "probabilities":
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = scores / scores.sum(axis=1, keepdims=True)
    return scores.max(axis=0) if over == "max" else scores.mean(axis=0)


def join(parts, over):
    return np.max(parts, axis=0) if over == "max" else np.mean(parts, axis=0)


def normalised(image):
    return (np.asarray(image, np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)


@functools.cache
def shown(index, scale):
    """One picture with its shortest side at a scale, uint8."""
    height, width = SIZES[index]
    size = tuple(int(side * scale / min(height, width) + 0.5) for side in (width, height))  # a half is rounded up
    return np.asarray(Image.fromarray(make_pictures().read(index)).resize(size, Image.Resampling.BICUBIC))


@functools.cache
def look(padding, index, scale, method, flip):
    """Logits [n, K] of one picture."""
    image = shown(index, scale)
    name, _, stride = method.partition(", stride ")
    if name == "dense" and padding == "same":
        run = make_run(padding)
        x = normalised(image[:, ::-1] if flip else image)[None]
        scores = dense.score_map(run.net, run.variables, x, (8, 8), int(stride or 2), context="image").scores
        return np.asarray(scores).reshape(-1, CLASSES)
    bottom, right = image.shape[0] - 8, image.shape[1] - 8
    centre = (bottom // 2, right // 2)
    step = int(stride or 2)
    places = {
        "centre crop": [centre],
        "ten crops": [*itertools.product((0, bottom), (0, right)), centre],
        "multi-crop": list(itertools.product(*(sorted({i * room // 2 for i in range(3)}) for room in (bottom, right)))),
        "dense": list(itertools.product(range(0, bottom + 1, step), range(0, right + 1, step))),
    }[name]
    image = image[:, ::-1] if flip and name == "dense" else image
    crops = [image[y : y + 8, x : x + 8] for y, x in places]
    crops += [crop[:, ::-1] for crop in crops] if name == "ten crops" else []
    crops = [crop[:, ::-1] for crop in crops] if flip and name != "dense" else crops
    return np.concatenate([np.asarray(logits(padding, normalised(crop)[None])) for crop in crops])


@functools.partial(jax.jit, static_argnums=0)
def logits(padding, crop):
    return make_run(padding).net.apply(make_run(padding).variables, crop, train=False)


def slow(padding, row):
    """Scores [N, K], one picture after another."""
    found = []
    for index in range(len(SIZES)):
        parts = [
            average(look(padding, index, scale, method, flip), row.averaging)
            for scale, method in itertools.product(row.scales, row.method.split(" + "))
            for flip in ((False, True) if row.flip and method != "ten crops" else (False,))
        ]
        found.append(join(parts, row.averaging))
    return np.array(found)


@pytest.mark.long
@pytest.mark.parametrize(
    "padding, fixture", [("valid", "unpadded"), pytest.param("same", "padded", marks=pytest.mark.slow)]
)
def test_every_row_is_that_of_each_picture_by_itself(padding, fixture, request):
    found, tested = request.getfixturevalue(fixture), make_pictures()
    for row, right in zip(found.rows, found.correct, strict=True):
        scores = slow(padding, row)
        order = np.argsort(-scores, axis=1, kind="stable")
        assert np.array_equal(order[:, 0] == tested.labels, right), row
        assert row.top1 == pytest.approx((order[:, 0] != tested.labels).mean())
        assert row.top5 == pytest.approx((order[:, :5] != tested.labels[:, None]).all(axis=1).mean())
        assert (row.top1_low, row.top1_high) == measuring.wilson(round(row.top1 * len(SIZES)), len(SIZES))
        assert (row.top5_low, row.top5_high) == measuring.wilson(round(row.top5 * len(SIZES)), len(SIZES))
        assert row.examples == len(SIZES)


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["valid", pytest.param("same", marks=pytest.mark.slow)])
def test_scores_of_a_batch_are_those_of_each_picture_by_itself(padding):
    run = make_run(padding)
    images = [shown(index, 11) for index in range(len(SIZES))]
    canvas = tuple(max(image.shape[axis] for image in images) for axis in (0, 1))
    looks = [
        methods.cropping(run, "multi-crop", lambda size: crops_lib.regular_places(size, (8, 8), 3)),
        methods.dense_run(run, (2, 2), name="dense"),
        methods.dense_run(run, (1, 1)),
    ]
    for method, flip, over in itertools.product(looks, (False, True), ALL):
        if padding == "valid":
            got = methods.pooled(method.scores(methods.Batch(images, canvas, 9), flip), over)
        else:
            parts = [methods.pooled(method.scores(methods.Batch([x], x.shape[:2], 1), flip), over) for x in images]
            got = np.concatenate(parts)
        wanted = [average(look(padding, index, 11, method.name, flip), over) for index in range(len(SIZES))]
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


# Averaging


@pytest.mark.parametrize("over", ALL)
def test_pooling_counts_the_windows_inside_alone(over):
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 20, (3, 4, 5, 6)).astype(np.float32)
    inside = rng.random((3, 4, 5)) < 0.4
    inside[0] = True
    got = methods.pooled(methods.WindowScores(scores, inside, 0), over)
    wanted = [average(scores[n][inside[n]], over) for n in range(3)]
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(got[:1], dense.average(jnp.asarray(scores[:1]), over), rtol=1e-5, atol=1e-6)


def test_pooling_over_something_else_is_an_error():
    with pytest.raises(ValueError, match=r"over \(='median'\)"):
        methods.pooled(methods.WindowScores(np.zeros((1, 1, 2)), np.ones((1, 1), bool), 0), "median")


def test_combining_is_a_mean_in_float64_or_the_largest():
    parts = np.random.default_rng(2).normal(size=(4, 3, 5)).astype(np.float32)
    assert np.array_equal(methods.combined(list(parts), "logits"), parts.astype(np.float64).mean(axis=0))
    assert np.array_equal(methods.combined(list(parts), "probabilities"), parts.astype(np.float64).mean(axis=0))
    assert np.array_equal(methods.combined(list(parts), "max"), parts.max(axis=0))


@pytest.mark.slow
def test_dense_and_multi_crop_together_are_the_mean_of_the_two(padded):
    rows = {(row.scales, row.method, row.flip, row.averaging): row for row in padded.rows}
    for over in ("probabilities", "logits"):
        both = rows[SCALES, "dense + multi-crop", True, over]
        one, other = (slow("same", both._replace(method=name)) for name in ("dense", "multi-crop"))
        np.testing.assert_allclose(slow("same", both), (one + other) / 2, rtol=1e-12)
        assert both.windows == sum(rows[SCALES, name, True, over].windows for name in ("dense", "multi-crop"))
        assert both.context == "crop+image"


# Rows and costs


@pytest.mark.slow
def test_rows_are_each_scale_and_all_with_each_method_flip_and_averaging(unpadded):
    plain = ["centre crop", "multi-crop", "dense", "dense, stride 1", "dense + multi-crop"]
    wanted = {(m, f, a) for m in plain for f in (False, True) for a in ALL} | {("ten crops", True, a) for a in ALL}
    for scales in ((8,), (11,), (8, 11)):
        got = [(row.method, row.flip, row.averaging) for row in unpadded.rows if row.scales == scales]
        assert set(got) == wanted and len(got) == len(wanted)
    assert [row.scales for row in unpadded.rows] == sorted(
        (row.scales for row in unpadded.rows), key=lambda s: (len(s), s)
    )


@pytest.mark.slow
def test_one_scale_is_the_same_alone_and_among_others(padded):
    alone = vgg.evaluate_grid(
        make_run("same"), make_pictures(), OPTIONS._replace(scales=(11,), strides=(), batch_size=2)
    )
    among = [(row, right) for row, right in zip(padded.rows, padded.correct, strict=True) if row.scales == (11,)]
    assert len(alone.rows) == len(among)
    for row, right, (other, other_right) in zip(alone.rows, alone.correct, among, strict=True):
        assert row[:11] == other[:11] and np.array_equal(right, other_right)
        assert (row.multiply_adds, row.windows) == (other.multiply_adds, other.windows)


@pytest.mark.slow
def test_contexts_say_what_a_window_sees(padded, unpadded):
    assert {row.context for row in unpadded.rows} == {"both"}
    contexts = {row.method: row.context for row in padded.rows}
    assert contexts["dense"] == "image"
    assert contexts["centre crop"] == contexts["ten crops"] == contexts["multi-crop"] == "crop"


@pytest.mark.slow
def test_agreement_is_checked_and_equal_without_padding(padded, unpadded):
    assert unpadded.agreement.expected and unpadded.agreement.difference <= 1e-5
    assert unpadded.agreement.argmax_differs == 0 and unpadded.agreement.windows > 0
    assert not padded.agreement.expected and padded.agreement.difference > 1e-3


@pytest.mark.slow
def test_windows_and_multiply_adds_are_means_over_the_pictures(padded):
    one = geometry.table(make_run("same").net, WINDOW).macs
    rows = {(row.scales, row.method, row.flip): row for row in padded.rows}
    sizes = [crops_lib.scaled_size(size, 11) for size in SIZES]
    windows = np.mean([((h - 8) // 2 + 1) * ((w - 8) // 2 + 1) for h, w in sizes])
    assert rows[(11,), "dense", False].windows == pytest.approx(windows)
    assert rows[(11,), "dense", True].windows == pytest.approx(2 * windows)
    assert rows[(11,), "centre crop", True].multiply_adds == 2 * one
    assert rows[(11,), "ten crops", True].multiply_adds == 10 * one
    places = np.mean([len(set(np.arange(3) * (w - 8) // 2)) * len(set(np.arange(3) * (h - 8) // 2)) for h, w in sizes])
    assert rows[(11,), "multi-crop", False].multiply_adds == pytest.approx(places * one)
    for row in padded.rows:
        assert row.images_per_second > 0 and row.measured_saving > 0
        if row.method in ("centre crop", "ten crops", "multi-crop"):
            assert row.predicted_saving == row.measured_saving == 1
        elif "+" not in row.method:
            assert row.predicted_saving == pytest.approx(one * row.windows / row.multiply_adds)
    time = {name: 1 / rows[SCALES, name, False].images_per_second for name in ("dense", "multi-crop")}
    together = 1 / rows[SCALES, "dense + multi-crop", True].images_per_second
    assert together == pytest.approx(2 * sum(time.values()))


@pytest.mark.slow
def test_five_classes_have_no_top_5_error():
    options = Options((8,), timing_images=1)
    found = vgg.evaluate_grid(make_run("valid", 5), make_pictures([(8, 8)] * 2, 5), options)
    assert {(row.top5, row.top5_low, row.top5_high) for row in found.rows} == {(None, None, None)}
