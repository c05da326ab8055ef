"""Sets whose images are records of larger files: their splits, read into memory or known and left in their files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cnn.data import limits
from cnn.data.readers import Split, Splits, hold_out, take
from cnn.data.records import READ_BLOCK, Opened, Records, image_shape
from cnn.data.streamed import scan
from cnn.data.wanted import Wanted


def read(
    name: str,
    opened: Opened,
    validation_fraction: float,
    image_size: int | None,
    wanted: Wanted | None = None,
    in_memory: str = "auto",
) -> Splits:
    """Reads a set that is open.

    The test split is the first of `Opened.tests`. A set with two keeps its own validation, and nothing is held out of
    its train.

    Args:
      name: its name, for errors.
      opened: the set.
      validation_fraction: fraction of train that is held out for validation.
      image_size: pixels; None keeps a set's own size. Images of another size are resized (shortest side) and
        centre-cropped.
      wanted: which images are decoded; None: all.
      in_memory: "yes", "no", which decodes each image once now to know it and again whenever it is used, or "auto", by
        how much memory all of them take.

    Returns:
      Splits of uint8 [N, H, W, C].

    Raises:
      DataError: images that cannot be decoded or have many sizes (and no image_size is given), or too much of them.
    """
    own_validation = len(opened.tests) == 2 and validation_fraction > 0
    used = ["train", *(opened.tests if own_validation else opened.tests[:1])]
    shape, resize = image_shape(name, opened.shape, image_size), image_size is not None
    of_split = {
        split: Records(opened.sources[split], shape=shape, resize=resize, **opened.fields, split=split)
        for split in used
    }
    if wanted is None and not limits.streams(in_memory, sum(len(opened.sources[one].items) for one in used), shape):
        splits = {split: _all_of(of_split[split]) for split in used}
        if own_validation:
            train, validation = splits["train"], splits[opened.tests[1]]
        else:
            kept, held = hold_out(splits["train"].labels, validation_fraction)
            train, validation = take(splits["train"], kept), take(splits["train"], held)
        return Splits(train, validation, splits[opened.tests[0]], opened.class_names)
    return _rows_of(opened, of_split, own_validation, validation_fraction, wanted, in_memory)


def _rows_of(
    opened: Opened,
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
    labels = {"train": train.source.labels(), "test": test.source.labels()}
    if own_validation:
        parts = {"train": train, "validation": of_split[opened.tests[1]], "test": test}
        labels["validation"] = parts["validation"].source.labels()
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
        own_items, kept_items = ([parts[name].source.items[i] for i in rows[name][which]] for which in (own, kept))
        if streams:
            images: Any = scan(own_items, parts[name], stops=True, examine=False).images
            images = images.within(kept_items)
        else:
            images = _images_of(parts[name], own_items)
        splits[name] = Split(images, labels[name][kept])
    return Splits(splits["train"], splits["validation"], splits["test"], opened.class_names)


def encoded(opened: Opened, validation_fraction: float, split: str) -> tuple[list[bytes], np.ndarray, tuple[str, ...]]:
    """One split with its images encoded as they are stored, whole and of any sizes.

    Args:
      opened: the set.
      validation_fraction: fraction of train that is held out for validation.
      split: "validation" or "test", meaning the same examples as in `read`.

    Returns:
      The encoded images, their labels (int32 [N]), and the class names.
    """
    held_out = split == "validation" and not (len(opened.tests) == 2 and validation_fraction > 0)
    source = opened.sources["train" if held_out else opened.tests[split == "validation"]]
    images: list[bytes] = []
    labels: list[int] = []
    for start in range(0, len(source.items), READ_BLOCK):
        more, theirs = source.examples(start, min(start + READ_BLOCK, len(source.items)))
        images += more
        labels += theirs
    if held_out:
        held = hold_out(np.array(labels, np.int32), validation_fraction)[1]
        images, labels = [images[i] for i in held], [labels[i] for i in held]
    return images, np.array(labels, np.int32), opened.class_names


def _all_of(records: Records) -> Split:
    """Images and labels of all records, read once."""
    items = records.source.items
    images = np.empty((len(items), *records.size, records.channels), np.uint8)
    labels = np.empty(len(items), np.int32)
    for start in range(0, len(items), READ_BLOCK):
        stop = min(start + READ_BLOCK, len(items))
        blobs, labels[start:stop] = records.source.examples(start, stop)
        _decode_block(records, blobs, items[start:stop], images[start:stop])
    return Split(images, labels)


def _images_of(records: Records, items: Sequence[Any]) -> np.ndarray:
    """Images of some records."""
    images = np.empty((len(items), *records.size, records.channels), np.uint8)
    for start in range(0, len(items), READ_BLOCK):
        some = items[start : start + READ_BLOCK]
        _decode_block(records, records.source.read(some), some, images[start : start + READ_BLOCK])
    return images


def _decode_block(records: Records, blobs: Sequence[bytes], items: Sequence[Any], images: np.ndarray) -> None:
    """Decodes images that were read, on all cores; of several that cannot be, the first is said."""
    cores = os.cpu_count() or 1
    each = -(-len(blobs) // cores)

    def part(first: int) -> None:
        for i in range(first, min(first + each, len(blobs))):
            images[i] = records.pixels(blobs[i], items[i])

    with ThreadPoolExecutor(cores) as pool:
        for _ in pool.map(part, range(0, len(blobs), each)):
            pass
