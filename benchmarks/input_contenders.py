"""The contenders of `benchmarks.input`: ways to make batches of the same JPEGs; their memory, and the report."""

import functools
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grain
import numpy as np
from PIL import Image

from benchmarks import machine, timing
from benchmarks.load import resident_bytes
from cnn import data
from cnn.data.image_files import Decoder
from cnn.data.streamed import Streamed
from cnn.images.resizing import resize_and_crop
from cnn.reports import markdown
from cnn.runtime import process
from cnn.runtime.devices import Devices
from cnn.training import feed

BARE, GRAIN, OURS, TORCH = "a loop over Pillow", "grain alone", "ours (cnn.training.feed)", "PyTorch's DataLoader"
Batches = Callable[[], Iterable[Any]]


def write_pictures(folder: str, count: int, side: int) -> list[str]:
    """Writes JPEGs that are as large as photographs: noise, smoothed, of quality 90.

    Args:
      folder: where they are written.
      count: number of pictures.
      side: height and width, pixels.

    Returns:
      Their paths.
    """

    def write(i: int) -> str:
        path = os.path.join(folder, f"{i:06}.jpg")
        coarse = np.random.default_rng(i).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
        return path

    with ThreadPoolExecutor(process.cores()) as pool:
        return list(pool.map(write, range(count)))


def decoded(path: str, size: int) -> np.ndarray:
    """One image by Pillow alone.

    Args:
      path: its file.
      size: height and width that it gets, pixels.

    Returns:
      uint8 [size, size, 3].
    """
    with Image.open(path) as picture:
        return np.asarray(resize_and_crop(picture.convert("RGB"), size, size))


class _Pictures:
    """What PyTorch's DataLoader takes: a sequence of arrays."""

    def __init__(self, paths: Sequence[str], size: int) -> None:
        self._paths, self._size = paths, size

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array(decoded(self._paths[index], self._size))  # a copy: PyTorch wants one that may be written to


def _split(paths: Sequence[str], size: int) -> data.Split:
    decoder = Decoder((size, size), 3)
    return data.Split(Streamed(paths, decoder, np.zeros((len(paths), 32), np.uint8)), np.zeros(len(paths), np.int32))


def contenders(paths: Sequence[str], size: int, batch: int) -> dict[str, Batches]:
    """Ways to go once over all whole batches of the pictures, uint8 [batch, size, size, 3].

    Args:
      paths: the pictures.
      size: height and width of an image, pixels.
      batch: images in a batch.

    Returns:
      For each name a function that begins anew.
    """
    steps, names = len(paths) // batch, list(paths)
    # The feed goes through each epoch in an order of its own; the others are given the same one.
    order = data.batch_indices(0, 0, batch_size=batch, num_examples=len(paths), steps=steps).ravel()
    shown: list[Any] = [names[i] for i in order.tolist()]

    def bare() -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(process.cores()) as pool:
            for start in range(0, steps * batch, batch):
                yield np.stack(list(pool.map(functools.partial(decoded, size=size), shown[start : start + batch])))

    def by_grain() -> Iterator[np.ndarray]:
        reading = grain.ReadOptions(num_threads=process.cores(), prefetch_buffer_size=2 * batch)
        images = grain.MapDataset.source(shown).map(functools.partial(decoded, size=size))
        return iter(images.to_iter_dataset(reading).batch(batch))

    def ours() -> Iterator[Any]:
        return (images for images, _ in feed.batches(_split(paths, size), 0, batch, Devices(1), first=0, total=steps))

    found: dict[str, Batches] = {BARE: bare, GRAIN: by_grain, OURS: ours}
    if importlib.util.find_spec("torch"):
        from torch.utils.data import DataLoader

        pictures: Any = _Pictures(shown, size)
        found[TORCH] = lambda: DataLoader(pictures, batch, num_workers=process.cores(), drop_last=True)
    return found


def check_same(made: Mapping[str, Batches]) -> None:
    """Checks that all contenders begin with the same batch.

    Args:
      made: the contenders.

    Raises:
      ValueError: if one has other pixels.
    """
    first = {name: np.asarray(next(iter(begin()))) for name, begin in made.items()}
    for name, images in first.items():
        if not np.array_equal(images, first[BARE]):
            raise ValueError(f"{name} gives other pixels than {BARE}")


def take_all(batches: Iterable[Any]) -> None:
    """Takes all batches.

    Args:
      batches: the batches.
    """
    for _ in batches:
        pass


def memory(paths: Sequence[str], size: int, batch: int, times: Sequence[int]) -> dict[str, int]:
    """Resident memory of this process after an epoch of the feed on sets of several sizes.

    Args:
      paths: the pictures.
      size, batch: as of `contenders`.
      times: how often the pictures are in each set; of each set as many batches are taken as of the smallest.

    Returns:
      Number of pictures, as text, -> bytes.
    """
    found = {}
    for count in times:
        split = _split(list(paths) * count, size)
        take_all(feed.batches(split, 0, batch, Devices(1), first=0, total=len(paths) // batch))
        found[str(len(split.labels))] = resident_bytes()
    return found


def text(results: Mapping[str, Any]) -> str:
    """The report as Markdown.

    Args:
      results: the contents of input.json.

    Returns:
      Two tables, and the facts about the machine.
    """
    images = results["pictures"] // results["batch"] * results["batch"]
    rows = []
    for name, taken in results["seconds"].items():
        rate = timing.median_ratio(results["seconds"][BARE], taken)
        first = 1e3 * timing.median(results["seconds_to_first_batch"][name])
        rows.append([name, f"{images / timing.median(taken):,.0f}", f"{rate:.2f}", f"{first:,.0f}"])
    headers = ["batches by", "pictures/s", "by the loop's", "ms to the first batch"]
    sizes = [[f"{int(n):,}", f"{bytes_ / 2**20:,.0f}"] for n, bytes_ in results["resident_bytes"].items()]
    mean = results["bytes"] / results["pictures"] / 1024
    side, size = results["side"], results["size"]
    title = f"# JPEGs of {side}x{side} pixels ({mean:.0f} KiB) as images of {size}x{size}"
    return (
        f"{title}\n\n{markdown.markdown(headers, rows)}\n"
        f"{markdown.markdown(['pictures in the set', 'MiB resident'], sizes)}\n"
        f"- batches of {results['batch']}; as many threads or processes as cores; by the loop's: median over turns\n"
        f"{machine.lines(results)}"
    )
