"""ONNX graphs that branch, read as nets with blocks, against onnxruntime and PyTorch."""

import pathlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnn import exchange
from cnn.exchange import prove
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_in import read as onnx_read
from cnn.layers import Branches
from tests.exchange.onnx_blocks import random_graph
from tests.helpers import run_python

HERE = pathlib.Path(__file__).parent


def model(*nodes, tensors=None, shape=("N", 3, 6, 6)):
    """A model of nodes (operator, inputs, output, attributes), whose last output is the scores."""
    made = [
        helper.make_node(op, list(inputs), [output], name=f"node_{output}", **(rest[0] if rest else {}))
        for op, inputs, output, *rest in nodes
    ]
    given = [numpy_helper.from_array(value, name) for name, value in (tensors or {}).items()]
    graph = helper.make_graph(
        made,
        "blocks",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1][2], TensorProto.FLOAT, None)],
        given,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


RNG = np.random.default_rng(5)
TENSORS = {name: RNG.normal(size=(3, 3, 3, 3), scale=0.3).astype(np.float32) for name in ("k1", "k2", "k3")}
CONV = {"pads": [1, 1, 1, 1]}
HEAD = [("GlobalAveragePool", ["y"], "g"), ("Flatten", ["g"], "scores")]


@pytest.mark.parametrize(
    ("nodes", "pattern"),
    [
        # A residual block on the images themselves, one within another, and a sum of sums, which is one block.
        ([("Conv", ["x", "k1"], "a", CONV), ("Add", ["a", "x"], "y")], "[CONV + ID]"),
        ([("Conv", ["x", "k1"], "a", CONV), ("Relu", ["a"], "b"), ("Add", ["b", "a"], "c"), ("Max", ["c", "x"], "y")],
         "[[CONV -> [RELU + ID]] ^ ID]"),
        ([("Conv", ["x", "k1"], "a", CONV), ("Conv", ["x", "k2"], "b", CONV), ("Add", ["a", "b"], "c"),
          ("Add", ["c", "x"], "y")], "[CONV + CONV + ID]"),
        ([("Conv", ["x", "k1"], "a", CONV), ("Concat", ["x", "a", "x"], "y", {"axis": 1})], "[ID | CONV | ID]"),
        # A dense block of growing lists: the second convolution takes what the first concatenation gives.
        ([("Conv", ["x", "k1"], "a", CONV), ("Concat", ["x", "a"], "b", {"axis": 1}),
          ("Conv", ["b", "k6"], "c", CONV), ("Concat", ["x", "a", "c"], "y", {"axis": 1})],
         "[[ID | CONV]]*2"),
        ([("Slice", ["x", "one", "less", "axes"], "a"), ("Conv", ["x", "k1"], "b"), ("Mean", ["a", "b"], "y")],
         "[CROP ~ CONV]"),
        ([("Conv", ["x", "k1"], "a", CONV), ("Sigmoid", ["a"], "b"), ("Mul", ["b", "x"], "y")],
         "[[CONV -> SIGMOID] x ID]"),
    ],
)  # fmt: skip
def test_blocks_are_read_as_they_are_drawn(tmp_path, nodes, pattern):
    """A sum of sums is one block, and a dense block's growing concatenations are one within the other."""
    tensors = {**TENSORS, "k6": RNG.normal(size=(3, 6, 3, 3)).astype(np.float32), "one": np.array([1, 1])}
    tensors |= {"less": np.array([-1, -1]), "axes": np.array([2, 3])}
    onnx.save(model(*nodes, *HEAD, tensors=tensors), tmp_path / "net.onnx")
    assert str(onnx_read.read(tmp_path / "net.onnx").net) == f"INPUT -> {pattern} -> GLOBAL POOL"


def test_a_graph_with_blocks_gives_the_scores_of_onnxruntime(tmp_path):
    """`exchange.load` compares both by itself: nested blocks, and factors on the images that only one path has."""
    nodes = [("Mul", ["x", "two"], "a"), ("Conv", ["a", "k1"], "b", CONV), ("Relu", ["b"], "c")]
    nodes += [("Conv", ["c", "k2"], "d", CONV), ("Max", ["c", "d"], "e"), ("Add", ["e", "x"], "f")]
    nodes += [("Concat", ["f", "x"], "g", {"axis": 1}), ("Relu", ["g"], "h"), ("Mean", ["h", "g"], "y")]
    pooled = [("GlobalAveragePool", ["y"], "p"), ("GlobalMaxPool", ["y"], "q"), ("Flatten", ["p"], "r")]
    pooled += [("Flatten", ["q"], "s"), ("Concat", ["r", "s"], "scores", {"axis": 1})]
    onnx.save(model(*nodes, *pooled, tensors={**TENSORS, "two": np.float32([2.0])}), tmp_path / "net.onnx")
    run = exchange.load(tmp_path / "net.onnx", mean=0.5, std=0.25)
    assert len(run.class_names) == 12


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([("Conv", ["x", "k1"], "a", CONV), ("GlobalAveragePool", ["a"], "b"), ("Sigmoid", ["b"], "c"),
          ("Mul", ["a", "c"], "y")], ("Mul 'node_y'", "gate", "'a' and 'c'")),
        # Two edges that cross: a goes into both paths and to the join itself.
        ([("Conv", ["x", "k1"], "a", CONV), ("Conv", ["a", "k2"], "b", CONV), ("Add", ["b", "x"], "c"),
          ("Conv", ["c", "k3"], "d", CONV), ("Add", ["d", "a"], "y")], ("cross", "'a' goes to", "Conv 'node_b'")),
        ([("Conv", ["x", "k1"], "a", CONV), ("Concat", ["a", "x"], "y", {"axis": 2})], ("along axis 2", "channels")),
        ([("Conv", ["x", "k1"], "a", CONV), ("Sub", ["a", "x"], "y")], ("Sub 'node_y'", "no join")),
        ([("GlobalAveragePool", ["x"], "a"), ("Add", ["a", "x"], "y")], ("Add 'node_y'", "shape")),
        ([("Sum", ["x", "x", "half"], "y")], ("constants",)),
        ([("Max", ["x", "full"], "y")], ("Max 'node_y'", "constants")),
        ([("Concat", ["x", "full"], "y", {"axis": 1})], ("Concat 'node_y'", "constants")),
        ([("Slice", ["x", "one", "less", "axes"], "y")], ("same number at both ends",)),
    ],
)  # fmt: skip
def test_what_is_no_block_is_refused_by_its_node(tmp_path, nodes, says):
    tensors = {**TENSORS, "one": np.array([1, 1]), "less": np.array([-2, -1]), "axes": np.array([2, 3])}
    tensors |= {"half": np.float32([0.5]), "full": np.arange(108, dtype=np.float32).reshape(1, 3, 6, 6)}
    onnx.save(model(*nodes, *HEAD, tensors=tensors), tmp_path / "net.onnx")
    with pytest.raises(ExchangeError) as caught:
        onnx_read.read(tmp_path / "net.onnx")
    assert all(one in str(caught.value) for one in says) and "\n" not in str(caught.value), caught.value


def test_paths_too_deep_and_too_many_are_refused(tmp_path):
    """Blocks within blocks, and joins whose paths part long before, end in an error, not in hours."""
    nodes, name = [], "x"
    for depth in range(40):
        nodes += [("Relu", [name], f"r{depth}"), ("Add", [f"r{depth}", "x"], f"s{depth}")]
        name = f"s{depth}"
    nodes[-1] = ("Add", [nodes[-1][1][0], "x"], "y")
    onnx.save(model(*nodes, *HEAD), tmp_path / "net.onnx")
    with pytest.raises(ExchangeError, match="within 16 others"):
        onnx_read.read(tmp_path / "net.onnx")


@pytest.mark.slow
def test_random_graphs_agree_with_onnxruntime(tmp_path):
    """Blocks of all joins, nested, with strides, pools, normalisation and factors."""
    pytest.importorskip("onnxruntime", reason="another program is the judge: requirements-exchange.txt")
    blocks, nested, read = 0, 0, 0
    for seed in range(20):
        path = tmp_path / f"{seed}.onnx"
        onnx.save(random_graph(seed), path)
        found = onnx_read.read(path)
        prove.prove(found, prove.onnx_session(path), count=2)  # above 1e-4 of the largest score it raises
        layers = [layer for layer in found.net.layers if isinstance(layer, Branches)]
        inner = [one for layer in layers for path in layer.paths for one in path]
        blocks, nested = blocks + len(layers), nested + any(isinstance(one, Branches) for one in inner)
        read += 1
    assert read == 20 and blocks > 20 and nested > 4


@pytest.mark.long
@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
def test_exports_of_pytorch_agree_with_it(exporter, tmp_path):
    """A residual, an inception, a fire and a dense block, and resnet18; two through the slow default exporter."""
    pytest.importorskip("torch", reason="needs PyTorch: python -m pip install -r requirements-peers.txt")
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="the default exporter needs onnxscript")
    names = ["residual", "dense"]
    names += ["resnet18", "inception", "fire", "inverted"] if exporter == "legacy" else []
    done = run_python(HERE / "torch_branching_export.py", tmp_path, exporter, *names)
    assert done.returncode == 0, done.stderr
    for name in names:
        path = tmp_path / f"{name}.onnx"
        case = np.load(path.with_suffix(".npz"))
        found, reading = onnx_read.read(path), onnx_read.decode(path)
        images, scores = prove.as_images(reading, case["images"]), prove.as_scores(reading, case["scores"])
        assert prove.compare(found, images, scores, name, reading.chain.head) < 1e-5, name
        assert any(isinstance(layer, Branches) for layer in found.net.layers), name
