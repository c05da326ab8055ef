"""The lecture's worked examples: cross-correlation, striding, and known kernels on an edge."""

import numpy as np
import pytest

from cnn.layers import Conv
from tests.made import apply
from tests.reference import layers as reference


def respond(kernel, image, **fields):
    """The output [H', W'] of a convolution with one fixed kernel [h, w] on one image [H, W]."""
    kernel = np.asarray(kernel, np.float32)
    layer = Conv(1, kernel.shape, use_bias=False, **fields)
    image = np.asarray(image, np.float32)[None, :, :, None]
    return np.asarray(apply(layer, {"kernel": kernel[:, :, None, None]}, image))[0, :, :, 0]


LECTURE_KERNEL = [[0, 0, 0.5], [0, 0.5, 0], [0, 0, 0.5]]


@pytest.fixture
def lecture_image():
    image = np.zeros((6, 6), np.float32)
    image[1, 1] = 1.0
    for at in [(1, 4), (2, 3), (3, 4), (4, 3), (5, 4)]:
        image[at] = 0.4
    return image


def test_cross_correlation_of_the_lecture(lecture_image):
    expected = np.array([[0.5, 0.2, 0, 0.2], [0, 0, 0.6, 0], [0, 0.4, 0, 0.2], [0, 0, 0.6, 0]], np.float32)
    np.testing.assert_array_equal(respond(LECTURE_KERNEL, lecture_image), expected)
    flipped = respond(np.flip(LECTURE_KERNEL), lecture_image)  # a true convolution would give this
    assert (flipped != expected).any()
    exact = reference.convolution(lecture_image[None, :, :, None], np.reshape(LECTURE_KERNEL, (3, 3, 1, 1)), [0.0])
    np.testing.assert_allclose(exact[0, :, :, 0], expected, rtol=0, atol=1e-7)  # 0.4 in float32, summed in float64


def test_striding_of_the_lecture(lecture_image):
    slide = np.array([[0.5, 0.2], [0, 0]], np.float32)
    np.testing.assert_array_equal(respond(LECTURE_KERNEL, lecture_image, stride=3), slide)
    two = respond(LECTURE_KERNEL, lecture_image, stride=2, rounding="floor")
    np.testing.assert_array_equal(two, [[0.5, 0], [0, 0]])
    with pytest.raises(ValueError, match=r"\(6 - 3 \+ 0\+0\) / 2 \+ 1 = 2.5 is not whole"):
        respond(LECTURE_KERNEL, lecture_image, stride=2)


def test_sobel_and_gaussian_on_an_edge():
    edge = np.zeros((7, 10), np.float32)
    edge[:, 5:] = 1.0
    vertical = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    horizontal = [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]
    row = [0, 0, 0, 4, 4, 0, 0, 0]  # the two windows that straddle the edge
    np.testing.assert_array_equal(respond(vertical, edge), np.tile(row, (5, 1)))
    np.testing.assert_array_equal(respond(horizontal, edge), np.zeros((5, 8)))
    np.testing.assert_array_equal(respond(horizontal, edge.T), np.tile(row, (5, 1)).T)
    blur = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    ramp = np.array([0, 1, 5, 11, 15, 16]) / 16  # partial sums of the binomials; all exact in float32
    np.testing.assert_array_equal(respond(blur, edge), np.tile(ramp, (3, 1)))
    same = respond(blur, edge, padding="same", padding_mode="edge")
    np.testing.assert_array_equal(same, np.tile([0, 0, 0, 1 / 16, 5 / 16, 11 / 16, 15 / 16, 1, 1, 1], (7, 1)))
