"""An ONNX file on disk: opened without running or following anything, its nodes and tensors read on demand."""

import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.files import kind_of

# Numbers of TensorProto.DataType that are computed with here; all others are refused where they are met.
FLOAT, DTYPES = 1, {1: "float32", 6: "int32", 7: "int64", 9: "bool", 11: "float64", 10: "float16"}
TYPE_NAMES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 8: "text", 12: "uint32", 13: "uint64", 16: "bfloat16"}
FLOAT_LIST, INT_LIST, INT64_LIST, DOUBLE_LIST = "float_data", "int32_data", "int64_data", "double_data"
LISTS = {1: FLOAT_LIST, 6: INT_LIST, 7: INT64_LIST, 9: INT_LIST, 10: INT_LIST, 11: DOUBLE_LIST}
LARGEST_FILE = 2**31 - 1  # bytes: the limit of a protobuf message


def one_line(value: Any, limit: int = 60) -> str:
    """A name or value from a file as it may stand in a message: one line, printable, of a bounded length."""
    text = "".join(c if c.isprintable() else "?" for c in str(value)[: limit + 1])
    return text if len(text) <= limit else text[: limit - 3] + "..."


def type_name(number: int) -> str:
    """The name of a TensorProto.DataType."""
    return DTYPES.get(number) or TYPE_NAMES.get(number) or f"type {number}"


class OnnxFile:
    """A parsed file.

    Attributes:
      path: where it lies.
      graph: its GraphProto.
      opset: version of the standard operators.
      metadata: its metadata_props, text to text.
      size: bytes of the file.
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        """Opens and parses a file.

        Raises:
          ExchangeError: if it cannot be read, is something else, or is damaged.
        """
        self.path = pathlib.Path(path)
        self.model = _parse(self.path)
        self.graph = self.model.graph
        self.size = self.path.stat().st_size
        versions = {one.domain or "ai.onnx": one.version for one in self.model.opset_import}
        self.opset = versions.get("ai.onnx", 1 if not versions else 0)
        if self.opset < 1:
            raise self.error("names no version of the standard operators (opset_import); it is damaged, or no net")
        if not self.graph.node:
            raise self.error("holds no node; it is damaged, or no net")
        if self.model.functions:
            names = ", ".join(one_line(one.name) for one in self.model.functions[:3])
            raise self.error(
                f"defines functions of its own ({names}): write it anew with onnx.inliner.inline_local_functions"
            )
        self.metadata = {one.key: one.value for one in self.model.metadata_props}

    def error(self, text: str) -> ExchangeError:
        """An error that names the file."""
        return ExchangeError(f"{self.path}: {text}")

    def json_of(self, key: str) -> Any:
        """A value of the metadata, which this project writes as JSON; None if there is none."""
        if key not in self.metadata:
            return None
        try:
            return json.loads(self.metadata[key])
        except (ValueError, RecursionError):
            raise self.error(f"its metadata {key} (={one_line(self.metadata[key])!r}) is no JSON") from None

    def array(self, tensor: Any) -> np.ndarray:
        """The values of a TensorProto.

        Args:
          tensor: the message; values within it, or in a file beside it.

        Returns:
          The array, read-only where it shares memory with the message.

        Raises:
          ExchangeError: if type, shape or number of values do not fit, or the values lie outside of the file's folder.
        """
        what = f"tensor {one_line(tensor.name)!r}"
        if tensor.data_type not in DTYPES:
            raise self.error(f"{what} is {type_name(tensor.data_type)}; {_QUANTISED}")
        dtype = np.dtype(DTYPES[tensor.data_type])
        shape = tuple(tensor.dims)
        if len(shape) > 8 or any(size < 0 for size in shape):
            raise self.error(f"{what} has the shape {one_line(shape)}; it is damaged")
        count = math.prod(shape)
        if tensor.data_location == 1:
            raw = self._outside(tensor, count * dtype.itemsize, what)
        elif tensor.HasField("raw_data"):
            raw = tensor.raw_data
        else:
            return self._listed(tensor, dtype, shape, what)
        if len(raw) != count * dtype.itemsize:
            raise self.error(
                f"{what} {one_line(shape)} needs {count * dtype.itemsize:,} bytes and has {len(raw):,}; it is damaged"
            )
        return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)

    def _listed(self, tensor: Any, dtype: np.dtype, shape: Sequence[int], what: str) -> np.ndarray:
        """Values that stand as a list of numbers in the message."""
        values = getattr(tensor, LISTS[tensor.data_type])
        if len(values) != math.prod(shape):
            raise self.error(
                f"{what} {one_line(shape)} needs {math.prod(shape):,} values and has {len(values):,}; it is damaged"
            )
        if dtype == np.float16:  # its bits, one in each int32
            return np.array(values, np.int32).astype(np.uint16).view(np.float16).reshape(shape)
        return np.array(values).astype(dtype).reshape(shape)

    def _outside(self, tensor: Any, expected: int, what: str) -> bytes:
        """Values in a file beside the model, which must lie in the model's folder."""
        entries = {one.key: one.value for one in tensor.external_data}
        location = entries.get("location", "")
        folder = self.path.parent.resolve()
        try:
            place = (folder / location).resolve()
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", expected))
            inside = bool(location) and "\0" not in location and place.is_relative_to(folder) and place.is_file()
            inside = inside and not pathlib.PurePath(location).is_absolute() and place != self.path.resolve()
        except (ValueError, OSError, RuntimeError):
            inside, place, offset, length = False, folder, 0, 0
        if not inside:
            raise self.error(
                f"{what} lies in another file, {one_line(location)!r}, which is not beside the model or below its "
                "folder; put it there, or write the net in one file (onnx.save with save_as_external_data=False)"
            )
        if offset < 0 or length != expected or offset + length > place.stat().st_size:
            raise self.error(
                f"{what} needs {expected:,} bytes from {offset:,} on of {one_line(location)!r}, which has "
                f"{place.stat().st_size:,} (declared length {length:,}); it is damaged"
            )
        with place.open("rb") as file:
            file.seek(offset)
            return file.read(length)


_QUANTISED = "only nets of float32 are read; export the net in float32, before it is quantised or cast"


def _parse(path: pathlib.Path) -> Any:
    """The ModelProto of a file, without the values in other files."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ExchangeError(
            f"{path}: reading ONNX needs the package onnx: python -m pip install -r requirements-exchange.txt"
        ) from None
    if not path.is_file():
        raise ExchangeError(f"{path}: there is no such file")
    size = path.stat().st_size
    if not 0 < size <= LARGEST_FILE:
        raise ExchangeError(f"{path}: has {size:,} bytes; an ONNX file has between 1 and {LARGEST_FILE:,}")
    kind = kind_of(path)
    if kind != "onnx":
        raise ExchangeError(f"{path}: is of the kind {kind!r}, not ONNX")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, RuntimeError, ValueError):
        raise ExchangeError(
            f"{path}: is damaged, or no ONNX file: its {size:,} bytes cannot be decoded; fetch it again"
        ) from None
    return model
