"""A user's own data sets: each function returns the same two-channel images in another form."""

import numpy as np
from own_names import NAMES  # pyright: ignore[reportMissingImports]

from cnn import data

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 2), np.uint8)
LABELS = np.arange(30) % 3
TEST = (IMAGES[:6], LABELS[:6])


def pairs_by_split():
    """A dict of pairs."""
    return {"train": (IMAGES, LABELS), "test": TEST, "class_names": NAMES}


def arrays_by_name():
    """A dict of arrays, as an archive holds them."""
    named = {"train_images": IMAGES, "train_labels": LABELS, "test_images": TEST[0], "test_labels": TEST[1]}
    return {**named, "class_names": np.array(NAMES)}


def pairs():
    """A tuple of pairs and class names."""
    return (IMAGES, LABELS), TEST, NAMES


def flat():
    """A tuple of arrays and class names."""
    return IMAGES, LABELS, *TEST, NAMES


def made_by_cnn():
    """A data set."""
    return data.from_arrays((IMAGES, LABELS), TEST, class_names=NAMES)


def made_by_hand():
    """A data set that is not in the library's own form: its labels are a column of int64."""
    whole = data.Split(IMAGES, LABELS[:, None])
    return data.Dataset("hand", whole, whole, whole, tuple(NAMES), (0.5, 0.5), (0.25, 0.25))


def large_labels():
    """Labels that are no class numbers: cast to int32 the last would be 0."""
    return IMAGES, np.where(LABELS == 2, 2**32, LABELS)


def sized(image_size):
    """Images of the size that the config asks for."""
    return np.zeros((9, image_size, image_size, 1), np.uint8), np.arange(9) % 3


def wrong():
    """A mistake."""
    return pairs() + missing  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


def grey():
    """One channel."""
    return (IMAGES[..., :1], LABELS), (IMAGES[:6, ..., :1], LABELS[:6]), NAMES
