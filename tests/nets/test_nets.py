"""The registry: exact parameter counts, patterns, options, a training step of each net."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import geometry, nets
from cnn.layers import Activation, BatchNorm, Conv, Dense, Flatten, MaxPool, NMaxPool
from cnn.runs import checkpoint, defaults
from cnn.windows import GeometryError
from tests.made import draw, random_variables, shapes_of

# name, options, input shape, parameters, number of classes; the first of each name is the net as published.
COUNTS = [
    ("qa_net", {}, (32, 32, 3), 16_794, 10),
    ("qa_net", {}, (32, 32, 1), 16_644, 10),
    ("full_cnn", {}, (28, 28, 1), 421_642, 10),
    ("full_cnn", {}, (32, 32, 3), 545_098, 10),
    ("full_cnn", dict(features=(16, 32, 48), width=64), (28, 28, 1), 160 + 4_640 + 13_872 + 27_712 + 650, 10),
    ("lenet5", {}, (32, 32, 1), 61_706, 10),
    ("alexnet", {}, (227, 227, 3), 60_965_224, 1000),
    ("alexnet", dict(lrn=False, num_classes=10), (227, 227, 3), 60_965_224 - 990 * 4_097, 10),
    ("alexnet", dict(groups=1), (227, 227, 3), 62_378_344, 1000),  # the one-tower form
    ("vgg11", {}, (224, 224, 3), 132_863_336, 1000),
    ("vgg11", dict(norm=True), (224, 224, 3), 132_868_840, 1000),  # as torchvision's vgg11_bn
    ("vgg11", dict(width=64, num_classes=10), (32, 32, 3), 9_220_480 + 32_832 + 4_160 + 650, 10),
    ("vgg13", {}, (224, 224, 3), 133_047_848, 1000),
    ("vgg16", {}, (224, 224, 3), 138_357_544, 1000),
    ("vgg19", {}, (224, 224, 3), 143_667_240, 1000),
    # The same table of torchvision: its vgg13_bn, vgg16_bn and vgg19_bn.
    ("vgg13", dict(norm="batch"), (224, 224, 3), 133_053_736, 1000),
    ("vgg16", dict(norm="batch"), (224, 224, 3), 138_365_992, 1000),
    ("vgg19", dict(norm="batch"), (224, 224, 3), 143_678_248, 1000),
    ("caffenet", {}, (227, 227, 3), 60_965_224, 1000),
    ("alexnet_owt", {}, (224, 224, 3), 61_100_840, 1000),  # torchvision's table of weights
    ("zfnet512", {}, (224, 224, 3), 87_250_536, 1000),
    ("lenet_caffe", {}, (28, 28, 1), 431_080, 10),
    ("cifar10_quick", {}, (32, 32, 3), 145_578, 10),
    ("giusti_n4", {}, (95, 95, 3), 2_352 + 57_648 + 36_912 + 36_912 + 86_600 + 402, 2),
    ("layer_pattern", {}, (32, 32, 3), 896 + 18_496 + 524_416 + 1_290, 10),
    ("layer_pattern", dict(blocks=0, fc=0), (8, 8, 1), 650, 10),
    ("layer_pattern", dict(convs=2, blocks=1, fc=0, norm=True), (4, 4, 1), 320 + 9_248 + 2 * 64 + 1_290, 10),
    ("sharing_net", {}, (28, 28, 1), 136 + 1_168 + 5_770, 10),
    ("sharing_net", dict(sharing="local"), (28, 28, 1), 22_984 + 36 * 73 * 16 + 5_770, 10),
    ("sharing_net", dict(sharing="full"), (28, 28, 1), 1_061_320 + 1_353 * 576 + 5_770, 10),
    # torchvision's table of weights; its googlenet without auxiliary heads.
    ("resnet18", {}, (224, 224, 3), 11_689_512, 1000),
    ("resnet34", {}, (224, 224, 3), 21_797_672, 1000),
    ("resnet50", {}, (224, 224, 3), 25_557_032, 1000),
    ("se_resnet18", {}, (224, 224, 3), 11_778_592, 1000),  # that of the nets that are called seresnet18
    ("mobilenet_v2", {}, (224, 224, 3), 3_504_872, 1000),
    ("googlenet", {}, (224, 224, 3), 6_624_904, 1000),
    ("squeezenet", {}, (224, 224, 3), 1_235_496, 1000),
    ("squeezenet", dict(version="1.0"), (224, 224, 3), 1_248_424, 1000),
    ("densenet121", {}, (224, 224, 3), 7_978_856, 1000),
    # By hand: a 3x3 convolution of 3 channels; in each stage the maps of all 3x3 convolutions, and 1x1 beside a stride;
    # two numbers for each channel that is normalised; fully connected.
    (
        "preact_resnet",
        dict(depth=8),
        (32, 32, 3),
        *(432 + 9 * (2 * 16**2 + 16 * 32 + 32**2 + 32 * 64 + 64**2) + 16 * 32 + 32 * 64 + 2 * 240 + 650, 10),
    ),
    ("preact_resnet", {}, (32, 32, 3), 272_282, 10),
    ("resnet9", {}, (32, 32, 3), 6_573_120, 10),  # as summaries of the original print
    ("resnet9", dict(width=32, pool_first=True), (32, 32, 3), 1_646_112, 10),
    # By hand: 24 kernels of 2x2x3; 3x3 convolutions from 24 to 64 to 64 maps, to 256, 256, 256 and 256; two numbers for
    # each channel that is normalised; ten scores of 256 values.
    (
        "whitened_resnet",
        {},
        (32, 32, 3),
        *(288 + 9 * (24 * 64 + 64**2 + 64 * 256 + 3 * 256**2) + 2 * 2 * (64 + 256 + 256) + 2560, 10),
    ),
    (
        "whitened_resnet",
        dict(features=(8, 16, 32), blocks=(0, 1, 2)),
        (32, 32, 3),
        *(288 + 9 * (24 * 8 + 8 * 16 + 16**2 + 16 * 32 + 2 * 32**2) + 2 * (8 + 2 * 16 + 3 * 32) + 320, 10),
    ),
    ("nin", {}, (32, 32, 3), 966_986, 10),
    ("all_cnn", {}, (32, 32, 3), 1_369_738, 10),
]
LARGE = ("alexnet", "alexnet_owt", "caffenet", "zfnet512", "vgg11", "vgg13", "vgg16", "vgg19")


def loss_function(net, images, labels):
    """(params, the rest) -> mean cross-entropy, in training mode."""

    def loss(params, rest):
        keys = {"dropout": jax.random.key(1, impl="rbg")}
        logits, _ = net.apply({"params": params, **rest}, images, train=True, mutable=list(rest), rngs=keys)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()

    return loss


def test_every_net_is_in_the_table():
    assert {name for name, *_ in COUNTS} == set(nets.names())
    assert list(nets.names()) == sorted(nets.names())


@pytest.mark.parametrize(("name", "options", "shape", "count", "classes"), COUNTS)
def test_counts_and_logits(name, options, shape, count, classes):
    net = nets.create(name, **options)
    assert geometry.table(net, shape).params == count
    images = jnp.zeros((3, *shape))
    variables = shapes_of(net, images.shape)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count
    logits = jax.eval_shape(lambda v, x: net.apply(v, x, train=False), variables, images)
    assert logits.shape == (3, classes) and logits.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("qa_net", {}, (32, 32, 3)),
        ("full_cnn", dict(dropout=0.2), (28, 28, 1)),
        ("lenet5", {}, (32, 32, 1)),
        ("giusti_n4", dict(features=8, width=20), (95, 95, 1)),
        ("layer_pattern", dict(convs=2, features=8, width=16, norm=True), (12, 12, 3)),
        ("layer_pattern", dict(features=(6, 8), pool="conv", norm="lrn", head="global", first="bank"), (13, 12, 3)),
        ("layer_pattern", dict(features=8, pool="stride", padding_mode="mean", flatten_order="random"), (13, 12, 3)),
        ("sharing_net", dict(sharing="shared"), (28, 28, 1)),
        ("sharing_net", dict(sharing="local"), (28, 28, 1)),
        ("sharing_net", dict(sharing="full", image_size=16), (16, 16, 3)),
        ("vgg11", dict(width=32, num_classes=10, dropout=0.0), (32, 32, 3)),
    ],
)
def test_a_step_lowers_the_loss(name, options, shape):
    net = nets.create(name, **options)
    variables = random_variables(net, shape[:2], shape[2])
    rest = {key: value for key, value in variables.items() if key != "params"}
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == geometry.table(net, shape).params
    loss = loss_function(net, draw(0, (4, *shape)), jnp.arange(4) % 2)

    @jax.jit
    def step(params):
        value, gradients = jax.value_and_grad(loss)(params, rest)
        norm = sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients))
        # A step that lowers the loss by 2 % if the loss is linear over it; the dropout mask is the same in both.
        return value, gradients, jax.tree.map(lambda p, g: p - 0.02 * value / norm * g, params, gradients)

    before, gradients, params = step(variables["params"])
    after = step(params)[0]
    assert 0.9 * before < after < before
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients)), "a parameter that does nothing"


POOLS = [MaxPool(2), MaxPool(4, stride=2), NMaxPool(2, n=2)]


@pytest.mark.slow
@pytest.mark.parametrize("pool", POOLS, ids=["side by side", "overlapping", "n largest"])
def test_compiled_gradients_are_those_of_one_operation_at_a_time(pool):
    """XLA computes some values in two places, and rounds them in two ways; a gradient that takes them for equal is NaN.

    It did where a batch norm's output was compared with its own maximum.
    """
    convolution = [Conv(8, 3, padding="same"), BatchNorm(), Activation("relu")]
    net = nets.net(*convolution, *convolution, pool, Flatten(), Dense(2))
    variables = random_variables(net, (12, 12), 3)
    params, rest = variables["params"], {key: value for key, value in variables.items() if key != "params"}
    gradient = jax.grad(loss_function(net, draw(0, (4, 12, 12, 3)), jnp.arange(4) % 2))
    compiled = jax.jit(gradient)(params, rest)
    with jax.disable_jit():
        expected = gradient(params, rest)
    # Else sums in another order; convolutions' biases, which the batch norm takes away, have no gradient but rounding.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), compiled, expected)


@pytest.mark.parametrize("name", LARGE)
def test_a_step_of_a_large_net_has_the_right_shapes(name):
    net = nets.create(name)
    side = 227 if name in ("alexnet", "caffenet") else 224
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    variables = shapes_of(net, images.shape)
    value, gradients = jax.eval_shape(
        lambda params, x: jax.value_and_grad(loss_function(net, x, jnp.zeros(2, int)))(params, {}),
        variables["params"],
        images,
    )
    assert value.shape == ()
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, variables["params"])


PATTERNS = [
    (dict(convs=2, blocks=3, fc=2), "[[CONV -> RELU]*2 -> POOL]*3 -> [FC -> RELU]*2 -> FC"),
    (dict(convs=1, blocks=2, fc=1), "[CONV -> RELU -> POOL]*2 -> FC -> RELU -> FC"),
    (dict(convs=1, blocks=1, fc=0), "CONV -> RELU -> POOL -> FC"),
    (dict(convs=3, blocks=1, fc=3), "[CONV -> RELU]*3 -> POOL -> [FC -> RELU]*3 -> FC"),
    (dict(convs=0, blocks=2, fc=1), "[POOL]*2 -> FC -> RELU -> FC"),
    (dict(convs=2, blocks=0, fc=1), "FC -> RELU -> FC"),
    (dict(convs=0, blocks=0, fc=0), "FC"),
    (dict(convs=2, blocks=2, fc=0), "[[CONV -> RELU]*2 -> POOL]*2 -> FC"),
    (dict(convs=2, blocks=3, fc=1, pool=None), "[CONV -> RELU]*6 -> FC -> RELU -> FC"),
    (dict(convs=1, blocks=3, fc=2, activation="tanh", dropout=0.5), "[CONV -> TANH -> POOL]*3 -> [FC -> TANH]*2 -> FC"),
    (dict(convs=2, blocks=2, fc=1, norm="lrn"), "[[CONV -> RELU -> NORM]*2 -> POOL]*2 -> FC -> RELU -> FC"),
    (dict(convs=2, blocks=2, fc=1, norm=True), "[[CONV -> BN -> RELU]*2 -> POOL]*2 -> FC -> RELU -> FC"),
]


@pytest.mark.parametrize(("options", "pattern"), PATTERNS)
def test_layer_pattern_prints_its_notation(options, pattern):
    net = nets.layer_pattern(**options)
    assert str(net) == f"INPUT -> {pattern}"
    kinds = [layer.kind for layer in net.layers]
    assert kinds.count("conv") == options["convs"] * options["blocks"]
    assert kinds.count("max pool") == (0 if "pool" in options else options["blocks"])
    assert kinds.count("dense") == options["fc"] + 1
    assert geometry.table(net, (16, 16, 3))[-1].output_shape == (10,)


def test_patterns_of_the_classics():
    vgg16 = "INPUT -> [[CONV -> RELU]*2 -> POOL]*2 -> [[CONV -> RELU]*3 -> POOL]*3 -> [FC -> RELU]*2 -> FC"
    assert str(nets.create("vgg16")) == vgg16
    alexnet = "[CONV -> RELU -> NORM -> POOL]*2 -> [CONV -> RELU]*3 -> POOL -> [FC -> RELU]*2 -> FC"
    assert str(nets.create("alexnet")) == f"INPUT -> {alexnet}"
    assert str(nets.create("qa_net")) == "INPUT -> [CONV -> RELU -> POOL]*2 -> FC -> RELU -> FC"
    assert str(nets.create("giusti_n4")) == "INPUT -> [CONV -> RELU -> POOL]*4 -> FC -> RELU -> FC"


def test_repeats_start_at_a_layer_with_weights():
    block = [Conv(2, 3, padding=1), Activation(), MaxPool(2)]
    net = nets.net(MaxPool(2), block, block, Flatten(), Dense(3))
    assert str(net) == "INPUT -> POOL -> [CONV -> RELU -> POOL]*2 -> FC"


def test_layer_pattern_refuses():
    for field in ("convs", "blocks", "fc"):
        with pytest.raises(ValueError, match=rf"layer_pattern: {field} \(=-1\) must be a whole number, at least 0"):
            nets.layer_pattern(**{field: -1})
    with pytest.raises(ValueError, match=r"features \(=\(8, 16\)\) must be one number or one for each of 3 blocks"):
        nets.layer_pattern(blocks=3, features=(8, 16))
    with pytest.raises(ValueError, match="unknown pool 'min'; pools: max, average, n_max"):
        nets.layer_pattern(pool="min")


def test_options_reach_the_layers():
    kinds = [layer.kind for layer in nets.layer_pattern(pool="n_max", dropout=0.25, norm=True).layers]
    assert kinds.count("n-max pool") == kinds.count("batch norm") == 2 and kinds.count("dropout") == 1
    assert [layer.features for layer in nets.layer_pattern(blocks=6, features=64).layers if layer.kind == "conv"] == [
        64,
        128,
        256,
        512,
        512,
        512,
    ]
    assert [layer.order for layer in nets.create("lenet5", flatten_order="chw").layers if layer.kind == "flatten"] == [
        "chw"
    ]
    rates = [layer.rate for layer in nets.create("full_cnn", dropout=0.5).layers if layer.kind == "dropout"]
    assert rates == [0.25, 0.25, 0.5]


def test_unknown_names_and_options():
    with pytest.raises(ValueError, match=r"unknown net 'vgg61'; did you mean .*vgg16.*nets: alexnet, alexnet_owt, "):
        nets.create("vgg61")
    with pytest.raises(ValueError, match="unknown net 'zzzzzz'; nets: alexnet"):
        nets.create("zzzzzz")
    with pytest.raises(ValueError, match="net 'qa_net' has no option drop_out, widht; it takes .*dropout: float = 0.0"):
        nets.create("qa_net", drop_out=0.5, widht=3)
    with pytest.raises(ValueError, match=r"net 'qa_net': num_classes \(=0\) must be at least 1"):
        nets.create("qa_net", num_classes=0)
    wrong: Any
    for wrong in (2.5, True, "3", float("nan")):
        with pytest.raises(ValueError, match=r"net 'qa_net': num_classes \(=.*\) must be a whole number"):
            nets.create("qa_net", num_classes=wrong)
    for wrong in (None, 3):
        with pytest.raises(ValueError, match="named by a text, not by .*; nets: alexnet"):
            nets.create(wrong)
    with pytest.raises(GeometryError, match=r"relu1 .*function \(='rely'\)|rely1 .*function \(='rely'\)"):
        geometry.table(nets.create("qa_net", activation="rely"), (32, 32, 3))


def test_the_head_of_a_pattern_is_not_the_output_activation():
    """`layer_pattern` has an option called head, which says how the last map is seen, not what the scores mean."""
    pattern = nets.create("layer_pattern", head="global", output_activation="sigmoid")
    assert pattern == nets.layer_pattern(head="global").clone(output_activation="sigmoid")
    with pytest.raises(ValueError, match="unknown head 'sigmoid'; heads: flatten, global"):
        nets.create("layer_pattern", head="sigmoid")
    config = defaults.get_config()
    config.net.update({"name": "layer_pattern", "output_activation": "sigmoid"})
    config.net.options.head = "global"
    assert checkpoint.make_net(config, 3) == nets.layer_pattern(num_classes=3, head="global").clone(
        output_activation="sigmoid"
    )


def test_images_that_are_refused():
    net = nets.create("qa_net")
    variables = shapes_of(net, (1, 32, 32, 3))
    variables = jax.tree.map(lambda a: jnp.zeros(a.shape), variables)
    with pytest.raises(TypeError, match="images are uint8; the net takes floating images, normalised as in training"):
        net.apply(variables, jnp.zeros((1, 32, 32, 3), jnp.uint8), train=False)
    with pytest.raises(TypeError, match=r"shape \(32, 32, 3\); the net takes \[N, H, W, C\], one image is images"):
        net.apply(variables, jnp.zeros((32, 32, 3)), train=False)
    with pytest.raises(GeometryError, match=r"fc1 \(dense\): its kernel takes 150 values, got 216"):
        net.apply(variables, jnp.zeros((1, 36, 36, 3)), train=False)
    with pytest.raises(TypeError, match="train"):
        net.apply(variables, jnp.zeros((1, 32, 32, 3)))


@pytest.mark.slow
def test_activations_give_every_stage():
    net = nets.create("qa_net")
    variables, images = random_variables(net, (32, 32), 3), draw(0, (2, 32, 32, 3))
    logits, stages = net.apply(variables, images, train=False, method="activations")
    assert list(stages) == ["conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "flatten1", "fc1", "relu3", "fc2"]
    np.testing.assert_array_equal(logits, stages["fc2"])
    np.testing.assert_array_equal(logits, net.apply(variables, images, train=False))
    x = images
    for layer in net.layers:  # each stage is what its layer makes of the stage before
        x = layer.apply({"params": variables["params"].get(layer.name, {})}, x, train=False)
        np.testing.assert_array_equal(x, stages[layer.name])


def test_names():
    net = nets.net([Conv(2, 3), Activation("tanh"), MaxPool(2, name="shrink")], Conv(2, 3), Activation(), Flatten())
    names = ["conv1", "tanh1", "shrink", "conv2", "relu1", "flatten1"]
    assert [layer.name for layer in net.layers] == names
    assert set(random_variables(net, (10, 10), 1)["params"]) == {"conv1", "conv2"}
    with pytest.raises(ValueError, match="layers share a name: c, conv1; give each its own"):
        nets.net(Conv(2, name="c"), Conv(2), Conv(2, name="conv1"), Conv(2, name="c"))
    unnamed = nets.Net((Conv(2, 3), Activation(), Flatten(), Dense(3)))
    assert set(random_variables(unnamed, (5, 5), 1)["params"]) == {"layers_0", "layers_3"}
    assert [row.name for row in geometry.table(unnamed, (5, 5, 1))] == [f"layers_{i}" for i in range(4)]


def test_same_layer_twice_gets_two_names_and_two_sets_of_parameters():
    conv = Conv(2, 3)
    params = random_variables(nets.net(conv, conv), (7, 7), 2)["params"]
    assert set(params) == {"conv1", "conv2"}
    assert (params["conv1"]["kernel"] != params["conv2"]["kernel"]).any()
