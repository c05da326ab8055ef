"""safetensors files as named float32 arrays and their metadata."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnn.exchange.assembly import float32
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.files import kind_of

FLOATS = {"F16": "numpy", "F32": "numpy", "F64": "numpy", "BF16": "flax"}  # dtype, and what reads it
HEADER_LIMIT_BYTES, MOST_TENSORS = 2**24, 50_000


def read(path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads all floating tensors of a file; counters, which are whole numbers, are passed over.

    Args:
      path: the file.

    Returns:
      float32 arrays by name, and the metadata in the file.

    Raises:
      ExchangeError: if it is no such file, or damaged; of a truncated one the tensors that are missing are listed.
    """
    kind = kind_of(path)
    if kind != "safetensors":
        raise ExchangeError(f"{path} is of the kind {kind!r}, and no safetensors file")
    library, error_class = _library()
    path_on_disk = os.path.expanduser(path)
    _check_header(path, path_on_disk)
    try:
        with library(path_on_disk, "numpy") as file:
            metadata = dict(file.metadata() or {})
            dtypes = {name: str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118  no mapping
            # Shapes are checked against the bytes that are there when the file is opened.
            found = {name: file.get_tensor(name) for name, dtype in dtypes.items() if FLOATS.get(dtype) == "numpy"}
        if "BF16" in dtypes.values():
            with library(path_on_disk, "flax") as file:
                found |= {name: np.asarray(file.get_tensor(name)) for name, dtype in dtypes.items() if dtype == "BF16"}
    except (error_class, ValueError, TypeError, OSError, RuntimeError, OverflowError) as error:
        raise ExchangeError(f"{path} is damaged: {' '.join(str(error).split())[:300]}; fetch it again") from None
    others = sorted(name for name, dtype in dtypes.items() if dtype not in FLOATS and not _is_counter(name))
    if others:
        shown = ", ".join(f"{name} ({dtypes[name]})" for name in others[:20])
        raise ExchangeError(f"{path}: tensors that are not floating: {shown}; save the net in floating numbers")
    return {name: float32(found[name], f"{path}: {name}") for name in sorted(found)}, metadata


def _is_counter(name: str) -> bool:
    return name.rsplit(".", 1)[-1] == "num_batches_tracked"


def _library() -> tuple[Any, type[Exception]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ExchangeError(
            f"safetensors files need safetensors: python -m pip install safetensors ({error})"
        ) from None
    return safe_open, SafetensorError


def _check_header(path: str, path_on_disk: str) -> None:
    """Refuses a header beyond all nets, and lists the tensors that a truncated file lacks."""
    try:
        with open(path_on_disk, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > HEADER_LIMIT_BYTES:
                raise ExchangeError(f"{path}: its header has {length:,} bytes; at most {HEADER_LIMIT_BYTES:,} are read")
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ExchangeError):
            raise
        raise ExchangeError(
            f"{path} is damaged: its header is no JSON ({' '.join(str(error).split())[:200]})"
        ) from None
    if not isinstance(header, Mapping) or len(header) > MOST_TENSORS:
        raise ExchangeError(f"{path}: its header lists no tensors, or more than {MOST_TENSORS:,}")
    end = os.path.getsize(path_on_disk) - 8 - length
    cut = []
    for name, entry in header.items():
        offsets = entry.get("data_offsets") if isinstance(entry, Mapping) and name != "__metadata__" else None
        whole = isinstance(offsets, list) and len(offsets) == 2 and all(type(one) is int for one in offsets)
        if isinstance(offsets, list) and whole and offsets[1] > end:
            cut.append(name)
    if cut:
        raise ExchangeError(
            f"{path} is truncated; the tensors {', '.join(sorted(cut)[:40])} are not whole: fetch it again"
        )
