"""Pictures that stay in their files: each is decoded when it is taken, and nothing of it is kept."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from cnn.data.image_files import Read, decode_each
from cnn.data.random_cuts import Cuts

AS_ARRAYS = ("items", "decoder", "digests", "counts")  # what is kept of streamed images
COUNTED = 1024  # images whose values are counted at a time


class Decoder(Protocol):
    """Decodes images; `cnn.data.image_files.Decoder` those in files of their own.

    Attributes:
      size: (height, width) that they get, pixels.
      channels: number of channels.
    """

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def channels(self) -> int: ...

    def decode(self, item: Any) -> tuple[np.ndarray, tuple[int, int]]:
        """Decodes one image: its pixels, uint8 [H, W, C], and (height, width) as it is stored, pixels."""
        ...

    def whole(self, item: Any, reduced: Callable[[int, int], int] | None = None) -> np.ndarray:
        """Decodes one image as it is stored, uint8 [H, W, C], or, of a JPEG, divided by what `reduced` says."""
        ...

    def as_json(self) -> dict[str, Any]:
        """The fields that it is made of again."""
        ...


class Streamed:
    """Images [N, H, W, C] in files, taken as those of an array are: `images[3]`, `images[2:9]`, `images[indices]`.

    Attributes:
      digests: SHA-256 of each image's pixels, uint8 [N, 32].
      items: their files, or their numbers in a file.
      decoder: decodes them.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        items: Sequence[Any],
        decoder: Decoder,
        digests: np.ndarray,
        counts: np.ndarray | None = None,
        of: np.ndarray | None = None,
        all_items: Sequence[Any] | None = None,
    ) -> None:
        """Takes over what is known of the files.

        Args:
          items: their files, or their numbers in a file.
          decoder: decodes them.
          digests: SHA-256 of each image's pixels, uint8 [N, 32].
          counts: how often each channel has each value, int64 [C, 256]; None: not known.
          of: which images those are the values of, bool [N]; None: all.
          all_items: those of all processes, of which `items` are this one's; None: there is one process.
        """
        self.items, self.decoder, self.digests, self._counts = list(items), decoder, digests, counts
        self._of = np.ones(len(self.items), bool) if of is None else of
        self._all_items = self.items if all_items is None else list(all_items)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return len(self.items), *self.decoder.size, self.decoder.channels

    def __len__(self) -> int:
        return len(self.items)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("streamed images are not in memory as a whole: take some, images[indices]")

    def __iter__(self) -> Any:
        return (self.read(i) for i in range(len(self)))

    def __getitem__(self, indices: Any) -> np.ndarray:
        """Decodes images on all cores: one by its number, or those of a slice, of numbers, or of a mask."""
        chosen = np.arange(len(self))[indices]
        if chosen.ndim == 0:
            return self.read(int(chosen))
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)

        def take(place: int) -> None:
            images[place] = self.read(int(chosen[place]))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(take, range(len(chosen))):
                pass
        return images

    def read(self, index: int) -> np.ndarray:
        """Decodes one image.

        Args:
          index: its number.

        Returns:
          uint8 [H, W, C].

        Raises:
          DataError: if its file cannot be read any more; it is named.
        """
        return self.decoder.decode(self.items[index])[0]

    def of_all(self, index: int) -> np.ndarray:
        """Decodes one of the images of all processes.

        Args:
          index: its number among all of them.

        Returns:
          uint8 [H, W, C].

        Raises:
          DataError: if its file cannot be read any more; it is named.
        """
        return self.decoder.decode(self._all_items[index])[0]

    def cut_of_all(self, index: int, cuts: Cuts, rng: np.random.Generator) -> np.ndarray:
        """Decodes one of the images of all processes, and cuts a training image out of it at random.

        Args:
          index: its number among all of them.
          cuts: how it is cut.
          rng: where random numbers are drawn from.

        Returns:
          uint8 [H, W, C].

        Raises:
          DataError: as `of_all`.
        """
        item = self._all_items[index]
        return cuts.cut(lambda reduced: self.decoder.whole(item, reduced), self.decoder.size, rng)

    def whole(self) -> Streamed:
        """The images of all processes; their digests are not known.

        Returns:
          The images.
        """
        unknown = np.zeros((len(self._all_items), *self.digests.shape[1:]), np.uint8)
        return Streamed(self._all_items, self.decoder, unknown, of=np.zeros(len(self._all_items), bool))

    def within(self, all_items: Sequence[Any]) -> Streamed:
        """The images as those of one process, of several.

        Args:
          all_items: the items of all processes.

        Returns:
          The same images.
        """
        return Streamed(self.items, self.decoder, self.digests, self._counts, self._of, all_items)

    def some(self, indices: np.ndarray) -> Streamed:
        """Some of the images, none of which is decoded.

        Args:
          indices: their numbers, int [M], or a mask.

        Returns:
          The images, in the order of the numbers.
        """
        chosen = np.arange(len(self))[indices]
        counts = self._counts if np.array_equal(np.sort(chosen[self._of[chosen]]), np.flatnonzero(self._of)) else None
        items = [self.items[i] for i in chosen.tolist()]
        return Streamed(items, self.decoder, self.digests[chosen], counts, self._of[chosen])

    def as_arrays(self) -> dict[str, np.ndarray]:
        """What is known of the images, as arrays that can be kept.

        Returns:
          `AS_ARRAYS` by name.
        """
        # JSON writes what is no UTF-8 in a path as an escape, and reads it again.
        texts = {"items": self.items, "decoder": self.decoder.as_json()}
        texts = {name: np.frombuffer(json.dumps(value).encode("ascii"), np.uint8) for name, value in texts.items()}
        return {**texts, "digests": self.digests, "counts": self.channel_counts()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], make_decoder: Callable[..., Decoder]) -> Streamed:
        """The images that `as_arrays` was called on; their files are not looked at.

        Args:
          arrays: what it gave.
          make_decoder: makes their decoder of the fields that its `as_json` gave.

        Returns:
          The images.
        """
        items, decoder = (json.loads(arrays[name].tobytes()) for name in ("items", "decoder"))
        return cls(items, make_decoder(**decoder), arrays["digests"], arrays["counts"])

    def channel_counts(self) -> np.ndarray:
        """How often each channel has each value; decodes all images where it is not known yet.

        Returns:
          int64 [C, 256].
        """
        if self._counts is None or not self._of.all():
            starts = range(0, len(self), COUNTED)
            blocks = (counted(self[start : start + COUNTED]) for start in starts)
            self._counts = sum(blocks, np.zeros((self.decoder.channels, 256), np.int64))
            self._of = np.ones(len(self), bool)
        return self._counts


def counted(images: np.ndarray) -> np.ndarray:
    """How often each channel has each value.

    Args:
      images: uint8 [..., C].

    Returns:
      int64 [C, 256].
    """
    return np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[-1])])


def some(images: Any, indices: Any) -> Any:
    """Some images of an array, which are copied, or of `Streamed` ones, which are not decoded.

    Args:
      images: uint8 [N, H, W, C].
      indices: int [M], a mask, or a slice.

    Returns:
      uint8 [M, H, W, C], of the same kind.
    """
    return images.some(indices) if isinstance(images, Streamed) else images[indices]


def scan(items: Sequence[Any], decoder: Decoder, *, stops: bool, examine: bool) -> Read:
    """Decodes each picture once, as `cnn.data.image_files.read_images` does, and keeps what is known of it alone.

    Args:
      items: their files, or their numbers in a file.
      decoder: decodes them.
      stops, examine: as for `read_images`.

    Returns:
      What was read; its images are `Streamed`. The values of damaged ones are counted only where the first one that
      cannot be read stops, as they are left out otherwise.

    Raises:
      DataError: as `read_images`.
    """
    digests = np.zeros((len(items), hashlib.sha256().digest_size), np.uint8)
    counts, of, lock = np.zeros((decoder.channels, 256), np.int64), np.zeros(len(items), bool), threading.Lock()

    def take(i: int, pixels: np.ndarray, damage: str | None) -> None:
        digests[i] = np.frombuffer(hashlib.sha256(pixels.tobytes()).digest(), np.uint8)
        if damage is None or stops:
            values = counted(pixels)
            of[i] = True
            with lock:
                np.add(counts, values, out=counts)

    found = decode_each(items, decoder, take, stops=stops, examine=examine)
    images: Any = Streamed(items, decoder, digests, counts, of)
    return Read(images, *found)
