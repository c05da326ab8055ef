"""What every layer is: a small Flax module that also knows its own geometry."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn

from cnn.runtime.ranges import whole
from cnn.windows import Window

Shape = tuple[int, ...]
IS_COUNT = whole(1, 2**62)  # of features and groups; what a net can have is asked where it is made
HE_NORMAL = nn.initializers.he_normal()  # one function, so that kernels of all layers start by an equal one


class Layer(nn.Module):
    """Base of all layers; by default one that keeps the shape and has no parameters.

    A user-defined layer declares whether it mixes pixels. If every output pixel depends only on the input pixel at the
    same place, it sets `mixes_pixels = False`. If not, it derives from `cnn.layers.WindowLayer` and returns its window
    from `window`. Receptive fields and dense evaluation rely on this declaration; `cnn.dense.check` tests it.
    """

    mixes_pixels: ClassVar[bool | None] = None  # None: not declared
    kind: ClassVar[str] = "layer"
    symbol: ClassVar[str] = ""  # how the layer is written in a pattern such as [CONV -> RELU -> POOL]*2 -> FC

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape after the layer, without the batch axis."""
        return tuple(input_shape)

    @nn.nowrap
    def param_count(self, input_shape: Shape) -> int:
        """Number of trained parameters."""
        return 0

    @nn.nowrap
    def macs(self, input_shape: Shape) -> int:
        """Multiply-adds for one image; pooling, activations, normalisation and biases count as none."""
        return 0

    @nn.nowrap
    def window(self, input_shape: Shape) -> Window:
        """The window that slides over the input."""
        return Window()

    @nn.nowrap
    def pattern_symbol(self) -> str:
        """How the layer is written in a layer pattern; empty: patterns leave it out."""
        return self.symbol

    @nn.nowrap
    def stem(self) -> str:
        """What the names of such layers begin with, where a net gives them one: conv1, conv2, ..."""
        return (self.pattern_symbol() or self.kind).lower().replace(" ", "_")

    @property
    def label(self) -> str:
        """Name and kind of the layer, for error messages."""
        return f"{self.name or 'unnamed'} ({self.kind})"


def layers_of(net: Any) -> tuple[Layer, ...]:
    """The layers of a net, or of a list of layers.

    Args:
      net: a `cnn.nets.Net`, or layers one after another.

    Returns:
      The layers.

    Raises:
      TypeError: if it is neither; says what was given.
    """
    layers = getattr(net, "layers", net)
    if not isinstance(layers, Iterable) or isinstance(layers, str | Mapping):
        raise TypeError(f"a net (={net!r}) is made by cnn.nets.create(name) or cnn.nets.net(layers); give that")
    made = tuple(layers)
    for layer in made:
        if not isinstance(layer, Layer):
            raise TypeError(f"a net's layers are those of cnn.layers, not {layer!r} ({type(layer).__name__})")
    return made


def named(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Names the unnamed layers by kind and count: conv1, relu1, pool1, conv2, ...

    Args:
      layers: layers with or without names.

    Returns:
      The same layers, each with a name of its own.

    Raises:
      ValueError: if two layers have the same name.
    """
    counts: dict[str, int] = {}
    result = []
    for layer in layers:
        if layer.name is None:
            stem = layer.stem()
            counts[stem] = counts.get(stem, 0) + 1
            layer = layer.clone(name=f"{stem}{counts[stem]}")
        result.append(layer)
    names = [layer.name for layer in result]
    doubles = sorted({str(name) for name in names if names.count(name) > 1})
    if doubles:
        raise ValueError(f"layers share a name: {', '.join(doubles)}; give each its own")
    return tuple(result)
