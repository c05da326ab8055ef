"""Random variables of a net, drawn by NumPy: nothing is compiled, where Flax's own start compiles for every shape."""

import jax
import numpy as np


def random_variables(net, window, channels, seed=0):
    """Kernels scaled as He et al. do, positive numbers for all else, so that a misplaced window cannot go unseen."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        values = rng.normal(size=leaf.shape)
        if leaf.ndim > 1:
            return (values * np.sqrt(2 / np.prod(leaf.shape[:-1]))).astype(np.float32)
        return (0.5 + 0.2 * np.abs(values)).astype(np.float32)

    image = jax.ShapeDtypeStruct((1, *window, channels), np.float32)
    return jax.tree.map(draw, jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), image))
