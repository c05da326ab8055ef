"""PyTorch's weights as safetensors: read onto registered nets, and written with the lines that load them."""

import json
import os
import struct

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cnn import geometry, nets
from cnn.exchange import preprocessing
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.exchange.torch_weights import state_dict
from cnn.layers import (
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    PReLU,
    Scale,
    SumPool,
)
from tests.exchange import known_results


def scores(classifier, images):
    return np.asarray(jax.jit(lambda x: classifier.net.apply(classifier.variables, x, train=False))(images))


def random_variables(net, image_shape, seed=0):
    """Variables of which no two are alike, and positive where they are variances."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), np.zeros((1, *image_shape), np.float32), train=False))
    return jax.tree.map(lambda x: (rng.uniform(-0.5, 1.0, x.shape) ** 2 + 0.01).astype(np.float32), shapes)


def small_run(*layers, shape=(9, 10, 3), classes=4):
    net = nets.net(list(layers))
    names = tuple(f"name {index}" for index in range(classes))
    return Classifier(net, random_variables(net, shape), shape, (0.4,) * shape[2], (0.3,) * shape[2], names)


def leaves_equal(a, b):
    """Whether two trees are the same to the bit."""
    a, b = jax.tree.map(np.asarray, dict(a)), jax.tree.map(np.asarray, dict(b))
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


EVERY_LAYER = (
    Conv(6, (3, 2), padding=((1, 0), (2, 1)), groups=3), BatchNorm(), Activation("leaky_relu", slope=0.2), Scale(),
    LRN(3), AvgPool(3, stride=2, padding=1, rounding="ceil", count_padding=True), PReLU(),
    Conv(4, 3, padding=1, padding_mode="edge", use_bias=False), Activation("gelu_exact"),
    MaxPool(2, stride=1, padding=((0, 1), (0, 0))), SumPool(2, stride=1), Activation("elu"), Flatten("hwc"),
    BatchNorm(), PReLU(), Dropout(), Dense(7), Scale(use_bias=False), Activation("silu"), Dense(4),
)  # fmt: skip


def test_a_round_trip_gives_the_same_bits(tmp_path):
    """Written and read again, with class names, mean and std; the file is whole or not there."""
    run = small_run(*EVERY_LAYER)
    text = state_dict.write(tmp_path / "net.safetensors", run)
    assert len(text.strip().splitlines()) == 6 and os.listdir(tmp_path) == ["net.safetensors"]
    again = state_dict.read(tmp_path / "net.safetensors", run.net)
    for name in ("image_shape", "class_names"):
        assert getattr(again, name) == getattr(run, name)
    np.testing.assert_allclose([again.mean, again.std], [run.mean, run.std])
    assert leaves_equal(again.variables, run.variables)


@pytest.mark.slow
def test_the_six_lines_compute_the_same_in_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch loads what is written: requirements-peers.txt")
    run = small_run(*EVERY_LAYER)
    others = [("lenet5", (32, 32, 1)), ("giusti_n4", (95, 95, 1)), ("qa_net", (32, 32, 3)), ("full_cnn", (30, 28, 1))]
    runs = [run]
    for name, shape in others:
        net = nets.create(name)
        names = tuple(map(str, range(geometry.table(net, shape)[-1].output_shape[-1])))
        zeros, ones = (0.0,) * shape[2], (1.0,) * shape[2]
        runs.append(Classifier(net, random_variables(net, shape), shape, zeros, ones, names))
    for index, one in enumerate(runs):
        text = state_dict.write(tmp_path / f"net{index}.safetensors", one)
        scope: dict = {}
        cwd = os.getcwd()
        os.chdir(tmp_path)
        try:
            exec(text, scope)
        finally:
            os.chdir(cwd)
        images = np.random.default_rng(1).normal(size=(2, *one.image_shape)).astype(np.float32)
        with torch.no_grad():
            theirs = scope["net"](torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
        ours = scores(one, images)
        np.testing.assert_allclose(theirs.reshape(ours.shape), ours, atol=2e-6 * np.abs(ours).max())


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ((Flatten(), Activation("scaled_tanh"), Dense(4)), "scaled_tanh"),
        ((Conv(3, 3, padding=1, padding_mode="mean"), Flatten(), Dense(4)), "mean"),
        ((AvgPool(3, padding=((0, 1), (0, 0)), rounding="floor"), Flatten(), Dense(4)), "unevenly"),
        ((Flatten("random"),), "flattened map"),
    ],
)
def test_layers_that_torch_has_not(tmp_path, layers, says):
    run = small_run(*layers)
    with pytest.raises(ExchangeError, match=says):
        state_dict.write(tmp_path / "net.safetensors", run)
    run = small_run(Conv(3, 3), Flatten(), Dense(4))
    run.variables["params"]["conv1"]["kernel"] = np.full_like(run.variables["params"]["conv1"]["kernel"], np.nan)
    with pytest.raises(ExchangeError, match="params.conv1.kernel holds .* no finite float32 numbers"):
        state_dict.write(tmp_path / "net.safetensors", run)
    assert not os.listdir(tmp_path)


def lenet_tensors(rng, **changes):
    """Tensors of `full_cnn` on 28x28x1 under torchvision-like names."""
    shapes = {
        "features.0.weight": (32, 1, 3, 3), "features.0.bias": (32,), "features.10.weight": (64, 32, 3, 3),
        "features.10.bias": (64,), "classifier.0.weight": (128, 3136), "classifier.0.bias": (128,),
        "classifier.2.weight": (10, 128), "classifier.2.bias": (10,),
    }  # fmt: skip
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in {**shapes, **changes}.items() if shape}


def test_tensors_that_do_not_fit_are_all_listed(tmp_path):
    """Missing, extra, misshapen, truncated; of another net, and in another dtype."""
    rng, path = np.random.default_rng(0), tmp_path / "x.safetensors"

    def refused(tensors, net="full_cnn", *says):
        save_file(tensors, path)
        with pytest.raises(ExchangeError) as caught:
            state_dict.read(path, net)
        assert all(one in str(caught.value) for one in says) and "\n" not in str(caught.value), caught.value

    wrong = lenet_tensors(rng, **{"features.0.bias": (31,), "features.10.bias": None, "classifier.2.gain": (3,)})
    refused(wrong, "full_cnn", "classifier.2.gain")
    wrong.pop("classifier.2.gain")
    refused(wrong, "full_cnn", "misshapen: features.0.bias is 31", "missing: features.10.bias (64, of conv2)")
    extra = lenet_tensors(rng, **{"classifier.4.weight": (10, 10), "classifier.0.weight": (128, 3000)})
    refused(extra, "full_cnn", "extra: classifier.4")
    refused(lenet_tensors(rng), "lenet5", "misshapen: features.0.weight is 32x1x3x3, conv1 needs 6x...x5x5", "full_cnn")
    refused(lenet_tensors(rng, **{"classifier.0.weight": (128, 3137)}), "full_cnn", "128x3137", "give image_size")
    refused({"features.0.weight": np.zeros((32, 1, 3, 3), np.int8)}, "full_cnn", "features.0.weight (I8)", "floating")
    refused({"features.0.weight": np.full((32, 1, 3, 3), np.nan, np.float32)}, "full_cnn", "no numbers")
    refused(lenet_tensors(rng), "full_cmm", "full_cnn")
    save_file(lenet_tensors(rng), path)
    path.write_bytes(path.read_bytes()[:-6000])
    with pytest.raises(ExchangeError, match="truncated; the tensors .*features.10.weight"):
        state_dict.read(path, "full_cnn")
    header = json.dumps({"a.weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ExchangeError, match="truncated; the tensors a.weight"):
        state_dict.read(path, "full_cnn")


def test_halves_names_and_preprocessing(tmp_path):
    """float16 and names of layers; Hugging Face's and timm's configs, of which an earlier one counts."""
    rng, path = np.random.default_rng(0), tmp_path / "x.safetensors"
    tensors = lenet_tensors(rng)
    plain = state_dict_of(tensors, path)
    halves = {name: value.astype(np.float16) for name, value in tensors.items()}
    renamed = {
        name.replace("features.0", "conv1").replace("features.10", "conv2").replace("classifier.0", "fc1")
        .replace("classifier.2", "fc2"): value for name, value in tensors.items()
    }  # fmt: skip
    assert leaves_equal(state_dict_of(renamed, path).variables, plain.variables)
    rounded = state_dict_of(halves, path).variables["params"]["fc1"]["kernel"]
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded, plain.variables["params"]["fc1"]["kernel"].astype(np.float16))
    assert plain.mean == (0.0,) and "ToTensor" in plain.notes[0] and plain.image_shape == (28, 28, 1)
    config, processor = tmp_path / "config.json", tmp_path / "preprocessor_config.json"
    config.write_text(json.dumps({"id2label": {str(index): f"digit {index}" for index in range(10)}}))
    processor.write_text(json.dumps({"do_rescale": False, "image_mean": [25.5], "image_std": [51.0],
                                     "size": {"height": 28, "width": 28}, "resample": 3}))  # fmt: skip
    save_file(tensors, path)
    read = state_dict.read(path, "full_cnn", preprocess=(config, processor))
    assert read.class_names[3] == "digit 3" and read.image_shape == (28, 28, 1)
    np.testing.assert_allclose([read.mean, read.std], [[0.1], [0.2]])
    assert any("bicubic" in note for note in read.notes)
    config.write_text(json.dumps({"architecture": "x", "pretrained_cfg": {
        "input_size": [1, 28, 28], "mean": [0.1307], "std": [0.3081], "interpolation": "bilinear", "crop_pct": 0.875,
        "label_names": [f"n{index}" for index in range(10)]}}))  # fmt: skip
    read = state_dict.read(path, "full_cnn", preprocess=config)
    assert read.mean == (0.1307,) and read.class_names[0] == "n0" and "87.5%" in " ".join(read.notes)
    for bad, says in (({"input_size": [3]}, "input_size"), ({"image_mean": "a"}, "image_mean"), ([1], "object"),
                      ({"id2label": {"1": "a"}}, "id2label"), ({"image_std": [0.0]}, "std"),
                      ({"image_processor_type": "x", "size": 10**9}, "4096")):  # fmt: skip
        config.write_text(json.dumps(bad))
        with pytest.raises(ExchangeError, match=says):
            state_dict.read(path, "full_cnn", preprocess=config)


def state_dict_of(tensors, path):
    save_file(tensors, path)
    return state_dict.read(path, "full_cnn")


@pytest.mark.slow
def test_full_cnn_has_its_known_result(tfds_data_dir):
    """9,905 of the 10,000 MNIST test images; with the other order of the flattened values 1,064."""
    path = known_results.pretrained(tfds_data_dir, "full_cnn_mnist") / "model.safetensors"
    read = state_dict.read(path, "full_cnn", given=preprocessing.of("test", mean=0.1307, std=0.3081))
    images, labels = known_results.test_split(tfds_data_dir, "mnist")
    assert known_results.right(read, images, labels) == 9905
    known_results.check_maps(read, images, 4)


@pytest.mark.long
def test_published_nets_against_their_twins(tmp_path):
    """AlexNet of both kinds and VGG under torchvision's and timm's names, with random weights: within 1e-4."""
    torch = pytest.importorskip("torch", reason="PyTorch is the judge: requirements-peers.txt")
    from safetensors.torch import save_file as save_torch

    from tests.exchange import torch_twins as twins

    vgg16 = (2, 2, 3, 3, 3)
    cases = [
        ("alexnet", nets.create("alexnet", num_classes=7), twins.alexnet(7), 227),
        ("alexnet_owt", "alexnet_owt", twins.alexnet_owt(7), 224),
        ("vgg16", nets.create("vgg16", 5, width=64), twins.vgg(vgg16, 64, 2, 5), 64),
        ("vgg16 of timm", nets.create("vgg16", 5, width=64), twins.TimmVgg(twins.vgg_features(vgg16), 64, 2, 5), 64),
        (
            "vgg11 with norms",
            nets.create("vgg11", 5, width=64, norm=True),
            twins.vgg((1, 1, 2, 2, 2), 64, 2, 5, True),
            64,
        ),
    ]
    for name, net, twin, side in cases:
        path = tmp_path / "twin.safetensors"
        save_torch(twins.lively(twin, 1).state_dict(), path)
        read = state_dict.read(path, net)
        images = np.random.default_rng(0).normal(size=(1, side, side, 3)).astype(np.float32)
        with torch.no_grad():
            theirs = twin(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
        assert read.image_shape == (side, side, 3), name
        np.testing.assert_allclose(scores(read, images), theirs, atol=1e-4 * np.abs(theirs).max(), err_msg=name)
    with pytest.raises(ExchangeError, match="misshapen: features.0.weight.*could be the tensors of alexnet_owt"):
        save_torch(twins.alexnet_owt(7).state_dict(), path)
        state_dict.read(path, "alexnet")
    assert load_file(path)["features.0.weight"].shape == (64, 3, 11, 11)
