"""A small net and pictures of noise that the protocol grid is tested on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cnn import nets
from cnn.layers import Activation, Conv, Dense, Flatten, MaxPool
from cnn.protocols import labelled_images, methods
from cnn.protocols.vgg_options import Options
from cnn.runs.checkpoint import Run

WINDOW, CLASSES, MEAN, STD = (8, 8, 3), 7, (0.3, 0.4, 0.5), (0.5, 0.4, 0.3)
SIZES = [(20, 20), (20, 30), (25, 20), (20, 28), (20, 30), (20, 20), (30, 42)]
SCALES = (8, 11)
ALL = methods.AVERAGES


@functools.cache
def make_run(padding, classes=CLASSES):
    net = nets.net(Conv(4, 3, padding=padding), Activation("relu"), MaxPool(2), Flatten(), Dense(classes))
    variables = jax.jit(functools.partial(net.init, train=False))(jax.random.key(0), jnp.zeros((1, *WINDOW)))
    names = tuple(map(str, range(classes)))
    config = ConfigDict({"net": {"name": "small"}, "data": {"name": "made up"}})
    return Run(net, variables, config, MEAN, STD, names, WINDOW, "", 0)


def make_pictures(sizes=SIZES, classes=CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    return labelled_images.Pictures("noise", sizes, rng.integers(0, classes, len(sizes)), lambda index: arrays[index])


OPTIONS = Options(SCALES, True, 3, (1,), ALL, batch_size=3, timing_images=2)
