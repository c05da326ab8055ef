"""Takes an ONNX graph apart into steps from the images to an output: a chain, whose blocks have paths of steps."""

from typing import NamedTuple

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_in.file import OnnxFile, one_line
from cnn.exchange.onnx_in.functions import Function, activation, recognise
from cnn.exchange.onnx_in.graph import Images
from cnn.exchange.onnx_in.joins import DEEPEST, JOINS, Regions, concat_axis
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
      paths: of a join the steps of each path, from the source on.
    """

    node: Node
    source: Value
    result: Value
    function: Function | Response | None = None
    paths: tuple[tuple["Step", ...], ...] = ()


def chain(file: OnnxFile, images: Images, output: Value) -> list[Step]:
    """The steps from the images to an output.

    Args:
      file: the file, for errors.
      images: what enters.
      output: what leaves, as `onnx_graph.walk` gives it.

    Returns:
      The steps in order; none where the output is the images themselves.

    Raises:
      ExchangeError: where the graph branches in a way that no blocks do.
    """
    return _between(file, images.value, output, Regions(), None, 0)


def _between(file: OnnxFile, first: Value, last: Value, regions: Regions, join: Node | None, depth: int) -> list[Step]:
    """The steps from one value, through which all ways to another lead, to that other one; on a path of a join."""
    steps: list[Step] = []
    value = last
    while value is not first:
        if value.node is None:
            raise file.error(f"its value {one_line(value.name)!r} does not come from the images; it is damaged")
        regions.claim(value, join)
        steps.append(_step(file, value, regions, depth))
        value = steps[-1].source
    return steps[::-1]


def _step(file: OnnxFile, value: Value, regions: Regions, depth: int) -> Step:
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
    given = [one for one in node.inputs if one is not None and one.constant is None]
    if len(given) > 1:
        if node.op not in JOINS or (node.op == "Mul" and len({one.shape for one in given}) > 1):
            raise _no_join(node, given)
        return _join(file, node, value, regions, depth)
    if node.op in UNARY:
        raise node.error("is part of a function of which there is no layer; known are those of cnn.layers.ACTIVATIONS")
    return Step(node, given[0], value)


def _join(file: OnnxFile, node: Node, value: Value, regions: Regions, depth: int) -> Step:
    """A block: the paths that a node joins."""
    if depth >= DEEPEST:
        raise node.error(f"is the end of a block within {DEEPEST} others; that many are read")
    values = regions.joined_values(node)
    fork = regions.fork(node, values)
    paths: list[tuple[Step, ...]] = []
    for one in values:
        path = _between(file, fork, one, regions, node, depth + 1)
        # Sums of sums and concatenations of concatenations of the same value are one block.
        flat = len(path) == 1 and path[0].paths and JOINS[path[0].node.op] == JOINS[node.op] and node.op != "Mean"
        if flat and (JOINS[node.op] != "concat" or concat_axis(path[0].node) == concat_axis(node)):
            paths.extend(path[0].paths)
        else:
            paths.append(tuple(path))
    return Step(node, fork, value, None, tuple(paths))


def _no_join(node: Node, given: list[Value]) -> ExchangeError:
    """The error for an operator on several values that depend on the images, and is no join."""
    names = " and ".join(dict.fromkeys(repr(one_line(one.name)) for one in given[:3]))
    what = "a product of two sizes, such as a gate (squeeze and excitation)" if node.op == "Mul" else "no join of paths"
    return node.error(
        f"takes {names}, which all depend on the images: {what}; there is no layer for it (read are Add, Mul, Concat, "
        "Mean and Max of paths): choose an output before it (output=NAME)"
    )
