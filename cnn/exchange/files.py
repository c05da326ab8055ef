"""What a file is, told by its first bytes: its suffix is only a name."""

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from cnn.exchange.classifier import ExchangeError

KINDS = ("onnx", "safetensors", "hdf5", "keras", "caffemodel", "caffe mean", "prototxt", "json", "run")
READ = "files that are read: .onnx, .safetensors, .keras, .h5, .caffemodel with its .prototxt, and directories of runs"

HEAD_BYTES = 4096
JSON_LIMIT_BYTES = 2**24
FIELD_LIMIT = 100_000  # top-level fields of a protobuf message that are looked at

# What to run where PyTorch is: a pickle is a program, and reading one runs it.
CONVERT = (
    'from safetensors.torch import save_file; save_file(torch.load("{file}", weights_only=True, map_location="cpu"), '
    '"net.safetensors")   or   torch.onnx.export(model, images, "net.onnx")'
)

# Beginnings of files that are no nets, with the way out; longest first where one begins another.
_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; fetch it with: git lfs pull"),
    (b"\x1f\x8b", "is compressed by gzip; unpack it first: gunzip, or tar -xzf"),
    (b"BZh", "is compressed by bzip2; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it first"),
    (b"\xfd7zXZ\x00", "is compressed by xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd; unpack it first"),
    (
        b"ML\xefR",
        "is an exported program (MLIR bytecode), which holds no net that could be changed or run densely; "
        "import the file that it was exported from",
    ),
)

# A field of a net that is no word in a sentence: at the beginning of a line, with a brace or a value behind it.
_FIELD = re.compile(r"^\s*(layers?\s*:?\s*\{|(name|input)\s*:\s*[\"']|input_(shape|dim)\s*[:{])", re.MULTILINE)

# Of protocols 2 to 5; of the text protocol: an object, or a list or dict.
_PICKLES = (rb"\x80[\x02-\x05][\x95\x8a}\]()cX\x8c]", rb"\(?c[A-Za-z_.]+\n[A-Za-z_]+\n", rb"\((dp|lp|l?p)\d\n")


def kind_of(path: str | os.PathLike[str]) -> str:
    """What a file is, by its first bytes.

    Args:
      path: a file, or the directory of a run.

    Returns:
      One of `KINDS`: "hdf5" is a Keras .h5 or .weights.h5, "json" an architecture or a preprocessing config.

    Raises:
      ExchangeError: if there is no such file, or it is empty, truncated, a Git LFS pointer, a directory without a run,
        a pickle in any wrapping (PyTorch's .pt, .pth and .pt2, NumPy's object arrays), or something else; with the way
        out.
    """
    path = os.path.expanduser(os.fspath(path))
    if os.path.isdir(path):
        return _directory(path)
    try:
        size = os.path.getsize(path)
        if not os.path.isfile(path):
            raise ExchangeError(f"{path} is no ordinary file; {READ}")
        with open(path, "rb") as file:
            return _kind(path, file, size)
    except FileNotFoundError:
        raise ExchangeError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ExchangeError(f"{path} cannot be read: {error.strerror or error}") from None


def _directory(path: str) -> str:
    inside = set(os.listdir(path))
    if "config.json" in inside and {"checkpoints", "checkpoints_best"} & inside:
        return "run"
    if "saved_model.pb" in inside:
        raise ExchangeError(
            f"{path} is a TensorFlow SavedModel; convert it: python -m tf2onnx.convert --saved-model {path} --output "
            f"net.onnx"
        )
    nets = sorted(name for name in inside if name.endswith((".safetensors", ".onnx", ".keras", ".h5", ".caffemodel")))
    hint = f"; name the file in it: {', '.join(os.path.join(path, name) for name in nets[:5])}" if nets else ""
    raise ExchangeError(f"{path} is a directory without a run (config.json and checkpoints/){hint or '; ' + READ}")


def _kind(path: str, file: BinaryIO, size: int) -> str:
    """What an open file is."""
    head = file.read(HEAD_BYTES)
    if not head.strip(b"\0"):
        raise ExchangeError(f"{path} is {'empty' if not size else 'full of zeros'}; fetch or write it again")
    for start, text in _REFUSED:
        if head.startswith(start):
            raise ExchangeError(f"{path} {text}")
    if head.startswith(b"PK"):
        return _zip(path, file)
    _refuse_pickles(path, head)
    if _is_hdf5(file, size):
        return "hdf5"
    if head[257:262] == b"ustar":
        raise ExchangeError(f"{path} is a tar archive; unpack it first: tar -xf {path}")
    if head[4:8] == b"TFL3":
        raise ExchangeError(
            f"{path} is a TFLite net; convert it: python -m tf2onnx.convert --tflite {path} --output net.onnx"
        )
    if (found := _text(path, head, size)) is not None:
        return found
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length > 1:
        if length > size - 8:
            raise ExchangeError(
                f"{path} is a truncated safetensors file: its header has {length:,} bytes, and {size - 8:,} follow; "
                "fetch it again"
            )
        return "safetensors"
    return _protobuf(path, file, size)


def _is_hdf5(file: BinaryIO, size: int) -> bool:
    """Whether HDF5's signature stands at the beginning or, behind a user block, at 512, 1024, 2048, ... bytes."""
    place = 0
    while place < size:
        file.seek(place)
        if file.read(8) == b"\x89HDF\r\n\x1a\n":
            return True
        place = 2 * place or 512
    return False


def _refuse_pickles(path: str, head: bytes) -> None:
    """Refuses pickles, and what wraps one."""
    what = ""
    if any(re.match(start, head) for start in _PICKLES):
        what = "is a pickle"
    elif head.startswith(b"\x93NUMPY"):
        if b"'O'" in head[:256] or b"|O" in head[:256]:
            what = "is a NumPy array of objects, which is a pickle"
        else:
            raise ExchangeError(f"{path} is one NumPy array, without the net that it belongs to; {READ}")
    if what:
        raise _pickle(path, what)


def _pickle(path: str, what: str) -> ExchangeError:
    lines = CONVERT.format(file=os.path.basename(path))
    return ExchangeError(f"{path} {what}, and reading one runs the code in it; convert it where PyTorch is: {lines}")


def _zip(path: str, file: BinaryIO) -> str:
    """What a zip archive holds, by the names of its members."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, OSError) as error:
        raise ExchangeError(
            f"{path} is a damaged or truncated zip archive ({_one_line(error)}); fetch it again"
        ) from None
    if {"config.json", "model.weights.h5"} <= set(names):
        return "keras"
    ends = [name.rsplit("/", 1)[-1] for name in names]
    if "data.pkl" in ends or any(end.endswith((".pkl", ".pickle")) for end in ends):
        raise _pickle(path, "is a PyTorch file (a zip archive with a pickle)")
    if "archive_format" in ends or any(name.startswith("models/") and name.endswith(".json") for name in names):
        raise _pickle(path, "is a PyTorch .pt2 program, which may hold pickles")
    if any(end.endswith(".npy") for end in ends):
        raise ExchangeError(f"{path} is an archive of NumPy arrays, without the net that they belong to; {READ}")
    found = f"has neither config.json nor model.weights.h5, but {', '.join(names[:3]) or 'nothing'}"
    raise ExchangeError(f"{path} is a zip archive and no .keras file: it {found}; {READ}")


def _text(path: str, head: bytes, size: int) -> str | None:
    """What a text is; None if the bytes are none."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or size <= HEAD_BYTES:
            return None
        text = head[: error.start].decode("utf-8-sig")
    if any(ord(letter) < 32 and letter not in "\t\n\r\f" for letter in text):
        return None
    if text.lstrip().startswith(("{", "[")):
        return "json"
    if re.search(r"<\s*(!doctype|html|\?xml)", text[:200], re.IGNORECASE):
        raise ExchangeError(f"{path} is a web page, not what it should have been; fetch the file itself")
    said = re.sub(r"#[^\n]*", "", text).strip()  # without comments, of which a text in Markdown has only some
    if _FIELD.search(said) or (not said and size > HEAD_BYTES):  # a licence may be longer than what was read
        return "prototxt"
    raise ExchangeError(f"{path} is a text and neither a Caffe .prototxt nor JSON; {READ}")


def _protobuf(path: str, file: BinaryIO, size: int) -> str:
    """What a protobuf message is, by the numbers and types of its fields."""
    seen: dict[int, int] = {}
    cut = ""
    for number, wire, end in _fields(file, size):
        seen.setdefault(number, wire)
        if end > size:
            cut = f"its field {number} ends at byte {end:,}, and the file at {size:,}"
    if not seen:
        file.seek(0)
        start = file.read(8)
        raise ExchangeError(f"{path} is of an unknown kind (it begins with the bytes {start.hex(' ')}); {READ}")
    kind = None
    if seen.get(7) == 2 and seen.get(1, 0) == 0 and set(seen) <= {*range(1, 9), 14, 20, 25, 26}:
        kind = "onnx"
    elif seen.get(100) == 2 or (seen.get(2) == 2 and seen.get(1, 2) == 2):
        kind = "caffemodel"
    elif {5: 2}.items() <= seen.items() and set(seen) <= set(range(1, 10)) and seen.get(1, 0) == 0:
        kind = "caffe mean"
    if cut and (kind or len(seen) > 1 or 1 in seen):
        raise ExchangeError(f"{path} is truncated: {cut}; fetch it again")
    if kind:
        return kind
    if set(seen) <= {1, 2, 3, 4} and seen.get(1) == 2:
        raise ExchangeError(
            f"{path} looks like a frozen TensorFlow graph; convert it: python -m tf2onnx.convert --graphdef {path} "
            "--output net.onnx --inputs NAME:0 --outputs NAME:0"
        )
    raise ExchangeError(f"{path} is of an unknown kind (a message with the fields {sorted(seen)[:8]}); {READ}")


def _fields(file: BinaryIO, size: int) -> Iterator[tuple[int, int, int]]:
    """Number, wire type and end of each top-level field; nothing from where the bytes are no message."""
    place = 0
    for _ in range(FIELD_LIMIT):
        file.seek(place)
        chunk = io.BytesIO(file.read(20))
        tag = _varint(chunk)
        if not tag or tag >> 3 == 0:
            return
        number, wire = tag >> 3, tag & 7
        length = {1: 8, 5: 4}.get(wire, 0)
        if wire in (0, 2):
            value = _varint(chunk)
            if value is None:
                return
            length = value if wire == 2 else 0
        elif wire not in (1, 5):
            return
        place += chunk.tell() + length
        yield number, wire, place
        if place >= size:
            return


def _varint(stream: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 64, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def parse_json(text: bytes | str, what: str) -> Any:
    """Reads a JSON text of a foreign file.

    Args:
      text: UTF-8.
      what: which text, for the error.

    Returns:
      What it holds.

    Raises:
      ExchangeError: if it is too long, no JSON, or nested too deeply.
    """
    if len(text) > JSON_LIMIT_BYTES:
        raise ExchangeError(f"{what} has {len(text):,} bytes; a description of a net has at most {JSON_LIMIT_BYTES:,}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"{what} is no JSON: {_one_line(error)}") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file of at most `JSON_LIMIT_BYTES`.

    Args:
      path: the file.

    Returns:
      What it holds.

    Raises:
      ExchangeError: if it cannot be read, is too long or no JSON.
    """
    try:
        with open(os.path.expanduser(path), "rb") as file:
            return parse_json(file.read(JSON_LIMIT_BYTES + 1), os.fspath(path))
    except OSError as error:
        raise ExchangeError(f"{path} cannot be read: {error.strerror or error}") from None
