"""Makes the layers of a net from the steps of an ONNX graph: what each operator becomes."""

from collections.abc import Sequence

import numpy as np

from cnn.exchange.onnx_in.blocks import block, crop
from cnn.exchange.onnx_in.chain import Step
from cnn.exchange.onnx_in.file import FLOAT, type_name
from cnn.exchange.onnx_in.fold import aligned, permutation
from cnn.exchange.onnx_in.functions import Function
from cnn.exchange.onnx_in.growth import Chain
from cnn.exchange.onnx_in.node import Node, short
from cnn.exchange.onnx_in.response import Response
from cnn.exchange.onnx_in.shapes import reduced_axes
from cnn.exchange.onnx_in.windows import add_convolution, convolution, padding, padding_alone, padding_joins, pool
from cnn.layers import (
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    MaxPool,
    PReLU,
    SumPool,
)

LAYOUT = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Cast")

# Attributes that change nothing in inference, or whose meaning is in the shape of the result.
_WITHOUT_EFFECT = (
    *("consumed_inputs", "momentum", "storage_order", "seed", "kernel_shape", "saturate", "round_mode"),
    *("broadcast", "shape", "allowzero"),
)


def build(chain: Chain, steps: Sequence[Step]) -> None:
    """Adds the layers of all steps to a chain.

    Args:
      chain: an empty one.
      steps: from the images to the scores.

    Raises:
      ExchangeError: where a step has no layer.
    """
    last = max((i for i, step in enumerate(steps) if step.node.op not in LAYOUT), default=-1)
    for i, step in enumerate(steps):
        _add(chain, step, ends=i == last)
    if chain.pad:
        padding_alone(chain)
    if len(chain.shape) == 3 and steps:
        rank, one_pixel = len(chain.axes.dims), chain.shape[:2] == (1, 1)
        if rank == 2 or (rank < 4 and one_pixel):
            chain.flatten(steps[-1].node)
    if not chain.layers:
        chain.append(Activation("identity"), {})


def _path(chain: Chain, steps: Sequence[Step]) -> None:
    """Adds the layers of a path of a block."""
    for step in steps:
        _add(chain, step, ends=False)
    if chain.pad:
        padding_alone(chain)


def _add(chain: Chain, step: Step, ends: bool) -> None:
    node, function = step.node, step.function
    if chain.head and node.op not in LAYOUT:
        raise node.error(f"follows a {chain.head}; nets end there: choose an output before it (output=NAME)")
    if chain.pad and not (node.op in ("Conv", "AveragePool", "MaxPool") and padding_joins(chain, node)):
        padding_alone(chain)
    if step.paths:
        block(chain, step, _path)
        node.check_all_read(*_WITHOUT_EFFECT)
    elif isinstance(function, Response):
        chain.image(node)
        chain.append(LRN(function.size, function.k, function.alpha / function.size, function.beta), {}, node)
    elif isinstance(function, Function):
        _function(chain, node, function, ends)
    else:
        method = _METHODS.get(node.op)
        if method is None:
            raise node.error("is no layer by itself, and no part of a function that has one")
        method(chain, step)
        node.check_all_read(*_WITHOUT_EFFECT)


def _function(chain: Chain, node: Node, function: Function, ends: bool) -> None:
    if function.name == "sigmoid" and ends:
        chain.head = "Sigmoid"
    elif function.name == "prelu" and function.slope is not None:
        _prelu(chain, node, function.slope)
    elif function.name != "identity":
        chain.append(_activation(function), {}, node)


def _activation(function: Function) -> Activation:
    options = function.options
    slope, low, high = options.get("slope"), options.get("low"), options.get("high")
    return Activation(function.name, slope, low, high, options.get("offset"), options.get("scale"))


def _prelu(chain: Chain, node: Node, slope: np.ndarray) -> None:
    shared = slope.size == 1
    values = slope.reshape(1) if shared else chain.channels(node, slope, "slope")
    chain.append(PReLU(shared=shared), {"params": {"slope": chain.own(node, values)}}, node)


def _prelu_node(chain: Chain, step: Step) -> None:
    slope = step.node.trained(1, "slope")
    if step.node.opset < 7 and slope.ndim == 1 and slope.size > 1:
        slope = slope.reshape(-1, *(1,) * (len(chain.axes.dims) - 2))
    _prelu(chain, step.node, slope)


def _global(chain: Chain, step: Step) -> None:
    if len(chain.shape) == 1:
        return  # one pixel
    chain.image(step.node)
    chain.append((MaxPool if step.node.op == "GlobalMaxPool" else AvgPool)(kernel=None), {}, step.node)
    chain.stay()


def _reduce(chain: Chain, step: Step) -> None:
    node, rank = step.node, len(chain.axes.dims)
    taken = reduced_axes(node, rank)
    names = {name for i in taken for name in chain.axes.dims[i]}
    image = {name for name in "hw" if chain.axes.sizes[name] != 1}
    if names - {"h", "w"} or (names and names != image):
        raise node.error(f"works over ({' '.join(sorted(names))}); only height and width together are read")
    if names:
        layer = {"ReduceMean": AvgPool, "ReduceMax": MaxPool, "ReduceSum": SumPool}[node.op]
        chain.append(layer(kernel=None), {}, node)
    # Pixels that were pooled have become one; where nothing was, no name changes its place.
    dims = ["".join(name for name in one if name not in names) for one in chain.axes.dims]
    keep = node.attribute("keepdims", 1)
    chain.stay([one for i, one in enumerate(dims) if keep or i not in taken])


def _batch_norm(chain: Chain, step: Step) -> None:
    node = step.node
    if node.attribute("training_mode", 0) or not node.attribute("spatial", 1):
        raise node.error("uses the statistics of the batch, or one for each pixel; export the net for inference")
    if node.opset < 7 and not node.attribute("is_test", 0):
        raise node.error("is in training (is_test = 0); export the net for inference")
    chain.along_channels(node, 1)
    arrays = [node.parameter(i, name) for i, name in enumerate(("", "scale", "bias", "mean", "variance")) if i]
    channels = chain.shape[-1]
    if any(one is None or one.shape != (channels,) for one in arrays):
        raise node.error(
            f"needs four lists of {channels} numbers, and has {[a is not None and a.shape for a in arrays]}"
        )
    scale, bias, mean, variance = (chain.own(node, one) for one in arrays if one is not None)
    collections = {
        "params": {"norm": {"scale": scale, "bias": bias}},
        "batch_stats": {"norm": {"mean": mean, "var": variance}},
    }
    chain.append(BatchNorm(epsilon=short(node.attribute("epsilon", 1e-5))), collections, node)


def _lrn(chain: Chain, step: Step) -> None:
    node = step.node
    chain.image(node)
    size = node.attribute("size", 0)
    if size < 1 or size % 2 == 0:
        raise node.error(f"its size (={size}) must be odd: with an even one programs differ on which channels it takes")
    alpha, beta, k = (short(node.attribute(n, d)) for n, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    chain.append(LRN(size, k, alpha / size, beta), {}, node)


def _dropout(chain: Chain, step: Step) -> None:
    node = step.node
    training = node.constant(2, "training_mode")
    if (training is not None and training.any()) or (node.opset < 7 and not node.attribute("is_test", 0)):
        raise node.error("drops values (training_mode, or is_test = 0); export the net for inference")
    ratio = node.constant(1, "ratio")
    rate = short(node.attribute("ratio", 0.5) if ratio is None or ratio.size != 1 else ratio.reshape(-1)[0])
    if 0 <= rate < 1:
        chain.append(Dropout(rate), {}, node)
    else:
        chain.notes.append(f"{node.label} has the rate {rate} and was dropped.")


def _gemm(chain: Chain, step: Step) -> None:
    node = step.node
    matrix, bias = node.trained(1, "matrix"), node.parameter(2, "bias")
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    matrix = matrix.T if node.attribute("transB", 0) else matrix
    if bias is not None:
        if bias.ndim > 2 or bias.size not in (1, matrix.shape[1]) or (bias.ndim == 2 and bias.shape[0] != 1):
            raise node.error(
                f"adds a matrix {bias.shape}; only one number for each of its {matrix.shape[1]} features is read"
            )
        bias = np.broadcast_to(bias.reshape(-1) * np.float32(beta), matrix.shape[1:])
    _dense(chain, node, matrix * np.float32(alpha) if alpha != 1 else matrix, bias)


def _dense(chain: Chain, node: Node, matrix: np.ndarray, bias: np.ndarray | None) -> None:
    chain.flatten(node)
    params = {"kernel": chain.own(node, matrix)}
    if bias is not None:
        params["bias"] = chain.own(node, bias)
    layer = Dense(matrix.shape[1], inputs=matrix.shape[0], use_bias=bias is not None)
    chain.append(layer, {"params": params}, node)
    chain.stay("nc")


def _product(chain: Chain, step: Step) -> None:
    node, dims = step.node, chain.axes.dims
    matrix = node.trained(1, "matrix")
    if len(dims) == 2:
        _dense(chain, node, matrix, None)
    elif len(chain.shape) == 3 and dims[-1] == ("c",):  # a fully connected layer at each pixel
        names = ["".join(one) for one in dims]
        add_convolution(chain, node, Conv(matrix.shape[1], 1, use_bias=False), matrix[None, None], None)
        chain.stay(names)
    else:
        raise node.error("multiplies along another axis than the channels; no layer does that")


def _arithmetic(chain: Chain, step: Step) -> None:
    node = step.node
    if len(node.inputs) != 2:
        raise node.error(f"has {len(node.inputs)} inputs; only those with one constant beside its input are read")
    first = node.needed(1).constant is not None
    given = node.trained(1 if first else 0, "constant")
    if not np.isfinite(chain.own(node, given)).all():
        raise node.error("computes with constants that are not finite")
    if node.op == "Div" and (not first or not given.all()):
        raise node.error("divides by its input, or by 0; no layer does that")
    if len(step.result.shape) != len(step.source.shape) or step.result.shape != step.source.shape:
        raise node.error(f"enlarges {step.source.shape[1:]} to {step.result.shape[1:]}; no layer does that")
    values = chain.channels(node, aligned(node, given, len(chain.axes.dims)), "constant").astype(np.float64)
    zeros, ones = np.zeros_like(values), np.ones_like(values)
    scale, offset = {
        "Add": (ones, values),
        "Sum": (ones, values),
        "Sub": (ones, -values) if first else (-ones, values),
        "Mul": (values, zeros),
        "Div": (1 / np.where(values == 0, 1, values), zeros),
    }[node.op]
    chain.affine(node, scale, offset)


def _softmax(chain: Chain, step: Step) -> None:
    node = step.node
    rank = len(chain.axes.dims)
    axis = node.attribute("axis", -1 if node.opset >= 13 else 1)
    if not -rank <= axis < rank:
        raise node.error(f"its axis (={axis}) is none of the {rank} of its input")
    axis %= rank
    if node.opset < 13 and any(chain.axes.dims[axis + 1 :]):
        raise node.error(
            "is taken over channels and pixels together, as versions before 13 do; nets end in one over classes"
        )
    chain.along_channels(node, axis)
    if chain.shape[-1] == 1:
        raise node.error("is taken over a single score and always 1; nets of one score end in a Sigmoid")
    chain.head = node.op


def _layout(chain: Chain, step: Step) -> None:
    node, shape = step.node, step.result.shape
    if node.op == "Transpose":
        chain.axes.transpose(permutation(node, len(chain.axes.dims)))
    elif node.op == "Squeeze":
        given = node.integers(1, "axes")
        rank = len(step.source.shape)
        taken = [i for i, n in enumerate(step.source.shape) if n == 1] if given is None else [a % rank for a in given]
        chain.axes.drop(node, taken)
    elif node.op == "Unsqueeze":
        places = {a % len(shape) for a in node.integers(1, "axes") or []}
        old = iter(chain.axes.dims)
        chain.axes.dims = tuple(() if i in places else next(old) for i in range(len(shape)))
    else:
        chain.axes.regroup(node, shape)


def _same(chain: Chain, step: Step) -> None:
    node = step.node
    if node.op == "Cast" and node.has("to") and node.message("to").i != FLOAT:
        raise node.error(f"casts to {type_name(node.message('to').i)}; only nets of float32 are read")
    if node.op in ("Concat", "Mean", "Max") and sum(one is not None for one in node.inputs) > 1:
        raise node.error("joins what depends on the images with constants; joins of paths alone are read")


_METHODS = {
    "Conv": convolution,
    "MaxPool": pool,
    "AveragePool": pool,
    "GlobalAveragePool": _global,
    "GlobalMaxPool": _global,
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSum"), _reduce),
    "BatchNormalization": _batch_norm,
    "LRN": _lrn,
    "Dropout": _dropout,
    "Gemm": _gemm,
    "MatMul": _product,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Sum"), _arithmetic),
    "PRelu": _prelu_node,
    "Pad": padding,
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"), _layout),
    "Slice": crop,
    **dict.fromkeys(("Identity", "Cast", "Concat", "Mean", "Max"), _same),  # the latter of a single value
}
