"""Random ONNX graphs that are chains, as many exporters would write them, from one number."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """A graph that grows operator by operator; `name` is its last value, `shape` that value's [C, H, W] or [K]."""

    def __init__(self, seed: int, opset: int, shape: tuple[int, int, int], nhwc: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset, self.shape, self.nodes, self.tensors = opset, list(shape), [], []
        self.name = "images"
        c, h, w = shape
        sizes = ["N", h, w, c] if nhwc else ["N", c, h, w]
        self.input = helper.make_tensor_value_info("images", TensorProto.FLOAT, sizes)
        if nhwc:
            self.op("Transpose", perm=[0, 3, 1, 2])

    def tensor(self, array: Any) -> str:
        """A constant, as a tensor of the file or by a node."""
        array = np.asarray(array)
        name = f"t{len(self.tensors) + len(self.nodes)}"
        if self.rng.random() < 0.3:
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        else:
            self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, source: str | None = None, **attributes: Any) -> str:
        """Adds an operator on the last value, or on another."""
        name = f"v{len(self.nodes)}"
        first = [self.name if source is None else source]
        self.nodes.append(
            helper.make_node(kind, first + list(inputs), [name], name=f"n{len(self.nodes)}", **attributes)
        )
        self.name = name
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return self.rng.normal(size=shape, scale=scale).astype(np.float32)

    def pick(self, *values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def model(self) -> onnx.ModelProto:
        """The finished model."""
        self.op("Identity")
        output = helper.make_tensor_value_info(self.name, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "chain", [self.input], [output], self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def _window(graph: Graph, kernel: list[int], pools: bool) -> dict[str, Any]:
    """Strides, dilations and padding of a convolution or pool."""
    rng = graph.rng
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": [int(rng.integers(1, 4)) for _ in "hw"]}
    if rng.random() < 0.3 and (not pools or graph.opset >= 19):
        attributes["dilations"] = [int(rng.integers(1, 3)) for _ in "hw"]
    way = rng.integers(5)
    if way == 0:
        attributes["auto_pad"] = graph.pick("SAME_UPPER", "SAME_LOWER", "VALID")
    elif way < 3:
        attributes["pads"] = [int(rng.integers(0, k)) for k in [*kernel, *kernel]]
    if pools and rng.random() < 0.4 and "auto_pad" not in attributes:
        attributes["ceil_mode"] = 1
    return attributes


def _convolution(graph: Graph) -> None:
    channels = graph.shape[0]
    groups = graph.pick(1, 1, *(g for g in (2, 3, channels) if channels % g == 0))
    features = int(groups * graph.rng.integers(1, 4))
    kernel = [int(graph.rng.integers(1, 5)) for _ in "hw"]
    if graph.rng.random() < 0.2:
        mode = graph.pick("constant", "edge", "reflect")
        amounts = [0, 0, *graph.rng.integers(0, 2, 2), 0, 0, *graph.rng.integers(0, 2, 2)]
        extra = (
            [graph.tensor(np.float32(graph.pick(0.0, 0.5)))] if mode == "constant" and graph.rng.random() < 0.5 else []
        )
        graph.op("Pad", graph.tensor(np.array(amounts, np.int64)), *extra, mode=mode)
    scale = (channels // groups * kernel[0] * kernel[1]) ** -0.5
    weights = graph.tensor(graph.normal(features, channels // groups, *kernel, scale=scale))
    bias = [graph.tensor(graph.normal(features))] if graph.rng.random() < 0.5 else []
    graph.op("Conv", weights, *bias, group=groups, **_window(graph, kernel, False))
    if not bias and graph.rng.random() < 0.5:
        graph.op("Add", graph.tensor(graph.normal(features, 1, 1)))
    graph.shape[0] = features


def _pool(graph: Graph) -> None:
    kind = graph.pick("MaxPool", "AveragePool")
    kernel = [int(graph.rng.integers(1, 4)) for _ in "hw"]
    extra = {"count_include_pad": int(graph.rng.integers(2))} if kind == "AveragePool" else {}
    graph.op(kind, **_window(graph, kernel, True), **extra)


def _activation(graph: Graph) -> None:
    kind = graph.pick(
        "Relu", "LeakyRelu", "Elu", "Selu", "Softplus", "Sigmoid", "Tanh", "HardSigmoid", "Clip", "Softsign"
    )
    if graph.rng.random() < 0.3:
        _written_out(graph)
    elif kind == "Clip":
        graph.op("Clip", graph.tensor(np.float32(-0.5)), graph.tensor(np.float32(graph.pick(0.5, 6.0))))
    elif kind in ("LeakyRelu", "Elu") and graph.rng.random() < 0.7:
        graph.op(kind, alpha=float(graph.rng.uniform(0.05, 1.5)))
    else:
        graph.op(kind)


def _written_out(graph: Graph) -> None:
    """Activations that exporters write as several operators."""
    x = graph.name

    def number(value: float) -> str:
        return graph.tensor(np.float32(value))

    way = graph.rng.integers(6)
    if way == 0:  # SiLU
        graph.op("Mul", x, source=graph.op("Sigmoid"))
    elif way == 1:  # Mish
        graph.op("Softplus")
        graph.op("Mul", graph.op("Tanh"), source=x)
    elif way == 2:  # exact GELU
        graph.op("Div", number(2**0.5))
        graph.op("Erf")
        graph.op("Add", number(1.0))
        graph.op("Mul", graph.name, source=x)
        graph.op("Mul", number(0.5))
    elif way == 3:  # leaky ReLU of tf2onnx
        graph.op("Max", graph.op("Mul", number(0.2)), source=x)
    elif way == 4:  # hard swish of older exporters
        graph.op("Add", number(3.0))
        graph.op("Clip", number(0.0), number(6.0))
        graph.op("Mul", graph.name, source=x)
        graph.op("Div", number(6.0))
    else:  # PReLU of Keras
        graph.op("Relu")
        positive = graph.name
        graph.op("Relu", source=graph.op("Neg", source=x))
        sizes = (graph.shape[0], *(1,) * (len(graph.shape) - 1))
        graph.op("Mul", graph.tensor(-np.abs(graph.normal(*sizes)) - 0.1))
        graph.op("Add", graph.name, source=positive)


def _normalisation(graph: Graph) -> None:
    channels, way = graph.shape[0], graph.rng.integers(5)
    if way == 0 and len(graph.shape) == 3:
        graph.op("LRN", size=graph.pick(1, 3, 5), alpha=float(graph.rng.uniform(1e-4, 1)), beta=0.75, bias=1.5)
    elif way == 1:
        numbers = [graph.normal(channels) for _ in range(3)] + [graph.rng.uniform(0.5, 2, channels).astype(np.float32)]
        graph.op("BatchNormalization", *map(graph.tensor, numbers), epsilon=graph.pick(1e-5, 1e-3))
    elif way == 2:
        sizes = (channels, *(1,) * (len(graph.shape) - 1))
        graph.op(graph.pick("Mul", "Add", "Sub", "Div"), graph.tensor(np.abs(graph.normal(*sizes)) + 0.5))
    elif way == 3:
        sizes = (channels, *(1,) * (len(graph.shape) - 1))
        graph.op("PRelu", graph.tensor(graph.normal(*graph.pick(sizes, (1,)))))
    else:
        graph.op(graph.pick("Identity", "Dropout"))


def _head(graph: Graph, size: tuple[int, int]) -> None:
    """Flattening in one of its forms and fully connected layers, or a global mean."""
    channels, rng = graph.shape[0], graph.rng
    count = channels * size[0] * size[1]
    way = rng.integers(6)
    if way == 0:
        graph.op("Flatten", axis=graph.pick(1, -3))
    elif way == 1:
        graph.op("Reshape", graph.tensor(np.array(graph.pick([-1, count], [0, -1], [0, count]), np.int64)))
    elif way == 2:
        graph.op("Transpose", perm=[0, 2, 3, 1])
        graph.op("Reshape", graph.tensor(np.array([-1, count], np.int64)))
    elif way == 3:  # the batch is taken from the shape, as PyTorch's older exporter does
        x = graph.name
        batch = graph.op("Gather", graph.tensor(np.array(0, np.int64)), source=graph.op("Shape"))
        batch = graph.op("Unsqueeze", graph.tensor(np.array([0], np.int64)), source=batch)
        graph.op("Concat", graph.tensor(np.array([-1], np.int64)), source=batch, axis=0)
        graph.op("Reshape", graph.name, source=x)
    elif way == 4:
        graph.op(graph.pick("GlobalAveragePool", "GlobalMaxPool"))
        graph.op(*graph.pick(("Flatten",), ("Squeeze", graph.tensor(np.array([2, 3], np.int64)))))
        count = channels
    else:
        attributes = {"axes": [2, 3]} if graph.opset < 18 else {}
        inputs = [] if graph.opset < 18 else [graph.tensor(np.array([2, 3], np.int64))]
        graph.op("ReduceMean", *inputs, keepdims=0, **attributes)
        count = channels
    graph.shape = [count]
    for _ in range(rng.integers(1, 3)):
        if rng.random() < 0.3:
            _normalisation(graph)
        features = int(rng.integers(2, 7))
        matrix = graph.normal(count, features, scale=count**-0.5)
        if rng.random() < 0.5:
            transposed = int(rng.integers(2))
            weights = graph.tensor(np.ascontiguousarray(matrix.T) if transposed else matrix)
            graph.op(
                "Gemm", weights, graph.tensor(graph.normal(features)), transB=transposed, alpha=graph.pick(1.0, 0.5)
            )
        else:
            graph.op("MatMul", graph.tensor(matrix))
            graph.op("Add", graph.tensor(graph.normal(*graph.pick((features,), (1, features)))))
        graph.shape = [count := features]
        if rng.random() < 0.5:
            _activation(graph)
    if rng.random() < 0.4:
        graph.op(graph.pick("Softmax", "LogSoftmax", "Sigmoid"))


def random_chain(seed: int) -> onnx.ModelProto:
    """A chain of convolutions, pools, activations and normalisations, most with a fully connected head."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.choice([1, 3, 4])), int(rng.integers(8, 21)), int(rng.integers(8, 21)))
    graph = Graph(seed + 10**6, int(rng.choice([13, 17, 19, 21])), shape, bool(rng.random() < 0.3))
    if rng.random() < 0.3:
        graph.op("Sub", graph.tensor(np.abs(graph.normal(shape[0], 1, 1, scale=0.2))))
        graph.op("Div", graph.tensor(np.abs(graph.normal(shape[0], 1, 1, scale=0.2)) + 0.1))
    for _ in range(rng.integers(1, 4)):
        for part in (_convolution, _activation, _normalisation, _pool):
            if rng.random() < 0.7:
                part(graph)
    if rng.random() < 0.7:
        size = _final_size(graph, shape)
        if size:
            _head(graph, size)
    return graph.model()


def _final_size(graph: Graph, shape: tuple[int, int, int]) -> tuple[int, int] | None:
    """Height and width of the last value, by ONNX's own shape inference; None where it fails."""
    try:
        model = onnx.shape_inference.infer_shapes(graph_so_far(graph), strict_mode=True)
    except onnx.shape_inference.InferenceError:
        return None
    dims = model.graph.output[0].type.tensor_type.shape.dim
    sizes = tuple(one.dim_value for one in dims[2:])
    return sizes if len(sizes) == 2 and min(sizes) > 0 else None


def graph_so_far(graph: Graph) -> onnx.ModelProto:
    """The model with the last value as its output."""
    output = helper.make_tensor_value_info(graph.name, TensorProto.FLOAT, None)
    made = helper.make_graph(graph.nodes, "chain", [graph.input], [output], graph.tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", graph.opset)], ir_version=8)
