"""One net as PyTorch, Keras and Caffe write it: four files, read to one score map."""

import importlib.util

import numpy as np
import pytest

from cnn import data, dense, exchange
from cnn.exchange.caffe.schema import message
from tests.helpers import PROGRAMS, run_python

PROTOTXT = """
input: "data" input_shape { dim: 1 dim: 3 dim: 20 dim: 16 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 6 kernel_size: 3 } }
layer { name: "relu1" type: "ReLU" bottom: "a" top: "a" }
layer { name: "pool1" type: "Pooling" bottom: "a" top: "b" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "b" top: "c" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "relu2" type: "ReLU" bottom: "c" top: "c" }
layer { name: "fc1" type: "InnerProduct" bottom: "c" top: "d" inner_product_param { num_output: 4 } }
layer { name: "prob" type: "Softmax" bottom: "d" top: "p" }
"""
CONSTANTS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporter that needs onnx alone
def test_four_files_give_one_map(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch writes two of the files: requirements-peers.txt")
    if importlib.util.find_spec("keras") is None:  # importing it here would choose its backend
        pytest.skip("Keras writes one of the files: requirements-peers.txt")
    safetensors = pytest.importorskip("safetensors.torch", reason="requirements-exchange.txt")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(6, 8, 3), torch.nn.ReLU()),
        *(torch.nn.Flatten(), torch.nn.Linear(8 * 7 * 5, 4)),
    )
    torch.onnx.export(net, torch.zeros(1, 3, 20, 16), tmp_path / "net.onnx", dynamo=False)
    safetensors.save_file(net.state_dict(), tmp_path / "net.safetensors")
    arrays = {
        f"{name}.{part}": getattr(net[index], part).detach().numpy()
        for name, index in (("conv1", 0), ("conv2", 3), ("fc1", 6))
        for part in ("weight", "bias")
    }
    np.savez(tmp_path / "weights.npz", **arrays)
    done = run_python(PROGRAMS / "one_net_in_keras.py", tmp_path / "weights.npz", tmp_path / "net.keras")
    assert done.returncode == 0, done.stderr[-2000:]
    (tmp_path / "net.prototxt").write_text(PROTOTXT)
    caffe = message("NetParameter")()
    for name in ("conv1", "conv2", "fc1"):
        layer = caffe.layer.add(name=name, type="InnerProduct" if name == "fc1" else "Convolution")
        for part in ("weight", "bias"):
            array = arrays[f"{name}.{part}"]
            blob = layer.blobs.add()
            blob.shape.dim.extend(array.shape)
            blob.data.append(np.ascontiguousarray(array, "<f4").tobytes())
    (tmp_path / "net.caffemodel").write_bytes(caffe.SerializeToString())

    onnx = exchange.load(tmp_path / "net.onnx", **CONSTANTS)
    runs = {
        "onnx": onnx,
        "safetensors": exchange.load(tmp_path / "net.safetensors", net=onnx.net, image_size=(20, 16), **CONSTANTS),
        "keras": exchange.load(tmp_path / "net.keras", **CONSTANTS),
        "caffe": exchange.load(
            tmp_path / "net.caffemodel", structure=tmp_path / "net.prototxt", channels="rgb", **CONSTANTS
        ),
    }
    pixels = np.random.default_rng(0).integers(0, 256, (1, 41, 50, 3), np.uint8)
    maps = {}
    for name, run in runs.items():
        assert run.image_shape == (20, 16, 3)
        images = data.normalise(pixels, run.mean, run.std)
        maps[name] = np.asarray(dense.score_map(run.net, run.variables, images, (20, 16), 1).scores)
    normalised = (pixels / 255 - CONSTANTS["mean"]) / CONSTANTS["std"]
    windows = np.stack([normalised[0, y : y + 20, x : x + 16] for y in range(22) for x in range(35)])
    with torch.no_grad():
        expected = net(torch.from_numpy(windows.transpose(0, 3, 1, 2).astype(np.float32))).numpy()
    for name, found in maps.items():
        # float32 sums of at most 280 terms, in another order.
        np.testing.assert_allclose(
            found[0], expected.reshape(22, 35, 4), rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=name
        )
