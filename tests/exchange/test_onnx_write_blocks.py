"""Nets that branch written to ONNX: plain, for any size and at a finer stride, run by onnxruntime and read again."""

import jax
import numpy as np
import pytest

from cnn import dense, exchange, geometry, nets
from cnn.exchange.classifier import Classifier
from cnn.layers import (
    Activation,
    BatchNorm,
    Branches,
    Conv,
    Crop,
    Dense,
    Flatten,
    MaxPool,
    PReLU,
    Scale,
    StochasticDepth,
)

onnxruntime = pytest.importorskip("onnxruntime", reason="runs what is written: requirements-exchange.txt")


def run_of(net, shape, seed=0):
    """A run with random variables of which no two are alike."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), np.zeros((1, *shape), np.float32), train=False))
    variables = jax.tree.map(lambda x: (rng.uniform(-0.5, 1.0, x.shape) ** 2 + 0.01).astype(np.float32), shapes)
    classes = geometry.table(net, shape)[-1].output_shape[-1]
    names = tuple(f"name {index}" for index in range(classes))
    return Classifier(net, variables, shape, (0.4,) * shape[2], (0.3,) * shape[2], names)


def scores_of(path, images):
    """What onnxruntime computes, [N, K] or [N, h, w, K]."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(["scores"], {"images": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})[0]
    return found if found.ndim == 2 else found.transpose(0, 2, 3, 1)


def unpadded():
    """Paths of all joins, one within another, strided and cropped, of which dense maps equal crops."""
    inner = Branches(((Activation("tanh"), Scale()), (PReLU(),)), "mean")
    path = (Conv(4, 3, 2, use_bias=False), BatchNorm(), inner, StochasticDepth(0.2))
    strided = Branches((path, (Crop(1, stride=2), Conv(4, 1))))
    side = Branches(((Conv(2, 3), Activation()), (MaxPool(3, 1),), (Crop(1),)), "concat")
    largest = Branches(((Conv(10, 1),), (), (Activation("relu"),)), "max")
    gated = Branches(((Activation("sigmoid"),), (Scale(),), ()), "product")
    return nets.net([Conv(3, 3), strided, side, largest, gated, Flatten(), Dense(3)])


def test_a_net_that_branches_is_written_and_read_again(tmp_path):
    """`exchange.save` compares the file with onnxruntime itself; what is read is what was written."""
    run = run_of(unpadded(), (13, 15, 2))
    assert exchange.save(tmp_path / "net.onnx", run).difference < 1e-5
    again = exchange.load(tmp_path / "net.onnx", check=False)
    assert str(again.net) == str(run.net) and again.class_names == run.class_names
    given, found = (jax.tree.leaves(one.variables["params"]["block1"]) for one in (run, again))
    assert len(given) == len(found) and all(any(np.array_equal(a, b) for b in found) for a in given)


@pytest.mark.slow
def test_dense_forms_give_the_maps_of_this_library(tmp_path):
    """At stride 1 those of a dense pass that is planned in another way, without dilation."""
    run = run_of(unpadded(), (13, 15, 2))
    images = np.random.default_rng(1).normal(size=(1, 20, 24, 2)).astype(np.float32)
    assert exchange.save(tmp_path / "any.onnx", run, dense=True).difference < 1e-5
    exchange.save(tmp_path / "fine.onnx", run, dense=True, stride=1)
    wanted = dense.score_map(run.net, run.variables, images, window=(13, 15), stride=1, backend="shift").scores
    # float32 rounding of two programs that sum in different orders.
    np.testing.assert_allclose(
        scores_of(tmp_path / "fine.onnx", images), wanted, atol=1e-5 * np.abs(np.asarray(wanted)).max()
    )


@pytest.mark.slow
def test_sizes_for_which_paths_disagree_are_refused_by_the_graph(tmp_path):
    """An identity that takes every second value beside a convolution that leaves one over."""
    block = Branches(((Conv(2, 4, 2, rounding="floor"),), (Crop(1, stride=2, rounding="floor"), Conv(2, 1))))
    run = run_of(nets.net([block, Flatten(), Dense(2)]), (8, 8, 1))
    exchange.save(tmp_path / "any.onnx", run, dense=True)
    assert scores_of(tmp_path / "any.onnx", np.ones((1, 10, 8, 1), np.float32)).shape == (1, 2, 1, 2)
    with pytest.raises(Exception, match=r"block1 \(branches\): its paths give different sizes"):
        scores_of(tmp_path / "any.onnx", np.ones((1, 9, 8, 1), np.float32))


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options", "size"),
    [("resnet18", {"width": 4}, 64), ("preact_resnet", {"depth": 8, "width": 4, "padding": "valid"}, 45)],
)
def test_registered_nets_are_written_and_read_again(tmp_path, name, options, size):
    """Both ways are compared with onnxruntime, the unpadded net also for images of other sizes."""
    net = nets.create(name, num_classes=4, **options)
    run = run_of(net, (size, size, 3))
    assert exchange.save(tmp_path / "net.onnx", run).difference < 1e-5
    again = exchange.load(tmp_path / "net.onnx")
    assert str(again.net) == str(run.net)
    if options.get("padding") == "valid":
        assert exchange.save(tmp_path / "any.onnx", run, dense=True).difference < 1e-5
