"""The metadata of OME-TIFF files: names of channels, and the size of a pixel.

Source: the OME data model, schema 2016-06, https://docs.openmicroscopy.org/ome-model/.
"""

from typing import NamedTuple

from cnn.images import xml_text

# Units of length in micrometres. "pixel" and "reference frame" are none.
MICROMETRES = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "\\u00b5m": 1.0, "nm": 1e-3, "nanometer": 1e-3, "pm": 1e-6, "å": 1e-4, "mm": 1e3, "millimeter": 1e3, "cm": 1e4,
    "centimeter": 1e4, "dm": 1e5, "m": 1e6, "meter": 1e6, "km": 1e9, "in": 25400.0, "inch": 25400.0,
    "inches": 25400.0, "ft": 304800.0,
}  # fmt: skip


class OmeImage(NamedTuple):
    """One image of an OME-TIFF.

    Attributes:
      name: its name; "": none.
      size: (height, width), pixels.
      channel_names: a name for each channel, "" where it has none.
      spacing: (y, x), micrometres a pixel; None: unknown.
    """

    name: str
    size: tuple[int, int]
    channel_names: tuple[str, ...]
    spacing: tuple[float, float] | None


def ome_images(xml: str) -> list[OmeImage]:
    """The images that OME-XML describes.

    Args:
      xml: the text of the first page's description.

    Returns:
      The images in the order of the file; none if it is not well-formed.
    """
    root, found = xml_text.parse(xml), []
    if root is None:
        return []
    for image in root:
        if not image.tag.endswith("Image"):
            continue
        for pixels in image:
            if not pixels.tag.endswith("Pixels"):
                continue
            channels = [one for one in pixels if one.tag.endswith("Channel")]
            names = tuple(one.attrib.get("Name", "").strip() for one in channels)
            size = (int(pixels.attrib.get("SizeY", 0)), int(pixels.attrib.get("SizeX", 0)))
            found.append(OmeImage(image.attrib.get("Name", ""), size, names, _spacing(pixels)))
    return found


def _spacing(pixels: xml_text.Element) -> tuple[float, float] | None:
    sizes = []
    for axis in "YX":
        unit = MICROMETRES.get(pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm").lower())
        try:
            size = float(pixels.attrib.get(f"PhysicalSize{axis}", "nan"))
        except ValueError:
            return None
        if unit is None or not 0 < size < float("inf"):
            return None
        sizes.append(size * unit)
    return sizes[0], sizes[1]
