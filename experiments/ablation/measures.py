"""Measures of a trained net beside its test accuracy; each public function that studies call makes a `Measure`."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn import data, dense
from cnn.data import Dataset, Split
from cnn.layers import Flatten, flatten_permutation
from cnn.layers.pointwise import FLATTEN_ORDERS
from cnn.nets import Net, outputs
from cnn.runs.config import Config
from cnn.runtime.compiler import jit_net
from cnn.runtime.devices import Devices
from cnn.training import evaluate
from experiments.ablation.study import Measure, Outcome

BATCH = 500  # images in one call of a measure's own


class Trained(NamedTuple):
    """One seed's net, and what it was trained on.

    Attributes:
      net: the classifier.
      variables: its variables.
      config: config of its cell.
      dataset: with its test split, and the constants that images are normalised by.
      devices: where to run.
    """

    net: Net
    variables: Mapping[str, Any]
    config: Config
    dataset: Dataset
    devices: Devices


def accuracy(trained: Trained, images: np.ndarray) -> float:
    """Accuracy on changed test images.

    Args:
      trained: the net.
      images: uint8 [N, H, W, C], in the order of the test split.

    Returns:
      In [0, 1].
    """
    config, dataset = trained.config, trained.dataset
    split = Split(images, dataset.test.labels)
    options = {**evaluate.options(config), "devices": trained.devices}
    return evaluate.evaluate(trained.net, trained.variables, split, dataset.mean, dataset.std, **options).accuracy


def shift(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """Moves images; the uncovered pixels are zero.

    Args:
      images: [N, H, W, C].
      down, right: how far the images are moved, pixels; negative for up and left.

    Returns:
      The same shape and dtype.
    """
    _, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (abs(down),) * 2, (abs(right),) * 2, (0, 0)))
    top, left = abs(down) - down, abs(right) - right
    return padded[:, top : top + height, left : left + width]


DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))


def shifted(*pixels: int) -> Measure:
    """Accuracy on test images moved by some pixels, the mean over up, down, left and right.

    Args:
      *pixels: distances.

    Returns:
      A measure with outcomes "shifted N px".
    """

    return Measure(
        tuple(Outcome(f"shifted {n} px") for n in pixels), functools.partial(_shifted_accuracies, pixels=pixels)
    )


def _shifted_accuracies(trained: Trained, pixels: Sequence[int]) -> dict[str, float]:
    images = trained.dataset.test.images
    return {
        f"shifted {n} px": float(np.mean([accuracy(trained, shift(images, n * y, n * x)) for y, x in DIRECTIONS]))
        for n in pixels
    }


def feature_distance(*pixels: int, images: int = BATCH) -> Measure:
    """How far the features before the first fully connected layer move when the image does.

    The mean distance (L2) between an image's features and those of the image moved, over the four directions, by the
    mean distance between different images' features: 0 for full invariance, 1 where the moved image is as far as
    another image.

    Args:
      *pixels: distances.
      images: number of test images, the first ones: as many as there are where they come class by class, as a folder's.

    Returns:
      A measure with outcomes "feature distance N px".
    """

    outcomes = tuple(Outcome(f"feature distance {n} px", "", higher_is_better=False) for n in pixels)
    return Measure(outcomes, functools.partial(_distances, pixels=pixels, images=images))


def _distances(trained: Trained, pixels: Sequence[int], images: int) -> dict[str, float]:
    shown = trained.dataset.test.images[:images]
    features = _features(trained, shown)
    apart = _distance(features, np.roll(features, 1, axis=0))
    found = {}
    for n in pixels:
        moved = [_features(trained, shift(shown, n * y, n * x)) for y, x in DIRECTIONS]
        found[f"feature distance {n} px"] = float(np.mean([_distance(features, other) for other in moved]) / apart)
    return found


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(((one - other) ** 2).sum(axis=1)).mean())


def _features(trained: Trained, images: np.ndarray) -> np.ndarray:
    """What the first fully connected layer sees, float64 [N, values]."""
    stages = _stages(trained, images)
    kinds = [layer.kind for layer in trained.net.layers]
    if "flatten" not in kinds:
        raise ValueError(f"feature_distance: {trained.net} has no Flatten, before which its features would be taken")
    name = trained.net.layers[kinds.index("flatten")].name
    return np.asarray(stages[str(name)], np.float64)


def _stages(trained: Trained, images: np.ndarray) -> Mapping[str, Any]:
    """What each layer gives, by name."""
    return _activations(
        trained.net, trained.variables, data.normalise(images, trained.dataset.mean, trained.dataset.std)
    )


@jit_net
def _activations(net: Net, variables: Any, x: jax.Array) -> Any:
    stages: Any = net.apply(variables, x, train=False, method="activations")
    return stages[1]


class Look(NamedTuple):
    """A way to classify an enlarged image.

    Attributes:
      name: name of the outcome.
      stride: distance between windows, pixels; None: the one window in the middle.
      over: how scores are averaged: "logits" or "probabilities".
      context: "crop": windows cut out one by one; "image": one pass of the converted net.
    """

    name: str
    stride: int | None = None
    over: str = "logits"
    context: str = "image"


def enlarged(size: int, looks: Sequence[Look], images: int) -> Measure:
    """Accuracy on test images enlarged beyond the net's window, seen in several ways.

    Args:
      size: height and width that images are resized to, pixels (bilinear).
      looks: the ways to look at the images.
      images: number of test images, the first ones.

    Returns:
      A measure with one outcome for each look.
    """
    outcomes = tuple(Outcome(look.name) for look in looks)
    return Measure(outcomes, functools.partial(_enlarged, size=size, looks=tuple(looks), images=images))


def _enlarged(trained: Trained, size: int, looks: Sequence[Look], images: int) -> dict[str, float]:
    test = trained.dataset.test
    right = dict.fromkeys((look.name for look in looks), 0)
    images = min(images, len(test.labels))
    for start in range(0, images, BATCH):
        part = slice(start, min(start + BATCH, images))
        x = resized_and_normalised(test.images[part], size, trained.dataset.mean, trained.dataset.std)
        for look in looks:
            scores = outputs.class_scores(np.asarray(scores_of_look(trained, x, look)))
            right[look.name] += int((evaluate.rank(scores, test.labels[part]) == 0).sum())  # a NaN is never right
    return {name: count / images for name, count in right.items()}


@functools.partial(jax.jit, static_argnums=1)
def resized_and_normalised(images: jax.Array, size: int, mean: Any, std: Any) -> jax.Array:
    """Images resized to a square and normalised.

    Args:
      images: uint8 [N, H, W, C].
      size: height and width of the result, pixels.
      mean: mean of each channel, of pixels in [0, 1].
      std: standard deviation of each channel.

    Returns:
      float32 [N, size, size, C].
    """
    n, _, _, channels = images.shape
    larger = jax.image.resize(images.astype(jnp.float32) / 255, (n, size, size, channels), "linear")
    return data.normalise(larger, mean, std)


def scores_of_look(trained: Trained, x: jax.Array, look: Look) -> jax.Array:
    """Averaged scores of larger images, looked at in one way.

    Args:
      trained: the trained net with its data.
      x: float32 [N, H, W, C], normalised images.
      look: the stride, the average and the context; no stride means the centre crop alone.

    Returns:
      float32 [N, K].
    """
    height, width, _ = trained.dataset.image_shape
    if look.stride is None:
        top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
        scores: Any = _scores(trained.net, trained.variables, x[:, top : top + height, left : left + width])
        return scores
    found = dense.score_map(
        trained.net,
        trained.variables,
        x,
        (height, width),
        look.stride,
        "crops" if look.context == "crop" else "auto",
    )
    return dense.average(found, look.over)


@jit_net
def _scores(net: Net, variables: Any, x: jax.Array) -> Any:
    return net.apply(variables, x, train=False)


def flattening() -> Measure:
    """Whether the net is the same function flattened in the other orders, if the rows of the kernel follow.

    Sums of products depend on their order by rounding, and a permutation changes the order. So the first fully
    connected layer's inputs and kernel are rounded to few bits, for which every partial sum is exact in float32, and
    nothing but the function is compared: the largest difference must be 0 to the bit. With the trained values as they
    are the difference is given too, in units of the largest output.

    Returns:
      A measure with outcomes "difference, exact sums" and "difference, trained values".
    """
    outcomes = (
        Outcome("difference, exact sums", "", higher_is_better=None),
        Outcome("difference, trained values", "", higher_is_better=None),
    )
    return Measure(outcomes, _flattening)


EXACT = 24  # float32 holds every integer up to 2**24


def _flattening(trained: Trained) -> dict[str, float]:
    layers = trained.net.layers
    at = [layer.kind for layer in layers].index("flatten")
    stages = _stages(trained, trained.dataset.test.images[:BATCH])
    maps = np.asarray(stages[str(layers[at - 1].name)])
    first = next(layer.name for layer in layers[at:] if layer.kind == "dense")
    params = trained.variables["params"]
    own = flatten_permutation(layers[at].order, maps.shape[1:])
    kernel = np.asarray(params[first]["kernel"])
    kernel = kernel if own is None else kernel[np.argsort(own)]  # rows in channel-last order
    bits = (EXACT - int(np.ceil(np.log2(len(kernel))))) // 2  # any sum of products of two such numbers is exact
    found = {}
    for name, x, rows in (
        ("difference, exact sums", rounded_to_bits(maps, bits), rounded_to_bits(kernel, bits)),
        ("difference, trained values", maps, kernel),
    ):
        logits = []
        for order in FLATTEN_ORDERS:
            permutation = flatten_permutation(order, maps.shape[1:])
            tail = Net((Flatten(order, name=layers[at].name), *layers[at + 1 :]))
            followed = {**params[first], "kernel": rows if permutation is None else rows[permutation]}
            variables = {
                "params": {**{x.name: params[x.name] for x in tail.layers if x.name in params}, first: followed}
            }
            logits.append(np.asarray(_scores(tail, variables, x)))
        largest = np.abs(logits[0]).max()
        found[name] = float(max(np.abs(other - logits[0]).max() for other in logits[1:]) / largest)
    return found


def rounded_to_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Values rounded to multiples of a power of two; the largest magnitude then has this many bits.

    Args:
      values: float array, not all zero.
      bits: number of bits of the largest magnitude.

    Returns:
      float32 array of the same shape.
    """
    unit = 2.0 ** (np.floor(np.log2(np.abs(values).max())) + 1 - bits)
    return (np.round(values / unit) * unit).astype(np.float32)
