"""The shapes that operators of an ONNX graph give, for values that depend on the images."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cnn.exchange.onnx_in.file import one_line
from cnn.exchange.onnx_in.fold import aligned, axis_of, flattened, permutation, reshaped, squeezed, unsqueezed
from cnn.exchange.onnx_in.node import LARGEST_NUMBER, Node

Shape = tuple[int, ...]
LARGEST_MAP = 2**24  # pixels of one map, 4096x4096: the input of a classifier is its window, not a slide

BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Greater", "Less", "Where", "PRelu")
ACTIVATIONS = (
    *("Relu", "LeakyRelu", "Elu", "Celu", "Selu", "Gelu", "Softplus", "Sigmoid", "Tanh", "Softsign", "HardSigmoid"),
    *("HardSwish", "Mish", "Swish", "Clip", "ThresholdedRelu"),
)
UNARY = ("Erf", "Neg", "Sqrt", "Exp", "Log", "Abs", "Reciprocal")
HEADS = ("Softmax", "LogSoftmax")
SAME = (*ACTIVATIONS, *UNARY, *HEADS, "BatchNormalization", "LRN", "Dropout", "Identity", "Cast")
REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceSum")
QUANTISED = ("QLinearConv", "QLinearMatMul", "QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger")


class Sliding(NamedTuple):
    """The window of a convolution or pool as ONNX describes it, one number for each axis of the image, pixels."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    rounding: str
    size: tuple[int, ...]

    @property
    def does_nothing(self) -> bool:
        """Whether each window is one pixel, and every pixel has one."""
        ones = set(self.kernel) == {1} and set(self.stride) == {1}
        return ones and not any(map(any, self.pads))


def sliding(node: Node, image: Sequence[int], kernel: Sequence[int]) -> Sliding:
    """The window of a node.

    Args:
      node: a convolution or pool.
      image: sizes of its input without batch and channels, pixels.
      kernel: sizes of its kernel.

    Returns:
      The window with padding in numbers, and the size of its output.

    Raises:
      ExchangeError: if sizes do not fit, or what auto_pad means is not certain.
    """
    axes = len(image)
    stride, dilation = node.sizes("strides", axes, 1), node.sizes("dilations", axes, 1)
    auto, ceil = node.attribute("auto_pad", "NOTSET"), bool(node.attribute("ceil_mode", 0))
    given = node.sizes("pads", 2 * axes, 0, minimum=0)
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""):
        raise node.error(f"its auto_pad (={one_line(auto)}) must be NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    pads, size = [], []
    for i in range(axes):
        extent, before, after = (kernel[i] - 1) * dilation[i] + 1, 0, 0
        if auto.startswith("SAME"):
            outputs = -(-image[i] // stride[i])
            total = (outputs - 1) * stride[i] + extent - image[i]
            if extent < stride[i]:
                raise node.error(
                    f"auto_pad {auto} with a window of {extent} below its stride of {stride[i]} means different things "
                    "to different programs; write its pads as numbers"
                )
            if dilation[i] > 1 and node.op != "Conv":
                raise node.error(
                    f"auto_pad {auto} with a dilation of {dilation[i]}: some programs pad for the window without its "
                    "dilation; write its pads as numbers"
                )
            before, after = (max(total, 0) + (auto == "SAME_LOWER")) // 2, max(total, 0)
            after -= before
        elif auto != "VALID":
            before, after = given[i], given[i + axes]
        span = image[i] + before + after - extent
        if span < 0:
            raise node.error(f"its window of {extent} is larger than its input: {image[i]} + padding {before}+{after}")
        steps = span // stride[i]
        if ceil and not auto.startswith("SAME"):
            steps = -(-span // stride[i])
            steps -= steps * stride[i] >= image[i] + before  # a window that begins behind the image is left out
        pads.append((before, after))
        size.append(steps + 1)
    rounding = "ceil" if ceil else "floor"
    return Sliding(tuple(kernel), tuple(stride), tuple(pads), tuple(dilation), rounding, tuple(size))


def _convolution(node: Node, shape: Shape) -> Shape:
    kernel = node.parameter(1, "kernel")
    if kernel is None or kernel.ndim != len(shape) or len(shape) < 3 or 0 in kernel.shape:
        raise node.error(f"its kernel has the shape {kernel is not None and kernel.shape}, its input {shape}")
    stated = node.ints("kernel_shape")
    if stated is not None and tuple(stated) != kernel.shape[2:]:
        raise node.error(f"its kernel_shape (={one_line(stated)}) is not that of its kernel, {kernel.shape[2:]}")
    if max(kernel.shape) > LARGEST_NUMBER:
        raise node.error(f"its kernel {kernel.shape} is larger than {LARGEST_NUMBER:,} along an axis")
    return (shape[0], kernel.shape[0], *sliding(node, shape[2:], kernel.shape[2:]).size)


def _pool(node: Node, shape: Shape) -> Shape:
    if len(shape) < 3:
        raise node.error(f"needs an image, and has an input {shape}")
    return (*shape[:2], *sliding(node, shape[2:], node.sizes("kernel_shape", len(shape) - 2, None)).size)


def _gemm(node: Node, shape: Shape) -> Shape:
    kernel = node.parameter(1, "matrix")
    if kernel is None or kernel.ndim != 2 or len(shape) != 2:
        raise node.error(
            f"needs an input [N, K] and a constant matrix, and has {shape} and {kernel is not None and kernel.shape}"
        )
    if node.attribute("transA", 0):
        raise node.error("transposes its input (transA), which would mix images; export it without")
    inputs, features = kernel.shape[::-1] if node.attribute("transB", 0) else kernel.shape
    if inputs != shape[1]:
        raise node.error(f"takes {inputs} values, and its input has {shape[1]}")
    return shape[0], features


def _product(node: Node, shape: Shape) -> Shape:
    kernel = node.parameter(1, "matrix")
    if kernel is None or kernel.ndim != 2 or len(shape) < 2 or kernel.shape[0] != shape[-1]:
        raise node.error(
            f"needs a constant matrix with {shape[-1:]} rows as its second input, and has "
            f"{kernel is not None and kernel.shape}"
        )
    return (*shape[:-1], kernel.shape[1])


def _broadcast(node: Node, shape: Shape) -> Shape:
    values = [one for one in node.inputs if one is not None]
    shapes = [one.shape for one in values]
    if node.opset < 7 and len(values) == 2 and values[1].constant is not None:
        if node.op == "PRelu":  # versions before 7 have one slope for each channel, whatever the rank
            return shape
        shapes[1] = aligned(node, values[1].constant, len(shape)).shape
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        raise node.error(f"its inputs have the shapes {', '.join(map(str, shapes[:4]))}, which do not fit") from None


def _reduction(node: Node, shape: Shape) -> Shape:
    taken = reduced_axes(node, len(shape))
    if node.attribute("keepdims", 1):
        return tuple(1 if i in taken else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in taken)


def reduced_axes(node: Node, rank: int) -> list[int]:
    """The axes that a reduction takes together.

    Args:
      node: the reduction.
      rank: number of axes of its input.

    Raises:
      ExchangeError: if there are none of these numbers.
    """
    axes, none = node.integers(1, "axes"), node.attribute("noop_with_empty_axes", 0)
    if not axes:
        return [] if none else list(range(rank))
    return [axis_of(node, axis, rank) for axis in axes]


def padding_of(node: Node, rank: int) -> list[tuple[int, int]]:
    """What Pad adds before and after each axis.

    Args:
      node: the Pad.
      rank: number of axes of its input.

    Raises:
      ExchangeError: if it is negative, or has other axes.
    """
    pads = node.integers(1, "pads") if node.opset >= 2 else node.ints("paddings")
    axes = node.integers(3, "axes")
    axes = list(range(rank)) if axes is None else [axis_of(node, axis, rank) for axis in axes]
    if pads is None or len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise node.error(f"its pads (={one_line(pads)}) do not fit an input with {rank} axes")
    if not all(0 <= v <= LARGEST_NUMBER for v in pads):
        raise node.error(f"its pads (={one_line(pads)}) cut pixels off, or are too many; only padding is read")
    found = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        found[axis] = (pads[i], pads[i + len(axes)])
    return found


def _reshape(node: Node, shape: Shape) -> Shape:
    wanted = node.integers(1, "shape")
    if wanted is None:
        raise node.error("lacks its shape; the file is damaged")
    one_image = math.prod(shape[1:])
    if len(wanted) > 1 and wanted[0] == 1 and -1 not in wanted and shape[0] > 1 and math.prod(wanted) == one_image:
        return (shape[0], *wanted[1:])  # traced with one image: the batch is in the first place
    return reshaped(node, shape, wanted)


def _concat(node: Node, shape: Shape) -> Shape:
    axis = axis_of(node, node.attribute("axis", 1), len(shape))
    shapes = [one.shape for one in node.inputs if one is not None]
    if any(len(one) != len(shape) for one in shapes):
        raise node.error(f"joins values of the shapes {', '.join(map(str, shapes[:4]))}")
    return (*shape[:axis], sum(one[axis] for one in shapes), *shape[axis + 1 :])


def _pad(node: Node, shape: Shape) -> Shape:
    return tuple(n + sum(p) for n, p in zip(shape, padding_of(node, len(shape)), strict=True))


def cut(node: Node, shape: Shape) -> list[slice]:
    """What a Slice takes of each axis, counted from the front.

    Args:
      node: the Slice.
      shape: of its input.

    Returns:
      For each axis a slice, whose stop is behind the last place that is taken or skipped on purpose.

    Raises:
      ExchangeError: if its numbers do not fit, or it goes backwards.
    """
    starts, ends, axes, steps = (
        node.integers(i + 1, name) for i, name in enumerate(("starts", "ends", "axes", "steps"))
    )
    if starts is None or ends is None:
        raise node.error("lacks its starts or ends; the file is damaged")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or any(step < 1 for step in steps):
        raise node.error("its starts, ends, axes and steps do not fit each other, or it goes backwards")
    cuts = [slice(0, size, 1) for size in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis_of(node, axis, len(shape))
        cuts[axis] = slice(*slice(start, end).indices(shape[axis])[:2], step)
    return cuts


def _slice(node: Node, shape: Shape) -> Shape:
    return tuple(len(range(one.start, one.stop, one.step)) for one in cut(node, shape))


def _global(node: Node, shape: Shape) -> Shape:
    if len(shape) < 3:
        raise node.error(f"needs an image, and has an input {shape}")
    return (*shape[:2], *(1,) * (len(shape) - 2))


_RULES: dict[str, Callable[[Node, Shape], Shape]] = {
    **dict.fromkeys(SAME, lambda node, shape: shape),
    **dict.fromkeys(BINARY, _broadcast),
    **dict.fromkeys(REDUCTIONS, _reduction),
    "Conv": _convolution,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global,
    "GlobalMaxPool": _global,
    "Gemm": _gemm,
    "MatMul": _product,
    "Reshape": _reshape,
    "Flatten": flattened,
    "Squeeze": squeezed,
    "Unsqueeze": unsqueezed,
    "Transpose": lambda node, shape: tuple(shape[i] for i in permutation(node, len(shape))),
    "Pad": _pad,
    "Concat": _concat,
    "Slice": _slice,
}


def output_shape(node: Node) -> Shape:
    """The shape of a node's first output.

    Args:
      node: a node of which at least one input depends on the images.

    Returns:
      The shape, with the batch.

    Raises:
      ExchangeError: if the operator is not known, or its inputs do not fit.
    """
    if node.op in QUANTISED:
        raise node.error("is quantised; only nets of float32 are read: export the net before it is quantised")
    if node.op not in _RULES:
        raise node.error(
            f"this operator is not read; those that are: {', '.join(sorted(_RULES))}; if it comes after the scores, "
            "name the value before it: output=..."
        )
    first = next(one for one in node.inputs if one is not None and one.constant is None)
    if node.op not in BINARY and node.op != "Concat" and first is not node.input(0):
        raise node.error(f"takes what depends on the images as another input than its first ({one_line(first.name)!r})")
    shape = _RULES[node.op](node, first.shape)
    if len(shape) > 8 or 0 in shape or math.prod(shape[2:]) > LARGEST_MAP or max(shape, default=0) > 2**40:
        raise node.error(f"gives a value of the shape {shape}; maps between 1 and {LARGEST_MAP:,} pixels are read")
    return shape
