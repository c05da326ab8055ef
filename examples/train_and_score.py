"""Trains a net on handwritten digits and finds one digit on a larger page. Run: python examples/train_and_score.py"""

import jax.numpy as jnp
import numpy as np

from cnn import checkpoint, data, dense, train
from cnn.runs import defaults

config = defaults.get_config()
config.net.name, config.train.steps, config.train.background = "qa_net", 300, 0.5
train.train_and_evaluate(config, "runs/example")

run = checkpoint.load_run("runs/example")
digits = data.load("digits").test
page = np.zeros((1, 80, 96, 1), np.uint8)
page[0, 30:62, 50:82] = digits.images[0]

scores = dense.score_map(
    run.net, run.variables, jnp.asarray(data.normalise(page, run.mean, run.std)), (32, 32), stride=2
)
best = dense.best_boxes(scores)
print(f"best window {best.boxes[0].tolist()}: {run.class_names[best.classes[0]]}; the digit is a {digits.labels[0]}")
