"""Images of sizes that do not fit are refused by the ONNX graph itself, in the words of this library.

ONNX has no operator that fails on purpose. A Gather reads from a list of a single 0 at the place of what must be 0, the
number of pixels left over: runtimes refuse any other place, and name the node, whose name says what is wrong. What was
gathered is added to the shape that the images are given before the first layer, which nothing is copied for.
"""

from collections.abc import Sequence
from typing import Any

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.dense_form import Form, is_exact
from cnn.exchange.onnx_out.graph import Graph
from cnn.exchange.onnx_out.windows import depends_on_size
from cnn.geometry import layer_names
from cnn.layers import Branches, Layer, Pool, WindowLayer
from cnn.windows import GeometryError, shape_text


def check_sizes(graph: Graph, form: Form) -> str:
    """Begins a graph that takes images of any size with the checks.

    Args:
      graph: the graph, which grows.
      form: the form that is written.

    Returns:
      Name of the images that were checked.

    Raises:
      ExchangeError: if ONNX cannot say which sizes fit.
    """
    checks = _Checks(graph)
    checks.small(f"images are smaller than the window, {shape_text(form.window)} pixels", form.window)
    _follow_all(checks, form.net.layers, form.image_shape, "")
    zeros = checks.zeros[0]
    for other in checks.zeros[1:]:
        zeros = graph.add("Add", [zeros, other], "sizes.checked")
    zeros = graph.add("Concat", [graph.integers("sizes.others", [0, 0]), zeros], "sizes.zeros", axis=0)
    shape = graph.add("Add", [checks.shape, zeros], "images.checked_shape")
    return graph.add("Reshape", ["images", shape], "images.checked")


def whole_windows(graph: Graph, form: Form, scores: str) -> str:
    """Cuts off the scores of windows that hang over the image's edge.

    Args:
      graph: the graph, which grows.
      form: the form that is written, at a stride that was asked for.
      scores: name of the scores.

    Returns:
      Name of those that are left.
    """
    assert form.stride is not None
    counts = graph.add("Shape", ["images"], "windows.images")
    counts = graph.add("Gather", [counts, graph.integers("windows.axes", [2, 3])], "windows.sizes", axis=0)
    for operator, values in (("Sub", form.window), ("Div", form.stride), ("Add", (1, 1))):
        counts = graph.add(operator, [counts, graph.integers("windows.number", values)], "windows.count")
    bounds = [graph.integers("scores.first", [0, 0]), counts, graph.integers("scores.axes", [2, 3])]
    return graph.add("Slice", [scores, *bounds], "scores.whole_windows")


class _Checks:
    """Height and width of what a layer sees, int64 [2], and what must be 0."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.shape = graph.add("Shape", ["images"], "images.shape")
        self.size = graph.add("Gather", [self.shape, graph.integers("images.axes", [2, 3])], "images.size", axis=0)
        self.zeros: list[str] = []
        self._zero = graph.integers("sizes.zero", [0])

    def by(self, operator: str, x: str, values: Any) -> str:
        """A size by an operator and two numbers."""
        return self.graph.add(operator, [x, self.graph.integers("sizes.number", list(values))], "sizes.next")

    def small(self, message: str, least: Any) -> None:
        """Refuses sizes below the least."""
        below = self.graph.add("Less", [self.size, self.graph.integers("images.least", list(least))], "images.small")
        self.must_be_zero(self.graph.add("Cast", [below], "images.below", to=7), message)  # 7: int64

    def must_be_zero(self, x: str, message: str) -> None:
        """Refuses images for which two numbers are not 0."""
        self.zeros.append(self.graph.add("Gather", [self._zero, x], message, axis=0))


def _follow_all(checks: _Checks, layers: Sequence[Layer], shape: tuple[int, ...], block: str) -> None:
    """Checks the sizes that layers see, up to the last one that may refuse some."""
    found, last = [], 0
    for name, layer in zip(layer_names(layers), layers, strict=True):
        found.append((block + name, layer, shape))
        last = len(found) if _refuses(layer, shape) else last
        shape = layer.output_shape(shape)
    for name, layer, seen in found if block else found[:last]:  # of a path all, as its size is compared
        if isinstance(layer, Branches):
            _follow_paths(checks, name, layer, seen)
        elif isinstance(layer, WindowLayer):
            _follow(checks, name, layer, (seen[0], seen[1], seen[2]))


def _follow_paths(checks: _Checks, name: str, layer: Branches, shape: tuple[int, ...]) -> None:
    """Checks the sizes that the layers of all paths see, and that all give one size."""
    before, after = checks.size, []
    for path in layer.checked():
        checks.size = before
        _follow_all(checks, path, shape, f"{name}/")
        after.append(checks.size)
    if _may_disagree(layer, shape):
        for other in after[1:]:
            gap = checks.graph.add("Sub", [after[0], other], "sizes.gap")
            square = checks.graph.add("Mul", [gap, gap], "sizes.gap")  # a list of one has a place -1
            checks.must_be_zero(square, f"{name} ({layer.kind}): its paths give different sizes")
    checks.size = after[0]


def _refuses(layer: Layer, shape: tuple[int, ...]) -> bool:
    """Whether a layer does not take images of all sizes from the window's on."""
    if isinstance(layer, Branches):
        return _may_disagree(layer, shape) or any(_refuses(one, seen) for one, seen in layer.leaves(shape))
    return isinstance(layer, WindowLayer) and is_exact(layer) and layer.window(shape).stride != (1, 1)


def _may_disagree(layer: Branches, shape: tuple[int, ...]) -> bool:
    """Whether the paths of a block give different sizes of an image that is larger by less than their stride."""
    for axis in range(2):
        for more in range(1, layer.window(shape).stride[axis]):
            larger = [n + more if i == axis else n for i, n in enumerate(shape)]
            try:
                layer.output_shape(tuple(larger))
            except GeometryError:
                return True
    return False


def _follow(checks: _Checks, name: str, layer: Any, shape: tuple[int, int, int]) -> None:
    """Checks the size that a layer sees, and goes on to the one that it gives."""
    window = layer.window(shape)
    if depends_on_size(layer, window, fixed=False):  # the size by the stride, rounded up, whatever it is
        checks.size = checks.by("Add", checks.size, [s - 1 for s in window.stride])
        checks.size = checks.by("Div", checks.size, window.stride)
        return
    if isinstance(layer, Pool) and layer.rounding == "ceil" and window.stride != (1, 1):
        raise ExchangeError(
            f"{name} ({layer.kind}): rounds up, and a later layer takes no size that leaves pixels over; give the "
            f"later ones rounding 'floor'"
        )
    more = [sum(p) - e for p, e in zip(window.padding, window.extent, strict=True)]
    checks.size = checks.by("Add", checks.size, more)
    if window.stride != (1, 1):
        if is_exact(layer):
            formula = [
                f"({side} {'-' if n < 0 else '+'} {abs(n)}) / {s} + 1"
                for side, n, s in zip(("height", "width"), more, window.stride, strict=True)
            ]
            message = f"{name} ({layer.kind}): a size does not divide: {' or '.join(formula)} is not whole"
            checks.must_be_zero(checks.by("Mod", checks.size, window.stride), message)
        checks.size = checks.by("Div", checks.size, window.stride)
    checks.size = checks.by("Add", checks.size, (1, 1))
