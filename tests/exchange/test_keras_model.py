"""Nets of Keras, read without it."""

import importlib.util
import json
import pathlib
import re

import h5py
import jax
import numpy as np
import pytest

from cnn import data, dense
from cnn.exchange import preprocessing
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.keras import model as keras_model
from cnn.nets import outputs
from tests.exchange import known_results
from tests.helpers import PROGRAMS, run_python
from tests.reference import layers as reference

CHESS_CLASSES = "bB1kKnNpPqQrR"  # of that package, in its order; 1 is an empty square
FORMS = ("{0}.keras", "{0}.h5", "{0}.weights.h5")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> pathlib.Path:
    """Nets that Keras wrote, with its own outputs."""
    if not importlib.util.find_spec("keras"):
        pytest.skip("Keras writes the nets that are read: requirements-peers.txt")
    folder = tmp_path_factory.mktemp("keras")
    done = run_python(PROGRAMS / "keras_nets.py", folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def probabilities(classifier, images):
    scores = classifier.net.apply(
        classifier.variables, data.normalise(images, classifier.mean, classifier.std), train=False
    )
    return np.asarray(outputs.probabilities(scores, classifier.net.output_activation))


def layer(kind, name, **fields):
    return {"class_name": kind, "config": {"name": name, **fields}}


def small_config(**conv):
    """Conv, pool, Flatten and Dense, as Keras 2 describes them."""
    return {
        "class_name": "Sequential",
        "config": [
            layer(
                "Conv2D",
                "c",
                batch_input_shape=[None, 6, 7, 2],
                filters=3,
                kernel_size=[3, 2],
                activation="relu",
                **conv,
            ),
            layer("MaxPooling2D", "p", pool_size=[2, 2]),
            layer("Flatten", "f"),
            layer("Dense", "d", units=4, activation="softmax"),
        ],
    }


def write_legacy(path, config, weights):
    """A legacy .h5 as Keras 2 writes it, of arrays by layer and name."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = np.bytes_("2.3.1")
        file.attrs["model_config"] = np.bytes_(json.dumps(config))
        for name, arrays in weights.items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = [np.bytes_(f"{name}/{part}:0") for part in arrays]
            for part, array in arrays.items():
                group[f"{name}/{part}:0"] = array


def small_weights(rng):
    return {
        "c": {"kernel": rng.normal(size=(3, 2, 2, 3)), "bias": rng.normal(size=3)},
        "d": {"kernel": rng.normal(size=(18, 4)), "bias": rng.normal(size=4)},
    }


def test_a_legacy_file_by_value_and_its_weights_that_do_not_fit(tmp_path):
    """Against float64 sums; missing, extra and misshapen arrays are listed in one line."""
    rng = np.random.default_rng(0)
    weights = {name: {k: v.astype(np.float32) for k, v in one.items()} for name, one in small_weights(rng).items()}
    write_legacy(tmp_path / "net.h5", small_config(), weights)
    read = keras_model.read(tmp_path / "net.h5")
    assert read.image_shape == (6, 7, 2) and read.channel_order == "" and read.std == (1 / 255,) * 2
    images = rng.integers(0, 256, (2, 6, 7, 2), dtype=np.uint8)
    c, d = weights["c"], weights["d"]
    x = reference.convolution(images.astype(np.float64), c["kernel"].astype(np.float64), c["bias"].astype(np.float64))
    x = reference.pool(np.maximum(x, 0), np.max, (2, 2), (2, 2))
    logits = x.reshape(2, -1) @ d["kernel"] + d["bias"]
    scores = jax.jit(lambda x: read.net.apply(read.variables, data.normalise(x, read.mean, read.std), train=False))(
        images
    )
    np.testing.assert_allclose(scores, logits, rtol=1e-5, atol=1e-5 * np.abs(logits).max())
    wrong = {
        "c": {"kernel": weights["c"]["kernel"][:2], "bias": weights["c"]["bias"]},
        "d": {"kernel": weights["d"]["kernel"]},
        "e": {"kernel": np.zeros((2, 2), np.float32)},
    }
    write_legacy(tmp_path / "wrong.h5", small_config(), wrong)
    with pytest.raises(ExchangeError) as caught:
        keras_model.read(tmp_path / "wrong.h5")
    for part in ("c: its kernel is 2x2x2x3, where 3x2x?x3", "d: its bias (4) is missing", "has not: e"):
        assert part in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data_format": "channels_first"}, "channels_last"),
        ({"padding": "causal"}, "valid or same"),
        ({"filters": -3}, "filters (=-3)"),
        ({"kernel_size": [3, 2, 1]}, "kernel_size"),
        ({"strides": "two"}, "strides"),
        ({"activation": "exponential"}, "exponential"),
        ({"dilation_rate": 10**9}, "dilation"),
        ({"groups": 7}, "groups"),
        ({"batch_input_shape": [None, 10**9, 7, 2]}, "1 to 4096 pixels"),
        ({"batch_input_shape": [None, None, None, 2]}, "image_size"),
        ({"batch_input_shape": [None, 2, 2, 2]}, "larger than its input"),
    ],
)
def test_descriptions_that_cannot_be_taken(tmp_path, change, says):
    config = small_config()
    config["config"][0]["config"].update(change)
    write_legacy(tmp_path / "net.h5", config, small_weights(np.random.default_rng(0)))
    with pytest.raises(ExchangeError) as caught:
        keras_model.read(tmp_path / "net.h5")
    assert says in str(caught.value), caught.value
    assert "\n" not in str(caught.value) and "net.h5" in str(caught.value)


def test_what_is_given_counts_before_what_is_assumed(tmp_path):
    write_legacy(tmp_path / "net.h5", small_config(), small_weights(np.random.default_rng(0)))
    known = preprocessing.of("caller", mean=0.5, std=0.25, class_names=["a", "b", "c", "d"])
    read = keras_model.read(tmp_path / "net.h5", given=known)
    assert (read.mean, read.std, read.class_names) == ((0.5, 0.5), (0.25, 0.25), ("a", "b", "c", "d"))
    with pytest.raises(ExchangeError, match="4 classes, and 3 names"):
        keras_model.read(tmp_path / "net.h5", given=preprocessing.of("caller", class_names=["a", "b", "c"]))


@pytest.mark.long
def test_nets_that_keras_wrote(written):
    """Three nets in three forms each equal Keras's own outputs."""
    for name in ("sequential", "functional", "convolutional"):
        known = np.load(written / f"{name}.npz")
        for form in FORMS:
            structure = written / f"{name}.json" if form.endswith(".weights.h5") else None
            read = keras_model.read(written / form.format(name), structure)
            found = probabilities(read, known["images"])
            np.testing.assert_allclose(found, known["outputs"], atol=1e-6, err_msg=form.format(name))
    assert keras_model.read(written / "functional.h5").net.output_activation == "sigmoid"


@pytest.mark.slow
def test_models_of_keras_that_cannot_be_taken(written):
    for name, says in (
        ("branch", "add (Add): takes"),
        ("heads", "has 2 outputs"),
        ("lambda", "lambda (Lambda): there is no such layer here and is never run"),
        ("layer_norm", "LayerNormalization"),
        ("prelu", "shared_axes"),
    ):
        with pytest.raises(ExchangeError) as caught:
            keras_model.read(written / f"{name}.keras")
        assert says in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ExchangeError, match="architecture"):
        keras_model.read(written / "sequential.weights.h5")


def fold(row):
    """Neighbouring empty squares as their number, as FEN writes them."""
    return re.sub("1+", lambda found: str(len(found[0])), row)


@pytest.mark.slow
def test_the_chess_board_is_read_in_one_dense_pass(tfds_data_dir):
    """64 squares of 50x50 pixels; FEN: a letter for each piece, a number for as many empty squares."""
    folder = known_results.pretrained(tfds_data_dir, "chess_board")
    read = keras_model.read(folder / "november_model.h5")
    board = data.load_images([str(folder / "test_image.jpeg")], (400, 400), 3)
    larger = data.normalise(board, read.mean, read.std)
    found = dense.score_map(read.net, read.variables, larger, window=(50, 50), stride=50)
    squares = np.asarray(found.scores[0].argmax(-1))
    rows = ["".join(CHESS_CLASSES[square] for square in row) for row in squares]
    assert "/".join(map(fold, rows)) == "1b1B1Qr1/7p/6r1/2P5/4Rk2/1K6/4B3/8"
    known_results.check_maps(read, data.load_images([str(folder / "test_image.jpeg")] * 2, (400, 400), 3), 14)


@pytest.mark.slow
def test_the_chess_board_is_read_from_the_command_line(tfds_data_dir, tmp_path):
    """The map that `dense_eval --weights` writes holds the same position; no workdir is needed."""
    folder = known_results.pretrained(tfds_data_dir, "chess_board")
    (tmp_path / "names.txt").write_text("\n".join(CHESS_CLASSES))
    weights = (f"--weights={folder / 'november_model.h5'}", f"--labels={tmp_path / 'names.txt'}")
    image = (f"--image={folder / 'test_image.jpeg'}", "--stride=50", f"--output={tmp_path / 'map.npy'}")
    done = run_python("-m", "experiments.dense_eval", *weights, *image)
    assert done.returncode == 0, done.stderr
    squares = np.load(tmp_path / "map.npy").argmax(-1)
    rows = ["".join(CHESS_CLASSES[square] for square in row) for row in squares]
    assert "/".join(map(fold, rows)) == "1b1B1Qr1/7p/6r1/2P5/4Rk2/1K6/4B3/8"


@pytest.mark.long
def test_the_cifar_net_has_its_known_result(tfds_data_dir):
    """7,657 of the 10,000 test images of CIFAR-10 (JPEG); a dense map equals the scores of its crops."""
    read = keras_model.read(known_results.pretrained(tfds_data_dir, "cifar10_keras") / "cnn_model.h5")
    images, labels = known_results.test_split(tfds_data_dir, "cifar10")
    assert known_results.right(read, images, labels) == 7657
    known_results.check_maps(read, images, 4)
