"""Which examples a step sees: the order of each epoch and the batches of a run, pure functions of (seed, step)."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np


@functools.lru_cache(maxsize=4)  # one dispatch spans few epochs, and the next starts in the last of them
def permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """The order of the training examples in one epoch; a pure function of its arguments.

    Args:
      seed: seed of the run.
      epoch: number of the epoch, 0 for the first.
      num_examples: number of training examples.

    Returns:
      int32 [num_examples], read-only, as it is kept for later calls.
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch))))
    order = generator.permutation(num_examples).astype(np.int32)
    order.setflags(write=False)  # it is shared by every later call
    return order


def batch_indices(seed: int, step: int, *, batch_size: int, num_examples: int, steps: int = 1) -> np.ndarray:
    """Which training examples the steps `step` to `step + steps - 1` see; a pure function of its arguments.

    The stream of examples is an endless sequence of epochs, each a fresh permutation seeded by (seed, epoch),
    cut into batches. A batch may span epochs, so nothing is dropped: every epoch has each example once.

    Args:
      seed: seed of the run, at least 0.
      step: the first step, from 0.
      batch_size: examples a step; may be larger than the set.
      num_examples: size of the training split.
      steps: number of consecutive steps.

    Returns:
      int32 [steps, batch_size], each in [0, num_examples).

    Raises:
      ValueError: a negative seed or step, or a size below 1.
    """
    if seed < 0 or step < 0:
        raise ValueError(f"batch_indices: seed (={seed}) and step (={step}) must be at least 0")
    if min(batch_size, num_examples, steps) < 1:
        raise ValueError(
            f"batch_indices: batch_size (={batch_size}), num_examples (={num_examples}) and steps (={steps}) "
            "must be at least 1"
        )
    start, count = step * batch_size, steps * batch_size
    first, skip = divmod(start, num_examples)
    epochs = -(-(skip + count) // num_examples)  # rounded up
    stream = np.concatenate([permutation(seed, first + e, num_examples) for e in range(epochs)])
    return stream[skip : skip + count].reshape(steps, batch_size)


def batches(count: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Indices of examples in order, in batches of one size; the last one repeats its last example.

    Programs are compiled for one size of batch; whoever computes with a batch drops what the repeats give.

    Args:
      count: number of examples.
      size: examples in a batch, at least 1.

    Yields:
      (int64 [size], how many of them are no repeats).
    """
    for start in range(0, count, size):
        yield np.minimum(np.arange(start, start + size), count - 1), min(size, count - start)
