"""What a score sees, pixel by pixel: every pixel that changes it lies in its box, and each edge of the box has one."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnn import dense, nets
from cnn.layers import Activation, AvgPool, Conv, Dense, Flatten, MaxPool, NMaxPool
from tests.made import draw
from tests.made import random_variables as make

# Smooth activations and few values in a pool: a large change of any pixel that is seen gets through.
STRIDED = nets.net(
    [Conv(6, 3, stride=2), Activation("tanh"), MaxPool(3, stride=2)],
    [Conv(6, 2), Activation("tanh"), NMaxPool(2, stride=1, n=3), Flatten("chw"), Dense(3)],
)
OVERLAPPING = nets.net(
    [Conv(5, 2), Activation("leaky_relu"), MaxPool(3, stride=2), AvgPool(2, stride=1), Conv(6, 2), Activation("tanh")],
    [MaxPool(2), Flatten(), Dense(8), Activation("tanh"), Dense(3)],
)
LEFTOVER = nets.net([Conv(5, 3), Activation("tanh"), MaxPool(2, rounding="floor"), Flatten(), Dense(3)])
PADDED = nets.net([Conv(6, 3, padding=1), Activation("tanh"), MaxPool(2), Conv(6, 3, padding=1), Flatten(), Dense(3)])


def seen(net, variables, window, stride, size, backend, context):
    """Which of all pixels change which score: bool [H * W, h, w]; and the boxes."""
    count = size[0] * size[1]
    images = np.repeat(draw(0, (1, *size, 1)), 2 * count + 1, axis=0)  # the last stays as it is
    rows, columns = np.divmod(np.arange(count), size[1])
    images[np.arange(count), rows, columns] += 5
    images[count + np.arange(count), rows, columns] -= 5  # a maximum hears of one of the two
    found = dense.score_map(net, variables, jnp.asarray(images), window, stride, backend, context=context)
    scores = np.asarray(found.scores)
    changed = np.abs(scores[:-1] - scores[-1]).max(axis=-1) > 1e-6 * np.abs(scores).max()
    return changed[:count] | changed[count:], found.boxes


def assert_sees_its_box(changed, boxes, size):
    """No pixel outside a box counts; at each of its four edges some pixel does."""
    changed = changed.reshape(*size, *boxes.shape[:2])
    for i, j in np.ndindex(*boxes.shape[:2]):
        own, (y0, x0, y1, x1) = changed[..., i, j], boxes[i, j]
        outside = own.copy()
        outside[y0:y1, x0:x1] = False
        assert not outside.any(), (i, j)
        for name, edge in zip(("top", "bottom"), (own[y0], own[y1 - 1]), strict=True):
            assert edge.any(), (i, j, name)
        for name, edge in zip(("left", "right"), (own[:, x0], own[:, x1 - 1]), strict=True):
            assert edge.any(), (i, j, name)


BACKENDS = ("crops", "shift", "atrous", "mpf")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "net, window, stride",
    [(STRIDED, (19, 19), 1), (STRIDED, (19, 19), 3), (OVERLAPPING, (14, 14), 1), (LEFTOVER, (9, 8), 3)],
    ids=["strided, 1", "strided, 3", "overlapping, 1", "leftover, 3"],
)
def test_a_score_changes_only_with_pixels_in_its_box_and_at_each_edge_of_it(net, window, stride, backend):
    size = (window[0] + 1, window[1] + 3)
    variables = make(net, window, 1)
    changed, boxes = seen(net, variables, window, stride, size, backend, None)
    assert_sees_its_box(changed, boxes, size)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_padded_nets_box_is_cut_at_its_context(backend):
    """At the native stride: "image" reaches beyond the window up to the image's border, "crop" to the window's."""
    window, size = (8, 8), (12, 12)
    variables = make(PADDED, window, 1)
    context = "crop" if backend == "crops" else "image"
    changed, boxes = seen(PADDED, variables, window, 2, size, backend, context)
    assert boxes[0, 0].tolist() == ([0, 0, 8, 8] if context == "crop" else [0, 0, 11, 11])
    assert boxes[1, 1].tolist() == ([2, 2, 10, 10] if context == "crop" else [0, 0, 12, 12])
    assert_sees_its_box(changed, boxes, size)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["shift", "atrous", "mpf"])
def test_a_padded_nets_box_at_a_finer_stride_is_cut_at_the_images_border_alone(backend):
    window, size = (8, 8), (13, 14)
    variables = make(PADDED, window, 1)
    changed, boxes = seen(PADDED, variables, window, 1, size, backend, "image")
    assert boxes[0, 0].tolist() == [0, 0, 11, 11] and boxes[4, 5].tolist() == [1, 2, 13, 14]
    assert_sees_its_box(changed, boxes, size)
