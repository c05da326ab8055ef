"""ONNX files in: what a graph means, as a chain of layers."""
