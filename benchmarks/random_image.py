"""A random image without limits, made part by part, and the memory of the process that reads it."""

import resource
import sys

import numpy as np

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # of its training images


def random_pixels(height: int, width: int, seed: int, y: int, x: int) -> np.ndarray:
    """A part of an unlimited image: smooth random content plus noise; depends on its place and the seed only.

    Args:
      height: height of the part, pixels.
      width: width of the part, pixels.
      seed: seed of the image.
      y: index of the part among the rows of parts.
      x: index of the part among the columns of parts.

    Returns:
      uint8 [height, width, 3].
    """
    rng = np.random.default_rng((seed, y, x))
    rows, columns = np.linspace(0, 1, height, dtype=np.float32), np.linspace(0, 1, width, dtype=np.float32)
    waves = rng.uniform(1, 12, (2, 3, 4)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, (2, 3, 4)).astype(np.float32)
    amplitudes = rng.uniform(6, 30, (3, 4)).astype(np.float32)
    vertical = (
        np.sin(2 * np.pi * waves[0][..., None] * rows + phases[0][..., None]) * amplitudes[..., None]
    )  # [3, 4, H]
    horizontal = np.sin(2 * np.pi * waves[1][..., None] * columns + phases[1][..., None])  # [3, 4, W]
    smooth = np.einsum("cih,ciw->hwc", vertical, horizontal, optimize=True)
    noise = rng.integers(0, 48, (height, width, 3), np.uint8)
    return np.clip(smooth + 104 + noise, 0, 255).astype(np.uint8)


def peak_bytes() -> int:
    """Peak resident memory of this process so far.

    Returns:
      Memory, bytes.
    """
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
