"""A net that grows layer by layer beside the layout that the same values have in an ONNX file."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_in.axes import Axes
from cnn.exchange.onnx_in.budget import Budget
from cnn.exchange.onnx_in.chain import Step
from cnn.exchange.onnx_in.graph import Images
from cnn.exchange.onnx_in.node import Node
from cnn.layers import Conv, Dense, Flatten, Layer, Scale
from cnn.windows import GeometryError


class Chain:
    """A net that grows step by step.

    Attributes:
      layers: its layers, without names.
      variables: the parameters of each layer, and its statistics, by the name of the collection.
      shape: what the layers give so far: (H, W, C), or (F,).
      axes: the layout that the same values have in the file.
      scale, offset: what the file does to its images first, per channel: the net takes scale * image + offset.
      head: what the file does to the scores at its end: "Softmax", "LogSoftmax", "Sigmoid" or "".
      notes: what was folded, dropped or assumed, a sentence each.
    """

    def __init__(self, images: Images, budget: Budget) -> None:
        self.layers: list[Layer] = []
        self.variables: list[dict[str, Any]] = []
        height, width, channels = images.shape
        self.shape: tuple[int, ...] = images.shape
        self.axes = Axes(list(images.axes), {"n": images.value.shape[0], "c": channels, "h": height, "w": width})
        self.scale, self.offset = np.ones(channels), np.zeros(channels)
        self.head = ""
        self.notes: list[str] = []
        self._budget = budget
        self._begins = True  # whether it begins with the images
        self.pad: Step | None = None

    def path(self) -> "Chain":
        """An empty chain that begins with what this one gives: a path of a block."""
        made = copy.copy(self)
        made.layers, made.variables, made.pad, made._begins = [], [], None, False
        made.axes = copy.copy(self.axes)
        made.axes.sizes = dict(self.axes.sizes)
        return made

    def append(self, layer: Layer, variables: dict[str, Any], node: Node | None = None) -> None:
        """Adds a layer; its geometry must fit."""
        try:
            self.shape = layer.output_shape(self.shape)
        except GeometryError as error:
            text = str(error).removeprefix(f"{layer.label}: ")
            raise (node.error(text) if node else ExchangeError(text)) from None
        self.layers.append(layer)
        self.variables.append(variables)

    def own(self, node: Node, array: np.ndarray) -> np.ndarray:
        """A copy of trained numbers, laid out in order, float32."""
        self._budget.take(node, array.size)
        return (
            np.ascontiguousarray(array, np.float32).copy() if array.base is not None else np.asarray(array, np.float32)
        )

    def image(self, node: Node) -> None:
        """Refuses anything but an image whose axes are [N, C, H, W]."""
        if len(self.shape) != 3:
            raise node.error("needs an image, and comes after a fully connected layer")
        if len(self.axes.dims) != 4:
            raise node.error(f"has an input of {len(self.axes.dims)} axes; images have four, [N, C, H, W]")
        if not self.axes.are("nchw"):
            held = " ".join(f"({' '.join(one)})" for one in self.axes.dims)
            raise node.error(f"needs the axes (n)(c)(h)(w), and its input has {held}; no layer exchanges them")

    def stay(self, changed: Sequence[str] = "nchw") -> None:
        """Takes the sizes of the net's own value over, in a layout."""
        height, width, channels = self.shape if len(self.shape) == 3 else (1, 1, *self.shape)
        self.axes.become(changed, c=channels, h=height, w=width)

    def flatten(self, node: Node) -> None:
        """Makes a vector of an image that the file has laid together."""
        if len(self.shape) == 1:
            if not self.axes.are("nc"):
                raise node.error("needs vectors [N, K], and its input is laid out otherwise")
            return
        self.append(Flatten(self.axes.flatten_order(node)), {}, node)
        self.stay("nc")

    def along_channels(self, node: Node, axis: int) -> None:
        """Makes sure that an axis of the file is the last one of the net's value."""
        if axis >= len(self.axes.dims):
            raise node.error("needs channels, and its input has none")
        if not self.axes.channel_axis(node, axis):
            self.flatten(node)

    def channels(self, node: Node, array: np.ndarray, what: str) -> np.ndarray:
        """One number for each channel, of a constant that broadcasts to the file's value."""
        dims = self.axes.dims
        if array.ndim > len(dims):
            raise node.error(f"its {what} {array.shape} has more axes than its input")
        array = array.reshape((1,) * (len(dims) - array.ndim) + array.shape)
        for axis, size in enumerate(array.shape):
            if size == 1 or self.axes.dims[axis] == ("c",):
                continue
            if (array == array.take([0], axis)).all():
                array = array.take([0], axis)
            elif len(dims) == 2 and axis == 1 and len(dims[1]) > 1 or self.axes.dims[axis] == ("c",):
                self.flatten(node)
            else:
                raise node.error(
                    f"its {what} {array.shape} differs from place to place, such as a mean image; only one number for "
                    "each channel is read"
                )
        return np.broadcast_to(array.reshape(-1), (self.shape[-1],))

    def affine(self, node: Node, scale: np.ndarray, offset: np.ndarray) -> None:
        """Multiplies and adds: before all layers, within the last one where it can, or by a layer of its own."""
        last = self.layers[-1] if self.layers else None
        if last is None and len(self.shape) == 3 and self._begins:
            self.scale, self.offset = self.scale * scale, self.offset * scale + offset
            return
        if isinstance(last, Conv | Dense) and (scale == 1).all():
            params = self.variables[-1]["params"]
            params["bias"] = (params.get("bias", 0) + offset).astype(np.float32)
            self.layers[-1] = last.clone(use_bias=True)
            return
        if isinstance(last, Scale):
            params = self.variables[-1]["params"]
            scale, offset = params["scale"] * scale, params.get("bias", 0) * scale + offset
            del self.layers[-1], self.variables[-1]
        params = {"scale": scale.astype(np.float32)}
        if offset.any():
            params["bias"] = offset.astype(np.float32)
        self.append(Scale(use_bias="bias" in params), {"params": params}, node)
