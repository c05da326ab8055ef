"""Blur pools and channel shuffles: values against NumPy, dense maps against the definition, and other frameworks."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnn import convert, dense, exchange, geometry, nets
from cnn.exchange.classifier import Classifier
from cnn.layers import Activation, AvgPool, BlurPool, ChannelShuffle, Conv, Dense, Flatten, MaxPool
from cnn.windows import GeometryError
from tests.made import draw, random_variables
from tests.reference import dense as reference

MODES = {"zero": "constant", "edge": "edge", "reflect": "reflect"}
WINDOW = (11, 12)


def net(padding, mode="zero"):
    """A max pool without a stride, and the blur pool that has it; a shuffle between convolutions with groups."""
    return nets.net(
        [Conv(4, 3, padding=padding, groups=2), Activation("tanh"), MaxPool(2, 1)],
        [BlurPool(3, 2, padding=padding, padding_mode=mode, rounding="floor"), ChannelShuffle(2), Conv(4, 2, groups=2)],
        [AvgPool(None), Flatten(), Dense(3)],
    )


@pytest.mark.parametrize("kernel, stride, dilation, mode", [(3, 2, 1, "reflect"), (5, (1, 3), (2, 1), "edge")])
def test_blur_pools_are_depthwise_convolutions(kernel, stride, dilation, mode):
    layer = BlurPool(kernel, stride, padding=((1, 2), (2, 0)), dilation=dilation, padding_mode=mode, rounding="floor")
    x = draw(0, (2, 12, 11, 3))
    line = np.array({3: [1, 2, 1], 5: [1, 4, 6, 4, 1]}[kernel], np.float64)
    weights = np.outer(line, line) / line.sum() ** 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 2), (2, 0), (0, 0)), MODES[mode])
    window = layer.window(x.shape[1:])
    taps = np.lib.stride_tricks.sliding_window_view(padded, window.extent, axis=(1, 2))
    taps = taps[:, :: window.stride[0], :: window.stride[1], :, :: window.dilation[0], :: window.dilation[1]]
    found = np.asarray(nets.net(layer).apply({}, x, train=False))
    np.testing.assert_allclose(found, np.einsum("nhwcij,ij->nhwc", taps, weights), atol=1e-6)  # float32 sums of size 1
    row = geometry.table(nets.net(layer), x.shape[1:])[0]
    assert (row.output_shape, row.receptive_field, row.macs) == (found.shape[1:], window.extent, 0)
    np.testing.assert_array_equal(layer.weights(3)[:, :, 0, 1], weights)


def test_channels_of_groups_are_taken_in_turn():
    x = draw(0, (1, 2, 2, 6))
    found = nets.net(ChannelShuffle(3)).apply({}, x, train=False)
    np.testing.assert_array_equal(found, x[..., [0, 2, 4, 1, 3, 5]])
    np.testing.assert_array_equal(found, x[..., ChannelShuffle(3).order(6)])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (BlurPool(4), r"blur1 \(blur pool\): kernel \(=4\) must be one of 3, 5"),
        (BlurPool((3, 3)), r"kernel \(=\(3, 3\)\) must be one of 3, 5"),
        (BlurPool(padding_mode="mean"), r"padding_mode \(='mean'\) must be one of zero, edge, reflect"),
        (BlurPool(rounding="ceil"), r"rounding 'ceil' is not for a blur pool"),
        (
            BlurPool(5, padding=8, padding_mode="reflect"),
            r"reflect padding 8\+8 needs an input larger than that, got 8",
        ),
        (BlurPool(), r"blur1 \(blur pool\): .*"),
        (ChannelShuffle(2), r"shuffle1 \(channel shuffle\): groups \(=2\) must be .* number of channels \(=3\)"),
    ],
)
def test_what_does_not_fit_is_named(layer, message):
    with pytest.raises(GeometryError, match=message):
        geometry.table(nets.net(layer), (8, 8, 3))


@pytest.mark.parametrize(
    "padding, backend", [(0, "mpf"), *(pytest.param(1, b, marks=pytest.mark.slow) for b in ("shift", "mpf"))]
)
def test_they_slide(padding, backend):
    own = net(padding)
    variables, image = random_variables(own, WINDOW, 2), draw(1, (19, 22, 2))
    conv_net, conv_variables = convert.fc_to_conv(own, variables, (*WINDOW, 2))
    expected = reference.score_map(conv_net, conv_variables, image, (1, 1), (9, 11))
    found = dense.score_map(own, variables, jnp.asarray(image)[None], WINDOW, 1, backend)
    # float32 sums in another order, as of all nets.
    np.testing.assert_allclose(found.scores[0], expected, atol=1e-5 * np.abs(expected).max())
    assert nets.from_config(nets.to_config(own)) == own


@pytest.mark.slow
def test_reflected_padding_is_that_of_one_pass():
    own = net(1, "reflect")
    variables, image = random_variables(own, WINDOW, 2), draw(1, (19, 22, 2))
    with pytest.raises(GeometryError, match=r"blur1 \(blur pool\): padding_mode 'reflect' is defined by the values of"):
        dense.score_map(own, variables, jnp.asarray(image)[None], WINDOW, 1, "mpf")
    conv_net, conv_variables = convert.fc_to_conv(own, variables, (*WINDOW, 2))
    whole = conv_net.apply(conv_variables, image[None], train=False)
    found = dense.score_map(own, variables, jnp.asarray(image)[None], WINDOW, 2, "mpf").scores
    height, width = found.shape[1:3]
    np.testing.assert_allclose(found, whole[:, :height, :width], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["onnx", "safetensors", "stablehlo"])
def test_files_of_other_frameworks(tmp_path, suffix):
    """Written with the check of the writer: the file's scores are those of the net."""
    pytest.importorskip("onnxruntime" if suffix == "onnx" else "torch" if suffix == "safetensors" else "flatbuffers")
    own = net(1, "reflect")
    run = Classifier(own, random_variables(own, WINDOW, 2), (*WINDOW, 2), (0.5,) * 2, (1.0,) * 2, ("a", "b", "c"))
    written = exchange.save(tmp_path / f"a.{suffix}", run)
    assert written.difference is None or written.difference <= 1e-5
    if suffix == "safetensors":
        import torch
        from safetensors.torch import load_file
        from torch import nn

        modules = [nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.Tanh(), nn.MaxPool2d(2, 1), nn.ReflectionPad2d(1)]
        modules += [nn.Conv2d(4, 4, 3, stride=2, groups=4, bias=False), nn.ChannelShuffle(2)]
        modules += [nn.Conv2d(4, 4, 2, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
        twin = nn.Sequential(*modules).eval()
        twin.load_state_dict(load_file(tmp_path / "a.safetensors"))
        images = draw(3, (2, *WINDOW, 2))
        with torch.no_grad():
            expected = twin(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
        found = own.apply(run.variables, images, train=False)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
