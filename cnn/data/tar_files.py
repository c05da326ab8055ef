"""Images in tar files as WebDataset writes them: files of one name and other endings are one example."""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnn.images.errors import DataError

IMAGES = ("jpg", "jpeg", "png", "webp", "ppm", "bmp", "gif", "tif", "tiff")
LABELS = ("cls", "json")  # a number as text, or an object with one of `FIELDS`
FIELDS = ("label", "cls")
MOST_LABEL = 2**20  # bytes of a file that has a label
_RECORD = 512  # bytes of a header, and of the mark of the end, which is zeros


class TarSource:
    """The examples of some tar files; nothing is unpacked.

    Attributes:
      items: (number of the file, first byte of the image, number of bytes) of each example.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """Takes the files.

        Args:
          paths: their paths, in order.
        """
        self._paths = list(paths)
        self._items: list[list[int]] | None = None
        self._labels: list[int] = []

    @property
    def items(self) -> list[list[int]]:
        """Where each image is; the files are gone through once, by the headers of what is in them."""
        if self._items is None:
            self._items = []
            for number, path in enumerate(self._paths):
                for offset, size, label in _examples(path):
                    self._items.append([number, offset, size])
                    self._labels.append(label)
        return self._items

    def labels(self) -> np.ndarray:
        """The labels of all examples.

        Returns:
          int32 [N].

        Raises:
          DataError: if a file is damaged or cut, or an example has no image or no label.
        """
        return np.array(self._labels if self.items else [], np.int32)

    def read(self, items: Sequence[Sequence[int]]) -> list[bytes]:
        """Reads images as they are stored.

        Args:
          items: where they are.

        Returns:
          Their bytes.

        Raises:
          DataError: if a file is gone or shorter than it was.
        """
        return [self._read(*item) for item in items]

    def examples(self, start: int, stop: int) -> tuple[list[bytes], list[int]]:
        """Reads examples that follow each other.

        Args:
          start, stop: the first one's number, and that of the first one that is not read.

        Returns:
          The bytes of their images, and their labels.

        Raises:
          DataError: as `read`.
        """
        return self.read(self.items[start:stop]), self._labels[start:stop]

    def name(self, item: Sequence[int]) -> str:
        """What an example is called in errors.

        Args:
          item: where it is.

        Returns:
          The file, and the name that the image has in it or, if the file is another one now, its place.
        """
        path = self._paths[item[0]] if item[0] < len(self._paths) else f"tar file {item[0] + 1}"
        with contextlib.suppress(OSError, tarfile.TarError), tarfile.open(path, "r:") as file:
            for member in file:  # names are not kept: they are many, and asked for when something is wrong
                if member.offset_data == item[1]:
                    return f"{path}: {member.name}"
        return f"{path}: the image at byte {item[1]:,}"

    def _read(self, number: int, offset: int, size: int) -> bytes:
        try:
            with open(self._paths[number], "rb") as file:
                file.seek(offset)
                found = file.read(size)
        except IndexError:
            raise DataError(f"tar file {number + 1} is gone: there are {len(self._paths)} now") from None
        except OSError as error:
            raise DataError(f"{self._paths[number]} cannot be read any more: {error.strerror or error}") from error
        if len(found) < size:
            raise DataError(f"{self._paths[number]} is shorter than it was: it ends before byte {offset + size:,}")
        return found


def _examples(path: str) -> Iterator[tuple[int, int, int]]:
    """(first byte of the image, number of bytes, label) of each example of a file."""
    for key, parts in _samples(path):
        image = next((parts[ending] for ending in IMAGES if ending in parts), None)
        label = next((parts[ending] for ending in LABELS if ending in parts), None)
        if image is None or label is None:
            lacks = f"image ({', '.join(IMAGES)})" if image is None else f"label ({', '.join(LABELS)})"
            there = ", ".join(sorted(parts)[:5]) + (", ..." if len(parts) > 5 else "")
            raise DataError(
                f"{path}: example {key!r} has no {lacks}; it has {there}. A name ends at its first point, and the "
                "files of an example must follow each other (tar --sort=name)"
            )
        yield image[0], image[1], _label(path, key, "cls" if "cls" in parts else "json", label)


def _samples(path: str) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
    """The examples of a file: their names and, by ending, the place and the size of what they have."""
    last, parts = None, {}
    try:
        with tarfile.open(path, "r:") as file:
            for member in file:
                folder, _, name = member.name.rpartition("/")
                key, _, ending = name.partition(".")
                if not member.isreg() or not key or not ending:  # folders, and files that begin with a point
                    continue
                if member.issparse():
                    raise DataError(f"{path}: {member.name} is stored with holes (tar --sparse), which is not read")
                key, ending = f"{folder}/{key}" if folder else key, ending.lower()
                if key == last and ending in parts:
                    raise DataError(f"{path}: {member.name} is there twice")
                if key != last and parts:
                    yield str(last), parts
                    parts = {}
                last = key
                parts[ending] = (member.offset_data, member.size)
            end = file.offset
        _check_end(path, end)
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{path} is no uncompressed tar file, or is damaged: {error}") from error
    if parts:
        yield str(last), parts


def _check_end(path: str, end: int) -> None:
    """Refuses a file in which what follows the last file is not the mark of the end, or is not the end.

    tarfile passes over a header that is damaged or cut, and over everything after it.
    """
    size = os.path.getsize(path)
    if end > size:
        raise DataError(f"{path} is cut off: what is in it goes on to byte {end:,}, and it ends at byte {size:,}")
    with open(path, "rb") as file:
        file.seek(end)
        mark = file.read(_RECORD)
        if len(mark) < _RECORD or any(mark):
            raise DataError(f"{path} is damaged or cut off at byte {end:,}: no header and no mark of the end is there")
        while more := file.read(2**20):
            if any(more):
                raise DataError(
                    f"{path} goes on after its mark of the end at byte {end:,}; of tar files that were put one after "
                    "the other only the first would be read"
                )


def _label(path: str, key: str, ending: str, place: tuple[int, int]) -> int:
    """The label in a file within a tar file."""
    what = f"{path}: {key}.{ending}"
    if place[1] > MOST_LABEL:
        raise DataError(f"{what} has {place[1]:,} bytes, too many for a label")
    with open(path, "rb") as file:
        file.seek(place[0])
        text = file.read(place[1])
    try:
        value: Any = int(text) if ending == "cls" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} holds no label: {error}") from error
    if ending == "json":
        fields = value if isinstance(value, dict) else {}
        value = next((fields[name] for name in FIELDS if name in fields), None)
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value < 2**31:
        raise DataError(f"{what} must hold a whole number, the label; of an object, in {' or '.join(FIELDS)}")
    return value
