"""Streams over a small image, for the tests of streams: net, image, constants, and what a sink holds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cnn import nets
from cnn.dense.streaming.stream_map import stream
from cnn.images.files import open_file
from cnn.layers import Activation, Conv, Dense, Flatten, MaxPool

LEAST_OUTPUTS = 8  # many tiles of a small image; enough rows for these nets' products

NET = nets.net([Conv(10, 5), Activation("relu"), MaxPool(2), Conv(12, 3), Activation("relu")], [Flatten(), Dense(5)])
PADDED = nets.net([Conv(10, 3, padding="same"), MaxPool(2), Conv(12, 3, padding=1)], [Flatten(), Dense(5)])
WINDOW = (16, 16)
PIXELS = np.random.default_rng(3).integers(0, 256, (98, 121, 3), np.uint8)
NORMALISED = (PIXELS / 255 - 0.5).astype(np.float32)
CONSTANTS = {"mean": (0.5, 0.4, 0.6), "std": (0.2, 0.3, 0.25)}


@functools.cache
def make(net, seed=0):
    """Variables with biases that are not zero."""
    variables = jax.jit(lambda key: net.init(key, jnp.zeros((1, *WINDOW, 3)), train=False))(jax.random.key(seed))
    return jax.tree.map(lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape), variables)


def run(sink, source=PIXELS, net=NET, seed=0, **options):
    options = {"window": WINDOW, "tile": 16, "progress": False, **(CONSTANTS if source is PIXELS else {}), **options}
    return stream(net, make(net, seed), source, sink, **options)


class Watched:
    """PIXELS; before each read it calls `see` with how many tiles were read."""

    shape, dtype, reads = PIXELS.shape, PIXELS.dtype, 0

    def __init__(self, see):
        self._see = see

    def __getitem__(self, region):
        self.reads += 1
        self._see(self.reads)
        return PIXELS[region]


def contents(path):
    """Every file's bytes, of a file or a directory, and of the journal beside it."""
    files = [file for file in path.rglob("*") if file.is_file()] or [path]
    inside = {str(file.relative_to(path)): file.read_bytes() for file in files}
    return inside | {"journal": journal_of(path).read_bytes()}


def journal_of(path):
    return path.with_name(f"{path.name}.progress.json")


def load(path):
    return np.load(path) if str(path).endswith(".npy") else np.asarray(open_file(str(path), None, 0)[0][:, :])
