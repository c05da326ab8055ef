"""Real nets in ONNX: known results, the files' own vectors, other programs; dense maps equal their crops."""

import os
import pathlib

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test import loader

from cnn import data, dense
from cnn.exchange import prove
from cnn.exchange.onnx_in import read as onnx_read

TFDS = os.environ.get("TFDS_DATA_DIR", "")
PRETRAINED = pathlib.Path(TFDS).parent / "pretrained"
needs_pretrained = pytest.mark.skipif(
    not (TFDS and PRETRAINED.is_dir()), reason="TFDS_DATA_DIR with a folder `pretrained` beside it is not set"
)
needs_onnxruntime = pytest.mark.skipif(
    not prove.has_onnxruntime(), reason="needs onnxruntime: python -m pip install -r requirements-peers.txt"
)
MNIST, RNET = PRETRAINED / "cntk_mnist_onnx" / "model.onnx", PRETRAINED / "mtcnn_rnet" / "rnet.onnx"


@needs_pretrained
def test_cntks_digits_agree_with_their_own_vectors():
    read = onnx_read.read(MNIST)
    assert str(read.net) == "INPUT -> [CONV -> RELU -> POOL]*2 -> FC" and read.image_shape == (28, 28, 1)
    proof = prove.own_vectors(read, MNIST)
    assert proof is not None and proof["difference"] < 5e-7


@needs_pretrained
@pytest.mark.long
def test_cntks_digits_have_their_known_result():
    """9,891 of the 10,000 test images, whose pixels it takes from 0 to 255; a dense map equals its crops."""
    read = onnx_read.read(MNIST)
    test = data.load("mnist", dir=TFDS).test
    scores = np.asarray(read.net.apply(read.variables, test.images.astype(np.float32), train=False))
    assert (scores.argmax(-1) == test.labels).sum() == 9891
    page = test.images[:4].reshape(2, 2, 28, 28).transpose(0, 2, 1, 3).reshape(1, 56, 56, 1).astype(np.float32)
    compare_with_crops(read, page, 14)


def compare_with_crops(read, page, stride):
    """Every score of a dense map with that of its window, cut out."""
    height, width, _ = read.image_shape
    found = dense.score_map(read.net, read.variables, page, window=(height, width), stride=stride, context="crop")
    crops = np.concatenate([page[:, y0:y1, x0:x1] for y0, x0, y1, x1 in np.asarray(found.boxes).reshape(-1, 4)])
    wanted = np.asarray(read.net.apply(read.variables, crops, train=False))
    gap = np.abs(np.asarray(found.scores).reshape(wanted.shape) - wanted).max()
    assert gap <= 1e-5 * np.abs(wanted).max()


@needs_pretrained
@needs_onnxruntime
@pytest.mark.parametrize("head", ["softmax_1", "dense_2"])
def test_rnets_heads(head):
    """Images are [N, H, W, C] in the file, slopes of their own after each convolution, one output of two is chosen."""
    read = onnx_read.read(RNET, output=head)
    assert read.image_shape == (24, 24, 3)
    import onnxruntime

    session = onnxruntime.InferenceSession(RNET, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).uniform(-1, 1, (8, 24, 24, 3)).astype(np.float32)
    wanted = session.run([head], {"input_2": images})[0]
    assert prove.compare(read, images, wanted, head, "Softmax" if head == "softmax_1" else "") < 1e-6


@needs_pretrained
@pytest.mark.slow
def test_rnets_dense_map_equals_its_crops():
    read = onnx_read.read(RNET, output="softmax_1")
    compare_with_crops(read, np.random.default_rng(1).uniform(-1, 1, (1, 40, 44, 3)).astype(np.float32), 4)


@needs_onnxruntime
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["bvlc_alexnet", "zfnet512", "vgg19"])
def test_light_graphs_with_random_weights(name, tmp_path):
    """ONNX's graphs of published nets. Their own weights are all 0.02, with which nearly any net gives the output."""
    proto = onnx.load(pathlib.Path(loader.DATA_DIR) / "light" / f"light_{name}.onnx")
    shapes = {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}
    rng = np.random.default_rng(0)
    made = [node for node in proto.graph.node if node.op_type == "ConstantOfShape"]
    for node in made:
        shape = [int(n) for n in shapes[node.input[0]]]
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 100
        weights = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
        proto.graph.initializer.append(numpy_helper.from_array(weights, node.output[0]))
        proto.graph.node.remove(node)
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    del proto
    read = onnx_read.read(path)
    foreign = prove.onnx_session(path)
    assert foreign is not None and prove.prove(read, foreign, count=1)["difference"] < 1e-5
