"""Images in Parquet files as Hugging Face's hub has them: a column of encoded images and one of labels."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn.images.errors import DataError
from cnn.runtime.ranges import short

KEPT_GROUPS = 8  # groups of rows whose images are kept: a whole group is read for each image
LARGEST_GROUP = 2**29  # bytes of a group's images
USUAL = {"image": ("image", "img"), "label": ("label", "labels", "fine_label")}


class ParquetSource:
    """The examples of some Parquet files.

    Attributes:
      items: (number of the file, number of the group of rows, row in it) of each example.
      class_names: names of the classes as Hugging Face's metadata have them; () if there are none.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """Takes the files.

        Args:
          paths: their paths, in order.

        Raises:
          DataError: if one cannot be read, or has no such columns.
        """
        self._paths = list(paths)
        self._columns, self.class_names = _columns(self._paths[0])
        self._found: tuple[list[list[int]], np.ndarray] | None = None
        self._group = functools.lru_cache(maxsize=KEPT_GROUPS)(self._read_group)

    @property
    def items(self) -> list[list[int]]:
        """Where each image is."""
        return self._all()[0]

    def labels(self) -> np.ndarray:
        """The labels of all examples; no image is read.

        Returns:
          int32 [N].

        Raises:
          DataError: if a file cannot be read, or a label is none.
        """
        return self._all()[1]

    def read(self, items: Sequence[Sequence[int]]) -> list[bytes]:
        """Reads images as they are stored.

        Args:
          items: where they are.

        Returns:
          Their bytes.

        Raises:
          DataError: if a file cannot be read any more, or an image lies outside of it.
        """
        return [self._image(*item) for item in items]

    def examples(self, start: int, stop: int) -> tuple[list[bytes], list[int]]:
        """Reads examples that follow each other.

        Args:
          start, stop: the first one's number, and that of the first one that is not read.

        Returns:
          The bytes of their images, and their labels.

        Raises:
          DataError: as `read`.
        """
        return self.read(self.items[start:stop]), self.labels()[start:stop].tolist()

    def name(self, item: Sequence[int]) -> str:
        """What an example is called in errors.

        Args:
          item: where it is.

        Returns:
          The file and the row.
        """
        return f"{self._paths[item[0]]}: row {item[2]} of group {item[1]}"

    def _all(self) -> tuple[list[list[int]], np.ndarray]:
        if self._found is None:
            items, labels = [], [np.empty(0, np.int64)]
            for number, path in enumerate(self._paths):
                columns, names = _columns(path)
                if columns != self._columns:
                    raise DataError(f"{path} has other columns than {self._paths[0]}")
                if names != self.class_names:
                    raise DataError(
                        f"{path} has other names of classes than {self._paths[0]}: {short(names)} and "
                        f"{short(self.class_names)}"
                    )
                file = _open(path)
                for group in range(file.num_row_groups):
                    found = _read(path, file, group, self._columns[1])
                    labels.append(self._labels_of(number, group, found))
                    items += [[number, group, row] for row in range(len(found))]
            self._found = items, np.concatenate(labels).astype(np.int32)
        return self._found

    def _labels_of(self, number: int, group: int, found: Any) -> np.ndarray:
        """The labels of a group of rows, int64; a label that is none is named."""
        values = found.to_pylist()
        wrong = [i for i, value in enumerate(values) if value is None or not -1 <= value < 2**31]
        if wrong:
            where, value = self.name((number, group, wrong[0])), values[wrong[0]]
            said = "no label" if value is None else f"the label {value}"
            raise DataError(f"{where} has {said} in column {self._columns[1]!r}")
        return np.array(values, np.int64)

    def _image(self, number: int, group: int, row: int) -> bytes:
        images = self._group(number, group)
        value = images[row].as_py() if row < len(images) else None
        if not isinstance(value, bytes):
            raise DataError(
                f"{self.name((number, group, row))} has no image in it; pictures in other files are not read"
            )
        return value

    def _read_group(self, number: int, group: int) -> Any:
        """The images of a group of rows, as an array of Arrow."""
        path = self._paths[number]
        file = _open(path)
        if group >= file.num_row_groups:
            raise DataError(f"{path} has fewer groups of rows than it had")
        size = file.metadata.row_group(group).total_byte_size
        if size > LARGEST_GROUP:
            raise DataError(
                f"{path}: its groups of rows have {size / 2**20:,.0f} MiB, and a whole one is read for an image; write "
                "it with groups of a hundred rows (row_group_size=100), or as tar files"
            )
        found = _read(path, file, group, self._columns[0])
        return found.field("bytes") if hasattr(found, "field") and found.type.num_fields else found


def _arrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise DataError("Parquet files need pyarrow: python -m pip install pyarrow") from None


def _open(path: str) -> Any:
    parquet = _arrow("pyarrow.parquet")
    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:  # Arrow's own errors are one of them
        raise DataError(f"{path} is no Parquet file, or is damaged: {error}") from error


def _read(path: str, file: Any, group: int, column: str) -> Any:
    """A column of a group of rows, in one piece."""
    try:
        return file.read_row_group(group, columns=[column]).column(0).combine_chunks()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged in its group of rows {group}, column {column!r}: {error}") from error


def _columns(path: str) -> tuple[tuple[str, str], tuple[str, ...]]:
    """The names of the columns of images and of labels, and of the classes."""
    pyarrow = _arrow("pyarrow")
    schema = _open(path).schema_arrow
    features: Any = {}
    with contextlib.suppress(ValueError, AttributeError):  # what others wrote there
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    kinds: dict[str, list[str]] = {"image": [], "label": []}
    for field in schema:
        inner = {one.name: one.type for one in field.type} if pyarrow.types.is_struct(field.type) else {}
        stored = inner.get("bytes", field.type)
        if pyarrow.types.is_binary(stored) or pyarrow.types.is_large_binary(stored):
            kinds["image"].append(field.name)
        elif pyarrow.types.is_integer(field.type):
            kinds["label"].append(field.name)
    chosen = []
    for what, names in kinds.items():
        usual = [name for name in USUAL[what] if name in names] or (names if len(names) == 1 else [])
        if not usual:
            there = ", ".join(f"{field.name} ({field.type})" for field in schema)
            holds = "bytes, or bytes and a path" if what == "image" else "whole numbers"
            raise DataError(
                f"{path}: no one column is the {what}; its columns are {there}, of which {', '.join(names) or 'none'} "
                f"could be; one called {USUAL[what][0]!r} is taken that holds {holds}"
            )
        chosen.append(usual[0])
    feature = features.get(chosen[1]) if isinstance(features, dict) else None
    names: Any = feature.get("names") if isinstance(feature, dict) else None
    known = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return (chosen[0], chosen[1]), tuple(names) if known else ()
