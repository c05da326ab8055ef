"""Makes the layers of a net from the steps of an ONNX graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_axes import Axes
from cnn.exchange.onnx_chain import Step
from cnn.exchange.onnx_file import FLOAT, one_line, type_name
from cnn.exchange.onnx_fold import Budget, aligned, permutation
from cnn.exchange.onnx_functions import Function, Response
from cnn.exchange.onnx_graph import Images
from cnn.exchange.onnx_node import Node, short
from cnn.exchange.onnx_shapes import padding_of, reduced_axes, sliding
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
    MaxPool,
    PReLU,
    Scale,
    SumPool,
)
from cnn.windows import GeometryError

LAYOUT = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Cast")
_PADDINGS = {"constant": "constant", "edge": "edge", "reflect": "reflect"}


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
        self._pad: Step | None = None

    def build(self, steps: Sequence[Step]) -> None:
        """Adds the layers of all steps.

        Raises:
          ExchangeError: where a step has no layer.
        """
        last = max((i for i, step in enumerate(steps) if step.node.op not in LAYOUT), default=-1)
        for i, step in enumerate(steps):
            self._add(step, ends=i == last)
        if self._pad:
            self._pad_alone()
        if len(self.shape) == 3 and steps:
            rank, one_pixel = len(self.axes.dims), self.shape[:2] == (1, 1)
            if rank == 2 or (rank < 4 and one_pixel):
                self._flatten(steps[-1].node)
        if not self.layers:
            self._append(Activation("identity"), {})

    def _add(self, step: Step, ends: bool) -> None:
        node, function = step.node, step.function
        if self.head and node.op not in LAYOUT:
            raise node.error(f"follows a {self.head}; nets end there: choose an output before it (output=NAME)")
        if self._pad and not (node.op in ("Conv", "AveragePool", "MaxPool") and self._pad_joins(node)):
            self._pad_alone()
        if isinstance(function, Response):
            self._image(node)
            self._append(LRN(function.size, function.k, function.alpha / function.size, function.beta), {}, node)
        elif isinstance(function, Function):
            self._function(node, function, ends)
        else:
            method = _METHODS.get(node.op)
            if method is None:
                raise node.error("is no layer by itself, and no part of a function that has one")
            method(self, step)
            node.check_all_read("consumed_inputs", "momentum", "storage_order", "seed", "kernel_shape", "saturate")

    def _append(self, layer: Layer, variables: dict[str, Any], node: Node | None = None) -> None:
        """Adds a layer; its geometry must fit."""
        try:
            self.shape = layer.output_shape(self.shape)
        except GeometryError as error:
            text = str(error).removeprefix(f"{layer.label}: ")
            raise (node.error(text) if node else ExchangeError(text)) from None
        self.layers.append(layer)
        self.variables.append(variables)

    def _own(self, node: Node, array: np.ndarray) -> np.ndarray:
        """A copy of trained numbers, laid out in order, float32."""
        self._budget.take(node, array.size)
        return np.ascontiguousarray(array, np.float32).copy() if array.base is not None else np.asarray(array, np.float32)

    def _image(self, node: Node) -> None:
        """Refuses anything but an image whose axes are [N, C, H, W]."""
        if len(self.shape) != 3:
            raise node.error("needs an image, and comes after a fully connected layer")
        if len(self.axes.dims) != 4:
            raise node.error(f"has an input of {len(self.axes.dims)} axes; images have four, [N, C, H, W]")
        if not self.axes.are("nchw"):
            held = " ".join(f"({' '.join(one)})" for one in self.axes.dims)
            raise node.error(f"needs the axes (n)(c)(h)(w), and its input has {held}; no layer exchanges them")

    def _stay(self, changed: Sequence[str] = "nchw") -> None:
        """Takes the sizes of the net's own value over, in a layout."""
        height, width, channels = self.shape if len(self.shape) == 3 else (1, 1, *self.shape)
        self.axes.become(changed, c=channels, h=height, w=width)

    def _flatten(self, node: Node) -> None:
        """Makes a vector of an image that the file has laid together."""
        if len(self.shape) == 1:
            if not self.axes.are("nc"):
                raise node.error("needs vectors [N, K], and its input is laid out otherwise")
            return
        self._append(Flatten(self.axes.flatten_order(node)), {}, node)
        self._stay("nc")

    # What single operators become.

    def _function(self, node: Node, function: Function, ends: bool) -> None:
        if function.name == "sigmoid" and ends:
            self.head = "Sigmoid"
        elif function.name == "prelu" and function.slope is not None:
            self._prelu(node, function.slope)
        elif function.name != "identity":
            self._append(Activation(function.name, **function.options), {}, node)

    def _prelu(self, node: Node, slope: np.ndarray) -> None:
        shared = slope.size == 1
        values = slope.reshape(1) if shared else self._channels(node, slope, "slope")
        self._append(PReLU(shared=shared), {"params": {"slope": self._own(node, values)}}, node)

    def _prelu_node(self, step: Step) -> None:
        slope = step.node.parameter(1, "slope")
        assert slope is not None  # the shape was found of it
        if step.node.opset < 7 and slope.ndim == 1 and slope.size > 1:
            slope = slope.reshape(-1, *(1,) * (len(self.axes.dims) - 2))
        self._prelu(step.node, slope)

    def _conv(self, step: Step) -> None:
        node = step.node
        self._image(node)
        weights, bias = node.parameter(1, "kernel"), node.parameter(2, "bias")
        assert weights is not None and weights.ndim == 4
        window = sliding(node, step.source.shape[2:], weights.shape[2:])
        groups = node.attribute("group", 1)
        if groups < 1 or weights.shape[1] * groups != self.shape[2]:
            raise node.error(
                f"its kernel {weights.shape} in {groups} groups takes {weights.shape[1] * groups} channels, and its "
                f"input has {self.shape[2]}"
            )
        pads, options = self._padded(window.pads)
        layer = Conv(
            weights.shape[0],
            window.kernel,
            stride=window.stride,
            padding=pads,
            dilation=window.dilation,
            groups=groups,
            use_bias=bias is not None,
            rounding="floor",
            **options,
        )
        self._conv_layer(node, layer, weights.transpose(2, 3, 1, 0), bias)
        self._check_size(step)

    def _conv_layer(self, node: Node, layer: Conv, kernel: np.ndarray, bias: np.ndarray | None) -> None:
        params = {"kernel": self._own(node, kernel)}
        if bias is not None:
            if bias.shape != (layer.features,):
                raise node.error(f"its bias has the shape {bias.shape}, and its kernels are {layer.features}")
            params["bias"] = self._own(node, bias)
        self._append(layer, {"params": params}, node)
        self._stay()

    def _padded(self, pads: Any) -> tuple[Any, dict[str, Any]]:
        """Padding of a window together with that of a Pad before it, and how it is filled."""
        if self._pad is None:
            return pads, {}
        outer, mode, value = self._pad_of(self._pad)
        self._pad = None
        pads = tuple((a + c, b + d) for (a, b), (c, d) in zip(pads, outer, strict=True))
        if mode == "constant":
            return pads, {"padding_mode": mode, "padding_value": value} if value else {}
        return pads, {"padding_mode": mode}

    def _check_size(self, step: Step) -> None:
        wanted = step.result.shape[2:]
        if self.shape[:2] != wanted:
            raise step.node.error(f"gives maps of {wanted} in the file, and {self.shape[:2]} here; write its pads as numbers")

    def _pool(self, step: Step) -> None:
        node = step.node
        self._image(node)
        window = sliding(node, step.source.shape[2:], node.sizes("kernel_shape", 2, None))
        include = bool(node.attribute("count_include_pad", 0))
        if window.does_nothing and self._pad is None:
            self.notes.append(f"{node.label} has windows of one pixel and was dropped.")
            return
        include = include or self._pad is not None
        pads, _ = self._padded(window.pads)
        fields: dict[str, Any] = {"kernel": window.kernel, "stride": window.stride, "padding": pads}
        fields |= {"dilation": window.dilation, "rounding": window.rounding}
        if node.op == "AveragePool":
            fields["count_padding"] = include and any(map(any, pads))
        self._append((MaxPool if node.op == "MaxPool" else AvgPool)(**fields), {}, node)
        self._check_size(step)
        self._stay()

    def _global(self, step: Step) -> None:
        if len(self.shape) == 1:
            return  # one pixel
        self._image(step.node)
        self._append((MaxPool if step.node.op == "GlobalMaxPool" else AvgPool)(kernel=None), {}, step.node)
        self._stay()

    def _reduce(self, step: Step) -> None:
        node, rank = step.node, len(self.axes.dims)
        taken = reduced_axes(node, rank)
        names = {name for i in taken for name in self.axes.dims[i]}
        image = {name for name in "hw" if self.axes.sizes[name] != 1}
        if names - {"h", "w"} or (names and names != image):
            raise node.error(f"works over ({' '.join(sorted(names))}); only height and width together are read")
        if names:
            layer = {"ReduceMean": AvgPool, "ReduceMax": MaxPool, "ReduceSum": SumPool}[node.op]
            self._append(layer(kernel=None), {}, node)
        dims = ["".join(one) if not set(one) & {"h", "w"} else "" for one in self.axes.dims]
        keep = node.attribute("keepdims", 1)
        self._stay([one for i, one in enumerate(dims) if keep or i not in taken])

    def _batch_norm(self, step: Step) -> None:
        node = step.node
        if node.attribute("training_mode", 0) or not node.attribute("spatial", 1):
            raise node.error("uses the statistics of the batch, or one for each pixel; export the net for inference")
        if node.opset < 7 and not node.attribute("is_test", 0):
            raise node.error("is in training (is_test = 0); export the net for inference")
        self._along_channels(node, 1)
        arrays = [node.parameter(i, name) for i, name in enumerate(("", "scale", "bias", "mean", "variance")) if i]
        channels = self.shape[-1]
        if any(one is None or one.shape != (channels,) for one in arrays):
            raise node.error(f"needs four lists of {channels} numbers, and has {[a is not None and a.shape for a in arrays]}")
        scale, bias, mean, variance = (self._own(node, one) for one in arrays if one is not None)
        collections = {"params": {"norm": {"scale": scale, "bias": bias}}, "batch_stats": {"norm": {"mean": mean, "var": variance}}}
        self._append(BatchNorm(epsilon=short(node.attribute("epsilon", 1e-5))), collections, node)

    def _along_channels(self, node: Node, axis: int) -> None:
        """Makes sure that an axis of the file is the last one of the net's value."""
        if axis >= len(self.axes.dims):
            raise node.error("needs channels, and its input has none")
        if not self.axes.channel_axis(node, axis):
            self._flatten(node)

    def _lrn(self, step: Step) -> None:
        node = step.node
        self._image(node)
        size = node.attribute("size", 0)
        if size < 1 or size % 2 == 0:
            raise node.error(f"its size (={size}) must be odd: with an even one programs differ on which channels it takes")
        alpha, beta, k = (short(node.attribute(n, d)) for n, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
        self._append(LRN(size, k, alpha / size, beta), {}, node)

    def _dropout(self, step: Step) -> None:
        node = step.node
        training = node.constant(2, "training_mode")
        if (training is not None and training.any()) or (node.opset < 7 and not node.attribute("is_test", 0)):
            raise node.error("drops values (training_mode, or is_test = 0); export the net for inference")
        ratio = node.constant(1, "ratio")
        rate = short(node.attribute("ratio", 0.5) if ratio is None or ratio.size != 1 else ratio.reshape(-1)[0])
        if 0 <= rate < 1:
            self._append(Dropout(rate), {}, node)
        else:
            self.notes.append(f"{node.label} has the rate {rate} and was dropped.")

    def _gemm(self, step: Step) -> None:
        node = step.node
        matrix, bias = node.parameter(1, "matrix"), node.parameter(2, "bias")
        assert matrix is not None
        alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
        matrix = matrix.T if node.attribute("transB", 0) else matrix
        node.attribute("transA", 0), node.attribute("broadcast", 0)  # looked at before; without meaning from version 7 on
        if bias is not None:
            if bias.ndim > 2 or bias.size not in (1, matrix.shape[1]) or (bias.ndim == 2 and bias.shape[0] != 1):
                raise node.error(f"adds a matrix {bias.shape}; only one number for each of its {matrix.shape[1]} features is read")
            bias = np.broadcast_to(bias.reshape(-1) * np.float32(beta), matrix.shape[1:])
        self._dense(node, matrix * np.float32(alpha) if alpha != 1 else matrix, bias)

    def _dense(self, node: Node, matrix: np.ndarray, bias: np.ndarray | None) -> None:
        self._flatten(node)
        params = {"kernel": self._own(node, matrix)}
        if bias is not None:
            params["bias"] = self._own(node, bias)
        layer = Dense(matrix.shape[1], inputs=matrix.shape[0], use_bias=bias is not None)
        self._append(layer, {"params": params}, node)
        self._stay("nc")

    def _product(self, step: Step) -> None:
        node, dims = step.node, self.axes.dims
        matrix = node.parameter(1, "matrix")
        assert matrix is not None
        if len(dims) == 2:
            self._dense(node, matrix, None)
        elif len(self.shape) == 3 and dims[-1] == ("c",):  # a fully connected layer at each pixel
            names = ["".join(one) for one in dims]
            self._conv_layer(node, Conv(matrix.shape[1], 1, use_bias=False), matrix[None, None], None)
            self._stay(names)
        else:
            raise node.error("multiplies along another axis than the channels; no layer does that")

    def _arithmetic(self, step: Step) -> None:
        node = step.node
        if len(node.inputs) != 2:
            raise node.error(f"has {len(node.inputs)} inputs; only those with one constant beside its input are read")
        first = node.input(1) is not None and node.needed(1).constant is not None
        given = node.parameter(1 if first else 0, "constant")
        assert given is not None
        if not np.isfinite(self._own(node, given)).all():
            raise node.error("computes with constants that are not finite")
        if node.op == "Div" and (not first or not given.all()):
            raise node.error("divides by its input, or by 0; no layer does that")
        if len(step.result.shape) != len(step.source.shape) or step.result.shape != step.source.shape:
            raise node.error(f"enlarges {step.source.shape[1:]} to {step.result.shape[1:]}; no layer does that")
        values = self._channels(node, aligned(node, given, len(self.axes.dims)), "constant").astype(np.float64)
        zeros, ones = np.zeros_like(values), np.ones_like(values)
        scale, offset = {
            "Add": (ones, values),
            "Sum": (ones, values),
            "Sub": (ones, -values) if first else (-ones, values),
            "Mul": (values, zeros),
            "Div": (1 / np.where(values == 0, 1, values), zeros),
        }[node.op]
        self._affine(node, scale, offset)

    def _channels(self, node: Node, array: np.ndarray, what: str) -> np.ndarray:
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
                self._flatten(node)
            else:
                raise node.error(
                    f"its {what} {array.shape} differs from place to place, such as a mean image; only one number for "
                    "each channel is read"
                )
        return np.broadcast_to(array.reshape(-1), (self.shape[-1],))

    def _affine(self, node: Node, scale: np.ndarray, offset: np.ndarray) -> None:
        """Multiplies and adds: before all layers, within the last one where it can, or by a layer of its own."""
        last = self.layers[-1] if self.layers else None
        if last is None and len(self.shape) == 3:
            self.scale, self.offset = self.scale * scale, self.offset * scale + offset
            return
        if isinstance(last, Conv | Dense) and (scale == 1).all():
            params = self.variables[-1]["params"]
            params["bias"] = (params.get("bias", 0) + offset).astype(np.float32)
            self.layers[-1] = last.clone(use_bias=True)
            self.notes.append(f"{node.label} became the bias of the layer before it.")
            return
        if isinstance(last, Scale):
            params = self.variables[-1]["params"]
            scale, offset = params["scale"] * scale, params.get("bias", 0) * scale + offset
            self.layers.pop(), self.variables.pop()
        params = {"scale": scale.astype(np.float32)}
        if offset.any():
            params["bias"] = offset.astype(np.float32)
        self._append(Scale(use_bias="bias" in params), {"params": params}, node)

    def _pad_step(self, step: Step) -> None:
        self._image(step.node)
        self._pad_of(step)
        self._pad = step

    def _pad_of(self, step: Step) -> tuple[Any, str, float]:
        """What a Pad adds to height and width, how, and with which value."""
        node = step.node
        amounts, mode = padding_of(node, len(step.source.shape)), node.attribute("mode", "constant")
        given = node.parameter(2, "value") if node.opset >= 11 else None
        value = float(node.attribute("value", 0.0)) if given is None else float(given.reshape(-1)[0] if given.size else 0)
        if any(map(any, amounts[:2])) or mode not in _PADDINGS:
            raise node.error(f"pads channels or images, or in the mode {one_line(mode)!r}; constant, edge and reflect are read")
        return tuple(amounts[2:]), mode, value if mode == "constant" else 0.0

    def _pad_joins(self, node: Node) -> bool:
        """Whether a window that follows a Pad can take its padding over."""
        assert self._pad is not None
        _, mode, value = self._pad_of(self._pad)
        own = node.attribute("auto_pad", "NOTSET").startswith("SAME") or any(node.ints("pads") or [])
        if node.op == "Conv":
            return not own or (mode == "constant" and value == 0)
        if node.attribute("ceil_mode", 0) or mode != "constant":
            return False
        if node.op == "MaxPool":
            return value == -np.inf
        return value == 0 and (not own or bool(node.attribute("count_include_pad", 0)))

    def _pad_alone(self) -> None:
        """Padding before anything but a convolution: one with a kernel of one pixel, for each channel by itself."""
        step = self._pad
        assert step is not None
        channels = self.shape[2]
        pads, options = self._padded(((0, 0), (0, 0)))
        if not np.isfinite(options.get("padding_value", 0.0)):
            raise step.node.error("pads with a value that is not finite, and no max pool follows")
        layer = Conv(channels, 1, padding=pads, groups=channels, use_bias=False, **options)
        self._conv_layer(step.node, layer, np.ones((1, 1, 1, channels), np.float32), None)
        self.notes.append(f"{step.node.label} became a convolution with a kernel of one pixel.")

    def _softmax(self, step: Step) -> None:
        node = step.node
        rank = len(self.axes.dims)
        axis = node.attribute("axis", -1 if node.opset >= 13 else 1)
        if not -rank <= axis < rank:
            raise node.error(f"its axis (={axis}) is none of the {rank} of its input")
        axis %= rank
        if node.opset < 13 and any(self.axes.dims[axis + 1 :]):
            raise node.error("is taken over channels and pixels together, as versions before 13 do; nets end in one over classes")
        self._along_channels(node, axis)
        if self.shape[-1] == 1:
            raise node.error("is taken over a single score and always 1; nets of one score end in a Sigmoid")
        self.head = node.op

    def _layout(self, step: Step) -> None:
        node, shape = step.node, step.result.shape
        if node.op == "Transpose":
            self.axes.transpose(permutation(node, len(self.axes.dims)))
        elif node.op == "Squeeze":
            given = node.integers(1, "axes")
            rank = len(step.source.shape)
            taken = [i for i, n in enumerate(step.source.shape) if n == 1] if given is None else [a % rank for a in given]
            self.axes.drop(node, taken)
        elif node.op == "Unsqueeze":
            places = {a % len(shape) for a in node.integers(1, "axes") or []}
            old = iter(self.axes.dims)
            self.axes.dims = tuple(() if i in places else next(old) for i in range(len(shape)))
        else:
            node.integers(1, "shape"), node.attribute("axis", 1), node.attribute("allowzero", 0)
            self.axes.regroup(node, shape)

    def _same(self, step: Step) -> None:
        node = step.node
        if node.op == "Cast" and node.has("to") and node.message("to").i != FLOAT:
            raise node.error(f"casts to {type_name(node.message('to').i)}; only nets of float32 are read")


_METHODS = {
    "Conv": Chain._conv,
    "MaxPool": Chain._pool,
    "AveragePool": Chain._pool,
    "GlobalAveragePool": Chain._global,
    "GlobalMaxPool": Chain._global,
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSum"), Chain._reduce),
    "BatchNormalization": Chain._batch_norm,
    "LRN": Chain._lrn,
    "Dropout": Chain._dropout,
    "Gemm": Chain._gemm,
    "MatMul": Chain._product,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Sum"), Chain._arithmetic),
    "PRelu": Chain._prelu_node,
    "Pad": Chain._pad_step,
    **dict.fromkeys(("Softmax", "LogSoftmax"), Chain._softmax),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"), Chain._layout),
    **dict.fromkeys(("Identity", "Cast"), Chain._same),
}
