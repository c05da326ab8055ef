"""Random nets of all kinds of layers, with a window, an image and a stride, for tests of properties."""

import math

from hypothesis import assume
from hypothesis import strategies as st

from cnn import dense, geometry, nets
from cnn.layers import LRN, Activation, AvgPool, BatchNorm, Conv, Dense, Flatten, MaxPool, NMaxPool, PReLU, Scale
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


@st.composite
def cases(draw, padded=False):
    """A net of up to three blocks and two fully connected layers, its window, an image size and a stride."""
    layers = [layer for block in draw(st.lists(blocks(padded), min_size=1, max_size=3)) for layer in block]
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
