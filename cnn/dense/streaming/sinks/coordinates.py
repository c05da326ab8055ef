"""Where the scores of a map lie on its image: a score at the centre of its window, in three conventions.

- On the image: corners of pixels at whole numbers, as boxes of windows have them.
- In an OME-Zarr: the centre of the image's first pixel at its origin, by default 0, in units of the image's pixel size,
  or, where that is not known, in pixels of the file's largest image, which viewers count in.
- On the Earth: an affine transform of corners, as GDAL and rasterio have it; what a raster calls a pixel is a score.
"""

from collections.abc import Mapping
from typing import Any

Transform = tuple[float, float, float, float, float, float]


def first_edge(about: Mapping[str, Any], axis: int) -> float:
    """Where the cell of the first score begins: cells are as wide as the stride, around the centres of windows.

    Args:
      about: what the map says of itself (`cnn.dense.streaming.about`).
      axis: 0 for rows, 1 for columns.

    Returns:
      Place, pixels of the image from its border; negative if the stride is larger than the window.
    """
    return about["offset"][axis] + (about["window"][axis] - about["stride"][axis]) / 2


def map_transform(about: Mapping[str, Any]) -> Transform:
    """The transform of a map: from (column, row) of corners of scores to where they lie.

    Args:
      about: what the map says of itself.

    Returns:
      (a, b, c, d, e, f), as `cnn.images.facts.Georeference` has it: on the Earth, if the image has a georeference, else
      in pixels of the image.
    """
    a, b, c, d, e, f = (about.get("georeference") or {}).get("transform") or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    (down, across), top, left = about["stride"], first_edge(about, 0), first_edge(about, 1)
    return a * across, b * down, a * left + b * top + c, d * across, e * down, d * left + e * top + f


def pixel_size(about: Mapping[str, Any]) -> tuple[float, float]:
    """Height and width of the image's pixels in its own unit; where that is not known, in the file's largest pixels."""
    spacing = about.get("spacing")
    if spacing:
        return float(spacing["y"]), float(spacing["x"])
    down, across = about.get("reduced") or (1.0, 1.0)
    return float(down), float(across)


def level_scale(about: Mapping[str, Any], axis: int, level: int) -> float:
    """Distance of neighbouring scores of a pyramid's level, in units of the image's pixel size."""
    return pixel_size(about)[axis] * about["stride"][axis] * 2**level


def level_translation(about: Mapping[str, Any], axis: int, level: int) -> float:
    """Where the first score of a pyramid's level lies, as the image's own pixels do.

    Args:
      about: what the map says of itself; its "reduced" says how many pixels of the file's largest image a pixel of the
        image is wide, whose own centre lies beside that of the largest image's first pixel.
      axis: 0 for rows, 1 for columns.
      level: the level; 0 has all scores, each further one half as many along each axis.

    Returns:
      Place, in units of the image's pixel size.
    """
    reduced = (about.get("reduced") or (1.0, 1.0))[axis]
    # From the image's border: the first cell's edge, and half a cell of this level; less half a pixel of the largest.
    centre = first_edge(about, axis) + about["stride"][axis] * 2**level / 2
    origin = (about.get("origin") or (0.0, 0.0))[axis]
    return pixel_size(about)[axis] * (centre - 0.5 / reduced) + origin
