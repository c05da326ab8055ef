"""Damaged and hostile ONNX files: mutations of good ones, and such as ask for other files or for memory."""

import io
import pathlib
import zipfile
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def small_net() -> bytes:
    """A net with every kind of field in its file: attributes, tensors in both forms, shapes, metadata."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    listed = helper.make_tensor("bias", TensorProto.FLOAT, [4], rng.normal(size=4).tolist())
    tensors = [numpy_helper.from_array(weights, "kernel"), listed]
    tensors += [numpy_helper.from_array(np.array([-1, 64], np.int64), "flat")]
    tensors += [numpy_helper.from_array(rng.normal(size=(64, 5)).astype(np.float32), "matrix")]
    nodes = [
        helper.make_node("Constant", [], ["mean"], value=numpy_helper.from_array(np.full((3, 1, 1), 0.5, np.float32))),
        helper.make_node("Sub", ["images", "mean"], ["centred"]),
        helper.make_node("Conv", ["centred", "kernel", "bias"], ["c"], pads=[1, 1, 1, 1], strides=[1, 1], group=1),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
        helper.make_node("Reshape", ["p", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "matrix"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "net", [images], [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"cnn.class_names": '["a", "b", "c", "d", "e"]'})
    return model.SerializeToString()


def mutations(good: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Damaged copies: flipped bits, other bytes, pieces cut out, doubled, moved; and fields set to odd numbers."""
    rng = np.random.default_rng(seed)
    odd = [0, 1, 0x7F, 0x80, 0xFF]
    for i in range(count):
        data = bytearray(good)
        if i % 4 == 3:
            yield _changed_field(good, rng)
            continue
        for _ in range(int(rng.integers(1, 4))):
            place, length = int(rng.integers(len(data))), int(rng.integers(1, 9))
            way = rng.integers(5)
            if way == 0:
                data[place] ^= 1 << int(rng.integers(8))
            elif way == 1:
                data[place] = odd[int(rng.integers(len(odd)))]
            elif way == 2:
                del data[place : place + length]
            elif way == 3:
                data[place:place] = data[place : place + length]
            else:
                data = data[: max(1, place)] if rng.random() < 0.3 else data + bytes(data[:length])
        yield bytes(data)


def _changed_field(good: bytes, rng: np.random.Generator) -> bytes:
    """A file that decodes, in which one number, name or node is another."""
    model = onnx.load_model_from_string(good)
    node = model.graph.node[int(rng.integers(len(model.graph.node)))]
    number = int(rng.choice([-(2**63), -1, 0, 1, 2, 7, 2**31, 2**62]))
    way = rng.integers(8)
    if way == 0 and node.attribute:
        attribute = node.attribute[int(rng.integers(len(node.attribute)))]
        if attribute.ints:
            attribute.ints[int(rng.integers(len(attribute.ints)))] = number
        attribute.i = number
    elif way == 1 and node.attribute:
        node.attribute[0].type = int(rng.integers(0, 14))
    elif way == 2:
        node.op_type = str(rng.choice(["Conv", "Gemm", "Relu", "Add", "Pad", "Concat", "Softmax", "LRN", "Pow", "If"]))
    elif way == 3 and node.input:
        names = [name for other in model.graph.node for name in [*other.input, *other.output]] + ["", "nothing"]
        node.input[int(rng.integers(len(node.input)))] = str(rng.choice(names))
    elif way == 4:
        tensor = model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]
        tensor.dims[0] = number
    elif way == 5:
        tensor = model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]
        tensor.data_type = int(rng.integers(0, 24))
    elif way == 6:
        model.graph.input[0].type.tensor_type.shape.dim[int(rng.integers(4))].dim_value = number
    else:
        model.opset_import[0].version = int(rng.choice([1, 5, 6, 7, 9, 11, 20, 99, -3]))
    return model.SerializeToString()


def hostile(folder: pathlib.Path) -> Iterator[tuple[str, bytes, str]]:
    """Files that ask for too much or for others': name, bytes, and what their refusal must say."""
    secret = folder.parent / "secret.bin"
    secret.write_bytes(b"\0" * 4 * 4 * 3 * 9)
    for location in ("../secret.bin", str(secret), "sub/../../secret.bin", "link.bin", "", "model.onnx"):
        yield f"external {location[:12]}", _external(location), "lies in another file"
    yield "external past its end", _external("short.bin"), "damaged"
    yield "memory from a shape", _of_shape([2**14, 2**14, 1, 1]), "bytes of constants"
    yield "memory from many axes", _of_shape([2**15] * 4), "larger than"
    yield "a circle", _circle(), "circle"
    yield "two makers", _doubled(), "two nodes make"
    yield "a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"
    yield "a zip of PyTorch", _zip_of("archive/data.pkl"), "save_file"
    yield "a broken zip", b"PK\x03\x04" + b"archive/data.pkl", "damaged or truncated zip"
    yield "a pickle", b"\x80\x02}q\x00.", "save_file"
    yield "a web page", b"<!DOCTYPE html>", "web page"
    yield "nothing", b"", "0 bytes"
    yield "a name of two lines", small_net().replace(b"images", b"im\nges"), ""


def _zip_of(name: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(name, b"\x80\x02.")
    return made.getvalue()


def _external(location: str) -> bytes:
    model = onnx.load_model_from_string(small_net())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model.SerializeToString()


def _of_shape(sizes: list[int]) -> bytes:
    shape = numpy_helper.from_array(np.array(sizes, np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["w"]), helper.make_node("Conv", ["x", "w"], ["y"])]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, sizes[1], 4, 4])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [images], [output], [shape])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()


def _circle() -> bytes:
    model = onnx.load_model_from_string(small_net())
    model.graph.node[1].input[0] = "r"
    return model.SerializeToString()


def _doubled() -> bytes:
    model = onnx.load_model_from_string(small_net())
    model.graph.node.append(model.graph.node[3])
    return model.SerializeToString()
