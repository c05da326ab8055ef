"""Score maps of images of different sizes, computed by one compiled program."""

from collections.abc import Iterable, Sequence

import jax
import numpy as np

from cnn.dense import tile_runs, tiles
from cnn.dense.arguments import IMAGES, named
from cnn.dense.contexts import resolve_context
from cnn.dense.grid import lay_grid, with_sight
from cnn.dense.maps import ScoreMap
from cnn.dense.passes import Variables
from cnn.dense.prepared import prepare_trained
from cnn.nets import Net
from cnn.nets.arrays_in import image_array, variables_for
from cnn.windows import GeometryError

MOST_OUTPUTS = 128  # most scores of a tile along each axis, by default


@named(images=IMAGES)
def score_maps(
    net: Net,
    variables: Variables,
    images: Iterable[jax.Array | np.ndarray],
    window: Sequence[int],
    stride: int | Sequence[int] | None = None,
    backend: str = "auto",
    *,
    context: str | None = None,
    tile: int | Sequence[int] | None = None,
    cover: bool = False,
) -> list[ScoreMap]:
    """Class scores of every window of images of different sizes; one program is compiled, not one for each size.

    Every image is cut into tiles of one shape (`cnn.dense.tiles`); a small image is a part of one tile.

    Args:
      net: a classifier.
      variables: its variables.
      images: floating [H, W, C] each, normalised as in training; the sizes may differ.
      window: (height, width) that the net was trained on, pixels.
      stride: distance between windows, pixels; None: the native stride.
      backend: "auto", "crops", "shift", "atrous" or "mpf" (see `cnn.dense.score_map`); "auto" is decided once, for one
        tile.
      context: "crop" or "image" (see `cnn.dense.score_map`); None: the context that the backend computes.
      tile: number of scores of a tile along each axis, one number or (vertical, horizontal); None: as many as the
        largest map has, at most `MOST_OUTPUTS`.
      cover: whether more windows lie flush with the bottom and right border (see `cnn.dense.score_map`); tiles at these
        borders are programs of their own.

    Returns:
      One `ScoreMap` for each image, with N = 1; an empty list if there are no images. A map equals
      `score_map(..., position_invariant=True)` of its image, to the bit on CPUs, if it has at least
      `cnn.dense.tiles.LEAST_OUTPUTS` scores along each axis (twice as many on machines of many cores,
      `cnn.dense.tiles.equals_whole`).

    Raises:
      TypeError: naming the image, if it is not floating, or no array.
      ValueError: if backend or context are unknown or do not fit each other.
      GeometryError: naming the image, if it does not fit the window and stride, or a layer cannot slide.
    """
    given = [np.asarray(image_array(image, f"score_maps: image {i}", rank=3)) for i, image in enumerate(images)]
    if not given:
        resolve_context(None, backend, context)  # a wrong name is an error for no images too
        return []
    channels = given[0].shape[-1]
    for i, image in enumerate(given):
        if image.shape[2] != channels:
            raise GeometryError(f"score_maps: image {i} has shape {image.shape}; all must be [H, W, {channels}]")
    largest = (max(image.shape[0] for image in given), max(image.shape[1] for image in given), channels)
    prepared = prepare_trained(net, variables, window, channels, position_invariant=True)
    for i, image in enumerate(given):
        try:
            lay_grid(prepared, image.shape, stride)
        except GeometryError as error:
            raise GeometryError(f"score_maps: image {i}: {error}") from None
    outputs = tile if tile is not None else [min(n, MOST_OUTPUTS) for n in lay_grid(prepared, largest, stride).size]
    first = tiles.plan_tiles(prepared, largest, stride, backend, outputs=outputs, context=context, fixed=True)
    maps = []
    for i, image in enumerate(given):
        try:
            tiling = tiles.plan_tiles(
                prepared,
                image.shape,
                stride,
                first.backend,
                outputs=first.outputs,
                context=context,
                fixed=True,
                cover=cover,
            )
        except GeometryError as error:
            raise GeometryError(f"image {i}: {error}") from None
        grid = with_sight(prepared, image.shape, tiling.grid, tiling.context)
        scores = jax.device_put(_by_tiles(variables_for(variables, image), image, tiling)[None])
        maps.append(
            ScoreMap(scores, grid.boxes(image.shape), tiling.context, tiling.backend, grid, net.output_activation)
        )
    return maps


def _by_tiles(variables: Variables, image: np.ndarray, tiling: tiles.Tiling) -> np.ndarray:
    """The map [h, w, K] of one image [H, W, C]."""
    running = []
    for tile in tiling.tiles():
        alike = tiling.like(tile)
        pixels = np.zeros((*alike.extent, image.shape[2]), image.dtype)
        pixels[tile.place] = image[tile.read]
        running.append((tile, tile_runs.run_tile(alike, variables, jax.device_put(pixels), tile.corner)))
    scores = running[0][1]
    result = np.empty((*tiling.grid.size, scores.shape[-1]), np.dtype(scores.dtype))
    for tile, scores in running:
        result[tile.write] = np.asarray(scores)[tile.keep]
    return result
