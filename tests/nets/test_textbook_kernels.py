"""The known kernels by value, and a convolution that starts as them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.layers import Conv
from cnn.nets import textbook_kernels


def correlate(image, kernel):
    """Every window's sum of products, by NumPy: [H, W] and [k, k] -> [H - k + 1, W - k + 1]."""
    windows = np.lib.stride_tricks.sliding_window_view(image.astype(np.float64), kernel.shape)
    return np.einsum("yxij,ij->yx", windows, kernel.astype(np.float64))


def test_values():
    vertical, horizontal = textbook_kernels.sobel()
    assert vertical.tolist() == [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    assert horizontal.tolist() == [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]
    blur = textbook_kernels.gaussian()
    assert (256 * blur[2]).tolist() == [6, 24, 36, 24, 6] and (256 * blur[0]).tolist() == [1, 4, 6, 4, 1]
    assert blur.sum() == 1 and np.array_equal(blur, blur.T)
    assert vertical.dtype == horizontal.dtype == blur.dtype == textbook_kernels.bank().dtype == np.float32


def test_bank():
    bank = textbook_kernels.bank().astype(np.float64)
    assert bank.shape == (5, 5, 6)
    np.testing.assert_allclose(np.sqrt((bank**2).sum(axis=(0, 1))), 70 / 256, rtol=1e-6)
    edge = 70 / 256 / 12**0.5
    for k, (sign, sobel) in enumerate(zip((1, -1, 1, -1), np.repeat(textbook_kernels.sobel(), 2, axis=0), strict=True)):
        np.testing.assert_allclose(bank[1:4, 1:4, k], sign * edge * sobel, rtol=1e-6)
        assert np.abs(bank[:, :, k]).sum() == pytest.approx(8 * edge, rel=1e-6)  # zeros around
    np.testing.assert_array_equal(bank[:, :, 4], textbook_kernels.gaussian())
    picture = np.zeros((5, 5))
    picture[2, 2] = 1
    difference = picture - textbook_kernels.gaussian()
    np.testing.assert_allclose(bank[:, :, 5], difference * 70 / 256 / np.sqrt((difference**2).sum()), atol=1e-7)
    np.testing.assert_allclose(bank.sum(axis=(0, 1)), [0, 0, 0, 0, 1, 0], atol=1e-6)  # a flat picture shows in the blur


def test_a_larger_bank_has_zeros_around():
    np.testing.assert_array_equal(textbook_kernels.bank(9), np.pad(textbook_kernels.bank(), ((2, 2), (2, 2), (0, 0))))
    for size in (3, 6):
        with pytest.raises(ValueError, match=rf"kernels.bank: size \(={size}\) must be odd and at least 5"):
            textbook_kernels.bank(size)


def test_edges_are_found_where_they_are():
    image = np.zeros((9, 12))
    image[:, 6:] = 1  # dark on the left, bright on the right
    found = correlate(image, textbook_kernels.bank()[:, :, 0])
    assert (found[:, [3, 4]] > 0).all() and np.abs(np.delete(found, [3, 4], axis=1)).max() == 0
    np.testing.assert_allclose(correlate(image, textbook_kernels.bank()[:, :, 1]), -found)
    assert np.abs(correlate(image, textbook_kernels.bank()[:, :, 2])).max() < 1e-7


@pytest.mark.parametrize("channels", [1, 3])
def test_a_convolution_that_starts_as_the_bank(channels):
    images = np.random.default_rng(0).normal(size=(2, 9, 11, channels)).astype(np.float32)
    layer = Conv(6, 5, kernel_init=textbook_kernels.bank_init)
    maps, variables = layer.init_with_output(jax.random.key(0), jnp.asarray(images), train=False)
    assert variables["params"]["kernel"].shape == (5, 5, channels, 6)
    for image, found in zip(images.mean(axis=-1), maps, strict=True):  # what it does to the mean channel
        for k in range(6):
            np.testing.assert_allclose(found[:, :, k], correlate(image, textbook_kernels.bank()[:, :, k]), atol=1e-6)


@pytest.mark.parametrize(("features", "size"), [(8, 5), (6, 3), (6, (5, 3))])
def test_other_layers_are_refused(features, size):
    layer = Conv(features, size, kernel_init=textbook_kernels.bank_init)
    height, width = size if isinstance(size, tuple) else (size, size)
    message = rf"6 kernels of 5x5 pixels; the layer has features \(={features}\) and kernel \(={height}x{width}\)"
    with pytest.raises(ValueError, match=message):
        layer.init(jax.random.key(0), jnp.zeros((1, 9, 9, 1)), train=False)
