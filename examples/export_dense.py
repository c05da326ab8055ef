"""A net as one ONNX file that maps images of any size at stride 1. Run: python examples/export_dense.py"""

import jax
import numpy as np

from cnn import dense, nets
from cnn.exchange.classifier import Classifier
from cnn.exchange.onnx_out import write as onnx_write

net = nets.create("qa_net", num_classes=3)  # a run from cnn.checkpoint.load_run goes in the same way
variables = nets.init(net, (32, 32, 3))
half = (0.5, 0.5, 0.5)
run = Classifier(net, variables, (32, 32, 3), mean=half, std=half, class_names=("cat", "dog", "bird"))
made = onnx_write.write("net.onnx", run, dense=True, stride=1)
print(f"{made.path}: images of {made.metadata['cnn.sizes']}, one score each {made.metadata['cnn.stride']} pixels")

images = jax.random.normal(jax.random.key(0), (2, 40, 50, 3))
expected = dense.score_map(net, variables, images, window=(32, 32), stride=1).scores
try:
    import onnxruntime
except ModuleNotFoundError:
    print("pip install onnxruntime runs it here")
else:
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    maps = np.asarray(session.run(["scores"], {"images": np.asarray(images.transpose(0, 3, 1, 2))})[0])
    scores = maps.transpose(0, 2, 3, 1)
    print(f"map {scores.shape} by onnxruntime; largest difference {abs(scores - expected).max():.1e}")
