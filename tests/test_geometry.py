"""Sizes, parameters, multiply-adds and receptive fields: the published numbers, and the true ones."""

import itertools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import geometry, nets
from cnn.layers import (
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    LocallyConnected,
    NMaxPool,
    PReLU,
    Scale,
)
from cnn.windows import GeometryError
from docs import tables
from tests.made import shapes_of


def params_of(name, shape, **options):
    """The layers that have parameters, and how many."""
    return [row.params for row in geometry.table(nets.create(name, **options), shape) if row.params]


@pytest.mark.parametrize(
    ("name", "shape", "layers", "total"),
    [
        ("qa_net", (32, 32, 3), [228, 456, 15_100, 1_010], 16_794),
        ("qa_net", (32, 32, 1), [78, 456, 15_100, 1_010], 16_644),
        ("full_cnn", (28, 28, 1), [320, 18_496, 401_536, 1_290], 421_642),
        ("full_cnn", (32, 32, 3), [896, 18_496, 524_416, 1_290], 545_098),
    ],
)
def test_parameters_of_the_documents(name, shape, layers, total):
    assert params_of(name, shape) == layers
    assert geometry.table(nets.create(name), shape).params == total


@pytest.mark.parametrize(
    ("name", "shape", "shapes"),
    [
        ("qa_net", (32, 32, 3), [(28, 28, 3), (14, 14, 3), (10, 10, 6), (5, 5, 6), (150,), (100,), (10,)]),
        ("full_cnn", (28, 28, 1), [(28, 28, 32), (14, 14, 32), (14, 14, 64), (7, 7, 64), (3136,), (128,), (10,)]),
        (
            "alexnet",
            (227, 227, 3),
            [(55, 55, 96), (27, 27, 96), (27, 27, 256), (13, 13, 256), (13, 13, 384), (13, 13, 384), (13, 13, 256)]
            + [(6, 6, 256), (9216,), (4096,), (4096,), (1000,)],
        ),
        (
            "giusti_n4",
            (95, 95, 1),
            [(92, 92, 48), (46, 46, 48), (42, 42, 48), (21, 21, 48), (18, 18, 48), (9, 9, 48), (6, 6, 48), (3, 3, 48)]
            + [(432,), (200,), (2,)],
        ),
    ],
)
def test_shapes_of_the_documents(name, shape, shapes):
    table = geometry.table(nets.create(name), shape)
    moving = ("conv", "max pool", "flatten", "dense")
    assert [row.output_shape for row in table if row.kind in moving] == shapes


def test_alexnet_first_layer_shared_and_not():
    shared = geometry.table([Conv(96, 11, stride=4)], (227, 227, 3))[0]
    assert shared.output_shape == (55, 55, 96) and np.prod(shared.output_shape) == 290_400
    assert shared.params == 34_848 + 96 == 34_944
    started = time.perf_counter()
    unshared = geometry.table([LocallyConnected(96, 11, stride=4)], (227, 227, 3))[0]
    assert time.perf_counter() - started < 1  # no array of 423 MB was made
    assert unshared.params == 290_400 * 364 == 105_705_600
    assert unshared.macs == shared.macs == 290_400 * 363


def test_neuron_counts_of_the_alexnet_paper():
    """Krizhevsky et al. (2012), figure 2: the numbers of values after each of the eight layers, and of the input."""
    published = (253_440, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000)
    rows = geometry.table(nets.create("alexnet"), (227, 227, 3))
    found = [math.prod(row.output_shape) for row in rows if row.kind in ("conv", "dense")]
    assert found == [290_400, *published[1:]]
    # The first count has one side of its 55x55 map as 48, the number of maps of one half of the net.
    assert rows["conv1"].output_shape == (55, 55, 96) and published[0] == 55 * 48 * 96
    assert math.prod((224, 224, 3)) == 150_528  # the paper's count of the input, of which 55x55 cannot be made
    with pytest.raises(GeometryError, match="height does not divide"):
        geometry.table(nets.create("alexnet"), (224, 224, 3))


def test_vgg16():
    table = geometry.table(nets.create("vgg16"), (224, 224, 3))
    assert table["pool5"].output_shape == (7, 7, 512)
    assert (table["pool5"].receptive_field, table["pool5"].stride) == ((212, 212), (32, 32))
    assert table["pool5"].offset == (-90, -90)
    assert table["fc1"].receptive_field == (404, 404)  # 212 + 6 * 32: more than the image
    assert table.macs == 15_470_264_320
    # Table 1 of the paper: the convolutions of block 1 to 5.
    assert [table[f"conv{b}_1"].params for b in range(1, 6)] == [1_792, 73_856, 295_168, 1_180_160, 2_359_808]
    assert [row.params for row in table if row.kind == "dense"] == [102_764_544, 16_781_312, 4_097_000]


def test_vgg16_as_a_convolutional_net_on_384():
    layers = nets.create("vgg16").layers
    body = layers[: [layer.kind for layer in layers].index("flatten")]
    head = [Conv(4096, 7, name="fc1"), Conv(4096, 1, name="fc2"), Conv(1000, 1, name="fc3")]
    table = geometry.table([*body, *head], (384, 384, 3))
    assert table["pool5"].output_shape == (12, 12, 512)
    assert table["fc3"].output_shape == (6, 6, 1000)
    assert table.params == 138_357_544
    assert table["fc3"].stride == (32, 32)


@pytest.mark.parametrize(
    ("name", "shape", "stride", "field"),
    [
        ("qa_net", (32, 32, 3), 4, 32),
        ("full_cnn", (28, 28, 1), 4, 34),  # 10 at the last pool + 6 * 4
        ("lenet5", (32, 32, 1), 4, 32),
        ("alexnet", (227, 227, 3), 32, 355),  # 195 at the last pool + 5 * 32
        ("giusti_n4", (95, 95, 3), 16, 95),
    ],
)
def test_total_stride_and_receptive_field(name, shape, stride, field):
    last = geometry.table(nets.create(name), shape)[-1]
    assert last.stride == (stride, stride)
    assert last.receptive_field == (field, field)


@pytest.mark.parametrize("name", nets.names())
def test_table_agrees_with_what_init_and_apply_make(name):
    net = nets.create(name)
    shape = tables.SIZES[name]
    table = geometry.table(net, shape)
    images = jnp.zeros((1, *shape))
    variables = shapes_of(net, images.shape)
    made = {key: sum(leaf.size for leaf in jax.tree.leaves(own)) for key, own in variables["params"].items()}
    assert {row.name: row.params for row in table if row.params} == made
    assert table.params == sum(made.values())
    _, stages = jax.eval_shape(
        lambda variables, x: net.apply(variables, x, train=False, method="activations"), variables, images
    )
    assert {key: value.shape[1:] for key, value in stages.items()} == {row.name: row.output_shape for row in table}


def test_parameters_of_every_kind_of_layer():
    net = nets.net(
        Conv(6, (2, 3), groups=2, use_bias=False),
        BatchNorm(),
        LocallyConnected(4, 3, stride=2),
        LRN(),
        NMaxPool(n=2),
        PReLU(),
        PReLU(shared=True),
        LocallyConnected(2, 2, use_bias=False),
        Scale(),
        Scale(use_bias=False),
        Flatten(),
        Dense(5, use_bias=False),
        BatchNorm(),
        Dense(3),
    )
    shape = (14, 15, 4)
    variables = shapes_of(net, (1, *shape))
    expected = {name: sum(a.size for a in jax.tree.leaves(own)) for name, own in variables["params"].items()}
    assert {row.name: row.params for row in geometry.table(net, shape) if row.params} == expected


def test_multiply_adds_by_counting_products():
    # Every product is 1, so the outputs add up to the number of multiply-adds.
    net = nets.net(Conv(6, (2, 3), stride=(2, 1), groups=2), LocallyConnected(4, 3), Flatten(), Dense(5))
    shape = (10, 7, 4)
    for layer, row in zip(net.layers, geometry.table(net, shape), strict=True):
        if row.macs:
            x = jnp.ones((1, *shape))
            params = shapes_of(layer, x.shape)["params"]
            ones = {"kernel": jnp.ones(params["kernel"].shape), "bias": jnp.zeros(params["bias"].shape)}
            assert layer.apply({"params": ones}, x, train=False).sum() == row.macs
        shape = row.output_shape


# Layers through which every pixel of a window has a say: positive kernels, averages.
def random_layers(seed, padded, gaps):
    """A few random windowed layers; `gaps`: windows may leave out pixels (stride above kernel, dilation)."""
    random = np.random.default_rng(seed)
    layers = []
    for _ in range(random.integers(2, 5)):
        kernel = tuple(int(k) for k in random.integers(1, 4, size=2))
        stride = tuple(int(random.integers(1, (3 if gaps else min(k, 2)) + 1)) for k in kernel)
        dilation = tuple(int(d) for d in random.integers(1, 3, size=2)) if gaps else (1, 1)
        padding = tuple((int(random.integers(0, k)), int(random.integers(0, k))) for k in kernel) if padded else 0
        if random.random() < 0.6:
            layers.append(Conv(1, kernel, stride, padding, dilation, rounding="floor"))
        else:
            rounding = "ceil" if padded else "floor"
            layers.append(AvgPool(kernel, stride, padding, dilation, rounding))
        layers.append(Activation("softplus"))
    return layers


def influences(net, size):
    """Which pixels change each output value: bool [h, w, H, W]."""
    image = jnp.ones((1, *size, 1))
    shapes = shapes_of(net, image.shape)
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), shapes)
    run = jax.jit(jax.jacrev(lambda image: net.apply(variables, image[None, :, :, None], train=False)[0, :, :, 0]))
    return np.asarray(run(image[0, :, :, 0])) > 0


@pytest.mark.parametrize(("padded", "gaps"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("seed", range(3))
def test_receptive_fields_are_what_changes_the_output(seed, padded, gaps):
    layers = random_layers([seed, padded, gaps], padded, gaps)
    size = (41, 38)
    row = geometry.table(layers, (*size, 1))[-1]
    seen = influences(nets.net(layers), size)
    assert seen.shape[:2] == row.output_shape[:2]
    inside = 0
    for i, j in itertools.product(*map(range, seen.shape[:2])):
        starts = [o + k * s for o, k, s in zip(row.offset, (i, j), row.stride, strict=True)]
        for pixels, start, field, length in zip(np.nonzero(seen[i, j]), starts, row.receptive_field, size, strict=True):
            assert start <= pixels.min() and pixels.max() < start + field, (i, j)
            if start >= 0 and start + field <= length:  # a box that lies inside the image is filled to its edges
                inside += 1
                assert (pixels.min(), pixels.max()) == (start, start + field - 1), (i, j)
    assert inside >= 4


def test_receptive_field_of_a_dense_layer():
    net = nets.create("qa_net")
    row = geometry.table(net, (32, 32, 3))["flatten1"]
    assert (row.receptive_field, row.offset, row.stride) == ((32, 32), (0, 0), (4, 4))
    layers = [Conv(1, 5), AvgPool(2), Conv(1, 5), AvgPool(2)]  # the same windows
    seen = influences(nets.net(layers), (32, 32))
    assert seen.shape == (5, 5, 32, 32) and seen.any(axis=(0, 1)).all()
    assert geometry.table(layers, (32, 32, 1))[-1].receptive_field == (16, 16)


def test_printed_table():
    text = str(geometry.table(nets.create("qa_net"), (32, 32, 3)))
    lines = text.splitlines()
    assert lines[0].split() == [
        "layer",
        "kind",
        "output",
        "parameters",
        "multiply-adds",
        "field",
        "stride",
        "offset",
    ]
    assert lines[2].split() == ["conv1", "conv", "28x28x3", "228", "176,400", "5", "1", "0"]
    assert lines[-2].split() == ["total", "16,794", f"{176_400 + 45_000 + 15_000 + 1_000:,}"]
    assert len(lines) == 2 + len(nets.create("qa_net").layers) + 2
    assert lines[-1] == "field (receptive field), stride and offset are in pixels of the input image"
    ends = [line.index(text) + len(text) for line, text in zip(lines[::2], ("parameters", "228"), strict=False)]
    assert len({*ends, lines[-2].index("16,794") + len("16,794")}) == 1  # numbers stand under each other


@pytest.mark.parametrize(
    "name, shape",
    [("vgg16", (224, 224, 3)), ("alexnet", (227, 227, 3)), ("full_cnn", (28, 28, 1)), ("resnet18", (224, 224, 3))],
)
def test_printed_tables_fit_a_terminal(name, shape):
    lines = str(geometry.table(nets.create(name), shape)).splitlines()
    assert max(map(len, lines)) <= 80
    assert len({len(line) for line in lines if line.split()[-1].lstrip("-").isdigit() and "total" not in line}) == 1


def test_a_pair_of_different_numbers_prints_both():
    text = str(geometry.table([Conv(2, (3, 5), stride=(2, 1), padding=(0, 1))], (9, 9, 1)))
    assert text.splitlines()[2].split()[-3:] == ["3x5", "2x1", "0,-1"]


def test_rows_by_name_and_place():
    table = geometry.table(nets.create("qa_net"), (32, 32, 3))
    assert table["conv2"] is table[3]
    assert table.input_shape == (32, 32, 3)
    with pytest.raises(KeyError, match="no layer 'conv9'; layers: conv1, relu1, pool1"):
        table["conv9"]


# name: (layers, input shape, what the message must say)
