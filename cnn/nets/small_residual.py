"""Residual nets for small images, such as those of CIFAR-10: a few stages whose maps are halved in between.

With `padding="valid"` no layer is padded and the identity is cropped, as in `cnn.nets.residual`.
"""

from collections.abc import Sequence

import flax.linen as nn

from cnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    StochasticDepth,
)
from cnn.nets.network import Net, net
from cnn.nets.patterns import MOST_LAYERS, check_count, each
from cnn.nets.residual import convolution, cropped, head, pad


def preact_resnet(
    num_classes: int = 10,
    depth: int = 20,
    width: int = 16,
    padding: str = "same",
    drop_path: float = 0.0,
    identity: bool = True,
) -> Net:
    """Residual net for small images that normalises before its convolutions: 3 stages of (depth - 2) / 6 blocks.

    272,282 parameters with the defaults; 1,730,522 at depth 110. Without `identity` the same convolutions follow each
    other as a chain, with nothing beside them.

    Source: He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks" (2016), section 4.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 8 or (depth - 2) % 6:
        raise ValueError(f"preact_resnet: depth (={depth!r}) must be 6 n + 2: 8, 14, 20, 32, 44, 56, 110, ...")
    count = (depth - 2) // 6
    layers: list[Layer] = [Conv(width, 3, padding=pad(padding, 3, "preact_resnet"), use_bias=False)]
    for stage in range(3):
        for i in range(count):
            maps, stride = width * 2**stage, 2 if stage and i == 0 else 1
            path: list[Layer] = [convolution(maps, 3, padding, stride), BatchNorm(), Activation()]
            path += [convolution(maps, 3, padding)]
            path += [StochasticDepth(drop_path * (stage * count + i + 1) / (3 * count))] if drop_path else []
            before: list[Layer] = [BatchNorm(), Activation()]
            short: list[Layer] = [*cropped(padding, 1 + stride)]
            if not identity:
                layers += [*before, *path]
            elif stride > 1:  # the paper's option: both paths see the normalised input
                short += [convolution(maps, 1, padding, stride)]
                layers += [*before, Branches((tuple(path), tuple(short)))]
            else:
                layers += [Branches(((*before, *path), tuple(short)))]
    return net([*layers, BatchNorm(), Activation()], head(num_classes, 0.0))


def resnet9(
    num_classes: int = 10, width: int = 64, padding: str = "same", pool_first: bool = False, drop_path: float = 0.0
) -> Net:
    """Residual net for small images that learns in few epochs: 3 stages, a residual block in the first and the last.

    6,573,120 parameters with the defaults. The original takes the largest value of the last maps and scales the logits
    by 1/8; here the last maps are averaged, as in the other residual nets.

    Args:
      num_classes: number of outputs.
      width: number of maps of the first convolution; the stages have 2, 4 and 8 times as many.
      padding: "same" or "valid".
      pool_first: whether each stage pools before its convolution, not after it: about half of the multiply-adds.
      drop_path: probability that the last block's path is dropped in training; the first's is half of it.

    Source: Page, "How to Train Your ResNet" (2018), after Coleman, Kang, Narayanan et al., "DAWNBench" (2017).
    """

    def convolved(maps: int) -> list[Layer]:
        return [convolution(maps, 3, padding), BatchNorm(), Activation()]

    layers: list[Layer] = convolved(width)
    for stage in (1, 2, 3):
        maps, pool = width * 2**stage, MaxPool(2, rounding="floor")
        layers += [pool, *convolved(maps)] if pool_first else [*convolved(maps), pool]
        if stage != 2:
            path = [*convolved(maps), *convolved(maps)]
            path += [StochasticDepth(drop_path * (1 + stage) / 4)] if drop_path else []
            layers += [Branches((tuple(path), cropped(padding, 2)))]
    return net(layers, [AvgPool(None), Flatten(), Dense(num_classes, use_bias=False)])


def whitened_resnet(
    num_classes: int = 10,
    features: Sequence[int] = (64, 256, 256),
    padding: str = "same",
    activation: str = "gelu",
    channels: int = 3,
    blocks: int | Sequence[int] = 1,
) -> Net:
    """Residual net for small images whose first convolution is meant to whiten: made to be trained in minutes.

    2x2 kernels, as many as a patch has values and as many with the other sign, then for each stage a 3x3 convolution, a
    pool and residual blocks of one convolution; the largest values of the last 3x3 maps are classified. 1,972,768
    parameters with the defaults. Train it with `train.whitened=conv1`, `train.frozen=('conv1',)` and a small
    `train.head_rate`, as `configs/cifar10_resnet.py` does: the last layer begins at zero and learns slowly, in place of
    the original's logits that are divided by nine.

    Args:
      num_classes: number of outputs.
      features: number of maps of each stage.
      padding: "same" or "valid"; with the second, three stages take images of 67x67 pixels or more.
      activation: one of `cnn.layers.activations.ACTIVATIONS`.
      channels: of the images that it is for.
      blocks: number of residual blocks of each stage; one number for all, or one for each of `features`.

    Raises:
      ValueError: if blocks is neither, negative, or more than can be built.

    Source: after Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), whose blocks have no identity.
    """
    layers: list[Layer] = [Conv(8 * channels, 2, use_bias=False), Activation(activation)]
    counts = each("whitened_resnet", blocks, len(features), "blocks", "number", "features")
    for count in counts:
        check_count("whitened_resnet", "blocks", count, 0)
    if sum(counts) > MOST_LAYERS:
        raise ValueError(f"whitened_resnet: blocks (={blocks}) are {sum(counts):,}; there may be {MOST_LAYERS:,}")
    for maps, count in zip(features, counts, strict=True):
        layers += [convolution(maps, 3, padding), MaxPool(2, rounding="floor"), BatchNorm(), Activation(activation)]
        for _ in range(count):
            path = (convolution(maps, 3, padding), BatchNorm(), Activation(activation))
            layers += [Branches((path, cropped(padding, 1)))]
    scores = Dense(num_classes, use_bias=False, kernel_init=nn.initializers.zeros)
    return net([*layers, MaxPool(3, 1), Flatten()], [scores])
