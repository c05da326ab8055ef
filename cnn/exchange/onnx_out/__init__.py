"""ONNX files out: a net as a graph, plain or dense."""
