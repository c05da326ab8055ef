"""Sets in shards, as they are passed on today: WebDataset's tar files, and Parquet as Hugging Face's hub has it."""

from __future__ import annotations

import functools
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.data import decoded, record_splits, records
from cnn.data.arrays import MOST_UNNAMED
from cnn.data.parquet_files import ParquetSource
from cnn.data.readers import TEST_FRACTION, Splits, hold_out
from cnn.data.tar_files import TarSource
from cnn.data.wanted import Wanted
from cnn.images.errors import DataError
from cnn.runtime.ranges import short

ENDINGS = (".tar", ".parquet")
DEPTH = 8  # folders below each other that files are looked for in
NAMES_FILE = "classes.txt"  # beside tar files, which have no names of classes: one a line
_SPLITS = dict.fromkeys(("train", "training", "trainset"), "train")
_SPLITS |= dict.fromkeys(("val", "valid", "validation", "valset"), "validation")
_SPLITS |= dict.fromkeys(("test", "testing", "testset"), "test")
_WORD = re.compile(r"[a-z]+")
_COMPRESSED = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)


def read(
    directory: str,
    validation_fraction: float,
    image_size: int | None,
    wanted: Wanted | None = None,
    in_memory: str = "auto",
) -> Splits:
    """Reads a set of shards.

    A file belongs to the split that its name or its folder's says: train, val (valid, validation) or test. Where none
    is for test or validation, a fifth of each class is held out for test, the same in every run.

    Args:
      directory: folder of the files; those below it count too.
      validation_fraction, image_size, wanted, in_memory: as for `cnn.data.record_splits.read`.

    Returns:
      Splits of uint8 [N, H, W, C]; grey where a hundred images for training are, else RGB.

    Raises:
      DataError: if there are no shards, one is damaged, or their images cannot be read; names the file.
    """
    opened = open_set(directory)
    splits = record_splits.read("shards", opened, validation_fraction, image_size, wanted, in_memory)
    return splits._replace(remarks=opened.remarks)


def encoded(directory: str, validation_fraction: float, split: str) -> tuple[list[bytes], np.ndarray, tuple[str, ...]]:
    """One split with its images encoded as they are stored; `cnn.data.record_splits.encoded` says how.

    Args:
      directory: folder of the files.
      validation_fraction: fraction of train that is held out for validation.
      split: "validation" or "test".

    Returns:
      The encoded images, their labels (int32 [N]), and the class names.

    Raises:
      DataError: as `read`.
    """
    return record_splits.encoded(open_set(directory), validation_fraction, split)


def files_of(directory: str) -> list[str]:
    """The files of a set.

    Args:
      directory: their folder.

    Returns:
      Their paths, sorted; none if there are none.
    """
    found = [path for path in decoded.files_below(directory, DEPTH) if not os.path.basename(path).startswith(".")]
    return [path for path in found if path.lower().endswith(ENDINGS) or os.path.basename(path) == NAMES_FILE]


def open_set(directory: str) -> records.Opened:
    """Finds where each image of a set is, and its label.

    Args:
      directory: folder of the files.

    Returns:
      The set.

    Raises:
      DataError: as `read`.
    """
    of_split = _files_of_splits(directory)
    kinds = {os.path.splitext(path)[1].lower() for paths in of_split.values() for path in paths}
    if len(kinds) > 1:
        raise DataError(f"{directory} has both tar and Parquet files; keep the ones of one set in a folder")
    make: Any = TarSource if kinds == {".tar"} else ParquetSource
    sources: dict[str, Any] = {split: make(paths) for split, paths in of_split.items()}
    if not sources.get("train"):
        raise DataError(f"{directory}: no file is for training; names say which are, such as train-00000.tar")
    # The test split of ImageNet is there, but its labels are all -1.
    others = {split: source for split, source in sources.items() if split != "train"}
    unlabelled = [split for split, source in others.items() if source.labels().max(initial=-1) < 0]
    tests = [one for one in ("test", "validation") if one in sources and one not in unlabelled]
    fields = {"shards": directory, "held_out": not tests}
    if not tests:
        kept, held = hold_out(sources["train"].labels(), TEST_FRACTION)
        sources |= {"train": _Part(sources["train"], kept), "test": _Part(sources["train"], held)}
        tests = ["test"]
    used = ("train", *tests)
    names = _names(directory, {split: sources[split] for split in used})
    for split in used:
        _check(directory, split, sources[split], len(names))
    remarks = [f"no image of {split} has a label (all are -1), and it is not read" for split in unlabelled]
    remarks += _held_out(sources) if fields["held_out"] else []
    shape = records.shape_of(sources["train"])
    return records.Opened(sources, tests, shape, names, fields, tuple(remarks))


def open_again(**fields: Any) -> records.Records:
    """The records of a split, whose places are known.

    Args:
      **fields: as `Records.as_json` gives them.

    Returns:
      The records.
    """
    of_split = _files_of_splits(fields["shards"])
    # Where a fifth is held out for test, its images lie in the files for training.
    split = "train" if fields["held_out"] else fields["split"]
    paths = of_split.get(split)
    if not paths:
        raise DataError(f"{fields['shards']} has no file for {split} any more")
    make: Any = TarSource if paths[0].lower().endswith(".tar") else ParquetSource
    return records.Records(make(paths), **fields)


class _Part:
    """Some of the records of a source."""

    def __init__(self, whole: Any, rows: np.ndarray) -> None:
        self._whole, self._rows, self.class_names = whole, rows, getattr(whole, "class_names", ())
        self.items = [whole.items[i] for i in rows]

    @functools.cached_property
    def _labels(self) -> np.ndarray:
        return self._whole.labels()[self._rows]

    def labels(self) -> np.ndarray:
        return self._labels

    def read(self, items: Sequence[Any]) -> list[bytes]:
        return self._whole.read(items)

    def examples(self, start: int, stop: int) -> tuple[list[bytes], list[int]]:
        return self.read(self.items[start:stop]), self._labels[start:stop].tolist()

    def name(self, item: Any) -> str:
        return self._whole.name(item)


def _files_of_splits(directory: str) -> dict[str, list[str]]:
    """The files of each split that there is, sorted."""
    if not directory or not os.path.isdir(directory):
        raise DataError(
            f"data.name='shards' needs data.dir, the folder of the tar or Parquet files; {directory!r} is no folder"
        )
    packed = [path for path in decoded.files_below(directory, DEPTH) if _COMPRESSED.search(path)]
    if packed:
        raise DataError(f"{packed[0]} is compressed: nothing is found in it without unpacking all of it; decompress it")
    paths = [path for path in files_of(directory) if path.lower().endswith(ENDINGS)]
    if not paths:
        raise DataError(f"{directory} has no .tar and no .parquet file, in it or below it; data.dir names their folder")
    found: dict[str, list[str]] = {}
    for path in paths:
        inner = pathlib.Path(path).relative_to(directory)
        words = [word for part in reversed(inner.parts) for word in _WORD.findall(part.lower())]
        said = [_SPLITS[word] for word in words if word in _SPLITS]
        found.setdefault(said[0] if said else "", []).append(path)
    if "" in found and len(found) > 1:
        raise DataError(f"{found[''][0]}: its name does not say whether it is for train, val or test, and others' do")
    return {"train": found[""]} if "" in found else found


def _names(directory: str, sources: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the classes: those in the files, those of `NAMES_FILE`, or numbers."""
    inside = {split: tuple(getattr(source, "class_names", ())) for split, source in sources.items()}
    if len(set(inside.values())) > 1:
        said = "; ".join(f"{split}: {short(list(names))}" for split, names in inside.items())
        raise DataError(f"{directory}: its splits have different names of classes, or some have none: {said}")
    names, path = inside["train"], os.path.join(directory, NAMES_FILE)
    beside = [file for file in files_of(directory) if os.path.basename(file) == NAMES_FILE]
    if not names and beside:
        path = beside[0]
        names = _lines(path)
    if not names:
        return tuple(map(str, range(1 + max(_largest(source) for source in sources.values()))))
    twice = next((name for i, name in enumerate(names) if not name or name in names[:i]), None)
    if twice is not None:
        raise DataError(f"{path if beside else directory}: class {twice!r} is there twice, or has no name")
    return names


def _lines(path: str) -> tuple[str, ...]:
    """The lines of a file of names, the first for label 0; empty ones at the end do not count."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8, a name on each line: {error}") from error
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path} has no names; it should have that of each class on a line, or be removed")
    return tuple(lines)


def _largest(source: Any) -> int:
    """The largest label, where there are few enough classes for them to have no names."""
    labels = source.labels()
    most = int(labels.max(initial=0))
    if most >= MOST_UNNAMED:
        raise DataError(
            f"{source.name(source.items[int(labels.argmax())])} has the label {most:,}; without names there may be "
            f"{MOST_UNNAMED:,} classes, numbered from 0"
        )
    return most


def _check(directory: str, split: str, source: Any, classes: int) -> None:
    labels = source.labels()
    if not len(labels):
        raise DataError(
            f"{directory}: no image is for {split}; a fifth of each class is held out where no file is for test, but "
            "never the last one of a class"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{source.name(source.items[first])} has the label {labels[first]}, and there are {classes} classes, "
            "numbered from 0"
        )


def _held_out(sources: Mapping[str, Any]) -> list[str]:
    held, total = len(sources["test"].items), len(sources["test"].items) + len(sources["train"].items)
    return [
        f"its files have no test and no validation split with labels: {held:,} of its {total:,} images, "
        f"{TEST_FRACTION:.0%} of each class, are held out for test, the same ones in every run"
    ]
