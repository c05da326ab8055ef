"""A classifier as an ONNX graph: for images of one size, of any size, or of any size at a finer stride.

The graph is made from the layers of the net, not from a trace of it: each is one operator or a few. Its input `images`
is float32 [N, C, H, W], normalised as in training; its output `scores` is [N, K], or [N, K, h, w] for a net without
fully connected layers. What the classifier is stands in the file's metadata, each value as JSON.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from cnn import geometry
from cnn.exchange import dense_form, written
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.dense_form import Form
from cnn.exchange.onnx_out import layers as onnx_write_layers
from cnn.exchange.onnx_out.graph import Graph
from cnn.exchange.onnx_out.sizes import check_sizes, whole_windows
from cnn.exchange.written import TOLERANCE, Trained, Written
from cnn.layers import Flatten

LARGEST_BYTES = 2**31 - 2**20  # of a file: protobuf cannot write more


def write(
    path: str | os.PathLike[str],
    run: Trained,
    *,
    dense: bool = False,
    stride: int | tuple[int, int] | None = None,
    tolerance: float = TOLERANCE,
) -> Written:
    """Writes a classifier as an ONNX graph, and checks it with onnxruntime where that is installed.

    Args:
      path: the file, such as "net.onnx"; one that is there is replaced.
      run: the classifier: `cnn.exchange.classifier.Classifier`, or what `cnn.checkpoint.load_run` returns.
      dense: whether the graph takes images of any size, and gives a map of scores: fully connected layers become
        convolutions. Sizes that leave pixels over in a layer whose rounding is "exact" are refused by the graph.
      stride: distance between the windows of neighbouring scores, one number or (vertical, horizontal), pixels: the
        graph gives the map of `cnn.dense.score_map` at that stride, by dilated layers. None: the native stride.
      tolerance: largest difference from this library's scores, as a fraction of the largest score.

    Returns:
      `Written`, with the difference that was found.

    Raises:
      ExchangeError: if an option or a layer cannot be written, or the file gives other scores; there is no file then.
      GeometryError: if the variables are not those of the net, or a layer cannot be slid over a larger image.
      ModuleNotFoundError: if onnx is not installed.
    """
    what = os.fspath(path)
    tolerance = written.check_tolerance(tolerance, what)
    written.check_run(run, what)
    form = dense_form.of(run, dense, stride, what)
    model, metadata = _model(run, form, what)
    with written.whole_file(path) as part:
        with open(part, "wb") as file:
            file.write(model)
        runtime, call = _runtime(part)
        if call is None:
            return Written(what, metadata, "", (), None)
        sizes, difference = written.check(what, run, form, call, tolerance)
    return Written(what, metadata, runtime, sizes, difference)


def _model(run: Trained, form: Form, what: str) -> tuple[bytes, dict[str, Any]]:
    """The file's bytes, and its metadata."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what}: writing ONNX needs onnx: python -m pip install -r requirements-exchange.txt"
        ) from error
    from onnx import helper, numpy_helper

    import cnn

    graph = Graph()
    scores_shape = _fill(graph, form, what)
    if graph.needed > graph.opset:
        graph = Graph(graph.needed)
        _fill(graph, form, what)
    size = sum(value.nbytes for value in graph.weights.values())
    if size > LARGEST_BYTES:
        raise ExchangeError(
            f"{what}: the weights take {size:,} bytes, and an ONNX file at most {LARGEST_BYTES:,}; write a .stablehlo"
        )
    height, width, channels = form.image_shape
    sizes = ["H", "W"] if form.stride is not None else [height, width]
    float32 = onnx.TensorProto.FLOAT
    made = helper.make_graph(
        graph.nodes,
        "classifier",
        [helper.make_tensor_value_info("images", float32, ["N", channels, *sizes])],
        [helper.make_tensor_value_info("scores", float32, scores_shape)],
        [numpy_helper.from_array(value, name) for name, value in graph.weights.items()],
    )
    opsets = [helper.make_opsetid("", graph.opset)]
    model = helper.make_model(
        made,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="cnn",
        producer_version=cnn.__version__,
    )
    metadata = written.metadata(run, form)
    helper.set_model_props(model, written.as_json(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(), metadata


def _fill(graph: Graph, form: Form, what: str) -> list[Any]:
    """Writes all layers; returns the shape of the scores."""
    net, variables = form.net, form.variables
    trained = geometry.parameters(net.layers, variables)
    shape: tuple[int, ...] = form.image_shape
    x, order, fixed = "images", None, form.stride is None
    try:
        x = x if fixed else check_sizes(graph, form)
        rows, columns = form.cut_pixels
        if rows or columns:
            x = _cut(graph, x, [-rows or None, -columns or None], "images.seen")
        for row, layer in zip(geometry.table(net, shape), net.layers, strict=True):
            stage = onnx_write_layers.Stage(row.name, x, shape, fixed, trained.get(row.name, {}), order)
            x = onnx_write_layers.write(graph, layer, stage)
            if isinstance(layer, Flatten):
                order = onnx_write_layers.flattened_order(layer, shape)
            elif len(shape) == 1 and row.kind == "dense":
                order = None
            shape = row.output_shape
        if order is not None:
            x = graph.add("Gather", [x, graph.integers("scores.order", order.tolist())], "scores.in_order", axis=1)
        if form.cuts_scores:
            x = whole_windows(graph, form, x)
    except ExchangeError as error:
        raise ExchangeError(f"{what}: {error}") from None
    if x == "images" or x in graph.weights:
        x = graph.add("Identity", [x], "scores.same")
    graph.rename(x, "scores")
    if len(shape) == 1:
        return ["N", shape[0]]
    return ["N", shape[2], *(["h", "w"] if not fixed else shape[:2])]


def _cut(graph: Graph, x: str, stops: list[int | None], name: str) -> str:
    """Rows and columns up to a stop, counted from the end if it is below 0."""
    ends = [np.iinfo(np.int64).max if stop is None else stop for stop in stops]
    inputs = [graph.integers(f"{name}.{key}", values) for key, values in (("start", [0, 0]), ("stop", ends))]
    return graph.add("Slice", [x, *inputs, graph.integers(f"{name}.axes", [2, 3])], name)


def _runtime(path: str) -> tuple[str, Callable[[np.ndarray], np.ndarray] | None]:
    """Name of the runtime, and a function that runs the file on images [N, H, W, C]; None where there is none."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return "", None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def call(images: np.ndarray) -> np.ndarray:
        scores = np.asarray(session.run(["scores"], {"images": images.transpose(0, 3, 1, 2)})[0])
        return scores if scores.ndim == 2 else scores.transpose(0, 2, 3, 1)

    return f"onnxruntime {onnxruntime.__version__}", call
