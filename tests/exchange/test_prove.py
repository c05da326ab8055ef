"""The proof of a net that was read: differences of another program are found, and said in one line."""

import numpy as np
import pytest

from cnn import layers, nets
from cnn.exchange import prove
from cnn.exchange.classifier import Classifier, ExchangeError


def test_differences_are_found():
    """Scores that are off by a thousandth, or of another number, or sizes that the net does not take."""
    net = nets.net(layers.Conv(2, 1, use_bias=False), layers.MaxPool(2))
    variables = {"params": {"conv1": {"kernel": np.ones((1, 1, 3, 2), np.float32)}}}
    read = Classifier(net, variables, (2, 2, 3), (0.0,) * 3, (1.0,) * 3, ("a", "b"), source="net.onnx")

    def right(images: np.ndarray) -> np.ndarray:
        sums = images.sum(-1, keepdims=True).repeat(2, -1)
        n, h, w, k = sums.shape
        return sums.reshape(n, h // 2, 2, w // 2, 2, k).max((2, 4))

    proof = prove.prove(read, right, [(2, 2), (4, 6)], count=3, seed=5)
    assert proof["difference"] < 1e-6 and proof["images"] == 6 and proof["sizes"] == [[2, 2], [4, 6]]
    with pytest.raises(ExchangeError, match="net.onnx.*2x2.*differ from the file's by 1.0e-03"):
        prove.prove(read, lambda images: 1.001 * right(images))
    with pytest.raises(ExchangeError, match="12 scores|scores, the file"):
        prove.prove(read, lambda images: images)
    with pytest.raises(ExchangeError, match="does not take images of 3x3"):
        prove.prove(read, lambda images: images, [(3, 3)])
