"""Nets of convolutions alone, whose last maps are averaged: one map for each class."""

from cnn.layers import Activation, AvgPool, Conv, Flatten, Layer, MaxPool
from cnn.nets.network import Net, net
from cnn.nets.patterns import dropouts
from cnn.nets.residual import pad


def nin(num_classes: int = 10, padding: str = "same", dropout: float = 0.5) -> Net:
    """Network in Network on 32x32 RGB images: each convolution is followed by two of 1x1; 966,986 parameters.

    Its pools round up.

    Source: Lin, Chen, Yan, "Network In Network" (2014); the sizes are those of its CIFAR-10 model for Caffe.
    """
    relu, rounding = Activation(), "ceil" if padding == "same" else "floor"

    def stage(sizes: tuple[int, int, int], kernel: int) -> list[Layer]:
        first, second, third = sizes
        size = pad(padding, kernel, "nin")
        return [Conv(first, kernel, padding=size), relu, Conv(second, 1), relu, Conv(third, 1), relu]

    return net(
        [*stage((192, 160, 96), 5), MaxPool(3, 2, rounding=rounding), *dropouts(dropout)],
        [*stage((192, 192, 192), 5), AvgPool(3, 2, rounding=rounding), *dropouts(dropout)],
        [*stage((192, 192, num_classes), 3), AvgPool(None), Flatten()],
    )


def all_cnn(num_classes: int = 10, padding: str = "same", dropout: float = 0.5) -> Net:
    """All-CNN-C on 32x32 RGB images: strided convolutions in the place of pools; 1,369,738 parameters.

    Dropout is 20 % of the pixels, and `dropout` after each strided convolution; 0 switches off both.

    Source: Springenberg, Dosovitskiy, Brox, Riedmiller, "Striving for Simplicity: The All Convolutional Net" (2015).
    """
    relu, size = Activation(), pad(padding, 3, "all_cnn")

    def conv(features: int, kernel: int = 3, stride: int = 1, amount: int = size) -> list[Layer]:
        return [Conv(features, kernel, stride, amount, rounding="floor"), relu]

    return net(
        [*(dropouts(0.2) if dropout else []), *conv(96), *conv(96), *conv(96, stride=2), *dropouts(dropout)],
        [*conv(192), *conv(192), *conv(192, stride=2), *dropouts(dropout)],
        [*conv(192, amount=0), *conv(192, 1, amount=0), *conv(num_classes, 1, amount=0), AvgPool(None), Flatten()],
    )
