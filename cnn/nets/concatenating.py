"""Nets whose blocks join paths channel by channel: inception, fire and dense blocks.

With `padding="valid"` no layer is padded, and each path is cropped to the map that the largest kernel beside it leaves,
so that a dense map equals the scores of windows that are cut out.
"""

from collections.abc import Sequence

from cnn.layers import Activation, AvgPool, BatchNorm, Branches, Conv, Dropout, Flatten, Layer, MaxPool
from cnn.nets.network import Net, net
from cnn.nets.patterns import dropouts
from cnn.nets.residual import convolution, cropped, head, pad


def _inception(widths: Sequence[int], kernel: int, padding: str) -> Branches:
    """1x1, 3x3 and `kernel` convolutions and a pool, side by side."""
    one, three_in, three, five_in, five, pooled = widths

    def conv(features: int, size: int) -> list[Layer]:
        return [convolution(features, size, padding), BatchNorm(epsilon=1e-3), Activation()]

    lost = kernel // 2  # by the largest kernel, at each side
    pool = MaxPool(3, 1, padding=pad(padding, 3, "googlenet"))
    after_3 = cropped(padding, lost - 1) if lost > 1 else ()
    return Branches(
        (
            (*cropped(padding, lost), *conv(one, 1)),
            (*after_3, *conv(three_in, 1), *conv(three, 3)),
            (*conv(five_in, 1), *conv(five, kernel)),
            (*after_3, pool, *conv(pooled, 1)),
        ),
        "concat",
    )


def googlenet(num_classes: int = 1000, padding: str = "same", dropout: float = 0.2, kernel: int = 3) -> Net:
    """GoogLeNet (inception v1) with batch normalisation, without auxiliary heads, on 224x224; 6,624,904 parameters.

    `kernel` is that of the third path: 3 as in torchvision's weights, 5 (7,005,832 parameters) as in the paper. Its 3x3
    pools round up.

    Source: Szegedy et al., "Going Deeper with Convolutions" (2015), table 1; torchvision's form.
    """
    if kernel not in (3, 5):
        raise ValueError(f"googlenet: kernel (={kernel!r}) must be 3, as in torchvision's weights, or 5, the paper's")

    def conv(features: int, size: int, stride: int = 1) -> list[Layer]:
        return [convolution(features, size, padding, stride), BatchNorm(epsilon=1e-3), Activation()]

    pool = MaxPool(3, 2, rounding="ceil" if padding == "same" else "floor")
    last = MaxPool(2, 2, rounding="ceil" if padding == "same" else "floor")
    stages = (
        ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
        (
            *((192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64)),
            *((112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128)),
        ),
        ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
    )
    layers: list[Layer] = [*conv(64, 7, 2), pool, *conv(64, 1), *conv(192, 3), pool]
    for stage, end in zip(stages, ([pool], [last], []), strict=True):
        layers += [_inception(widths, kernel, padding) for widths in stage]
        layers += end
    return net(layers, head(num_classes, dropout))


def squeezenet(num_classes: int = 1000, version: str = "1.1", padding: str = "same", dropout: float = 0.5) -> Net:
    """SqueezeNet on 224x224 images, fire blocks and no fully connected layer.

    1,248,424 parameters in version "1.0", 1,235,496 in "1.1", which needs less than half of the multiply-adds. Its
    pools round up. The last 1x1 convolution gives the scores, which are averaged.

    Source: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters" (2016); torchvision's form.
    """
    if version not in ("1.0", "1.1"):
        raise ValueError(f"squeezenet: version (={version!r}) must be '1.0' or '1.1'")

    def fire(squeeze: int, expand: int) -> list[Layer]:
        paths = (
            (*cropped(padding, 1), Conv(expand, 1), Activation()),
            (Conv(expand, 3, padding=pad(padding, 3, "squeezenet")), Activation()),
        )
        return [Conv(squeeze, 1), Activation(), Branches(paths, "concat")]

    pool = MaxPool(3, 2, rounding="ceil" if padding == "same" else "floor")
    early = version == "1.1"
    layers: list[Layer] = [Conv(64 if early else 96, 3 if early else 7, 2, rounding="floor"), Activation(), pool]
    layers += [*fire(16, 64), *fire(16, 64)]
    layers += [pool, *fire(32, 128)] if early else [*fire(32, 128), pool]
    layers += fire(32, 128)
    layers += [pool] if early else []
    layers += [*fire(48, 192), *fire(48, 192), *fire(64, 256)]
    layers += [] if early else [pool]
    layers += fire(64, 256)
    return net(layers, dropouts(dropout), Conv(num_classes, 1), Activation(), AvgPool(None), Flatten())


def densenet121(num_classes: int = 1000, growth: int = 32, padding: str = "same", dropout: float = 0.0) -> Net:
    """DenseNet-121 on 224x224 images: each layer adds `growth` maps to those before it; 7,978,856 parameters.

    Source: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks" (2017), table 1.
    """
    layers: list[Layer] = [convolution(2 * growth, 7, padding, 2), BatchNorm(), Activation()]
    layers += [MaxPool(3, 2, padding=pad(padding, 3, "densenet121"), rounding="floor")]
    channels = 2 * growth
    for stage, count in enumerate((6, 12, 24, 16)):
        for _ in range(count):
            path: list[Layer] = [BatchNorm(), Activation(), convolution(4 * growth, 1, padding)]
            path += [BatchNorm(), Activation(), convolution(growth, 3, padding)]
            path += [Dropout(dropout)] if dropout else []
            layers.append(Branches((cropped(padding, 1), tuple(path)), "concat"))
            channels += growth
        layers += [BatchNorm(), Activation()]
        if stage < 3:
            channels //= 2
            layers += [convolution(channels, 1, padding), AvgPool(2, rounding="floor")]
    return net(layers, head(num_classes, 0.0))
