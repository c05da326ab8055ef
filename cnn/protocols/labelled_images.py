"""Labelled pictures of any sizes for the test protocols: read when needed, grouped by size, placed on canvases.

A canvas is an array of zeros with an image in its upper left corner. With canvases of one size, one compiled program
serves images of different sizes. Images are never cropped, and are resized only to the scale of the protocol.
"""

import io
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from cnn import data
from cnn.data import class_folders, folders, readers, shards, tfds
from cnn.data.leftovers import Leftovers
from cnn.images import pictures, whole
from cnn.images.errors import DataError
from cnn.protocols import crops
from cnn.runs.checkpoint import Run
from cnn.windows import Pair

ASPECT_STEP = 1.25  # largest ratio between the aspect ratios of images in one group


class Pictures(NamedTuple):
    """Labelled images that are read one by one.

    Attributes:
      name: a description of the set, for reports.
      sizes: (H, W) of each image, pixels.
      labels: index of each image's class among the classes of the run, int64 [N].
      read: function from an image's index to its pixels, uint8 [H, W, C], as training keeps them; may be called from
        several threads.
    """

    name: str
    sizes: Sequence[Pair]
    labels: np.ndarray
    read: Callable[[int], np.ndarray]


class Group(NamedTuple):
    """Pictures that are run through the net together.

    Attributes:
      indices: indices of the pictures, ascending, int64 [n].
      canvases: (H, W) of the canvas at each scale, pixels; at least as large as each of the resized pictures.
    """

    indices: np.ndarray
    canvases: tuple[Pair, ...]


def from_arrays(name: str, array: np.ndarray, labels: np.ndarray) -> Pictures:
    """Makes `Pictures` from an array.

    Args:
      name: a description of the set, for reports.
      array: pixels of the images, uint8 [N, H, W, C].
      labels: class of each image, integer [N].

    Returns:
      The pictures.
    """
    size = (int(array.shape[1]), int(array.shape[2]))
    return Pictures(name, [size] * len(array), np.asarray(labels, np.int64), lambda index: array[index])


def from_files(
    name: str,
    files: Sequence[str | bytes],
    labels: np.ndarray,
    channels: int,
    *,
    chosen: Sequence[int | str] | None = None,
    value_range: Sequence[float] | None = None,
) -> Pictures:
    """Makes `Pictures` from files; at first only their headers are read.

    Args:
      name: a description of the set, for reports.
      files: paths (str) or contents (bytes) of the files.
      labels: class of each image, integer [N].
      channels: 1 to read the files as grey images, 3 as RGB.
      chosen: numbers or names of the channels of files with paths, in order; None: all.
      value_range: (low, high): their values that count as 0 and as 255; None: those of the dtype.

    Returns:
      The pictures.

    Raises:
      DataError: if a file cannot be read; names it.
    """

    def read(index: int) -> np.ndarray:
        file = files[index]
        if isinstance(file, str):
            return whole.read_bytes(file, channels, chosen=chosen, value_range=value_range)
        image = np.asarray(pictures.decode(io.BytesIO(file), channels))
        return image.reshape(*image.shape[:2], channels)

    def size(index: int) -> Pair:
        file = files[index]
        return whole.size(file) if isinstance(file, str) else pictures.picture_size(io.BytesIO(file))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = list(pool.map(size, range(len(files))))
    return Pictures(name, sizes, np.asarray(labels, np.int64), read)


def load(run: Run, source: str | None = None, split: str = "test") -> Pictures:
    """Loads the pictures that a run is tested on, uncropped and in their original sizes.

    Args:
      run: a trained net.
      source: name of a data set that `cnn.data.load` knows, or path of a folder root/<class>/*.jpg or png whose
        directories have the names of the run's classes (some may be missing); None: the data set that the run was
        trained on.
      split: split of a data set, "validation" or "test"; ignored if `source` is the path of a folder.

    Returns:
      The pictures, with labels that are indices of the run's classes. "digits" and "fake" are made in the image size of
      the run's config; all other pictures are read in the size in which they are stored, even if the run was trained on
      resized ones.

    Raises:
      DataError: if the data cannot be found, has no examples, or does not fit the run's channels or classes. It is a
        `ValueError`.
    """
    config: Any = run.config.data
    name: str = source or config.name
    channels = run.image_shape[2]
    of_pixels: Any = {"chosen": run.channels, "value_range": run.value_range}
    directory = config.dir if name == config.name or config.name not in readers.NAMES else ""
    if name == "folder" and config.name == "folder":
        leftovers = Leftovers(directory, config.get("on_error", "stop"))
        listings, classes = folders.folder_listings(directory, config.validation_fraction, leftovers)
        found = from_files(f"the {split} split of an image folder", *listings[split], channels, **of_pixels)
    elif name in ("digits", "fake") or data.is_own(name):
        made = data.load(name, validation_fraction=config.validation_fraction, image_size=config.image_size)
        classes, found = made.class_names, from_arrays(f"the {split} split of {name}", *getattr(made, split))
        if made.image_shape[2] != channels:
            raise DataError(f"data {name!r} has {made.image_shape[2]} channels, the run was trained on {channels}")
    elif name == "shards":
        encoded, labels, classes = shards.encoded(directory, config.validation_fraction, split)
        found = from_files(f"the {split} split of shards", encoded, labels, channels)
    elif os.path.isdir(name):
        if os.path.isdir(os.path.join(name, "val")) and "val" not in run.class_names:
            raise DataError(f"data {name!r} holds splits, not classes; give one of them, {os.path.join(name, 'val')!r}")
        classes, listing = class_folders.list_classes(pathlib.Path(name))
        found = from_files("a folder of pictures", *listing, channels, **of_pixels)
    elif os.sep in name and not name.split(os.sep)[0].isidentifier() or name == "folder":
        raise DataError(f"data {name!r} is no folder; give the one that holds <class>/*.jpg or png")
    else:
        encoded, labels, classes = tfds.read_encoded(name, directory, config.validation_fraction, split)
        found = from_files(f"the {split} split of {name}", encoded, labels, channels)
    if not len(found.labels):
        raise DataError(
            f"the {split} split of {name!r} has no examples (data.validation_fraction="
            f"{config.validation_fraction}); take another split"
        )
    unknown = [name for name in classes if name not in run.class_names]
    if unknown:
        raise DataError(
            f"data {name!r} has {len(unknown)} classes that the run does not know: {', '.join(unknown[:5])}; the run's "
            f"are {', '.join(run.class_names[:20])}; rename the directories, or take a set of the run's classes"
        )
    return found._replace(labels=np.array([run.class_names.index(name) for name in classes])[found.labels])


def take(pictures: Pictures, count: int) -> Pictures:
    """Selects pictures at even distances, so that a folder, which is ordered by class, keeps pictures of all classes.

    Args:
      pictures: N pictures.
      count: number of pictures to select; if it is above N, all are selected.

    Returns:
      The pictures with the indices i * N // count, for i from 0 to count - 1.

    Raises:
      ValueError: if the count is below 1.
    """
    if count < 1:
        raise ValueError(f"images (={count}) must be at least 1")
    total = len(pictures.labels)
    if count >= total:
        return pictures
    kept = np.arange(count) * total // count
    return Pictures(
        f"{len(kept):,} of {pictures.name}",
        [pictures.sizes[i] for i in kept.tolist()],
        pictures.labels[kept],
        lambda index: pictures.read(int(kept[index])),
    )


def groups(sizes: Sequence[Pair], scales: Sequence[int], exact: bool) -> list[Group]:
    """Sorts pictures into groups, so that programs are compiled for few sizes.

    An exact group holds pictures whose resized sizes are equal at every scale; its canvases have these sizes. Other
    groups hold pictures of one orientation whose aspect ratios differ at most by the factor `ASPECT_STEP`; their
    canvases are as large as the largest picture, and their number grows with the logarithm of the most extreme aspect
    ratio.

    Args:
      sizes: (H, W) of each picture, pixels.
      scales: lengths that the shortest side is resized to, pixels.
      exact: whether canvases must have the same size as the pictures on them.

    Returns:
      The groups, the one with most pictures first; each picture is in one group.
    """
    scaled = [tuple(crops.scaled_size(size, scale) for scale in scales) for size in sizes]
    members: dict[Any, list[int]] = {}
    for index, (height, width) in enumerate(sizes):
        bucket = math.ceil(math.log(max(height, width) / min(height, width)) / math.log(ASPECT_STEP) - 1e-9)
        key = scaled[index] if exact else (bucket, bucket > 0 and height > width)
        members.setdefault(key, []).append(index)
    found = []
    for indices in members.values():
        largest = np.max([scaled[index] for index in indices], axis=0)
        found.append(Group(np.array(indices), tuple((int(height), int(width)) for height, width in largest)))
    return sorted(found, key=lambda group: -len(group.indices))


def lay(pictures: Sequence[np.ndarray], canvas: Pair, count: int) -> np.ndarray:
    """Places images in the upper left corners of canvases of one size; the rest is zero.

    Args:
      pictures: at least one image, uint8 [H, W, C] each, none larger than the canvas.
      canvas: (height, width) of a canvas, pixels.
      count: number of canvases, at least the number of pictures; further canvases are zero.

    Returns:
      The canvases, uint8 [count, height, width, C].
    """
    laid = np.zeros((count, *canvas, pictures[0].shape[2]), np.uint8)
    for place, picture in zip(laid[: len(pictures)], pictures, strict=True):
        place[: picture.shape[0], : picture.shape[1]] = picture
    return laid
