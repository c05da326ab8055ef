"""What tests of several folders work on: random arrays and variables, a layer's output, a small config."""

from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from configs import smoke


def draw(seed: int, shape: tuple[int, ...], shift: float = 0.0) -> np.ndarray:
    """Normal float32 numbers of mean `shift` and deviation 1."""
    return (np.random.default_rng(seed).normal(size=shape) + shift).astype(np.float32)


def random_variables(net: nn.Module, window: tuple[int, ...], channels: int, seed: int = 0) -> Any:
    """Random variables of a net or layer, drawn by NumPy: nothing is compiled, where Flax's own start compiles.

    Kernels are scaled as He et al. do; all else (biases, scales, running means and variances) is positive and away
    from zero, so that no bias hides and a misplaced window cannot go unseen.

    Args:
      net: the net or layer.
      window: (height, width) of an image.
      channels: its channels.
      seed: seed of the random numbers.

    Returns:
      float32 arrays, shaped as `init` shapes them.
    """
    rng = np.random.default_rng(seed)

    def values(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        assert leaf.dtype == np.float32
        drawn = rng.normal(size=leaf.shape)
        if leaf.ndim > 1:
            return (drawn * np.sqrt(2 / np.prod(leaf.shape[:-1]))).astype(np.float32)
        return (0.5 + 0.2 * np.abs(drawn)).astype(np.float32)

    image = jax.ShapeDtypeStruct((1, *window, channels), np.float32)
    return jax.tree.map(values, jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), image))


def make_zarr(path: Any, array: np.ndarray, version: int = 3, chunk: Any = (16, 20, 3), names: Any = None) -> Any:
    """Writes a zarr array, not compressed; `names` are those of its axes, of version 3."""
    import tensorstore

    spec = {"driver": "zarr3" if version == 3 else "zarr", "kvstore": {"driver": "file", "path": str(path)}}
    grid = {"name": "regular", "configuration": {"chunk_shape": chunk}}
    metadata: dict[str, Any] = {"shape": array.shape}
    if version == 3:
        metadata |= {"data_type": array.dtype.name, "chunk_grid": grid}
        metadata |= {"dimension_names": names} if names else {}
    else:
        metadata |= {"dtype": array.dtype.str, "chunks": chunk}
    store = tensorstore.open(spec | {"metadata": metadata, "create": True}).result()
    store[...] = array
    return store


def shapes_of(net: nn.Module, images_shape: tuple[int, ...]) -> Any:
    """The variables' shapes and dtypes, without a number: what `net.init` would make for images [N, H, W, C]."""
    images = jax.ShapeDtypeStruct(images_shape, np.float32)
    return jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), images)


def apply(layer: nn.Module, params: Any, x: Any) -> Any:
    """A layer's output for images [N, H, W, C], compiled, not in training."""
    return jax.jit(lambda params, x: layer.apply({"params": params}, x, train=False))(params, x)


def small_config(**train: Any) -> ml_collections.ConfigDict:
    """The smoke config with a smaller net, 12 steps and a checkpoint every 4; arguments are fields of `train`."""
    config = smoke.get_config()
    config.train.update({"steps": 12, "steps_per_dispatch": 5, **train})
    config.checkpoint.every_steps = 4
    config.net.options.update({"features": 4, "width": 8})
    config.eval.every_epochs = 0.4
    return config


def regularised_config(**train: Any) -> ml_collections.ConfigDict:
    """The small config with dropout (random numbers of its own) and batch normalisation (statistics of its own)."""
    config = small_config(**train)
    config.net.options.update({"dropout": 0.3, "norm": True})
    return config
