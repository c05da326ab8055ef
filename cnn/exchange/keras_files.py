"""Keras files as a description and arrays: JSON and guarded HDF5; Keras itself would run code that they hold."""

import contextlib
import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.files import JSON_LIMIT_BYTES, kind_of, parse_json, read_json

DEEPEST, MOST_GROUPS, MOST_NAMES = 24, 20_000, 20_000
EXPANSION, EXPANSION_BYTES = 50, 2**26  # arrays may have so many times the bytes of their file, and so many more
FILTERS = (1, 2, 3, 4, 5, 6)  # HDF5's own: deflate, shuffle, fletcher32, szip, nbit, scaleoffset; others are plug-ins

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
        with open(os.path.expanduser(path), "rb") as file:
            return _read_hdf5(path, file, os.path.getsize(os.path.expanduser(path)), structure, None)
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
            weights = _member(path, archive, "model.weights.h5", EXPANSION * size + EXPANSION_BYTES)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        _zlib_error(),
    ) as error:
        if isinstance(error, ExchangeError):
            raise
        raise ExchangeError(
            f"{path} is a damaged or truncated zip archive: {_one_line(error)}; fetch it again"
        ) from None
    config = read_json(structure) if structure else config
    return _read_hdf5(path, io.BytesIO(weights), len(weights), None, (config, _major(version)))


def _zlib_error() -> type[Exception]:
    import zlib

    return zlib.error


def _member(path: str, archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """One member of an archive, of at most `limit` bytes."""
    declared = archive.getinfo(name).file_size
    if declared <= limit:
        with archive.open(name) as file:
            found = file.read(limit + 1)
        if len(found) <= limit:
            return found
    raise ExchangeError(f"{path}: {name} unpacks to {declared:,} bytes; at most {limit:,} are read")


def _read_hdf5(path: str, file: Any, size: int, structure: str | None, described: tuple[Any, int] | None) -> KerasFile:
    """Reads an HDF5 file; `described` is the description and version that stand elsewhere."""
    h5py = _h5py()
    with _as_errors(path), h5py.File(file, "r") as root:
        guard = _Guard(path, h5py, size)
        if described is None:
            version = _text(guard.attribute(root, "keras_version"))
            text = guard.attribute(root, "model_config")
            if structure:
                config = read_json(structure)
            elif text is None:
                raise ExchangeError(
                    f"{path} holds weights without a description of their net; name the JSON of its "
                    "architecture (structure=), which model.to_json() writes"
                )
            else:
                config = parse_json(_text(text), f"{path}: model_config")
            if not version and isinstance(config, Mapping):
                version = str(config.get("keras_version", ""))
            described = config, _major(version)
        config, major = described
        if not isinstance(config, Mapping) or "class_name" not in config or "config" not in config:
            raise ExchangeError(f"{structure or path}: is no description of a Keras model (class_name, config)")
        legacy = guard.group(root, "model_weights") or (root if "layer_names" in root.attrs else None)
        found = _legacy(guard, legacy, config) if legacy is not None else _container(guard, root, config)
        return KerasFile(config, major, found)


def _major(version: str) -> int:
    return 2 if re.match(r"[012](\.|$)", version) else 3


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ExchangeError(f"reading Keras files needs h5py: python -m pip install h5py ({error})") from None
    return h5py


@contextlib.contextmanager
def _as_errors(path: str) -> Iterator[None]:
    """What h5py raises for damaged bytes, as one line."""
    try:
        yield
    except ExchangeError:
        raise
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
        IndexError,
        UnicodeError,
    ) as error:
        raise ExchangeError(f"{path} is a damaged HDF5 file: {_one_line(error)}; fetch it again") from None


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return "" if value is None else str(value)


class _Guard:
    """Access to an HDF5 file that follows hard links alone, and reads arrays that lie in the file itself."""

    def __init__(self, path: str, h5py: Any, size: int) -> None:
        self.path, self._h5py = path, h5py
        self._left, self._groups = EXPANSION * size + EXPANSION_BYTES, MOST_GROUPS

    def item(self, group: Any, name: str) -> Any:
        """What a group holds under a name (one part of a path); None if nothing."""
        link = group.get(name, getlink=True) if name in group.keys() else None  # noqa: SIM118  the test on a group follows links
        if link is None:
            return None
        if not isinstance(link, self._h5py.HardLink):
            raise ExchangeError(
                f"{self.path}: {group.name}/{name} is a {type(link).__name__} to another place, which is "
                "not followed; write the file without links"
            )
        return group[name]

    def group(self, group: Any, name: str) -> Any:
        """The group under a name; None if there is none."""
        self._groups -= 1
        if self._groups < 0:
            raise ExchangeError(f"{self.path}: has more than {MOST_GROUPS:,} groups")
        found = self.item(group, name)
        return found if isinstance(found, self._h5py.Group) else None

    def names(self, group: Any) -> list[str]:
        """Names in a group."""
        if len(group) > MOST_NAMES:
            raise ExchangeError(
                f"{self.path}: {group.name} holds {len(group):,} entries; at most {MOST_NAMES:,} are read"
            )
        return list(group.keys())

    def attribute(self, group: Any, name: str) -> Any:
        """An attribute; None if there is none."""
        if name not in group.attrs:
            return None
        entry = group.attrs.get_id(name)
        if int(np.prod(entry.shape, dtype=np.float64)) > MOST_NAMES or entry.dtype.itemsize > JSON_LIMIT_BYTES:
            raise ExchangeError(f"{self.path}: the attribute {name} of {group.name} is too large")
        return group.attrs[name]

    def array(self, dataset: Any) -> np.ndarray | None:
        """A dataset's numbers; None if they are not floating."""
        where = f"{self.path}: {dataset.name}"
        if not isinstance(dataset, self._h5py.Dataset):
            raise ExchangeError(f"{where} is no array")
        if dataset.external is not None or dataset.is_virtual:
            raise ExchangeError(
                f"{where} takes its numbers from other files, which are not read; write them into one file"
            )
        if dataset.shape is None or dataset.dtype.kind != "f" or dataset.dtype.itemsize not in (2, 4, 8):
            return None
        properties = dataset.id.get_create_plist()
        for index in range(properties.get_nfilters()):
            if properties.get_filter(index)[0] not in FILTERS:
                raise ExchangeError(f"{where} is compressed by a plug-in of HDF5; write it with gzip or without")
        if dataset.chunks and np.prod(dataset.chunks, dtype=np.float64) * dataset.dtype.itemsize > self._left:
            raise ExchangeError(f"{where} declares chunks {dataset.chunks}, far more than the file has bytes")
        self._left -= int(np.prod(dataset.shape, dtype=np.float64)) * dataset.dtype.itemsize
        if self._left < 0:
            raise ExchangeError(f"{where} declares {dataset.shape}, far more numbers than the file has bytes for")
        return dataset[()]


def _legacy(guard: _Guard, root: Any, model: Mapping[str, Any]) -> dict[str, Arrays]:
    """Weights of a legacy .h5: a group for each layer of the model, with a list of names."""
    found: dict[str, Any] = {}
    models = {_name(layer) for layer in _layers_of(model) if _layers_of(layer)}
    for layer in guard.names(root):
        group = guard.group(root, layer)
        if group is None:
            continue
        for name in _name_list(guard, group):
            parts = [part for part in name.split("/") if part]
            place = group
            for part in parts[:-1]:
                place = guard.group(place, part)
                if place is None:
                    break
            dataset = None if place is None or not parts else guard.item(place, parts[-1])
            if dataset is None:
                raise ExchangeError(f"{guard.path}: {group.name} lists {name!r}, which is not there")
            # In the group of a model within the model, the layer is the last part but one.
            owner = parts[-2] if len(parts) > 1 and layer in models else layer
            found.setdefault(owner, {})[re.sub(r":\d+$", "", parts[-1])] = guard.array(dataset)
    return found


def _name_list(guard: _Guard, group: Any) -> list[str]:
    """The attribute weight_names, which is written in parts where it is long."""
    names = guard.attribute(group, "weight_names")
    values = [] if names is None else list(np.atleast_1d(names))
    for index in range(MOST_NAMES if names is None else 0):
        part = guard.attribute(group, f"weight_names{index}")
        if part is None:
            break
        values += list(np.atleast_1d(part))
    return [_text(value) for value in values]


def _container(guard: _Guard, group: Any, model: Mapping[str, Any], depth: int = 0) -> dict[str, Arrays]:
    """Weights of a .weights.h5: a group for each layer, named by its class; its own name is an attribute."""
    if depth > DEEPEST:
        raise ExchangeError(f"{guard.path}: models lie in one another more than {DEEPEST} deep")
    found: dict[str, Arrays] = {}
    inside = guard.group(group, "layers") or guard.group(group, "_layer_checkpoint_dependencies")
    if inside is None:
        if depth:
            return {}
        raise ExchangeError(f"{guard.path}: has neither model_weights nor layers, and is no file of Keras weights")
    by_key = _keys(_layers_of(model))
    for key in guard.names(inside):
        layer, own = guard.group(inside, key), by_key.get(key)
        if layer is None:
            continue
        inner = _container(guard, layer, own, depth + 1) if own and "layers" in (own.get("config") or {}) else {}
        for name in set(inner) & set(found):
            raise ExchangeError(f"{guard.path}: two layers are named {name!r}; give each its own name")
        found.update(inner)
        variables = guard.group(layer, "vars")
        if variables is None:
            continue
        name = _text(guard.attribute(variables, "name")) or (_name(own) if own else key)
        order = sorted(guard.names(variables), key=lambda text: (len(text), text))
        arrays = {index: guard.array(guard.item(variables, index)) for index in order}
        if arrays:
            if name in found:
                raise ExchangeError(f"{guard.path}: two layers are named {name!r}; give each its own name")
            found[name] = arrays
    return found


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
