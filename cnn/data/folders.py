"""A folder of pictures as a data set: which are in which split, read and resized, with lines on what is odd."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.data import limits, oddities, unreadable
from cnn.data.class_folders import EXTENSIONS, Listing, check_none_beside, list_classes
from cnn.data.image_files import Decoder, checked_size, read_images
from cnn.data.leftovers import Leftovers
from cnn.data.readers import TEST_FRACTION, Split, Splits, hold_out
from cnn.data.streamed import Streamed, scan, some
from cnn.data.wanted import Wanted
from cnn.images.errors import DataError


def folder(
    root: str,
    validation_fraction: float,
    image_size: int | None,
    *,
    channels: Sequence[int | str] | None = None,
    value_range: Sequence[float] | None = None,
    on_error: str = "stop",
    wanted: Wanted | None = None,
    in_memory: str = "auto",
) -> Splits:
    """A folder of pictures of any sizes and modes (`EXTENSIONS`): root/{train,val,test}/<class>/ or root/<class>/.

    Args:
      root: the folder; see `folder_listings`.
      validation_fraction: fraction of the training pictures that is held out for validation.
      image_size: pixels; shortest sides are resized to it, then the centre is cut out.
      channels: numbers or names of the channels that are read, in order; None: RGB.
      value_range: (low, high): the values that count as 0 and as 255; None: those of a picture's dtype. Pictures of
        more than 8 bits are scaled by it to 8.
      on_error: what a file that cannot be used does: "stop", or "skip", which leaves it out and lists it. The splits
        are drawn before pictures are decoded, so that one that cannot be decoded moves no other one.
      wanted: which pictures are read, of several processes, which all call this; what is odd is not looked for then.
        None: all.
      in_memory: "yes", "no", which decodes each picture once now to know it and again whenever it is used, or "auto",
        by how much memory all of them take.

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
    options: Any = {"chosen": channels, "value_range": value_range}
    leftovers = Leftovers(root, on_error)
    listings, classes = folder_listings(root, validation_fraction, leftovers)
    labels, total = None, sum(len(listing.paths) for listing in listings.values())
    unlike = len(leftovers.skipped)  # files that are no pictures by their names
    count = len(channels) if channels else 3
    decoder = Decoder(checked_size(image_size, count, channels), count, **options)
    if wanted and not leftovers.stops:
        read_some = functools.partial(scan, decoder=decoder, stops=False, examine=True)
        for name, listing in listings.items():
            left = unreadable.found_together(listing, leftovers, wanted.share, read_some)
            listings[name] = _some(listing, np.array(left, np.int64))
    every: dict[str, list[str]] = {}
    if wanted:  # all labels, and this process's pictures
        chosen = {name: wanted.of(name, listing.labels) for name, listing in listings.items()}
        labels = {name: listings[name].labels[kept] for name, (kept, _) in chosen.items()}
        every = {name: _some(listings[name], kept).paths for name, (kept, _) in chosen.items()}
        listings = {name: _some(listings[name], own) for name, (_, own) in chosen.items()}
    shape = (image_size, image_size, count)
    streams = limits.streams(in_memory, sum(len(listing.paths) for listing in listings.values()), shape)
    stops = leftovers.stops or wanted is not None  # of several processes each has the same pictures from here on
    splits, sizes, damages = {}, {}, {}
    for name, listing in listings.items():
        try:
            if streams:
                read = scan(listing.paths, decoder, stops=stops, examine=not wanted)
            else:
                read = read_images(listing.paths, image_size, count, stops=stops, examine=not wanted, **options)
        except DataError as error:
            raise DataError(f"{error}; data.on_error=skip leaves such files out, and counts them") from error
        out = unreadable.reasons(read, listing.paths, leftovers)
        leftovers.leave_out([(listing.paths[i], reason) for i, reason in out.items()])
        kept = np.setdiff1d(np.arange(len(listing.paths)), list(out)) if out else slice(None)
        listings[name] = _some(listing, np.arange(len(listing.paths))[kept])
        images = some(read.images, kept)
        images = images.within(every[name]) if isinstance(images, Streamed) and wanted else images
        splits[name] = Split(images, labels[name] if labels else listings[name].labels)
        sizes |= dict(zip(listings[name].paths, read.sizes[kept].tolist(), strict=True))
        damages |= {listing.paths[i]: text for i, text in read.damages.items() if i not in out}
    leftovers.say_skipped(total + unlike)
    _check_left(root, splits, classes, leftovers)
    if not wanted:
        oddities.say(leftovers, listings, splits, classes, sizes, damages, image_size)
    return Splits(**splits, class_names=classes, skipped=tuple(leftovers.skipped), remarks=tuple(leftovers.remarks))


def _check_left(root: str, splits: Mapping[str, Split], classes: Sequence[str], leftovers: Leftovers) -> None:
    """Refuses a folder of which so much was left out that a class has nothing to learn from, or nothing is a test."""
    there = set(splits["train"].labels.tolist())
    empty = [name for label, name in enumerate(classes) if label not in there]
    if empty:
        raise DataError(
            f"{root}: no picture of {', '.join(empty[:5])} is left for training, as none can be read; mend them"
        )
    if leftovers.skipped and not len(splits["test"].labels):
        raise DataError(f"{root}: no picture is left for the test, as none of that split can be read; mend them")


def folder_listings(
    root: str, validation_fraction: float, leftovers: Leftovers | None = None
) -> tuple[dict[str, Listing], tuple[str, ...]]:
    """Which pictures of a folder are in which split, without reading them.

    A folder with train/, val/ and test/ has its own splits, and nothing is held out. In one with train/ and val/ alone,
    val is the test split; in one with train/ and test/ alone, validation is held out of train. In one with a directory
    for each class alone, a fifth of each class is held out for test, the same pictures for every run; a line on
    standard error says so.

    Args:
      root: folder with train/<class>/ and val/<class>/, test/<class>/ or both, or with <class>/.
      validation_fraction: fraction of the training pictures that is held out for validation.
      leftovers: takes files that are no pictures, and lines; None: such a file is an error.

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
    leftovers = leftovers or Leftovers(root)
    validation = None
    if _has_splits(pathlib.Path(root)):
        check_none_beside(pathlib.Path(root), leftovers)
        classes, train, validation, test = _own_splits(pathlib.Path(root), leftovers)
    else:
        classes, everything = list_classes(pathlib.Path(root), leftovers)
        kept, held = hold_out(everything.labels, TEST_FRACTION)
        train, test = _some(everything, kept), _some(everything, held)
        leftovers.remark(
            f"it has no train/ and val/: {len(test.paths)} of its {len(everything.paths)} pictures, "
            f"{TEST_FRACTION:.0%} of each class, are held out for test, the same ones in every run"
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


def _own_splits(root: pathlib.Path, leftovers: Leftovers) -> tuple[tuple[str, ...], Listing, Listing | None, Listing]:
    """The classes, and the pictures for training, validation and test of a folder that is split.

    Where there is a test/ with classes, it is the test split, and val/ is for validation; else val/ is the test split.
    """
    names = ["train", *(name for name in ("val", "test") if (root / name).is_dir())]
    if "test" in names and not any(path.is_dir() for path in (root / "test").iterdir()):
        names.remove("test")
        leftovers.remark(f"{root}/test has no class directories, and is not read")
    if names == ["train"]:
        names.append("val")  # which is missing, and is said to be
    found = {name: list_classes(root / name, leftovers) for name in names}
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
