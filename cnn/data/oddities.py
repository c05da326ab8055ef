"""What is odd in a folder of pictures that is used all the same: each a line, counted, with the worst by its name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cnn.data.class_folders import Listing
from cnn.data.leftovers import Leftovers, listed
from cnn.data.readers import Split
from cnn.data.streamed import Streamed

ENLARGED = 4.0  # a picture that is enlarged more is a blur
LEAST_KEPT = 0.1  # of a picture's area; where less is left by cutting the centre out, the object may not be seen
TEST_OF = {"train": "training", "validation": "validation", "test": "test"}


def say(
    leftovers: Leftovers,
    listings: Mapping[str, Listing],
    splits: Mapping[str, Split],
    classes: Sequence[str],
    sizes: Mapping[str, Sequence[int]],
    damages: Mapping[str, str],
    image_size: int,
) -> None:
    """Says all that is odd.

    Args:
      leftovers: takes the lines.
      listings: the pictures of each split, "train", "validation" and "test".
      splits: the same, read.
      classes: names of the classes.
      sizes: (height, width) of each file as it is stored, pixels.
      damages: what is damaged in files that were decoded all the same.
      image_size: height and width that pictures are resized to, pixels.
    """
    if damages:
        first = next(iter(damages))
        leftovers.remark(
            f"{len(damages):,} pictures are damaged, and were decoded to something all the same: "
            f"{leftovers.name(first)} ({damages[first]}); mend them, or data.on_error=skip leaves them out"
        )
    _say_sizes(leftovers, sizes, image_size)
    _say_few(leftovers, splits, classes)
    _say_same(leftovers, listings, splits, classes)


def _say_sizes(leftovers: Leftovers, sizes: Mapping[str, Sequence[int]], image_size: int) -> None:
    names, shapes = list(sizes), np.array(list(sizes.values()), np.float64).reshape(-1, 2)
    if not names:
        return
    scale = image_size / shapes.min(axis=1)
    enlarged = np.flatnonzero(scale > ENLARGED)
    if len(enlarged):
        worst = enlarged[scale[enlarged].argmax()]
        leftovers.remark(
            f"{len(enlarged):,} pictures are enlarged more than {ENLARGED:g} times to {image_size} pixels, the most "
            f"{leftovers.name(names[worst])} of {_shape(shapes[worst])}"
        )
    kept = shapes.min(axis=1) / shapes.max(axis=1)
    narrow = np.flatnonzero(kept < LEAST_KEPT)
    if len(narrow):
        worst = narrow[kept[narrow].argmin()]
        leftovers.remark(
            f"of {len(narrow):,} pictures less than {LEAST_KEPT:.0%} is seen, the square in the middle, the least of "
            f"{leftovers.name(names[worst])}, {_shape(shapes[worst])}"
        )


def _shape(shape: np.ndarray) -> str:
    return f"{int(shape[0])}x{int(shape[1])} pixels"


def _say_few(leftovers: Leftovers, splits: Mapping[str, Split], classes: Sequence[str]) -> None:
    for name, split in splits.items():
        counts = np.bincount(split.labels, minlength=len(classes))
        if not counts.sum():  # a run without validation says so elsewhere
            continue
        for count, words in ((0, "no example"), (1, "one example")):
            few = [classes[label] for label in np.flatnonzero(counts == count).tolist()]
            if few:
                leftovers.remark(f"the {TEST_OF[name]} split has {words} of {len(few):,} classes: {listed(few)}")


def _say_same(
    leftovers: Leftovers, listings: Mapping[str, Listing], splits: Mapping[str, Split], classes: Sequence[str]
) -> None:
    """Says which pictures are the same, as the net sees them: in two splits, or of two classes."""
    seen: dict[bytes, tuple[str, str, int]] = {}  # -> split, path and label of the first one
    leaks: dict[tuple[str, str], list[tuple[str, str]]] = {}
    classes_differ: list[tuple[str, str]] = []
    for name, split in splits.items():
        for path, label, key in zip(listings[name].paths, split.labels.tolist(), _digests(split.images), strict=True):
            first = seen.setdefault(key, (name, path, label))
            if first[0] != name:
                leaks.setdefault((first[0], name), []).append((first[1], path))
            if first[2] != label:
                classes_differ.append((first[1], path))
    for (one, other), pairs in leaks.items():
        count, total = len(pairs), len(splits[other].labels)
        leftovers.remark(
            f"{count:,} of the {total:,} {TEST_OF[other]} pictures are in the {TEST_OF[one]} split too, by their "
            f"pixels, so that the {other} accuracy is too high: {_pairs(leftovers, pairs)}"
        )
    if classes_differ:
        leftovers.remark(
            f"{len(classes_differ):,} pictures have the pixels of one of another class: "
            f"{_pairs(leftovers, classes_differ)}"
        )


def _pairs(leftovers: Leftovers, pairs: Sequence[tuple[str, str]]) -> str:
    return listed([f"{leftovers.name(one)} = {leftovers.name(other)}" for one, other in pairs])


def _digests(images: Any) -> list[bytes]:
    if isinstance(images, Streamed):
        return [digest.tobytes() for digest in images.digests]
    with ThreadPoolExecutor() as pool:  # hashing is outside of the GIL
        return list(pool.map(lambda image: hashlib.blake2b(image.tobytes(), digest_size=16).digest(), images))
