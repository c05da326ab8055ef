"""Score maps of images of different sizes, by one program."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnn import geometry
from cnn.dense import grid as grids
from cnn.dense import tiles
from cnn.dense.maps import ScoreMap
from cnn.dense.passes import Variables
from cnn.nets import Net
from cnn.windows import GeometryError

MOST_OUTPUTS = 128  # scores of a tile along each axis, if nothing is asked for


def score_maps(
    net: Net,
    variables: Variables,
    images: Sequence[jax.Array | np.ndarray],
    window: Sequence[int],
    stride: int | Sequence[int] | None = None,
    backend: str = "auto",
    *,
    context: str | None = None,
    tile: int | Sequence[int] | None = None,
) -> list[ScoreMap]:
    """Class scores of every window of images of different sizes, compiled once and not once for each size.

    Every image is cut into tiles of one shape (`cnn.dense.tiles`); a small image is a part of one tile.

    Args:
      net: a classifier.
      variables: its variables.
      images: each [H, W, C], floating, normalised as in training.
      window: (height, width) that the net was trained on, pixels.
      stride: between windows, pixels; None: the net's own.
      backend, context: as `cnn.dense.score_map` takes them; "auto" is decided once, for one tile.
      tile: scores of a tile along each axis; None: those of the largest map, at most `MOST_OUTPUTS`.

    Returns:
      One `ScoreMap` for each image, N = 1; equal to `score_map` of the image alone, to the bit
      if its map has some `cnn.dense.tiles.LEAST_OUTPUTS` scores along each axis.

    Raises:
      ValueError: if there are no images, or for backend and context as `score_map`.
      GeometryError: as `score_map`, naming the image.
    """
    if not len(images):
        raise ValueError("score_maps: there are no images")
    channels = images[0].shape[-1]
    for i, image in enumerate(images):
        if image.ndim != 3 or image.shape[2] != channels:
            raise GeometryError(f"score_maps: image {i} has shape {image.shape}; all must be [H, W, {channels}]")
    largest = (max(image.shape[0] for image in images), max(image.shape[1] for image in images), channels)
    grid = grids.plan_grid(net, largest, window, stride)
    geometry.table(net, (*grid.window, channels), variables)  # raises if the kernels are of another window
    outputs = tile if tile is not None else [min(n, MOST_OUTPUTS) for n in grid.size]
    first = tiles.plan_tiles(net, largest, window, stride, backend, outputs=outputs, context=context, fixed=True)
    maps = []
    for i, image in enumerate(images):
        try:
            tiling = tiles.plan_tiles(
                net, image.shape, window, stride, first.backend, outputs=first.outputs, context=context, fixed=True
            )
        except GeometryError as error:
            raise GeometryError(f"image {i}: {error}") from None
        own = grids.plan_grid(net, image.shape, window, stride)
        boxes = grids.boxes(net, image.shape, own, tiling.context)
        scores = jnp.asarray(_by_tiles(net, variables, image, tiling)[None])
        maps.append(ScoreMap(scores, boxes, tiling.context, tiling.backend))
    return maps


def _by_tiles(net: Net, variables: Variables, image: jax.Array | np.ndarray, tiling: tiles.Tiling) -> np.ndarray:
    """The map of one image: [h, w, K]."""
    pixels = np.asarray(image)
    parts = []
    for index in range(math.prod(tiling.counts)):
        i, j = divmod(index, tiling.counts[1])
        corner = tiling.corner(i, j)
        region = np.zeros((*tiling.extent, pixels.shape[2]), pixels.dtype)
        low = [max(c, 0) for c in corner]
        high = [min(c + e, n) for c, e, n in zip(corner, tiling.extent, pixels.shape, strict=False)]
        inside = [slice(a - c, b - c) for a, b, c in zip(low, high, corner, strict=True)]
        region[inside[0], inside[1]] = pixels[low[0] : high[0], low[1] : high[1]]
        parts.append(((i, j), tiles.run_tile(net, tiling, variables, jnp.asarray(region), corner)))
    found: np.ndarray | None = None
    for (i, j), scores in parts:
        if found is None:
            found = np.empty((*tiling.size, scores.shape[-1]), np.dtype(scores.dtype))
        place = found[i * tiling.outputs[0] :, j * tiling.outputs[1] :][: tiling.outputs[0], : tiling.outputs[1]]
        place[:] = np.asarray(scores)[: place.shape[0], : place.shape[1]]
    assert found is not None
    return found
