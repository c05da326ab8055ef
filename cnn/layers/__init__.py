"""The layers of classic convolutional classifiers: small Flax modules that also know their own geometry.

Images are [N, H, W, C]. Every layer is called as `layer(x, train=...)`; `train` has no default, so that nobody runs
dropout or batch statistics by accident. A layer computes in the dtype of its input (parameters are kept in float32
and cast at the call), so bfloat16 compute is a matter of casting the images.

Each layer answers three questions without any array: `output_shape(input_shape)`, `param_count(input_shape)` and
`macs(input_shape)` (multiply-adds for one image, biases not counted); shapes are without the batch axis. Windowed
layers also give `window(input_shape)`, from which receptive fields follow (see `cnn.geometry`).
"""

from cnn.layers.activations import ACTIVATIONS, Activation, PReLU
from cnn.layers.base import Layer, Shape, layers_of, named
from cnn.layers.blur import BlurPool
from cnn.layers.branches import Branches, Crop, StochasticDepth, changed, joined
from cnn.layers.gate import Gate
from cnn.layers.pointwise import LRN, BatchNorm, ChannelShuffle, Dense, Dropout, Flatten, Scale, flatten_permutation
from cnn.layers.pools import AvgPool, MaxPool, NMaxPool, Pool, SumPool
from cnn.layers.sliding import Conv, LocallyConnected, WindowLayer

__all__ = [
    "ACTIVATIONS",
    "LRN",
    "Activation",
    "AvgPool",
    "BatchNorm",
    "BlurPool",
    "Branches",
    "ChannelShuffle",
    "Conv",
    "Crop",
    "Dense",
    "Dropout",
    "Flatten",
    "Gate",
    "Layer",
    "LocallyConnected",
    "MaxPool",
    "NMaxPool",
    "PReLU",
    "Pool",
    "Scale",
    "Shape",
    "StochasticDepth",
    "SumPool",
    "WindowLayer",
    "changed",
    "flatten_permutation",
    "joined",
    "layers_of",
    "named",
]
