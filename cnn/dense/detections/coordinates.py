"""Where detections lie: in pixels of the image's file, and on the Earth."""

import re
from typing import Any

import numpy as np

from cnn.images.facts import Georeference

DEGREES = "urn:ogc:def:crs:OGC:1.3:CRS84"  # longitude and latitude in WGS 84, in this order, as GDAL names them


def on_earth(where: Georeference, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of places of an image in its coordinate reference system.

    Args:
      where: where the image lies.
      x: float64, pixels from the left edge of the image.
      y: float64, pixels from its upper edge, of the same shape.

    Returns:
      The two coordinates, float64, in the order of the transform: eastward first.
    """
    a, b, c, d, e, f = where.transform
    return a * x + b * y + c, d * x + e * y + f


def is_mirrored(where: Georeference | None) -> bool:
    """Whether going around a box clockwise on the image, whose rows count down, is going so in its coordinates too."""
    a, b, _, d, e, _ = where.transform if where else (1, 0, 0, 0, 1, 0)
    return a * e - b * d < 0


def crs_name(crs: str) -> str:
    """The name of a coordinate reference system as GeoJSON's readers know it.

    Args:
      crs: "EPSG:32618", or WKT.

    Returns:
      "urn:ogc:def:crs:EPSG::32618"; for EPSG:4326, whose axes transforms have in the order of GDAL, that of longitude
      and latitude; the WKT itself where it gives no number.
    """
    code = _epsg(crs)
    if code is None:
        return crs
    return DEGREES if code == "4326" else f"urn:ogc:def:crs:EPSG::{code}"


def _epsg(crs: str) -> str | None:
    """The EPSG number of a system: that of the whole, which WKT names last, not that of one of its parts."""
    short = re.fullmatch(r"\s*EPSG:(\d+)\s*", crs, re.IGNORECASE)
    if short:
        return short[1]
    whole = re.search(r'(?:AUTHORITY|ID)\["EPSG",\s*"?(\d+)"?\]\s*\]\s*$', crs)
    return whole[1] if whole else None


def pixels(detections: Any, scale: tuple[float, float]) -> np.ndarray:
    """The boxes of detections in pixels of the image's file.

    Args:
      detections: `Detection`s.
      scale: (vertical, horizontal) size of a pixel that the net saw, in pixels of the file.

    Returns:
      [n, 4]: (y0, x0, y1, x1), ends exclusive; int64 where the scale is 1, else float64.
    """
    boxes = np.asarray([found[5:9] for found in detections], np.int64).reshape(-1, 4)
    return boxes if scale == (1, 1) else boxes * np.asarray([*scale, *scale], np.float64)
