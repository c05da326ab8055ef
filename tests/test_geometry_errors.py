"""Errors of nets that do not fit: they name the layer, the sizes and the way out."""

import inspect
import re

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
    Flatten,
    Layer,
    MaxPool,
    NMaxPool,
    PReLU,
    Scale,
    WindowLayer,
)
from cnn.windows import GeometryError
from tests.made import random_variables, shapes_of

ERRORS = {
    "alexnet at 224": (
        nets.create("alexnet").layers,
        (224, 224, 3),
        r"conv1 \(conv\): height does not divide: \(224 - 11 \+ 0\+0\) / 4 \+ 1 = 54.25 is not whole, for an image of "
        r"224x224 pixels; nearest that do: .*227x227",
    ),
    "pool": ([Conv(3, 5), MaxPool(2, name="pool1")], (31, 32, 3), r"pool1 \(max pool\): height .*\(27 - 2 .*32x32"),
    "stride": ([Conv(3, 5, stride=0)], (32, 32, 3), r"layers_0 \(conv\): stride \(=0\) must be at least 1"),
    "pool stride": ([MaxPool(2, stride=(1, 0))], (32, 32, 3), r"layers_0 \(max pool\): stride .*must be at least 1"),
    "kernel 0": ([Conv(3, 0)], (32, 32, 3), r"kernel \(=0\) must be at least 1"),
    "dilation 0": ([Conv(3, 3, dilation=0)], (32, 32, 3), r"dilation \(=0\) must be at least 1"),
    "kernel too large": (
        [Conv(3, 5), Conv(3, (3, 7), padding=1, name="wide")],
        (9, 8, 3),
        r"wide \(conv\): kernel 7 is larger than its input: width 4 \+ padding 1\+1, for an image of 9x8 pixels; "
        r"nearest that do: 10x9 pixels$",
    ),
    "groups": (
        [Conv(6, 3, groups=3, name="conv2")],
        (8, 8, 4),
        r"conv2 \(conv\): channels \(=4\) and features \(=6\) must both be divisible by groups \(=3\).* do: 1, 2$",
    ),
    "groups 0": ([Conv(6, 3, groups=0)], (8, 8, 4), r"groups \(=0\)"),
    "features": ([Conv(0, 3)], (8, 8, 4), r"features \(=0\) must be at least 1"),
    "dense on an image": ([Dense(3, name="fc1")], (8, 9, 4), r"fc1 \(dense\): needs a vector, got 8x9x4.*Flatten"),
    "dense features": ([Flatten(), Dense(0)], (8, 9, 4), r"features \(=0\) must be at least 1"),
    "dense inputs": (
        [Flatten(), Dense(3, inputs=192, name="fc1")],
        (8, 9, 4),
        r"fc1 \(dense\): takes 192 values, got 288, for an image of 8x9 pixels; nearest that do: 8x6 pixels$",
    ),
    "conv on a vector": ([Flatten(), Conv(3, 1)], (8, 9, 4), r"layers_1 \(conv\): needs an image.* 288"),
    "pool on a vector": ([Flatten(), MaxPool(None)], (8, 9, 4), r"layers_1 \(max pool\): needs an image.* 288"),
    "flatten twice": ([Flatten(), Flatten()], (8, 9, 4), r"layers_1 \(flatten\): needs an image"),
    "lrn on a vector": ([Flatten(), LRN()], (8, 9, 4), r"layers_1 \(lrn\): needs an image"),
    "lrn size": ([LRN(0)], (8, 9, 4), r"size \(=0\) must be at least 1 channel"),
    "flatten order": ([Flatten("whc")], (8, 9, 4), r"order \(='whc'\) must be one of hwc, chw, random"),
    "padding": ([Conv(3, 3, padding="full")], (8, 9, 4), r"padding \(='full'\) must be 'valid', 'same', a number"),
    "negative padding": ([MaxPool(2, padding=-1)], (8, 8, 4), r"padding \(=-1\) must be .* no number below 0"),
    "padding mode": (
        [Conv(3, padding_mode="wrap")],
        (8, 8, 4),
        r"padding_mode \(='wrap'\) must be one of zero, constant, edge",
    ),
    "reflect too large": (
        [Conv(3, 9, padding=((1, 4), 4), padding_mode="reflect", name="c")],
        (6, 4, 1),
        r"c \(conv\): reflect padding 4\+4 needs an input larger than that, got 4, .*nearest that do: 7x5 pixels$",
    ),
    "only padding": ([AvgPool(2, padding=2)], (4, 4, 1), r"padding .* leaves a window 2x2 with no pixel of the input"),
    "rounding": ([MaxPool(2, rounding="up")], (4, 4, 1), r"rounding \(='up'\) must be 'exact', 'floor' or 'ceil'"),
    "conv ceil": ([Conv(2, 2, rounding="ceil")], (4, 4, 1), r"rounding 'ceil' is for pooling"),
    "n": ([NMaxPool((2, 3), n=7)], (6, 6, 1), r"n \(=7\) must be between 1 and the 6 pixels of a window 2x3"),
    "n 0": ([NMaxPool(2, n=0)], (6, 6, 1), r"n \(=0\) must be between 1 and the 4 pixels"),
    "activation": ([Activation("rely")], (6, 6, 1), r"function \(='rely'\) is none of relu"),
    "no area": (
        [Conv(3)],
        (0, 8, 3),
        r"input_shape \(=0x8x3\) must be \(height, width, channels\), whole numbers, none below 1",
    ),
    "negative": ([Conv(3)], (8, -8, 3), r"input_shape \(=8x-8x3\)"),
    "no shape": ([Conv(3)], 8, r"input_shape \(=8\) must be \(height, width, channels\)"),
    "fractions": ([Conv(3)], (8.0, 8, 3), r"input_shape \(=\(8.0, 8, 3\)\) must be .* whole numbers"),
    "text": ([Conv(3)], "8x8x3", r"input_shape \(='8x8x3'\) must be"),
    "batch axis": ([Conv(3)], (1, 8, 8, 3), r"input_shape \(=1x8x8x3\)"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    layers, shape, message = ERRORS[name]
    with pytest.raises(GeometryError, match=message) as caught:
        geometry.table(layers, shape)
    if "nearest that do" in str(caught.value):
        suggested = re.findall(r"(\d+)x(\d+) pixels", str(caught.value).split("nearest that do: ")[1])
        assert suggested
        for height, width in suggested:
            geometry.table(layers, (int(height), int(width), shape[2]))  # the sizes do


def test_suggested_sizes_are_the_nearest():
    layers = nets.create("alexnet").layers
    assert geometry.working_sizes(layers, (224, 224, 3)) == [(195, 195), (227, 227)]
    for size in [*range(196, 224), *range(225, 227)]:
        with pytest.raises(GeometryError):
            geometry.table(layers, (size, size, 3))
    assert geometry.working_sizes([Conv(1, 3), MaxPool(2)], (9, 8, 1)) == [(8, 8), (10, 8)]
    assert geometry.working_sizes([Conv(1, 3, groups=2)], (9, 8, 1)) == []


def test_trained_kernels_set_the_size():
    net = nets.create("qa_net")
    variables = shapes_of(net, (1, 32, 32, 3))
    message = r"fc1 \(dense\): its kernel takes 150 values, got 216, .* 36x36 pixels; nearest that do: 32x32 pixels$"
    with pytest.raises(GeometryError, match=message):
        geometry.table(net, (36, 36, 3), variables)
    assert geometry.table(net, (32, 32, 3), variables).params == 16_794
    assert geometry.table(net, (36, 36, 3)).params == 16_794 + 6_600  # untrained it would take it
    with pytest.raises(GeometryError, match="fc1"):
        jax.eval_shape(lambda v: net.apply(v, jnp.zeros((1, 36, 36, 3)), train=False), variables)


def test_variables_of_layers_without_kernels_are_checked():
    net = nets.net(PReLU(), Scale(), BatchNorm(), PReLU(shared=True), Flatten(), Dense(2))
    variables = random_variables(net, (4, 4), 3)
    assert geometry.table(net, (4, 4, 3), variables).params == 3 + 6 + 6 + 1 + 98
    cases = [
        ("params", "prelu1", "slope", np.ones(4, np.float32), r"prelu1 .*shape \(4,\), the layer's would be \(3,\)"),
        ("params", "prelu1", "slope", np.float32(1), r"slope has shape \(\), the layer's"),
        ("params", "prelu2", "slope", np.ones(3, np.float32), r"prelu2 .*shape \(3,\), the layer's would be \(1,\)"),
        ("params", "scale1", "bias", np.ones(3, np.int32), r"scale1 .*bias is int32, not floating"),
        ("params", "scale1", "bias", None, r"scale1 .*the variables lack its bias"),
        ("params", "bn1", "scale", np.ones(4, np.float32), r"bn1 .*scale has shape \(4,\)"),
        ("batch_stats", "bn1", "var", np.ones((1, 3), np.float32), r"bn1 .*var has shape \(1, 3\)"),
        ("batch_stats", "bn1", "mean", None, r"bn1 .*lack its mean"),
    ]
    for collection, layer, name, value, message in cases:
        changed = jax.tree.map(lambda leaf: leaf, variables)
        own = changed[collection][layer]
        own = own.get("norm", own)
        own.pop(name) if value is None else own.update({name: value})
        with pytest.raises(geometry.VariablesError, match=message):
            geometry.table(net, (4, 4, 3), changed)


class Undeclared(Layer):
    """Does not say whether it mixes pixels."""


class Windowless(WindowLayer):
    """Mixes pixels, over no window."""


class Contradicting(MaxPool):
    """Has a window and says that it mixes no pixels."""

    mixes_pixels = False


@pytest.mark.parametrize(
    "layer, message",
    [
        (
            Undeclared(),
            r"layers_1 \(layer\): does not say whether it mixes pixels. Set mixes_pixels = False in class Und",
        ),
        (Windowless(), r"layers_1 \(layer\): mixes pixels and does not say over which window; class Windowless must"),
        (Contradicting(), r"layers_1 \(max pool\): has a window\(\) and says mixes_pixels = False"),
    ],
)
def test_a_layer_says_whether_it_mixes_pixels(layer, message):
    with pytest.raises(GeometryError, match=message) as caught:
        geometry.table([Conv(2, 3), layer, MaxPool(2)], (8, 8, 1))
    assert "nearest that do" not in str(caught.value)


def test_layers_of_vectors_need_not_say():
    geometry.table([Flatten(), Undeclared(), Dense(3)], (4, 4, 1))


def test_arguments_of_the_wrong_kind_are_refused_by_name():
    """Whatever is given: an error of this library that shows it, none of Python's own."""
    net = nets.net([Conv(2, 3), Flatten(), Dense(3)])
    variables = random_variables(net, (5, 6), 2)
    right = {
        "net": net,
        "layers": net.layers,
        "variables": variables,
        "image_shape": (5, 6, 2),
        "input_shape": (5, 6, 2),
        "position_invariant": True,
        "centred_gates": False,
        "table": geometry.table(net, (5, 6, 2)),
        "layer": net.layers[0],
        "layer_variables": variables["params"]["conv1"],
    }
    functions = [convert.fc_to_conv, convert.convolutional, convert.plan, convert.conv_to_fc, geometry.table]
    for function in (*functions, geometry.working_sizes, geometry.parameters, geometry.layer_names):
        names = inspect.signature(function).parameters
        for name in names:
            for wrong in (None, 1.5, -3, "qa_net", ["shift"], object()):
                if name == "variables" and wrong is None and names[name].default is None:
                    continue
                with pytest.raises((TypeError, GeometryError), match=r"cnn\.|must be|variables are|takes a Conv"):
                    function(**{**{one: right[one] for one in names}, name: wrong})
