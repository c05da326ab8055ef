"""What of a net's scores is written into a map: the scores, probabilities, or the winning class and its probability.

Everything is computed window by window, in float64 on the host, so that it does not depend on the tiles.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cnn.images.errors import StorageError
from cnn.nets import outputs

KINDS = ("scores", "probabilities", "class")
DTYPES = ("float32", "float16")
BAND_VALUES = 2**20  # of scores that are worked on at a time
CLASSES_OF_BYTES = 254  # more need uint16; the dtype's largest value is no class


class Written(NamedTuple):
    """What a map holds.

    Attributes:
      kind: "scores", "probabilities" or "class".
      dtype: dtype of its values: float32 or float16; of classes uint8 for up to 254 classes, else uint16.
      bands: number of values of a window.
      output_activation: what the net's scores mean, "softmax" or "sigmoid" (`cnn.nets.outputs`).
    """

    kind: str
    dtype: np.dtype
    bands: int
    output_activation: str

    def of(self, scores: np.ndarray) -> np.ndarray:
        """What is written of the scores of a tile.

        Args:
          scores: float32 [rows, columns, K]; NaN where there is none.

        Returns:
          [rows, columns, bands] of `dtype`. Of a window with a NaN among its scores no probability of a softmax is
          known, and no class: the class is the dtype's largest value, its probability 0.

        Raises:
          StorageError: if a score is too large for float16.
        """
        if self.kind == "scores" and self.dtype == np.float32:
            return scores
        rows, columns, classes = scores.shape
        flat = np.ascontiguousarray(scores).reshape(-1, classes)
        made = np.empty((len(flat), self.bands), self.dtype)
        for part in _bands(len(flat), classes):
            made[part] = self._of_windows(flat[part])
        return made.reshape(rows, columns, self.bands)

    def _of_windows(self, scores: np.ndarray) -> np.ndarray:
        """The values of windows, [n, bands] from [n, K]."""
        if self.kind == "scores":
            return self._narrow(scores)
        with np.errstate(invalid="ignore"):  # of scores that are NaN, which stay NaN
            probabilities = np.exp(outputs.log_probabilities(scores, self.output_activation))
        if self.kind == "probabilities":
            return self._narrow(probabilities.astype(np.float32))
        top = int(np.iinfo(self.dtype).max)
        unknown = np.asarray(np.isnan(scores).any(axis=-1))
        # By the scores: probabilities that round to 1 no longer tell which is the largest.
        best = outputs.class_scores(np.where(unknown[:, None], 0, scores)).argmax(axis=-1)
        won = np.take_along_axis(probabilities, best[:, None], axis=-1)[:, 0]
        values = np.stack([np.where(unknown, top, best), np.where(unknown, 0, np.round(won * top))], axis=-1)
        return values.astype(self.dtype)

    def _narrow(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            made = values.astype(self.dtype)
        if (np.isinf(made) & np.isfinite(values)).any():
            largest = float(np.abs(values[np.isfinite(values)]).max())
            raise StorageError(
                f"a score of {largest:.6g} is larger than float16 holds, {np.finfo(np.float16).max:g}; write the map "
                "with map_dtype='float32'"
            )
        return made


def _bands(windows: int, classes: int) -> Iterator[slice]:
    step = max(1, BAND_VALUES // classes)
    return (slice(first, first + step) for first in range(0, windows, step))


def resolve(write: str, map_dtype: str, scores: int, output_activation: str) -> Written:
    """What a map is to hold.

    Args:
      write: "scores", "probabilities" or "class".
      map_dtype: "float32" or "float16"; of classes, which are whole numbers, "float32", which means nothing there.
      scores: number of scores of the net.
      output_activation: what they mean.

    Returns:
      A `Written`.

    Raises:
      ValueError: if there is no such kind or dtype, or the two do not go together.
    """
    if write not in KINDS:
        raise ValueError(f"stream: write (={write!r}) must be one of {', '.join(KINDS)}")
    if map_dtype not in DTYPES:
        raise ValueError(f"stream: map_dtype (={map_dtype!r}) must be one of {', '.join(DTYPES)}")
    classes = outputs.class_count(scores)
    if write == "scores":
        return Written(write, np.dtype(map_dtype), scores, output_activation)
    if write == "probabilities":
        return Written(write, np.dtype(map_dtype), classes, output_activation)
    if map_dtype != "float32":
        raise ValueError("stream: map_dtype is for scores and probabilities; write='class' gives uint8 or uint16")
    if classes >= np.iinfo(np.uint16).max:
        raise ValueError(f"stream: write='class' numbers up to 65534 classes, the net has {classes}; write scores")
    dtype = np.uint8 if classes <= CLASSES_OF_BYTES else np.uint16
    return Written(write, np.dtype(dtype), 2, output_activation)
