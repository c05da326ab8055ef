"""Random nets of all kinds of layers, with a window, an image and a stride, for tests of properties."""

import math

from hypothesis import assume
from hypothesis import strategies as st

from cnn import dense, geometry, nets
from cnn.layers import (
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Crop,
    Dense,
    Flatten,
    MaxPool,
    NMaxPool,
    PReLU,
    Scale,
    StochasticDepth,
)
from cnn.windows import GeometryError

LARGEST_WINDOW = 40
# Some are not 0 where their input is: what lies beyond the border must be padding after them, not their value of 0.
ACTIVATIONS = [
    *map(Activation, ("relu", "tanh", "sigmoid", "softplus", "gelu_exact")),
    Activation("leaky_relu", slope=0.3),
    Activation("clip", low=0.2, high=3),
    PReLU(),
    PReLU(shared=True),
]


@st.composite
def blocks(draw, padded):
    """A convolution, and perhaps normalisation, an activation and a pool."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    groups = draw(st.sampled_from([1, 1, 2]))
    layers = [
        Conv(
            groups * draw(st.integers(1, 4)),
            kernel,
            stride=draw(st.sampled_from([1, 1, 2, (2, 1), 3])),
            dilation=draw(st.sampled_from([1, 1, 1, 2, (1, 2)])),
            groups=groups,
            padding=draw(st.tuples(*[st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)) for k in kernel]))
            if padded
            else "valid",
            use_bias=draw(st.booleans()),
            rounding="floor",
            **(draw(st.sampled_from([{}, {}, dict(padding_mode="constant", padding_value=0.7)]))),
        )
    ]
    layers += draw(st.sampled_from([[], [BatchNorm()], [Scale()], [Scale(False)], [] if padded else [LRN(3)]]))
    layers += [draw(st.sampled_from(ACTIVATIONS))]
    pool = draw(st.sampled_from([None, MaxPool, AvgPool, NMaxPool]))
    if pool is not None:
        size = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        fields = {"n": draw(st.integers(1, math.prod(size)))} if pool is NMaxPool else {}
        if padded and pool is not NMaxPool:
            fields["padding"] = draw(
                st.tuples(*[st.tuples(st.integers(0, (k - 1) // 2), st.integers(0, (k - 1) // 2)) for k in size])
            )
        fields |= {"count_padding": draw(st.booleans())} if pool is AvgPool else {}
        stride = draw(st.sampled_from([None, 1, 2, (1, 2), (3, 2)]))
        layers.append(pool(size, stride, rounding=draw(st.sampled_from(["floor", "ceil"])), **fields))
    return layers


def split(draw, total):
    """Padding at both sides, of `total` pixels."""
    low = draw(st.integers(0, total))
    return low, total - low


@st.composite
def paths(draw, padded, shrink, stride, features, deep):
    """Layers that make a map smaller by `shrink` - 1 pixels along each axis, and take every `stride`-th value of it."""
    more = [draw(st.integers(0, 2)) if padded else 0 for _ in range(2)]
    kernel = tuple(n + m for n, m in zip(shrink, more, strict=True))
    padding = tuple(split(draw, m) for m in more)
    kinds = ["conv", "pool", "two"] + ["crop"] * (shrink[0] % 2 and shrink[1] % 2) + ["nested"] * deep
    kind = draw(st.sampled_from(kinds))
    one = Conv(features, 1, use_bias=draw(st.booleans()))
    if kind == "conv":
        layers = [Conv(features, kernel, stride=stride, padding=padding, rounding="floor")]
    elif kind == "pool" and all(max(p) < k for p, k in zip(padding, kernel, strict=True)):
        pool = draw(st.sampled_from([MaxPool, AvgPool]))
        layers = [pool(kernel, stride, padding=padding, rounding="floor"), one]
    elif kind == "two":  # the second shrinks the map behind the stride by what is left
        second = tuple(draw(st.integers(1, 1 + (n - 1) // s)) for n, s in zip(kernel, stride, strict=True))
        first = tuple(n - (k - 1) * s for n, k, s in zip(kernel, second, stride, strict=True))
        padding = tuple((min(p[0], k - 1), min(p[1], k - 1)) for p, k in zip(padding, first, strict=True))
        lost = [m - sum(p) for m, p in zip(more, padding, strict=True)]
        first = tuple(n - m for n, m in zip(first, lost, strict=True))
        layers = [Conv(features, first, stride=stride, padding=padding, rounding="floor"), Conv(features, second)]
    elif kind == "nested":
        inner = [draw(paths(padded, shrink, stride, features, False)) for _ in range(2)]
        layers = [Branches(tuple(map(tuple, inner)), draw(st.sampled_from(["sum", "mean", "max"])))]
    elif kind == "crop":
        layers = [Crop(((shrink[0] - 1) // 2, (shrink[1] - 1) // 2), stride, rounding="floor"), one]
    else:
        layers = [one.clone(kernel=shrink, stride=stride, rounding="floor")]
    layers += draw(st.sampled_from([[], [BatchNorm()], [Activation("sigmoid")], [StochasticDepth(0.5)]]))
    return layers


@st.composite
def branching(draw, padded):
    """A 1x1 convolution and a layer of two or three paths, one of which may be the identity, perhaps an activation."""
    join = draw(st.sampled_from(["sum", "sum", "concat", "mean", "max"]))
    features = draw(st.integers(1, 4))
    shrink = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (3, 2)]))
    made = [draw(paths(padded, shrink, stride, features, True)) for _ in range(draw(st.integers(1, 3)))]
    if shrink == stride == (1, 1) and draw(st.booleans()):
        made.insert(draw(st.integers(0, len(made))), [])
    last = draw(st.sampled_from([[], [Activation("relu")], [MaxPool(2, rounding="floor")]]))
    return [Conv(features, 1), Branches(tuple(map(tuple, made)), join), *last]


@st.composite
def cases(draw, padded=False, branches=False):
    """A net of up to three blocks and two fully connected layers, its window, an image size and a stride."""
    kinds = st.one_of(branching(padded), blocks(padded)) if branches else blocks(padded)
    layers = [layer for block in draw(st.lists(kinds, min_size=1, max_size=3)) for layer in block]
    assume(not branches or any(isinstance(layer, Branches) for layer in layers))
    channels = 2
    head = draw(st.sampled_from(["flatten", "flatten", "average", "fully convolutional"]))
    if head == "average":
        layers += [AvgPool(None)]
    layers += [Flatten(draw(st.sampled_from(["hwc", "chw"])))]
    layers += [Dense(draw(st.integers(2, 9))), Activation("relu")] if draw(st.booleans()) else []
    net = nets.net([*layers, Dense(draw(st.integers(2, 5)))])
    window = []
    for _ in range(2):
        window.append(draw(st.integers(3, LARGEST_WINDOW)))
    try:
        table = geometry.table(net, (*window, channels))
        stride = dense.native_stride(net, window, channels)
        assume(max(stride) <= 12 and table.params < 100_000)
        assume(dense.has_padding(net, window, channels) == padded)
    except GeometryError:
        assume(False)
    more = draw(st.tuples(st.integers(0, 40), st.integers(0, 40)))
    image = (window[0] + more[0], window[1] + more[1], channels)
    return net, tuple(window), image, draw(st.one_of(st.just(stride), st.tuples(st.integers(1, 9), st.integers(1, 9))))
