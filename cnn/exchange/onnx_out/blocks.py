"""Layers that branch as ONNX operators, and the crops beside unpadded convolutions."""

from collections.abc import Callable
from typing import Any

from cnn import geometry
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_out.graph import Graph
from cnn.exchange.onnx_out.windows import END, padded
from cnn.layers import Branches, Crop

JOINS = {"sum": "Sum", "concat": "Concat", "mean": "Mean", "max": "Max"}


def branches(graph: Graph, layer: Branches, stage: Any, write: Callable[[Graph, Any, Any], str]) -> str:
    """Writes all paths, and the operator that joins them.

    Args:
      graph: the graph, which grows.
      layer: the layer.
      stage: where it stands (`cnn.exchange.onnx_out.layers.Stage`).
      write: writes one layer of a path.

    Returns:
      Name of what the block gives.

    Raises:
      ExchangeError: if ONNX has no operators for a layer of a path.
    """
    ends = []
    for number, path in enumerate(layer.checked(), start=1):
        own = geometry.parameters(path, stage.variables) if path else {}
        x, shape = stage.x, stage.shape
        for one in path:
            name = str(one.name)
            inner = stage._replace(name=f"{stage.name}/{name}", x=x, shape=shape, variables=own.get(name, {}))
            x = write(graph, one, inner)
            shape = one.output_shape(shape)
        if len(shape) != 3:
            raise ExchangeError(f"{stage.name} ({layer.kind}): {layer.path_label(number)} gives no image")
        ends.append(x)
    if len(ends) == 1:
        return ends[0]
    if layer.join == "product":  # ONNX multiplies two values at a time
        for number, end in enumerate(ends[1:-1], start=1):
            ends[0] = graph.add("Mul", [ends[0], end], f"{stage.name}.{number}")
        return graph.add("Mul", [ends[0], ends[-1]], stage.name)
    operator = "Add" if layer.join == "sum" and len(ends) == 2 else JOINS[layer.join]
    attributes = {"axis": 1} if operator == "Concat" else {}
    return graph.add(operator, ends, stage.name, **attributes)


def crop(graph: Graph, layer: Crop, stage: Any) -> str:
    """A slice of what is padded: the value in the middle of each window.

    Args:
      graph: the graph, which grows.
      layer: the layer.
      stage: where it stands.

    Returns:
      Name of the output.

    Raises:
      ExchangeError: if it rounds up, for which ONNX has no slice.
    """
    if layer.rounding == "ceil":
        raise ExchangeError(f"{stage.name} ({layer.kind}): ONNX has no slice that rounds up; give it rounding 'floor'")
    window = layer.window((stage.shape[0], stage.shape[1], stage.shape[2]))
    x, window, _ = padded(graph, layer, window, stage, "constant", 0.0)
    first = [extent // 2 for extent in window.extent]
    stops = [-(extent - 1 - start) or END for extent, start in zip(window.extent, first, strict=True)]
    if first == [0, 0] and window.stride == (1, 1):
        return x
    name = stage.name
    inputs = [x, graph.integers(f"{name}.start", first), graph.integers(f"{name}.stop", stops)]
    inputs += [graph.integers(f"{name}.axes", [2, 3]), graph.integers(f"{name}.steps", window.stride)]
    return graph.add("Slice", inputs, name)
