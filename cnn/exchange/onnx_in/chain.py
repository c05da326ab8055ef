"""Takes an ONNX graph apart into one chain of steps, from the images to an output."""

from typing import NamedTuple

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_in.file import OnnxFile, one_line
from cnn.exchange.onnx_in.functions import Function, activation, recognise
from cnn.exchange.onnx_in.graph import Images
from cnn.exchange.onnx_in.node import Node, Value
from cnn.exchange.onnx_in.response import Response, response
from cnn.exchange.onnx_in.shapes import UNARY

ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Sum", "Pow", "Max", "Min")  # may be parts of a function written out


class Step(NamedTuple):
    """One step of a chain.

    Attributes:
      node: the operator, or the last one where several make one function.
      source: what it takes.
      result: what it gives.
      function: the function, where it is one of single values, or response normalisation; None: the operator's own.
    """

    node: Node
    source: Value
    result: Value
    function: Function | Response | None = None


def chain(file: OnnxFile, images: Images, output: Value) -> list[Step]:
    """The steps from the images to an output.

    Args:
      file: the file, for errors.
      images: what enters.
      output: what leaves, as `onnx_graph.walk` gives it.

    Returns:
      The steps in order; none where the output is the images themselves.

    Raises:
      ExchangeError: where the graph branches.
    """
    steps: list[Step] = []
    value = output
    while value is not images.value:
        if value.node is None:
            raise file.error(f"its value {one_line(value.name)!r} does not come from the images; it is damaged")
        steps.append(_step(value))
        value = steps[-1].source
    return steps[::-1]


def _step(value: Value) -> Step:
    node = value.node
    assert node is not None
    direct = activation(node)
    if direct is not None:
        source = node.needed(0)
        return Step(node, source, value, Function(*direct, source))
    found: Function | Response | None = None
    if node.op in ARITHMETIC or node.op in UNARY or node.op == "Where":
        found = response(value) or recognise(value)
    if found is not None:
        return Step(node, found.source, value, found)
    sources = {id(one): one for one in node.inputs if one is not None and one.constant is None}
    if len(sources) > 1:
        raise _branches(node, value)
    source = next(iter(sources.values()))
    if node.op in UNARY or sum(one is source for one in node.inputs) > 1:
        raise node.error("is part of a function of which there is no layer; known are those of cnn.layers.ACTIVATIONS")
    return Step(node, source, value)


def _branches(node: Node, value: Value) -> ExchangeError:
    """The error for operators that join what has been computed on several ways."""
    frontier = {id(one): one for one in node.inputs if one is not None and one.constant is None}
    names = " and ".join(one_line(one.name) for one in list(frontier.values())[:3])
    seen: list[Node] = [node]
    while len(frontier) > 1:
        last = max(frontier.values(), key=lambda one: one.order)
        if last.node is None:
            break
        del frontier[id(last)]
        seen.append(last.node)
        frontier |= {id(one): one for one in last.node.inputs if one is not None and one.constant is None}
    fork = next(iter(frontier.values()))
    inside = {id(one) for one in seen}
    users = list(dict.fromkeys(one.label for one in fork.used_by if id(one) in inside))
    return node.error(
        f"joins {names}: {one_line(fork.name)!r} goes to {' and '.join(users[:3])}, and this project runs chains; "
        "choose an output before the branches (output=NAME), or a net without shortcuts"
    )
