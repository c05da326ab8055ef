"""Random ONNX graphs with blocks: paths over one value that an operator joins, nested, from one number."""

import numpy as np

from tests.exchange.onnx_random import Graph


def conv(graph, features, kernel, stride=1):
    """A convolution that keeps the size, or divides it by its stride."""
    weight = graph.tensor(graph.normal(features, graph.shape[0], kernel, kernel, scale=0.4))
    bias = [graph.tensor(graph.normal(features))] if graph.rng.random() < 0.5 else []
    pads = [kernel // 2] * 4
    graph.op("Conv", weight, *bias, pads=pads, strides=[stride, stride], kernel_shape=[kernel, kernel])
    graph.shape = [features, *(-(-size // stride) for size in graph.shape[1:])]


def layer(graph):
    """One layer that keeps height and width."""
    kind = graph.pick("conv", "relu", "norm", "pool", "scale", "silu")
    channels = graph.shape[0]
    if kind == "conv":
        conv(graph, int(graph.pick(2, 3, 4)), int(graph.pick(1, 3)))
    elif kind == "relu":
        graph.op(graph.pick("Relu", "Tanh"))
    elif kind == "norm":
        tensors = [graph.normal(channels), graph.normal(channels), graph.normal(channels)]
        tensors.append(graph.rng.uniform(0.5, 2, channels).astype(np.float32))
        graph.op("BatchNormalization", *(graph.tensor(one) for one in tensors))
    elif kind == "pool":
        graph.op(graph.pick("MaxPool", "AveragePool"), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    elif kind == "scale":
        graph.op(graph.pick("Mul", "Add"), graph.tensor(graph.normal(channels, 1, 1)))
    else:
        source = graph.name
        graph.op("Mul", graph.op("Sigmoid"), source=source)


def block(graph, depth):
    """Paths and their join; a dense block's growing concatenations among them."""
    source, shape = graph.name, list(graph.shape)
    join = graph.pick("Add", "Sum", "Concat", "Mean", "Max", "Mul", "dense")
    if join == "dense":
        found = [source]
        for _ in range(3):
            if len(found) > 1:
                graph.op("Concat", *found[1:], source=found[0], axis=1)
                graph.shape[0] = shape[0] + 2 * (len(found) - 1)
            conv(graph, 2, 3)
            found.append(graph.name)
        graph.op("Concat", *found[1:], source=found[0], axis=1)
        graph.shape = [shape[0] + 6, *shape[1:]]
        return
    stride = int(graph.pick(1, 1, 2)) if min(shape[1:]) > 4 else 1
    count = 2 if join in ("Add", "Mul") else int(graph.pick(2, 3))
    features = shape[0] if stride == 1 and graph.rng.random() < 0.6 else 3
    ends, channels = [], 0
    for number in range(count):
        graph.name, graph.shape = source, list(shape)
        identity = stride == 1 and features == shape[0] and number == graph.pick(0, 1)
        if not identity:
            for _ in range(graph.rng.integers(0, 2)):
                layer(graph)
            if depth and graph.rng.random() < 0.6:
                block(graph, depth - 1)
            if graph.shape[1:] != shape[1:]:  # a block within has strided
                graph.name, graph.shape = source, list(shape)
            conv(graph, features, int(graph.pick(1, 3)), stride)
        ends.append(graph.name)
        channels += graph.shape[0]
    graph.op(join, *ends[1:], source=ends[0], **({"axis": int(graph.pick(1, -3))} if join == "Concat" else {}))
    graph.shape[0] = channels if join == "Concat" else features


def random_graph(seed):
    """A model with some blocks, and a head of a global mean and a fully connected layer."""
    rng = np.random.default_rng(seed)
    graph = Graph(seed, int(rng.choice([13, 17])), (3, 11, 12), bool(rng.random() < 0.2))
    if graph.rng.random() < 0.7:
        conv(graph, 3, 3)
    for _ in range(int(graph.pick(1, 2))):
        block(graph, 2)
        if graph.rng.random() < 0.5:
            layer(graph)
    graph.op("GlobalAveragePool")
    graph.op("Flatten")
    weight = graph.tensor(graph.normal(graph.shape[0], 4))
    graph.op("Gemm", weight, graph.tensor(graph.normal(4)))
    return graph.model()
