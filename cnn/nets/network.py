"""`Net`: a net as data, a tuple of layers; and its initial variables."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnn import geometry
from cnn.layers import Branches, Layer, named
from cnn.nets.arrays_in import image_array
from cnn.nets.outputs import check_activation
from cnn.runtime.compiler import jit_once
from cnn.windows import as_image_shape


class Net(nn.Module):
    """A feed-forward net: its layers, applied one after another.

    `net.init(key, images, train=False)` makes the variables (`cnn.nets.init` makes the same ones faster) and
    `net.apply(variables, images, train=False)` gives the scores, as with every Flax module. `str(net)` is the layer
    pattern in the notation of the literature.

    Attributes:
      layers: the layers in order; their names are the keys of the parameter tree.
      output_activation: what the scores mean, "softmax" or "sigmoid" (`cnn.nets.outputs`). It changes no score: losses,
        probabilities and what is made of them follow it.
    """

    layers: tuple[Layer, ...] = ()
    output_activation: str = "softmax"
    preserve_adopted_names = True  # Flax: keep "conv1" instead of naming layers by their place in the tuple

    def __post_init__(self) -> None:
        """Makes tuples of lists: a net is an argument of compiled functions, which must be able to hash it."""
        object.__setattr__(self, "layers", tuple(_with_tuples(layer) for layer in self.layers))
        super().__post_init__()

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Class scores of images.

        Args:
          images: [N, H, W, C], floating, normalised as in training.
          train: whether dropout drops and batch normalisation uses the batch's statistics.

        Returns:
          Logits [N, K]; [N, h, w, K] for a net without fully connected layers.
        """
        return self.activations(images, train=train)[0]

    def activations(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Class scores of images, and the output of every layer.

        Use it as `net.apply(variables, images, train=False, method="activations")`.

        Args:
          images: [N, H, W, C], floating.
          train: whether dropout drops and batch normalisation uses the batch's statistics.

        Returns:
          The logits [N, K], and a dict from the name of each layer to its output.

        Raises:
          TypeError: if the images are not floating, or not [N, H, W, C].
          GeometryError: if the images have a size that the net, or its trained kernels, cannot take, or the variables
            are not those of the net.
        """
        images = image_array(images, "net")
        # Its error names the layer, the numbers and the sizes that fit; Flax's own would show two shapes.
        geometry.table(self.layers, images.shape[1:], None if self.is_initializing() else self.variables)
        stages = {}
        x = images
        for name, layer in zip(geometry.layer_names(self.layers), self.layers, strict=True):
            stages[name] = x = layer(x, train=train)
        return x, stages

    def __str__(self) -> str:
        return "INPUT -> " + " -> ".join(_fold([symbol for x in self.layers if (symbol := x.pattern_symbol())]))


def _with_tuples(layer: Layer) -> Layer:
    """A layer whose fields hold tuples where they were given as lists, or as arrays of a few numbers."""
    if not isinstance(layer, Layer):
        return layer  # Flax passes placeholders while it looks at a module
    own = [field.name for field in dataclasses.fields(layer) if field.name not in ("parent", "name")]
    given = {name: getattr(layer, name) for name in own}
    if isinstance(layer, Branches):
        given["paths"] = tuple(tuple(_with_tuples(one) for one in path) for path in layer.checked())
    changed = {name: made for name, value in given.items() if (made := _as_tuple(value)) is not getattr(layer, name)}
    return layer.clone(**changed) if changed else layer


def _as_tuple(value: Any) -> Any:
    """A list, or an array of at most four whole numbers (a size, a padding), as a tuple; an array that is one number as
    a number; other values unchanged.
    """
    if isinstance(value, np.ndarray | jax.Array) and value.shape == () and jnp.issubdtype(value.dtype, jnp.floating):
        return float(value)
    if isinstance(value, np.ndarray | jax.Array) and jnp.issubdtype(value.dtype, jnp.integer) and value.size <= 4:
        value = np.asarray(value).tolist()
    if not isinstance(value, list | tuple):
        return value
    made = tuple(_as_tuple(one) for one in value)
    return made if isinstance(value, list) or any(a is not b for a, b in zip(made, value, strict=True)) else value


def _fold(symbols: list[str]) -> list[str]:
    """Writes repeats as [A -> B]*n, shortest units first; a unit of several layers begins with a layer with weights."""
    for length in range(1, len(symbols) // 2 + 1):
        folded, start = [], 0
        while start < len(symbols):
            unit = symbols[start : start + length]
            count = 1
            while symbols[start + count * length : start + (count + 1) * length] == unit:
                count += 1
            if count > 1 and (length == 1 or unit[0].startswith(("CONV", "LOCAL", "FC", "["))):
                folded.append(f"[{' -> '.join(unit)}]*{count}")
                start += count * length
            else:
                folded.append(symbols[start])
                start += 1
        if len(folded) < len(symbols):
            return _fold(folded)
    return symbols


def net(*layers: Layer | Sequence[Layer], output_activation: str = "softmax") -> Net:
    """Builds a net from layers, or lists of layers, and names those without a name.

    Args:
      *layers: layers in order, or lists of layers, which are joined.
      output_activation: what the scores mean, "softmax" or "sigmoid" (`cnn.nets.outputs`).

    Returns:
      A `Net`.

    Raises:
      TypeError: if something is no layer, nor a list of layers.
      ValueError: if two layers have the same name, or there is no such output activation.
    """
    flat: list[Layer] = []
    for item in layers:
        parts = [item] if isinstance(item, Layer) else item
        if isinstance(parts, str | bytes) or not isinstance(parts, Iterable):
            raise TypeError(f"nets.net: a layer (={item!r}) must be one of cnn.layers, or a list of them")
        flat.extend(parts)
    return Net(named(flat), check_activation(output_activation, "nets.net"))


def init(net: nn.Module, image_shape: tuple[int, ...], seed: int = 0) -> dict[str, Any]:
    """Makes a net's initial variables in one compiled program.

    The values are those of `net.init(jax.random.key(seed), images, train=False)`, to the bit. That call compiles
    hundreds of small operations one after another, which takes several times as long for a deep net.

    Args:
      net: the net.
      image_shape: (H, W, C) of one image.
      seed: seed of the random numbers.

    Returns:
      {"params": ...}, and "batch_stats" for a net with batch normalisation: what `net.apply` takes.

    Raises:
      TypeError: if it is no net.
      ValueError: if the seed is no whole number that JAX takes.
      GeometryError: if the net cannot take images of that size.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"nets.init: net (={net!r}) must be a net, such as nets.create(name) makes, not its name")
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not -(2**63) <= seed < 2**63:
        raise ValueError(f"nets.init: seed (={seed!r}) must be a whole number, such as 0, of at most 64 bits")
    return _init(net, as_image_shape(image_shape, "nets.init: image_shape"), jax.random.key(seed))


@functools.partial(jit_once, static_argnums=(0, 1))
def _init(net: nn.Module, image_shape: tuple[int, ...], key: jax.Array) -> dict[str, Any]:
    """The variables, compiled once for each net and size."""
    return dict(net.init(key, jnp.zeros((1, *image_shape), jnp.float32), train=False))
