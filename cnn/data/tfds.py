"""TFDS image-classification sets, read from array_record without TensorFlow.

Preparing a set needs TensorFlow: that is `cnn.prepare`, in a process of its own.
"""

from __future__ import annotations

import difflib
import importlib.util
import io
import os
import pathlib
import re
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np

from cnn.data import decoded
from cnn.data.image_files import resize_and_crop
from cnn.data.limits import check_memory
from cnn.data.readers import NAMES, Split, Splits, hold_out, take
from cnn.data.wanted import Wanted
from cnn.images.errors import DataError
from cnn.images.pictures import MODES, decode

READ_BLOCK = 1000  # records read at once: one by one takes three times as long


def read(
    name: str, directory: str, validation_fraction: float, image_size: int | None, wanted: Wanted | None = None
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

    Returns:
      Splits of uint8 [N, H, W, C].

    Raises:
      DataError: an unknown name, a set that cannot be prepared, is not for image classification, has no test
        split, has images of many sizes (and no image_size is given), or is too large.
    """
    opened = _open(name, directory)
    tests, keys = opened.tests, (opened.image_key, opened.label_key)
    own_validation = len(tests) == 2 and validation_fraction > 0
    used = ["train", *(tests if own_validation else tests[:1])]
    shape = _image_shape(name, opened.shape, image_size)
    resize = image_size is not None
    if wanted:
        return _read_wanted(opened, tests, own_validation, validation_fraction, shape, resize, wanted)
    check_memory(sum(len(opened.sources[split]) for split in used), shape)
    splits = {split: _read_split(opened.sources[split], *keys, shape, resize) for split in used}
    if own_validation:
        train, validation = splits["train"], splits["validation"]
    else:
        kept, held = hold_out(splits["train"].labels, validation_fraction)
        train, validation = take(splits["train"], kept), take(splits["train"], held)
    return Splits(train, validation, splits[tests[0]], opened.class_names)


def _read_wanted(
    opened: _Opened,
    tests: list[str],
    own_validation: bool,
    validation_fraction: float,
    shape: tuple[int, int, int],
    resize: bool,
    wanted: Wanted,
) -> Splits:
    """The splits with the images that are wanted; of all others the labels alone are read."""
    keys = (opened.image_key, opened.label_key)
    train, test = opened.sources["train"], opened.sources[tests[0]]
    labels = {"train": _labels(train, keys[1]), "test": _labels(test, keys[1])}
    if own_validation:
        sources = {"train": train, "validation": opened.sources["validation"], "test": test}
        labels["validation"] = _labels(sources["validation"], keys[1])
        rows = {name: np.arange(len(found)) for name, found in labels.items()}
    else:
        kept, held = hold_out(labels["train"], validation_fraction)
        sources = {"train": train, "validation": train, "test": test}
        rows = {"train": kept, "validation": held, "test": np.arange(len(labels["test"]))}
        labels |= {"train": labels["train"][kept], "validation": labels["train"][held]}
    chosen = {name: wanted.of(name, labels[name]) for name in rows}
    check_memory(sum(len(own) for _, own in chosen.values()), shape)
    splits = {
        name: Split(_read_split(sources[name], *keys, shape, resize, rows[name][own]).images, labels[name][kept])
        for name, (kept, own) in chosen.items()
    }
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


def _image_shape(name: str, shape: tuple[int | None, ...], image_size: int | None) -> tuple[int, int, int]:
    height, width, channels = shape
    if channels not in MODES:
        raise DataError(f"data.name={name!r} has images of {channels} channels; only 1 (grey) and 3 (RGB) are read")
    if image_size is not None:
        return image_size, image_size, channels
    if height is None or width is None:
        raise DataError(
            f"data.name={name!r} has images of different sizes, so it needs data.image_size: they are "
            "resized (shortest side) and centre-cropped to it"
        )
    return height, width, channels


def _read_split(
    source: Any,
    image_key: str,
    label_key: str,
    shape: tuple[int, int, int],
    resize: bool,
    rows: np.ndarray | None = None,
) -> Split:
    """Images and labels of the records that `rows` numbers, or of all."""
    height, width, channels = shape
    numbers = np.arange(len(source)) if rows is None else rows
    images = np.empty((len(numbers), *shape), np.uint8)
    labels = np.empty(len(numbers), np.int32)
    for start in range(0, len(numbers), READ_BLOCK):
        records = source.__getitems__(numbers[start : start + READ_BLOCK].tolist())
        for place, record in enumerate(records, start):
            i = int(numbers[place])
            try:
                image = decode(io.BytesIO(record[image_key]), channels)
            except DataError as error:
                raise DataError(f"record {i} of {source}: {error}") from error
            if resize:
                image = resize_and_crop(image, height, width)
            if image.size != (width, height):
                raise DataError(
                    f"record {i} of {source} is {image.height}x{image.width}, not {height}x{width} as the "
                    "set declares; data.image_size brings all images to one size"
                )
            images[place] = np.asarray(image).reshape(shape)
            labels[place] = record[label_key]
    return Split(images, labels)
