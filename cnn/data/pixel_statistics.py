"""Mean and standard deviation of the pixels of a set, by exact histograms, which several processes add up."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.data.streamed import COUNTED, Streamed, counted


def channel_statistics(images: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, by exact histograms.

    Args:
      images: uint8 [N, H, W, C].

    Returns:
      Two tuples of C numbers, for pixels scaled to [0, 1]; a channel of one value has a deviation of 1.
    """
    return statistics_of(channel_counts(images))


def channel_counts(images: Any) -> np.ndarray:
    """How often each channel has each value.

    Args:
      images: uint8 [N, H, W, C], an array or `cnn.data.streamed.Streamed`.

    Returns:
      int64 [C, 256].
    """
    if isinstance(images, Streamed):
        return images.channel_counts()
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), COUNTED):  # in blocks: bincount makes an int64 copy of what it counts
        counts += counted(images[start : start + COUNTED])
    return counts


def statistics_of(counts: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel.

    Args:
      counts: as `channel_counts` gives them, or the sum of several.

    Returns:
      As `channel_statistics`.
    """
    values = np.arange(256) / 255.0
    weights = counts / counts.sum(axis=1, keepdims=True)  # (C, 256) float64
    mean = weights @ values
    std = np.sqrt((weights * (values[None] - mean[:, None]) ** 2).sum(axis=1))
    std = np.where(std > 0, std, 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())
