"""Readers of digits and of fake images, and what all readers share; each returns three uint8 splits and class names.

Validation is held out of the training examples by a constant seed: every run sees the same splits, whatever its seed.
"""

from __future__ import annotations

import gzip
import importlib.util
import pathlib
from typing import Any, NamedTuple

import numpy as np

from cnn.data.leftovers import Skipped
from cnn.data.limits import check_memory
from cnn.data.streamed import some
from cnn.images.errors import DataError
from cnn.images.resizing import resize_and_crop

SPLIT_SEED = 0  # of every hold-out; not a field: the splits are the same for every run, whatever its own seed
TEST_FRACTION = 0.2  # of the examples of each class, where a set has no test split of its own
NAMES = ("digits", "fake", "folder", "shards")


class Split(NamedTuple):
    """One split, in memory or, of pictures in files, decoded when it is used."""

    images: Any  # uint8 [N, H, W, C]: an array, or cnn.data.streamed.Streamed, of which some are taken likewise
    labels: np.ndarray  # int32 [N]


class Splits(NamedTuple):
    """Three splits and the names of the classes: what a reader returns.

    Attributes:
      train, validation, test: the splits.
      class_names: one for each label.
      skipped: files that were left out.
      remarks: what a reader of the results has to know of the data, a line each.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()


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
    """Some examples of a split.

    Args:
      split: N examples.
      indices: int [M], each in [0, N).

    Returns:
      M examples, in the order of the indices.
    """
    return Split(some(split.images, indices), split.labels[indices])


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
