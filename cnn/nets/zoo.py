"""Nets that are known by their weights, of Caffe, torchvision and the ONNX model zoo; see `cnn.nets.create`.

The layers of Caffe's nets have Caffe's names, their pools round up as Caffe's do, and their local response
normalisation has Caffe's constants (its alpha is `size` times ours, and k is 1).
"""

from collections.abc import Sequence

from cnn.layers import LRN, Activation, AvgPool, Conv, Dense, Dropout, Flatten, Layer, MaxPool
from cnn.nets.network import Net, net

_CAFFE_LRN = LRN(size=5, k=1.0, alpha=1e-4 / 5, beta=0.75)


def _head(first: int, widths: Sequence[int], num_classes: int, dropout: float, order: str) -> list[Layer]:
    """Flatten, [fc6 -> relu6 -> drop6], [fc7 ...], fc8: fully connected layers, numbered on from the convolutions."""
    layers: list[Layer] = [Flatten(order)]
    for number, width in enumerate(widths, start=first):
        layers += [Dense(width, name=f"fc{number}"), Activation("relu", name=f"relu{number}")]
        layers += [Dropout(dropout, name=f"drop{number}")] if dropout else []
    return [*layers, Dense(num_classes, name=f"fc{first + len(widths)}")]


def _block(number: int, conv: Conv, *after: Layer) -> list[Layer]:
    """A convolution, its activation and what follows, all with the number of the block in their names."""
    kinds = {Activation: "relu", MaxPool: "pool", LRN: "norm"}
    return [conv.clone(name=f"conv{number}"), *(layer.clone(name=f"{kinds[type(layer)]}{number}") for layer in after)]


def caffenet(num_classes: int = 1000, groups: int = 2, dropout: float = 0.5, flatten_order: str = "hwc") -> Net:
    """Caffe's reference net on 227x227 images: AlexNet, normalised after each pool instead of before.

    60,965,224 parameters, as many as `alexnet`.

    Source: Jia et al., "Caffe: Convolutional Architecture for Fast Feature Embedding" (2014); its model
    bvlc_reference_caffenet.
    """
    relu, pool = Activation("relu"), MaxPool(3, stride=2, rounding="ceil")
    return net(
        _block(1, Conv(96, 11, stride=4), relu, pool, _CAFFE_LRN),
        _block(2, Conv(256, 5, padding=2, groups=groups), relu, pool, _CAFFE_LRN),
        _block(3, Conv(384, 3, padding=1), relu),
        _block(4, Conv(384, 3, padding=1, groups=groups), relu),
        _block(5, Conv(256, 3, padding=1, groups=groups), relu, pool),
        _head(6, (4096, 4096), num_classes, dropout, flatten_order),
    )


def alexnet_owt(num_classes: int = 1000, width: int = 4096, dropout: float = 0.5, flatten_order: str = "hwc") -> Net:
    """AlexNet in one tower, without normalisation, on 224x224 images: torchvision's `alexnet`; 61,100,840 parameters.

    Sizes that do not divide are rounded down, as there. Its adaptive pool to 6x6 changes nothing at 224 pixels, and is
    left out; dropout comes before the first two fully connected layers.

    Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014).
    """
    relu, pool = Activation("relu"), MaxPool(3, stride=2, rounding="floor")
    drops = [Dropout(dropout)] if dropout else []
    return net(
        [Conv(64, 11, stride=4, padding=2, rounding="floor"), relu, pool],
        [Conv(192, 5, padding=2), relu, pool],
        [Conv(384, 3, padding=1), relu],
        [Conv(256, 3, padding=1), relu],
        [Conv(256, 3, padding=1), relu, pool],
        [Flatten(flatten_order), *drops, Dense(width), relu, *drops, Dense(width), relu, Dense(num_classes)],
    )


def zfnet512(num_classes: int = 1000, dropout: float = 0.5, flatten_order: str = "hwc") -> Net:
    """The large net of Zeiler and Fergus on 224x224 images, as the ONNX model zoo has it; 87,250,536 parameters.

    Convolutions 3 to 5 have 512 maps each and the second fully connected layer 1,024 values, where the paper's figure
    has 384, 384 and 256 maps, and 4,096 values. Sizes that do not divide are rounded down.

    Source: Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks" (2014); the zoo's zfnet512.
    """
    relu, norm, pool = Activation("relu"), LRN(), MaxPool(3, stride=2, rounding="floor")
    return net(
        _block(1, Conv(96, 7, stride=2, rounding="floor"), relu, norm, pool),
        _block(2, Conv(256, 5, stride=2, rounding="floor"), relu, norm, pool),
        _block(3, Conv(512, 3, padding=1), relu),
        _block(4, Conv(512, 3, padding=1), relu),
        _block(5, Conv(512, 3, padding=1), relu, MaxPool(2, rounding="floor")),
        _head(6, (4096, 1024), num_classes, dropout, flatten_order),
    )


def lenet_caffe(num_classes: int = 10, flatten_order: str = "hwc") -> Net:
    """Caffe's LeNet on 28x28 grey images: 20@5x5, pool, 50@5x5, pool, FC 500, ReLU, FC classes; 431,080 parameters.

    The only activation is that of the first fully connected layer: both convolutions are linear but for the max pools.

    Source: examples/mnist/lenet.prototxt of Caffe.
    """
    pool = MaxPool(2, rounding="ceil")
    return net(
        [Conv(20, 5), pool, Conv(50, 5), pool, Flatten(flatten_order)],
        [Dense(500, name="ip1"), Activation("relu"), Dense(num_classes, name="ip2")],
    )


def cifar10_quick(num_classes: int = 10, flatten_order: str = "hwc") -> Net:
    """Caffe's quick net on 32x32 RGB images; 145,578 parameters.

    The first pool takes maxima, before the activation, and the other two means; all overlap, and their last windows
    hang over the edge. There is no activation between the fully connected layers.

    Source: examples/cifar10/cifar10_quick.prototxt of Caffe, after Krizhevsky's cuda-convnet.
    """
    relu, mean = Activation("relu"), AvgPool(3, stride=2, rounding="ceil")
    return net(
        [Conv(32, 5, padding=2), MaxPool(3, stride=2, rounding="ceil"), relu],
        [Conv(32, 5, padding=2), relu, mean],
        [Conv(64, 5, padding=2), relu, mean, Flatten(flatten_order)],
        [Dense(64, name="ip1"), Dense(num_classes, name="ip2")],
    )
