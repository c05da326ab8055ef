"""Residual nets: each block adds to its input, or to a 1x1 convolution of it, what its convolutions make of it.

With `padding="valid"` no layer is padded and the identity is cropped to the map that the convolutions leave, so that a
dense map equals the scores of windows that are cut out.
"""

from collections.abc import Callable, Sequence

from cnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Crop,
    Dense,
    Flatten,
    Gate,
    Layer,
    MaxPool,
    StochasticDepth,
)
from cnn.nets.network import Net, net
from cnn.nets.patterns import dropouts

PADDINGS = ("same", "valid")


def pad(padding: str, kernel: int, what: str) -> int:
    """Padding of a convolution on each side, pixels: half of its kernel, or none.

    Args:
      padding: one of `PADDINGS`.
      kernel: height and width of the kernel, odd, pixels.
      what: name of the net, for the error.

    Returns:
      Number of pixels.

    Raises:
      ValueError: if there is no such padding.
    """
    if padding not in PADDINGS:
        raise ValueError(f"{what}: padding (={padding!r}) must be 'same' or 'valid'")
    return kernel // 2 if padding == "same" else 0


def cropped(padding: str, amount: int) -> tuple[Layer, ...]:
    """The crop of an identity beside convolutions that take `amount` pixels off each side, if they are not padded."""
    return (Crop(amount),) if padding == "valid" else ()


def convolution(features: int, kernel: int, padding: str, stride: int = 1, groups: int = 1) -> Conv:
    """A convolution without bias, as before a normalisation; sizes that do not divide are rounded down."""
    amount = pad(padding, kernel, "net")
    return Conv(features, kernel, stride, amount, groups=groups, use_bias=False, rounding="floor")


def head(num_classes: int, dropout: float) -> list[Layer]:
    """Global average pool, dropout, FC."""
    return [AvgPool(None), Flatten(), *dropouts(dropout), Dense(num_classes)]


def _basic(maps: int, stride: int, padding: str) -> tuple[list[Layer], int]:
    """Two 3x3 convolutions, and what they take off each side of the block's input, pixels."""
    layers = [convolution(maps, 3, padding, stride), BatchNorm(), Activation(), convolution(maps, 3, padding)]
    return [*layers, BatchNorm(zero_init=True)], 1 + stride


def _bottleneck(maps: int, stride: int, padding: str) -> tuple[list[Layer], int]:
    """1x1, 3x3 and 1x1 convolutions with a stride in the second (v1.5), and what they take off each side, pixels."""
    layers = [convolution(maps, 1, padding), BatchNorm(), Activation(), convolution(maps, 3, padding, stride)]
    layers += [BatchNorm(), Activation(), convolution(4 * maps, 1, padding), BatchNorm(zero_init=True)]
    return layers, 1


_Block = Callable[[int, int, str], tuple[list[Layer], int]]


def _resnet(
    block: _Block,
    counts: Sequence[int],
    num_classes: int,
    width: int,
    padding: str,
    dropout: float,
    drop_path: float,
    gate: Gate | None = None,
) -> Net:
    """ResNet with `counts` blocks in each of four stages of `width`, 2, 4 and 8 times as many maps."""
    layers: list[Layer] = [convolution(width, 7, padding, 2), BatchNorm(), Activation()]
    layers += [MaxPool(3, 2, padding=pad(padding, 3, "resnet"), rounding="floor")]
    channels, number, total = width, 0, sum(counts)
    for stage, count in enumerate(counts):
        for i in range(count):
            number += 1
            stride = 2 if stage and i == 0 else 1
            path, amount = block(width * 2**stage, stride, padding)
            features = next(layer.features for layer in reversed(path) if isinstance(layer, Conv))
            short: list[Layer] = [*cropped(padding, amount)]
            if stride > 1 or features != channels:
                short += [convolution(features, 1, padding, stride), BatchNorm()]
            path += [gate] if gate else []
            # The deeper a block, the more often its path is dropped.
            path += [StochasticDepth(drop_path * number / total)] if drop_path else []
            layers += [Branches((tuple(path), tuple(short))), Activation()]
            channels = features
    return net(layers, head(num_classes, dropout))


def resnet18(
    num_classes: int = 1000, width: int = 64, padding: str = "same", dropout: float = 0.0, drop_path: float = 0.0
) -> Net:
    """ResNet-18 on 224x224 images, 2 basic blocks in each stage; 11,689,512 parameters.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (2016), table 1; torchvision's form.
    """
    return _resnet(_basic, (2, 2, 2, 2), num_classes, width, padding, dropout, drop_path)


def resnet34(
    num_classes: int = 1000, width: int = 64, padding: str = "same", dropout: float = 0.0, drop_path: float = 0.0
) -> Net:
    """ResNet-34 on 224x224 images, basic blocks; 21,797,672 parameters. Source: as `resnet18`."""
    return _resnet(_basic, (3, 4, 6, 3), num_classes, width, padding, dropout, drop_path)


def resnet50(
    num_classes: int = 1000, width: int = 64, padding: str = "same", dropout: float = 0.0, drop_path: float = 0.0
) -> Net:
    """ResNet-50 on 224x224 images, bottlenecks whose 3x3 convolution has the stride (v1.5); 25,557,032 parameters.

    Source: as `resnet18`.
    """
    return _resnet(_bottleneck, (3, 4, 6, 3), num_classes, width, padding, dropout, drop_path)


def se_resnet18(
    num_classes: int = 1000,
    width: int = 64,
    padding: str = "same",
    dropout: float = 0.0,
    drop_path: float = 0.0,
    reduction: int = 16,
) -> Net:
    """ResNet-18 whose blocks end with a gate (squeeze and excitation) before the sum; 11,778,592 parameters.

    Its gates weigh a window by its own means, so that only crops give its scores (`cnn.layers.Gate`).

    Source: Hu, Shen, Sun, "Squeeze-and-Excitation Networks" (2018), section 4; otherwise as `resnet18`.
    """
    gate = Gate(reduction)
    return _resnet(_basic, (2, 2, 2, 2), num_classes, width, padding, dropout, drop_path, gate)


def mobilenet_v2(num_classes: int = 1000, padding: str = "same", dropout: float = 0.2) -> Net:
    """MobileNet v2 on 224x224 images: inverted residuals with depthwise convolutions and ReLU6; 3,504,872 parameters.

    Source: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018).
    """
    relu6 = Activation("relu6")
    layers: list[Layer] = [convolution(32, 3, padding, 2), BatchNorm(), relu6]
    channels = 32
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, features, count, first in stages:
        for i in range(count):
            stride, hidden = first if i == 0 else 1, expansion * channels
            path: list[Layer] = [convolution(hidden, 1, padding), BatchNorm(), relu6] if expansion > 1 else []
            path += [convolution(hidden, 3, padding, stride, groups=hidden), BatchNorm(), relu6]
            path += [convolution(features, 1, padding), BatchNorm()]
            if stride == 1 and features == channels:
                layers.append(Branches((tuple(path), cropped(padding, 1))))
            else:
                layers += path
            channels = features
    layers += [convolution(1280, 1, padding), BatchNorm(), relu6]
    return net(layers, head(num_classes, dropout))
