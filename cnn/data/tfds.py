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
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn.data import decoded, record_splits, records
from cnn.data.readers import NAMES, Splits
from cnn.data.wanted import Wanted
from cnn.images.errors import DataError


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
      validation_fraction, image_size, wanted, in_memory: as for `cnn.data.record_splits.read`.

    Returns:
      Splits of uint8 [N, H, W, C].

    Raises:
      DataError: an unknown name, a set that cannot be prepared, is not for image classification, has no test
        split, has images of many sizes (and no image_size is given), or is too large.
    """
    return record_splits.read(name, _open(name, directory), validation_fraction, image_size, wanted, in_memory)


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
    return record_splits.encoded(_open(name, directory), validation_fraction, split)


class Source:
    """The records of one split, as TFDS opens them: a `cnn.data.records.Source`.

    Attributes:
      items: the numbers of the records.
    """

    def __init__(self, source: Any, image_key: str, label_key: str) -> None:
        """Takes a split that is open.

        Args:
          source: its records.
          image_key, label_key: the names of the image and of the label in a record.
        """
        self._source, self._image, self._label = source, image_key, label_key
        self.items = range(len(source))

    def labels(self) -> np.ndarray:
        """The labels of all records, int32 [N]; no image is decoded."""
        found: list[int] = []
        for start in range(0, len(self.items), records.READ_BLOCK):
            block = self.items[start : start + records.READ_BLOCK]
            found += [int(record[self._label]) for record in self._source.__getitems__(block)]
        return np.array(found, np.int32)

    def read(self, items: Sequence[int]) -> list[bytes]:
        """The encoded images of some records."""
        if len(items) == 1:
            return [self._source[items[0]][self._image]]
        return [record[self._image] for record in self._source.__getitems__(list(items))]

    def examples(self, start: int, stop: int) -> tuple[list[bytes], list[int]]:
        """The encoded images and the labels of records that follow each other."""
        found = self._source.__getitems__(range(start, stop))
        return [record[self._image] for record in found], [int(record[self._label]) for record in found]

    def name(self, item: int) -> str:
        """What a record is called in errors."""
        return f"record {item} of {self._source}"


def _open(name: str, directory: str) -> records.Opened:
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
    opened = {split: Source(source, image_key, label_key) for split, source in sources.items()}
    return records.Opened(opened, tests, features[image_key].shape, class_names, {"set": name, "dir": directory})


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


def open_again(**fields: Any) -> records.Records:
    """The records of a split, opened again.

    Args:
      **fields: as `Records.as_json` gives them.

    Returns:
      The records.

    Raises:
      DataError: if the set is gone.
    """
    return records.Records(_opened(fields["set"], fields["dir"]).sources[fields["split"]], **fields)


@functools.lru_cache(maxsize=2)  # of the splits of one set, and of the set before
def _opened(name: str, directory: str) -> records.Opened:
    return _open(name, directory)


def image_and_label(name: str, info: Any) -> tuple[str, str]:
    """Finds the image and the class label: the supervised pair, else features of those names, else the only ones.

    Args:
      name: name of the set, for errors.
      info: its `tfds.core.DatasetInfo`.

    Returns:
      The names of the image feature and of the label feature.

    Raises:
      DataError: if there is no such pair.
    """
    import tensorflow_datasets as tfds

    # np_dtype, because .dtype would import TensorFlow.
    kinds: dict[type, list[str]] = {tfds.features.Image: [], tfds.features.ClassLabel: []}
    for key, feature in info.features.items():
        if type(feature) in kinds and feature.np_dtype in (np.uint8, np.int64):
            kinds[type(feature)].append(key)
    found = []
    for place, (keys, usual) in enumerate(zip(kinds.values(), ("image", "label"), strict=True)):
        named = [*(info.supervised_keys or ())[place : place + 1], usual]
        found += [key for key in [*named, *(keys if len(keys) == 1 else [])] if key in keys][:1]
    if len(found) != 2:
        raise DataError(
            f"data.name={name!r} is no image-classification set with one uint8 image and one class label; "
            f"its features are {', '.join(f'{key}: {type(f).__name__}' for key, f in info.features.items())}"
        )
    return found[0], found[1]
