"""A user's own nets."""

import flax.linen as nn

from cnn import nets
from cnn.layers import Activation, Conv, Dense, Flatten, MaxPool


def small(num_classes, width=8):
    """A small net."""
    return nets.net([Conv(4, 3), Activation(), MaxPool(2)], [Flatten(), Dense(width), Activation(), Dense(num_classes)])


def any_options(num_classes, **options):
    """A net that hands its options on."""
    return small(num_classes, **options)


def without_classes(width=8):
    """A net that does not take the number of classes."""
    return small(10, width)


def plain_flax(num_classes):
    """Not a net of layers."""
    return nn.Dense(num_classes)


def wrong(num_classes):
    """A mistake."""
    return small(num_classes, widht)  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
