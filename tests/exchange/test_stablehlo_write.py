"""StableHLO programs that are written: read back by JAX alone, and by `stablehlo_write.read`."""

import json
import zipfile

import jax
import numpy as np
import pytest
from jax import export

from cnn import convert, dense, nets
from cnn.exchange import dense_form, stablehlo_write
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.layers import Activation, AvgPool, BatchNorm, Branches, Conv, Crop, Dense, Flatten, MaxPool
from tests.exchange.random_classifiers import classifier, random_case
from tests.made import draw, random_variables
from tests.reference import dense as reference
from tests.registered import WINDOWS

pytest.importorskip("flatbuffers", reason="writes StableHLO: python -m pip install -r requirements-exchange.txt")

NET = [Conv(4, 3), Activation("relu"), MaxPool(2), Conv(3, 2), MaxPool(2), Flatten("chw"), Dense(3)]


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def in_numpy(run, images, stride):
    conv_net, variables = convert.fc_to_conv(run.net, run.variables, run.image_shape)
    variables = jax.tree.map(np.asarray, variables)
    size = dense.plan_grid(run.net, images.shape[1:], run.image_shape[:2], stride).size
    return np.stack([reference.score_map(conv_net, variables, one, stride, size) for one in images])


@pytest.mark.slow
def test_dense_program(tmp_path):
    """One file for four platforms and all sizes that fit, with the weights inside; others it refuses itself."""
    path = tmp_path / "net.stablehlo"
    run = classifier(NET, shape=(12, 12, 2))
    made = stablehlo_write.write(path, run, dense=True)
    assert made.difference <= 1e-5 and made.runtime == f"jax {jax.__version__}" and len(made.sizes) == 2
    exported = export.deserialize(bytearray(path.read_bytes()))  # as anyone does who has JAX alone
    assert exported.platforms == stablehlo_write.PLATFORMS
    assert exported.in_avals[0].str_short() == "float32[n,4*h,4*w,2]"
    images = draw(2, (2, 20, 24, 2))
    assert_close(np.asarray(exported.call(images)), in_numpy(run, images, (4, 4)))
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("metadata.json")) == made.metadata
    program = stablehlo_write.read(path)
    assert program.metadata["cnn.window"] == [12, 12] and program.metadata["cnn.stride"] == [4, 4]
    takes = r"takes float32\[n,4\*h,4\*w,2\], images of at least 12x12 pixels, and 4x4 pixels more at a time, not "
    for shape, reason in (((1, 21, 24, 2), "Division had remainder 1"), ((1, 8, 12, 2), ""), ((1, 12, 12, 3), "")):
        with pytest.raises(ExchangeError, match=takes + r"float32\[[\d,]*\]: .*" + reason):
            program(draw(0, shape))
    with pytest.raises(ExchangeError, match="not int32"):
        program(np.ones((1, 12, 12, 2), np.int32))


@pytest.mark.slow
def test_program_at_a_finer_stride(tmp_path):
    """Of a net with padding, whose sizes are free."""
    path = tmp_path / "net.stablehlo"
    run = classifier(
        [Conv(2, 3, padding=1), MaxPool(2), AvgPool(3, 1, padding=1), Flatten(), Dense(3)], shape=(6, 6, 1)
    )
    made = stablehlo_write.write(path, run, dense=True, stride=1, platforms=("cpu", "tpu"))
    assert made.difference <= 1e-5 and made.metadata["cnn.context"] == "image"
    images = draw(2, (1, 9, 7, 1))
    assert_close(np.asarray(stablehlo_write.read(path)(images)), in_numpy(run, images, (1, 1)))


@pytest.mark.long
@pytest.mark.parametrize("padding", [0, 1])
def test_nets_that_branch(tmp_path, padding):
    """The layers of all paths are dilated, and a stride within a path says which sizes fit."""
    short = (*(() if padding else (Crop(1),)), Conv(3, 1, stride=2, rounding="floor"))
    main = (Conv(3, 3, stride=2, padding=padding, rounding="exact" if not padding else "floor"), BatchNorm())
    net = nets.net(Conv(4, 3), Branches((main, short)), Activation(), Flatten(), Dense(3))
    run = Classifier(net, random_variables(net, (9, 9), 2), (9, 9, 2), (0.5, 0.5), (1.0, 1.0), ("a", "b", "c"))
    form = dense_form.of(run, True, None, "net.stablehlo")
    assert (form.steps, form.regular) == ((1, 1) if padding else (2, 2), True)
    for stride in (None, 1, (2, 3)):
        written = stablehlo_write.write(tmp_path / "net.stablehlo", run, dense=True, stride=stride)
        assert written.difference <= 1e-5 and len(written.sizes) == 2


@pytest.mark.slow
def test_program_for_one_size(tmp_path):
    path = tmp_path / "net.stablehlo"
    run = classifier(NET, shape=(12, 12, 2))
    made = stablehlo_write.write(path, run, platforms=("cpu",))
    program = stablehlo_write.read(path)
    assert made.difference <= 1e-5 and program.exported.in_avals[0].str_short() == "float32[n,12,12,2]"
    with pytest.raises(ExchangeError, match="takes .* images of 12x12 pixels, not float32"):
        program(draw(0, (1, 16, 12, 2)))


def test_what_is_refused(tmp_path):
    path = tmp_path / "net.stablehlo"
    run = classifier(NET, shape=(12, 12, 2))
    for options, message in (
        (dict(platforms=("cpu", "metal")), r"platforms .* must be some of cpu, cuda, rocm, tpu"),
        (dict(platforms=()), "must be some of"),
        (dict(platforms=("cpu", "cpu")), "must be some of"),
        (dict(stride=2), "stride .=2. is for the dense form"),
        (dict(dense=True, stride=-1), "must be at least 1"),
        (dict(tolerance="small"), "must be a number above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            stablehlo_write.write(path, run, **options)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        stablehlo_write.read(path)
    for content in (b"", b"PK\x03\x04", b"no program at all" * 99):
        path.write_bytes(content)
        with pytest.raises(ExchangeError, match="holds no metadata of a program"):
            stablehlo_write.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(ExchangeError, match="no program of jax.export"):
        stablehlo_write.read(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qa_net", "layer_pattern", "giusti_n4"])
def test_registered_nets(tmp_path, name):
    """At sizes that differ from those of the writer's own check."""
    path, window = tmp_path / "net.stablehlo", WINDOWS[name]
    run = classifier(nets.create(name, num_classes=3), shape=window)
    assert stablehlo_write.write(path, run).difference <= 1e-5
    native = dense.native_stride(run.net, window[:2], window[2])
    larger = draw(2, (1, window[0] + native[0], window[1] + 2 * native[1], window[2]))
    for stride in (None, 2):
        stablehlo_write.write(path, run, dense=True, stride=stride)
        expected = dense.score_map(run.net, run.variables, larger, window[:2], stride, "atrous").scores
        assert_close(np.asarray(stablehlo_write.read(path)(larger)), np.asarray(expected))


@pytest.mark.slow
def test_random_nets(tmp_path):
    """Random layers, windows and forms: the same scores."""
    for seed in (2000, 2001, 2005):
        made = random_case(seed)
        assert made is not None
        run, options = made
        assert stablehlo_write.write(tmp_path / "net", run, platforms=("cpu",), **options).difference <= 1e-5
