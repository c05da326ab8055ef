"""Data sets: three splits of uint8 images, read by name or made of arrays.

`load` reads a set by name, `from_arrays` makes one of NumPy arrays.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnn.data import arrays, decoded, fields, folders, readers, shards, tfds
from cnn.data.image_files import Decoder as FileDecoder
from cnn.data.leftovers import Skipped
from cnn.data.pixel_statistics import channel_counts, channel_statistics, statistics_of
from cnn.data.readers import Split, Splits
from cnn.data.streamed import AS_ARRAYS, Decoder, Streamed, some
from cnn.data.wanted import Wanted
from cnn.images.errors import DataError
from cnn.runtime import own_code, processes
from cnn.runtime.shares import WHOLE, Share

IN_MEMORY = "arrays in memory"  # name of a set that was given to a run, which cannot be loaded again
IMPORTED = "unknown data"  # name of the set that an imported net was trained on
KEPT = ("class_names", "mean", "std", "remarks")  # what is kept of a set beside its arrays
SPLITS = ("train", "validation", "test")
DEFAULT_IMAGE_SIZE = 32  # of digits and fake, which have no size of their own to keep


@dataclasses.dataclass(frozen=True, eq=False)  # eq: arrays have no single truth value
class Dataset:
    """Three splits, the names of their classes, and the statistics of their pixels.

    Attributes:
      name: the name that was given to `load`; a file without its folder.
      train, validation, test: uint8 images, in memory or decoded when they are taken (`cnn.data.streamed`), and int32
        labels; validation was held out of train, and train is all that
        was left or, with `train_examples`, a part of it.
      class_names: one for each label.
      mean, std: per channel, of the train pixels scaled to [0, 1]; a channel that never varies has std 1.
      share: which examples of each split this process holds, of several: their images alone are in memory, `share.rows`
        of all; labels are all there.
      skipped: files of a folder that were left out (`on_error="skip"`).
      remarks: what a reader of the results has to know of the data, a line each: pictures that are in two splits, ...
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    share: Share = WHOLE
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) in pixels and channels."""
        _, height, width, channels = self.train.images.shape
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def load(
    name: str,
    *,
    dir: str = "",  # the promised config field is data.dir
    validation_fraction: float = 0.1,
    image_size: int | None = None,
    train_examples: int | None = None,
    value_range: Sequence[float] | None = None,
    channels: Sequence[int | str] | None = None,
    on_error: str = "stop",
    in_memory: str = "auto",
    share: Share = WHOLE,
) -> Dataset:
    """Reads a data set into memory, or of a large one what is to be known of its images.

    The splits are the same for every run: what is held out for validation is drawn class by class with a
    constant seed. The test split is 20 % of digits, and a folder's or a TFDS set's test or, without one, its
    validation (val); a set with both keeps its own validation, and nothing is held out. Where a folder or an array file
    has no test split, 20 % of each class is held out for it.

    Args:
      name: "digits" (scikit-learn's, no network), "folder" (dir/{train,val,test}/<class>/*.jpg, or dir/<class>/),
        "shards" (tar files of WebDataset or Parquet files in dir, `cnn.data.shards`), "fake", a TFDS
        image-classification set such as "mnist" or "imagenette/160px-v2:1.0.0", a NumPy archive
        "my_data.npz" (`cnn.data.arrays.read_npz` says which arrays it holds), or a function of the user's own,
        "my_data.py:load" or "package.module:function". Such a file is executed; the function is given those of dir,
        validation_fraction and image_size that it takes, and returns a `Dataset`, or arrays and class names
        (`cnn.data.arrays.arguments_of`).
      dir: the image folder, or TFDS's data_dir ("": $TFDS_DATA_DIR, else ~/tensorflow_datasets).
      validation_fraction: fraction of the training examples that is held out, in [0, 1); 0 leaves validation empty.
      image_size: pixels; images are resized (shortest side, antialiased) and centre-cropped to a square.
        None keeps a set's own size, and is 32 for digits and fake.
      train_examples: number of training examples to keep once validation is held out, each class in proportion, the
        same for every run, fewer among more; None keeps all. mean and std are those of the examples kept.
      value_range: (low, high): the values of a folder's pictures that count as 0 and as 255, such as (0, 4095); None or
        () for those of a picture's dtype. Of arrays of the user's own, whose pixels are bytes already, it says from
        which values they were scaled: it changes nothing here, and a run keeps it for the images that its net is used
        on.
      channels: numbers or names of the channels of a folder's pictures that are read, in order; None or () for RGB. Of
        arrays of the user's own it says which channels of an image theirs are, likewise.
      on_error: what an unreadable picture of a folder does: "stop", or "skip", which counts and lists it.
      in_memory: "yes"; "no": of a folder or a TFDS set each image is decoded when it is used, and once at the start, to
        know it; "auto": in memory where `cnn.data.limits.most_in_memory` has room for all pictures.
      share: which examples of each split this process holds, of several that all call this with shares of their own
        (`cnn.runtime.processes.share`). Of folders and TFDS sets no other picture is decoded.

    Returns:
      The data set; its mean and std are those of all processes together.

    Raises:
      DataError: a field out of range, an unknown or unprepared set, unreadable files, or more than fits.
    """
    dir = os.path.expanduser(dir) if isinstance(dir, str) else dir
    given = {"validation_fraction": validation_fraction, "train_examples": train_examples, "image_size": image_size}
    given |= {"on_error": on_error, "in_memory": in_memory}
    of_pixels: Any = {"value_range": value_range or None, "channels": channels or None}
    fields.check({"name": name, "dir": dir, **given, **of_pixels})
    if name == IN_MEMORY:
        raise DataError(
            "the run was trained on a data set that was given in Python, not loaded by its config; evaluate it on a "
            "split with cnn.training.evaluate.evaluate(run.net, run.variables, split, run.mean, run.std)"
        )
    if name == IMPORTED:
        raise DataError("the net was imported, and its data are not known here; name some: --config.data.name=mnist")
    if in_memory == "no" and (name in ("digits", "fake") or is_own(name)):
        raise DataError(
            "data.in_memory=no: images of folders, shards and TFDS sets can stay in their files; those of "
            f"data.name={name!r} are read into memory; leave it at auto"
        )
    said = " and ".join(f"data.{field}" for field, value in of_pixels.items() if value)
    if said and name != "folder" and not is_own(name):
        raise DataError(
            f"{said}: for pictures in a folder, and for arrays of your own; the pixels of data.name={name!r} are bytes "
            "of the full range, in all channels; leave it out"
        )
    draw = functools.partial(_draw, name, train_examples) if train_examples else None
    wanted = None if share.is_whole else Wanted(share, draw)
    if name == "digits":
        parts = readers.digits(validation_fraction, image_size or DEFAULT_IMAGE_SIZE)
    elif name == "fake":
        parts = readers.fake(validation_fraction, image_size or DEFAULT_IMAGE_SIZE)
    elif name == "folder":
        asked = {"name": name, "dir": dir, **given, **of_pixels}
        options = {**of_pixels, "on_error": on_error, "wanted": wanted, "in_memory": in_memory}
        read = functools.partial(folders.folder, dir, validation_fraction, image_size, **options)
        # What a reader leaves out is listed each time that it is read; a share is of this process alone.
        kept = on_error == "stop" and not wanted
        parts = _kept(asked, lambda: decoded.files_below(dir), read) if kept else read()
    elif name == "shards":
        read = functools.partial(shards.read, dir, validation_fraction, image_size, wanted, in_memory)
        parts = read() if wanted else _kept({"name": name, "dir": dir, **given}, lambda: shards.files_of(dir), read)
    elif name.lower().endswith(".npz"):
        parts = arrays.read_npz(name, validation_fraction, image_size)
    elif own_code.is_reference(name):
        parts = _own(name, dir, validation_fraction, image_size)
    else:
        read = functools.partial(tfds.read, name, dir, validation_fraction, image_size, wanted, in_memory)
        parts = read() if wanted else _kept({"name": name, **given}, lambda: tfds.files_of(name, dir), read)
    if (
        wanted and isinstance(parts, Splits) and len(parts.train.images) < len(parts.train.labels)
    ):  # only this process's images were read
        return _dataset(_short(name), parts, share)
    dataset = parts if isinstance(parts, Dataset) else _dataset(_short(name), parts)
    return of_share(dataset if train_examples is None else subset(dataset, train_examples), share)


def of_share(dataset: Dataset, share: Share) -> Dataset:
    """A data set of which this process keeps a share of the images.

    Args:
      dataset: all of the data set.
      share: the share of each split.

    Returns:
      The data set with the images of the share, and all labels.
    """
    if share.is_whole:
        return dataset
    splits = {
        name: Split(some(split.images, share.rows(len(split.labels))), split.labels)
        for name, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
    }
    return dataclasses.replace(dataset, **splits, share=share)


def from_arrays(
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray] | None = None,
    *,
    validation: Sequence[np.ndarray] | None = None,
    class_names: Sequence[str] | None = None,
    validation_fraction: float = 0.1,
    name: str = "arrays",
) -> Dataset:
    """A data set from NumPy arrays.

    Args:
      train: (images, labels). Images are uint8 [N, H, W, C] with any number of channels, or [N, H, W] for grey ones.
        Labels are integers [N] or, as Keras has them, [N, 1]; 0 is the first class.
      test: (images, labels) of the same kinds; None: 20 % of each class is held out of train for it, the same examples
        every time.
      validation: (images, labels) of the same kinds; None: `validation_fraction` of each class is held out of train.
      class_names: one for each class, all different; None: the labels' numbers, which are below 30,000 then.
      validation_fraction: fraction of the training examples that is held out, in [0, 1); 0 leaves validation empty.
      name: name of the set in results.

    Returns:
      The data set, with the mean and standard deviation of its training pixels.

    Raises:
      DataError: an array of another shape, dtype or range; names it, and says what it should be.
    """
    fields.check({"validation_fraction": validation_fraction}, group="")
    parts = arrays.to_splits(
        train, test, validation, class_names, validation_fraction=validation_fraction, name=f"data set {name!r}"
    )
    return _dataset(name, parts)


def _dataset(name: str, parts: Splits, share: Share = WHOLE) -> Dataset:
    if len(parts.train.labels) == 0:
        raise DataError(f"data.name={name!r} leaves no training examples; a smaller data.validation_fraction would")
    if len(parts.test.labels) == 0:
        raise DataError(
            f"data.name={name!r} has no test split, and none can be held out: no class has enough examples. Add some, "
            "or give a test split"
        )
    counts = channel_counts(parts.train.images)
    mean, std = statistics_of(counts if share.is_whole else processes.total(counts))
    return Dataset(name, *parts[:4], mean, std, share, parts.skipped, parts.remarks)


def _kept(asked: dict[str, Any], files: Callable[[], list[str]], read: Callable[[], Splits]) -> Dataset:
    """The data set that a reader gives, which is kept on disk if the command keeps decoded data."""
    name = _short(asked["name"])

    def make() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        made = _dataset(name, read())
        found = {}
        for split in SPLITS:
            images, labels = getattr(made, split)
            found |= _arrays_of(split, images) | {f"{split}_labels": labels}
        return found, {field: getattr(made, field) for field in KEPT}

    asked = {field: value for field, value in asked.items() if field != "train_examples"}  # they are chosen later
    found, about = decoded.kept(asked, files, make)
    train, validation, test = (Split(_images_of(split, found), found[f"{split}_labels"]) for split in SPLITS)
    class_names, mean, std, remarks = (tuple(about[field]) for field in KEPT)
    return Dataset(name, train, validation, test, class_names, mean, std, remarks=remarks)


def _arrays_of(split: str, images: Any) -> dict[str, np.ndarray]:
    """What is kept on disk of a split's images: all of them, or what is known of those that stay in their files."""
    if not isinstance(images, Streamed):
        return {f"{split}_images": images}
    return {f"{split}_{name}": values for name, values in images.as_arrays().items()}


def _images_of(split: str, found: Mapping[str, np.ndarray]) -> Any:
    """The images that `_arrays_of` was given."""
    if f"{split}_images" in found:
        return found[f"{split}_images"]
    return Streamed.from_arrays({name: found[f"{split}_{name}"] for name in AS_ARRAYS}, _decoder)


def _decoder(**fields: Any) -> Decoder:
    """The decoder whose `as_json` gave the fields."""
    if "set" in fields or "shards" in fields:
        return tfds.open_again(**fields) if "set" in fields else shards.open_again(**fields)
    return FileDecoder(**{**fields, "size": tuple(fields["size"])})


def _own(name: str, dir: str, validation_fraction: float, image_size: int | None) -> Dataset | Splits:
    """What a data function of the user's own returns, checked."""
    value = arrays.call(name, dir=dir, validation_fraction=validation_fraction, image_size=image_size)
    who = f"data.name={_short(name)!r}"
    if not isinstance(value, Dataset):
        options = {"validation_fraction": validation_fraction, "image_size": image_size, "name": who}
        return arrays.to_splits(**arrays.arguments_of(value, who), **options)
    if image_size is not None and value.image_shape[:2] != (image_size, image_size):
        height, width, _ = value.image_shape
        raise DataError(f"{who} returned images of {height}x{width}, but data.image_size is {image_size}")
    train, test, validation = ((x.images, x.labels) for x in (value.train, value.test, value.validation))
    parts = arrays.to_splits(train, test, validation, value.class_names, validation_fraction=0.0, name=who)
    return dataclasses.replace(
        value, name=_short(name), train=parts.train, validation=parts.validation, test=parts.test
    )


def is_own(name: str) -> bool:
    """Whether `load` reads a set of this name from arrays of the user's own.

    Args:
      name: name of a data set.

    Returns:
      True for a NumPy archive and for a function of the user's own.
    """
    return name.lower().endswith(".npz") or own_code.is_reference(name)


def _short(name: str) -> str:
    """A set's name without the folder of its file."""
    return os.path.basename(name) if name.lower().endswith(".npz") else own_code.short(name)


def subset(dataset: Dataset, train_examples: int) -> Dataset:
    """A data set with fewer training examples, as `load` gives it with that many.

    Args:
      dataset: the data set with all its training examples.
      train_examples: number of examples to keep, drawn class by class in proportion with a constant seed; fewer
        are among more.

    Returns:
      The data set, with the mean and std of what is left.

    Raises:
      DataError: if there are fewer.
    """
    train = dataset.train
    train = readers.take(train, _draw(dataset.name, train_examples, train.labels))
    mean, std = channel_statistics(train.images)
    return dataclasses.replace(dataset, train=train, mean=mean, std=std)


def _draw(name: str, train_examples: int, labels: np.ndarray) -> np.ndarray:
    """Indices of the training examples that are kept."""
    if train_examples > len(labels):
        raise DataError(
            f"data.train_examples (={train_examples}) is more than the {len(labels)} training examples of "
            f"data.name={name!r} at this data.validation_fraction; ask for fewer, or None for all"
        )
    return readers.draw(labels, train_examples)
