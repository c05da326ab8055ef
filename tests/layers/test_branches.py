"""Layers that branch: names, shapes, geometry and counts by hand, values against NumPy, and what does not fit."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import convert, dense, geometry, nets
from cnn.dense import backends, cost
from cnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Crop,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LocallyConnected,
    MaxPool,
    StochasticDepth,
)
from cnn.nets import own_layers
from cnn.windows import GeometryError
from tests.made import draw, random_variables
from tests.reference import dense as reference

PASSES = ("crops", "shift", "atrous", "mpf")


def residual(features, stride=1, padding=1):
    """Two 3x3 convolutions beside the identity, or beside a 1x1 convolution where stride or channels change."""
    main = (
        Conv(features, 3, stride=stride, padding=padding, rounding="floor", use_bias=False),
        *(BatchNorm(), Activation(), Conv(features, 3, padding=padding, use_bias=False), BatchNorm()),
    )
    crop = () if padding else (Crop(1 + stride),)
    short = () if stride == 1 else (Conv(features, 1, stride=stride, rounding="floor", use_bias=False), BatchNorm())
    return Branches((main, crop + short))


def test_names_pattern_and_counts():
    net = nets.net(
        [Conv(4, 3, padding=1), residual(4), Activation(), residual(6, 2), AvgPool(None)], [Flatten(), Dense(3)]
    )
    assert str(net) == (
        "INPUT -> CONV -> [[CONV -> BN -> RELU -> CONV -> BN] + ID] -> RELU -> "
        "[[CONV -> BN -> RELU -> CONV -> BN] + [CONV -> BN]] -> GLOBAL POOL -> FC"
    )
    variables = nets.init(net, (16, 16, 3))
    assert sorted(variables["params"]["block2"]) == ["bn1", "bn2", "bn3", "conv1", "conv2", "conv3"]
    table = geometry.table(net, (16, 16, 3), variables)
    block = table["block2"]
    # 3 * 3 * 4 * 6 + 3 * 3 * 6 * 6 + 4 * 6 weights, and three normalisations of 6 channels.
    assert block.params == 216 + 324 + 24 + 36 == sum(row.params for row in block.inside)
    assert block.macs == 64 * (216 + 324 + 24) == sum(row.macs for row in block.inside)
    assert table.params == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    # Of pixels: the convolution before sees 3, and each 3x3 convolution 2 more; behind the stride 4 more.
    assert (table["block1"].receptive_field, table["block1"].offset) == ((7, 7), (-3, -3))
    assert (block.receptive_field, block.stride, block.offset) == ((13, 13), (2, 2), (-6, -6))
    assert (table["block2/conv3"].receptive_field, table["block2/conv3"].offset) == ((7, 7), (-3, -3))
    lines = str(table).splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")][:2] == ["conv1", "bn1"]
    # A path or a join in words of its own, repeats folded.
    blocks = [Branches(((Conv(2, 1),), (MaxPool(3, 1, padding=1), Conv(2, 1))), "concat")] * 2
    assert str(nets.net(blocks)) == "INPUT -> [[CONV | [POOL -> CONV]]]*2"


@pytest.mark.parametrize("join", ["sum", "concat", "mean", "max", "product"])
def test_joins(join):
    layer = Branches(((Conv(3, 3, name="a"), Activation("tanh")), (Crop(1),), (Branches(((Crop(1),),)),)), join)
    net = nets.net(layer)
    variables, x = random_variables(net, (5, 6), 3), draw(0, (2, 5, 6, 3))
    inside = x[:, 1:-1, 1:-1]
    kernel, bias = (np.asarray(variables["params"]["block1"]["a"][name], np.float64) for name in ("kernel", "bias"))
    taps = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), axis=(1, 2))
    outputs = [np.tanh(np.einsum("nhwcij,ijck->nhwk", taps, kernel) + bias), inside, inside]
    join_in_numpy = {"sum": np.sum, "mean": np.mean, "max": np.max, "product": np.prod}.get(join)
    expected = join_in_numpy(outputs, axis=0) if join_in_numpy else np.concatenate(outputs, axis=-1)
    found = np.asarray(net.apply(variables, x, train=False))
    assert found.shape[1:] == net.layers[0].output_shape((5, 6, 3))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_training_changes_statistics_and_drops_whole_paths():
    net = nets.net(Branches(((Conv(3, 1, name="conv"), BatchNorm(), StochasticDepth(0.5)), ())))
    x = draw(0, (64, 4, 4, 3))
    variables = random_variables(net, (4, 4), 3)
    keys = {"dropout": jax.random.key(0)}
    y, changed = net.apply(variables, x, train=True, rngs=keys, mutable=["batch_stats"])
    left = np.asarray(y) - x
    dropped = np.abs(left).max(axis=(1, 2, 3)) == 0
    assert 16 < dropped.sum() < 48
    # The others are scaled by 1 / (1 - rate): normalised, with scale and bias, and twice that.
    norm = variables["params"]["block1"]["bn1"]["norm"]
    own = variables["params"]["block1"]["conv"]
    features = np.einsum("nhwc,ck->nhwk", x.astype(np.float64), np.asarray(own["kernel"][0, 0])) + own["bias"]
    normal = (features - features.mean((0, 1, 2))) / np.sqrt(features.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(left[~dropped], 2 * (normal * norm["scale"] + norm["bias"])[~dropped], atol=1e-4)
    before = variables["batch_stats"]["block1"]["bn1"]["norm"]["mean"]
    after = changed["batch_stats"]["block1"]["bn1"]["norm"]["mean"]
    np.testing.assert_allclose(after, 0.9 * before + 0.1 * features.mean((0, 1, 2)), atol=1e-5)


@pytest.mark.slow
def test_a_residual_net_is_run_densely():
    """Without padding every score is that of its window cut out; with it, that of the definition in NumPy."""
    head = [AvgPool(None), Flatten(), Dense(3)]
    unpadded = nets.net([Conv(4, 3), residual(4, 1, 0), Activation(), residual(5, 2, 0)], head)
    image = draw(1, (25, 27, 3))
    variables = random_variables(unpadded, (19, 19), 3)
    conv_net, conv_variables = convert.fc_to_conv(unpadded, variables, (19, 19, 3))
    truth = reference.window_scores(conv_net, conv_variables, image, (19, 19), (3, 1), (3, 9))
    for backend in ("crops", "shift", "atrous", "mpf"):
        found = dense.score_map(unpadded, variables, jnp.asarray(image)[None], (19, 19), (3, 1), backend)
        assert found.context == "both"
        np.testing.assert_allclose(found.scores[0], truth, atol=1e-5 * np.abs(truth).max(), err_msg=backend)
    plan = dense.plan(unpadded, image.shape, 1, window=(19, 19))
    assert plan["crops"].macs == 7 * 9 * geometry.table(unpadded, (19, 19, 3)).macs
    padded = nets.net([Conv(4, 3, padding=1), residual(4), Activation("sigmoid"), residual(5, 2)], head)
    variables = random_variables(padded, (8, 8), 3)
    conv_net, conv_variables = convert.fc_to_conv(padded, variables, (8, 8, 3))
    truth = reference.score_map(conv_net, conv_variables, image, (1, 1), (18, 20))
    maps = {
        name: dense.score_map(padded, variables, jnp.asarray(image)[None], (8, 8), 1, name) for name in ("shift", "mpf")
    }
    found = {name: np.asarray(one.scores[0]) for name, one in maps.items()}
    tiles = dense.score_maps(padded, variables, [image], (8, 8), 1, "atrous", tile=16)
    found["tiles"] = np.asarray(next(iter(tiles)).scores[0])
    for name, scores in found.items():
        np.testing.assert_allclose(scores, truth, atol=1e-5 * np.abs(truth).max(), err_msg=name)


@pytest.mark.slow
def test_paths_that_end_a_net_at_different_spacings():
    """The last layers of the two paths run at spacings of 2 and of 1 pixel; their fragments must be the same ones."""
    short = (Crop(3), Conv(3, 1, 2, rounding="floor"))
    net = nets.net([Conv(2, 3), Branches(((Conv(3, 3, 2), Conv(3, 3)), short)), Flatten(), Dense(2)])
    variables = random_variables(net, (9, 9), 1)
    image = np.random.default_rng(1).normal(size=(14, 12, 1)).astype(np.float32)
    corners = [(y, x) for y in range(6) for x in range(4)]
    windows = jnp.asarray([image[y : y + 9, x : x + 9] for y, x in corners])
    expected = jax.jit(lambda x: net.apply(variables, x, train=False))(windows).reshape(6, 4, 2)
    for one in PASSES:
        found = dense.score_map(net, variables, image[None], (9, 9), 1, one).scores[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=one)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Branches(()), r"block1 \(branches\): paths \(=\(\)\) must be one tuple of layers for each path"),
        (Branches(((), Conv(2))), r"block1 \(branches\): path 2 \(=Conv\) must be a tuple of layers of cnn.layers"),
        (Branches((("conv",),)), r"path 1 \(=\('conv',\)\) must be a tuple of layers of cnn.layers"),
        (Branches(((), ()), "add"), r"join \(='add'\) must be one of sum, concat, mean, max, product"),
        (
            Branches(((Conv(3, 3),), ())),
            r"the paths of a sum must give the same shape, and path 1 \(conv1\) gives 6x6x3, path 2 \(identity\) 8x8x3",
        ),
        (
            Branches(((Conv(2, 3),), (Conv(9, 5),)), "concat"),
            r"a concat must give the same height and width, and path 1 \(conv1\) gives 6x6x2, path 2 \(conv2\)",
        ),
        (
            Branches(((Conv(3, 2, stride=2),), (Conv(3, 5),))),
            r"all paths must have the same stride, and path 1 \(conv1\) has 2x2, path 2 \(conv2\) 1x1",
        ),
        (Branches(((Conv(3, 9),),)), r"block1/conv1 \(conv\): kernel 9 is larger than its input"),
        (Branches(((Flatten(), Dense(3)),)), r"the paths of a sum must give the same shape, and .* gives 3,"),
        (Branches(((Crop(-1),),)), r"block1/crop1 \(crop\): amount \(=-1\) must be at least 0"),
        (Branches(((StochasticDepth(1.0),),)), r"rate \(=1.0\) must be at least 0 and below 1"),
    ],
)
def test_what_does_not_fit_is_named(layer, message):
    with pytest.raises(GeometryError, match=message):
        geometry.table(nets.net(layer), (8, 8, 3))
    with pytest.raises(GeometryError, match="needs an image"):
        geometry.table(nets.net(Flatten(), Branches(((),))), (8, 8, 3))


def test_what_cannot_slide_is_named():
    for inner, message in (
        (AvgPool(None), r"block1/global_pool1 \(average pool\): pools the whole window within a layer that branches"),
        (LocallyConnected(3, 1), r"block1/local1 \(locally connected\): its kernels belong to fixed places"),
    ):
        shape = (1, 1, 3) if isinstance(inner, AvgPool) else (4, 4, 3)
        net = nets.net(Branches(((inner,), ())), Flatten(), Dense(2))
        with pytest.raises(GeometryError, match=message):
            convert.convolutional(net, shape)
    net = nets.net(Branches(((Conv(3, 1), Dropout(0.1)), ())), Flatten(), Dense(2))
    variables = random_variables(net, (4, 4), 3)
    del variables["params"]["block1"]["conv1"]["bias"]
    with pytest.raises(geometry.VariablesError, match=r"block1/conv1 \(conv\): the variables lack its bias"):
        geometry.table(net, (4, 4, 3), variables)


class Square(Layer):
    """A layer of a user's own, within a path."""

    kind = "square"
    mixes_pixels = False
    features: int = 0  # what it says of its channels, if they are not those of its input

    @nn.nowrap
    def output_shape(self, input_shape):
        return (*input_shape[:2], self.features or input_shape[2])

    @nn.compact
    def __call__(self, x, *, train):
        return x * x


def test_layers_of_ones_own_within_paths():
    """They are slid as others are, and one that does not do what it says is named."""
    net = nets.net(Branches(((Conv(3, 3), Square()), (Crop(1),))), AvgPool(None), Flatten(), Dense(2))
    variables, image = random_variables(net, (5, 5), 3), draw(2, (1, 7, 8, 3))
    own_layers.check(net, (5, 5, 3))
    found = [dense.score_map(net, variables, jnp.asarray(image), (5, 5), 1, name).scores for name in ("crops", "mpf")]
    np.testing.assert_allclose(*found, atol=1e-5 * np.abs(found[0]).max())
    wrong = nets.net(Branches(((Branches(((Conv(3, 3), Square(4)), (Conv(4, 3),))),), (Conv(4, 3),))), AvgPool(None))
    message = r"layer block1/block1/square1 \(square\), class Square: gives an array \[2, 3, 3, 3\] for two inputs"
    with pytest.raises(ValueError, match=message):
        own_layers.check(wrong, (5, 5, 3))
    word = nets.net(Branches(((Conv(3, "3"),), ())), AvgPool(None))
    with pytest.raises(ValueError, match=r"block1/conv1 \(conv\): .*'3'"):
        own_layers.check(word, (5, 5, 3))


def test_what_a_path_gives_in_between_counts_as_memory_of_crops():
    """A wide path: 6x6 values of 40 channels, where the block's input and output have 2."""
    net = nets.net(Branches(((Conv(40, 1), Activation(), Conv(2, 1)), ())), AvgPool(None), Flatten(), Dense(2))
    prepared = dense.prepare(net, 6, 2)
    grid = dense.plan_grid(net, (6, 6, 2), (6, 6), None)
    assert cost.layer_costs(prepared, (6, 6, 2), grid, "crops")[0].bytes >= 4 * 36 * (2 + 2 + 40 + 40)
    assert backends.crop_batch(prepared, "cpu") == backends.CROP_BATCH_BYTES["cpu"] // (4 * 36 * 40)


def test_layers_may_have_any_name():
    """Also that of what stands for an identity in the net that is slid."""
    net = nets.net(Branches(((), (Activation(name="path0"),), (Conv(3, 1, name="path1"),))), AvgPool(None))
    slid = convert.convolutional(net, (4, 4, 3)).layers[0]
    assert [[layer.name for layer in path] for path in slid.paths] == [["path2"], ["path0", "path3"], ["path1"]]


def test_a_join_may_end_a_net_of_records():
    """The number of outputs is not that of the convolution before it."""
    net = nets.net(Conv(4, 1), Branches(((), (Conv(2, 1),)), "concat"), AvgPool(None))
    assert nets.create("layers", num_classes=6, layers=nets.to_config(net)) == net
