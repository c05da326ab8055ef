"""Score maps of images of different sizes, by one program."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnn.dense import tiles
from cnn.dense.grid import lay_grid, with_sight
from cnn.dense.maps import ScoreMap
from cnn.dense.passes import Variables
from cnn.dense.prepared import prepare
from cnn.nets import Net
from cnn.windows import GeometryError

MOST_OUTPUTS = 128  # scores of a tile along each axis by default


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
      stride: distance between windows, pixels; None: the native stride.
      backend, context: as `cnn.dense.score_map` takes them; "auto" is decided once, for one tile.
      tile: scores of a tile along each axis; None: as many as the largest map has, at most `MOST_OUTPUTS`.

    Returns:
      One `ScoreMap` for each image, N = 1; equal to `score_map(..., position_invariant=True)` of the image alone, to
      the bit if its map has at least `cnn.dense.tiles.LEAST_OUTPUTS` scores along each axis.

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
    prepared = prepare(net, window, channels, position_invariant=True)
    prepared.check_variables(variables)
    outputs = tile if tile is not None else [min(n, MOST_OUTPUTS) for n in lay_grid(prepared, largest, stride).size]
    first = tiles.plan_tiles(prepared, largest, stride, backend, outputs=outputs, context=context, fixed=True)
    maps = []
    for i, image in enumerate(images):
        try:
            tiling = tiles.plan_tiles(
                prepared, image.shape, stride, first.backend, outputs=first.outputs, context=context, fixed=True
            )
        except GeometryError as error:
            raise GeometryError(f"image {i}: {error}") from None
        grid = with_sight(prepared, image.shape, tiling.grid, tiling.context)
        scores = jnp.asarray(_by_tiles(variables, np.asarray(image), tiling)[None])
        maps.append(ScoreMap(scores, grid.boxes(image.shape), tiling.context, tiling.backend, grid))
    return maps


def _by_tiles(variables: Variables, image: np.ndarray, tiling: tiles.Tiling) -> np.ndarray:
    """The map of one image: [h, w, K]."""
    running = []
    for tile in tiling.tiles():
        pixels = np.zeros((*tiling.extent, image.shape[2]), image.dtype)
        pixels[tile.place] = image[tile.read]
        running.append((tile, tiles.run_tile(tiling, variables, jnp.asarray(pixels), tile.corner)))
    scores = running[0][1]
    result = np.empty((*tiling.grid.size, scores.shape[-1]), np.dtype(scores.dtype))
    for tile, scores in running:
        result[tile.write] = np.asarray(scores)[tile.keep]
    return result
