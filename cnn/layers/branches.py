"""Layers that branch: several paths over one input, joined again; and what residual nets need with them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn.layers.base import Layer, Shape, named
from cnn.layers.sliding import WindowLayer, height_width
from cnn.windows import GeometryError, Pair, Window, as_pair, shape_text

JOINS = ("sum", "concat", "mean", "max", "product")
BETWEEN = {"sum": " + ", "concat": " | ", "mean": " ~ ", "max": " ^ ", "product": " x "}  # paths, in a pattern

Path = tuple[Layer, ...]


class Branches(Layer):
    """Several paths over the same input, whose outputs are joined: a residual, inception, fire or dense block.

    The layers of all paths have names of their own within the block, which are keys in its part of the parameter tree:
    params["branches1"]["conv2"]["kernel"].

    Attributes:
      paths: for each path its layers in order; an empty path is the identity. Layers may be `Branches` again.
      join: "sum", "mean", "max" and "product" of values at the same place, for which all paths give the same shape;
        "concat": the channels of all paths one after another, for which they give the same height and width.

    Sources: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (2016); Szegedy et al., "Going Deeper
    with Convolutions" (2015).
    """

    paths: Sequence[Sequence[Layer]] = ()
    join: str = "sum"
    mixes_pixels: ClassVar[bool | None] = True
    kind: ClassVar[str] = "branches"
    preserve_adopted_names = True  # Flax: keep "conv1" instead of naming layers by their place in the tuples

    def __post_init__(self) -> None:
        """Names the layers of all paths, one count for each kind over the whole block."""
        paths = self.paths
        if isinstance(paths, list | tuple) and all(isinstance(path, list | tuple) for path in paths):
            layers = [layer for path in paths for layer in path]
            if all(isinstance(layer, Layer) for layer in layers):  # Flax passes placeholders while it looks at a module
                made = iter(named(layers))
                object.__setattr__(self, "paths", tuple(tuple(next(made) for _ in path) for path in paths))
        super().__post_init__()

    @nn.nowrap
    def checked(self) -> tuple[Path, ...]:
        """The paths, each a tuple of layers.

        Raises:
          GeometryError: if there are none, something in them is no layer, or there is no such join.
        """
        if not isinstance(self.paths, tuple) or not self.paths:
            raise GeometryError(f"{self.label}: paths (={self.paths!r}) must be one tuple of layers for each path")
        for number, path in enumerate(self.paths, start=1):
            if not isinstance(path, tuple) or not all(isinstance(layer, Layer) for layer in path):
                given = type(path).__name__ if isinstance(path, Layer) else " ".join(repr(path).split())
                raise GeometryError(f"{self.label}: path {number} (={given}) must be a tuple of layers of cnn.layers")
        if not isinstance(self.join, str) or self.join not in JOINS:
            raise GeometryError(f"{self.label}: join (={self.join!r}) must be one of {', '.join(JOINS)}")
        return tuple(tuple(path) for path in self.paths)

    @nn.nowrap
    def path_label(self, number: int) -> str:
        """A path in words, counted from 1: "path 2 (conv3 -> bn3)"."""
        path = self.checked()[number - 1]
        return f"path {number} ({' -> '.join(str(layer.name) for layer in path) or 'identity'})"

    @nn.nowrap
    def walk(self, number: int, input_shape: Shape) -> Iterator[tuple[Layer, Shape]]:
        """The layers of a path, counted from 1, each with the shape of its input; named by block and layer."""
        shape = tuple(input_shape)
        for layer in self.checked()[number - 1]:
            layer = layer.clone(name=f"{self.name}/{layer.name}" if self.name else layer.name)
            yield layer, shape
            shape = layer.output_shape(shape)

    @nn.nowrap
    def path_shape(self, number: int, input_shape: Shape) -> Shape:
        """The shape that a path gives, counted from 1."""
        shape = tuple(input_shape)
        for layer, seen in self.walk(number, input_shape):
            shape = layer.output_shape(seen)
        return shape

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """(H', W', C'): that of every path, or with the channels of all paths."""
        if len(input_shape) != 3:
            raise GeometryError(
                f"{self.label}: needs an image (height, width, channels), not {shape_text(input_shape)}"
            )
        shapes = [self.path_shape(number, input_shape) for number in range(1, len(self.checked()) + 1)]
        for number, shape in enumerate(shapes, start=1):
            alike = shape[:2] == shapes[0][:2] if self.join == "concat" else shape == shapes[0]
            if len(shape) != 3 or not alike:
                what = "height and width" if self.join == "concat" else "shape"
                raise GeometryError(
                    f"{self.label}: the paths of a {self.join} must give the same {what}, and "
                    f"{self.path_label(1)} gives {shape_text(shapes[0])}, {self.path_label(number)} "
                    f"{shape_text(shape)}, of an input of {shape_text(input_shape)}"
                )
        if self.join != "concat":
            return shapes[0]
        return *shapes[0][:2], sum(shape[2] for shape in shapes)

    @nn.nowrap
    def param_count(self, input_shape: Shape) -> int:
        """Those of all layers."""
        return sum(layer.param_count(shape) for layer, shape in self.leaves(input_shape))

    @nn.nowrap
    def macs(self, input_shape: Shape) -> int:
        """Those of all layers; the join counts as none."""
        return sum(layer.macs(shape) for layer, shape in self.leaves(input_shape))

    @nn.nowrap
    def leaves(self, input_shape: Shape) -> Iterator[tuple[Layer, Shape]]:
        """The layers of all paths that do not branch, path by path, each with the shape of its input."""
        for number in range(1, len(self.checked()) + 1):
            for layer, shape in self.walk(number, input_shape):
                if isinstance(layer, Branches):
                    yield from layer.leaves(shape)
                else:
                    yield layer, shape

    @nn.nowrap
    def window(self, input_shape: Shape) -> Window:
        """The smallest window that covers those of all paths.

        Raises:
          GeometryError: if the paths have different strides.
        """
        boxes = [self._box(number, input_shape) for number in range(1, len(self.checked()) + 1)]
        for number, (_, _, stride) in enumerate(boxes, start=1):
            if stride != boxes[0][2]:
                raise GeometryError(
                    f"{self.label}: all paths must have the same stride, and {self.path_label(1)} has "
                    f"{shape_text(boxes[0][2])}, {self.path_label(number)} {shape_text(stride)}"
                )
        size = height_width(self.output_shape(input_shape))
        kernel, padding = [], []
        for axis in range(2):
            first = min(start[axis] for start, _, _ in boxes)
            extent = max(stop[axis] for _, stop, _ in boxes) - first
            after = (size[axis] - 1) * boxes[0][2][axis] + extent + first - input_shape[axis]
            kernel.append(extent)
            padding.append((-first, after))
        return Window((kernel[0], kernel[1]), boxes[0][2], (padding[0], padding[1]))

    @nn.nowrap
    def _box(self, number: int, input_shape: Shape) -> tuple[Pair, Pair, Pair]:
        """Start and end of what a path's first output sees, and the path's stride, in values of the block's input."""
        start, field, stride = [0, 0], [1, 1], [1, 1]
        for layer, shape in self.walk(number, input_shape):
            seen = layer.window(shape)
            for axis in range(2):
                field[axis] += (seen.extent[axis] - 1) * stride[axis]
                start[axis] -= seen.padding[axis][0] * stride[axis]
                stride[axis] *= seen.stride[axis]
        stop = (start[0] + field[0], start[1] + field[1])
        return (start[0], start[1]), stop, (stride[0], stride[1])

    @nn.nowrap
    def pattern_symbol(self) -> str:
        """[[CONV -> RELU -> CONV] + ID]: paths with the sign of their join between them."""
        texts = []
        for path in self.checked():
            symbols = [symbol for layer in path if (symbol := layer.pattern_symbol())]
            text = " -> ".join(symbols) or "ID"
            texts.append(f"[{text}]" if len(symbols) > 1 else text)
        return f"[{BETWEEN[self.join].join(texts)}]"

    @nn.nowrap
    def stem(self) -> str:
        """block1, block2, ..."""
        return "block"

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', C']."""
        self.output_shape(x.shape[1:])
        outputs = []
        for path in self.checked():
            y: Any = x
            for layer in path:
                y = layer(y, train=train)
            outputs.append(y)
        return joined(outputs, self.join)


def changed(layers: Sequence[Layer], change: Callable[[Layer], Layer]) -> tuple[Layer, ...]:
    """Layers of which those that do not branch, within paths too, are changed.

    Args:
      layers: layers one after another.
      change: gives the layer that takes a layer's place.

    Returns:
      The layers.
    """
    made = []
    for layer in layers:
        if isinstance(layer, Branches):
            layer = layer.clone(paths=tuple(changed(path, change) for path in layer.checked()))
        else:
            layer = change(layer)
        made.append(layer)
    return tuple(made)


def joined(outputs: Sequence[jax.Array], join: str, axis: int = -1) -> jax.Array:
    """The outputs of paths as one array.

    Args:
      outputs: one array for each path.
      join: one of `JOINS`.
      axis: the axis of channels.

    Returns:
      Their sum, mean, maximum or product, or all channels one after another.
    """
    if join == "concat":
        return jnp.concatenate(outputs, axis=axis)
    total = outputs[0]
    join_two = {"max": jnp.maximum, "product": jnp.multiply}.get(join, jnp.add)
    for one in outputs[1:]:
        total = join_two(total, one)
    return total / len(outputs) if join == "mean" else total


class Crop(WindowLayer):
    """Cuts a border off: the identity of a residual block beside convolutions without padding.

    Its window has the size that the cut needs, of which it takes the value in the middle: with `amount` 2 a window of 5
    values, as two unpadded 3x3 convolutions have.

    Attributes:
      amount: what is cut off at each side, one number or (vertical, horizontal), pixels.
      stride, padding, dilation, rounding: those of every layer with a window; the stride takes every n-th value.
    """

    amount: int | Sequence[int] = 1
    stride: int | Sequence[int] = 1
    padding: Any = "valid"
    dilation: int | Sequence[int] = 1
    rounding: str = "exact"
    kind: ClassVar[str] = "crop"
    symbol: ClassVar[str] = "CROP"

    @nn.nowrap
    def window(self, input_shape: Shape) -> Window:
        """The window whose middle is taken."""
        amount = as_pair(self.amount, "amount", self.label, minimum=0)
        kernel = (2 * amount[0] + 1, 2 * amount[1] + 1)
        return self._window(input_shape, kernel, self.stride, self.padding, self.dilation)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', C]."""
        shape = x.shape[1:]
        window, size = self.window(shape), height_width(self.output_shape(shape))
        slices = [slice(None)]
        for axis in range(2):
            low, high = window.padding[axis]
            x = jnp.pad(x, [(0, 0)] * (axis + 1) + [(low, high)] + [(0, 0)] * (2 - axis)) if low or high else x
            first = window.extent[axis] // 2
            slices.append(slice(first, first + (size[axis] - 1) * window.stride[axis] + 1, window.stride[axis]))
        return self._fitted(x[tuple(slices)], shape, self.rounding)


class StochasticDepth(Layer):
    """Drops all values of an example with probability `rate` in training, and scales the others by 1 / (1 - rate).

    At the end of a residual block's path it leaves the identity alone. Draws from the "dropout" key.

    Source: Huang, Sun, Liu, Sedra, Weinberger, "Deep Networks with Stochastic Depth" (2016).
    """

    rate: float = 0.1
    mixes_pixels: ClassVar[bool | None] = False
    kind: ClassVar[str] = "stochastic depth"

    @nn.nowrap
    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        if not 0 <= self.rate < 1:
            raise GeometryError(f"{self.label}: rate (={self.rate}) must be at least 0 and below 1")
        return tuple(input_shape)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Same shape and dtype."""
        self.output_shape(x.shape[1:])
        return nn.Dropout(self.rate, broadcast_dims=tuple(range(1, x.ndim)), deterministic=not train)(x)
