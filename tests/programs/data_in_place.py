"""A data set of the user's own whose content stands in a file of its folder: DIR/variant names one of `VARIANTS`."""

import pathlib

import numpy as np

from cnn import data

CLASSES = ("ant", "bee", "cat")
VARIANTS = ("as it was", "in another order", "renamed", "one more", "one pixel", "fewer", "test labels")


def load(dir):
    """Eight grey 8x8 pictures of each class."""
    return made(pathlib.Path(dir, "variant").read_text())


def made(variant):
    """The data set of a variant."""
    rng = np.random.default_rng(0)
    names = list(CLASSES)
    images, labels = rng.integers(0, 256, (24, 8, 8, 1)).astype(np.uint8), np.arange(24) % 3
    test, test_labels = rng.integers(0, 256, (9, 8, 8, 1)).astype(np.uint8), np.arange(9) % 3
    if variant == "in another order":
        order = np.array([2, 0, 1])
        names, labels, test_labels = [CLASSES[k] for k in (1, 2, 0)], order[labels], order[test_labels]
    elif variant == "renamed":
        names[1] = "bear"
    elif variant == "one more":
        names, labels[-1] = [*names, "dog"], 3
    elif variant == "one pixel":
        images[7, 3, 3] ^= 1
    elif variant == "fewer":
        images, labels = images[:-1], labels[:-1]
    elif variant == "test labels":
        test_labels[0] = 1
    return data.from_arrays(
        (images, labels), (test, test_labels), validation=(test[:3], test_labels[:3]), class_names=names
    )
