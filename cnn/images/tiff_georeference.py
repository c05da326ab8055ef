"""Where the image of a GeoTIFF lies on the Earth.

Source: OGC GeoTIFF 1.1 (19-008r4), sections 7 and B; the corner of a pixel is meant, as in GDAL and rasterio.
"""

import math
from collections.abc import Mapping
from typing import Any

from cnn.images.facts import Georeference, Spacing

SCALE, TIEPOINTS, MATRIX, DIRECTORY = 33550, 33922, 34264, 34735  # numbers of tags
SYSTEM = (DIRECTORY, 34736, 34737)  # the coordinate system: keys, and their numbers and texts
_RASTER, _GEOGRAPHIC, _PROJECTED, _UNITS = 1025, 2048, 3072, 3076  # numbers of keys in the directory
_AREA, _POINT, _USER = 1, 2, 32767  # pixel is area, pixel is point; defined by the user
_METRES = {9001: 1.0, 9002: 0.3048, 9003: 1200 / 3937, 9036: 1000.0}  # EPSG's numbers of units of length


def georeference(page: Any, path: str) -> Georeference | None:
    """Where a page lies on the Earth, as it is stored (not turned).

    Args:
      page: a `tifffile.TiffPage`.
      path: path of the file; where a coordinate system has no number in the file, rasterio, if it is installed, says
        which it is.

    Returns:
      Transform of the pixels' corners, coordinate system, and the system's tags, which say that a pixel is an area;
      None: unknown.
    """
    tags = {number: page.tags[number] for number in (SCALE, TIEPOINTS, MATRIX, *SYSTEM) if number in page.tags}
    transform = _transform(tags)
    if transform is None:
        return None
    keys = geokeys(page)
    if keys.get(_RASTER) == _POINT:  # the coordinates are those of the pixel's centre
        a, b, c, d, e, f = transform
        transform = (a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
    return Georeference(transform, _crs(keys, path), _of_corners(tags))


def _of_corners(tags: Mapping[int, Any]) -> dict[int, tuple[int, int, Any]] | None:
    """The tags of a coordinate system, as they are where the transform is that of corners: pixel is area."""
    kept = {number: (int(tags[number].dtype), tags[number].count, tags[number].value) for number in SYSTEM if
            number in tags}  # fmt: skip
    if DIRECTORY not in kept:
        return None
    kind, count, values = kept[DIRECTORY]
    values = list(values)
    for i in range(4, len(values) - 3, 4):
        if values[i] == _RASTER:
            values[i + 3] = _AREA
    kept[DIRECTORY] = (kind, count, tuple(values))
    return kept


def geokeys(page: Any) -> dict[int, int]:
    """The keys of a GeoTIFF whose values are numbers.

    Args:
      page: a `tifffile.TiffPage`.

    Returns:
      Number of the key -> value; empty: it is no GeoTIFF.
    """
    tag = page.tags.get(DIRECTORY)
    values: list[int] = [] if tag is None or not isinstance(tag.value, tuple) else list(tag.value)
    entries = [values[i : i + 4] for i in range(4, len(values) - 3, 4)]  # key, place of its value, count, value
    return {entry[0]: entry[3] for entry in entries if entry[1] == 0}


def _transform(tags: Mapping[int, Any]) -> tuple[float, float, float, float, float, float] | None:
    """The transform that the tags say, of corners if a pixel is an area."""
    scale = tags[SCALE].value if SCALE in tags else ()
    ties = tags[TIEPOINTS].value if TIEPOINTS in tags else ()
    if len(scale) >= 2 and len(ties) >= 6 and scale[0] and scale[1]:
        column, row, x, y = (float(ties[i]) for i in (0, 1, 3, 4))
        a, e = float(scale[0]), -abs(float(scale[1]))  # as GDAL, which takes no negative height
        return a, 0.0, x - column * a, 0.0, e, y - row * e
    matrix = tags[MATRIX].value if MATRIX in tags else ()
    if len(matrix) == 16:
        return matrix[0], matrix[1], matrix[3], matrix[4], matrix[5], matrix[7]
    return None


def _crs(keys: Mapping[int, int], path: str) -> str | None:
    number = keys.get(_PROJECTED, keys.get(_GEOGRAPHIC) if _PROJECTED not in keys else None)
    if number is not None and 0 < number < _USER:
        return f"EPSG:{number}"
    if not keys:
        return None
    try:
        import rasterio
        from rasterio.errors import RasterioError
    except ImportError:
        return None
    try:
        with rasterio.open(path) as file:
            return file.crs.to_wkt() if file.crs else None
    except RasterioError:
        return None


def placed(where: Georeference, stored: tuple[int, int], size: tuple[int, int], orientation: int) -> Georeference:
    """The georeference of a level of a pyramid, and of the picture once it is turned upright.

    Args:
      where: of the largest level, as it is stored.
      stored: (height, width) of that level, pixels.
      size: (height, width) of the level that is read, as it is stored.
      orientation: EXIF's, 1 to 8.

    Returns:
      The georeference of what is read.
    """
    a, b, c, d, e, f = where.transform
    down, across = stored[0] / size[0], stored[1] / size[1]
    a, b, d, e = a * across, b * down, d * across, e * down
    height, width = size
    if orientation >= 5:  # the upright picture's columns are the stored rows
        a, b, d, e, height, width = b, a, e, d, width, height
    if orientation in (2, 3, 6, 7):  # columns run backwards
        a, c, d, f = -a, c + a * width, -d, f + d * width
    if orientation in (3, 4, 7, 8):  # rows do
        b, c, e, f = -b, c + b * height, -e, f + e * height
    return where._replace(transform=(a, b, c, d, e, f))


def ground_spacing(where: Georeference, page: Any) -> Spacing | None:
    """The size of a pixel on the ground.

    Args:
      where: the georeference.
      page: a `tifffile.TiffPage`.

    Returns:
      Lengths of a pixel's sides in metres, or degrees in a geographic system; None: in an unknown unit.
    """
    a, b, _, d, e, _ = where.transform
    x, y = math.hypot(a, d), math.hypot(b, e)
    keys = geokeys(page)
    if _PROJECTED not in keys:
        return Spacing(y, x, "degree") if _GEOGRAPHIC in keys else None
    number = keys.get(_UNITS, 9001 if _in_metres(keys[_PROJECTED]) else 0)
    metres = _METRES.get(number)
    if metres is None and where.crs is not None:
        metres = _unit_of(where.crs)
    return None if metres is None else Spacing(y * metres, x * metres, "metre")


def _in_metres(number: int) -> bool:
    """Whether an EPSG number is a system in wide use that is in metres: UTM (WGS 84, ETRS89), Web Mercator."""
    return number in (3857, 3035) or 32601 <= number <= 32760 or 25828 <= number <= 25838


def _unit_of(crs: str) -> float | None:
    try:
        from rasterio.crs import CRS
        from rasterio.errors import RasterioError
    except ImportError:
        return None
    try:
        return float(CRS.from_string(crs).linear_units_factor[1])
    except RasterioError:
        return None
