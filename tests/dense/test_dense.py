"""Dense evaluation: equal to crops by value where it must be, different in a bounded way where padding says so."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import convert, dense, nets
from cnn.dense import backends
from cnn.layers import LRN, Activation, AvgPool, BatchNorm, Conv, Dense, Flatten, LocallyConnected, MaxPool, NMaxPool
from cnn.runtime.compiler import jit_net
from cnn.windows import GeometryError
from tests.made import draw, random_variables

# Crops and passes sum the same float32 products in another order. The largest difference seen over these nets is about
# 1e-6 of the largest logit; the bound is the contract's.
TOLERANCE = 1e-5


make = functools.lru_cache(random_variables)


def pixels(*shape, seed=9):
    return draw(seed, shape)


def by_hand(net, variables, images, window, stride):
    """One window after another, cut with NumPy: the definition."""
    apply = jax.jit(lambda x: net.apply(variables, x, train=False))
    images = np.asarray(images)
    rows = []
    for y in range(0, images.shape[1] - window[0] + 1, stride[0]):
        cuts = [
            np.asarray(apply(images[:, y : y + window[0], x : x + window[1]]))
            for x in range(0, images.shape[2] - window[1] + 1, stride[1])
        ]
        rows.append(np.stack(cuts, axis=1))
    return np.stack(rows, axis=1)


def assert_same_scores(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()
    np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))


OVERLAPPING = nets.net(
    [Conv(8, 5, stride=2), Activation("relu"), LRN(), MaxPool(3, stride=2)],
    [Conv(8, 3, groups=2), BatchNorm(), Activation("tanh"), NMaxPool(2, n=3)],
    [AvgPool((2, 1), stride=1), Flatten("chw"), Dense(12), Activation("relu"), Dense(5)],
)
UNPADDED = [
    # net, window, channels, strides: the native S, S / 2, 1, and some that neither divide S nor are divided by it
    (nets.create("qa_net"), (32, 32), 3, (4, 2, 1, 3, 6, 8)),
    (nets.create("lenet5", flatten_order="chw"), (32, 32), 1, (4, 2, 1)),
    (OVERLAPPING, (29, 29), 4, (8, 4, 1, 5, 12, (3, 16))),
    (nets.net([Conv(4, 3), MaxPool(2, rounding="floor"), Flatten(), Dense(3)]), (8, 11), 2, (2, 1, (1, 3))),
    (nets.net([Conv(4, 3), MaxPool(2), Conv(6, 3), AvgPool(None), Flatten(), Dense(3)]), (12, 14), 2, (2, 1, 3)),
]
QUICK = ((4, 3), (4, 1), (8, (3, 16)), (2, (1, 3)), (3,))  # strides of each net that the fast part takes
CASES = [
    pytest.param(net, window, channels, stride, marks=[pytest.mark.slow] * (stride not in quick))
    for (net, window, channels, strides), quick in zip(UNPADDED, QUICK, strict=True)
    for stride in strides
]


@pytest.mark.parametrize("net, window, channels, stride", CASES, ids=lambda value: str(value)[:24])
def test_dense_equals_crops_on_unpadded_nets(net, window, channels, stride):
    variables = make(net, window, channels)
    images = pixels(2, window[0] + 9, window[1] + 14, channels)
    pair = (stride, stride) if isinstance(stride, int) else stride
    expected = by_hand(net, variables, images, window, pair)
    for backend in ("crops", "shift", "atrous", "mpf", "auto"):
        result = dense.score_map(net, variables, images, window, stride, backend)
        assert result.context == "both"
        assert_same_scores(result.scores, expected)


def test_default_stride_is_the_native_stride():
    net = nets.create("qa_net")
    variables, images = make(net, (32, 32), 3), pixels(1, 50, 44, 3)
    assert dense.native_stride(net, (32, 32), 3) == (4, 4)
    native = dense.score_map(net, variables, images, (32, 32))
    assert native.scores.shape == (1, 5, 4, 10)
    np.testing.assert_array_equal(native.scores, dense.score_map(net, variables, images, (32, 32), 4, "shift").scores)
    np.testing.assert_array_equal(native.boxes[1, 2], [4, 8, 36, 40])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["crops", "shift", "atrous", "mpf", "auto"])
def test_the_only_window_is_found_at_once_at_every_stride(backend):
    """A plan does not grow with a stride that leads out of the image."""
    net = nets.create("qa_net")
    variables, images = make(net, (32, 32), 3), pixels(1, 50, 44, 3)
    far = dense.score_map(net, variables, images, (32, 32), (10**12, 4), backend)
    assert far.grid.stride == (10**12, 4)
    assert_same_scores(far.scores, by_hand(net, variables, images, (32, 32), (50, 4)))
    single = dense.score_map(net, variables, images, (32, 32), 10**15, backend)
    assert_same_scores(single.scores, by_hand(net, variables, images, (32, 32), (50, 44)))
    sink = np.zeros((1, 1, 10), np.float32)
    asked = {"window": (32, 32), "stride": 10**15, "backend": backend}
    dense.stream(net, variables, np.asarray(images[0]), sink, **asked, progress=False)
    assert_same_scores(sink[None], single.scores)


def test_one_pass_is_the_converted_net():
    """At the native stride the map is, to the bit, what the converted net gives where it is compiled likewise."""
    net = nets.create("qa_net")
    variables, images = make(net, (32, 32), 3), pixels(2, 44, 52, 3)
    conv_net, conv_variables = convert.fc_to_conv(net, variables, (32, 32, 3))
    apply = jit_net(lambda variables, x: conv_net.apply(variables, x, train=False), ())
    expected = apply(conv_variables, images)
    result = dense.score_map(net, variables, images, (32, 32), 4, "shift", position_invariant=True)
    np.testing.assert_array_equal(result.scores, expected)
    assert_same_scores(dense.score_map(net, variables, images, (32, 32), 4, "shift").scores, expected)


@pytest.mark.slow
def test_two_passes_leave_holes_and_four_do_not():
    """The lecture's two passes, (0, 0) and (S/2, S/2), fill 41 of the 81 places of a 9x9 half-stride grid."""
    filled = np.zeros((9, 9), bool)
    for y, x in ((0, 0), (1, 1)):
        filled[y::2, x::2] = True
    assert filled.sum() == 41
    assert not filled[0, 1] and not filled[1, 0]
    for y, x in ((0, 1), (1, 0)):
        filled[y::2, x::2] = True
    assert filled.all()
    # The library runs four, and every one of the 81 scores is its crop's.
    net = nets.create("qa_net")
    variables, images = make(net, (32, 32), 1), pixels(1, 48, 48, 1)
    result = dense.score_map(net, variables, images, (32, 32), 2, "shift")
    assert result.scores.shape[1:3] == (9, 9)
    assert_same_scores(result.scores, by_hand(net, variables, images, (32, 32), (2, 2)))


PADDED = nets.create("full_cnn")


@pytest.mark.slow
def test_a_padded_nets_two_contexts_differ_and_each_is_what_it_says():
    """A crop sees zeros at its border where the pass sees its neighbours: two measurements, told apart by name."""
    window = (28, 28)
    variables, images = make(PADDED, window, 1), pixels(2, 44, 40, 1)
    assert dense.has_padding(PADDED, window, 1)
    crops = dense.score_map(PADDED, variables, images, window, 4, "crops")
    image = dense.score_map(PADDED, variables, images, window, 4)
    assert (crops.context, image.context) == ("crop", "image")
    assert image.backend in ("shift", "atrous", "mpf")
    assert_same_scores(crops.scores, by_hand(PADDED, variables, images, window, (4, 4)))
    conv_net, conv_variables = convert.fc_to_conv(PADDED, variables, (*window, 1))
    assert_same_scores(image.scores, conv_net.apply(conv_variables, images, train=False))
    difference = np.abs(np.asarray(crops.scores - image.scores)).max() / np.abs(np.asarray(crops.scores)).max()
    assert 0.01 < difference < 1  # far above rounding, and not another function altogether


def test_a_padded_net_agrees_where_its_padding_is_not_seen():
    """With zeros around the object both contexts see zeros: the difference is the padding's doing, nothing else's."""
    window = (28, 28)
    variables = make(PADDED, window, 1)
    # Zeros stay zeros through a convolution only without biases; then beyond-the-border is the same in both.
    variables = {"params": {k: {"kernel": v["kernel"], "bias": 0 * v["bias"]} for k, v in variables["params"].items()}}
    images = jnp.zeros((1, 60, 60, 1)).at[:, 26:34, 26:34].set(pixels(1, 8, 8, 1))
    crops = dense.score_map(PADDED, variables, images, window, 16, "crops").scores
    image = dense.score_map(PADDED, variables, images, window, 16, "shift").scores
    inside = (slice(None), slice(1, 2), slice(1, 2))  # window 16..44 holds the object with 10 pixels to spare
    assert_same_scores(image[inside], crops[inside])


def test_ceil_mode_that_hangs_over_counts_as_padding():
    hangs = nets.net([Conv(3, 3), MaxPool(2, rounding="ceil"), Flatten(), Dense(2)])
    assert dense.has_padding(hangs, (9, 9), 1)  # 7 -> 4: the last window sees one row
    assert not dense.has_padding(hangs, (10, 10), 1)
    variables, images = make(hangs, (9, 9), 1), pixels(1, 20, 20, 1)
    assert_same_scores(
        dense.score_map(hangs, variables, images, (9, 9), 3, "crops").scores,
        by_hand(hangs, variables, images, (9, 9), (3, 3)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("pool", [MaxPool, AvgPool, NMaxPool])
@pytest.mark.parametrize("backend", ["shift", "atrous", "mpf"])
def test_ceil_mode_that_never_hangs_over_a_window_is_no_padding(pool, backend):
    """Over the image some of its windows would hang over; no score is made of them."""
    net = nets.net([Conv(3, 3, padding=((0, 1), (0, 1)), stride=2, rounding="floor"), pool(3, 2, rounding="ceil")])
    net = nets.net([*net.layers, Flatten(), Dense(2)])
    assert not dense.has_padding(net, (15, 15), 1)
    variables, images = make(net, (15, 15), 1), pixels(1, 25, 28, 1)
    for stride in (4, 1, 3):
        found = dense.score_map(net, variables, images, (15, 15), stride, backend)
        assert found.context == "both"
        assert_same_scores(found.scores, by_hand(net, variables, images, (15, 15), (stride, stride)))


@pytest.mark.parametrize(
    "net, window, channels",
    [pytest.param(OVERLAPPING, (29, 29), 4, marks=pytest.mark.slow), (PADDED, (28, 28), 1)],
)
@pytest.mark.parametrize("backend", ["crops", "shift", "atrous", "mpf"])
def test_a_score_sees_its_box_and_nothing_else(net, window, channels, backend):
    """By gradient: every pixel of which a score is a function lies in its box, and reaches all four edges of it."""
    variables, images = make(net, window, channels), pixels(1, window[0] + 13, window[1] + 10, channels)
    stride = 4
    grid = dense.plan_grid(net, images.shape[1:], window, stride)
    boxes = dense.score_map(net, variables, images, window, stride, backend).boxes
    assert boxes.shape == (*grid.size, 4)
    for i, j in ((0, 0), (1, 1), (grid.size[0] - 1, grid.size[1] - 1)):

        def total(x, i=i, j=j):
            return dense.score_map(net, variables, x, window, stride, backend).scores[0, i, j].sum()

        seen = np.abs(np.asarray(jax.grad(total)(images))[0]).sum(-1) > 0
        y0, x0, y1, x1 = boxes[i, j]
        outside = seen.copy()
        outside[y0:y1, x0:x1] = False
        assert not outside.any()
        if backend == "crops" or net is OVERLAPPING:
            assert seen[y0].any() and seen[y1 - 1].any() and seen[:, x0].any() and seen[:, x1 - 1].any()


def test_boxes_by_hand():
    net = nets.net([Conv(4, 3), MaxPool(2, rounding="floor"), Flatten(), Dense(3)])  # window 8: pixel 8 of 8 unseen
    grid = dense.plan_grid(net, (13, 12, 1), (9, 8), 3)
    boxes = dense.boxes(net, (13, 12, 1), grid, "both")
    np.testing.assert_array_equal(boxes[..., 0], [[0, 0], [3, 3]])
    np.testing.assert_array_equal(boxes[..., 1], [[0, 3], [0, 3]])
    np.testing.assert_array_equal(boxes[..., 2] - boxes[..., 0], 8)  # of the 9 rows the last is left over
    np.testing.assert_array_equal(boxes[..., 3] - boxes[..., 1], 8)


def test_average_against_numpy():
    scores = np.random.default_rng(0).normal(0, 3, (2, 4, 5, 7)).astype(np.float32)
    flat = scores.reshape(2, 20, 7).astype(np.float64)
    exponentials = np.exp(flat - flat.max(-1, keepdims=True))
    softmax = exponentials / exponentials.sum(-1, keepdims=True)
    np.testing.assert_allclose(dense.average(scores), softmax.mean(1), rtol=1e-5)
    np.testing.assert_allclose(dense.average(scores, over="logits"), flat.mean(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(dense.average(scores, over="max"), scores.reshape(2, 20, 7).max(1))
    assert dense.average(jnp.asarray(scores, jnp.bfloat16)).dtype == jnp.float32
    with pytest.raises(ValueError, match="over .*'median'.*must be 'probabilities', 'logits' or 'max'"):
        dense.average(scores, over="median")


@pytest.mark.slow
def test_contexts_that_a_backend_cannot_give():
    variables, images = make(PADDED, (28, 28), 1), pixels(1, 40, 36, 1)
    crop = dense.score_map(PADDED, variables, images, (28, 28), 4, context="crop")
    assert (crop.backend, crop.context) == ("crops", "crop")
    image = dense.score_map(PADDED, variables, images, (28, 28), 4, context="image")
    assert image.context == "image" and image.backend != "crops"
    with pytest.raises(ValueError, match="'crops' computes context 'crop', not 'image'.*'mpf' or 'auto'"):
        dense.score_map(PADDED, variables, images, (28, 28), 4, "crops", context="image")
    with pytest.raises(ValueError, match="'mpf' computes context 'image', not 'crop'.*'crops' or 'auto'"):
        dense.score_map(PADDED, variables, images, (28, 28), 4, "mpf", context="crop")
    with pytest.raises(ValueError, match="unknown context 'both'"):
        dense.score_map(PADDED, variables, images, (28, 28), 4, context="both")
    net = nets.create("qa_net")
    both = dense.score_map(net, make(net, (32, 32), 1), pixels(1, 40, 40, 1), (32, 32), 4, "mpf", context="crop")
    assert both.context == "both"  # no padding: every backend's numbers are those of the crops


@pytest.mark.slow
def test_padding_that_is_not_zero_has_whole_passes_only():
    net = nets.net([Conv(3, 3, padding=1, padding_mode="edge"), MaxPool(2, rounding="floor"), Flatten(), Dense(2)])
    variables, images = make(net, (8, 8), 1), pixels(1, 21, 18, 1)
    conv_net, conv_variables = convert.fc_to_conv(net, variables, (8, 8, 1))
    whole = conv_net.apply(conv_variables, images, train=False)
    for backend in ("shift", "atrous", "mpf"):
        np.testing.assert_allclose(
            dense.score_map(net, variables, images, (8, 8), 4, backend).scores, whole[:, ::2, ::2], rtol=1e-5, atol=1e-6
        )
    with pytest.raises(GeometryError, match=r"conv1 .*'edge'.*stride \(1, 1\) is no multiple.*context='crop'"):
        dense.score_map(net, variables, images, (8, 8), 1)
    assert dense.score_map(net, variables, images, (8, 8), 1, context="crop").backend == "crops"


@pytest.mark.slow
def test_compiles_once_for_each_extent():
    """All shifts of one extent share a compilation: at stride 1 there are at most two extents along each axis."""
    net = nets.create("qa_net", num_classes=3)
    variables = make(net, (32, 32), 1)
    before = backends.run_pass.programs
    dense.score_map(net, variables, pixels(1, 47, 47, 1), (32, 32), 1, "shift")
    assert backends.run_pass.programs - before == 1
    dense.score_map(net, variables, pixels(1, 46, 46, 1), (32, 32), 1, "shift")
    assert backends.run_pass.programs - before == 1 + 4


def test_errors_say_the_way_out():
    net = nets.create("qa_net")
    variables, images = make(net, (32, 32), 3), pixels(1, 40, 30, 3)
    with pytest.raises(GeometryError, match=r"window 32x32 is larger than the image 40x30.*at least 40x32"):
        dense.score_map(net, variables, images, (32, 32))
    images = pixels(1, 40, 40, 3)
    with pytest.raises(GeometryError, match=r"stride \(=0\) must be at least 1"):
        dense.score_map(net, variables, images, (32, 32), 0)
    with pytest.raises(ValueError, match="unknown backend 'fft'; backends: auto, crops, shift, atrous, mpf"):
        dense.score_map(net, variables, images, (32, 32), backend="fft")
    with pytest.raises(GeometryError, match=r"pool1 .*does not divide.*32x32"):
        dense.score_map(net, variables, images, (33, 33))
    with pytest.raises(GeometryError, match=r"fc1 .*takes 150 values, got 216.*32x32"):
        dense.score_map(net, variables, images, (36, 36))
    with pytest.raises(GeometryError, match=r"takes \[N, H, W, C\], one image is images\[None\]"):
        dense.score_map(net, variables, images[0], (32, 32))
    local = nets.net([LocallyConnected(2, 3), Flatten(), Dense(3)])
    with pytest.raises(GeometryError, match=r"local1 .*cannot be slid"):
        dense.score_map(local, make(local, (8, 8), 1), pixels(1, 12, 12, 1), (8, 8), 1, "shift")


def test_a_map_prints_in_one_line():
    net = nets.create("qa_net")
    result = dense.score_map(net, make(net, (32, 32), 3), pixels(2, 50, 44, 3), (32, 32), backend="shift")
    expected = "ScoreMap(2 images: 5x4 windows of 32x32 pixels every 4x4, 10 classes, context 'both', backend 'shift')"
    assert str(result) == repr(result) == expected
    assert result.grid == dense.Grid((32, 32), (4, 4), (5, 4), (4, 4), (0, 0), (32, 32))


def test_only_position_invariant_maps_promise_bits():
    """A wide net, whose convolutions take Winograd's form otherwise: parts of the image give parts of the map."""
    net = nets.net([Conv(128, 3, padding=1), Conv(128, 3), Conv(128, 3), MaxPool(2), Flatten(), Dense(5)])
    variables, images = make(net, (12, 12), 3), pixels(1, 64, 64, 3)
    exact, default = (
        dense.score_map(net, variables, images, (12, 12), 2, "shift", position_invariant=flag) for flag in (True, False)
    )
    assert_same_scores(default.scores, exact.scores)
    flags = [
        dense.prepare(net, (12, 12), 3, position_invariant=flag).converted.net.layers[0].position_invariant
        for flag in (True, False)
    ]
    assert flags == [True, False]
