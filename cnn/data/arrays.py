"""Data sets of the user's own: NumPy arrays in memory, in an .npz file, or made by a function that the user names."""

from __future__ import annotations

import collections
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.data.limits import check_memory
from cnn.data.readers import TEST_FRACTION, Split, Splits, hold_out, take
from cnn.images.errors import DataError
from cnn.images.resizing import resize
from cnn.runtime import own_code

Pair = Sequence[Any]  # (images, labels)
# Classes that are named by their numbers: more than any published set of pictures has (ImageNet-21k: 21,841). A set
# with more has class numbers of another kind, and a table of confusions of that many rows would fill the memory.
MOST_UNNAMED = 30_000

# Names of the arrays in a file, by split: ours, and those of Keras's files.
NAMES = {
    "train": ("train_images", "train_labels"),
    "validation": ("validation_images", "validation_labels"),
    "test": ("test_images", "test_labels"),
}
KERAS = {"x_train": "train_images", "y_train": "train_labels", "x_test": "test_images", "y_test": "test_labels"}
ACCEPTED = (
    "train_images and train_labels (and in the same way validation_ and test_), or images and labels, and class_names"
)


def to_splits(
    train: Pair,
    test: Pair | None = None,
    validation: Pair | None = None,
    class_names: Sequence[str] | None = None,
    *,
    validation_fraction: float,
    image_size: int | None = None,
    name: str,
) -> Splits:
    """Checks arrays and makes splits of them.

    Args:
      train: (images, labels). Images are uint8 [N, H, W, C] with any number of channels, or [N, H, W] for grey ones.
        Labels are integers [N] or, as Keras has them, [N, 1]; 0 is the first class.
      test: (images, labels) of the same kinds; None: a fifth of each class is held out of train for it, the same for
        every run.
      validation: (images, labels) of the same kinds; None: `validation_fraction` of each class is held out of train.
      class_names: one for each class, all different; None: the labels' numbers, which are below `MOST_UNNAMED` then.
      validation_fraction: fraction of train that is held out where validation is None, in [0, 1).
      image_size: pixels; images are resized (shortest side) and centre-cropped to a square. None: as they are.
      name: name of the data set in messages.

    Returns:
      Three splits.

    Raises:
      DataError: an array of another shape, dtype or range; names it, and says what it should be.
    """
    if train is None:
        raise DataError(f"{name}: train must be a pair (images, labels), is None")
    given = {"train": train, "validation": validation, "test": test}
    names = None if class_names is None else _names(class_names, name)
    splits = {split: _split(pair, names, split, name) for split, pair in given.items() if pair is not None}
    shape = splits["train"].images.shape[1:]
    for split, (images, _) in splits.items():
        if images.shape[1:] != shape:
            raise DataError(
                f"{name}: images of {split} are {'x'.join(map(str, images.shape[1:]))}, those of train "
                f"{'x'.join(map(str, shape))} (height x width x channels); all must be alike"
            )
    top = max(int(labels.max()) for _, labels in splits.values() if len(labels))
    classes = names or tuple(str(number) for number in range(top + 1))
    if image_size is not None:
        check_memory(sum(len(split.labels) for split in splits.values()), (image_size, image_size, shape[2]))
        splits = {split: Split(_fit(x.images, image_size), x.labels) for split, x in splits.items()}
    rest = splits["train"]
    if "test" not in splits:
        rest, splits["test"] = _hold_out(rest, TEST_FRACTION)
    if "validation" not in splits:
        rest, splits["validation"] = _hold_out(rest, validation_fraction)
    return Splits(rest, splits["validation"], splits["test"], classes)


def read_npz(path: str, validation_fraction: float, image_size: int | None) -> Splits:
    """Reads a NumPy archive.

    Args:
      path: path of the .npz file: arrays train_images, train_labels and, if there are such splits, validation_images,
        validation_labels, test_images, test_labels; or images and labels alone; and class_names, if any. Keras's names
        (x_train, y_train, x_test, y_test) are known too. Arrays as for `to_splits`; pickled objects are refused.
      validation_fraction: fraction of train that is held out where the file has no validation, in [0, 1).
      image_size: pixels; images are resized (shortest side) and centre-cropped to a square. None: as they are.

    Returns:
      Three splits.

    Raises:
      DataError: no such file, or arrays of other names, shapes or types.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        folder = os.path.dirname(path) or "."
        there = [x for x in os.listdir(folder) if x.endswith(".npz")] if os.path.isdir(folder) else []
        near = own_code.did_you_mean(os.path.basename(path), there)
        raise DataError(f"data.name={path!r}: there is no such file{near}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:
        raise DataError(f"data.name={path!r} cannot be read: {error}") from error
    arguments = _by_split(arrays, f"data.name={path!r}")
    return to_splits(
        **arguments, validation_fraction=validation_fraction, image_size=image_size, name=f"data.name={path!r}"
    )


def call(reference: str, **fields: Any) -> Any:
    """Calls the data function that the user named.

    Args:
      reference: "my_data.py:load" or "package.module:function"; the file is executed.
      **fields: fields of the config (dir, validation_fraction, image_size); the function is given those that it takes.

    Returns:
      What it returns.

    Raises:
      DataError: if there is no such function, or it fails; says in which line and why.
    """
    try:
        function = own_code.load(reference, "data.name")
    except ValueError as error:
        raise DataError(str(error)) from error
    takes = inspect.signature(function).parameters
    try:
        return function(**{field: value for field, value in fields.items() if field in takes})
    except DataError:
        raise
    except Exception as error:
        where = own_code.describe(error, own_code.source_file(reference))
        raise DataError(f"data.name={own_code.short(reference)!r}: {where}") from error


def arguments_of(value: Any, name: str) -> dict[str, Any]:
    """What a data function may return, as arguments of `to_splits`.

    Args:
      value: a dict with the keys of `read_npz`, or with train, test, validation (each a pair of images and labels) and
        class_names; or a tuple of arrays and class names: (images, labels, names), (train images, train labels, test
        images, test labels, names) or with pairs, (train, test, names) or (train, validation, test, names). Names may
        be left out.
      name: name of the data set in messages.

    Returns:
      {"train": (images, labels), ...}.

    Raises:
      DataError: for anything else.
    """
    if isinstance(value, Mapping):
        if set(value) <= {"train", "test", "validation", "class_names"} and "train" in value:
            return dict(value)
        return _by_split(value, name)
    if isinstance(value, tuple | list):
        items = list(value)
        names = None
        if items and _are_names(items[-1]):
            names = items.pop()
        if items and all(isinstance(item, tuple | list) and len(item) == 2 for item in items):
            items = [array for pair in items for array in pair]
        order = {2: ("train",), 4: ("train", "test"), 6: ("train", "validation", "test")}.get(len(items))
        if order:
            pairs = zip(items[::2], items[1::2], strict=True)
            return dict(zip(order, pairs, strict=True)) | {"class_names": names}
    raise DataError(
        f"{name} returned {type(value).__name__}; return a cnn.data.Dataset (cnn.data.from_arrays makes one), or a "
        f"dict with {ACCEPTED}"
    )


def _by_split(arrays: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Arrays by the names of a file, as arguments of `to_splits`."""
    renamed = {KERAS.get(key, key): value for key, value in arrays.items()}
    if "images" in renamed and "labels" in renamed and "train_images" not in renamed:
        renamed |= {"train_images": renamed.pop("images"), "train_labels": renamed.pop("labels")}
    known = {key for pair in NAMES.values() for key in pair} | {"class_names"}
    halves = [pair for pair in NAMES.values() if (pair[0] in renamed) != (pair[1] in renamed)]
    if set(renamed) - known or "train_images" not in renamed or halves:
        raise DataError(
            f"{name} has the arrays {', '.join(sorted(map(str, arrays))) or 'none'}; it must have {ACCEPTED}"
        )
    found: dict[str, Any] = {
        split: (renamed[images], renamed[labels]) for split, (images, labels) in NAMES.items() if images in renamed
    }
    return found | {"class_names": renamed.get("class_names")}


def _are_names(item: Any) -> bool:
    return item is None or (len(np.shape(item)) == 1 and np.asarray(item).dtype.kind in "US")


def _names(class_names: Sequence[str], name: str) -> tuple[str, ...]:
    """Checked names of classes."""
    if isinstance(class_names, str) or np.ndim(class_names) != 1:
        raise DataError(f"{name}: class_names (={class_names!r}) must be a list of names, one for each class")
    names = tuple(str(one) for one in class_names)
    twice = [one for one, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{name}: class_names has {', '.join(map(repr, twice))} more than once; give each its own name")
    return names


def _split(pair: Pair, class_names: Sequence[str] | None, split: str, name: str) -> Split:
    """A checked pair of images and labels."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError(f"{name}: {split} must be a pair (images, labels), is {type(pair).__name__}")
    images = _images(_array(pair[0], f"{name}: images of {split}"), f"{name}: images of {split}")
    labels = _labels(_array(pair[1], f"{name}: labels of {split}"), len(images), f"{name}: labels of {split}")
    if len(labels) == 0 and split != "validation":
        raise DataError(f"{name}: {split} has no images")
    if len(labels):
        _check_range(int(labels.min()), int(labels.max()), class_names, split, name)
    return Split(images, labels.astype(np.int32))  # after the range was checked: a cast makes 0 of 2**32


def _array(value: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise DataError(f"{what} make no array: {error}") from error


def _images(images: np.ndarray, what: str) -> np.ndarray:
    """Checked images, uint8 [N, H, W, C]."""
    if images.dtype != np.uint8:
        raise DataError(
            f"{what} are {images.dtype}; they must be uint8, 0 to 255. From floats in [0, 1]: "
            "np.round(255 * images).astype(np.uint8)"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise DataError(f"{what} have shape {images.shape}; it must be [N, H, W, C], channels last, or [N, H, W]")
    if min(images.shape[1:]) < 1:
        raise DataError(f"{what} have shape {images.shape}: height, width and channels must all be at least 1")
    return images


def _labels(labels: np.ndarray, count: int, what: str) -> np.ndarray:
    """Checked labels, integers [N] of the dtype that they had."""
    if labels.shape == (count, 1):  # as Keras has them
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        if labels.ndim == 2 and len(labels) == count and labels.dtype.kind in "iuf":
            hint = ". From one column for each class: labels.argmax(axis=1)"
        elif labels.dtype.kind in "bf":
            hint = ". If they are class numbers: labels.astype(np.int64)"
        else:
            hint = ". From names: class_names, labels = np.unique(labels, return_inverse=True)"
        raise DataError(
            f"{what} are {labels.dtype} {list(labels.shape)}; they must be integers [{count}] (or [{count}, 1]), one "
            f"for each image, 0 for the first class{hint if labels.shape[:1] == (count,) else ''}"
        )
    return labels


def _check_range(low: int, high: int, class_names: Sequence[str] | None, split: str, name: str) -> None:
    """Raises for labels that are no numbers of classes."""
    if low < 0:
        raise DataError(f"{name}: a label of {split} is {low}; the first class is 0")
    if class_names is not None and high >= len(class_names):
        raise DataError(
            f"{name}: a label of {split} is {high}, but there are {len(class_names)} class names; labels start at 0"
        )
    if class_names is None and high >= MOST_UNNAMED:
        raise DataError(
            f"{name}: a label of {split} is {high}, so that there would be {high + 1:,} classes, above the limit of "
            f"{MOST_UNNAMED:,} without class_names. Number the classes from 0 (classes, labels = np.unique(labels, "
            "return_inverse=True)), or give class_names, one for each"
        )


def _hold_out(split: Split, fraction: float) -> tuple[Split, Split]:
    kept, held = hold_out(split.labels, fraction)
    return take(split, kept), take(split, held)


def _fit(images: np.ndarray, size: int) -> np.ndarray:
    """Resizes images until they just cover a square, and cuts out the centre; any number of channels."""
    _, height, width, _ = images.shape
    scale = size / min(height, width)
    covering = (max(size, round(height * scale)), max(size, round(width * scale)))
    top, left = (covering[0] - size) // 2, (covering[1] - size) // 2
    return np.stack([resize(image, covering)[top : top + size, left : left + size] for image in images])
