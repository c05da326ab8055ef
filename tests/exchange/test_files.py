"""What a file is by its first bytes, and files that were made to do harm."""

import io
import json
import pickle
import resource
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from safetensors.numpy import save

from cnn.exchange import files
from cnn.exchange.caffe import model as caffe_model
from cnn.exchange.caffe import schema as caffe_schema
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.keras import model as keras_model
from cnn.exchange.torch_weights import state_dict
from tests.exchange import mutations
from tests.exchange.test_caffe_model import INPUT, LATER, weights_of_later, write_weights
from tests.exchange.test_keras_model import small_config, small_weights, write_legacy
from tests.exchange.test_state_dict import lenet_tensors


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, value in members.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), value)
    return stream.getvalue()


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


ONNX = b"\x08\x08\x12\x07pytorch\x3a\x04\x0a\x02ab\x42\x02\x10\x11"  # ir_version, producer_name, graph, opset_import
SAFETENSORS = save({"a": np.zeros(3, np.float32)})


@pytest.fixture
def caffe_net():
    pytest.importorskip("google.protobuf", reason="Caffe's files are protobuf messages: requirements-exchange.txt")
    net = caffe_schema.message("NetParameter")(name="net")
    net.layer.add(name="c", type="Convolution").blobs.add().data.append(b"\0" * 400)
    return net.SerializeToString()


def test_kinds_by_their_first_bytes(tmp_path, caffe_net):
    """Under names that say something else."""
    path = tmp_path / "weights.pth"
    for kind, content in (
        ("onnx", ONNX),
        ("safetensors", SAFETENSORS),
        ("hdf5", b"\x89HDF\r\n\x1a\n" + b"\0" * 100),
        ("hdf5", b"user block".ljust(512) + b"\x89HDF\r\n\x1a\n" + b"\0" * 100),
        ("keras", zipped(config_DOT_json="{}", model_DOT_weights_DOT_h5="x")),
        ("caffemodel", caffe_net),
        ("prototxt", b'# a net\nname: "x"\nlayer { name: "a" }'),
        ("prototxt", b'\nlayers {\n  name: "a" }'),
        ("prototxt", b"# a licence\n" * 500 + b'layer { name: "a" }'),
        ("json", b' {"class_name": "Sequential"}'),
    ):
        path.write_bytes(content)
        assert files.kind_of(path) == kind
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    assert files.kind_of(run) == "run"


REFUSED = [
    (pickle.dumps({"a": 1}), "is a pickle.*save_file.*torch.onnx.export"),
    (pickle.dumps([1, 2], protocol=2), "is a pickle"),
    (pickle.dumps({"a": np.zeros(2)}, protocol=0), "is a pickle"),
    (pickle.dumps(ExchangeError("x"), protocol=4), "is a pickle"),
    (zipped(archive__data_DOT_pkl=b"x", archive__data__0=b"x"), "PyTorch file.*weights_only=True"),
    (zipped(archive_format=b"pt2", models__model_DOT_json=b"{}"), "pt2"),
    (saved(np.array([{}], object)), "array of objects, which is a pickle"),
    (saved(np.zeros(3)), "one NumPy array"),
    (zipped(a_DOT_npy=b"x"), "archive of NumPy arrays"),
    (zipped(readme_DOT_txt=b"x"), "no .keras file"),
    (zipped(config_DOT_json=b"{}")[:-15], "damaged or truncated zip"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    (b"", "is empty"),
    (b"\0" * 500, "full of zeros"),
    (SAFETENSORS[:20], "truncated safetensors"),
    (struct.pack("<Q", 2**60) + b"{}", "truncated safetensors"),
    (ONNX[:-6], "truncated"),
    (b"\x1f\x8b\x08\0rest", "gunzip"),
    (b"<!DOCTYPE html><html>", "web page"),
    (b"just some words\n", "is a text"),
    (b"# A net\n\nname: what it is called\n\n# Layers\n", "is a text"),
    (b"\x1c\0\0\0TFL3\0\0\0\0", "TFLite"),
    (b"ML\xefR\0\0", "MLIR"),
    (bytes(range(255, 100, -1)), "unknown kind"),
    (b"\0" * 257 + b"ustar\0" + b"\0" * 249, "tar archive"),
    (b"\x0a\x05hello" * 3, "frozen TensorFlow graph"),
]


def test_files_that_are_no_nets_say_what_to_do(tmp_path):
    """One line with the path; every reader asks here first."""
    for content, says in REFUSED:
        path = tmp_path / "net.h5"
        path.write_bytes(content)
        for read in (files.kind_of, keras_model.read, lambda path: state_dict.read(path, "full_cnn")):
            with pytest.raises(ExchangeError, match=says) as caught:
                read(path)
            assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(ExchangeError, match="no such file"):
        files.kind_of(tmp_path / "none.onnx")
    with pytest.raises(ExchangeError, match="directory without a run.*name the file in it: .*net.h5"):
        files.kind_of(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(ExchangeError, match="tf2onnx"):
        files.kind_of(tmp_path)


def harmful(folder):
    """HDF5 files that reach for other files, declare more than they hold, or go round in circles."""
    rng = np.random.default_rng(0)
    write_legacy(folder / "good.h5", small_config(), small_weights(rng))
    np.zeros(36, np.float32).tofile(folder / "secret.bin")
    base = (folder / "good.h5").read_bytes()

    def made(name, change, drop="model_weights/c/c/kernel:0"):
        path = folder / f"{name}.h5"
        path.write_bytes(base)
        with h5py.File(path, "a") as file:
            if drop:
                del file[drop]
            change(file)
        return path

    where, shape = "model_weights/c/c/kernel:0", (3, 2, 2, 3)
    huge = {"shape": (3, 2, 2, 10**9), "dtype": "f4"}
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource(str(folder / "good.h5"), where, shape=shape)
    yield made("external", lambda f: f.__setitem__(where, h5py.ExternalLink(folder / "good.h5", where))), "ExternalLink"
    yield made("soft", lambda f: f.__setitem__(where, h5py.SoftLink("/model_weights/d/d/kernel:0"))), "SoftLink"
    outside = [(str(folder / "secret.bin"), 0, 144)]
    yield made("storage", lambda f: f.create_dataset(where, shape, "f4", external=outside)), "other files"
    yield made("virtual", lambda f: f.create_virtual_dataset(where, layout)), "other files"
    yield made("huge", lambda f: f.create_dataset(where, **huge)), "far more numbers"
    yield made("chunks", lambda f: f.create_dataset(where, chunks=(3, 2, 2, 10**7), **huge)), "far more"
    packed = {"chunks": (3, 2, 2, 10**6), "compression": "gzip"}
    yield made("packed", lambda f: f.create_dataset(where, **huge, **packed)), "far more"
    yield made("numbers", lambda f: f.create_dataset(where, data=np.zeros(shape, np.int8))), "no array of floating"
    yield made("group", lambda f: f.create_group(where)), "is no array"
    yield (
        made("names", lambda f: f["model_weights/c"].attrs.create("weight_names", [b"../../d/d/kernel:0"])),
        "not there",
    )
    yield made("cycle", lambda f: f["model_weights"].__setitem__("c/c/c", f["model_weights/c"])), "not there"
    external = h5py.ExternalLink(folder / "good.h5", "model_weights")
    yield made("root", lambda f: f.__setitem__("model_weights", external), "model_weights"), "ExternalLink"


def cyclic(path):
    """A .weights.h5 whose model lies in itself."""
    nested = {"class_name": "Sequential", "config": {"name": "s", "layers": []}}
    nested["config"]["layers"] = [{"class_name": "Sequential", "config": {"name": "s", "layers": []}}]
    with h5py.File(path, "w") as file:
        file.create_group("layers")["sequential"] = file["/"]
    return nested


@pytest.mark.slow
def test_harmful_files_of_keras(tmp_path):
    """Refused in one line, and without their bytes being asked for."""
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path, says in harmful(tmp_path):
        with pytest.raises(ExchangeError, match=says) as caught:
            keras_model.read(path)
        assert "\n" not in str(caught.value)
    structure, weights = tmp_path / "cyclic.json", tmp_path / "cyclic.weights.h5"
    structure.write_text(json.dumps(cyclic(weights)))
    with pytest.raises(ExchangeError):
        keras_model.read(weights, structure)
    bomb, stream = tmp_path / "bomb.keras", io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(small_config()))
        with archive.open("model.weights.h5", "w") as file:
            for _ in range(150):
                file.write(b"\0" * 2**20)
    bomb.write_bytes(stream.getvalue())
    with pytest.raises(ExchangeError, match="unpacks to 157,286,400 bytes"):
        keras_model.read(bomb)
    deep = "[" * 200_000 + "]" * 200_000
    for text in (deep, '{"class_name": "Sequential", "config": ' + deep + "}", "[]", "3", '{"class_name": "Lambda"}'):
        structure.write_text(text)
        with pytest.raises(ExchangeError):
            keras_model.read(weights, structure)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6 and (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 500


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "caffemodel", "prototxt", "h5"])
def test_damaged_files_are_read_or_refused(tmp_path, kind):
    """100 of each, 25 of HDF5, whose reading starts a process; `python -m tests.exchange.mutations` reads more."""
    rng, other, path = np.random.default_rng(0), tmp_path / "other", tmp_path / f"net.{kind}"
    if kind == "safetensors":
        original = save(lenet_tensors(rng))
        read = lambda: state_dict.read(path, "full_cnn")  # noqa: E731
    elif kind == "h5":
        write_legacy(path, small_config(), small_weights(rng))
        original, read = path.read_bytes(), lambda: keras_model.read(path)
    else:
        write_weights(tmp_path / "weights", weights_of_later(rng))
        weights, text = (tmp_path / "weights").read_bytes(), (INPUT + LATER).encode()
        original = weights if kind == "caffemodel" else text
        other.write_bytes(text if kind == "caffemodel" else weights)
        names = (path, other) if kind == "caffemodel" else (other, path)
        read = lambda: caffe_model.read(*names)  # noqa: E731
    count = 25 if kind == "h5" else 100
    taken, refused, wrong = mutations.read_all(path, original, count, 0, read)
    assert not wrong, wrong
    assert taken + refused == count and refused > count // 5


def test_a_caffemodel_of_very_many_empty_layers(tmp_path, caffe_net):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"\xa2\x06\x00" * 50_000)
    with pytest.raises(ExchangeError, match="50,000 layers"):
        caffe_model.read(path)
