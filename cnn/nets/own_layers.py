"""Checks of a net's layers before anything is computed: their fields, and the shapes that user-defined ones return.

A layer with a number of the wrong kind fails when it is asked for its shape. A layer from outside `cnn.layers` may also
not take `train`, fail on its input, or return another shape than it declares. These checks name such a layer; without
them the error would name a layer after it.
"""

import dataclasses
import inspect
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from cnn import geometry
from cnn.layers import Branches, Layer, Shape
from cnn.nets.network import Net
from cnn.runtime import own_code
from cnn.windows import GeometryError, shape_text

# Methods by which a layer describes itself for an input shape.
QUESTIONS = ("output_shape", "window", "param_count", "macs")


def check(net: Net, image_shape: Shape) -> None:
    """Asks each layer for its shape, and calls user-defined ones with abstract arrays: nothing is computed.

    Args:
      net: the net whose layers are checked.
      image_shape: (H, W, C) of one image, pixels.

    Raises:
      ValueError: if the net has no layers, a layer fails, or a user-defined layer returns another shape than it
        declares; names the layer and its class.
      GeometryError: if a layer cannot take its input.
    """
    if not net.layers:
        raise ValueError("it has no layers; return nets.net(Conv(8, 3), Activation(), Flatten(), Dense(num_classes))")
    _check_chain(net, net.layers, tuple(image_shape), image_shape)


def _check_chain(net: Net, layers: Iterable[Layer], shape: Shape, image_shape: Shape) -> Shape:
    """Checks layers one after another, those within paths before the layer that joins them; returns the last shape."""
    for index, layer in enumerate(layers):
        layer = layer.clone(name=f"layers_{index}") if layer.name is None else layer
        if isinstance(layer, Branches) and len(shape) == 3:
            _check_paths(net, layer, shape, image_shape)
        _check_answers(layer, shape)
        try:
            declared = layer.output_shape(shape)
        except GeometryError:
            geometry.table(net, image_shape)  # raises the same error with the sizes that fit
            raise
        if not _is_ours(layer):
            for train in (False, True):
                _check_call(layer, shape, declared, train)
        shape = declared
    return shape


def _check_paths(net: Net, layer: Branches, shape: Shape, image_shape: Shape) -> None:
    """Checks the layers of all paths, named by block and layer."""
    try:
        paths = layer.checked()
    except GeometryError:
        return  # `_check_answers` leaves it to `geometry.table`, which says it with the image
    for path in paths:
        named = [inner.clone(name=f"{layer.name}/{inner.name}") for inner in path]
        _check_chain(net, named, shape, image_shape)


def _is_ours(layer: Layer) -> bool:
    return type(layer).__module__.startswith("cnn.layers")


def _who(layer: Layer) -> str:
    return f"layer {layer.label}, class {type(layer).__name__}"


def _values(layer: Layer) -> str:
    """The values that a layer was made with: "features='8', kernel=3"."""
    own = [field.name for field in dataclasses.fields(layer) if field.name not in ("parent", "name")]
    return ", ".join(f"{name}={value!r}" for name in own if not callable(value := getattr(layer, name)))


def _file(layer: Layer) -> str:
    """Path of the file that defines a layer's class; "" if there is none."""
    try:
        return inspect.getfile(type(layer))
    except (TypeError, OSError):
        return ""


def _check_answers(layer: Layer, shape: Shape) -> None:
    """Raises `ValueError` if a method by which a layer describes itself fails."""
    for question in QUESTIONS if len(shape) == 3 else ("output_shape", "param_count", "macs"):
        try:
            answer = getattr(layer, question)(shape)
        except GeometryError:
            return  # the size does not fit; `geometry.table` reports it with sizes that do
        except Exception as error:
            if _is_ours(layer):  # whose values are wrong, not its code
                text = f"{layer.label}: a value is of the wrong kind, {_values(layer)}: {own_code.describe(error, '')}"
                raise ValueError(text) from error
            text = own_code.describe(error, _file(layer))
            raise ValueError(f"{_who(layer)}: {question}({shape}) fails: {text}") from error
        if question == "output_shape" and not _is_shape(answer):
            raise ValueError(
                f"{_who(layer)}: output_shape({shape}) is {answer!r}; it must be (height, width, channels) or "
                "(features,), whole numbers of at least 1"
            )


def _is_shape(answer: Any) -> bool:
    sizes = tuple(answer) if isinstance(answer, tuple | list) else ()
    return len(sizes) in (1, 3) and all(isinstance(size, int) and size >= 1 for size in sizes)


def _check_call(layer: Layer, shape: Shape, declared: Shape, train: bool) -> None:
    """Raises `ValueError` if a layer cannot be called as in a net, or returns another shape than it declares."""
    if not callable(layer):
        raise ValueError(f"{_who(layer)}: has no method __call__(self, x, *, train)")
    takes = inspect.signature(type(layer).__call__).parameters
    if "train" not in takes and not any(one.kind is one.VAR_KEYWORD for one in takes.values()):
        raise ValueError(f"{_who(layer)}: its __call__ must take train, as in def __call__(self, x, *, train)")
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    try:
        output: Any = jax.eval_shape(lambda x: layer.init_with_output(keys, x, train=train)[0], x)
    except GeometryError:
        raise
    except Exception as error:
        text = own_code.describe(error, _file(layer))
        raise ValueError(f"{_who(layer)}: fails on an input of {shape_text(shape)}: {text}") from error
    given = getattr(output, "shape", None)
    if given != (2, *declared):
        what = f"an array {list(given)}" if given is not None else type(output).__name__
        raise ValueError(
            f"{_who(layer)}: gives {what} for two inputs of {shape_text(shape)}, where its output_shape says "
            f"{[2, *declared]}; correct output_shape, or __call__"
        )
