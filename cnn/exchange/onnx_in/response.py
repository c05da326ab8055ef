"""Local response normalisation, which PyTorch's exporters write as some ten operators of an ONNX graph."""

import math
from typing import NamedTuple

from cnn.exchange.onnx_in.node import Node, Value, short
from cnn.exchange.onnx_in.shapes import padding_of


class Response(NamedTuple):
    """Response normalisation written out: x / (k + alpha * mean of `size` squares) ** beta."""

    size: int
    k: float
    alpha: float
    beta: float
    source: Value


_LAYOUT = ("Reshape", "Unsqueeze", "Squeeze", "Identity")


def response(value: Value) -> Response | None:
    """Response normalisation as PyTorch's exporters write it: a mean pool over channels, between layout operators.

    Args:
      value: what the division at the end gives.

    Returns:
      Its numbers, or None if the operators are others.
    """
    division = _made_by(value, "Div")
    if division is None or len(division.inputs) != 2:
        return None
    source, power = division.inputs[0], _made_by(division.inputs[1], "Pow")
    plus = _made_by(power and power.inputs[0], "Add")
    times = _made_by(_variable(plus), "Mul")
    pool = _made_by(_peeled(_variable(times)), "AveragePool")
    padding = _made_by(_peeled(pool and pool.input(0)), "Pad")
    squares = _peeled(padding and padding.input(0))
    if source is None or not power or not plus or not times or not pool or not padding or not _square(squares, source):
        return None
    numbers = [_number(node) for node in (power, plus, times)]
    inner, kernel = padding.needed(0).shape, pool.ints("kernel_shape") or []
    axis = next((i for i, size in enumerate(kernel) if size > 1), 0) + 2
    size = kernel[axis - 2] if axis < len(inner) and len(kernel) == len(inner) - 2 else 0
    wanted = [(size // 2, (size - 1) // 2) if i == axis else (0, 0) for i in range(len(inner))]
    whole = (
        None not in numbers
        and size > 0
        and set(kernel) <= {1, size}
        and kernel.count(size) == 1
        and set(pool.ints("strides") or [1]) == {1}
        and set(pool.ints("dilations") or [1]) == {1}
        and not any(pool.ints("pads") or [])
        and pool.attribute("auto_pad", "NOTSET") in ("NOTSET", "VALID")
        and padding.attribute("mode", "constant") == "constant"
        and not (padding.input(2) and padding.needed(2).scalar)
        and padding_of(padding, len(inner)) == wanted
        and inner[axis] == source.shape[1]
        and math.prod(inner[:axis]) == source.shape[0]
        and inner[axis + 1 :] == source.shape[2:]
    )
    if not whole:
        return None
    beta, k, alpha = (short(float(number or 0)) for number in numbers)
    return Response(size, k, alpha, beta, source)


def _made_by(value: Value | None, op: str) -> Node | None:
    return value.node if value is not None and value.node is not None and value.node.op == op else None


def _variable(node: Node | None) -> Value | None:
    """The input of a node that is not constant, if there is one."""
    found = [one for one in node.inputs if one is not None and one.constant is None] if node else []
    return found[0] if len(found) == 1 else None


def _number(node: Node) -> float | None:
    """The constant input of a node, if it is one number."""
    found = [one for one in node.inputs if one is not None and one.constant is not None]
    return found[0].scalar if len(found) == 1 else None


def _peeled(value: Value | None) -> Value | None:
    """The value before operators that only change the layout."""
    while value is not None and value.node is not None and value.node.op in _LAYOUT:
        value = value.node.input(0)
    return value


def _square(value: Value | None, source: Value) -> bool:
    node = value.node if value is not None else None
    if node is None or len(node.inputs) != 2 or node.inputs[0] is not source:
        return False
    return (node.op == "Mul" and node.inputs[1] is source) or (node.op == "Pow" and _number(node) == 2)
