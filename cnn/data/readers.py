"""Readers of digits, of fake images and of a folder of pictures; each returns three uint8 splits and class names.

Validation is held out of the training examples by a constant seed: every run sees the same splits, whatever its seed.
"""

from __future__ import annotations

import gzip
import importlib.util
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn.data.class_folders import EXTENSIONS, Listing, check_none_beside, list_classes
from cnn.data.image_files import check_memory, load_images, resize_and_crop
from cnn.data.wanted import Wanted
from cnn.images.errors import DataError

SPLIT_SEED = 0  # of every hold-out; not a field: the splits are the same for every run, whatever its own seed
TEST_FRACTION = 0.2  # of the examples of each class, where a set has no test split of its own
NAMES = ("digits", "fake", "folder")


class Split(NamedTuple):
    """One split in memory."""

    images: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray  # int32 [N]


class Splits(NamedTuple):
    """Three splits and the names of the classes: what a reader returns."""

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]


def hold_out(labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Splits examples in two, each class in the same proportion, by a constant seed.

    Args:
      labels: int [N].
      fraction: fraction of the examples to hold out, in [0, 1).

    Returns:
      (kept, held): sorted indices, int64; round(N * fraction) are held, but never the last one of a class.
    """
    # RandomState's stream is frozen by NumPy's policy (NEP 19); a Generator's may change with a release.
    order = np.random.RandomState(SPLIT_SEED).permutation(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    wanted = counts * fraction
    numbers = np.floor(wanted).astype(int)
    most_short = np.argsort(numbers - wanted, kind="stable")  # largest remainders: the total comes out right
    numbers[most_short[: round(len(labels) * fraction) - numbers.sum()]] += 1
    numbers = np.minimum(numbers, counts - 1)
    shuffled = labels[order]
    parts = [order[shuffled == c][:n] for c, n in zip(classes, numbers, strict=True)]
    held = np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
    return np.setdiff1d(np.arange(len(labels)), held), held


def draw(labels: np.ndarray, count: int) -> np.ndarray:
    """Chooses some examples, each class in proportion, by a constant seed; fewer are always among more.

    Seats are given to classes by Webster's method (Sainte-Lague), which never takes one back when there are more of
    them, and stays within about one of the exact proportion.

    Args:
      labels: int [N].
      count: number of examples to choose, in [0, N].

    Returns:
      Sorted indices, int64 [count].
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(len(labels))
    shuffled = labels[order]
    turn = np.empty(len(labels))  # when an example's class has a right to it: the smaller the sooner
    for c in np.unique(labels):
        own = np.flatnonzero(shuffled == c)
        turn[own] = (np.arange(len(own)) + 0.5) / len(own)
    return np.sort(order[np.lexsort((shuffled, turn))[:count]])


def take(split: Split, indices: np.ndarray) -> Split:
    """Copies some examples of a split.

    Args:
      split: N examples.
      indices: int [M], each in [0, N).

    Returns:
      M examples, in the order of the indices.
    """
    return Split(split.images[indices], split.labels[indices])


def digits(validation_fraction: float, image_size: int) -> Splits:
    """Scikit-learn's 1,797 handwritten 8x8 digits (UCI), 20 % of each class for test.

    Args:
      validation_fraction: fraction of the other 80 % that is held out for validation.
      image_size: pixels; the 8x8 pictures are enlarged to it (bicubic).

    Returns:
      Splits of uint8 [N, image_size, image_size, 1], the values 0..16 stretched to 0..255.

    Raises:
      DataError: if scikit-learn is not installed, or images of that size do not fit in memory.
    """
    from PIL import Image

    table = _digits_table()
    check_memory(len(table), (image_size, image_size, 1))
    small = np.round(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    large = [resize_and_crop(Image.fromarray(x), image_size, image_size) for x in small]
    everything = Split(np.stack([np.asarray(x) for x in large])[..., None], table[:, -1].astype(np.int32))
    rest, test = hold_out(everything.labels, TEST_FRACTION)
    kept, held = hold_out(everything.labels[rest], validation_fraction)
    return Splits(
        take(everything, rest[kept]),
        take(everything, rest[held]),
        take(everything, test),
        tuple("0123456789"),
    )


def _digits_table() -> np.ndarray:
    """The file of digits that comes with scikit-learn, uint8 [1797, 65]: 64 pixels, 0..16, and the label.

    Read without importing scikit-learn, which takes longer than everything else before the first step but JAX.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("data.name='digits' are scikit-learn's: python -m pip install scikit-learn")
    path = pathlib.Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(path) as file:
        return np.loadtxt(file, np.uint8, delimiter=",")


def fake(validation_fraction: float, image_size: int) -> Splits:
    """Made-up RGB images for tests: ten classes, each a coarse pattern of its own under noise.

    Args:
      validation_fraction: fraction of the 640 training examples that is held out for validation.
      image_size: pixels.

    Returns:
      Splits: 640 for training and validation, 160 for test, the classes balanced.

    Raises:
      DataError: if images of that size do not fit in memory.
    """
    check_memory(800, (image_size, image_size, 3))
    rng = np.random.default_rng(SPLIT_SEED)
    patterns = rng.integers(0, 128, (10, 4, 4, 3), np.uint8)
    cell = np.arange(image_size) * 4 // image_size  # which of the 4x4 cells a pixel lies in
    patterns = patterns[:, cell][:, :, cell]  # (10, S, S, 3)
    labels = np.arange(800, dtype=np.int32) % 10
    noise = rng.integers(0, 128, (800, image_size, image_size, 3), np.uint8)
    everything = Split(patterns[labels] + noise, labels)
    kept, held = hold_out(labels[:640], validation_fraction)
    return Splits(
        take(everything, kept),
        take(everything, held),
        take(everything, np.arange(640, 800)),
        tuple(f"pattern {k}" for k in range(10)),
    )


def folder(
    root: str,
    validation_fraction: float,
    image_size: int | None,
    *,
    channels: Sequence[int | str] | None = None,
    value_range: Sequence[float] | None = None,
    wanted: Wanted | None = None,
) -> Splits:
    """A folder of pictures of any sizes and modes (`EXTENSIONS`): root/{train,val,test}/<class>/ or root/<class>/.

    Args:
      root: the folder; see `folder_listings`.
      validation_fraction: fraction of the training pictures that is held out for validation.
      image_size: pixels; shortest sides are resized to it, then the centre is cut out.
      channels: numbers or names of the channels that are read, in order; None: RGB.
      value_range: (low, high): the values that count as 0 and as 255; None: those of a picture's dtype. Pictures of
        more than 8 bits are scaled by it to 8.
      wanted: which pictures are read; None: all.

    Returns:
      Splits of uint8 [N, image_size, image_size, 3], or with as many channels as are chosen; classes are the
      directories' names, sorted.

    Raises:
      DataError: a missing directory, size or class, a file that is not a readable image, or too much of it.
    """
    if image_size is None:
        raise DataError(
            "data.name='folder' needs data.image_size: pictures of any size are resized (shortest side) and "
            "centre-cropped to it; 64 is quick, 224 usual"
        )
    listings, classes = folder_listings(root, validation_fraction)
    labels = {name: listing.labels for name, listing in listings.items()}
    if wanted:
        chosen = {name: wanted.of(name, listing.labels) for name, listing in listings.items()}
        labels = {name: labels[name][kept] for name, (kept, _) in chosen.items()}
        listings = {name: _some(listings[name], own) for name, (_, own) in chosen.items()}
    total = sum(len(listing.paths) for listing in listings.values())
    count = len(channels) if channels else 3
    check_memory(total, (image_size, image_size, count))
    options: Any = {"chosen": channels, "value_range": value_range}
    splits = {
        name: Split(load_images(x.paths, image_size, count, **options), labels[name]) for name, x in listings.items()
    }
    return Splits(**splits, class_names=classes)


def folder_listings(root: str, validation_fraction: float) -> tuple[dict[str, Listing], tuple[str, ...]]:
    """Which pictures of a folder are in which split, without reading them.

    A folder with train/, val/ and test/ has its own splits, and nothing is held out. In one with train/ and val/ alone,
    val is the test split; in one with train/ and test/ alone, validation is held out of train. In one with a directory
    for each class alone, a fifth of each class is held out for test, the same pictures for every run; a line on
    standard error says so.

    Args:
      root: folder with train/<class>/ and val/<class>/, test/<class>/ or both, or with <class>/.
      validation_fraction: fraction of the training pictures that is held out for validation.

    Returns:
      {"train", "validation", "test"} -> `Listing`, and the classes: the directories' names, sorted.

    Raises:
      DataError: a missing directory or class, one class alone, a file that is no picture by its name, or a picture
        that belongs to no class.
    """
    if not root:
        raise DataError(
            "data.name='folder' needs data.dir, the directory that has train/ and val/ in it, or the classes"
        )
    validation = None
    if _has_splits(pathlib.Path(root)):
        check_none_beside(pathlib.Path(root))
        classes, train, validation, test = _own_splits(pathlib.Path(root))
    else:
        classes, everything = list_classes(pathlib.Path(root))
        kept, held = hold_out(everything.labels, TEST_FRACTION)
        train, test = _some(everything, kept), _some(everything, held)
        print(
            f"{root} has no train/ and val/: {len(test.paths)} of its {len(everything.paths)} pictures, "
            f"{TEST_FRACTION:.0%} of each class, are held out for test, the same ones in every run",
            file=sys.stderr,
            flush=True,
        )
    if len(classes) < 2:
        raise DataError(
            f"{root} has one class, {''.join(classes)!r}, and so nothing to tell apart; are the class directories one "
            "level deeper?"
        )
    if validation is None:
        kept, held = hold_out(train.labels, validation_fraction)
        train, validation = _some(train, kept), _some(train, held)
    parts = (train, validation, test)
    return dict(zip(("train", "validation", "test"), parts, strict=True)), classes


def _own_splits(root: pathlib.Path) -> tuple[tuple[str, ...], Listing, Listing | None, Listing]:
    """The classes, and the pictures for training, validation and test of a folder that is split.

    Where there is a test/ with classes, it is the test split, and val/ is for validation; else val/ is the test split.
    """
    names = ["train", *(name for name in ("val", "test") if (root / name).is_dir())]
    if "test" in names and not any(path.is_dir() for path in (root / "test").iterdir()):
        names.remove("test")
        print(f"{root}/test has no class directories, and is not read", file=sys.stderr, flush=True)
    if names == ["train"]:
        names.append("val")  # which is missing, and is said to be
    found = {name: list_classes(root / name) for name in names}
    classes = found["train"][0]
    for name in names[1:]:
        only_train, only_other = set(classes) - set(found[name][0]), set(found[name][0]) - set(classes)
        if only_train or only_other:
            raise DataError(
                f"{root}: train and {name} must have the same classes; only in train: {sorted(only_train)}, "
                f"only in {name}: {sorted(only_other)}"
            )
    listings = {name: listing for name, (_, listing) in found.items()}
    test = listings.get("test", listings.get("val"))
    assert test is not None
    return classes, listings["train"], listings.get("val") if "test" in listings else None, test


def _some(listing: Listing, indices: np.ndarray) -> Listing:
    return Listing([listing.paths[i] for i in indices], listing.labels[indices])


def _has_splits(root: pathlib.Path) -> bool:
    """Whether a folder is split already; not where it has directories of pictures alone, one perhaps called train."""
    if not (root / "train").is_dir() and not (root / "val").is_dir():
        return not root.is_dir() or not any(path.is_dir() for path in root.iterdir())
    inside = [
        path for split in ("train", "val", "test") if (root / split).is_dir() for path in (root / split).iterdir()
    ]
    return any(path.is_dir() for path in inside) or not any(path.suffix.lower() in EXTENSIONS for path in inside)
