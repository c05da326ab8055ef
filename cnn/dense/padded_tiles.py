"""One pass over a tile of a padded net, whose values beyond the image's border are replaced by padding."""

import functools
from collections.abc import Sequence

import numpy as np

from cnn.dense import dilation, fragments
from cnn.dense.grid import Grid
from cnn.dense.lattice import Fork, Slide, Step
from cnn.dense.passes import Schedule
from cnn.dense.prepared import PreparedNet
from cnn.windows import Pair


def padded_pass(
    prepared: PreparedNet, image_shape: Sequence[int], grid: Grid, backend: str, outputs: Pair
) -> tuple[Schedule, Pair]:
    """The pass over a tile of a padded net; its program serves tiles at all places of images of all sizes.

    Args:
      prepared: the classifier and its window.
      image_shape: (height, width, channels) of the image, pixels.
      grid: where the windows of the whole map lie.
      backend: "atrous" or "mpf".
      outputs: (rows, columns) of scores of a tile.

    Returns:
      The pass, and the number of pixels (vertical, horizontal) that it reads before its first window.
    """
    routes = []
    for i, axis in enumerate(prepared.axes(image_shape)):
        if backend == "atrous":
            routes.append(dilation.dilated(axis, 0, grid.step[i], outputs[i], clip=False))
        else:
            routes.append(fragments.fragmented(axis, grid.step[i], outputs[i], clip=False))
    before = (-routes[0].first, -routes[1].first)
    # The limits depend on the image and are passed when the tile is run, so that all images share one program.
    vertical, horizontal = (
        route._replace(first=0, steps=tuple(map(_without_limit, route.steps, axis.slides)))
        for route, axis in zip(routes, prepared.axes(image_shape), strict=True)
    )
    return Schedule(prepared.converted.net, vertical, horizontal), before


def _without_limit(step: Step | Fork, slide: Slide) -> Step | Fork:
    """A step whose masks have limits relative to that of the image, which is passed when a tile is run."""
    if isinstance(step, Fork):
        routes = zip(step.paths, slide.paths, strict=True)
        return Fork(
            tuple(route._replace(steps=tuple(map(_without_limit, route.steps, path.slides))) for route, path in routes)
        )
    masks = {name: mask for name in ("mask", "counted") if (mask := getattr(step, name)) is not None}
    return step._replace(**{name: mask._replace(limit=mask.limit - slide.limit) for name, mask in masks.items()})


@functools.lru_cache(maxsize=64)
def border_limits(prepared: PreparedNet, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Where the image ends for each layer (`cnn.dense.passes.Placement`).

    Args:
      prepared: the classifier and its window.
      image_shape: (height, width, channels), pixels.

    Returns:
      Largest position of each layer's input that depends on the image, pixels, int32 [layers, 2]; a layer that
      branches has a row for each layer of its paths.
    """
    both = prepared.axes(image_shape)
    return np.array([[slide.limit for slide in axis.leaves()] for axis in both], np.int32).T
