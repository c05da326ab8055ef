"""Batches of pictures that stay in their files: decoded by threads, a few ahead of the step that takes them.

The one module that uses grain, which keeps the threads busy and the order of the batches.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import numpy as np

from cnn import data
from cnn.data.rand_augment import RandAugment
from cnn.data.random_cuts import Cuts
from cnn.data.streamed import Streamed
from cnn.runtime import process, processes
from cnn.runtime.devices import Devices
from cnn.runtime.shares import WHOLE

AHEAD = 2  # batches


def batches(
    split: data.Split,
    seed: int,
    batch_size: int,
    devices: Devices,
    *,
    first: int,
    total: int,
    cuts: Cuts | None = None,
    changes: RandAugment | None = None,
) -> Iterator[tuple[jax.Array, jax.Array]]:
    """The batches of a run from a step on, each a pure function of (seed, step) as `cnn.data.batch_indices` has it.

    Args:
      split: the training examples, whose images are `Streamed`.
      seed: seed of the run.
      batch_size: examples in a step.
      devices: the devices that batches are split over.
      first: the first step.
      total: number of steps of the run.
      cuts: how images are cut out of their pictures at random, by a key of (seed, step, place in the batch); None: they
        are not.
      changes: what is done to each image after that, by the same key; None: nothing.

    Yields:
      (uint8 [B, H, W, C], int32 [B]) on the devices; of several processes each decodes what its devices take. An error
      of a file names it.
    """
    import grain

    images = split.images
    assert isinstance(images, Streamed)
    cuts, changes = cuts or Cuts(), changes or RandAugment()
    count, share = len(split.labels), processes.share() if devices.are_shared else WHOLE
    places = range(batch_size)[share.rows(batch_size)]
    here = len(places)

    @functools.lru_cache(maxsize=AHEAD + 4)  # of the steps that threads are at; each call copies a whole epoch's order
    def rows(step: int) -> np.ndarray:
        """The examples of a step that this process's devices take."""
        return data.batch_indices(seed, step, batch_size=batch_size, num_examples=count)[0][share.rows(batch_size)]

    def example(number: int) -> np.ndarray:
        step, place = divmod(number, here)
        index = int(rows(step)[place])
        if not (cuts.asked or changes.operations):
            return images.of_all(index)
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, step, places[place]))))
        return changes.apply(images.cut_of_all(index, cuts, rng) if cuts.asked else images.of_all(index), rng)

    examples = grain.MapDataset.range(first * here, total * here).map(example)
    options = grain.ReadOptions(num_threads=process.cores() + 1, prefetch_buffer_size=AHEAD * here)
    # Threads wait at the end of each batch for its slowest picture; one more than there are cores fills the gap.
    decoded = iter(examples.to_iter_dataset(options).batch(here))
    waiting: list[tuple[jax.Array, jax.Array]] = []
    for step in range(first, total):
        own = (next(decoded), np.ascontiguousarray(split.labels[rows(step)]))
        placed = [jax.make_array_from_process_local_data(devices.split(), one) for one in own]
        waiting.append((placed[0], placed[1]))
        if len(waiting) > 1:  # one more is on its way to the devices while a step is taken
            yield waiting.pop(0)
    yield from waiting
