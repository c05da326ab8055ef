"""ONNX graphs that are written: run by onnxruntime, against NumPy and this library's own maps."""

import json
import types

import jax
import numpy as np
import pytest

from cnn import convert, dense, nets
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.exchange.onnx_out import write as onnx_write
from cnn.layers import (
    ACTIVATIONS,
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LocallyConnected,
    MaxPool,
    NMaxPool,
    PReLU,
    Scale,
    SumPool,
)
from cnn.windows import GeometryError
from tests.exchange.random_classifiers import classifier, random_case
from tests.made import draw
from tests.reference import dense as reference
from tests.registered import WINDOWS

onnx = pytest.importorskip("onnx", reason="writes ONNX: python -m pip install -r requirements-exchange.txt")
onnxruntime = pytest.importorskip("onnxruntime", reason="runs ONNX: python -m pip install -r requirements-peers.txt")
onnxruntime.set_default_logger_severity(4)  # it prints what it raises


def run_file(path, images):
    """What onnxruntime makes of images [N, H, W, C]; maps as [N, h, w, K]."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    scores = session.run(["scores"], {"images": images.transpose(0, 3, 1, 2)})[0]
    return scores if scores.ndim == 2 else scores.transpose(0, 2, 3, 1)


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def logits(run, images):
    return np.asarray(jax.jit(lambda v, x: run.net.apply(v, x, train=False))(run.variables, images))


def opset(path):
    return onnx.load(path).opset_import[0].version


POINTWISE = [
    *(Activation(f, **({"low": -0.5} if f == "clip" else {})) for f in ACTIVATIONS),
    *(Activation("leaky_relu", slope=0.3), Activation("elu", slope=0.5), Activation("celu", slope=0.5)),
    *(Activation("selu", slope=1.0, scale=1.5), Activation("silu", slope=1.5), Activation("clip", high=2)),
    *(Activation("hard_sigmoid", slope=0.2, offset=0.4), Activation("thresholded_relu", slope=0.1)),
]


def test_layers_of_values(tmp_path):
    """All activations, with and without their fields; parameters of images, of flattened values and of vectors."""
    path = str(tmp_path / "net.onnx")
    branches = [layer for one in POINTWISE for layer in (one, Scale())]  # a scale between, so that values vary
    run = classifier(
        [Conv(6, 3), *branches, BatchNorm(), LRN(3, alpha=0.1), PReLU(), PReLU(shared=True), Scale(use_bias=False)],
        [Dropout(), Flatten("random"), BatchNorm(), PReLU(), Scale(), Dense(5), PReLU(), BatchNorm(), Dense(3)],
        shape=(5, 6, 2),
    )
    made = onnx_write.write(path, run)
    assert made.difference <= 1e-5 and made.runtime.startswith("onnxruntime") and opset(path) == 20
    images = draw(1, (3, 5, 6, 2))
    assert_close(run_file(path, images), logits(run, images))


def test_layers_with_windows(tmp_path):
    """Padding of all kinds, pools of all kinds with windows that hang over the edge, kernels that are not shared."""
    path = str(tmp_path / "net.onnx")
    run = classifier(
        [Conv(2, 3, padding=((1, 0), (0, 2)), padding_mode="constant", padding_value=0.5)],
        [Conv(2, (1, 2), padding=1, padding_mode=mode) for mode in ("edge", "reflect", "mean")],
        [MaxPool(2, 2, padding=1, rounding="ceil"), AvgPool(3, 2, padding=1, rounding="ceil", count_padding=True)],
        [AvgPool((2, 3), 1, padding=((1, 0), (1, 1)), dilation=2, rounding="ceil"), SumPool(2, 1, padding=1)],
        [NMaxPool((1, 2), 1, padding=((0, 0), (1, 0)), n=2), Conv(4, 2, stride=2, padding="same", groups=2)],
        [LocallyConnected(3, (1, 2), padding=((0, 0), (1, 0))), NMaxPool(None, n=2)],
        shape=(7, 9, 2),
    )
    assert onnx_write.write(path, run).difference <= 1e-5 and opset(path) == 19
    images = draw(1, (3, 7, 9, 2))
    assert_close(run_file(path, images), logits(run, images))


@pytest.mark.slow
@pytest.mark.parametrize("padded", [False, True])
def test_dense_forms(tmp_path, padded):
    """At the native stride and at finer ones, of images that no program was made for."""
    path = str(tmp_path / "net.onnx")
    run = classifier(
        [Conv(4, 3, padding=1 if padded else 0), Activation("relu"), MaxPool(2)],
        [AvgPool(3, 1, padding=1, count_padding=True) if padded else Conv(3, 2), MaxPool(2)],
        [Flatten("chw"), Dense(5), Activation("relu"), Dense(3)],
        shape=(12, 12, 2),
    )
    conv_net, variables = convert.fc_to_conv(run.net, run.variables, run.image_shape)
    variables = jax.tree.map(np.asarray, variables)
    images = draw(2, (2, 20, 24, 2))
    for stride in (1,) if padded else (2, None):
        made = onnx_write.write(path, run, dense=True, stride=stride)
        step = (stride or 4,) * 2
        size = dense.plan_grid(run.net, images.shape[1:], (12, 12), step).size
        found = run_file(path, images)
        assert made.difference <= 1e-5 and len(made.sizes) == 2
        assert opset(path) == (19 if padded else 11)  # a dilated average pool
        assert_close(found, np.stack([reference.score_map(conv_net, variables, x, step, size) for x in images]))
        with pytest.raises(Exception, match="images are smaller than the window, 12x12 pixels"):
            run_file(path, images[:, :8])
    if padded:
        return
    for shape in ((1, 21, 24, 2), (1, 20, 23, 2), (1, 22, 24, 2)):
        with pytest.raises(Exception, match=r"\(max pool\): a size does not divide: \(height - 2\) / 2 \+ 1 or"):
            run_file(path, draw(0, shape))
    props = {one.key: json.loads(one.value) for one in onnx.load(path).metadata_props}
    assert props == {
        "cnn.class_names": ["0", "1", "2"],
        "cnn.mean": [0.5, 0.5],
        "cnn.std": [0.25, 0.25],
        "cnn.image_shape": [12, 12, 2],
        "cnn.window": [12, 12],
        "cnn.stride": [4, 4],
        "cnn.offset": [0, 0],
        "cnn.output_activation": "softmax",
        "cnn.context": "both",
        "cnn.sizes": "at least 12x12 pixels, and 4x4 pixels more at a time",
    }


class Doubled(Layer):
    """A layer of one's own."""

    mixes_pixels = False
    kind = "doubled"

    def __call__(self, x, *, train):
        return 2 * x


SMALL = [Conv(2, 3), Flatten(), Dense(2)]
REFLECTED = [Conv(2, 3, padding=1, padding_mode="reflect"), Flatten(), Dense(2)]


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        (SMALL, dict(stride=2), r"stride \(=2\) is for the dense form; give dense=True too"),
        (SMALL, dict(dense=True, stride=0), r"stride \(=0\) must be at least 1"),
        (SMALL, dict(dense=True, stride=1.5), r"stride \(=1.5\) must be one whole number or two"),
        (SMALL, dict(dense=True, stride="all"), "must be one whole number or two"),
        (SMALL, dict(dense=1), r"dense \(=1\) must be True or False"),
        (SMALL, dict(tolerance=0), r"tolerance \(=0\) must be a number above 0"),
        (SMALL, dict(tolerance=float("nan")), "must be a number above 0 and below 1"),
        (REFLECTED, dict(dense=True, stride=1), r"conv1 \(conv\): padding_mode 'reflect' is defined by the values of"),
        (
            [NMaxPool(2, 1, padding=1), *SMALL],
            dict(dense=True),
            r"pool1 \(n-max pool\): how many pixels a padded window",
        ),
        ([NMaxPool(2, 1, padding=1), *SMALL], dict(dense=True, stride=1), "padded n-max pool cannot leave out single"),
        (
            [Conv(2, 3, stride=2, padding="same"), *SMALL],
            dict(dense=True, stride=1),
            r"conv1 \(conv\): its padding \(='same', .* depends on the size of the image",
        ),
        (
            [Conv(2, 3, stride=2, padding="same", padding_mode="edge"), *SMALL],
            dict(dense=True),
            r"conv1 \(conv\): its padding 'same' with stride \(2, 2\) depends on the size of the image, which ONNX",
        ),
        (
            [AvgPool(2, padding=((1, 0), (1, 0)), rounding="ceil", count_padding=True), *SMALL],
            dict(dense=True, stride=1),
            "a last window hangs over padding that counts",
        ),
        (
            [MaxPool(2, rounding="ceil"), Conv(2, 3, stride=2), *SMALL[1:]],
            dict(dense=True),
            r"pool1 \(max pool\): rounds up, and a",
        ),
        ([LRN(4), *SMALL], {}, r"lrn1|norm1 .*size \(=4\) is even: ONNX has the odd channel above"),
        ([Doubled(), *SMALL], {}, r"doubled1 \(doubled\): ONNX has no operator for Doubled, a layer of your own"),
        ([LocallyConnected(2, 2), *SMALL], dict(dense=True), r"local.*cannot be slid over a larger image"),
        ([Conv(2, 3)], dict(dense=True), "for a window of 9x10 pixels, and dense evaluation takes one"),
    ],
)
def test_what_is_refused_before_a_file_is_made(tmp_path, layers, options, message):
    run = classifier(layers, shape=(9, 10, 2))
    with pytest.raises((ExchangeError, GeometryError), match=message) as found:
        onnx_write.write(tmp_path / "net.onnx", run, **options)
    assert "\n" not in str(found.value)
    assert not list(tmp_path.iterdir())


def test_runs_that_are_refused(tmp_path):
    """Such as would make a file that lies."""
    good = classifier(SMALL, shape=(5, 5, 2))
    fields = {name: getattr(good, name) for name in Classifier.__dataclass_fields__}
    broken = jax.tree.map(np.copy, good.variables)
    broken["params"]["conv1"]["kernel"][0, 0, 0, 0] = np.nan
    changes = (
        (dict(variables=broken), r"params\.conv1\.kernel holds 1 values of 36 that are no finite float32"),
        (dict(variables=broken["params"]), "variables hold conv1, .* themselves"),
        (dict(image_shape=(6, 5, 2)), "kernel takes 18 values, got 24"),
        (dict(mean=(0.5,)), r"mean \(=\[0.5\]\) must be 2 finite numbers, one for each channel"),
        (dict(std=(0.5, 0.0)), r"std \(=\[0.5, 0.0\]\) must be above 0"),
        (dict(std=(0.5, np.inf)), "must be 2 finite numbers"),
        (dict(class_names=("a",)), "class_names are 1, the net has 2 classes"),
        (dict(net=nets.net()), "no layers"),
    )
    for change, message in changes:
        run = types.SimpleNamespace(**{**fields, **change})
        with pytest.raises(ValueError, match=message):
            onnx_write.write(tmp_path / "net.onnx", run)
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "no" / "net.onnx", "there is no folder")):
        with pytest.raises(ExchangeError, match=message):
            onnx_write.write(path, good)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_right_replaces_none(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("what was there")
    run = classifier([Conv(4, 3), Flatten(), Dense(3)], shape=(9, 9, 2))
    with pytest.raises(ExchangeError, match="its scores differ from the net's by .* more than 1e-12; .* not kept"):
        onnx_write.write(path, run, tolerance=1e-12)
    assert [one.name for one in tmp_path.iterdir()] == ["net.onnx"] and path.read_text() == "what was there"


OPTIONS = {"layer_pattern": {"norm": True}}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qa_net", "lenet5", "layer_pattern", "giusti_n4", "alexnet"])
def test_registered_nets(tmp_path, name):
    """In all forms, at sizes that differ from those of the writer's own check."""
    path, window = str(tmp_path / "net.onnx"), WINDOWS[name]
    run = classifier(nets.create(name, num_classes=3, **OPTIONS.get(name, {})), shape=window)
    images = draw(1, (2, *window))
    onnx_write.write(path, run)
    assert_close(run_file(path, images), logits(run, images))
    native = dense.native_stride(run.net, window[:2], window[2])
    larger = draw(2, (1, window[0] + native[0], window[1] + 2 * native[1], window[2]))
    for stride in (None, 1, 2):
        onnx_write.write(path, run, dense=True, stride=stride)
        expected = dense.score_map(run.net, run.variables, larger, window[:2], stride, "atrous").scores
        assert_close(run_file(path, larger), np.asarray(expected))


@pytest.mark.long
@pytest.mark.parametrize("name", ["vgg11", "vgg16"])
def test_deep_registered_nets(tmp_path, name):
    options = {"width": 64, "norm": name == "vgg11"}
    run = classifier(nets.create(name, num_classes=3, **options), shape=WINDOWS[name])
    for form in ({}, {"dense": True}):
        assert onnx_write.write(tmp_path / "net.onnx", run, **form).difference <= 1e-5


@pytest.mark.long
@pytest.mark.parametrize("first", [1000])
def test_random_nets(tmp_path, first):
    """Random layers, windows and forms: the same scores, or a reason."""
    done = 0
    for seed in range(first, first + 8):
        made = random_case(seed)
        if made is None:
            continue
        run, options = made
        try:
            assert onnx_write.write(tmp_path / "net.onnx", run, **options).difference <= 1e-5
            done += 1
        except (ExchangeError, GeometryError) as error:
            assert "not kept" not in str(error), seed
    assert done >= 2
