"""Pools as ONNX operators."""

from typing import Any

import numpy as np

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_out.graph import OLDEST, Graph
from cnn.exchange.onnx_out.windows import NONE, depends_on_size, padded, pads, taps
from cnn.layers import AvgPool, MaxPool, NMaxPool, Pool, SumPool
from cnn.windows import Window


def pool(graph: Graph, layer: Pool, stage: Any) -> str:
    """Writes a pool.

    Args:
      graph: the graph, which grows.
      layer: the pool.
      stage: where it stands (`cnn.exchange.onnx_out.layers.Stage`).

    Returns:
      Name of its output.

    Raises:
      ExchangeError: if its values depend on the size of the image in a way that ONNX cannot say.
    """
    shape = (stage.shape[0], stage.shape[1], stage.shape[2])
    window = layer.window(shape)
    if layer.kernel is None and isinstance(layer, MaxPool | AvgPool):
        kind = "GlobalMaxPool" if isinstance(layer, MaxPool) else "GlobalAveragePool"
        return graph.add(kind, [stage.x], stage.name)
    automatic = depends_on_size(layer, window, stage.fixed)
    if isinstance(layer, NMaxPool):
        return _n_max(graph, layer, stage, window)
    if automatic:
        padded(graph, layer, window, stage, "zero", 0.0)  # refuses what ONNX would do otherwise
    over, window = (False, window) if automatic else _overhang(layer, window, shape, stage.fixed)
    if isinstance(layer, SumPool):
        return _sum(graph, layer, stage, window, automatic, over)
    x = stage.x
    if not automatic and any(max(side) >= k for side, k in zip(window.padding, window.kernel, strict=True)):
        if isinstance(layer, AvgPool) and not layer.count_padding:
            return _mean_of_real(graph, stage, window)
        fill = 0.0 if isinstance(layer, AvgPool) else -np.inf
        x, window, _ = padded(graph, layer, window, stage, "constant", fill)  # no operator takes so much of it
    return _operator(graph, layer, x, stage.name, window, automatic, over)


def _operator(
    graph: Graph, layer: Pool, x: str, name: str, window: Window, automatic: bool = False, over: bool = False
) -> str:
    """MaxPool or AveragePool."""
    attributes: dict[str, Any] = {"kernel_shape": window.kernel, "strides": window.stride, **pads(window, automatic)}
    if over:
        attributes["ceil_mode"] = 1
    if window.dilation != (1, 1):
        attributes["dilations"] = window.dilation
        graph.needs(19 if isinstance(layer, AvgPool) else OLDEST)
    if isinstance(layer, AvgPool) and layer.count_padding:
        attributes["count_include_pad"] = 1
        graph.needs(19 if over else OLDEST)  # before, what a window covers beyond the padding counted too
    return graph.add("MaxPool" if isinstance(layer, MaxPool) else "AveragePool", [x], name, **attributes)


def _mean_of_real(graph: Graph, stage: Any, window: Window) -> str:
    """A mean of the pixels that are none of the padding, as one mean by another: of the image and of ones."""
    layer, name = AvgPool(count_padding=True), stage.name
    one = graph.add(
        "Slice",
        [stage.x, graph.integers(f"{name}.first", [0, 0]), graph.integers(f"{name}.second", [1, 1])],
        f"{name}.channel",
    )
    shape = graph.add("Shape", [one], f"{name}.shape")
    ones = graph.add("Expand", [graph.weight(f"{name}.one", [[[[1.0]]]]), shape], f"{name}.ones")
    means = []
    for x, what in ((stage.x, "sum"), (ones, "real")):
        x, bare, _ = padded(graph, layer, window, stage._replace(x=x, name=f"{name}.{what}"), "constant", 0.0)
        means.append(_operator(graph, layer, x, f"{name}.{what}", bare))
    return graph.add("Div", means, name)


def _overhang(layer: Pool, window: Window, shape: tuple[int, int, int], fixed: bool) -> tuple[bool, Window]:
    """Whether last windows may hang over the padding, and the window with the padding that makes up for it.

    A pool that rounds up is one that rounds down with more padding behind the image, unless its windows may begin in
    that padding, or padding counts.
    """
    if layer.rounding != "ceil":
        return False, window
    if isinstance(layer, AvgPool) and layer.count_padding:
        return True, window
    if fixed:  # exactly what the last window of this size reaches
        size = layer.output_shape(shape)
        reach = [(n - 1) * s + e for n, s, e in zip(size[:2], window.stride, window.extent, strict=True)]
        behind = [max(r - n - p[0], 0) for r, n, p in zip(reach, shape[:2], window.padding, strict=True)]
    else:
        behind = [p[1] + s - 1 for p, s in zip(window.padding, window.stride, strict=True)]
        if any(n >= e for n, e in zip(behind, window.extent, strict=True)):
            return True, window
    (top, _), (left, _) = window.padding
    return False, window._replace(padding=((top, behind[0]), (left, behind[1])))


def _sum(graph: Graph, layer: SumPool, stage: Any, window: Window, automatic: bool, over: bool) -> str:
    """A sum over each window is a convolution of each channel with ones."""
    if over:
        raise ExchangeError(
            f"{stage.name} ({layer.kind}): a last window may begin in the padding, which ONNX cannot say of a sum for "
            f"images of any size; write the form for one size, or take rounding 'floor'"
        )
    channels = stage.shape[2]
    ones = graph.weight(f"{stage.name}.weight", np.ones((channels, 1, *window.kernel)))
    return graph.add(
        "Conv",
        [stage.x, ones],
        stage.name,
        kernel_shape=window.kernel,
        strides=window.stride,
        dilations=window.dilation,
        group=channels,
        **pads(window, automatic),
    )


def _n_max(graph: Graph, layer: NMaxPool, stage: Any, window: Window) -> str:
    """The n largest of all positions of the window, by TopK, and their mean."""
    name, shape = stage.name, (stage.shape[0], stage.shape[1], stage.shape[2])
    over, window = (
        (False, window) if depends_on_size(layer, window, stage.fixed) else _overhang(layer, window, shape, stage.fixed)
    )
    if not stage.fixed and (over or window.padding != NONE or layer.padding == "same"):
        raise ExchangeError(
            f"{name} ({layer.kind}): how many pixels a padded window holds depends on the size of the image; write the "
            f"form for one size"
        )
    height, width, channels = layer.output_shape(shape)
    if layer.kernel is None:
        flat = graph.integers(f"{name}.flat", [0, shape[2], shape[0] * shape[1], 1])
        values = graph.add("Reshape", [stage.x, flat], f"{name}.pixels")
        values, axis = graph.add("Transpose", [values], f"{name}.by_pixel", perm=[0, 2, 1, 3]), 1
        size = graph.integers(f"{name}.size", [0, channels, 1, 1])
    else:
        x, _, _ = padded(graph, layer, window, stage, "constant", -np.inf)
        seen = taps(graph, x, window, name)
        values = graph.add("Concat", seen, f"{name}.taps", axis=1)
        split = graph.integers(f"{name}.split", [0, len(seen), channels, -1])
        values, axis = graph.add("Reshape", [values, split], f"{name}.by_tap"), 1
        size = graph.add("Shape", [seen[0]], f"{name}.size")
    largest = graph.add(
        "TopK", [values, graph.integers(f"{name}.n", [layer.n])], f"{name}.largest", outputs=2, axis=axis
    )
    counts = np.full((1, height * width), layer.n)
    if window.padding != NONE:  # a window at the border may hold fewer pixels, whose mean counts
        counts = np.minimum(_pixels(window, shape, (height, width)), layer.n).reshape(1, -1)
        real = np.arange(layer.n)[:, None] < counts
        chosen = graph.weight(f"{name}.real", real[None, :, None, :], np.bool_)
        largest = graph.add("Where", [chosen, largest, graph.weight(f"{name}.zero", 0.0)], f"{name}.kept")
    total = graph.add("Conv", [largest, graph.weight(f"{name}.weight", np.ones((1, layer.n, 1, 1)))], f"{name}.sum")
    divisor = counts[None, None] if window.padding != NONE else np.asarray(layer.n)
    mean = graph.add("Div", [total, graph.weight(f"{name}.counts", divisor)], f"{name}.mean")
    return graph.add("Reshape", [mean, size], name)


def _pixels(window: Window, shape: tuple[int, int, int], size: tuple[int, int]) -> np.ndarray:
    """Number of pixels of the image in each window, [H', W']."""
    counts = []
    for axis in range(2):
        first = np.arange(size[axis])[:, None] * window.stride[axis] - window.padding[axis][0]
        seen = first + np.arange(window.kernel[axis]) * window.dilation[axis]
        counts.append(((seen >= 0) & (seen < shape[axis])).sum(axis=1))
    return np.outer(*counts)
