"""Classifiers to write: small ones from layers, and random ones."""

import random

from cnn import geometry, nets
from cnn.exchange.classifier import Classifier
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
    PReLU,
    Scale,
    SumPool,
)
from cnn.windows import GeometryError
from tests.made import random_variables

FUNCTIONS = ("relu", "relu6", "celu", "selu", "gelu", "gelu_exact", "silu", "mish", "hard_swish", "tanh", "softsign")


def classifier(net, *layers, shape, seed=0):
    """A classifier with random weights: of a net, or of lists of layers."""
    net = net if isinstance(net, nets.Net) else nets.net(net, *layers)
    try:
        scores = geometry.table(net, shape)[-1].output_shape[-1]
    except GeometryError:
        scores = 2
    variables = random_variables(net, shape[:2], shape[2], seed)
    names = tuple(map(str, range(max(scores, 2))))
    return Classifier(net, variables, shape, (0.5,) * shape[2], (0.25,) * shape[2], names)


def random_case(seed):
    """A random classifier and the form to write it in, {"dense": ..., "stride": ...}; None where no size fits."""
    rng = random.Random(seed)
    padded, dense = rng.random() < 0.6, rng.random() < 0.7
    layers = [layer for _ in range(rng.randint(1, 3)) for layer in _block(rng, padded)]
    if not dense and rng.random() < 0.2:
        options = {
            "padding": rng.choice([0, 1, "same"]),
            "dilation": rng.choice([1, 2]),
            "use_bias": rng.random() < 0.5,
        }
        layers.append(LocallyConnected(3, _pair(rng, 1, 2), **options))
    if rng.random() < 0.2:
        layers.append(rng.choice([AvgPool(None), MaxPool(None), SumPool(None), NMaxPool(None, n=1)]))
    if dense or rng.random() < 0.9:
        layers.append(Flatten(rng.choice(["hwc", "chw", "random"])))
        if not dense and rng.random() < 0.3:
            layers.append(rng.choice([BatchNorm(), Scale(), PReLU(), Dropout()]))
        if rng.random() < 0.5:
            layers.append(Dense(rng.randint(2, 9), use_bias=rng.random() < 0.5))
            layers.append(rng.choice([PReLU(), Scale(), BatchNorm(), Activation("relu")]))
        if dense or rng.random() < 0.9:
            layers.append(Dense(3))
    net = nets.net(*layers)
    shape = _fitting(net, rng)
    if shape is None:
        return None
    options = {"dense": True} if dense else {}
    if dense and rng.random() < 0.6:
        options["stride"] = rng.choice([1, 2, 3, (1, 2), 5])
    return classifier(net, shape=shape, seed=seed), options


def _pair(rng, low, high):
    return rng.randint(low, high), rng.randint(low, high)


def _fitting(net, rng):
    """The first image shape above a random one that the net takes."""
    base, more = rng.randint(3, 16), rng.randint(0, 2)
    for height in range(base, base + 60):
        for width in (height + more, height):
            try:
                return geometry.table(net, (height, width, 2)).input_shape
            except GeometryError:
                continue
    return None


def _sides(rng, kernel):
    return tuple((rng.randint(0, size - 1), rng.randint(0, size - 1)) for size in kernel)


def _block(rng, padded):
    """A convolution, perhaps a layer of values, an activation, and perhaps a pool."""
    kernel, groups = _pair(rng, 1, 4), rng.choice([1, 1, 2])
    fields = {"stride": rng.choice([1, 1, 2, (2, 1), 3]), "dilation": rng.choice([1, 1, 1, 2, (1, 2)])}
    if padded and rng.random() < 0.7:
        modes = ["zero"] * 4 + ["constant"] * 2 + ["edge", "reflect", "mean"]
        fields |= {"padding": rng.choice(["same", _sides(rng, kernel)]), "padding_mode": rng.choice(modes)}
        if fields["padding_mode"] == "constant":
            fields["padding_value"] = rng.choice([0.5, -1.0, 0.0])
    fields |= {"use_bias": rng.random() < 0.7, "rounding": rng.choice(["floor", "floor", "exact"])}
    layers = [Conv(groups * rng.randint(1, 4), kernel, groups=groups, **fields)]
    values = [[], [], BatchNorm(), Scale(), Scale(use_bias=False), PReLU(), PReLU(shared=True), Dropout()]
    chosen = rng.choice([*values, *([] if padded else [LRN(3, alpha=0.1), LRN(5)])])
    layers += [chosen] if chosen else []
    layers.append(Activation(rng.choice(FUNCTIONS)))
    if rng.random() < 0.7:
        layers.append(_pool(rng, padded))
    return layers


def _pool(rng, padded):
    kind, kernel = rng.choice([MaxPool, MaxPool, AvgPool, AvgPool, NMaxPool, SumPool]), _pair(rng, 1, 3)
    fields = {}
    if kind is NMaxPool:
        fields["n"] = rng.randint(1, kernel[0] * kernel[1])
    if kind is AvgPool:
        fields["count_padding"] = rng.random() < 0.5
    if padded and rng.random() < 0.6:
        fields["padding"] = rng.choice(["same", _sides(rng, kernel)])
    fields |= {"rounding": rng.choice(["floor", "floor", "ceil", "exact"]), "dilation": rng.choice([1, 1, 1, 2])}
    return kind(kernel, rng.choice([None, 1, 2, (1, 2), (3, 2)]), **fields)
