"""The classic architectures, each a function of `num_classes` and a few options; see `cnn.nets.create`."""

from collections.abc import Sequence

from cnn.layers import LRN, Activation, Conv, Layer, MaxPool
from cnn.nets.network import Net, net
from cnn.nets.patterns import classifier, dropouts, norms, pool_class


def qa_net(num_classes: int = 10, activation: str = "relu", dropout: float = 0.0, flatten_order: str = "hwc") -> Net:
    """32x32 input, two unpadded 5x5 convolutions with 3 and 6 maps, each pooled 2x2, FC 100, FC classes.

    The net of a question-and-answer thread on how convolutional layers connect; 16,794 parameters on RGB images.
    """
    return net(
        [Conv(3, 5), Activation(activation), MaxPool(2)],
        [Conv(6, 5), Activation(activation), MaxPool(2)],
        classifier([100], num_classes, activation, dropout, flatten_order),
    )


def full_cnn(
    num_classes: int = 10,
    features: Sequence[int] = (32, 64),
    width: int = 128,
    activation: str = "relu",
    dropout: float = 0.0,
    flatten_order: str = "hwc",
) -> Net:
    """[CONV 3x3 pad 1 -> RELU -> POOL 2x2] for each of `features`, FC 128, FC classes; any input size.

    421,642 parameters on 28x28x1 images, 545,098 on 32x32x3. Pools round down, so that any size is accepted. Dropout,
    if any, follows each pool at half the rate and the hidden fully connected layer at the full rate.
    """
    blocks = [
        [Conv(maps, 3, padding=1), Activation(activation), MaxPool(2, rounding="floor"), *dropouts(dropout / 2)]
        for maps in features
    ]
    return net(*blocks, classifier([width], num_classes, activation, dropout, flatten_order))


def lenet5(num_classes: int = 10, activation: str = "tanh", pool: str = "average", flatten_order: str = "hwc") -> Net:
    """LeNet-5 on 32x32 images: 6@5x5, pool, 16@5x5 (all maps connected), pool, FC 120, FC 84, FC classes.

    The third convolution of the paper covers its whole 5x5 input, so it is the FC 120 here. 61,706 parameters on grey
    images. The paper's pools have a trained scale and bias, and its C3 a table of connections; these do not.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition" (1998), II.B.
    """
    make = pool_class(pool)
    return net(
        [Conv(6, 5), Activation(activation), make(2)],
        [Conv(16, 5), Activation(activation), make(2)],
        classifier([120, 84], num_classes, activation, 0.0, flatten_order),
    )


def alexnet(
    num_classes: int = 1000,
    groups: int = 2,
    lrn: bool = True,
    activation: str = "relu",
    dropout: float = 0.5,
    flatten_order: str = "hwc",
) -> Net:
    """AlexNet of 2012 on 227x227 RGB images; 60,965,224 parameters.

    The second, fourth and fifth convolution have two groups, LRN follows the first two, and the pools overlap. The
    paper says 224 pixels, which does not divide; 227 gives the 55x55x96 values of its first layer.

    Source: Krizhevsky, Sutskever, Hinton (2012), section 3.5.
    """
    norm: list[Layer] = [LRN()] if lrn else []
    act = Activation(activation)
    pool = MaxPool(3, stride=2)
    return net(
        [Conv(96, 11, stride=4), act, *norm, pool],
        [Conv(256, 5, padding=2, groups=groups), act, *norm, pool],
        [Conv(384, 3, padding=1), act],
        [Conv(384, 3, padding=1, groups=groups), act],
        [Conv(256, 3, padding=1, groups=groups), act, pool],
        classifier([4096, 4096], num_classes, activation, dropout, flatten_order),
    )


_Norm = bool | str | None  # "batch" and True, or no normalisation


def _vgg(blocks: Sequence[int], num_classes: int, width: int, dropout: float, norm: _Norm, flatten_order: str) -> Net:
    """VGG with `blocks` 3x3 convolutions in each of five blocks of 64, 128, 256, 512 and 512 maps.

    Source: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2014), table 1.
    """
    before, after = norms(norm, "vgg")
    if after:
        raise ValueError(f"vgg: norm (={norm!r}) must be 'batch', or None")
    layers: list[Layer] = []
    for number, (convs, maps) in enumerate(zip(blocks, (64, 128, 256, 512, 512), strict=True), start=1):
        for i in range(1, convs + 1):
            layers.append(Conv(maps, 3, padding=1, name=f"conv{number}_{i}"))
            layers += [layer.clone(name=f"bn{number}_{i}") for layer in before]
            layers.append(Activation("relu", name=f"relu{number}_{i}"))
        layers.append(MaxPool(2, name=f"pool{number}"))
    return net(layers, classifier([width, width], num_classes, "relu", dropout, flatten_order))


def vgg11(
    num_classes: int = 1000,
    width: int = 4096,
    dropout: float = 0.5,
    norm: bool | str | None = False,
    flatten_order: str = "hwc",
) -> Net:
    """VGG configuration A; 132,863,336 parameters at 224x224x3. `norm="batch"` normalises each convolution."""
    return _vgg((1, 1, 2, 2, 2), num_classes, width, dropout, norm, flatten_order)


def vgg13(
    num_classes: int = 1000,
    width: int = 4096,
    dropout: float = 0.5,
    norm: bool | str | None = False,
    flatten_order: str = "hwc",
) -> Net:
    """VGG configuration B; 133,047,848 parameters at 224x224x3. `norm="batch"` normalises each convolution."""
    return _vgg((2, 2, 2, 2, 2), num_classes, width, dropout, norm, flatten_order)


def vgg16(
    num_classes: int = 1000,
    width: int = 4096,
    dropout: float = 0.5,
    norm: bool | str | None = False,
    flatten_order: str = "hwc",
) -> Net:
    """VGG configuration D; 138,357,544 parameters at 224x224x3. `norm="batch"` normalises each convolution."""
    return _vgg((2, 2, 3, 3, 3), num_classes, width, dropout, norm, flatten_order)


def vgg19(
    num_classes: int = 1000,
    width: int = 4096,
    dropout: float = 0.5,
    norm: bool | str | None = False,
    flatten_order: str = "hwc",
) -> Net:
    """VGG configuration E; 143,667,240 parameters at 224x224x3. `norm="batch"` normalises each convolution."""
    return _vgg((2, 2, 4, 4, 4), num_classes, width, dropout, norm, flatten_order)


def giusti_n4(num_classes: int = 2, features: int = 48, width: int = 200, activation: str = "relu") -> Net:
    """N4: 95x95 patches; four unpadded convolutions of 48 maps (4x4, 5x5, 4x4, 4x4), each pooled 2x2, FC 200, FC 2.

    Source: Giusti, Ciresan, Masci, Gambardella, Schmidhuber, "Fast Image Scanning with Deep Max-Pooling Convolutional
    Neural Networks" (2013), table 1. The activation is ours to choose; it does not enter the cost.
    """
    blocks = [[Conv(features, kernel), Activation(activation), MaxPool(2)] for kernel in (4, 5, 4, 4)]
    return net(*blocks, classifier([width], num_classes, activation, 0.0, "hwc"))
