"""Activations with the values of their fields that tests try."""

import numpy as np

from cnn import layers

FIELDS = {
    "leaky_relu": [dict(slope=0.5), dict(slope=-0.1)],
    "thresholded_relu": [dict(slope=0.4)],
    "elu": [dict(slope=2)],
    "celu": [dict(slope=0.5)],
    "selu": [dict(slope=2.0, scale=3.0)],
    "silu": [dict(slope=1.702)],
    "hard_sigmoid": [dict(slope=0.2), dict(offset=0.4, slope=np.float32(0.25))],
    "clip": [dict(low=-1, high=2.5), dict(low=0.5), dict(high=-0.2)],
}


def all_activations():
    """Every function with its defaults, where it has them, and with other values of its fields."""
    for function in layers.ACTIVATIONS:
        for fields in [*([{}] if function != "clip" else []), *FIELDS.get(function, [])]:
            yield layers.Activation(function, **fields), fields
