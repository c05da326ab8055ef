"""Images in the records of a TFDS set: where they are, and each decoded by its number."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from cnn.data.image_files import resize_and_crop
from cnn.images.errors import DataError
from cnn.images.pictures import MODES, decode


class Records:
    """Decodes the images of one split.

    Attributes:
      source: its records, as TFDS opens them.
    """

    def __init__(self, source: Any, *, set: str, dir: str, split: str, key: str, shape: tuple[int, ...], resize: bool):
        """Takes a split that is open.

        Args:
          source: its records, as TFDS opens them.
          set: TFDS's name of the set.
          dir: TFDS's data_dir.
          split: name of the split.
          key: name of the image in a record.
          shape: (H, W, C) that images get, pixels and channels.
          resize: whether images of another size are resized and cut; otherwise they are an error.
        """
        self.source, self._shape, self._key, self._resize = source, tuple(shape), key, resize
        self._json = {"set": set, "dir": dir, "split": split, "key": key, "shape": list(shape), "resize": resize}

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that images get, pixels."""
        return self._shape[0], self._shape[1]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self._shape[2]

    def as_json(self) -> dict[str, Any]:
        """The fields that it is made of again, by `cnn.data.tfds.records`.

        Returns:
          Field -> value.
        """
        return self._json

    def decode(self, item: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Decodes one image.

        Args:
          item: number of its record.

        Returns:
          Its pixels, uint8 [H, W, C], and (height, width) that it got, pixels.

        Raises:
          DataError: if it cannot be decoded, or has another size and is not resized.
        """
        return self.pixels(self.source[item], item), self.size

    def whole(self, item: int) -> np.ndarray:
        """Decodes one image as it is.

        Args:
          item: number of its record.

        Returns:
          uint8 [H, W, C].

        Raises:
          DataError: if it cannot be decoded.
        """
        image = np.asarray(self._image(self.source[item], item))
        return image.reshape(*image.shape[:2], self.channels)

    def pixels(self, record: Any, item: int) -> np.ndarray:
        """The image in a record.

        Args:
          record: the record.
          item: its number, for errors.

        Returns:
          uint8 [H, W, C].

        Raises:
          DataError: as `decode`.
        """
        height, width, _ = self._shape
        image = self._image(record, item)
        if self._resize:
            image = resize_and_crop(image, height, width)
        if image.size != (width, height):
            raise DataError(
                f"record {item} of {self.source} is {image.height}x{image.width}, not {height}x{width} as the "
                "set declares; data.image_size brings all images to one size"
            )
        return np.asarray(image).reshape(self._shape)

    def _image(self, record: Any, item: int) -> Any:
        try:
            return decode(io.BytesIO(record[self._key]), self.channels)
        except DataError as error:
            raise DataError(f"record {item} of {self.source}: {error}") from error


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


def image_shape(name: str, shape: tuple[int | None, ...], image_size: int | None) -> tuple[int, int, int]:
    """The shape that a set's images get.

    Args:
      name: name of the set, for errors.
      shape: (H, W, C) as the set declares it; None where its images differ.
      image_size: height and width that they are to get, pixels; None: their own.

    Returns:
      (H, W, C), pixels and channels.

    Raises:
      DataError: if there is no one shape, or not one of 1 or 3 channels.
    """
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
