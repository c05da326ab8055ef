"""Convolutions and pools of an ONNX graph, and the padding that comes before them as an operator of its own."""

from typing import Any

import numpy as np

from cnn.exchange.onnx_in.chain import Step
from cnn.exchange.onnx_in.file import one_line
from cnn.exchange.onnx_in.growth import Chain
from cnn.exchange.onnx_in.node import Node
from cnn.exchange.onnx_in.shapes import padding_of, sliding
from cnn.layers import AvgPool, Conv, MaxPool

PADDINGS = ("constant", "edge", "reflect")


def convolution(chain: Chain, step: Step) -> None:
    """Adds the layer of a Conv, with the Pad before it.

    Args:
      chain: the layers so far, to which it is added.
      step: the node with its input and output.

    Raises:
      ExchangeError: naming the node, if its kernel does not take its input, or the map has another size here.
    """
    node = step.node
    chain.image(node)
    weights, bias = node.trained(1, "kernel"), node.parameter(2, "bias")
    window = sliding(node, step.source.shape[2:], weights.shape[2:])
    groups = node.attribute("group", 1)
    if groups < 1 or weights.shape[1] * groups != chain.shape[2]:
        raise node.error(
            f"its kernel {weights.shape} in {groups} groups takes {weights.shape[1] * groups} channels, and its "
            f"input has {chain.shape[2]}"
        )
    pads, options = _padded(chain, window.pads)
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
    add_convolution(chain, node, layer, weights.transpose(2, 3, 1, 0), bias)
    _check_size(chain, step)


def add_convolution(chain: Chain, node: Node, layer: Conv, kernel: np.ndarray, bias: np.ndarray | None) -> None:
    """Adds a convolution with its weights.

    Args:
      chain: the layers so far.
      node: the node that it comes from.
      layer: the layer.
      kernel: float32 [kh, kw, C / groups, features].
      bias: float32 [features]; None: the layer has none.

    Raises:
      ExchangeError: naming the node, if the bias has another shape.
    """
    params = {"kernel": chain.own(node, kernel)}
    if bias is not None:
        if bias.shape != (layer.features,):
            raise node.error(f"its bias has the shape {bias.shape}, and its kernels are {layer.features}")
        params["bias"] = chain.own(node, bias)
    chain.append(layer, {"params": params}, node)
    chain.stay()


def _padded(chain: Chain, pads: Any) -> tuple[Any, dict[str, Any]]:
    """Padding of a window together with that of a Pad before it, and how it is filled."""
    if chain.pad is None:
        return pads, {}
    outer, mode, value = _pad_of(chain, chain.pad)
    chain.pad = None
    pads = tuple((a + c, b + d) for (a, b), (c, d) in zip(pads, outer, strict=True))
    if mode == "constant":
        return pads, {"padding_mode": mode, "padding_value": value} if value else {}
    return pads, {"padding_mode": mode}


def _check_size(chain: Chain, step: Step) -> None:
    wanted = step.result.shape[2:]
    if chain.shape[:2] != wanted:
        raise step.node.error(
            f"gives maps of {wanted} in the file, and {chain.shape[:2]} here; write its pads as numbers"
        )


def pool(chain: Chain, step: Step) -> None:
    """Adds the layer of a MaxPool or AveragePool, with the Pad before it; windows of one pixel add none.

    Args:
      chain: the layers so far, to which it is added.
      step: the node with its input and output.

    Raises:
      ExchangeError: naming the node, if its windows do not fit, or the map has another size here.
    """
    node = step.node
    chain.image(node)
    window = sliding(node, step.source.shape[2:], node.sizes("kernel_shape", 2, None))
    include = bool(node.attribute("count_include_pad", 0))
    if window.does_nothing and chain.pad is None:
        chain.notes.append(f"{node.label} has windows of one pixel and was dropped.")
        return
    include = include or chain.pad is not None
    pads, _ = _padded(chain, window.pads)
    fields: dict[str, Any] = {"kernel": window.kernel, "stride": window.stride, "padding": pads}
    fields |= {"dilation": window.dilation, "rounding": window.rounding}
    if node.op == "AveragePool":
        fields["count_padding"] = include and any(map(any, pads))
    chain.append((MaxPool if node.op == "MaxPool" else AvgPool)(**fields), {}, node)
    _check_size(chain, step)
    chain.stay()


def padding(chain: Chain, step: Step) -> None:
    """Keeps a Pad for the convolution or pool that follows it.

    Args:
      chain: the layers so far, to which it is added.
      step: the node with its input and output.

    Raises:
      ExchangeError: naming the node, if it pads channels or images, or in a way that no layer does.
    """
    chain.image(step.node)
    _pad_of(chain, step)
    chain.pad = step


def _pad_of(chain: Chain, step: Step) -> tuple[Any, str, float]:
    """What a Pad adds to height and width, how, and with which value."""
    node = step.node
    amounts, mode = padding_of(node, len(step.source.shape)), node.attribute("mode", "constant")
    given = node.parameter(2, "value") if node.opset >= 11 else None
    value = float(node.attribute("value", 0.0)) if given is None else float(given.reshape(-1)[0] if given.size else 0)
    if any(map(any, amounts[:2])) or mode not in PADDINGS:
        raise node.error(
            f"pads channels or images, or in the mode {one_line(mode)!r}; constant, edge and reflect are read"
        )
    return tuple(amounts[2:]), mode, value if mode == "constant" else 0.0


def padding_joins(chain: Chain, node: Node) -> bool:
    """Whether a window that follows a Pad can take its padding over."""
    if chain.pad is None:
        return True
    _, mode, value = _pad_of(chain, chain.pad)
    own = node.attribute("auto_pad", "NOTSET").startswith("SAME") or any(node.ints("pads") or [])
    if node.op == "Conv":
        return not own or (mode == "constant" and value == 0)
    if node.attribute("ceil_mode", 0) or mode != "constant":
        return False
    if node.op == "MaxPool":
        return value == -np.inf
    return value == 0 and (not own or bool(node.attribute("count_include_pad", 0)))


def padding_alone(chain: Chain) -> None:
    """Padding before anything but a convolution: one with a kernel of one pixel, for each channel by itself."""
    step = chain.pad
    if step is None:
        return
    channels = chain.shape[2]
    pads, options = _padded(chain, ((0, 0), (0, 0)))
    if not np.isfinite(options.get("padding_value", 0.0)):
        raise step.node.error("pads with a value that is not finite, and no max pool follows")
    layer = Conv(channels, 1, padding=pads, groups=channels, use_bias=False, **options)
    add_convolution(chain, step.node, layer, np.ones((1, 1, 1, channels), np.float32), None)
    chain.notes.append(f"{step.node.label} became a convolution with a kernel of one pixel.")
