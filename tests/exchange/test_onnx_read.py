"""ONNX files by value: what exporters write, against onnxruntime and NumPy; what has no layers is refused by node."""

import pathlib
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnn.exchange import prove
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_in import read as onnx_read
from tests.exchange.onnx_random import random_chain

needs_onnxruntime = pytest.mark.skipif(
    not prove.has_onnxruntime(), reason="needs onnxruntime: python -m pip install -r requirements-peers.txt"
)


def model(nodes: Any, tensors: Any, shape: Any, outputs: Any = ("y",), opset: int = 17, **properties: str) -> Any:
    """A model with the input x, and outputs of any shape."""
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    made = helper.make_graph([helper.make_node(*one[:3], **one[3]) for one in nodes], "g", [images], ends, held)
    result = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(result, properties)
    return result


def save(folder: pathlib.Path, proto: Any) -> pathlib.Path:
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def head(constant: Any, operator: str = "Sub", **options: Any) -> Any:
    """A preprocessing operator and a 1x1 convolution."""
    kernel = np.ones((2, 3, 1, 1), np.float32)
    nodes = [(operator, ["x", "c"], ["d"], {}), ("Conv", ["d", "k"], ["y"], {})]
    return model(nodes, {"c": np.float32(constant), "k": kernel}, ["N", 3, 4, 4], **options)


def test_constants_before_the_first_layer_are_mean_and_std(tmp_path):
    """In units of the full range, also where the file counts pixels from 0 to 255; those that are none are a layer."""
    read = onnx_read.read(save(tmp_path, head(np.array([0.485, 0.456, 0.406])[:, None, None])))
    assert read.mean == (0.485, 0.456, 0.406) and read.std == (1.0, 1.0, 1.0)
    bytes_read = onnx_read.read(save(tmp_path, head(255.0, "Div")))
    assert bytes_read.mean == (0.0,) * 3 and np.allclose(bytes_read.std, 1.0)
    kernel = np.ones((2, 3, 1, 1), np.float32)
    nodes = [("Sub", ["x", "m"], ["a"], {}), ("Div", ["a", "s"], ["b"], {}), ("Conv", ["b", "k"], ["y"], {})]
    tensors = {"m": np.float32(103.5), "s": np.float32(58.0), "k": kernel}
    caffe = onnx_read.read(save(tmp_path, model(nodes, tensors, ["N", 3, 4, 4])))
    assert np.allclose(caffe.mean, 103.5 / 255) and np.allclose(caffe.std, 58 / 255)
    darker = onnx_read.read(save(tmp_path, head(0.25, "Add")))  # a mean below 0
    assert darker.mean == (0.0,) * 3 and darker.net.layers[0].kind == "scale"


def test_metadata_of_this_project_is_read_back(tmp_path):
    properties = {"cnn.mean": "[0.5]", "cnn.std": "[0.25]", "cnn.class_names": '["cat", "dog"]'}
    nodes = [("Conv", ["x", "k"], ["y"], {})]
    path = save(tmp_path, model(nodes, {"k": np.ones((2, 3, 1, 1), np.float32)}, ["N", 3, 4, 4], **properties))
    read = onnx_read.read(path)
    assert (read.mean, read.std, read.class_names) == ((0.5,) * 3, (0.25,) * 3, ("cat", "dog"))
    assert read.image_shape == (4, 4, 3) and read.channel_order == "rgb" and read.source == str(path)


SAME = {"kernel_shape": [1, 1], "strides": [2, 2], "auto_pad": "SAME_UPPER"}
DILATED = {"kernel_shape": [2, 2], "dilations": [2, 1], "auto_pad": "SAME_LOWER"}
REFUSED = {
    "a gate": ([("GlobalAveragePool", ["x"], ["a"], {}), ("Mul", ["a", "x"], ["y"], {})], {}),
    "must be odd": ([("LRN", ["x"], ["y"], {"size": 4})], {}),
    "below its stride": ([("MaxPool", ["x"], ["y"], SAME)], {}),
    "with a dilation of 2": ([("MaxPool", ["x"], ["y"], DILATED)], {}),
    "is quantised": ([("QuantizeLinear", ["x", "s"], ["y"], {})], {"s": np.float32(1)}),
    "this operator is not read": ([("Resize", ["x"], ["y"], {})], {}),
    "mean image": ([("Sub", ["x", "m"], ["y"], {})], {"m": np.arange(48, dtype=np.float32).reshape(3, 4, 4)}),
    "cuts an axis": ([("Reshape", ["x", "s"], ["y"], {})], {"s": np.array([-1, 1, 3, 2, 8], np.int64)}),
    "follows a Softmax": ([("Softmax", ["x"], ["a"], {"axis": 1}), ("Relu", ["a"], ["y"], {})], {}),
    "single score": ([("Conv", ["x", "one"], ["b"], {}), ("Softmax", ["b"], ["y"], {"axis": 1})], {}),
    "has 2 outputs: y [": ([("Relu", ["x"], ["y"], {}), ("Tanh", ["x"], ["z"], {})], {}),
    "no output or node": ([("Relu", ["x"], ["y"], {})], {}),
    "is float16": ([("Conv", ["x", "half"], ["y"], {})], {"half": np.ones((1, 3, 1, 1), np.float16)}),
    "casts to int64": ([("Cast", ["x"], ["y"], {"to": 7})], {}),
    "has the attribute wrong": ([("Relu", ["x"], ["y"], {"wrong": 1})], {}),
}  # fmt: skip


@pytest.mark.parametrize("says", REFUSED)
def test_what_has_no_layers_is_refused_by_its_node(says, tmp_path):
    nodes, tensors = REFUSED[says]
    tensors = {"k": np.ones((3, 3, 1, 1), np.float32), "one": np.ones((1, 3, 1, 1), np.float32)} | tensors
    outputs = ("y", "z") if says.startswith("has 2") else ("y",)
    path = save(tmp_path, model(nodes, tensors, ["N", 3, 4, 4], outputs))
    with pytest.raises(ExchangeError) as refusal:
        onnx_read.read(path, output="nothing" if says == "no output or node" else None)
    assert says in str(refusal.value) and str(refusal.value).startswith(str(path)) and "\n" not in str(refusal.value)


def test_an_open_size_asks_for_image_size(tmp_path):
    proto = model([("Conv", ["x", "k"], ["y"], {})], {"k": np.ones((2, 3, 3, 3), np.float32)}, ["N", "C", "H", "W"])
    path = save(tmp_path, proto)
    with pytest.raises(ExchangeError, match="image_size"):
        onnx_read.read(path)
    assert onnx_read.read(path, image_size=(6, 5)).image_shape == (6, 5, 3)


@needs_onnxruntime
@pytest.mark.parametrize("seed", [4, 17, pytest.param(range(100, 112), marks=pytest.mark.slow)])
def test_random_chains_agree_with_onnxruntime(seed, tmp_path):
    """Within 1e-4 of the largest score, or refused with a reason; most of them are read."""
    seeds = list(seed) if isinstance(seed, range) else [seed]
    read = 0
    for one in seeds:
        path = save(tmp_path, random_chain(one))
        try:
            classifier = onnx_read.read(path)
            foreign = prove.onnx_session(path)
            assert foreign is not None
            assert prove.prove(classifier, foreign, count=2)["difference"] < 1e-5
            read += 1
        except ExchangeError as error:
            assert "read wrongly" not in str(error), (one, str(error))
    assert read >= len(seeds) / 2


def test_tensors_beside_the_file_are_read(tmp_path):
    proto = model([("Conv", ["x", "k"], ["y"], {})], {"k": np.ones((2, 3, 20, 20), np.float32)}, [1, 3, 20, 20])
    path = tmp_path / "net.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin")
    assert np.asarray(onnx_read.read(path).variables["params"]["conv1"]["kernel"]).sum() == 2400
