"""What a TIFF says of its image beside the pixels: names of channels, the size of a pixel, no-data, where it lies."""

import re
from typing import Any

import numpy as np

from cnn.images import xml_text
from cnn.images.facts import Georeference, Spacing
from cnn.images.ome_xml import MICROMETRES, OmeImage, ome_images
from cnn.images.tiff_georeference import ground_spacing
from cnn.images.tiff_pages import Layout

NODATA = 42113  # number of GDAL's tag
FINEST_PRINT = 20.0  # micrometres: coarser pixels (72, 96, 300, 600, 1200 dpi) are those of screens, printers, scanners
_X, _Y, _UNIT = 282, 283, 296  # numbers of TIFF's tags: pixels a unit, and the unit
_UNITS = {2: 25400.0, 3: 10000.0}  # inch and centimetre, in micrometres


def nodata(page: Any) -> float | None:
    """The value of pixels that hold nothing, as GDAL writes it.

    Args:
      page: a `tifffile.TiffPage`.

    Returns:
      The value, which may be NaN; None: there is none.
    """
    tag = page.tags.get(NODATA)
    try:
        return None if tag is None else float(str(tag.value).strip("\0 ").replace(",", "."))
    except ValueError:
        return None


def fill_value(page: Any) -> float:
    """The value of pixels whose tile or strip is not stored: no-data where the dtype has it, else 0, as in GDAL.

    Args:
      page: a `tifffile.TiffPage`.

    Returns:
      The value.
    """
    value, dtype = nodata(page), page.dtype
    if value is None or dtype is None or dtype.kind not in "iuf":
        return 0
    if dtype.kind == "f":
        return value
    limits = np.iinfo(dtype)
    return int(value) if limits.min <= value <= limits.max and value == int(value) else 0


def channel_names(file: Any, layout: Layout) -> tuple[str, ...] | None:
    """A name for each channel.

    Args:
      file: the opened `tifffile.TiffFile`.
      layout: what of the file is read.

    Returns:
      The names that OME-XML, ImageJ's labels or GDAL's band descriptions give, in the order of the channels; None:
      they have none.
    """
    one = layout.entries.get("C")
    count = layout.series.keyframe.samplesperpixel if not layout.gathered else len(layout.pages)
    names: tuple[str, ...] = ()
    if layout.series.kind == "ome":
        image = _ome_image(file, layout)
        names = image.channel_names if image is not None else ()
    elif layout.series.kind == "imagej":
        names = _labels(file, layout)
        one = None
    elif file.is_gdal:
        names = _band_descriptions(layout.series.keyframe, count)
    names = names[one : one + 1] if one is not None else names
    wanted = 1 if layout.samples is not None or one is not None else count
    return names if len(names) == wanted and all(names) and len(set(names)) == wanted else None


def _ome_image(file: Any, layout: Layout) -> OmeImage | None:
    """The image of OME-XML that a series was made of: by name and size, or by its number."""
    images = ome_images(file.ome_metadata or "")
    alike = [one for one in images if one.size == layout.sizes[0] and one.name in (layout.series.name, "")]
    alike = alike or [one for one in images if one.size == layout.sizes[0]]
    if len(alike) == 1:
        return alike[0]
    series = [i for i, one in enumerate(file.series) if any(level is layout.series for level in one.levels)]
    return images[series[0]] if series and series[0] < len(images) and len(images) == len(file.series) else None


def _labels(file: Any, layout: Layout) -> tuple[str, ...]:
    """ImageJ's labels of the planes that are the channels; "c:1/3 z:2/4 - DAPI" is DAPI."""
    labels = (file.imagej_metadata or {}).get("Labels") or []
    numbers = layout.planes
    if numbers is None:
        firsts = [page.index for page in layout.pages]
        numbers = [number - layout.series[0].index for number in firsts]
    if not labels or max(numbers) >= len(labels):
        return ()
    planes = [str(labels[number]).split("\n")[0] for number in numbers]
    return tuple(re.sub(r"^(\w:\d+/\d+\s*)+(-\s*)?", "", label).strip() for label in planes)


def _band_descriptions(page: Any, count: int) -> tuple[str, ...]:
    """GDAL's descriptions of bands, in its own metadata (tag 42112)."""
    tag = page.tags.get(42112)
    found = re.findall(r'<Item name="DESCRIPTION" sample="(\d+)" role="description">([^<]*)</Item>', str(tag.value)
                       ) if tag is not None else []  # fmt: skip
    names = {int(number): name for number, name in found}
    return tuple(names.get(i, "") for i in range(count))


def spacing(file: Any, layout: Layout, where: Georeference | None, base: Any) -> tuple[Spacing, str] | None:
    """The size of a pixel of the largest level as it is stored, and which of the file's entries says it.

    A georeference comes first, then OME-XML, ImageJ's unit, Aperio's and Philips's metadata, and last TIFF's resolution
    in inches or centimetres. Such a resolution is believed if a pixel is smaller than 20 micrometres: coarser ones (72
    to 1,200 dpi) are what programs write for screens and printers.

    Args:
      file: the opened `tifffile.TiffFile`.
      layout: what of the file is read.
      where: the georeference of the largest level; None: unknown.
      base: the page of the largest level.

    Returns:
      (spacing, where it stands); None: unknown.
    """
    if where is not None:
        ground = ground_spacing(where, base)
        return None if ground is None else (ground, "GeoTIFF")
    for read in (_ome_spacing, _imagej_spacing, _aperio_spacing, _philips_spacing, _resolution):
        found = read(file, layout, base)
        if found is not None and min(found[:2]) > 0:
            y, x, name = found
            return Spacing(y, x, "micrometre"), name
    return None


Found = tuple[float, float, str] | None


def _ome_spacing(file: Any, layout: Layout, base: Any) -> Found:
    image = _ome_image(file, layout) if layout.series.kind == "ome" or file.is_ome else None
    return None if image is None or image.spacing is None else (*image.spacing, "OME-XML")


def _imagej_spacing(file: Any, layout: Layout, base: Any) -> Found:
    metadata = file.imagej_metadata or {}
    unit = MICROMETRES.get(str(metadata.get("unit", "")).strip().lower().replace("\\xb5", "µ"))
    x, y = _per_unit(base, _X), _per_unit(base, _Y)
    return None if unit is None or not x or not y else (unit / y, unit / x, "ImageJ")


def _aperio_spacing(file: Any, layout: Layout, base: Any) -> Found:
    if not file.is_svs or base.index != 0:  # thumbnails and smaller levels repeat the slide's description
        return None
    found = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", base.description or "")
    return None if found is None else (float(found[1]), float(found[1]), "Aperio MPP")


def _philips_spacing(file: Any, layout: Layout, base: Any) -> Found:
    if not file.is_philips:
        return None
    root = xml_text.parse(file.philips_metadata or "")
    # The first is the slide's; millimetres, rows first, as in DICOM.
    for one in () if root is None else root.iter("Attribute"):
        if one.attrib.get("Name") == "DICOM_PIXEL_SPACING":
            numbers = re.findall(r"[0-9.]+(?:[eE][+-]?[0-9]+)?", one.text or "")
            return (float(numbers[0]) * 1000, float(numbers[1]) * 1000, "Philips") if len(numbers) == 2 else None
    return None


def _resolution(file: Any, layout: Layout, base: Any) -> Found:
    unit = base.tags.get(_UNIT)
    length = _UNITS.get(2 if unit is None else int(unit.value))  # inch is TIFF's default
    x, y = _per_unit(base, _X), _per_unit(base, _Y)
    if length is None or not x or not y or max(length / x, length / y) >= FINEST_PRINT:
        return None
    return length / y, length / x, "resolution tags"


def _per_unit(page: Any, number: int) -> float:
    """Pixels a unit; 0: not said."""
    tag = page.tags.get(number)
    if tag is None or not isinstance(tag.value, tuple) or not tag.value[1]:
        return 0.0
    return tag.value[0] / tag.value[1]
