"""The tags of a map's TIFF: its bands' names, what has no data, and where it lies on the Earth.

Source: OGC GeoTIFF 1.1 (19-008r4), annex B; GDAL's GTiff driver for the tags 42112 and 42113.
"""

import io
import json
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr  # nosec B406 # they write XML

from cnn.dense.streaming import map_files
from cnn.dense.streaming.sinks import coordinates
from cnn.dense.streaming.sinks.tiff_maps import GDAL_METADATA
from cnn.images.errors import StorageError

NO_DATA, SCALE, TIEPOINT, MATRIX, KEYS, KEY_NUMBERS, KEY_TEXTS = 42113, 33550, 33922, 34264, 34735, 34736, 34737
_RASTER_TYPE = 1025  # the key that says what a tiepoint means; 1: the corner of a pixel
_SHORT, _DOUBLE, _ASCII = 3, 12, 2  # TIFF's types
_CENTIMETRES = {"micrometre": 1e-4, "metre": 100.0}

Tag = tuple[int, int, int | None, Any, bool]


def metadata_tag(about: Mapping[str, Any], bands: int) -> Tag:
    """GDAL's metadata: a name for each band, and what the map says of itself.

    Args:
      about: what the map says of itself.
      bands: number of bands.

    Returns:
      An extra tag as tifffile takes it.
    """
    names = "".join(
        f'  <Item name="DESCRIPTION" sample="{k}" role="description">{_twice(map_files.band_name(about, k))}</Item>\n'
        for k in range(bands)
    )
    own = f"  <Item name={quoteattr(map_files.MARK)}>{_twice(json.dumps(dict(about)))}</Item>\n"
    text = f"<GDALMetadata>\n{names}{own}</GDALMetadata>\n"
    return GDAL_METADATA, _ASCII, None, text.encode(), True


def _twice(text: str) -> str:
    """A text as XML holds it, escaped twice, because GDAL takes it back twice."""
    return escape(escape(text))


def no_data_tag() -> Tag:
    """What marks windows without a score in floating maps, NaN."""
    return NO_DATA, _ASCII, None, b"nan", True


def place_tags(about: Mapping[str, Any]) -> list[Tag]:
    """The tags of a map whose image has a georeference.

    Args:
      about: what the map says of itself.

    Returns:
      Extra tags; none if there is no georeference.

    Raises:
      StorageError: if its coordinate system must be translated into keys and there is no rasterio for that.
    """
    reference = about.get("georeference")
    if not reference:
        return []
    a, b, c, d, e, f = coordinates.map_transform(about)
    if b == d == 0 and a > 0 > e:
        place: list[Tag] = [
            (SCALE, _DOUBLE, 3, (a, -e, 0.0), True),
            (TIEPOINT, _DOUBLE, 6, (0.0, 0.0, 0.0, c, f, 0.0), True),
        ]
    else:
        rows = (a, b, 0.0, c, d, e, 0.0, f, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
        place = [(MATRIX, _DOUBLE, 16, rows, True)]
    return place + _key_tags(reference)


def _key_tags(reference: Mapping[str, Any]) -> list[Tag]:
    """The coordinate system's keys: those of the source, or as rasterio translates its name."""
    keys = {int(number): value for number, value in (reference.get("geokeys") or {}).items()}
    if KEYS not in keys:
        keys = _translated(reference["crs"]) if reference.get("crs") else {}
    if KEYS not in keys:
        return []
    values = list(keys[KEYS][2])
    entries = [values[i : i + 4] for i in range(4, len(values), 4) if values[i] != _RASTER_TYPE]
    entries = sorted([*entries, [_RASTER_TYPE, 0, 1, 1]])  # the transform is one of corners, whatever the source's was
    directory = [*values[:3], len(entries), *(number for entry in entries for number in entry)]
    tags: list[Tag] = [(KEYS, _SHORT, len(directory), tuple(directory), True)]
    if KEY_NUMBERS in keys:
        numbers = tuple(float(x) for x in _many(keys[KEY_NUMBERS][2]))
        tags.append((KEY_NUMBERS, _DOUBLE, len(numbers), numbers, True))
    if KEY_TEXTS in keys:
        tags.append((KEY_TEXTS, _ASCII, None, str(keys[KEY_TEXTS][2]).encode("latin-1", "replace"), True))
    return tags


def _many(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


def _translated(crs: str) -> dict[int, tuple[int, int, Any]]:
    """The keys that GDAL writes for a coordinate system, read from a GeoTIFF of one pixel."""
    try:
        import rasterio
        from rasterio.crs import CRS
    except ImportError as error:
        raise StorageError(
            "a GeoTIFF of this image's coordinate system needs rasterio: python -m pip install -r "
            "requirements-images.txt; or name a .zarr"
        ) from error
    import tifffile

    options = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
    transform = rasterio.Affine(2, 0, 0, 0, -2, 0)
    with rasterio.MemoryFile() as memory:
        with memory.open(**options, crs=CRS.from_user_input(crs), transform=transform):
            pass
        with tifffile.TiffFile(io.BytesIO(memory.read())) as file:
            page: Any = file.pages[0]
            found = {number: page.tags.get(number) for number in (KEYS, KEY_NUMBERS, KEY_TEXTS)}
            return {n: (int(tag.dtype), tag.count, tag.value) for n, tag in found.items() if tag is not None}


def resolution(about: Mapping[str, Any]) -> dict[str, Any]:
    """The size of a score's cell as TIFF says it, scores a centimetre, for an image whose pixels have a known size.

    Args:
      about: what the map says of itself.

    Returns:
      Options of tifffile's `write`.
    """
    centimetres = _CENTIMETRES.get((about.get("spacing") or {}).get("unit", ""))
    if centimetres is None or about.get("georeference"):
        return {}
    down, across = (coordinates.level_scale(about, axis, 0) * centimetres for axis in range(2))
    return {"resolution": (1 / across, 1 / down), "resolutionunit": "CENTIMETER"}
