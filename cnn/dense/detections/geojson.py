"""Detections as GeoJSON: a rectangle for each, as QuPath, QGIS and GDAL read it.

In pixels, as QuPath takes them, or in the coordinates of a georeferenced image. The standard knows longitude and
latitude in WGS 84 alone; as GDAL does, other systems are named by a member "crs", which the standard's first version
had.

Source: RFC 7946; GDAL, driver GeoJSON; QuPath, "Importing and exporting", GeoJSON.
"""

import colorsys
import functools
import json
from collections.abc import Sequence

import numpy as np

from cnn.dense.detections import coordinates
from cnn.dense.detections.found import Detection
from cnn.images.facts import Georeference

GENERATOR = "cnn.dense.write_detections"
START = f'{{"type": "FeatureCollection", "generator": "{GENERATOR}", '  # by which a file is known as ours
END = "\n]}\n"
GOLDEN = 0.618033988749895  # of the circle of hues: neighbouring classes look unlike
CORNERS = ((0, 1), (0, 3), (2, 3), (2, 1), (0, 1))  # (y, x) among (y0, x0, y1, x1): right first, counterclockwise


def head(where: Georeference | None) -> str:
    """The beginning of a file, up to its first feature.

    Args:
      where: where the image lies on the Earth; None: coordinates are pixels.

    Returns:
      The text.
    """
    named = ""
    if where and where.crs:
        crs = {"type": "name", "properties": {"name": coordinates.crs_name(where.crs)}}
        named = f'"crs": {json.dumps(crs)}, '
    return f'{START}{named}"features": ['


def features(
    detections: Sequence[Detection], scale: tuple[float, float], where: Georeference | None, object_type: str
) -> list[str]:
    """Some detections, a feature each.

    Args:
      detections: the detections.
      scale: size of a pixel that the net saw, in pixels of the file.
      where: where the image lies on the Earth; None: coordinates are pixels.
      object_type: "detection" or "annotation", which QuPath tells apart.

    Returns:
      The features' texts, without what separates them.
    """
    boxes = coordinates.pixels(detections, (1, 1) if where else scale)
    order = CORNERS[::-1] if coordinates.is_mirrored(where) else CORNERS
    y, x = boxes[:, [at for at, _ in order]], boxes[:, [at for _, at in order]]
    if where:
        x, y = coordinates.on_earth(where, x.astype(np.float64), y.astype(np.float64))
    rings = np.stack([x, y], axis=-1).tolist()
    probabilities = np.asarray([found.probability for found in detections], np.float32).astype(str).tolist()
    texts = []
    for found, ring, probability in zip(detections, rings, probabilities, strict=True):
        properties = _properties(found.class_index, found.class_name, object_type)
        texts.append(
            f'{{"type": "Feature", "geometry": {{"type": "Polygon", "coordinates": [{ring}]}}, "properties": '
            f'{{{properties}, "probability": {probability}, "measurements": {{"probability": {probability}}}}}}}'
        )
    return texts


@functools.lru_cache(maxsize=4096)
def _properties(index: int, name: str, object_type: str) -> str:
    """What features of a class have in common: QuPath's names, and flat ones for tables of attributes."""
    colour = [round(255 * part) for part in colorsys.hsv_to_rgb(index * GOLDEN % 1, 0.75, 0.95)]
    common = {
        "objectType": object_type,
        "classification": {"name": name, "color": colour},
        "class": name,
        "class_index": index,
    }
    return json.dumps(common, ensure_ascii=False)[1:-1]
