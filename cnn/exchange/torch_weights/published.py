"""Names under which torchvision and timm publish the weights of nets that branch, in the order of the layers here."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cnn import nets
from cnn.layers import Branches, Conv, Dense, Dropout, Layer, StochasticDepth
from cnn.nets import Net

_TRAINING = ("name", "parent", "zero_init", "momentum", "kernel_init")  # fields of layers that change no score


class Published(NamedTuple):
    """The names of one net's modules.

    Attributes:
      by: who publishes weights under them.
      net: the registered net.
      options: those with which it has these layers.
      names: of the modules with parameters, in the order of the layers that have some, path by path.
      left_out: what names of modules begin with that have no layer here.
      constructor: the call of torchvision that makes the net for K classes; "" where there is none.
      note: what must be known of the weights that are published; "" where there is nothing.
    """

    by: str
    net: str
    options: Mapping[str, Any]
    names: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    constructor: str = ""
    note: str = ""


GOOGLENET = "torchvision trained its googlenet on images of mean 0.5 and standard deviation 0.5 (transform_input)"


def every() -> Iterator[Published]:
    """All that are known."""
    both = "torchvision and timm"
    for name, counts, convs in (
        ("resnet18", (2, 2, 2, 2), 2),
        ("resnet34", (3, 4, 6, 3), 2),
        ("resnet50", (3, 4, 6, 3), 3),
    ):
        yield Published(both, name, {}, tuple(_resnet(counts, convs)), constructor=f"{name}(num_classes={{K}})")
    aux = "googlenet(num_classes={K}, aux_logits=False, init_weights=False)"
    names = tuple(_googlenet())
    yield Published("torchvision", "googlenet", {}, names, ("aux1.", "aux2."), aux, GOOGLENET)
    yield Published("torchvision's layers", "googlenet", {"kernel": 5}, names, ("aux1.", "aux2."))
    for version in ("1.1", "1.0"):
        constructor = f"squeezenet{version.replace('.', '_')}(num_classes={{K}})"
        names = tuple(_squeezenet(version))
        yield Published("torchvision", "squeezenet", {"version": version}, names, constructor=constructor)
    names = tuple(_densenet())
    yield Published(both, "densenet121", {}, names, constructor="densenet121(num_classes={K})")
    older = tuple(_before_2018(name) for name in names)
    yield Published("torchvision, before 2018", "densenet121", {}, older)
    names = tuple(_mobilenet_of_torchvision())
    yield Published("torchvision", "mobilenet_v2", {}, names, constructor="mobilenet_v2(num_classes={K})")
    yield Published("timm", "mobilenet_v2", {}, tuple(_mobilenet_of_timm()))


def _resnet(counts: tuple[int, ...], convs: int) -> Iterator[str]:
    yield from ("conv1", "bn1")
    for stage, count in enumerate(counts, start=1):
        for block in range(count):
            here = f"layer{stage}.{block}"
            for number in range(1, convs + 1):
                yield from (f"{here}.conv{number}", f"{here}.bn{number}")
            if block == 0 and (stage > 1 or convs == 3):
                yield from (f"{here}.downsample.0", f"{here}.downsample.1")
    yield "fc"


def _googlenet() -> Iterator[str]:
    units = ["conv1", "conv2", "conv3"]
    for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        paths = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
        units += [f"inception{block}.{path}" for path in paths]
    for unit in units:
        yield from (f"{unit}.conv", f"{unit}.bn")
    yield "fc"


def _squeezenet(version: str) -> Iterator[str]:
    yield "features.0"
    for index in {"1.0": (3, 4, 5, 7, 8, 9, 10, 12), "1.1": (3, 4, 6, 7, 9, 10, 11, 12)}[version]:
        yield from (f"features.{index}.{part}" for part in ("squeeze", "expand1x1", "expand3x3"))
    yield "classifier.1"


def _densenet() -> Iterator[str]:
    yield from ("features.conv0", "features.norm0")
    for block, count in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, count + 1):
            here = f"features.denseblock{block}.denselayer{layer}"
            yield from (f"{here}.{part}" for part in ("norm1", "conv1", "norm2", "conv2"))
        if block < 4:
            yield from (f"features.transition{block}.norm", f"features.transition{block}.conv")
    yield from ("features.norm5", "classifier")


def _before_2018(name: str) -> str:
    """norm.1 within a dense layer, which is called norm1 today."""
    return f"{name[:-1]}.{name[-1]}" if ".denselayer" in name else name


def _mobilenet_of_torchvision() -> Iterator[str]:
    yield from ("features.0.0", "features.0.1")
    for block in range(1, 18):
        units = ("0", "1") if block > 1 else ("0",)  # the first has no convolution that expands
        for unit in units:
            yield from (f"features.{block}.conv.{unit}.0", f"features.{block}.conv.{unit}.1")
        yield from (f"features.{block}.conv.{len(units)}", f"features.{block}.conv.{len(units) + 1}")
    yield from ("features.18.0", "features.18.1", "classifier.1")


def _mobilenet_of_timm() -> Iterator[str]:
    yield from ("conv_stem", "bn1")
    for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1)):
        for block in range(count):
            convs = ("conv_pw", "conv_dw", "conv_pwl") if stage else ("conv_dw", "conv_pw")
            for number, conv in enumerate(convs, start=1):
                yield from (f"blocks.{stage}.{block}.{conv}", f"blocks.{stage}.{block}.bn{number}")
    yield from ("conv_head", "bn2", "classifier")


def of_net(net: Net) -> Published | None:
    """The names under which the weights of a net are published.

    Args:
      net: any net.

    Returns:
      torchvision's names, if the net is a registered one as torchvision makes it, whatever its classes, its dropout
      and its layers' names; None for all others.
    """
    kernels = [layer for layer in net.layers if isinstance(layer, Conv | Dense)]
    if not kernels or not any(isinstance(layer, Branches) for layer in net.layers):
        return None
    bare = _bare(net.layers)
    for one in every():
        if one.constructor and bare == _bare(nets.create(one.net, kernels[-1].features, **one.options).layers):
            return one
    return None


def _bare(layers: Sequence[Layer]) -> list[Any]:
    """Layers as far as they decide scores and names of weights."""
    made: list[Any] = []
    for layer in layers:
        if isinstance(layer, Branches):
            made.append((layer.join, *(_bare(path) for path in layer.checked())))
        elif not isinstance(layer, Dropout | StochasticDepth):
            fields = (field.name for field in dataclasses.fields(layer) if field.name not in _TRAINING)
            made.append((type(layer), {name: getattr(layer, name) for name in fields}))
    return made
