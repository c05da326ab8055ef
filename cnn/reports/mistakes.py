"""A net's mistakes: the test images that it classifies wrongly with the greatest confidence, and a picture of them."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnn.data import Split
from cnn.reports import run_pictures
from cnn.training.evaluate import Metrics

SHOWN = 24  # mistakes in a picture


class Mistakes(NamedTuple):
    """The most confident mistakes of a net on a split, the most confident first.

    Attributes:
      indices: their places in the split, int [n].
      predictions: the classes that the net takes them for, int [n].
      probabilities: probability of each of these classes, float32 [n].
      wrong: number of all wrong examples of the split; those with a NaN among their scores have no prediction, and are
        not among the n.
      examples: number of examples of the split.
    """

    indices: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray
    wrong: int
    examples: int


def find(metrics: Metrics, labels: np.ndarray, *, count: int = SHOWN) -> Mistakes:
    """Picks the mistakes of a net on a split that it is most sure of.

    Args:
      metrics: what the net made of the split (`cnn.training.evaluate.evaluate`).
      labels: the split's labels, int32 [N].
      count: the most mistakes to pick.

    Returns:
      The `Mistakes`; of equal probabilities the earlier image comes first.
    """
    wrong = metrics.predictions != labels
    candidates = np.flatnonzero(wrong & (metrics.predictions >= 0))
    chosen = candidates[np.argsort(-metrics.probabilities[candidates], kind="stable")[:count]]
    return Mistakes(chosen, metrics.predictions[chosen], metrics.probabilities[chosen], int(wrong.sum()), len(labels))


def mistakes_picture(path: str, found: Mistakes, split: Split, class_names: Sequence[str], title: str = "") -> None:
    """Draws mistakes in a grid: the predicted class with its probability, and below it the true class.

    Without any, a picture that an earlier evaluation left is removed.

    Args:
      path: path of the PNG to write.
      found: the mistakes (`find`).
      split: the split that they were found in.
      class_names: names of the classes.
      title: first part of the line above the picture, such as the net and the data.
    """
    if not len(found.indices):
        pathlib.Path(path).unlink(missing_ok=True)
        return
    which = "the" if len(found.indices) == found.wrong else f"the {len(found.indices)} most confident of"
    line = f"{which} {found.wrong:,} wrong of {found.examples:,} test images"
    run_pictures.samples_picture(
        path,
        split.images[found.indices],
        split.labels[found.indices],
        class_names,
        found.predictions,
        found.probabilities,
        title=f"{title}: {line}" if title else line,
    )
