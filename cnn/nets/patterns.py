"""Nets written as layer patterns, with the options that the studies vary, and parts that several nets share."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from cnn import geometry
from cnn.layers import (
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LocallyConnected,
    MaxPool,
    NMaxPool,
)
from cnn.nets import textbook_kernels
from cnn.nets.network import Net, net
from cnn.runtime.ranges import short
from cnn.windows import as_pair

POOLS = {"max": MaxPool, "average": AvgPool, "n_max": NMaxPool}
BLOCK_ENDS = (*POOLS, "conv", "stride", None)
NORMS = {"none": (None, False), "batch": ("batch", True), "lrn": ("lrn",)}
MOST_DOUBLED = 512  # maps of a block where each has twice as many as the one before
MOST_VALUES = 10**8  # maps or features of a layer
MOST_LAYERS = 1_000  # of one kind; deeper nets are not this pattern
SHARINGS = ("shared", "local", "full")


def pool_class(name: str) -> Any:
    """The class of the pooling layer that an option names.

    Args:
      name: one of `POOLS`.

    Returns:
      The layer's class.

    Raises:
      ValueError: if there is no such pool.
    """
    if name not in POOLS:
        raise ValueError(f"unknown pool {name!r}; pools: {', '.join(POOLS)}")
    return POOLS[name]


def dropouts(rate: float) -> list[Layer]:
    """A Dropout layer, or none if its rate is 0; raises ValueError if it is no rate."""
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 <= rate < 1:
        raise ValueError(f"dropout (={rate!r}) must be a number, at least 0 and below 1")
    return [Dropout(rate)] if rate else []


def classifier(widths: Sequence[int], num_classes: int, activation: str, dropout: float, order: str) -> list[Layer]:
    """Flatten, [FC -> activation (-> dropout)] for each width, FC."""
    layers: list[Layer] = [Flatten(order)]
    for width in widths:
        layers += [Dense(width), Activation(activation), *dropouts(dropout)]
    return [*layers, Dense(num_classes)]


def layer_pattern(
    num_classes: int = 10,
    convs: int = 1,
    blocks: int = 2,
    fc: int = 1,
    features: int | Sequence[int] = 32,
    kernel: int | Sequence[int] = 3,
    padding: Any = "same",
    width: int = 128,
    pool: str | None | Sequence[str | None] = "max",
    activation: str = "relu",
    norm: bool | str | None = False,
    dropout: float = 0.0,
    flatten_order: str = "hwc",
    padding_mode: str = "zero",
    pool_n: int = 2,
    head: str = "flatten",
    first: str | None = None,
) -> Net:
    """INPUT -> [[CONV -> RELU]*convs -> POOL]*blocks -> [FC -> RELU]*fc -> FC, the pattern of most classic nets.

    Args:
      num_classes: number of outputs.
      convs: convolutions in a block, N; 0 and up.
      blocks: number of blocks, M; 0 and up.
      fc: hidden fully connected layers, K; 0 and up.
      features: maps of each block's convolutions; one number doubles from block to block up to 512.
      kernel: height and width of the kernels, pixels; one number, or one for each convolution of a block.
      padding: padding of the convolutions: "same", "valid" or pixels.
      width: features of each hidden fully connected layer.
      pool: the end of a block; one for all blocks, or one for each. "max", "average" and "n_max" are 2x2 pools; "conv"
        is a learned 2x2 convolution of stride 2 with as many maps, and its activation, in the pool's place; "stride"
        has no pool: the block's last convolution has stride 2; with None the map keeps its size. Pools and "conv" give
        floor(size / 2); "stride" gives ceil(size / 2) with padding "same", and floor((size - kernel) / 2) + 1 without
        padding.
      activation: see `cnn.layers.ACTIVATIONS`.
      norm: None or False: none; "batch" (or True): batch normalisation between convolution and activation; "lrn":
        local response normalisation after the activation, as in AlexNet. "conv" pools are not normalised.
      dropout: dropout rate after each hidden fully connected layer.
      flatten_order: "hwc", "chw" or "random", see `cnn.layers.Flatten`.
      padding_mode: how the padding is filled: "zero", "edge", "reflect" or "mean".
      pool_n: number of a window's four values that the pool "n_max" averages.
      head: "flatten": the fully connected layers see the whole last map; "global": they see its mean over height and
        width, so that the net takes images of any size of which the blocks leave at least one pixel.
      first: "bank": the first convolution is 5x5 and starts as `cnn.nets.textbook_kernels.bank` (the first block then
        has 6 maps); None: it starts as all others.

    Returns:
      A `Net` whose `str()` is the pattern.

    Raises:
      ValueError: if a count, size or rate is out of range, an option is unknown or is a list whose length is not the
        number of blocks or convolutions, or `pool` or `first` needs a convolution and there is none.
    """
    for what, count in (("convs", convs), ("blocks", blocks), ("fc", fc)):
        check_count("layer_pattern", what, count, 0)
    for what, count in (("num_classes", num_classes), ("width", width), ("pool_n", pool_n)):
        check_count("layer_pattern", what, count)
    if convs * blocks > MOST_LAYERS or blocks > MOST_LAYERS or fc > MOST_LAYERS:
        raise ValueError(
            f"layer_pattern: convs (={convs}), blocks (={blocks}) and fc (={fc}) make more than {MOST_LAYERS:,} layers"
        )
    for what, name in (("activation", activation), ("flatten_order", flatten_order), ("padding_mode", padding_mode)):
        if not isinstance(name, str):
            raise ValueError(f"layer_pattern: {what} (={name!r}) must be a text, one name")
    dropouts(dropout)  # checked also where no fully connected layer has it
    if isinstance(features, int):
        if features > MOST_DOUBLED:
            raise ValueError(
                f"layer_pattern: features (={short(features)}) must be at most {MOST_DOUBLED}, where doubling from "
                "block to block ends; or a list, one number for each block"
            )
        features = [min(features * 2**i, MOST_DOUBLED) for i in range(blocks)]
    maps = each("layer_pattern", features, blocks, "features", "number", "blocks")
    ends = each("layer_pattern", pool, blocks, "pool", "kind", "blocks")
    sizes = each("layer_pattern", kernel, convs, "kernel", "number", "convolutions of a block")
    for count in maps:
        check_count("layer_pattern", "features", count)
    for size in sizes or [kernel]:
        as_pair(size, "kernel", "layer_pattern")
    if head not in ("flatten", "global"):
        raise ValueError(f"layer_pattern: unknown head {head!r}; heads: flatten, global")
    _check_first(first, convs, maps)
    before, after = norms(norm, "layer_pattern")
    layers: list[Layer] = []
    for features_here, end in zip(maps, ends, strict=True):
        _check_end(end, convs)
        for i, size in enumerate(sizes):
            bank = (
                {"kernel": textbook_kernels.BANK_SIZE, "kernel_init": textbook_kernels.bank_init}
                if first and not layers
                else {}
            )
            strided = {"stride": 2, "rounding": "floor"} if end == "stride" and i == convs - 1 else {}
            fields = {"kernel": size, "padding": padding, "padding_mode": padding_mode, **strided, **bank}
            layers += [Conv(features_here, **fields), *before, Activation(activation), *after]
        if end == "conv":
            layers += [Conv(features_here, 2, stride=2, rounding="floor"), Activation(activation)]
        elif end in POOLS:
            layers.append(pool_class(end)(2, rounding="floor", **({"n": pool_n} if end == "n_max" else {})))
    average = [AvgPool(None)] if head == "global" else []
    return net(layers, average, classifier([width] * fc, num_classes, activation, dropout, flatten_order))


def check_count(function: str, what: str, value: Any, least: int = 1) -> None:
    """Refuses what is no whole number, too small or too large, before a layer is made of it.

    Args:
      function: name of the net, for the error.
      what: name of the option.
      value: what was given.
      least: the smallest value that is allowed; the largest is `MOST_VALUES`.

    Raises:
      ValueError: if it is refused.
    """
    number: Any = value if isinstance(value, Integral) and not isinstance(value, bool) else 0
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= number <= MOST_VALUES:
        most = f" and at most {MOST_VALUES:,}" if number > MOST_VALUES else ""
        raise ValueError(f"{function}: {what} (={short(value)}) must be a whole number, at least {least}{most}")


def each(function: str, value: Any, count: int, option: str, one: str, of_what: str) -> list[Any]:
    """A value for each of several parts of a net.

    Args:
      function: name of the net, for the error.
      value: one value for all, or a list with one for each.
      count: number of parts.
      option: name of the option.
      one: what a value is, for the error: "number".
      of_what: what the parts are: "blocks".

    Returns:
      `count` values.

    Raises:
      ValueError: if it is a list of another length.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{function}: {option} (={value}) must be one {one} or one for each of {count} {of_what}")
    return list(value)


def norms(norm: bool | str | None, what: str) -> tuple[list[Layer], list[Layer]]:
    """The normalisation layers before and after the activation of a convolution.

    Args:
      norm: "batch" (or True), "lrn", "none" (or False or None).
      what: name of the net, for the error.

    Returns:
      Layers before it, and layers after it.

    Raises:
      ValueError: if there is no such normalisation.
    """
    kind = next((kind for kind, spelt in NORMS.items() if norm in spelt), None)
    if kind is None:
        raise ValueError(f"{what}: unknown norm {short(norm)}; norms: batch, lrn, or None")
    return [BatchNorm()] if kind == "batch" else [], [LRN()] if kind == "lrn" else []


def _check_end(end: Any, convs: int) -> None:
    if end not in BLOCK_ENDS:
        raise ValueError(f"layer_pattern: unknown pool {short(end)}; pools: {', '.join(map(str, BLOCK_ENDS))}")
    if end == "stride" and convs == 0:
        raise ValueError("layer_pattern: pool 'stride' needs a convolution to stride; convs (=0) must be at least 1")


def _check_first(first: str | None, convs: int, maps: Sequence[int]) -> None:
    if first not in (None, "bank"):
        raise ValueError(f"layer_pattern: unknown first {first!r}; it is 'bank' or None")
    if first and not (convs and maps):
        raise ValueError(
            "layer_pattern: first 'bank' needs a convolution to start; convs and blocks must be at least 1"
        )
    if first and maps[0] != textbook_kernels.BANK_FEATURES:
        raise ValueError(
            f"layer_pattern: first 'bank' has {textbook_kernels.BANK_FEATURES} kernels, the first of features "
            f"(={list(maps)}) must be as many; features={(textbook_kernels.BANK_FEATURES, *maps[1:])} would do"
        )


def sharing_net(
    num_classes: int = 10,
    sharing: str = "shared",
    features: Sequence[int] = (8, 16),
    kernels: Sequence[int] = (4, 3),
    stride: int = 2,
    image_size: int = 28,
    activation: str = "relu",
) -> Net:
    """Two unpadded strided layers: convolutional, locally connected or fully connected, of the same width.

    The three nets have the same number of values in every layer. On 28x28x1 images the first layer has 1,352 values
    (13x13x8); it has 136 parameters as a convolution, 22,984 locally connected and 1,061,320 fully connected.

    Args:
      num_classes: number of outputs.
      sharing: "shared": convolutions; "local": locally connected layers, with kernels of their own for each place;
        "full": fully connected layers, with as many values as the convolutions would have at `image_size`.
      features: maps of each layer.
      kernels: height and width of each layer's kernels, pixels.
      stride: stride of all layers, pixels.
      image_size: height and width of the images, pixels; used by "full" only.
      activation: see `cnn.layers.ACTIVATIONS`.

    Returns:
      A `Net`.

    Raises:
      ValueError: if `sharing` is unknown, or `kernels` and `features` differ in length.
      GeometryError: if the layers do not fit `image_size`, for "full".
    """
    if sharing not in SHARINGS:
        raise ValueError(f"sharing_net: unknown sharing {sharing!r}; sharings: {', '.join(SHARINGS)}")
    if len(features) != len(kernels):
        raise ValueError(f"sharing_net: features (={features}) and kernels (={kernels}) must be as many")
    windows = list(zip(features, kernels, strict=True))
    shared: list[Layer] = [Conv(maps, size, stride=stride) for maps, size in windows]
    if sharing == "full":
        rows = geometry.table(shared, (image_size, image_size, 1))
        return net(classifier([math.prod(row.output_shape) for row in rows], num_classes, activation, 0.0, "hwc"))
    if sharing == "local":
        shared = [LocallyConnected(maps, size, stride=stride) for maps, size in windows]
    return net(
        *([layer, Activation(activation)] for layer in shared), classifier([], num_classes, activation, 0.0, "hwc")
    )
