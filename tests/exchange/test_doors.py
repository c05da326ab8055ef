"""`exchange.load` and `exchange.save`: any file in, any file out, and the same scores on both sides."""

import dataclasses
import json

import numpy as np
import pytest

from cnn import exchange, nets
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.layers import Activation, BatchNorm, Conv, Dense, Dropout, Flatten, MaxPool
from tests.made import draw, random_variables

onnx = pytest.importorskip("onnx", reason="files of ONNX need onnx: python -m pip install -r requirements-exchange.txt")


@pytest.fixture(scope="module", name="classifier")
def _classifier():
    net = nets.net(
        [Conv(4, 3), BatchNorm(), Activation(), MaxPool(2), Flatten("chw"), Dense(5), Activation("tanh")],
        [Dropout(0.5), Dense(3)],
    )
    variables = random_variables(net, (10, 8), 3)
    return Classifier(net, variables, (10, 8, 3), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), ("cat", "dog", "owl, barn"))


def scores(run, pixels):
    images = (pixels / np.float32(255) - np.float32(run.mean)) / np.float32(run.std)
    return np.asarray(run.net.apply(run.variables, images, train=False))


def pixels_of(channels=3):
    return np.random.default_rng(3).integers(0, 256, (4, 10, 8, channels)).astype(np.float32)


def test_a_net_goes_out_and_comes_back(classifier, tmp_path):
    """To the bit: the graph holds the same numbers, in the same layers."""
    exchange.save(tmp_path / "net.onnx", classifier)
    run = exchange.load(tmp_path / "net.onnx")
    assert (run.class_names, run.image_shape) == (classifier.class_names, classifier.image_shape)
    assert (run.mean, run.std, run.channel_order) == (classifier.mean, classifier.std, "rgb")
    np.testing.assert_array_equal(scores(run, pixels_of()), scores(classifier, pixels_of()))


def test_weights_written_here_say_whose_they_are(classifier, tmp_path):
    """Safetensors of PyTorch's layout come back to the bit, without the net being named."""
    exchange.save(tmp_path / "net.safetensors", classifier)
    run = exchange.load(tmp_path / "net.safetensors")
    assert run.net == classifier.net and run.class_names == classifier.class_names
    np.testing.assert_array_equal(scores(run, pixels_of()), scores(classifier, pixels_of()))


@pytest.mark.slow
def test_what_the_caller_knows_counts(classifier, tmp_path):
    """Blue, green, red become red, green, blue; constants of the caller come before those of the file."""
    exchange.save(tmp_path / "net.onnx", classifier)
    pixels = pixels_of()
    known = {"channels": "bgr", "class_names": ["a", "b", "c"], "output_activation": "sigmoid"}
    run = exchange.load(tmp_path / "net.onnx", **known)
    assert run.class_names == ("a", "b", "c") and run.net.output_activation == "sigmoid"
    expected = scores(classifier, pixels)
    # Sums of another order: float32 rounding of at most 27 products.
    np.testing.assert_allclose(scores(run, pixels[..., ::-1]), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    for suffix in ("onnx", "safetensors"):
        exchange.save(tmp_path / f"net.{suffix}", classifier)
        run = exchange.load(tmp_path / f"net.{suffix}", mean=0.1, std=[0.5, 0.5, 0.25])
        assert (run.mean, run.std) == ((0.1, 0.1, 0.1), (0.5, 0.5, 0.25))


def test_a_sigmoid_comes_back(classifier, tmp_path):
    made = dataclasses.replace(classifier, net=classifier.net.clone(output_activation="sigmoid"))
    for name in ("net.onnx", "net.safetensors"):
        exchange.save(tmp_path / name, made)
        assert exchange.load(tmp_path / name).net.output_activation == "sigmoid"


def test_weights_that_are_no_numbers_are_refused(classifier, tmp_path):
    """Two programs that give NaN agree on nothing."""
    exchange.save(tmp_path / "net.onnx", classifier)
    model = onnx.load(tmp_path / "net.onnx")
    tensor = next(one for one in model.graph.initializer if len(one.dims) == 4)
    tensor.raw_data = np.full(list(tensor.dims), np.nan, np.float32).tobytes()
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ExchangeError, match="conv1.kernel holds values that are infinite or no numbers"):
        exchange.load(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net.pt", {}, "files that are written end with .onnx, .stablehlo, .safetensors"),
        ("net.onnx", {"stride": 2}, r"a stride \(=2\) is that of a dense form; add dense=True"),
        ("net.safetensors", {"dense": True}, "safetensors hold weights, not a form of the net"),
    ],
)
def test_what_cannot_be_written(classifier, tmp_path, name, options, message):
    with pytest.raises(ExchangeError, match=message):
        exchange.save(tmp_path / name, classifier, **options)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ExchangeError, match="takes a run, as load or checkpoint.load_run gives it; a Net has no net"):
        exchange.save(tmp_path / "net.onnx", classifier.net)


def test_what_cannot_be_read(classifier, tmp_path):
    (tmp_path / "net.json").write_text(json.dumps({"class_name": "Sequential", "config": {}}))
    exchange.save(tmp_path / "net.onnx", classifier)
    exchange.save(tmp_path / "dense.onnx", classifier, dense=True)
    for name, options, message in (
        ("nothing.onnx", {}, "there is no such file"),
        ("net.json", {}, "a description without weights; name the file of the weights"),
        ("net.onnx", {"net": "vgg16"}, "net is for other files than one of the kind 'onnx'"),
        ("net.onnx", {"class_names": ["one"]}, "3 classes, and 1 names"),
        ("net.onnx", {"std": [0.1, 0.2]}, "std has 2 numbers, and images have 3 channels"),
        ("net.onnx", {"mean": 120, "std": 60}, r"mean \(=120\) must be between 0 and 1.*divide pixel values by 255"),
        ("dense.onnx", {}, "is the dense form of a net, written for other runtimes; read the plain form"),
        ("net.onnx", {"channels": "grey"}, "channels 'grey' needs 1 of them, the net takes 3"),
    ):
        with pytest.raises(ExchangeError, match=message):
            exchange.load(tmp_path / name, **options)


def test_scores_of_random_images_are_not_all_alike(classifier):
    """What the tests above compare differs from image to image and from class to class."""
    found = scores(classifier, pixels_of())
    assert found.std(axis=0).min() > 0.01 and draw(0, (2,)).std() > 0
