"""Weights of nets that branch: under torchvision's and timm's names, and under the layers' own."""

import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cnn import exchange, nets
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.layers import Activation, AvgPool, BatchNorm, Branches, Conv, Crop, Dense, Flatten, MaxPool, StochasticDepth


def random_variables(net, image_shape, seed=0):
    """Variables of which no two are alike, and positive where they are variances."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), np.zeros((1, *image_shape), np.float32), train=False))
    return jax.tree.map(lambda x: (rng.uniform(-0.5, 1.0, x.shape) ** 2 + 0.01).astype(np.float32), shapes)


def small_run(net, shape, classes, seed=0):
    names = tuple(f"name {index}" for index in range(classes))
    return Classifier(net, random_variables(net, shape, seed), shape, (0.4,) * 3, (0.3,) * 3, names)


def scores(run, images):
    return np.asarray(jax.jit(lambda v, x: run.net.apply(v, x, train=False))(run.variables, images))


def leaves_equal(a, b):
    """Whether two trees are the same to the bit."""
    a, b = jax.tree.map(np.asarray, dict(a)), jax.tree.map(np.asarray, dict(b))
    same = (np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    return jax.tree.structure(a) == jax.tree.structure(b) and all(same)


def nested():
    """Blocks of all joins, one within another, with strides, crops and stochastic depth."""
    inner = Branches(((Conv(4, 3, padding=1, use_bias=False), BatchNorm()), ()), "max")
    path = (Conv(4, 3, 2, rounding="floor"), inner, StochasticDepth(0.2))
    crop = (Crop(1, stride=2, rounding="floor"), Conv(4, 1))
    mean = Branches(((Activation("tanh"),), ()), "mean")
    side = Branches(((MaxPool(3, 1, padding=1),), (Conv(2, 3, padding=((0, 2), (1, 1))),)), "concat")
    return nets.net([Conv(4, 3), Branches((path, crop)), mean, side, AvgPool(None), Flatten(), Dense(3)])


def torchvision_names(tensors):
    """The tensors of a resnet18 of this project, written under its layers' names, as torchvision calls them."""
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    inner = {"conv1": "conv1", "bn1": "bn1", "conv2": "conv2", "bn2": "bn2", "conv3": "downsample.0"}
    inner |= {"bn3": "downsample.1"}
    renamed = {}
    for name, value in tensors.items():
        module, _, part = name.rpartition(".")
        if module.startswith("block"):
            block, _, layer = module.partition(".")
            module = f"{blocks[int(block[5:]) - 1]}.{inner[layer]}"
        renamed[f"{'fc' if module == 'fc1' else module}.{part}"] = value
    return renamed


def test_a_net_that_branches_round_trips_to_the_bit(tmp_path):
    """Under the layers' own names, with all that its metadata say."""
    run = small_run(nested(), (12, 13, 3), 3)
    text = exchange.save(tmp_path / "net.safetensors", run)
    assert "class Branches" in text and "block1.block1.conv1.weight" in load_file(tmp_path / "net.safetensors")
    again = exchange.load(tmp_path / "net.safetensors")
    assert again.net == run.net and leaves_equal(again.variables, run.variables)
    assert again.class_names == run.class_names and again.image_shape == run.image_shape


def test_torchvision_names_fall_on_their_layers(tmp_path):
    """A narrow resnet18: each tensor is where torchvision's name says; what does not fit is named."""
    net = nets.create("resnet18", num_classes=5, width=4)
    run = small_run(net, (64, 64, 3), 5)
    path = tmp_path / "net.safetensors"
    exchange.save(path, run)
    tensors = torchvision_names(load_file(path))
    assert {"layer2.0.downsample.0.weight", "layer4.1.bn2.running_var", "fc.bias"} <= set(tensors)
    for prefix in ("", "module."):
        save_file({f"{prefix}{name}": value for name, value in tensors.items()}, path)
        read = exchange.load(path, net=net, mean=0.5, std=0.25)
        assert leaves_equal(read.variables, run.variables) and read.image_shape == (224, 224, 3)
        assert any("names of torchvision and timm" in note for note in read.notes)

    def refused(changed, *says):
        save_file(changed, path)
        with pytest.raises(ExchangeError) as caught:
            exchange.load(path, net=net)
        assert all(one in str(caught.value) for one in says) and "\n" not in str(caught.value), caught.value

    weight = "layer3.0.downsample.0.weight"
    refused(
        {name: v for name, v in tensors.items() if name != weight}, "missing: layer3.0.downsample.0", "block5/conv3"
    )
    refused({**tensors, "layer3.0.se.weight": np.ones((3, 3), np.float32)}, "extra: layer3.0.se")
    refused({**tensors, weight: np.ones((16, 9, 1, 1), np.float32)}, weight, "16x9x1x1", "block5/conv3 needs 16x8x1x1")
    gone = {name: v for name, v in tensors.items() if name != "layer1.1.bn2.running_mean"}
    refused(gone, "missing: layer1.1.bn2.running_mean", "block2/bn2")
    refused({f"a.{k}.weight": np.ones((2, 2), np.float32) for k in range(40)}, "none that are known", "block1.conv1")


def test_a_file_tells_which_registered_net_it_is_for(tmp_path):
    """Names of one net given to another; the version of SqueezeNet is that of the file."""
    path = tmp_path / "net.safetensors"
    squeezenet = nets.create("squeezenet", num_classes=3, version="1.0")
    exchange.save(path, small_run(squeezenet, (64, 64, 3), 3))
    tensors = load_file(path)
    assert tensors["features.12.expand3x3.weight"].shape == (256, 64, 3, 3)
    assert tensors["classifier.1.bias"].shape == (3,)
    save_file(tensors, path)  # without metadata
    read = exchange.load(path, net="squeezenet", mean=0.5, std=0.25)
    assert read.net == squeezenet and any("version 1.0" in note for note in read.notes)
    with pytest.raises(ExchangeError, match="could be the tensors of squeezenet"):
        exchange.load(path, net="resnet18")


@pytest.mark.slow
def test_the_lines_compute_the_same_in_torch(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch loads what is written: requirements-peers.txt")
    monkeypatch.chdir(tmp_path)
    cropped = nets.create("preact_resnet", num_classes=4, depth=8, width=4, padding="valid", drop_path=0.1)
    for net, shape in ((nested(), (12, 13, 3)), (cropped, (45, 47, 3))):
        run = small_run(net, shape, 3 if net is not cropped else 4)
        scope: dict = {}
        exec(exchange.save("net.safetensors", run), scope)
        images = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
        with torch.no_grad():
            theirs = scope["net"](torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
        ours = scores(run, images)
        # float32 rounding of two programs that sum in different orders.
        np.testing.assert_allclose(theirs, ours, atol=1e-5 * np.abs(ours).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "googlenet", "squeezenet", "mobilenet_v2"])
def test_published_names_against_pytorch(tmp_path, name):
    """A state dict under torchvision's names gives the twin's logits, and is written again to the bit."""
    torch = pytest.importorskip("torch", reason="PyTorch is the judge: requirements-peers.txt")
    from tests.exchange import torch_branching as twins

    made = {
        "resnet18": lambda: twins.ResNet((2, 2, 2, 2)), "googlenet": twins.GoogLeNet,
        "squeezenet": twins.SqueezeNet, "mobilenet_v2": twins.MobileNet,
    }  # fmt: skip
    twin = twins.settled(made[name](), 1, 64)
    tensors = {key: value.contiguous().numpy() for key, value in twin.state_dict().items()}
    path = tmp_path / "twin.safetensors"
    save_file(tensors, path)
    read = exchange.load(path, net=name, image_size=64, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = twin(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    assert np.ptp(theirs, axis=0).max() > 0.01  # the images differ
    np.testing.assert_allclose(scores(read, images), theirs, atol=1e-4 * np.abs(theirs).max())
    assert ("auxiliary heads aux1 and aux2" in " ".join(read.notes)) == (name == "googlenet")
    text = exchange.save(path, read)
    assert re.search(rf"models\.{name}\w*\(num_classes=10", text)
    wanted = {key for key in tensors if not key.startswith(("aux1.", "aux2."))}
    again = load_file(path)
    floats = {key for key in wanted if not key.endswith("num_batches_tracked")}
    assert set(again) == wanted and all(np.array_equal(again[key], tensors[key]) for key in floats)
    if name == "mobilenet_v2":
        save_file({to: tensors[key] for key, to in timm_names(tensors).items()}, path)
        timm = exchange.load(path, net=name, mean=0.5, std=0.25)
        assert leaves_equal(timm.variables, read.variables) and any("names of timm" in note for note in timm.notes)


# Tensors of torchvision's nets and the places of the same numbers here, read off both by hand.
PLACES = {
    "resnet50": {
        "layer1.0.downsample.0.weight": "block1 conv4", "layer1.0.conv3.weight": "block1 conv3",
        "layer3.1.conv2.weight": "block9 conv2", "layer4.0.bn2.bias": "block14 bn2", "layer4.2.bn3.bias": "block16 bn3",
    },
    "densenet121": {
        "features.denseblock1.denselayer1.conv1.weight": "block1 conv1", "features.transition1.norm.bias": "bn2",
        "features.denseblock2.denselayer3.norm2.bias": "block9 bn2", "features.transition1.conv.weight": "conv2",
        "features.denseblock4.denselayer16.conv2.weight": "block58 conv2", "features.norm5.bias": "bn5",
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_places_of_tensors_of_the_larger_nets(tmp_path, name):
    """Without compiling them; all tensors are found again by their names."""
    run = small_run(nets.create(name, num_classes=3), (64, 64, 3), 3)
    exchange.save(tmp_path / "net.safetensors", run)
    tensors = load_file(tmp_path / "net.safetensors")
    for tensor, place in PLACES[name].items():
        found = run.variables["params"]
        for part in place.split():
            found = found[part]
        kernel = tensor.endswith("weight")
        wanted = found["kernel"].transpose(3, 2, 0, 1) if kernel else found["norm"]["bias"]
        np.testing.assert_array_equal(tensors[tensor], wanted, err_msg=tensor)
    assert leaves_equal(exchange.load(tmp_path / "net.safetensors", net=name).variables, run.variables)


def timm_names(tensors):
    """timm's names of the tensors of torchvision's MobileNet v2."""
    counts, places = (1, 2, 3, 4, 3, 3, 1), {}
    numbers = iter(range(1, 18))
    for stage, count in enumerate(counts):
        for block in range(count):
            here, parts = f"blocks.{stage}.{block}", ("0.0", "0.1", "1.0", "1.1", "2", "3")
            theirs = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
            if stage == 0:
                parts, theirs = ("0.0", "0.1", "1", "2"), ("conv_dw", "bn1", "conv_pw", "bn2")
            number = next(numbers)
            places |= {f"features.{number}.conv.{a}": f"{here}.{b}" for a, b in zip(parts, theirs, strict=True)}
    places |= {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.18.0": "conv_head"}
    places |= {"features.18.1": "bn2", "classifier.1": "classifier"}
    return {key: f"{places[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}" for key in tensors}


def test_blue_green_red_is_turned_round_in_all_paths(tmp_path):
    """In the first kernel of each; a path that gives the image itself on cannot be turned."""
    path = tmp_path / "net.safetensors"
    two = Branches(((Conv(3, 3, padding=1),), (BatchNorm(), Conv(3, 1))))
    for block in (two, Branches(((Conv(3, 3, padding=1),), ()))):
        run = small_run(nets.net([block, AvgPool(None), Flatten(), Dense(2)]), (6, 6, 3), 2)
        exchange.save(path, run)
        if block is not two:
            with pytest.raises(ExchangeError, match="block1.*own channels"):
                exchange.load(path, channels="bgr")
            continue
        given, found = (one.variables["params"]["block1"] for one in (run, exchange.load(path, channels="bgr")))
        for conv in ("conv1", "conv2"):
            np.testing.assert_array_equal(found[conv]["kernel"], given[conv]["kernel"][:, :, ::-1])
        np.testing.assert_array_equal(found["bn1"]["norm"]["scale"], given["bn1"]["norm"]["scale"][::-1])
