"""ONNX files in: what a graph means, as layers one after another, and blocks of them."""
