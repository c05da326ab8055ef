"""Views of an image whose class scores are averaged when a split is scored: its mirror image, and shifted ones."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from cnn.runs.config import Config


def of_config(config: Config) -> dict[str, Any]:
    """The views that a config asks for, as `mean_of_views` takes them and a result keeps them.

    Args:
      config: config of a run; eval.mirror and eval.shift are read, absent in configs of older runs.

    Returns:
      {"mirror": True, "shift": 1}; without what is not asked for.
    """
    fields = {name: config.eval.get(name, 0) for name in ("mirror", "shift")}
    return {name: value for name, value in fields.items() if value}


def check_shift(shift: int, size: tuple[int, int]) -> None:
    """Refuses a shift that leaves nothing of the image.

    Args:
      shift: pixels.
      size: (H, W) of the images.

    Raises:
      ValueError: if it is not smaller than both sides.
    """
    if shift >= min(size):
        raise ValueError(
            f"eval.shift (={shift}) must be smaller than the images, which are {size[0]}x{size[1]} pixels; 1 is usual"
        )


def said(result: Mapping[str, Any]) -> str:
    """What the scores in a result are of.

    Args:
      result: of a run, or its accuracies; has "mirror" and "shift" where an image has such views.

    Returns:
      "each image and its mirror image"; "" where an image is scored by itself.
    """
    shift = result.get("shift", 0)
    shifted = f"shifted by {shift} pixel{'s' if shift > 1 else ''}"
    if not shift:
        return "each image and its mirror image" if result.get("mirror") else ""
    return f"each image, {'its mirror image, and both' if result.get('mirror') else 'and the same'} {shifted}"


def mean_of_views(
    score: Callable[[jax.Array], jax.Array], images: jax.Array, mirror: bool = False, shift: int = 0
) -> jax.Array:
    """Class scores of images, averaged over views of each.

    Args:
      score: the scores [N, K] of images [N, H, W, C].
      images: [N, H, W, C].
      mirror: whether each view is seen mirrored left to right too, with the same weight.
      shift: pixels by which an image is shifted, once up and to the left and once down and to the right; what comes in
        at the border are its reflected pixels. Each of the two has a quarter of the weight, the image itself a half.
        0: neither.

    Returns:
      [N, K].

    Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), with a shift of 1.
    """

    def both_ways(view: jax.Array) -> jax.Array:
        return (score(view) + score(view[:, :, ::-1])) / 2 if mirror else score(view)

    if not shift:
        return both_ways(images)
    height, width = images.shape[1:3]
    sides = (shift, shift)
    wide = jnp.pad(images, ((0, 0), sides, sides, (0, 0)), mode="reflect")
    shifted = wide[:, -height:, -width:], wide[:, :height, :width]
    return both_ways(images) / 2 + (both_ways(shifted[0]) + both_ways(shifted[1])) / 4
