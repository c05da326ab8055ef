"""TFDS image-classification sets, read from array_record without TensorFlow.

Preparing a set needs TensorFlow: that is `cnn.prepare`, in a process of its own.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np

from cnn.data import decoded, limits
from cnn.data.readers import NAMES, Split, Splits, hold_out, take
from cnn.data.streamed import scan
from cnn.data.tfds_records import Records, image_and_label, image_shape
from cnn.data.wanted import Wanted
from cnn.images.errors import DataError

READ_BLOCK = 1000  # records read at once: one by one takes three times as long


def read(
    name: str,
    directory: str,
    validation_fraction: float,
    image_size: int | None,
    wanted: Wanted | None = None,
    in_memory: str = "auto",
) -> Splits:
    """Any TFDS image-classification set, read from array_record without TensorFlow.

    The test split is "test", or "validation" where there is none (or one without labels, as ImageNet's). A
    set with both keeps its own validation, and nothing is held out of its train. A set that is not prepared
    yet is prepared by `cnn.prepare` in a child process if TensorFlow is installed.

    Args:
      name: TFDS's name of the set: "mnist", "imagenette/160px-v2", "cifar10:3.0.2".
      directory: TFDS's data_dir; "" for $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      validation_fraction: fraction of train that is held out for validation.
      image_size: pixels; None keeps a set's own size. Images of another size are resized (shortest side) and
        centre-cropped.
      wanted: which images are decoded; None: all.
      in_memory: "yes", "no", which decodes each image once now to know it and again whenever it is used, or "auto", by
        how much memory all of them take.

    Returns:
      Splits of uint8 [N, H, W, C].

    Raises:
      DataError: an unknown name, a set that cannot be prepared, is not for image classification, has no test
        split, has images of many sizes (and no image_size is given), or is too large.
    """
    opened = _open(name, directory)
    tests = opened.tests
    own_validation = len(tests) == 2 and validation_fraction > 0
    used = ["train", *(tests if own_validation else tests[:1])]
    shape, resize = image_shape(name, opened.shape, image_size), image_size is not None
    of_split = {
        split: Records(
            opened.sources[split],
            set=name,
            dir=directory,
            split=split,
            key=opened.image_key,
            shape=shape,
            resize=resize,
        )
        for split in used
    }
    if wanted is None and not limits.streams(in_memory, sum(len(opened.sources[split]) for split in used), shape):
        splits = {split: _read_split(of_split[split], opened.label_key) for split in used}
        if own_validation:
            train, validation = splits["train"], splits["validation"]
        else:
            kept, held = hold_out(splits["train"].labels, validation_fraction)
            train, validation = take(splits["train"], kept), take(splits["train"], held)
        return Splits(train, validation, splits[tests[0]], opened.class_names)
    return _read_rows(opened, of_split, own_validation, validation_fraction, wanted, in_memory)


def _read_rows(
    opened: _Opened,
    of_split: dict[str, Records],
    own_validation: bool,
    validation_fraction: float,
    wanted: Wanted | None,
    in_memory: str,
) -> Splits:
    """The splits, of whose records the labels are read first, then the images that are wanted or what is known of them.

    Of one process without `wanted`, images stay in their records.
    """
    train, test = of_split["train"], of_split[opened.tests[0]]
    labels = {"train": _labels(train.source, opened.label_key), "test": _labels(test.source, opened.label_key)}
    if own_validation:
        parts = {"train": train, "validation": of_split["validation"], "test": test}
        labels["validation"] = _labels(parts["validation"].source, opened.label_key)
        rows = {name: np.arange(len(found)) for name, found in labels.items()}
    else:
        kept, held = hold_out(labels["train"], validation_fraction)
        parts = {"train": train, "validation": train, "test": test}
        rows = {"train": kept, "validation": held, "test": np.arange(len(labels["test"]))}
        labels |= {"train": labels["train"][kept], "validation": labels["train"][held]}
    everything = {name: (np.arange(len(found)),) * 2 for name, found in rows.items()}
    chosen = {name: wanted.of(name, labels[name]) for name in rows} if wanted else everything
    shape = (*train.size, train.channels)
    streams = wanted is None or limits.streams(in_memory, sum(len(own) for _, own in chosen.values()), shape)
    splits = {}
    for name, (kept, own) in chosen.items():
        if streams:
            images: Any = scan(rows[name][own].tolist(), parts[name], stops=True, examine=False).images
            images = images.within(rows[name][kept].tolist())
        else:
            images = _read_split(parts[name], opened.label_key, rows[name][own]).images
        splits[name] = Split(images, labels[name][kept])
    return Splits(splits["train"], splits["validation"], splits["test"], opened.class_names)


def _labels(source: Any, label_key: str) -> np.ndarray:
    """The labels of all records, int32 [N]; no image is decoded."""
    found = []
    for start in range(0, len(source), READ_BLOCK):
        records = source.__getitems__(range(start, min(start + READ_BLOCK, len(source))))
        found += [int(record[label_key]) for record in records]
    return np.array(found, np.int32)


def read_encoded(
    name: str, directory: str, validation_fraction: float, split: str
) -> tuple[list[bytes], np.ndarray, tuple[str, ...]]:
    """One split with its images encoded as they are stored, whole and of any sizes.

    Args:
      name: TFDS's name of the set.
      directory: TFDS's data_dir, as for `read`.
      validation_fraction: fraction of train that is held out for validation.
      split: "validation" or "test", meaning the same examples as in `read`.

    Returns:
      The encoded images, their labels (int32 [N]), and the class names.

    Raises:
      DataError: as `read`, but for images of many sizes.
    """
    opened = _open(name, directory)
    held_out = split == "validation" and not (len(opened.tests) == 2 and validation_fraction > 0)
    source = opened.sources["train" if held_out else opened.tests[split == "validation"]]
    encoded: list[bytes] = []
    labels: list[int] = []
    for start in range(0, len(source), READ_BLOCK):
        records = source.__getitems__(range(start, min(start + READ_BLOCK, len(source))))
        encoded += [record[opened.image_key] for record in records]
        labels += [int(record[opened.label_key]) for record in records]
    if held_out:
        held = hold_out(np.array(labels, np.int32), validation_fraction)[1]
        encoded, labels = [encoded[i] for i in held], [labels[i] for i in held]
    return encoded, np.array(labels, np.int32), opened.class_names


class _Opened(NamedTuple):
    """A prepared set: its splits as data sources, and where in a record the image and the label are."""

    sources: dict[str, Any]
    tests: list[str]  # labelled ones to report on, the best first; a second one is for validation
    image_key: str
    label_key: str
    shape: tuple[int | None, ...]
    class_names: tuple[str, ...]


def _open(name: str, directory: str) -> _Opened:
    builder = prepared_builder(name, directory)
    import tensorflow_datasets as tfds

    features, available = builder.info.features, builder.info.splits
    image_key, label_key = image_and_label(name, builder.info)
    # The images are decoded here: faster than by TFDS, and the same with and without OpenCV.
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    decoders = {key: tfds.decode.SkipDecoding() for key in images}
    sources = {split: builder.as_data_source(split=split, decoders=decoders) for split in available}
    # ImageNet's test split is there, but its labels are all -1.
    tests = [s for s in ("test", "validation") if sources.get(s) and sources[s][0][label_key] >= 0]
    if "train" not in sources or not tests:
        raise DataError(
            f"data.name={name!r} has the splits {sorted(sources)}; training needs a 'train' split and a "
            "labelled 'test' or 'validation' split to report on"
        )
    class_names = tuple(str(c) for c in features[label_key].names)
    return _Opened(sources, tests, image_key, label_key, features[image_key].shape, class_names)


def prepared_builder(name: str, directory: str) -> Any:
    """Opens a TFDS set that is prepared, or prepares it.

    Args:
      name: name of the set, with a config and version if wanted.
      directory: folder of prepared sets; empty: that of TFDS_DATA_DIR, or TFDS's own.

    Returns:
      Its `tfds.core.DatasetBuilder`.

    Raises:
      DataError: if there is no such set, or it cannot be prepared.
    """
    import tensorflow_datasets as tfds

    directory = _directory(directory)
    try:
        builder = tfds.builder(name, data_dir=directory)
        if not builder.is_prepared():
            _prepare(name, directory)
            builder = tfds.builder(name, data_dir=directory)
    except DataError:
        raise
    except Exception as error:  # TFDS raises ValueError, AssertionError, ImportError, FileNotFoundError, ...
        known = tfds.list_builders(with_community_datasets=False)
        base = re.split("[/:]", name)[0]
        if base in known:
            raise DataError(f"data.name={name!r}: {error}") from error
        near = difflib.get_close_matches(base.lower().replace("-", "_"), [*NAMES, *known])
        raise DataError(
            f"data.name={name!r} is no known data set; near names: {', '.join(near) or 'none'}. There are "
            f"{', '.join(NAMES)}, the image-classification sets of tensorflow_datasets, NumPy archives (my_data.npz) "
            "and functions of your own (my_data.py:load)"
        ) from error
    file_format = getattr(builder.info.file_format, "value", None)
    if file_format not in ("array_record", "parquet"):
        raise DataError(
            f"data.name={name!r} is prepared in {directory} as {file_format}, which cannot be "
            "read without TensorFlow; prepare it again in another directory, as array_record: "
            f"python -m cnn.prepare {name} --data_dir=DIR"
        )
    return builder


def _directory(directory: str) -> str:
    """The folder of prepared sets."""
    directory = directory or os.environ.get("TFDS_DATA_DIR") or os.path.join("~", "tensorflow_datasets")
    return os.path.abspath(os.path.expanduser(directory))


def files_of(name: str, directory: str) -> list[str]:
    """The files of a prepared set, all configs and versions of it, found without importing TFDS.

    Args:
      name: TFDS's name of the set.
      directory: folder of prepared sets, as for `read`.

    Returns:
      Their paths, sorted; none if it is not prepared.
    """
    return decoded.files_below(os.path.join(_directory(directory), re.split("[/:]", name)[0]), depth=3)


def _prepare(name: str, directory: str) -> None:
    """Prepares a set in a child process, so that TensorFlow is never imported in this one."""
    command = f"python -m cnn.prepare {name} --data_dir={directory}"
    if importlib.util.find_spec("tensorflow") is None:
        raise DataError(
            f"data.name={name!r} is not prepared in {directory}, and preparing it needs TensorFlow (training "
            'does not). These two commands will (where cnn is installed as a package, its extra "prepare" in place of '
            f"the first):\n  python -m pip install -r requirements-tfds.txt\n  {command}"
        )
    print(f"{name} is not prepared in {directory}: running {command}", file=sys.stderr, flush=True)
    child = [sys.executable, "-m", "cnn.prepare", name, f"--data_dir={directory}"]
    code = subprocess.run(child, cwd=pathlib.Path(__file__).parents[2], check=False).returncode
    if code != 0:
        raise DataError(f"data.name={name!r} was not prepared: {command} ended with code {code}; see above for why")


def _read_split(records: Records, label_key: str, rows: np.ndarray | None = None) -> Split:
    """Images and labels of the records that `rows` numbers, or of all."""
    numbers = np.arange(len(records.source)) if rows is None else rows
    images = np.empty((len(numbers), *records.size, records.channels), np.uint8)
    labels = np.empty(len(numbers), np.int32)
    for start in range(0, len(numbers), READ_BLOCK):
        found = records.source.__getitems__(numbers[start : start + READ_BLOCK].tolist())
        for place, record in enumerate(found, start):
            images[place] = records.pixels(record, int(numbers[place]))
            labels[place] = record[label_key]
    return Split(images, labels)


def records(**fields: Any) -> Records:
    """The records of a split, opened again.

    Args:
      **fields: as `Records.as_json` gives them.

    Returns:
      The records.

    Raises:
      DataError: if the set is gone.
    """
    return Records(_opened(fields["set"], fields["dir"]).sources[fields["split"]], **fields)


@functools.lru_cache(maxsize=2)  # of the splits of one set, and of the set before
def _opened(name: str, directory: str) -> _Opened:
    return _open(name, directory)
