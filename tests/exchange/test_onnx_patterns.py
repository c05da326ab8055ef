"""What exporters write in several operators, or in the forms of old versions, against onnxruntime."""

import numpy as np
import pytest

from cnn.exchange import prove
from cnn.exchange.onnx_in import read as onnx_read
from tests.exchange.test_onnx_read import model, save

RNG = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


IMAGE, CONV, KERNEL = ["N", 3, 8, 7], ("Conv", ["x", "k"], ["c"], {}), {"k": numbers(2, 3, 3, 3)}
TO_NCHW = ("Transpose", ["x"], ["c0"], {"perm": [0, 3, 1, 2]})
# The nodes, the tensors, the shape of the input, the opset, and the kinds of the layers that they become.
PATTERNS = {
    "tf2onnx: grey images are reshaped": (
        [("Reshape", ["x", "s"], ["a"], {}), ("Conv", ["a", "k"], ["y"], {})],
        {"s": whole(-1, 1, 8, 7), "k": numbers(2, 1, 3, 3)}, ["N", 8, 7, 1], 17, ["conv"],
    ),
    "tf2onnx: normalisation folded into factors": (
        [TO_NCHW, ("Conv", ["c0", "k"], ["c"], {}), ("Mul", ["c", "s"], ["e"], {}), ("Add", ["e", "o"], ["y"], {})],
        {**KERNEL, "s": numbers(1, 2, 1, 1), "o": numbers(1, 2, 1, 1)}, ["N", 8, 7, 3], 17, ["conv", "scale"],
    ),
    "a fully connected layer at each pixel": (
        [TO_NCHW, ("Conv", ["c0", "k"], ["c"], {}), ("Transpose", ["c"], ["e"], {"perm": [0, 2, 3, 1]}),
         ("MatMul", ["e", "w"], ["f"], {}), ("Add", ["f", "o"], ["y"], {})],
        {**KERNEL, "w": numbers(2, 5), "o": numbers(5)}, ["N", 8, 7, 3], 17, ["conv", "conv"],
    ),
    "images without channels": (
        [("Unsqueeze", ["x", "a"], ["b"], {}), ("Conv", ["b", "k"], ["y"], {})],
        {"a": whole(1), "k": numbers(2, 1, 3, 3)}, ["N", 8, 7], 17, ["conv"],
    ),
    "version 4: the shape is an attribute": (
        [CONV, ("Reshape", ["c"], ["f"], {"shape": [0, -1]}), ("Softmax", ["f"], ["y"], {})],
        KERNEL, [1, 3, 8, 7], 4, ["conv", "flatten"],
    ),
    "one score under a sigmoid": (
        [("Conv", ["x", "k"], ["c"], {}), ("GlobalAveragePool", ["c"], ["g"], {}), ("Sigmoid", ["g"], ["h"], {}),
         ("Squeeze", ["h", "a"], ["y"], {})],
        {"k": numbers(1, 3, 3, 3), "a": whole(2, 3)}, IMAGE, 17, ["conv", "average pool", "flatten"],
    ),
    "Keras: PReLU of two ReLUs": (
        [CONV, ("Relu", ["c"], ["p"], {}), ("Neg", ["c"], ["q"], {}), ("Relu", ["q"], ["r"], {}),
         ("Mul", ["r", "s"], ["t"], {}), ("Sub", ["p", "t"], ["y"], {})],
        {**KERNEL, "s": numbers(2, 1, 1)}, IMAGE, 17, ["conv", "prelu"],
    ),
    "a mean over pixels laid together": (
        [CONV, ("Reshape", ["c", "s"], ["e"], {}), ("ReduceMean", ["e"], ["y"], {"axes": [2], "keepdims": 0})],
        {**KERNEL, "s": whole(0, 2, -1)}, IMAGE, 17, ["conv", "average pool", "flatten"],
    ),
    "padding before a max pool": (
        [("Pad", ["x", "p"], ["a"], {}), ("MaxPool", ["a"], ["y"], {"kernel_shape": [3, 3], "strides": [2, 2]})],
        {"p": whole(0, 0, 1, 1, 0, 0, 1, 1)}, IMAGE, 17, ["conv", "max pool"],
    ),
    "zero padding before a mean pool": (
        [("Pad", ["x", "p"], ["a"], {}), ("AveragePool", ["a"], ["y"], {"kernel_shape": [3, 3], "strides": [2, 2]})],
        {"p": whole(0, 0, 1, 1, 0, 0, 1, 0)}, IMAGE, 17, ["average pool"],
    ),
    "normalisation of flattened values": (
        [("Flatten", ["x"], ["f"], {}), ("BatchNormalization", ["f", "a", "b", "m", "v"], ["g"], {}),
         ("Gemm", ["g", "w"], ["y"], {})],
        {"a": numbers(168), "b": numbers(168), "m": numbers(168), "v": np.ones(168, np.float32), "w": numbers(168, 3)},
        IMAGE, 17, ["flatten", "batch norm", "dense"],
    ),
}  # fmt: skip
FAST = ("tf2onnx: normalisation folded into factors", "Keras: PReLU of two ReLUs", "zero padding before a mean pool")
SLOW = [name for name in PATTERNS if name not in FAST]


@pytest.mark.skipif(not prove.has_onnxruntime(), reason="needs onnxruntime (requirements-peers.txt)")
@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in PATTERNS]
)
def test_patterns_of_exporters(name, tmp_path):
    nodes, tensors, shape, opset, kinds = PATTERNS[name]
    path = save(tmp_path, model(nodes, tensors, shape, opset=opset))
    read = onnx_read.read(path)
    assert [layer.kind for layer in read.net.layers] == kinds
    foreign = prove.onnx_session(path)
    assert foreign is not None
    assert prove.prove(read, foreign, count=3)["difference"] < 1e-6
