"""What the scores of a net mean: its output activation, and the classes, probabilities and losses that follow from it.

- "softmax": exactly one of the K classes is right, and the probabilities of a window add up to 1.
- "sigmoid": each class is there or not, whatever the others are; its probability is the logistic function of its score.
- A net with a single score z, with either: two classes, with the scores [0, z]. The second class has the
  probability 1 / (1 + exp(-z)), which is what a softmax over [0, z] gives it.

Whatever shows a class or a probability asks here, so that training, prediction, maps and pictures agree.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

ACTIVATIONS = ("softmax", "sigmoid")


def check_activation(activation: str, what: str) -> str:
    """Returns the activation.

    Args:
      activation: name of an activation.
      what: what has it, for the error.

    Raises:
      ValueError: if there is no such activation.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"{what}: output_activation (={activation!r}) must be one of {', '.join(ACTIVATIONS)}")
    return activation


def class_count(scores: int) -> int:
    """Number of classes of a net with that many scores: one score tells two classes apart."""
    return max(scores, 2)


def class_scores(scores: Any) -> Any:
    """One score for each class.

    Args:
      scores: the net's scores, [..., K], an array of NumPy or of JAX.

    Returns:
      The same array, or for K = 1 [..., 2]: [0, z], of the same library and dtype. NaN stays NaN in both classes.
    """
    if scores.shape[-1] != 1:
        return scores
    library: Any = np if isinstance(scores, np.ndarray) else jnp
    return library.concatenate([library.where(scores != scores, scores, library.zeros_like(scores)), scores], axis=-1)


def probabilities(scores: jax.Array, activation: str = "softmax") -> jax.Array:
    """Probabilities of scores, also of infinite ones: as large as for numbers beyond all others.

    Args:
      scores: the net's scores (logits), floating [..., K].
      activation: "softmax" or "sigmoid".

    Returns:
      [..., K], or [..., 2] for K = 1, same dtype. With a softmax, scores of +inf share the probability 1, as do equal
      scores of -inf where there are no others, and all are NaN if there is a NaN among the scores.

    Raises:
      ValueError: if there is no such activation.
    """
    if check_activation(activation, "probabilities") == "sigmoid" and scores.shape[-1] != 1:
        return jax.nn.sigmoid(scores)
    scores = class_scores(scores)
    top = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    # Of infinite scores only those equal to the largest count; the difference of two infinities is no number.
    ranked = jnp.where(jnp.isinf(top), jnp.where(scores == top, 0, -jnp.inf), scores)
    return jax.nn.softmax(ranked.astype(scores.dtype), axis=-1)


def log_probabilities(scores: np.ndarray, activation: str = "softmax") -> np.ndarray:
    """Logarithms of probabilities, exact also where a probability rounds to 1, as log1p adds the largest term, exp(0).

    Args:
      scores: the net's scores (logits), real numbers [..., K]; with a softmax, of infinite ones those equal to the
        largest share all.
      activation: "softmax" or "sigmoid".

    Returns:
      float64 [..., K], or [..., 2] for K = 1; NaN where a score is NaN: with a softmax, where one of the K is.

    Raises:
      ValueError: if there is no such activation.
    """
    scores = np.asarray(scores, np.float64)
    if check_activation(activation, "log_probabilities") == "sigmoid" and scores.shape[-1] != 1:
        return -np.logaddexp(0, -scores)
    scores = class_scores(scores)
    top = scores.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # the difference of equal infinities, which is set to 0
        shifted = np.where(scores == top, 0, scores - top)
    others = np.exp(shifted)
    largest = np.where(np.isnan(top), 0, shifted == 0).argmax(axis=-1)[..., None]
    np.put_along_axis(others, largest, 0, axis=-1)
    return np.where(np.isnan(top), np.nan, shifted - np.log1p(others.sum(axis=-1, keepdims=True)))


def negative_log_likelihood(scores: jax.Array, labels: jax.Array, activation: str = "softmax") -> jax.Array:
    """Loss of each example whose class is known: `cross_entropy` with all of the target on the label.

    Args:
      scores: the net's scores (logits), floating [N, K]; scores of -inf of other classes cost nothing.
      labels: integer [N].
      activation: "softmax" or "sigmoid".

    Returns:
      [N].

    Raises:
      ValueError: if there is no such activation.
    """
    independent = check_activation(activation, "negative_log_likelihood") == "sigmoid" and scores.shape[-1] != 1
    scores = class_scores(scores)
    own = scores[np.arange(len(labels)), labels]
    return (jax.nn.softplus(scores).sum(axis=1) if independent else jax.nn.logsumexp(scores, axis=1)) - own


def without_object(scores: int, activation: str = "softmax") -> float:
    """The target of every class for an image that shows none of them.

    Args:
      scores: number of the net's scores, K.
      activation: "softmax": the target is even, since something must be right; "sigmoid": it is 0.

    Returns:
      The probability.
    """
    return 0.0 if activation == "sigmoid" and scores != 1 else 1 / class_count(scores)


def cross_entropy(scores: jax.Array, targets: jax.Array, activation: str = "softmax") -> jax.Array:
    """Loss of each example.

    Args:
      scores: the net's scores (logits), floating [N, K].
      targets: probability that each class should have, floating [N, K], or [N, 2] for K = 1.
      activation: "softmax": the cross-entropy of the distribution over the classes; "sigmoid": the sum over the classes
        of the cross-entropy of each.

    Returns:
      [N].

    Raises:
      ValueError: if there is no such activation.
    """
    if check_activation(activation, "cross_entropy") == "sigmoid" and scores.shape[-1] != 1:
        return optax.sigmoid_binary_cross_entropy(scores, targets).sum(axis=-1)
    return optax.softmax_cross_entropy(class_scores(scores), targets)
