"""Class and probability for a user's own pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from cnn import data
from cnn.runs.checkpoint import Run
from cnn.training import evaluate


class Prediction(NamedTuple):
    """What a net says of one picture.

    Attributes:
      path: of the picture.
      class_name: of the most probable class.
      probability: of it, from the softmax.
      probabilities: of all classes, float32 [K].
    """

    path: str
    class_name: str
    probability: float
    probabilities: np.ndarray


def predict(run: Run, paths: Sequence[str]) -> list[Prediction]:
    """Classifies pictures: shortest side resized to the net's window, centre-cropped, normalised as in training.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`).
      paths: of PNG or JPEG files of any size, with the polarity of the training images (digits and MNIST: bright
        strokes on black).

    Returns:
      One `Prediction` for each path.

    Raises:
      DataError: if a file cannot be read.
      FloatingPointError: if the scores of a picture are not finite.
    """
    height, width, channels = run.image_shape
    images = data.load_images(paths, (height, width), channels)
    scores = evaluate.logits(run.net, run.variables, images, run.mean, run.std)
    probabilities = np.asarray(jax.nn.softmax(scores, axis=1))
    predictions = []
    for path, row in zip(paths, probabilities, strict=True):
        if np.isnan(row).any():
            raise FloatingPointError(
                f"{path}: the net's scores are not finite, so that no class is the most probable; its training at step "
                f"{run.step} had diverged: train again with a lower train.learning_rate"
            )
        best = int(row.argmax())
        predictions.append(Prediction(path, run.class_names[best], float(row[best]), row))
    return predictions
