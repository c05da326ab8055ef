"""`dense.check` passes right nets and names what is wrong with others."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from cnn import dense, nets
from cnn.layers import Activation, Conv, Dense, Flatten, Layer, MaxPool, NMaxPool
from cnn.windows import GeometryError, Window
from tests.made import random_variables

WINDOW = (10, 10)


def blurred(x):
    """Means of 3x3 pixels, zeros beyond the border."""
    kernel = jnp.ones((3, 3, 1, x.shape[-1])) / 9
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=x.shape[-1]
    )


class Blur(Layer):
    """Mixes pixels and declares that it does not."""

    kind = "blur"
    mixes_pixels = False

    @nn.compact
    def __call__(self, x, *, train):
        return blurred(x)


class TopRow(Layer):
    """Declares no window, and adds the mean of the whole image: what no window covers."""

    kind = "top row"
    mixes_pixels = False

    @nn.compact
    def __call__(self, x, *, train):
        return x + x.mean(axis=(1, 2), keepdims=True)


class WrongPool(MaxPool):
    """Declares a window of 2 and takes the maximum of 3."""

    @nn.compact
    def __call__(self, x, *, train):
        wider = Window((3, 3), (1, 1), ((1, 1), (1, 1)))
        x = jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 1, 1, 1), ((0, 0), *wider.padding, (0, 0))
        )
        return super().__call__(x, train=train)


def check(*layers, **options):
    net = nets.net(*layers)
    return dense.check(net, random_variables(net, WINDOW, 2), WINDOW, **options)


@pytest.mark.slow
def test_an_unpadded_net_agrees():
    report = check([Conv(4, 3), Activation("relu"), MaxPool(2), Conv(5, 2), Flatten("chw"), Dense(3)])
    assert {one.context for one in report} == {"both"} and {one.stride for one in report} == {(2, 2), (1, 1), (3, 4)}
    assert [one.backend for one in report[:4]] == ["crops", "shift", "atrous", "mpf"]
    assert len({one.image_size for one in report}) == 3
    assert 0 < report.difference <= 1e-5 and report.left_out == ()
    lines = str(report).splitlines()
    assert lines[0].split() == ["backend", "context", "image", "stride", "scores", "difference"]
    assert max(map(len, lines)) <= 80 and len(lines) == 13


@pytest.mark.long
def test_a_padded_net_agrees_in_both_contexts():
    report = check([Conv(4, 3, padding=1), MaxPool(2), Conv(5, 3, padding="same"), Flatten(), Dense(3)], strides=[3])
    assert {(one.context, one.backend) for one in report} == {
        ("crop", "crops"),
        *(("image", backend) for backend in ("shift", "atrous", "mpf")),
    }
    assert report.difference <= 1e-5 and all(one.scores >= 6 for one in report)


@pytest.mark.slow
def test_what_cannot_be_computed_is_said():
    layers = [Conv(3, 3, padding=1, padding_mode="edge"), MaxPool(2), Flatten(), Dense(2)]
    report = check(layers)
    assert {one.stride for one in report if one.context == "image"} == {(2, 2)}
    assert len(report.left_out) == 6 and "no multiple of the native stride" in str(report)


@pytest.mark.parametrize(
    "layers, name",
    [
        ([Conv(4, 3), Blur(), MaxPool(2), Flatten(), Dense(3)], "blur1"),
        ([Conv(4, 3, padding=1), MaxPool(2), Blur(), Conv(4, 3, padding=1), Flatten(), Dense(3)], "blur1"),
        ([Conv(4, 3), TopRow(), Flatten(), Dense(3)], "top_row1"),
        ([Conv(4, 3), WrongPool(2), Flatten(), Dense(3)], "pool1"),
    ],
)
def test_a_layer_that_declares_something_else_is_named(layers, name):
    message = rf"{name} \(.*\): output \(\d, \d\) changes with input pixel \(\d, \d\), which its declared window"
    with pytest.raises(GeometryError, match=message):
        check(layers)


class Vignette(Layer):
    """Darkens towards the border: pixels stay apart, but what is done to one depends on where it stands."""

    kind = "vignette"
    mixes_pixels = False

    @nn.compact
    def __call__(self, x, *, train):
        return x * jnp.linspace(0.5, 1, x.shape[1])[None, :, None, None]


@pytest.mark.slow
@pytest.mark.parametrize("padding, reference", [(0, "crops"), (1, "plain passes")])
def test_a_map_that_differs_is_named_with_backend_stride_position_and_difference(padding, reference):
    layers = [Conv(4, 3, padding=padding), MaxPool(2), Vignette(), Flatten(), Dense(3)]
    message = (
        rf"backend 'shift', context '.*', stride \dx\d.*score \(\d+, \d+\).*pixel .* differs from {reference} by 0\."
    )
    with pytest.raises(ValueError, match=message):
        check(layers)


def test_a_net_that_cannot_slide_or_does_not_tell_its_channels():
    with pytest.raises(ValueError, match="give channels="):
        check([NMaxPool(2), Flatten(), Dense(3)])
    assert check([NMaxPool(2), Flatten(), Dense(3)], channels=2, strides=[2]).difference <= 1e-5
    with pytest.raises(GeometryError, match="no Dense to convert"):
        check([Conv(2, 3), Flatten()])
