"""Encoded images that are records of larger files, each decoded by its place.

What such a set is made of is a `Source` for each split; `cnn.data.tfds` and `cnn.data.shards` open them, and
`cnn.data.record_splits` reads their splits.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from cnn.images.errors import DataError
from cnn.images.pictures import MODES, decode, is_grey, picture_size
from cnn.images.resizing import resize_and_crop

LOOKED_AT = 100  # images that say whether a set without a declaration is grey
READ_BLOCK = 1000  # records read at once: one by one, TFDS takes three times as long


class Source(Protocol):
    """The records of one split.

    Attributes:
      items: where each is, as JSON can hold it; in the order of the labels.
    """

    @property
    def items(self) -> Sequence[Any]: ...

    def labels(self) -> np.ndarray:
        """The labels of all records, int32 [N]; no image is decoded."""
        ...

    def read(self, items: Sequence[Any]) -> list[bytes]:
        """The encoded images of some records."""
        ...

    def examples(self, start: int, stop: int) -> tuple[list[bytes], list[int]]:
        """The encoded images and the labels of records that follow each other."""
        ...

    def name(self, item: Any) -> str:
        """What a record is called in errors."""
        ...


class Opened(NamedTuple):
    """A set that is open.

    Attributes:
      sources: "train" and others by name.
      tests: names of the labelled splits to report on, the best first; a second one is for validation.
      shape: (H, W, C) as the set declares it; None where its images differ.
      class_names: one for each label.
      fields: what it is opened by, with `split` for one split, as JSON can hold it.
      remarks: what a reader of the results has to know of it, a line each.
    """

    sources: Mapping[str, Source]
    tests: list[str]
    shape: tuple[int | None, ...]
    class_names: tuple[str, ...]
    fields: dict[str, Any]
    remarks: tuple[str, ...] = ()


class Records:
    """Decodes the images of one split.

    Attributes:
      source: its records.
    """

    def __init__(self, source: Source, *, shape: Sequence[int], resize: bool, **fields: Any) -> None:
        """Takes a split that is open.

        Args:
          source: its records.
          shape: (H, W, C) that images get, pixels and channels.
          resize: whether images of another size are resized and cut; otherwise they are an error.
          **fields: what it is opened by again.
        """
        self.source, self._shape, self._resize = source, tuple(shape), resize
        # What a set declares is so; of shards the first images were looked at.
        self._grey = self._shape[2] == 1 and "shards" in fields
        self._json = {**fields, "shape": list(shape), "resize": resize}

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that images get, pixels."""
        return self._shape[0], self._shape[1]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self._shape[2]

    def as_json(self) -> dict[str, Any]:
        """The fields that it is made of again.

        Returns:
          Field -> value.
        """
        return self._json

    def decode(self, item: Any) -> tuple[np.ndarray, tuple[int, int]]:
        """Decodes one image.

        Args:
          item: its record.

        Returns:
          Its pixels, uint8 [H, W, C], and (height, width) that it got, pixels.

        Raises:
          DataError: if it cannot be read or decoded, or has another size and is not resized.
        """
        return self.pixels(self.source.read([item])[0], item), self.size

    def whole(self, item: Any, reduced: Callable[[int, int], int] | None = None) -> np.ndarray:
        """Decodes one image as it is.

        Args:
          item: its record.
          reduced: by what height and width may be divided, as for `cnn.images.pictures.decode`; a JPEG is.

        Returns:
          uint8 [H, W, C].

        Raises:
          DataError: if it cannot be read or decoded.
        """
        image = np.asarray(self._image(self.source.read([item])[0], item, reduced))
        return image.reshape(*image.shape[:2], self.channels)

    def pixels(self, encoded: bytes, item: Any) -> np.ndarray:
        """Decodes an image that was read.

        Args:
          encoded: the image as it is stored.
          item: its record, for errors.

        Returns:
          uint8 [H, W, C].

        Raises:
          DataError: as `decode`.
        """
        height, width, _ = self._shape
        image = self._image(encoded, item)
        if self._resize:
            image = resize_and_crop(image, height, width)
        if image.size != (width, height):
            raise DataError(
                f"{self.source.name(item)} is {image.height}x{image.width}, not {height}x{width} as the set "
                "declares or its first image is; data.image_size brings all images to one size"
            )
        return np.asarray(image).reshape(self._shape)

    def _image(self, encoded: bytes, item: Any, reduced: Callable[[int, int], int] | None = None) -> Any:
        try:
            if self._grey and not is_grey(io.BytesIO(encoded)):
                raise DataError("it is in colour, and the first images of the set are grey")
            return decode(io.BytesIO(encoded), self.channels, reduced)
        except DataError as error:
            raise DataError(f"{self.source.name(item)}: {error}") from error


def shape_of(source: Source) -> tuple[int, int, int]:
    """The shape that a split's images have if all are of the size of the first.

    Args:
      source: its records, at least one.

    Returns:
      (H, W, C), upright; one channel where all of a hundred images are grey, else three.

    Raises:
      DataError: if an image's header cannot be read.
    """
    grey, size = True, (0, 0)
    for i in range(0, len(source.items), max(1, len(source.items) // LOOKED_AT)):
        (content,) = source.read([source.items[i]])
        try:
            size = size if i else picture_size(io.BytesIO(content))
            grey = grey and is_grey(io.BytesIO(content))
        except DataError as error:
            raise DataError(f"{source.name(source.items[i])}: {error}") from error
    return *size, 1 if grey else 3


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
