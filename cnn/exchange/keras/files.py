"""Keras files as a description and arrays, by JSON and `keras_hdf5`; Keras itself would run code that they hold."""

import importlib.util
import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.files import JSON_LIMIT_BYTES, kind_of, parse_json, read_json
from cnn.exchange.keras import hdf5 as keras_hdf5

Arrays = Mapping[str, np.ndarray | None]  # of one layer, in order; None: no floating numbers


class KerasFile:
    """What a Keras file holds.

    Attributes:
      config: the description of the model, {"class_name", "config", ...}.
      major: 2 or 3, the version of Keras that wrote it.
      arrays: the arrays of each layer, by the layer's name; keys "0", "1", ... where the file has no names for them.
    """

    def __init__(self, config: Mapping[str, Any], major: int, arrays: Mapping[str, Arrays]) -> None:
        """Holds what was read."""
        self.config, self.major, self.arrays = config, major, arrays


def read(path: str, structure: str | None) -> KerasFile:
    """Reads a .keras, .h5 or .weights.h5 file.

    Args:
      path: the file of the weights.
      structure: the JSON of the architecture; None: it stands in the file.

    Returns:
      What it holds.

    Raises:
      ExchangeError: if it cannot be read, has no description and none is named, or holds what is no plain array of
        floating numbers of its own.
    """
    kind = kind_of(path)
    try:
        if kind == "keras":
            return _read_zip(path, structure)
        if kind != "hdf5":
            raise ExchangeError(f"{path} is of the kind {kind!r}, and no Keras file")
        return _read_hdf5(path, None, structure, None)
    except OSError as error:
        raise ExchangeError(f"{path} cannot be read: {_one_line(error)}") from None


def _read_zip(path: str, structure: str | None) -> KerasFile:
    """Reads a .keras archive."""
    try:
        with zipfile.ZipFile(os.path.expanduser(path)) as archive:
            size = os.path.getsize(os.path.expanduser(path))
            config = parse_json(_member(path, archive, "config.json", JSON_LIMIT_BYTES), f"{path}: config.json")
            version = "3"
            if "metadata.json" in archive.namelist():
                text = _member(path, archive, "metadata.json", JSON_LIMIT_BYTES)
                metadata = parse_json(text, f"{path}: metadata.json")
                version = str(metadata.get("keras_version", "3")) if isinstance(metadata, Mapping) else "3"
            weights = _member(
                path, archive, "model.weights.h5", keras_hdf5.EXPANSION * size + keras_hdf5.EXPANSION_BYTES
            )
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        zlib.error,
    ) as error:
        if isinstance(error, ExchangeError):
            raise
        raise ExchangeError(
            f"{path} is a damaged or truncated zip archive: {_one_line(error)}; fetch it again"
        ) from None
    config = read_json(structure) if structure else config
    return _read_hdf5(path, weights, None, (config, _major(version)))


def _member(path: str, archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """One member of an archive, of at most `limit` bytes."""
    declared = archive.getinfo(name).file_size
    if declared <= limit:
        with archive.open(name) as file:
            found = file.read(limit + 1)
        if len(found) <= limit:
            return found
    raise ExchangeError(f"{path}: {name} unpacks to {declared:,} bytes; at most {limit:,} are read")


def _read_hdf5(path: str, content: bytes | None, structure: str | None, described: tuple[Any, int] | None) -> KerasFile:
    """Reads an HDF5 file; `described` is the description and version that stand elsewhere."""
    if not importlib.util.find_spec("h5py"):
        raise ExchangeError("reading Keras files needs h5py: python -m pip install h5py")
    try:
        header, arrays = keras_hdf5.read(path, content)
    except keras_hdf5.Refused as error:
        raise ExchangeError(f"{path}: {' '.join(str(error).split())[:500]}") from None
    if described is None:
        version = header["version"]
        if structure:
            config = read_json(structure)
        elif header["config"] is None:
            raise ExchangeError(
                f"{path} holds weights without a description of their net; name the JSON of its architecture "
                "(structure=), which model.to_json() writes"
            )
        else:
            config = parse_json(header["config"], f"{path}: model_config")
        if not version and isinstance(config, Mapping):
            version = str(config.get("keras_version", ""))
        described = config, _major(version)
    config, major = described
    if not isinstance(config, Mapping) or "class_name" not in config or "config" not in config:
        raise ExchangeError(f"{structure or path}: is no description of a Keras model (class_name, config)")
    return KerasFile(config, major, _by_layer(path, config, header, arrays))


def _major(version: str) -> int:
    return 2 if re.match(r"[012](\.|$)", version) else 3


def _by_layer(
    path: str, model: Mapping[str, Any], header: Mapping[str, Any], arrays: Sequence[np.ndarray | None]
) -> dict[str, Arrays]:
    """Arrays by the name of their layer."""
    found: dict[str, dict[str, np.ndarray | None]] = {}
    places: dict[str, list[str]] = {}
    models = {_name(layer) for layer in _layers_of(model) if _layers_of(layer)}
    for (groups, own, part), array in zip(header["entries"], arrays, strict=True):
        if header["legacy"]:
            # In the group of a model within the model, the layer is the last part but one.
            parts = [piece for piece in own.split("/") if piece]
            name = parts[-2] if len(parts) > 1 and groups[0] in models else groups[0]
        else:
            name = own or _name_at(model, groups)
            if places.setdefault(name, groups) != groups:
                raise ExchangeError(f"{path}: two layers are named {name!r}; give each its own name")
        found.setdefault(name, {})[part] = array
    return dict(found)


def _name_at(model: Mapping[str, Any], groups: Sequence[str]) -> str:
    """The name of the layer whose group is at a place, of files that do not write it there."""
    for key in groups:
        model = _keys(_layers_of(model)).get(key, {})
    return _name(model) or groups[-1]


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _layers_of(model: Mapping[str, Any]) -> Sequence[Any]:
    config = model.get("config")
    layers = config if isinstance(config, list) else config.get("layers") if isinstance(config, Mapping) else None
    return [layer for layer in layers if isinstance(layer, Mapping)] if isinstance(layers, list) else []


def _name(layer: Mapping[str, Any]) -> str:
    config = layer.get("config")
    return str((config.get("name") if isinstance(config, Mapping) else None) or layer.get("name") or "")


def _keys(layers: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The group of each layer: its class in lower case with underscores, and a number from the second on."""
    counts: dict[str, int] = {}
    found = {}
    for layer in layers:
        stem = re.sub(r"\W+", "", str(layer.get("class_name", "")))
        stem = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", stem)
        stem = re.sub("([a-z])([A-Z])", r"\1_\2", stem).lower()
        count = counts.get(stem, 0)
        counts[stem] = count + 1
        found[f"{stem}_{count}" if count else stem] = layer
    return found
