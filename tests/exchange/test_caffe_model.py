"""Nets of Caffe: both generations of layers and weights, by value against slow sums in float64."""

import jax
import numpy as np
import pytest

from cnn import data
from cnn.exchange import preprocessing
from cnn.exchange.caffe import model as caffe_model
from cnn.exchange.caffe import schema as caffe_schema
from cnn.exchange.classifier import ExchangeError
from tests.exchange import known_results
from tests.reference import layers as reference

pytest.importorskip("google.protobuf", reason="Caffe's files are protobuf messages: requirements-exchange.txt")

INPUT = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 8\n'
LATER = """
layer { name: "c" type: "Convolution" bottom: "data" top: "c" param { lr_mult: 1 }
  convolution_param { num_output: 6 pad: 1 kernel_h: 3 kernel_w: 2 group: 1 weight_filler { type: "xavier" } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" relu_param { negative_slope: 0.1 } }
layer { name: "n" type: "LRN" bottom: "c" top: "n" lrn_param { local_size: 3 alpha: 0.3 beta: 0.75 } }
layer { name: "p" type: "Pooling" bottom: "n" top: "p" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "g" type: "Convolution" bottom: "p" top: "g"
  convolution_param { num_output: 4 kernel_size: 2 group: 2 bias_term: false } }
layer { name: "m" type: "Pooling" bottom: "g" top: "m" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "b" type: "BatchNorm" bottom: "m" top: "m" }
layer { name: "s" type: "Scale" bottom: "m" top: "m" scale_param { bias_term: true } }
layer { name: "k" type: "PReLU" bottom: "m" top: "m" }
layer { name: "w" type: "Power" bottom: "m" top: "w" power_param { scale: 0.5 shift: 0.25 } }
layer { name: "d" type: "Dropout" bottom: "w" top: "w" include { phase: TRAIN } }
layer { name: "f" type: "InnerProduct" bottom: "w" top: "f" inner_product_param { num_output: 5 } }
layer { name: "acc" type: "Accuracy" bottom: "f" bottom: "label" top: "acc" include { phase: TEST } }
layer { name: "prob" type: "Softmax" bottom: "f" top: "prob" }
"""


def weights_of_later(rng):
    """Arrays of the layers above, in Caffe's layout; the factor of a BatchNorm is the weight of its sums."""
    return {
        "c": [rng.normal(size=(6, 3, 3, 2)), rng.normal(size=6)],
        "g": [rng.normal(size=(4, 3, 2, 2))],
        "b": [rng.normal(size=4) * 4, rng.uniform(0.5, 2, 4) * 4, np.full(1, 4.0)],
        "s": [rng.normal(size=4), rng.normal(size=4)],
        "k": [rng.uniform(0, 0.5, 4)],
        "f": [rng.normal(size=(5, 16)), rng.normal(size=5)],
    }


def write_weights(path, arrays, early=False, doubles=False, unpacked=False):
    """A .caffemodel of arrays by layer, of either generation of layers and of blobs."""
    net = caffe_schema.message("NetParameter", unpacked)(name="net")
    for name, blobs in arrays.items():
        layer = (net.layers if early else net.layer).add(name=name)
        for array in blobs:
            blob = layer.blobs.add()
            if early:
                sizes = (1,) * (4 - array.ndim) + array.shape
                blob.num, blob.channels, blob.height, blob.width = sizes
            else:
                blob.shape.dim.extend(array.shape)
            if unpacked:
                blob.data.extend(array.astype(np.float32).ravel().tolist())
            elif doubles:
                blob.double_data.append(array.astype("<f8").tobytes())
            else:
                blob.data.append(array.astype("<f4").tobytes())
    path.write_bytes(net.SerializeToString())


def by_hand(images, arrays):
    """The scores of the net above, [N, H, W, C] in, in float64."""
    arrays = {name: [np.asarray(one, np.float32).astype(np.float64) for one in blobs] for name, blobs in arrays.items()}
    kernel, bias = arrays["c"]
    x = reference.convolution(images, kernel.transpose(2, 3, 1, 0), bias, padding=((1, 1), (1, 1)))
    x = np.where(x > 0, x, 0.1 * x)
    sums = np.stack([(x[..., max(c - 1, 0) : c + 2] ** 2).sum(-1) for c in range(6)], axis=-1)
    x = x / (1 + 0.3 / 3 * sums) ** 0.75
    x = caffe_average(x, 3, 2, 1)
    x = reference.convolution(x, arrays["g"][0].transpose(2, 3, 1, 0), np.zeros(4), groups=2)
    x = reference.pool(x, np.max, (2, 2), (2, 2), rounding="ceil")
    mean, var, factor = arrays["b"]
    x = (x - mean / factor) / np.sqrt(var / factor + 1e-5) * arrays["s"][0] + arrays["s"][1]
    x = np.where(x > 0, x, arrays["k"][0] * x) * 0.5 + 0.25
    kernel, bias = arrays["f"]
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1) @ kernel.T + bias


def caffe_average(x, size, stride, pad):
    """Pooling as pooling_layer.cpp writes it: a window's divisor counts padding, and nothing beyond it."""
    count, height, width, channels = x.shape
    shape = [int(np.ceil((side + 2 * pad - size) / stride)) + 1 for side in (height, width)]
    shape = [n - 1 if (n - 1) * stride >= side + pad else n for n, side in zip(shape, (height, width), strict=True)]
    out = np.zeros((count, *shape, channels))
    for i in range(shape[0]):
        for j in range(shape[1]):
            top, left = i * stride - pad, j * stride - pad
            bottom, right = min(top + size, height + pad), min(left + size, width + pad)
            divisor = (bottom - top) * (right - left)
            window = x[:, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
            out[:, i, j] = window.sum(axis=(1, 2)) / divisor
    return out


def scores(read, images):
    pixels = data.normalise(images, read.mean, read.std)
    return np.asarray(jax.jit(lambda x: read.net.apply(read.variables, x, train=False))(pixels))


def test_a_net_by_value_and_all_generations_of_weights(tmp_path):
    """Every layer with a trap of its own; the images are RGB, the net's first kernel was made for BGR."""
    rng = np.random.default_rng(0)
    arrays, structure, path = weights_of_later(rng), tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    structure.write_text(INPUT + LATER)
    write_weights(path, arrays)
    read = caffe_model.read(path, structure)
    images = rng.integers(0, 256, (2, 9, 8, 3), dtype=np.uint8)
    wanted = by_hand(images[..., ::-1].astype(np.float64), arrays)
    np.testing.assert_allclose(scores(read, images), wanted, atol=1e-5 * np.abs(wanted).max())
    assert read.channel_order == "rgb" and read.image_shape == (9, 8, 3)
    assert any("folded" in note for note in read.notes) and any("dropped" in note for note in read.notes)
    for form in ({"early": True}, {"doubles": True}, {"unpacked": True}):
        write_weights(path, arrays, **form)
        again = caffe_model.read(path, structure)
        same = jax.tree.map(np.array_equal, again.variables, read.variables)
        assert all(jax.tree.leaves(same)), form
    given = preprocessing.of("test", channels="rgb", mean=[0.4, 0.5, 0.6], std=0.2)
    plain = caffe_model.read(path, structure, given=given)
    assert plain.mean == (0.4, 0.5, 0.6) and plain.net == read.net
    np.testing.assert_array_equal(
        plain.variables["params"]["c"]["kernel"][:, :, ::-1], read.variables["params"]["c"]["kernel"]
    )


EARLY = """
layers { name: "d" type: DATA top: "data" top: "label"
  data_param { source: "x" scale: 0.5 mean_file: "m.binaryproto" } }
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c"
  convolution_param { num_output: 2 kernel_size: 3 stride: 2 } }
layers { name: "r" type: RELU bottom: "c" top: "c" }
layers { name: "p" type: POOLING bottom: "c" top: "p" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layers { name: "f" type: INNER_PRODUCT bottom: "p" top: "f" inner_product_param { num_output: 1 } }
layers { name: "l" type: SIGMOID_CROSS_ENTROPY_LOSS bottom: "f" bottom: "label" }
"""


def write_mean(path, image):
    blob = caffe_schema.message("BlobProto")(
        num=1, channels=image.shape[0], height=image.shape[1], width=image.shape[2]
    )
    blob.data.append(image.astype("<f4").tobytes())
    path.write_bytes(blob.SerializeToString())


def test_layers_of_the_earlier_generation_and_a_mean_image(tmp_path):
    """Scale and mean image of a data layer; the mean is that of each channel, in the net's order, and is said."""
    rng = np.random.default_rng(1)
    structure, path, mean = tmp_path / "net.prototxt", tmp_path / "net.caffemodel", tmp_path / "m.binaryproto"
    structure.write_text(INPUT + EARLY)
    arrays = {"c": [rng.normal(size=(2, 3, 3, 3)), rng.normal(size=2)], "f": [rng.normal(size=(1, 8)), np.ones(1)]}
    write_weights(path, arrays, early=True)
    image = np.stack([np.full((4, 4), value) for value in (100.0, 110.0, 120.0)])
    image[0, 0, 0] += 16
    write_mean(mean, image)
    with pytest.raises(ExchangeError, match=r"mean image 'm.binaryproto'.*mean_file"):
        caffe_model.read(path, structure)
    read = caffe_model.read(path, structure, mean_file=mean)
    np.testing.assert_allclose(read.mean, np.array([120, 110, 101]) / 255, rtol=1e-6)  # red first
    np.testing.assert_allclose(read.std, 2 / 255)
    assert read.net.output_activation == "sigmoid" and any("up to 15.0 of 255" in note for note in read.notes)
    assert [layer.name for layer in read.net.layers] == ["c", "r", "p", "flatten1", "f"]
    with pytest.raises(ExchangeError, match="caffe mean"):
        caffe_model.read(mean, structure)


BAD = [
    ("bottom: \"n\" top: \"p\"", "bottom: \"data\" top: \"p\"", "nets here are chains"),
    ("type: \"LRN\"", "type: \"Concat\"", "branches"),
    ("type: \"LRN\"", "type: \"Embed\"", "there is no such layer here; known:"),
    ("local_size: 3", "local_size: 3 norm_region: WITHIN_CHANNEL", "WITHIN_CHANNEL"),
    ("local_size: 3", "local_size: 4", "odd"),
    ("pool: AVE", "pool: STOCHASTIC", "stochastic"),
    ("stride: 2 pad: 1", "stride: 4 pad: 1", "sees no pixel"),
    ("scale: 0.5 shift", "power: 2 shift", "power (=2)"),
    ("num_output: 6", "num_output: 60000000", "60000000x"),
    ("kernel_h: 3 kernel_w: 2", "kernel_h: 3000000 kernel_w: 2", "3000000"),
    ("num_output: 5", "num_output: 4", "4x?"),
    ("name: \"g\" type", "name: \"gg\" type", "gg: its kernel (4x?x2x2) is missing"),
    ("input_dim: 9", "input_dim: 1000000000", "4096 pixels"),
    ("input_dim: 9", "input_dim: 2", "larger"),
    ("input_dim: 3", "input_dim: 4", "channels"),
    ("LRN", "LRN\" } layer {", "net.prototxt"),
    ("name: \"prob\" type: \"Softmax\" bottom: \"f\"", "name: \"prob\" type: \"ReLU\" bottom: \"prob\"", "chains"),
]  # fmt: skip


def test_what_cannot_be_taken_is_one_line(tmp_path):
    """The layer, the numbers, the way out."""
    structure, path = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    write_weights(path, weights_of_later(np.random.default_rng(0)))
    for old, new, says in BAD:
        assert old in INPUT + LATER, old
        structure.write_text((INPUT + LATER).replace(old, new, 1))
        with pytest.raises(ExchangeError) as caught:
            caffe_model.read(path, structure)
        assert says in str(caught.value) and "\n" not in str(caught.value), (new, caught.value)
    structure.write_text('layers { layer { name: "c" type: "conv" } }')
    with pytest.raises(ExchangeError, match="upgrade_net_proto_text"):
        caffe_model.read(path, structure)


@pytest.mark.slow
def test_lenet_has_its_known_result(tfds_data_dir):
    """9,914 of the 10,000 MNIST test images; the scale of its pixels stands in the file of its weights."""
    folder = known_results.pretrained(tfds_data_dir, "lenet_caffe")
    images, labels = known_results.test_split(tfds_data_dir, "mnist")
    read = caffe_model.read(folder / "lenet_iter_10000.caffemodel", folder / "lenet.prototxt")
    assert known_results.right(read, images, labels) == 9914
    known_results.check_maps(read, images, 4)
    alone = caffe_model.read(folder / "lenet_iter_10000.caffemodel", given=preprocessing.of("test", image_size=28))
    same = jax.tree.map(np.array_equal, alone.variables, read.variables)
    assert all(jax.tree.leaves(same))
