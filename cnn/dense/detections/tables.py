"""Detections as CSV: a row for each, as spreadsheets and pandas read it."""

import csv
import io
from collections.abc import Sequence

import numpy as np

from cnn.dense.detections import coordinates
from cnn.dense.detections.found import Detection
from cnn.images.facts import Georeference

COLUMNS = ("class", "class_index", "probability", "y0", "x0", "y1", "x1", "centre_y", "centre_x")
EARTH = ("map_x", "map_y")  # of the centre


def head(where: Georeference | None) -> str:
    """The first line: the names of the columns.

    Args:
      where: where the image lies on the Earth; None: not known.

    Returns:
      The line.
    """
    return ",".join(COLUMNS + (EARTH if where else ())) + "\n"


def rows(detections: Sequence[Detection], scale: tuple[float, float], where: Georeference | None) -> str:
    """Some detections, a line each; numbers in the fewest digits that give the same numbers back.

    Args:
      detections: the detections.
      scale: size of a pixel that the net saw, in pixels of the file.
      where: where the image lies on the Earth; None: not known.

    Returns:
      The lines.
    """
    boxes = coordinates.pixels(detections, scale)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    numbers = [*boxes.T.tolist(), *centres.T.tolist()]
    if where:
        seen = np.asarray([found[5:9] for found in detections], np.float64).reshape(-1, 4)
        y, x = (seen[:, 0] + seen[:, 2]) / 2, (seen[:, 1] + seen[:, 3]) / 2
        numbers += [values.tolist() for values in coordinates.on_earth(where, x, y)]
    probabilities = np.asarray([found.probability for found in detections], np.float32).astype(str).tolist()
    names, indices = [found.class_name for found in detections], [found.class_index for found in detections]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(names, indices, probabilities, *numbers, strict=True))
    return text.getvalue()
