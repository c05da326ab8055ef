"""Writes with Keras the net of `tests/exchange/test_one_net.py`: python one_net_in_keras.py WEIGHTS.npz NET.keras."""

import os
import sys

import numpy as np

os.environ["KERAS_BACKEND"] = "jax"
import keras  # noqa: E402  the backend is chosen when it is imported

weights = np.load(sys.argv[1])
model = keras.Sequential(
    [
        keras.Input((20, 16, 3)),
        keras.layers.Conv2D(6, 3, activation="relu", name="conv1"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Conv2D(8, 3, activation="relu", name="conv2"),
        keras.layers.Flatten(),
        keras.layers.Dense(4, activation="softmax", name="fc1"),
    ]
)
# Keras lays kernels out as [kh, kw, in, out], and flattens pixel by pixel.
for name in ("conv1", "conv2"):
    model.get_layer(name).set_weights([weights[f"{name}.weight"].transpose(2, 3, 1, 0), weights[f"{name}.bias"]])
matrix = weights["fc1.weight"].reshape(4, 8, 7, 5).transpose(2, 3, 1, 0).reshape(-1, 4)
model.get_layer("fc1").set_weights([matrix, weights["fc1.bias"]])
model.save(sys.argv[2])
