"""The net of the pages of digits: LeNet-5's shape with more maps, rectifiers and max pools, without padding."""

from cnn import nets
from cnn.layers import Activation, Conv, Dense, Flatten, MaxPool


def wide_lenet(num_classes: int = 11):
    """16 maps of 5x5, pool, 32 of 5x5, pool, FC 128, FC classes: native stride 4, and windows of 28x28 pixels.

    Args:
      num_classes: number of classes.

    Returns:
      The net.
    """
    return nets.net(
        [Conv(16, 5), Activation("relu"), MaxPool(2)],
        [Conv(32, 5), Activation("relu"), MaxPool(2)],
        [Flatten(), Dense(128), Activation("relu"), Dense(num_classes)],
    )
