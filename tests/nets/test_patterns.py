"""What a study varies: options of `layer_pattern` by value, against nets built by hand; sharing of kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import convert, geometry, nets
from cnn.layers import (
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    LocallyConnected,
    MaxPool,
    NMaxPool,
)
from cnn.nets import textbook_kernels
from cnn.windows import GeometryError
from tests.made import draw, random_variables
from tests.reference import layers as reference


def sizes(net, shape, kinds=("conv", "max pool", "average pool", "n-max pool")):
    """Height of the map after each layer that may change it."""
    return [row.output_shape[0] for row in geometry.table(net, shape) if row.kind in kinds]


CONV = dict(padding="same")
HALVED = dict(CONV, stride=2, rounding="floor")
RELU, POOL = Activation(), dict(rounding="floor")
# Options, and the layers before Flatten that they stand for.
BUILT = {
    "as ever": ({}, [Conv(32, 3, **CONV), RELU, MaxPool(2, **POOL), Conv(64, 3, **CONV), RELU, MaxPool(2, **POOL)]),
    "average": (dict(blocks=1, pool="average"), [Conv(32, 3, **CONV), RELU, AvgPool(2, **POOL)]),
    "n_max": (dict(blocks=1, pool="n_max"), [Conv(32, 3, **CONV), RELU, NMaxPool(2, n=2, **POOL)]),
    "pool_n": (dict(blocks=1, pool="n_max", pool_n=3), [Conv(32, 3, **CONV), RELU, NMaxPool(2, n=3, **POOL)]),
    "conv": (
        dict(blocks=1, features=5, pool="conv", activation="tanh"),
        [Conv(5, 3, **CONV), Activation("tanh"), Conv(5, 2, stride=2, rounding="floor"), Activation("tanh")],
    ),
    "stride": (
        dict(blocks=1, convs=2, features=5, pool="stride"),
        [Conv(5, 3, **CONV), RELU, Conv(5, 3, **HALVED), RELU],
    ),
    "no pool": (dict(blocks=1, features=5, pool=None), [Conv(5, 3, **CONV), RELU]),
    "a pool for each": (
        dict(blocks=4, features=(5, 6, 7, 8), pool=("stride", None, "average", "conv"), kernel=5, padding=2),
        [
            *[Conv(5, 5, padding=2, stride=2, rounding="floor"), RELU, Conv(6, 5, padding=2), RELU],
            *[Conv(7, 5, padding=2), RELU, AvgPool(2, **POOL)],
            *[Conv(8, 5, padding=2), RELU, Conv(8, 2, stride=2, rounding="floor"), RELU],
        ],
    ),
    "batch": (
        dict(blocks=1, features=5, norm="batch", pool="conv"),
        [Conv(5, 3, **CONV), BatchNorm(), RELU, Conv(5, 2, stride=2, rounding="floor"), RELU],
    ),
    "lrn": (dict(blocks=1, features=5, norm="lrn"), [Conv(5, 3, **CONV), RELU, LRN(), MaxPool(2, **POOL)]),
    "kernels": (
        dict(blocks=1, features=5, convs=2, kernel=(5, 3)),
        [Conv(5, 5, **CONV), RELU, Conv(5, 3, **CONV), RELU, MaxPool(2, **POOL)],
    ),
    "padding mode": (
        dict(blocks=1, features=5, padding_mode="reflect"),
        [Conv(5, 3, padding_mode="reflect", **CONV), RELU, MaxPool(2, **POOL)],
    ),
    "global": (
        dict(blocks=1, features=5, head="global"),
        [Conv(5, 3, **CONV), RELU, MaxPool(2, **POOL), AvgPool(None)],
    ),
    "bank": (
        dict(features=(6, 8), convs=2, first="bank"),
        [
            *[
                Conv(6, 5, kernel_init=textbook_kernels.bank_init, **CONV),
                RELU,
                Conv(6, 3, **CONV),
                RELU,
                MaxPool(2, **POOL),
            ],
            *[Conv(8, 3, **CONV), RELU, Conv(8, 3, **CONV), RELU, MaxPool(2, **POOL)],
        ],
    ),
}


@pytest.mark.parametrize("name", BUILT)
def test_options_are_these_layers(name):
    options, body = BUILT[name]
    found = nets.layer_pattern(width=7, fc=1, **options)
    wanted = nets.net(body, Flatten(), Dense(7), Activation(options.get("activation", "relu")), Dense(10))
    assert found == wanted  # every field of every layer


def test_dropout_stands_behind_hidden_layers_only():
    found = nets.layer_pattern(blocks=0, fc=1, dropout=0.5)
    assert found == nets.net(Flatten(), Dense(128), RELU, Dropout(0.5), Dense(10))


COUNTS = {
    # Of one channel, 13x13: two blocks of 4 and 8 maps, FC 10.
    "max": (dict(), 40 + 296 + 10 * (3 * 3 * 8 + 1)),
    "stride": (dict(pool="stride"), 40 + 296 + 10 * (4 * 4 * 8 + 1)),  # 13 -> 7 -> 4: rounded up
    "conv": (dict(pool="conv"), 40 + (4 * 4 * 4 + 4) + 296 + (4 * 8 * 8 + 8) + 10 * (3 * 3 * 8 + 1)),
    "batch": (dict(norm="batch"), 40 + 8 + 296 + 16 + 10 * (3 * 3 * 8 + 1)),
    "lrn": (dict(norm="lrn"), 40 + 296 + 10 * (3 * 3 * 8 + 1)),
    "kernels": (dict(convs=2, kernel=(5, 1)), (26 * 4 + 5 * 4) + (101 * 8 + 9 * 8) + 10 * (3 * 3 * 8 + 1)),
    "global": (dict(head="global"), 40 + 296 + 10 * (8 + 1)),
    "bank": (dict(features=(6, 8), first="bank"), 26 * 6 + 55 * 8 + 10 * (3 * 3 * 8 + 1)),
    "no pools": (dict(pool=(None, None)), 40 + 296 + 10 * (13 * 13 * 8 + 1)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters(name):
    options, count = COUNTS[name]
    net = nets.create("layer_pattern", **{"features": 4, "fc": 0, **options})
    assert geometry.table(net, (13, 13, 1)).params == count
    assert sum(leaf.size for leaf in jax.tree.leaves(random_variables(net, (13, 13), 1)["params"])) == count


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (dict(pool="conv"), "[CONV -> RELU]*4 -> FC"),
        (dict(pool="stride", norm="batch"), "[CONV -> BN -> RELU]*2 -> FC"),
        (dict(pool=("max", None)), "CONV -> RELU -> POOL -> CONV -> RELU -> FC"),
        (dict(norm="lrn"), "[CONV -> RELU -> NORM -> POOL]*2 -> FC"),
        (dict(head="global", blocks=3), "[CONV -> RELU -> POOL]*3 -> GLOBAL POOL -> FC"),
    ],
)
def test_notation(options, pattern):
    assert str(nets.layer_pattern(fc=0, **options)) == f"INPUT -> {pattern}"


@pytest.mark.parametrize("size", [16, 17, 18, 19])
def test_sizes(size):
    """Pools round down; a strided convolution rounds up with padding "same", as it does without a pool."""
    half, quarter = size // 2, size // 4
    for pool in ("max", "average", "n_max"):
        assert sizes(nets.layer_pattern(pool=pool), (size, size, 1)) == [size, half, half, quarter]
    assert sizes(nets.layer_pattern(pool="conv"), (size, size, 1)) == [size, half, half, quarter]
    up = -(-size // 2)
    assert sizes(nets.layer_pattern(pool="stride"), (size, size, 1)) == [up, -(-up // 2)]
    valid = (size - 3) // 2 + 1
    assert sizes(nets.layer_pattern(pool="stride", padding="valid"), (size, size, 1)) == [valid, (valid - 3) // 2 + 1]


@pytest.mark.parametrize("size", [6, 7])
def test_where_a_strided_same_convolution_looks(size):
    """Against the NumPy reference: an even size is padded at the bottom and right only, an odd one all round."""
    net = nets.layer_pattern(blocks=1, features=2, pool="stride")
    variables, images = random_variables(net, (size, size), 1), draw(0, (2, size, size, 1))
    found = net.apply(variables, images, train=False, method="activations")[1]["conv1"]
    padding = ((0, 1), (0, 1)) if size % 2 == 0 else ((1, 1), (1, 1))
    own = variables["params"]["conv1"]
    expected = reference.convolution(images, own["kernel"], own["bias"], stride=(2, 2), padding=padding)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_padding_mode_reaches_every_convolution():
    images, logits = draw(0, (2, 8, 9, 2)), {}
    for mode in ("zero", "edge", "reflect", "mean"):
        net = nets.layer_pattern(blocks=2, features=3, width=5, padding_mode=mode)
        variables = random_variables(net, (8, 9), 2)
        logits[mode], stages = net.apply(variables, images, train=False, method="activations")
        x = images
        for conv, pool in (("conv1", "pool1"), ("conv2", "pool2")):
            own = variables["params"][conv]
            ones = ((1, 1), (1, 1))
            x = reference.convolution(x, own["kernel"], own["bias"], padding=ones, mode=mode)
            np.testing.assert_allclose(stages[conv], x, atol=1e-5)
            x = stages[pool]
    assert len({tuple(np.asarray(values).ravel().tolist()) for values in logits.values()}) == 4


def test_the_n_largest_of_a_window_are_averaged():
    images = draw(0, (2, 7, 8, 3))
    for n in (1, 2, 3, 4):
        net = nets.layer_pattern(convs=0, blocks=1, fc=0, pool="n_max", pool_n=n)
        pooled = net.apply(random_variables(net, (7, 8), 3), images, train=False, method="activations")[1]["pool1"]
        windows = np.asarray(images)[:, :6].reshape(2, 3, 2, 4, 2, 3).transpose(0, 1, 3, 5, 2, 4).reshape(2, 3, 4, 3, 4)
        np.testing.assert_allclose(pooled, np.sort(windows)[..., -n:].mean(axis=-1), atol=1e-6)


@pytest.mark.slow
def test_a_global_head_takes_any_size_and_is_the_mean_of_the_map():
    net = nets.layer_pattern(features=4, fc=0, head="global")
    variables = random_variables(net, (16, 16), 3)
    for height, width in ((16, 16), (31, 22), (4, 5)):
        images = draw(0, (2, height, width, 3))
        logits, stages = net.apply(variables, images, train=False, method="activations")
        dense = variables["params"]["fc1"]
        mean = np.asarray(stages["pool2"], np.float64).mean(axis=(1, 2))
        np.testing.assert_allclose(logits, mean @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"]), atol=1e-5)
    flat = nets.layer_pattern(features=4, fc=0)
    with pytest.raises(GeometryError, match="fc1 .*its kernel takes 128 values, got 280"):
        flat.apply(random_variables(flat, (16, 16), 3), draw(0, (2, 31, 22, 3)), train=False)


@pytest.mark.slow
def test_the_first_convolution_starts_as_the_bank():
    net = nets.layer_pattern(features=(6, 8), first="bank")
    params = net.init(jax.random.key(0), jnp.zeros((1, 12, 12, 3)), train=False)["params"]
    np.testing.assert_allclose(params["conv1"]["kernel"].sum(axis=2), textbook_kernels.bank(), rtol=1e-6)
    assert params["conv2"]["kernel"].shape == (3, 3, 6, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(pool="min"), "layer_pattern: unknown pool 'min'; pools: max, average, n_max, conv, stride, None"),
        (dict(pool=("max",)), r"pool \(=\('max',\)\) must be one kind or one for each of 2 blocks"),
        (dict(pool="stride", convs=0), "pool 'stride' needs a convolution to stride"),
        (dict(kernel=(5, 3)), r"kernel \(=\(5, 3\)\) must be one number or one for each of 1 convolutions of a block"),
        (dict(norm="layer"), "layer_pattern: unknown norm 'layer'; norms: batch, lrn, or None"),
        (dict(head="mean"), "layer_pattern: unknown head 'mean'; heads: flatten, global"),
        (dict(first="bnak"), "layer_pattern: unknown first 'bnak'; it is 'bank' or None"),
        (dict(first="bank"), r"'bank' has 6 kernels, .*\(=\[32, 64\]\) must be as many; features=\(6, 64\) would do"),
        (dict(first="bank", convs=0), "first 'bank' needs a convolution to start"),
        (dict(first="bank", blocks=0), "first 'bank' needs a convolution to start"),
    ],
)
def test_layer_pattern_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        nets.layer_pattern(**options)


def test_lists_are_as_good_as_tuples():
    """A saved config gives its sequences back as lists."""
    options = dict(convs=2, features=(6, 8), kernel=(5, 3), pool=("max", "conv"), first="bank")
    lists = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    assert nets.layer_pattern(**options) == nets.layer_pattern(**lists)


@pytest.mark.parametrize(
    "options",
    [
        dict(pool="conv"),
        dict(pool="stride", padding="valid"),
        dict(head="global", norm="lrn"),
        dict(flatten_order="random", pool=("average", None)),
        dict(features=(6, 8), first="bank", pool="n_max", pool_n=3),
    ],
)
def test_converted_patterns_give_the_logits(options):
    net, shape = nets.layer_pattern(**{"features": 4, "width": 9, **options}), (15, 14, 2)
    variables, images = random_variables(net, shape[:2], shape[2]), draw(0, (3, *shape))
    conv_net, conv_variables = convert.fc_to_conv(net, variables, shape)
    expected = np.asarray(net.apply(variables, images, train=False))
    scores = conv_net.apply(conv_variables, images, train=False)[:, 0, 0]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# sharing

ROWS = {
    "shared": [(4 * 4 * 1 + 1) * 8, (3 * 3 * 8 + 1) * 16],
    "local": [13 * 13 * (4 * 4 * 1 + 1) * 8, 6 * 6 * (3 * 3 * 8 + 1) * 16],
    "full": [(28 * 28 + 1) * 13 * 13 * 8, (13 * 13 * 8 + 1) * 6 * 6 * 16],
}


@pytest.mark.parametrize("sharing", ROWS)
def test_sharing(sharing):
    net = nets.create("sharing_net", sharing=sharing)
    rows = [row for row in geometry.table(net, (28, 28, 1)) if row.params]
    assert [row.params for row in rows] == [*ROWS[sharing], 5770]
    assert [np.prod(row.output_shape) for row in rows] == [1352, 576, 10]  # the same widths, shared or not
    symbol = {"shared": "CONV", "local": "LOCAL", "full": "FC"}[sharing]
    assert str(net) == f"INPUT -> [{symbol} -> RELU]*2 -> FC"


def test_the_numbers_of_the_first_layer():
    assert [ROWS[sharing][0] for sharing in ("shared", "local", "full")] == [136, 22_984, 1_061_320]


@pytest.mark.slow
def test_the_three_are_one_function_with_equal_kernels():
    """Shared kernels copied to each place, or written as a matrix, give the same logits."""
    built = {sharing: nets.create("sharing_net", sharing=sharing, image_size=16) for sharing in ROWS}
    shape, images = (16, 16, 2), draw(0, (3, 16, 16, 2))
    params = random_variables(built["shared"], shape[:2], shape[2])["params"]
    local, full, seen = {"fc1": params["fc1"]}, {"fc3": params["fc1"]}, shape
    for i, layer in enumerate(x for x in built["shared"].layers if isinstance(x, Conv)):
        own, size = params[f"conv{i + 1}"], layer.output_shape(seen)
        column = own["kernel"].transpose(2, 0, 1, 3).reshape(-1, size[2])
        local[f"local{i + 1}"] = {
            "kernel": np.tile(column, (*size[:2], 1, 1)),
            "bias": np.tile(own["bias"], (*size[:2], 1)),
        }
        matrix, bias = convert.conv_to_fc(layer, own, seen)
        full[f"fc{i + 1}"], seen = {"kernel": matrix, "bias": bias}, size
    expected = np.asarray(built["shared"].apply({"params": params}, images, train=False))
    for sharing, own in (("local", local), ("full", full)):
        found = built[sharing].apply({"params": own}, images, train=False)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_sharing_options():
    net = nets.create("sharing_net", num_classes=4, sharing="local", features=(5,), kernels=(3,), stride=1)
    assert net == nets.net(LocallyConnected(5, 3, stride=1), RELU, Flatten(), Dense(4))
    full = nets.create("sharing_net", sharing="full", features=(2,), kernels=(2,), image_size=6, activation="tanh")
    assert full == nets.net(Flatten(), Dense(18), Activation("tanh"), Dense(10))
    with pytest.raises(ValueError, match="sharing_net: unknown sharing 'none'; sharings: shared, local, full"):
        nets.create("sharing_net", sharing="none")
    with pytest.raises(ValueError, match=r"features \(=\(8, 16\)\) and kernels \(=\(4,\)\) must be as many"):
        nets.create("sharing_net", kernels=(4,))
    with pytest.raises(GeometryError, match="does not divide"):
        nets.create("sharing_net", sharing="full", image_size=29)
    with pytest.raises(GeometryError, match="local1 .*cannot be slid over a larger image"):
        convert.convolutional(nets.create("sharing_net", sharing="local"), (28, 28, 1))
