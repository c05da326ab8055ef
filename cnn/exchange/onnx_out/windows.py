"""What layers with a window share in ONNX: their padding, and the pixels that each position of a window sees."""

from typing import Any

import numpy as np

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_out.graph import Graph
from cnn.windows import Window

NONE = ((0, 0), (0, 0))
END = np.iinfo(np.int64).max  # of a slice: to the end


def depends_on_size(layer: Any, window: Window, fixed: bool) -> bool:
    """Whether the padding "same" of a layer has other numbers for images of other sizes."""
    return not fixed and isinstance(layer.padding, str) and layer.padding == "same" and window.stride != (1, 1)


def pads(window: Window, automatic: bool) -> dict[str, Any]:
    """The attribute of an operator that says how its input is padded with what the operator takes for padding."""
    if automatic:
        return {"auto_pad": "SAME_UPPER"}
    (top, bottom), (left, right) = window.padding
    return {"pads": [top, left, bottom, right]}


def padded(graph: Graph, layer: Any, window: Window, stage: Any, mode: str, value: float) -> tuple[str, Window, bool]:
    """The padding of a layer whose operator pads with zeros.

    Args:
      graph: the graph, which grows where padding is something else than zeros, or `mode` says so.
      layer: the layer.
      window: its window.
      stage: where it stands.
      mode: "zero": left to the operator; "constant", "edge", "reflect" or "mean": nodes of their own.
      value: what "constant" fills it with.

    Returns:
      Name of the operator's input, the window with the padding that is left to the operator, and whether the operator
      must find that padding itself.

    Raises:
      ExchangeError: if the padding depends on the size of images and ONNX cannot say how.
    """
    if depends_on_size(layer, window, stage.fixed):
        extent = window.extent
        small = any(e < s for e, s in zip(extent, window.stride, strict=True))
        if mode != "zero" or small or window.dilation != (1, 1):
            raise ExchangeError(
                f"{stage.name} ({layer.kind}): its padding 'same' with stride {window.stride} depends on the size of "
                f"the image, which ONNX cannot say for padding_mode {mode!r}, a window {extent} and dilation "
                f"{window.dilation}; write the form for one size, or give the padding in pixels"
            )
        return stage.x, window._replace(padding=NONE), True
    if mode == "zero" or window.padding == NONE:
        return stage.x, window, False
    window, amounts = window._replace(padding=NONE), window.padding
    if mode == "mean":
        return _means(graph, stage.x, amounts, stage.name), window, False
    (top, bottom), (left, right) = amounts
    inputs = [stage.x, graph.integers(f"{stage.name}.pads", [0, 0, top, left, 0, 0, bottom, right])]
    if mode == "constant":
        inputs.append(graph.weight(f"{stage.name}.fill", value))
    return graph.add("Pad", inputs, f"{stage.name}.pad", mode=mode), window, False


def _means(graph: Graph, x: str, amounts: Any, name: str) -> str:
    """Padding with means: of each column above and below it, then of each row left and right."""
    for axis, (before, after) in zip((2, 3), amounts, strict=True):
        if not before and not after:
            continue
        here = f"{name}.mean{axis}"
        if graph.opset >= 18:  # the axes became an input
            mean = graph.add("ReduceMean", [x, graph.integers(f"{here}.axes", [axis])], here, keepdims=1)
        else:
            mean = graph.add("ReduceMean", [x], here, axes=[axis], keepdims=1)
        x = graph.add("Concat", [mean] * before + [x] + [mean] * after, f"{name}.pad{axis}", axis=axis)
    return x


def taps(graph: Graph, x: str, window: Window, name: str) -> list[str]:
    """What each position of the window sees, row by row, in every window of an input that is padded.

    Args:
      graph: the graph, which grows by a slice for each.
      x: name of the input.
      window: the window; its padding is ignored.
      name: of the layer.

    Returns:
      Names of arrays [N, C, H', W'].
    """
    axes, steps = graph.integers(f"{name}.axes", [2, 3]), graph.integers(f"{name}.steps", window.stride)
    found = []
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            start = [position * d for position, d in zip((i, j), window.dilation, strict=True)]
            behind = [e - 1 - s for e, s in zip(window.extent, start, strict=True)]  # rows that later positions see
            stop = [-n if n else END for n in behind]
            here = f"{name}.tap{i}_{j}"
            bounds = [graph.integers(f"{here}.start", start), graph.integers(f"{here}.stop", stop)]
            found.append(graph.add("Slice", [x, *bounds, axes, steps], here))
    return found
