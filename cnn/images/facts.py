"""What is asked of an image's file, and what the file says of its image beside the pixels."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Choice(NamedTuple):
    """Which image of a file is meant; None: the file's only one, or its largest.

    Attributes:
      page: number of the page of a TIFF, or of the picture of another file of several, counted from 0.
      level: level of a pyramid; 0 is the largest.
      select: the entry that is meant along each axis beside rows, columns and channels, e.g. {"t": 0, "z": 3}.
    """

    page: int | None = None
    level: int | None = None
    select: Mapping[str, int] | None = None


class Spacing(NamedTuple):
    """The size of a pixel.

    Attributes:
      y: height, in `unit`.
      x: width, in `unit`.
      unit: "micrometre", "metre" or "degree".
    """

    y: float
    x: float
    unit: str


class Georeference(NamedTuple):
    """Where an image lies on the Earth.

    Attributes:
      transform: (a, b, c, d, e, f): the corner (column x, row y), pixels, lies at (a x + b y + c, d x + e y + f), as
        rasterio's `Affine` has it.
      crs: the coordinate reference system as WKT, or as "EPSG:32618"; None: unknown.
      geokeys: the TIFF tags that say it, number -> (type, count, value), to be copied into a GeoTIFF; None: none.
    """

    transform: tuple[float, float, float, float, float, float]
    crs: str | None = None
    geokeys: Mapping[int, tuple[Any, int, Any]] | None = None


class Facts(NamedTuple):
    """What a file says of its image.

    Attributes:
      channel_names: a name for each channel; None: they have none.
      spacing: the size of a pixel; None: unknown.
      nodata: the value of pixels that hold nothing, in units of the file; None: all hold something.
      valid: which pixels hold something, as a mask page or an alpha channel says: bool [H, W], can be sliced as
        [rows, columns]; None: all, or `nodata` says so.
      georeference: where it lies on the Earth; None: unknown.
      levels: (height, width) of each level of the pyramid, the largest first; of a resampled image, at least that
        of the image as its file has it; (): the image is all there is.
      chosen: what of the file was read, e.g. {"page": 0, "level": 1}, where there was a choice.
      origin: (y, x) of the centre of the first pixel of the largest level, in the unit of `spacing`, as OME-Zarr's
        translation says; None: 0.
      files: paths of files beside the image's own that its pixels are read from, such as those that a .vrt names.
    """

    channel_names: tuple[str, ...] | None = None
    spacing: Spacing | None = None
    nodata: float | None = None
    valid: Any = None
    georeference: Georeference | None = None
    levels: tuple[tuple[int, int], ...] = ()
    chosen: Mapping[str, Any] = {}
    origin: tuple[float, float] | None = None
    files: tuple[str, ...] = ()


NOTHING = Facts()
