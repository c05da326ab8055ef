"""What is fuzzed: functions of bytes, each of which reads them as a user's input would be read.

A target returns, or raises what a user can mend (`cnn.commands.program.MENDABLE`) with a message of one line; whatever
else it raises is a finding.
"""

import contextlib
import functools
import io
import json
import os
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Target = Callable[[bytes], None]
WORDS = (
    *(
        "0",
        "1",
        "-1",
        "2",
        "1.5",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "None",
        "none",
        "True",
        "False",
        "()",
        "(1,)",
        "(1, 2)",
    ),
    *(
        "(2, 1)",
        "('a', 'b')",
        "{}",
        "[]",
        "''",
        "x",
        "('x',",
        "9" * 400,
        "2147483648",
        "softmax",
        "sigmoid",
        "balanced",
    ),
    *("step", "adamw", "digits", "folder", "layers", "layer_pattern", "vgg16", "qa_net", "~", "/", "a.npz", "a.py:b"),
)
OPTIONS = (
    "convs",
    "blocks",
    "fc",
    "features",
    "width",
    "kernel",
    "norm",
    "dropout",
    "pool",
    "activation",
    "layers",
    "x",
)


class Bytes:
    """Draws choices, numbers and texts from bytes, zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def number(self, below: int) -> int:
        """A number from 0 to below - 1."""
        size = max(1, (max(below - 1, 1).bit_length() + 7) // 8)
        return int.from_bytes(self.take(size), "little") % below

    def take(self, count: int) -> bytes:
        """The next bytes."""
        found = self._data[self._place : self._place + count]
        self._place += count
        return found.ljust(count, b"\0")

    def rest(self) -> bytes:
        """All that is left."""
        found, self._place = self._data[self._place :], len(self._data)
        return found

    def pick(self, among: Any) -> Any:
        """One of a sequence."""
        return among[self.number(len(among))]

    def text(self) -> str:
        """A word that is often wrong, or a few letters of any alphabet."""
        if self.number(3):
            return self.pick(WORDS)
        return self.take(self.number(12)).decode("utf-8", "surrogateescape")

    @property
    def left(self) -> int:
        """Bytes that are not used yet."""
        return max(0, len(self._data) - self._place)


def flags(data: bytes) -> None:
    """Fields of a config on the command line: parsing, setting, and every check before data are read."""
    from absl import flags as absl_flags

    from cnn.commands import flags as shared
    from cnn.runs import defaults
    from cnn.training import early

    draw = Bytes(data)
    names = [field.name for field in defaults.FIELDS]
    usual = {field.name: 1 if isinstance(field.default, type) else field.default for field in defaults.FIELDS}
    arguments = ["main.py"]
    for _ in range(1 + draw.number(4)):
        name = draw.pick(names) if draw.number(8) else draw.text()
        value = str(usual[name]) if name in usual and draw.number(2) else draw.text()
        if name == "net.options" and draw.number(4):
            name = f"net.options.{draw.pick(OPTIONS)}"
        arguments.append(f"--config.{name}={value}")
    config = shared.ConfigFlag(None, "")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            rest = config.take(arguments)
            absl_flags.FLAGS(rest)
            config.finish()
        early.check(config.value)
    except absl_flags.Error as error:
        raise ValueError(" ".join(str(error).split())) from error
    finally:
        for name in [name for name in absl_flags.FLAGS if name == "config" or name.startswith("config.")]:
            delattr(absl_flags.FLAGS, name)


def nets(data: bytes) -> None:
    """Nets by name and options, and by records, with the geometry of what comes out."""
    from cnn import geometry
    from cnn import nets as nets_lib

    draw = Bytes(data)
    shape = (draw.number(300), draw.number(300), draw.number(5))
    if draw.number(2):
        options = {draw.pick(OPTIONS): _value(draw) for _ in range(draw.number(4))}
        net = nets_lib.create(draw.pick(("layer_pattern", *nets_lib.names())), **options)
    elif draw.number(2):
        net = nets_lib.from_config(json.loads(draw.rest()))
    else:
        net = nets_lib.from_config([_record(draw) for _ in range(draw.number(6))])
    geometry.table(net, shape)
    nets_lib.from_config(nets_lib.to_config(net))


def _value(draw: Bytes, depth: int = 0) -> Any:
    """Anything that a config or JSON may hold."""
    kind = draw.number(9 if depth < 3 else 6)
    if kind == 6:
        return [_value(draw, depth + 1) for _ in range(draw.number(4))]
    if kind == 7:
        return {draw.text(): _value(draw, depth + 1) for _ in range(draw.number(3))}
    if kind == 8:
        return tuple(_value(draw, depth + 1) for _ in range(draw.number(4)))
    return (draw.number(7), draw.text(), None, bool(draw.number(2)), draw.number(2**32) - 2**31, _float(draw))[kind]


def _float(draw: Bytes) -> float:
    return struct.unpack("<d", draw.take(8))[0]


def _record(draw: Bytes) -> Any:
    """A layer's record, mostly of fields that there are."""
    from cnn.nets import records

    if not draw.number(12):
        return _value(draw)
    kinds, fields = sorted(records.KINDS), sorted(records.RULES)
    record: dict[str, Any] = {"kind": draw.pick(kinds) if draw.number(8) else _value(draw)}
    for _ in range(draw.number(4)):
        record[draw.pick([*fields, "name"])] = _value(draw)
    if draw.number(2):
        record = {"features": 1 + draw.number(8), "kernel": 1 + draw.number(5), **record}
        if record["kind"] not in ("conv", "locally_connected"):
            record.pop("kernel")
    return record


@functools.lru_cache
def _folder() -> str:
    """A folder of this process, in memory where the system has such a place."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return tempfile.mkdtemp(prefix="fuzz", dir=place)


def _mutated(draw: Bytes, content: bytes) -> bytes:
    """A file with some bytes flipped, cut, doubled or replaced."""
    changed = bytearray(content)
    for _ in range(1 + draw.number(4)):
        kind, place = draw.number(6), draw.number(max(1, len(changed)))
        if kind == 0:
            changed[place : place + 1] = draw.take(1)
        elif kind == 1:
            del changed[place:]
        elif kind == 2:
            del changed[place : place + draw.number(64)]
        elif kind == 3:
            changed[place:place] = draw.take(draw.number(8))
        elif kind == 4:
            changed[place : place + 4] = draw.pick(
                (b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0")
            )
        else:
            changed[place:place] = changed[place : place + draw.number(200)]
    return bytes(changed)


@functools.lru_cache
def _json_seeds() -> dict[str, bytes]:
    """What a run, a study and a stream write, as small as it gets, by the name of the file."""
    from cnn.runs import config, defaults

    start = defaults.get_config()
    start.train.steps, start.train.epochs = 2, None
    facts = {
        "name": "fake",
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
        "class_names": ["a", "b"],
        "image_shape": [8, 8, 3],
        "examples": {"train": 3},
        "digest": {"train": "00"},
        "border_brightness": [0.1, 0.9],
    }
    lines = [{"step": 1, "split": "train", "loss": 0.5}, {"step": 2, "split": "validation", "loss": None}]
    journal = {"computes": {"net": "x"}, "tiles": 3, "done": 1, "complete": False, "read": "", "written": ""}
    trees = {"config.json": config.as_saved(start), "data.json": facts, "a.progress.json": journal}
    return {
        **{name: json.dumps(tree).encode() for name, tree in trees.items()},
        "metrics.jsonl": "".join(json.dumps(line) + "\n" for line in lines).encode(),
    }


def files(data: bytes) -> None:
    """The JSON files of a run and the journal of a stream, damaged in places or replaced."""
    from cnn.dense.streaming import journal
    from cnn.runs import config, facts, logs

    draw = Bytes(data)
    name = draw.pick(sorted(_json_seeds()))
    content = _mutated(draw, _json_seeds()[name]) if draw.number(4) else draw.rest()
    if not draw.number(3):
        content = json.dumps(_changed(draw, json.loads(_json_seeds()[name].splitlines()[0]))).encode() + b"\n"
    path = os.path.join(_folder(), name)
    with open(path, "wb") as file:
        file.write(content)
    if name == "config.json":
        config.differences(config.load(_folder()), _folder())
    elif name == "data.json":
        facts.read(_folder())
    elif name == "metrics.jsonl":
        logs.read_metrics(_folder())
    else:
        journal.read_journal(path)


def _changed(draw: Bytes, tree: Any) -> Any:
    """A tree with one value replaced, somewhere."""
    if isinstance(tree, dict) and tree and draw.number(5):
        name = draw.pick(sorted(tree))
        return {**tree, name: _changed(draw, tree[name])}
    if isinstance(tree, list) and tree and draw.number(3):
        place = draw.number(len(tree))
        return [_changed(draw, one) if i == place else one for i, one in enumerate(tree)]
    return _value(draw)


@functools.lru_cache
def _checkpoint() -> dict[str, bytes]:
    """The files of a small checkpoint, by their paths in a workdir."""
    from cnn.runs import checkpoint

    start = os.path.join(_folder(), "whole")
    with checkpoint.Checkpoints(start, 1) as checkpoints:
        checkpoints.save(3, {"params": {"fc1": {"kernel": np.ones((4, 2), np.float32)}}}, facts={"loss": 1.0})
    found = {}
    for place, _, names in os.walk(start):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                found[os.path.relpath(os.path.join(place, name), start)] = file.read()
    return found


def checkpoints(data: bytes) -> None:
    """A checkpoint of which one file is damaged: metadata, manifests and arrays."""
    import shutil

    from cnn.runs import checkpoint

    draw = Bytes(data)
    files, start = _checkpoint(), os.path.join(_folder(), "run")
    damaged = draw.pick(sorted(files))
    shutil.rmtree(start, ignore_errors=True)
    for name, content in files.items():
        path = os.path.join(start, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(_mutated(draw, content) if name == damaged else content)
    template = {"params": {"fc1": {"kernel": np.zeros((4, 2), np.float32)}}}
    with contextlib.redirect_stderr(io.StringIO()), checkpoint.Checkpoints(start, 1) as opened:
        opened.restore_latest(variables=template)
        opened.restore_facts(3)


PICTURES = ("png", "jpg", "tif", "bmp", "gif", "webp", "ppm", "tif-lzw", "png-p", "png-16", "tif-tiled", "jpg-cmyk")


@functools.lru_cache
def _picture(kind: str) -> bytes:
    """A small picture in some form."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    image, content = Image.fromarray(pixels), io.BytesIO()
    form = {"jpg": "JPEG", "tif": "TIFF"}.get(kind.partition("-")[0], kind.partition("-")[0].upper())
    if kind == "tif-tiled":
        import tifffile

        tifffile.imwrite(content, pixels, tile=(16, 16), compression="zlib", photometric="rgb")
        return content.getvalue()
    if kind == "png-16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if kind in ("png-p", "gif"):
        image = image.convert("P")
    if kind == "jpg-cmyk":
        image = image.convert("CMYK")
    image.save(content, form, **({"compression": "tiff_lzw"} if kind == "tif-lzw" else {}))
    return content.getvalue()


def pictures(data: bytes) -> None:
    """Pictures of some formats with damages, above all in their heads, as training and as a stream reads them."""
    from cnn import data as data_lib
    from cnn.images import pictures as pictures_lib
    from cnn.images.source import open_image

    pictures_lib.MAX_BYTES = 2**27  # so that what is refused as too large is small here
    draw = Bytes(data)
    kind = draw.pick(PICTURES)
    content = _picture(kind)
    head = 120 if draw.number(2) else len(content)
    content = _mutated(draw, content[:head]) + content[head:]
    if kind.startswith("png") and draw.number(2):
        content = _with_checksums(content)
    suffix = draw.pick((kind.partition("-")[0],) * 3 + ("png", "jpg", "tif", "gif"))
    path = os.path.join(_folder(), f"a.{suffix}")
    with open(path, "wb") as file:
        file.write(content)
    try:
        data_lib.load_images([path], 8, 3)
    finally:
        opened = open_image(path)
        height, width = min(opened.shape[0], 64), min(opened.shape[1], 64)
        opened.read(-1, height, -1, width)


def _with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold, so that a decoder looks further."""
    made, place = bytearray(content[:8]), 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        body = content[place + 4 : place + 8 + min(length, len(content))]
        made += content[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return bytes(made)


@functools.lru_cache
def _caffe() -> tuple[bytes, bytes]:
    """A small net as Caffe has it: its structure as text, and its trained weights."""
    from google.protobuf import text_format

    from cnn.exchange.caffe import schema

    net = schema.message("NetParameter", unpacked=True)()
    text_format.Parse(PROTOTXT, net)
    for name, shape in (("c", (2, 3, 3, 3)), ("f", (3, 72))):
        layer = next(layer for layer in net.layer if layer.name == name)
        for sizes in (shape, shape[:1]):
            blob = layer.blobs.add()
            blob.shape.dim.extend(sizes)
            blob.data.extend([0.5] * int(np.prod(sizes)))
    return PROTOTXT.encode(), net.SerializeToString()


def imports(data: bytes) -> None:
    """Structures and weights of Caffe: nets that others wrote."""
    from cnn.exchange import reading

    draw = Bytes(data)
    structure, weights = _caffe()
    damaged = draw.number(3)
    structure = _mutated(draw, structure) if damaged else structure
    weights = _mutated(draw, weights) if damaged != 1 else weights
    for name, content in (("a.prototxt", structure), ("a.caffemodel", weights)):
        with open(os.path.join(_folder(), name), "wb") as file:
            file.write(content)
    path = os.path.join(_folder(), "a.prototxt") if draw.number(4) else None
    reading.read(os.path.join(_folder(), "a.caffemodel"), structure=path)


PROTOTXT = """name: "a"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 12 dim: 12 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 3 pad: 1 }}
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "f" type: "InnerProduct" bottom: "p" top: "f" inner_product_param { num_output: 3 } }
layer { name: "s" type: "Softmax" bottom: "f" top: "s" }
"""

TARGETS: dict[str, Target] = {
    "flags": flags,
    "nets": nets,
    "files": files,
    "checkpoints": checkpoints,
    "pictures": pictures,
    "imports": imports,
}


def random_input(seed: int) -> bytes:
    """Bytes for a target where no coverage guides them.

    Args:
      seed: number of the input.

    Returns:
      Up to 200 bytes.
    """
    source = random.Random(seed)
    return source.randbytes(source.randrange(1, 200))
