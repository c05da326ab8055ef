"""Conversion both ways: the same function, written as a convolution or as a matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import convert, geometry, nets
from cnn.layers import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LocallyConnected,
    MaxPool,
    PReLU,
    Scale,
    WindowLayer,
)
from cnn.layers.pointwise import FLATTEN_ORDERS
from cnn.windows import GeometryError, Window
from tests.made import draw, random_variables

# Both sides sum the same float32 products, in another order: a few units in the last place of the largest value.
ROUNDING = 1e-5


def randomised(net, shape, seed=0):
    """Variables with every value random, so that no bias or running mean hides at zero."""
    return random_variables(net, shape[:2], shape[2], seed)


def applied(net, variables, images):
    """Scores; one program is compiled in less time than one for each operation."""
    return jax.jit(lambda variables, images: net.apply(variables, images, train=False))(variables, images)


def assert_close(ours, theirs):
    scale = np.abs(np.asarray(theirs)).max()
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=0, atol=ROUNDING * scale)


NETS = [
    ("qa_net", {}, (32, 32, 3)),
    ("full_cnn", {}, (28, 28, 1)),
    ("full_cnn", {"dropout": 0.5}, (33, 30, 3)),
    ("lenet5", {}, (32, 32, 1)),
    ("vgg11", {"width": 32, "norm": True}, (64, 64, 3)),
    ("layer_pattern", {"convs": 2, "blocks": 2, "fc": 2, "norm": True}, (24, 28, 3)),
]


QUICK = (("qa_net", "chw"), ("lenet5", "hwc"), ("lenet5", "chw"), ("layer_pattern", "hwc"))


@pytest.mark.parametrize(
    "name, options, shape, order",
    [
        pytest.param(*case, order, marks=[pytest.mark.slow] * ((case[0], order) not in QUICK))
        for case in NETS
        for order in FLATTEN_ORDERS
    ],
)
def test_converted_net_gives_the_logits(name, options, shape, order):
    net = nets.create(name, 7, flatten_order=order, **options)
    variables = randomised(net, shape)
    images = draw(2, (3, *shape))
    conv_net, conv_variables = convert.fc_to_conv(net, variables, shape)
    scores = applied(conv_net, conv_variables, images)
    assert scores.shape == (3, 1, 1, 7)
    assert not any(isinstance(layer, Dense | Flatten) for layer in conv_net.layers)
    assert_close(scores[:, 0, 0], applied(net, variables, images))
    # The parameters are the same numbers under the same names.
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(p)) for name, p in variables["params"].items()}
    assert sizes == {
        name: sum(leaf.size for leaf in jax.tree.leaves(p)) for name, p in conv_variables["params"].items()
    }
    assert geometry.table(conv_net, shape).params == geometry.table(net, shape).params
    assert geometry.table(conv_net, shape).macs == geometry.table(net, shape).macs


@pytest.mark.slow
def test_the_two_orders_differ_before_and_agree_after_conversion():
    """A kernel trained with one order, read with the other, is another function: the orders are told apart."""
    hwc, chw = (nets.create("qa_net", flatten_order=order) for order in ("hwc", "chw"))
    variables = randomised(hwc, (32, 32, 3))
    images = draw(2, (2, 32, 32, 3))
    one, other = (net.apply(variables, images, train=False) for net in (hwc, chw))
    assert np.abs(np.asarray(one - other)).max() > 0.01
    kernel = variables["params"]["fc1"]["kernel"]
    moved = kernel.reshape(5, 5, 6, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    params = {**variables["params"], "fc1": {**variables["params"]["fc1"], "kernel": moved}}
    assert_close(chw.apply({"params": params}, images, train=False), one)
    converted = convert.fc_to_conv(chw, {"params": params}, (32, 32, 3))[1]
    expected = convert.fc_to_conv(hwc, variables, (32, 32, 3))[1]
    jax.tree.map(np.testing.assert_array_equal, converted, expected)  # to the bit: the same numbers moved about


def test_vgg16_384_gives_6x6():
    conv_net = convert.convolutional(nets.create("vgg16"), (224, 224, 3))
    table = geometry.table(conv_net, (384, 384, 3))
    assert table["pool5"].output_shape == (12, 12, 512)
    assert table["fc1"].output_shape == (6, 6, 4096)
    assert table[-1].output_shape == (6, 6, 1000)
    assert table[-1].stride == (32, 32)
    # One pass shares the work of the 36 crops: 11.2 times fewer multiply-adds.
    crops = 36 * geometry.table(nets.create("vgg16"), (224, 224, 3)).macs
    assert round(crops / 1e9) == 557
    assert round(table.macs / 1e9, 1) == 49.6
    assert round(crops / table.macs, 1) == 11.2


def test_a_fully_convolutional_net_keeps_its_layers():
    net = nets.net([Conv(4, 3), MaxPool(2), Conv(5, 4)])
    variables = randomised(net, (10, 10, 3))
    conv_net, conv_variables = convert.fc_to_conv(net, variables, (10, 10, 3))
    uniform = [layer.clone(position_invariant=True) if isinstance(layer, Conv) else layer for layer in net.layers]
    assert list(conv_net.layers) == uniform
    jax.tree.map(np.testing.assert_array_equal, dict(conv_variables), dict(variables))


@pytest.mark.slow
def test_dropout_and_activation_between_flatten_and_dense():
    flat = [Flatten("chw"), Dropout(0.5), Activation("elu", slope=0.5), PReLU(shared=True)]
    net = nets.net([Conv(4, 3), PReLU(), *flat, Dense(6), BatchNorm(), PReLU(), Scale(), Dense(3)])
    variables = randomised(net, (9, 7, 2))
    images = draw(0, (2, 9, 7, 2))
    conv_net, conv_variables = convert.fc_to_conv(net, variables, (9, 7, 2))
    assert_close(applied(conv_net, conv_variables, images)[:, 0, 0], applied(net, variables, images))


def test_what_cannot_be_slid_says_so():
    local = nets.net([LocallyConnected(4, 3), Flatten(), Dense(3)])
    with pytest.raises(GeometryError, match=r"local1 .*cannot be slid over a larger image"):
        convert.convolutional(local, (8, 8, 1))
    flat_norm = nets.net([Conv(4, 3), Flatten(), BatchNorm(), Dense(3)])
    with pytest.raises(GeometryError, match=r"bn1 .*144 flattened values.*before Flatten or after a Dense"):
        convert.convolutional(flat_norm, (8, 8, 1))
    for layer, name in ((Scale(), "scale1"), (PReLU(), "prelu1")):
        with pytest.raises(GeometryError, match=rf"{name} .*has parameters for 144 flattened values.*before Flatten"):
            convert.convolutional(nets.net([Conv(4, 3), Flatten(), layer, Dense(3)]), (8, 8, 1))
    with pytest.raises(GeometryError, match="6x6x4 map and no Dense"):
        convert.convolutional(nets.net([Conv(4, 3), Flatten()]), (8, 8, 1))
    net = nets.create("qa_net")
    with pytest.raises(GeometryError, match=r"fc1 .*takes 150 values, got 216.*32x32"):
        convert.fc_to_conv(net, randomised(net, (32, 32, 3)), (36, 36, 3))


@pytest.mark.parametrize(
    "layer, shape",
    [
        (Conv(3, 3), (6, 5, 2)),
        (Conv(4, (2, 3), stride=(2, 1), padding=((1, 0), (2, 1))), (7, 6, 2)),
        (Conv(4, 3, padding="same", groups=2), (5, 5, 4)),
        (Conv(2, 3, padding=1, padding_mode="edge"), (5, 6, 3)),
        (Conv(2, 3, padding=2, padding_mode="reflect"), (5, 6, 1)),
        (Conv(2, 3, padding=1, padding_mode="mean"), (4, 6, 2)),
        (Conv(2, 3, padding=(1, 0), padding_mode="constant", padding_value=-2.5), (4, 5, 2)),
        (Conv(2, 2, dilation=2, use_bias=False), (6, 6, 2)),
        (Conv(3, 1), (4, 4, 3)),
    ],
)
def test_conv_as_matrix(layer, shape):
    variables = randomised(layer, shape)
    images = draw(3, (4, *shape))
    expected = layer.apply(variables, images, train=False)
    matrix, bias = convert.conv_to_fc(layer, variables, shape)
    assert matrix.shape == (np.prod(shape), np.prod(expected.shape[1:]))
    assert_close(images.reshape(4, -1) @ matrix + bias[None, :], expected.reshape(4, -1))
    # The same with the layer's own parameters, without the "params" level.
    again, _ = convert.conv_to_fc(layer, variables["params"], shape)
    np.testing.assert_array_equal(matrix, again)


def test_the_matrix_is_mostly_zero_with_repeated_blocks():
    """Built by hand from the definition: entry (pixel, output) is the tap that joins them, or zero."""
    layer = Conv(2, 3, stride=2)
    variables = randomised(layer, (7, 5, 3))
    kernel = np.asarray(variables["params"]["kernel"])
    expected = np.zeros((7, 5, 3, 3, 2, 2), np.float32)
    for a in range(3):
        for b in range(2):
            expected[2 * a : 2 * a + 3, 2 * b : 2 * b + 3, :, a, b, :] = kernel
    matrix, bias = convert.conv_to_fc(layer, variables, (7, 5, 3))
    np.testing.assert_array_equal(np.asarray(matrix), expected.reshape(105, 12))
    np.testing.assert_array_equal(np.asarray(bias), np.tile(variables["params"]["bias"], 6))


def test_conv_to_fc_and_back():
    """conv -> FC -> conv: the matrix as the Dense of a one-layer net, slid as a convolution again."""
    layer = Conv(3, 3, padding=1)
    variables = randomised(layer, (6, 6, 2))
    matrix, bias = convert.conv_to_fc(layer, variables, (6, 6, 2))
    dense_net = nets.net([Flatten(), Dense(108)])
    back, back_variables = convert.fc_to_conv(
        dense_net, {"params": {"fc1": {"kernel": matrix, "bias": bias}}}, (6, 6, 2)
    )
    images = draw(0, (2, 6, 6, 2))
    expected = layer.apply(variables, images, train=False).reshape(2, -1)
    assert_close(back.apply(back_variables, images, train=False)[:, 0, 0], expected)


def test_a_matrix_too_large_is_refused_with_its_size():
    layer = Conv(96, 11, stride=4)
    with pytest.raises(GeometryError, match=r"154,587 x 290,400, 167.2 GiB; more than 2.0 GiB"):
        convert.conv_to_fc(layer, {"kernel": jnp.zeros((11, 11, 3, 96)), "bias": jnp.zeros(96)}, (227, 227, 3))
    with pytest.raises(TypeError, match="takes a Conv layer, got Dense"):
        convert.conv_to_fc(Dense(3), {}, (4, 4, 1))
    own = {"kernel": jnp.zeros((3, 3, 2, 4)), "bias": jnp.zeros(4)}
    with pytest.raises(GeometryError, match=r"\(conv\): its kernel takes 2 channels, got 1"):
        convert.conv_to_fc(Conv(4, 3), own, (6, 6, 1))
    with pytest.raises(GeometryError, match=r"\(conv\): the variables lack its bias"):
        convert.conv_to_fc(Conv(4, 3), {"kernel": own["kernel"]}, (6, 6, 2))


class Spread(WindowLayer):
    """Mixes pixels with a window of its own, and has no field that could be replaced."""

    kind = "spread"

    def window(self, input_shape):
        return Window((3, 3), (1, 1), ((1, 1), (1, 1)))


class Mixed(Layer):
    """Mixes pixels and is no window layer."""

    kind = "mixed"
    mixes_pixels = True

    def window(self, input_shape):
        return Window((3, 3), (1, 1), ((1, 1), (1, 1)))


@pytest.mark.parametrize(
    "layer, missing",
    [(Spread(), "fields stride, padding, dilation, rounding"), (Mixed(), "cnn.layers.WindowLayer as its base")],
)
def test_layers_of_ones_own_that_cannot_slide_say_what_they_lack(layer, missing):
    net = nets.net([Conv(2, 3), layer, Flatten(), Dense(3)])
    with pytest.raises(GeometryError, match=rf"{layer.kind}1 .*cannot be slid.*lacks {missing}"):
        convert.convolutional(net, (8, 8, 1))
