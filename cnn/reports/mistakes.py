"""A net's mistakes: the test images that it classifies wrongly with the greatest confidence, and a picture of them."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn import data
from cnn.data import Split
from cnn.nets import Net, outputs
from cnn.reports import run_pictures
from cnn.runtime.compiler import jit_net

SHOWN = 24  # mistakes in a picture


class Mistakes(NamedTuple):
    """The most confident mistakes of a net on a split, the most confident first.

    Attributes:
      indices: their places in the split, int [n].
      predictions: the classes that the net takes them for, int [n].
      probabilities: probability of each of these classes, float32 [n].
      wrong: number of all wrong examples of the split; those whose scores are not finite have no prediction, and are
        not among the n.
      examples: number of examples of the split.
    """

    indices: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray
    wrong: int
    examples: int


def find(
    net: Net,
    variables: Mapping[str, Any],
    split: Split,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    batch_size: int,
    dtype: str = "float32",
    count: int = SHOWN,
) -> Mistakes:
    """Runs a net over a split and picks the mistakes that it is most sure of.

    Args:
      net: the classifier.
      variables: its variables.
      split: images and labels.
      mean, std: mean and standard deviation of each channel, as in training (`cnn.data.normalise`).
      batch_size: images in one call to the device.
      dtype: data type of the net's activations, as in training.
      count: the most mistakes to pick.

    Returns:
      The `Mistakes`; of equal probabilities the earlier image comes first.
    """
    parts = []
    constants = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    for indices, real in data.batches(len(split.labels), min(batch_size, max(1, len(split.labels)))):
        parts.append(np.asarray(_probabilities(net, dtype, variables, split.images[indices], *constants))[:real])
    probabilities = np.concatenate(parts)
    predictions = probabilities.argmax(axis=1)
    finite = np.isfinite(probabilities).all(axis=1)
    wrong = ~finite | (predictions != split.labels)
    candidates = np.flatnonzero(wrong & finite)
    sure = probabilities[candidates, predictions[candidates]]
    chosen = candidates[np.argsort(-sure, kind="stable")[:count]]
    picked = predictions[chosen]
    return Mistakes(chosen, picked, probabilities[chosen, picked], int(wrong.sum()), len(split.labels))


def _net_probabilities(
    net: Net, dtype: str, variables: Mapping[str, Any], images: jax.Array, mean: Any, std: Any
) -> jax.Array:
    """Probabilities [N, K], float32."""
    scores: Any = net.apply(variables, data.normalise(images, mean, std).astype(dtype), train=False)
    return outputs.probabilities(scores.astype(jnp.float32), net.output_activation)


_probabilities = jit_net(_net_probabilities, (0, 1))


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
