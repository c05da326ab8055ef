"""Weights of classes in the loss of training, for data that have many examples of some classes and few of others."""

import numpy as np

from cnn.data import Dataset
from cnn.runs import ranges
from cnn.runs.config import Config

BALANCED = ranges.BALANCED


def of(train: Config, dataset: Dataset) -> np.ndarray | None:
    """The weight of each class, which the loss of its examples is multiplied by.

    Args:
      train: the config's `train` part: class_weights (absent in configs of older runs: there are none). "balanced" is
        n / (K n_k) for a class of n_k among n training examples, where K classes have any: each class counts alike, and
        the mean weight of an example is 1.
      dataset: all of the data.

    Returns:
      float32 [K]; None if all examples count alike.

    Raises:
      ValueError: if the field is out of range, or there is not one number for each class.

    Source: King, Zeng (2001), as in scikit-learn.
    """
    ranges.check_fields("train", train, "class_weights")
    weights = train.get("class_weights", ())
    if not len(weights):
        return None
    if weights == BALANCED or tuple(weights) == (BALANCED,):
        counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
        # A class without examples is never asked for its weight.
        return (len(dataset.train.labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)
    if len(weights) != dataset.num_classes:
        raise ValueError(
            f"train.class_weights (={tuple(weights)}) has {len(weights)} numbers for the {dataset.num_classes} classes "
            f"of data {dataset.name!r}; give one for each, in the order {', '.join(dataset.class_names[:20])}"
            f"{', ...' * (dataset.num_classes > 20)}, or balanced"
        )
    return np.asarray(weights, np.float32)
