"""Nets known by their weights: parameters and sizes of PyTorch twins, and of the ONNX model zoo's files."""

import math
import pathlib

import pytest

from cnn import geometry, nets
from cnn.layers import Conv, Dense
from docs.tables import SIZES

NAMES = {"Activation": "ReLU", "MaxPool": "MaxPool2d", "AvgPool": "AvgPool2d", "Conv": "Conv2d", "Dense": "Linear"}
NAMES |= {"LRN": "LocalResponseNorm"}


def modules(torch):
    """Each net in PyTorch, layer by layer, as Caffe's prototxt or torchvision's code spells it."""
    conv, linear, relu, pool = torch.nn.Conv2d, torch.nn.Linear, torch.nn.ReLU(), torch.nn.MaxPool2d
    caffe_norm = torch.nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
    flat, drop, ceil = torch.nn.Flatten(), torch.nn.Dropout(), dict(ceil_mode=True)
    mean = torch.nn.AvgPool2d(3, 2, **ceil)
    return {
        "caffenet": [
            *(conv(3, 96, 11, 4), relu, pool(3, 2, **ceil), caffe_norm),
            *(conv(96, 256, 5, padding=2, groups=2), relu, pool(3, 2, **ceil), caffe_norm),
            *(conv(256, 384, 3, padding=1), relu, conv(384, 384, 3, padding=1, groups=2), relu),
            *(conv(384, 256, 3, padding=1, groups=2), relu, pool(3, 2, **ceil), flat),
            *(linear(9216, 4096), relu, drop, linear(4096, 4096), relu, drop, linear(4096, 1000)),
        ],
        "alexnet_owt": [
            *(conv(3, 64, 11, 4, 2), relu, pool(3, 2), conv(64, 192, 5, padding=2), relu, pool(3, 2)),
            *(conv(192, 384, 3, padding=1), relu, conv(384, 256, 3, padding=1), relu),
            *(conv(256, 256, 3, padding=1), relu, pool(3, 2), torch.nn.AdaptiveAvgPool2d(6), flat),
            *(drop, linear(9216, 4096), relu, drop, linear(4096, 4096), relu, linear(4096, 1000)),
        ],
        "lenet_caffe": [
            *(conv(1, 20, 5), pool(2, 2, **ceil), conv(20, 50, 5), pool(2, 2, **ceil), flat),
            *(linear(800, 500), relu, linear(500, 10)),
        ],
        "cifar10_quick": [
            *(conv(3, 32, 5, padding=2), pool(3, 2, **ceil), relu, conv(32, 32, 5, padding=2), relu, mean),
            *(conv(32, 64, 5, padding=2), relu, mean, flat, linear(1024, 64), linear(64, 10)),
        ],
    }


@pytest.mark.slow
def test_parameters_and_sizes_of_twins():
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install -r requirements-peers.txt")
    with torch.device("meta"):  # shapes without numbers
        twins = modules(torch)
    for name, layers in twins.items():
        height, width, channels = SIZES[name]
        net = nets.create(name)
        rows = geometry.table(net, SIZES[name])
        kinds = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.MaxPool2d, torch.nn.AvgPool2d)
        x, shapes, params = torch.empty(1, channels, height, width, device="meta"), [], []
        for layer in layers:
            x = layer(x)
            if isinstance(layer, kinds):
                shapes.append(tuple(x.shape[1:]))
                params.append(sum(p.numel() for p in layer.parameters()))
        ours = [row for row in rows if "pool" in row.kind or row.kind in ("conv", "dense")]
        assert [(*row.output_shape[2:], *row.output_shape[:2]) for row in ours] == shapes, name
        assert [row.params for row in ours] == params, name
        # In Caffe's net norms follow pools, and the order of all other layers is the twin's too.
        twin = [type(layer).__name__ for layer in layers if type(layer).__name__ != "AdaptiveAvgPool2d"]
        assert [NAMES.get(type(layer).__name__, type(layer).__name__) for layer in net.layers] == twin, name


@pytest.mark.parametrize(("file", "name"), [("light_bvlc_alexnet", "caffenet"), ("light_zfnet512", "zfnet512")])
def test_kernels_are_those_of_the_files_of_the_onnx_zoo(file, name):
    """The files hold the shapes of all kernels; AlexNet's are CaffeNet's."""
    onnx = pytest.importorskip("onnx", reason="reads files of the ONNX zoo: pip install -r requirements-exchange.txt")
    path = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"{file}.onnx"
    if not path.exists():
        pytest.skip(f"this onnx has no {path.name}")
    tensors = {one.name: onnx.numpy_helper.to_array(one).tolist() for one in onnx.load(path).graph.initializer}
    found = [shape for key, shape in tensors.items() if key.endswith("_w_0__SHAPE")]
    net, shape = nets.create(name), SIZES[name]
    ours = []
    for row, layer in zip(geometry.table(net, shape), net.layers, strict=True):
        if isinstance(layer, Conv):
            height, width, depth, features = layer.kernel_shape(shape)
            ours.append([features, depth, height, width])
        elif isinstance(layer, Dense):
            ours.append([layer.features, math.prod(shape)])
        shape = row.output_shape
    assert sorted(ours) == sorted(found)


def test_batch_norm_of_vggs_is_an_option():
    assert nets.create("vgg11", norm="batch") == nets.create("vgg11", norm=True)
    assert nets.create("vgg11", norm=None) == nets.create("vgg11")
    for norm, message in (("lrn", "vgg: norm .='lrn'. must be 'batch', or None"), ("bn", "vgg: unknown norm 'bn'")):
        with pytest.raises(ValueError, match=message):
            nets.create("vgg11", norm=norm)
