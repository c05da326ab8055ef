"""Which examples of a split a process reads, where several share a data set: labels of all, its own images."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cnn.runtime.shares import Share


class Wanted(NamedTuple):
    """Which examples are read.

    Attributes:
      share: the process's share of each split.
      draw: (labels of the training split, int [N]) -> sorted indices of those that are kept; None: all are.
    """

    share: Share
    draw: Callable[[np.ndarray], np.ndarray] | None = None

    def of(self, split: str, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Chooses examples of a split.

        Args:
          split: "train", "validation" or "test".
          labels: its labels, int [N].

        Returns:
          Indices of the examples that the split keeps, and of those whose images this process reads.
        """
        kept = self.draw(labels) if self.draw and split == "train" else np.arange(len(labels))
        return kept, kept[self.share.rows(len(kept))]
