"""Files of detections: written while they are found, under another name until they are whole."""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from cnn.dense.arguments import TEXT, Kind, named
from cnn.dense.detections import geojson, tables
from cnn.dense.detections.found import Detection, as_map, class_names_of
from cnn.dense.streaming import places
from cnn.images import paths
from cnn.images.errors import StorageError
from cnn.images.facts import Georeference

SUFFIXES = (".csv", ".geojson")
COORDINATES = ("auto", "pixels", "map")
OBJECT_TYPES = ("detection", "annotation")
BATCH = 4096  # detections that are put into words at a time
PATH = Kind(lambda value: isinstance(value, str | os.PathLike), f"a path that ends in {' or '.join(SUFFIXES)}")
DETECTIONS = Kind(
    lambda value: isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping),
    "what dense.detect returned",
)


@named(path=PATH, detections=DETECTIONS, coordinates=TEXT, object_type=TEXT)
def write_detections(
    path: str | os.PathLike[str],
    detections: Iterable[Detection],
    opened_map: Any,
    *,
    coordinates: str = "auto",
    scale: float | Sequence[float] = 1,
    object_type: str = "detection",
) -> dict[str, int]:
    """Writes detections to a file, as CSV or GeoJSON by its suffix, in bounded memory however many there are.

    A CSV has a row for each: class, class_index, probability, the window y0, x0, y1, x1 (pixels, ends exclusive), its
    centre centre_y, centre_x (pixels from the corner of the first), and map_x, map_y, the centre on the Earth, where
    the image has a place there. A GeoJSON has a rectangle for each, with class and probability as QuPath and tables of
    attributes read them. It is in pixels, or, of a georeferenced image, in the image's coordinate reference system,
    which a member "crs" names as GDAL does; RFC 7946 itself knows longitude and latitude alone.

    The file appears under its name when it is whole. An earlier file of detections is replaced, no other file is.

    Args:
      path: where to, with the suffix .csv or .geojson; its folder is made.
      detections: what `dense.detect` found.
      opened_map: the map in which they were found.
      coordinates: "pixels", "map" (those on the Earth), or "auto": "map" if the image has some.
      scale: where the net saw the image in another resolution than the file's first: the size of a pixel that it saw,
        in pixels of the file, one number or (vertical, horizontal). Pixel coordinates are multiplied by it, as viewers
        show the file's largest image.
      object_type: "detection" or "annotation": what QuPath imports a GeoJSON's rectangles as. Detections are light,
        annotations can be edited.

    Returns:
      {name of a class: number of its detections}: all classes of the map, in their order, where they are known.

    Raises:
      StorageError: if the suffix is another, another file is there, the place lies in the map, coordinates on the Earth
        are asked for and not known, or the disk is full.
      TypeError: if an argument is of another kind.
      ValueError: if coordinates, scale or object_type are unknown.
    """
    what, name = as_map(opened_map, "write_detections"), paths.resolve(path)
    if coordinates not in COORDINATES or object_type not in OBJECT_TYPES:
        raise ValueError(
            f"write_detections: coordinates (={coordinates!r}) must be one of {', '.join(COORDINATES)}, and "
            f"object_type (={object_type!r}) one of {', '.join(OBJECT_TYPES)}"
        )
    factors = _factors(scale)
    where: Georeference | None = getattr(what, "georeference", None)
    if coordinates == "map" and where is None:
        raise StorageError(f"{name}: the image of this map has no place on the Earth; coordinates='pixels' needs none")
    where = None if coordinates == "pixels" else where
    check_place(name, getattr(what, "path", None))
    counts = dict.fromkeys(class_names_of(what) or (), 0)
    counted = _counted(detections, counts)
    if name.lower().endswith(".csv"):
        texts = _csv(counted, factors, where)
    else:
        texts = _geojson(counted, factors, where, object_type)
    _write(name, texts)
    return counts


def _csv(detections: Iterator[Detection], scale: tuple[float, float], where: Georeference | None) -> Iterator[str]:
    yield tables.head(where)
    while batch := list(itertools.islice(detections, BATCH)):
        yield tables.rows(batch, scale, where)


def _geojson(
    detections: Iterator[Detection], scale: tuple[float, float], where: Georeference | None, object_type: str
) -> Iterator[str]:
    yield geojson.head(where)
    before = "\n"
    while batch := list(itertools.islice(detections, BATCH)):
        yield before + ",\n".join(geojson.features(batch, scale, where, object_type))
        before = ",\n"
    yield geojson.END


def _counted(detections: Iterable[Detection], counts: dict[str, int]) -> Iterator[Detection]:
    """The detections, each counted when it passes."""
    for found in detections:
        if not isinstance(found, Detection):
            shown = " ".join(repr(found).split())[:80]
            raise TypeError(f"write_detections: detections hold {shown}, not a Detection; give what dense.detect found")
        counts[found.class_name] = counts.get(found.class_name, 0) + 1
        yield found


def _factors(scale: Any) -> tuple[float, float]:
    values: list[float] = []
    with suppress(TypeError, ValueError):
        values = [float(part) for part in (scale if isinstance(scale, Sequence) else (scale, scale))]
    if len(values) != 2 or not all(0 < part < float("inf") for part in values):
        raise ValueError(f"write_detections: scale (={scale!r}) must be a number above 0, or two")
    return values[0], values[1]


def check_place(path: str, map_path: str | None) -> None:
    """Refuses a place where no file of detections can be, before anything is computed.

    Args:
      path: path of the file.
      map_path: path of the map; None: it is in no file.

    Raises:
      StorageError: if the suffix is another, or something else is there, or it lies in the map.
    """
    if not path.lower().endswith(SUFFIXES):
        raise StorageError(f"{path}: detections are written as {' or '.join(SUFFIXES)}; name such a file")
    if map_path is not None:
        try:
            places.check_apart(map_path, path)
        except StorageError as error:
            raise StorageError(f"{path}: it lies in the map {map_path} or around it; name a file beside it") from error
    if os.path.isdir(path):
        raise StorageError(f"{path}: it is a directory; name a file")
    if os.path.lexists(path) and not _is_ours(path):
        raise StorageError(f"{path}: it is no file of detections, and is not replaced; name another, or remove it")


def _is_ours(path: str) -> bool:
    """Whether a file begins as those that are written here; one without a content is nobody's."""
    start = tables.head(None).rstrip("\n") if path.lower().endswith(".csv") else geojson.START
    try:
        with open(path, "rb") as file:
            begins = file.read(len(start))
    except OSError:
        return False
    return begins in (b"", start.encode())


def _write(path: str, texts: Iterator[str]) -> None:
    """Writes a file under another name and renames it when it is on the disk; what cannot be finished is removed."""
    part = path + ".part"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        file = open(part, "w", encoding="utf-8", newline="")  # noqa: SIM115  opening and writing have errors of their own
    except OSError as error:
        raise StorageError(f"{path}: it cannot be written: {error.strerror or error}; name another place") from error
    try:
        with file:
            for text in texts:
                _put(path, file, text)
            _put(path, file, None)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.remove(part)
        raise


def _put(path: str, file: Any, text: str | None) -> None:
    """Writes a text, or None: waits for the disk. Errors of the map, which is read meanwhile, keep their own words."""
    try:
        if text is None:
            file.flush()
            os.fsync(file.fileno())
        else:
            file.write(text)
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StorageError(f"{path}: it cannot be written: {reason}; make room, or name another place") from error
