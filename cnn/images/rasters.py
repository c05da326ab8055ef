"""What GDAL reads beside GeoTIFF, through rasterio: JPEG 2000, VRT, ERDAS Imagine, ASCII grids, NITF, ...

rasterio is imported where it is used, because it is optional.
"""

import contextlib
import math
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnn.images import choices, units
from cnn.images.computed import Computed
from cnn.images.errors import StorageError
from cnn.images.extras import needed
from cnn.images.facts import Choice, Facts, Georeference, Spacing
from cnn.images.pictures import MODES
from cnn.images.views import Coloured
from cnn.windows import shape_text

SUFFIXES = (
    *(".vrt", ".jp2", ".j2k", ".jpx", ".img", ".asc", ".grd", ".ntf", ".nitf", ".dem", ".hgt", ".dt0", ".dt1", ".dt2"),
    *(".bil", ".bip", ".bsq", ".ers", ".rst", ".sdat", ".mrf", ".gtx", ".grb", ".grb2", ".grib", ".nc", ".hdf"),
)
PALETTE, ALPHA = 2, 6  # GDAL's numbers of a band's meaning


def open_raster(path: str, inside: str, channels: int | None, cache_bytes: int, choice: Choice) -> tuple[Any, Facts]:
    """Opens a raster that GDAL reads, in windows.

    Bytes of one or three bands are read as grey or RGB, whichever is asked for; palettes as their colours. Opacity says
    which pixels hold something; bytes are laid over white by it, as all pictures are.

    Args:
      path: path of the file.
      inside: name of a dataset in a file of several, such as a variable of netCDF; "" for the file's own.
      channels: number of channels that are wanted; None: those of the file.
      cache_bytes: largest memory for decoded blocks, bytes.
      choice: which `level` of its overviews.

    Returns:
      (an array-like [H, W, C]; what the file says of it).

    Raises:
      StorageError: if GDAL cannot read it, it holds several datasets, or has no such level.
    """
    needed("rasterio", path, "this format")
    name = f"{path}::{inside}" if inside else path
    choices.only(name, "a raster", choice, "level")
    where = _subdataset(path, inside) if inside else os.path.abspath(path)  # GDAL takes "http:a.img" for an address
    whole = _open(name, where)
    if whole.count and len(whole.subdatasets) > 1 and not inside:
        raise StorageError(
            f"{name}: it holds {len(whole.subdatasets)} images; save the one that is meant as a file of its own, e.g. "
            f"gdal_translate {whole.subdatasets[0]} a.tif"
        )
    if not whole.count:
        names = [one.rsplit(":", 1)[-1].lstrip("/") for one in whole.subdatasets]
        shown = ", ".join(f"{os.path.basename(path)}::{one}" for one in names[:8])
        raise StorageError(f"{name}: it holds {len(names)} datasets; name one: {shown or 'there is none'}")
    _check_files(name, path, whole)
    levels = [whole, *(_open(name, where, overview_level=i) for i in range(len(whole.overviews(1))))]
    sizes = tuple((level.height, level.width) for level in levels)
    number = choices.one_of(name, "level", choice.level or 0, [f"{h}x{w}" for h, w in sizes], "levels")
    bands = _Bands(levels[number], cache_bytes)
    array = bands.image(channels)
    recoloured = (
        array.dtype == np.uint8 and array.shape[2] in MODES and channels in MODES and channels != array.shape[2]
    )
    # Values without data are compared with those that are read: where these are others, the file's mask says it.
    stored = not recoloured and bands.as_stored(channels) and len(set(map(str, whole.nodatavals))) == 1
    unknown = whole.nodatavals == (None,) * whole.count
    transform = _transform(whole, sizes[0], sizes[number])
    facts = Facts(
        channel_names=bands.names(channels),
        spacing=_spacing(transform, whole.crs),
        nodata=whole.nodata if stored else None,
        valid=Computed(sizes[number], np.bool_, bands.holding) if bands.masked or not (stored or unknown) else None,
        georeference=transform and Georeference(transform, whole.crs.to_string() if whole.crs else None),
        levels=sizes if len(sizes) > 1 else (),
        chosen={"level": number} if len(sizes) > 1 else {},
        files=tuple(file for file in whole.files if os.path.realpath(file) != os.path.realpath(path)),
    )
    return (Coloured(array, channels or 3) if recoloured else array), facts


def _open(name: str, where: str, **options: Any) -> Any:
    import rasterio
    import rasterio.errors

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            return rasterio.open(where, **options)
        except rasterio.errors.RasterioError as error:
            raise StorageError(f"{name}: GDAL cannot read it: {error}") from error


def _check_files(name: str, path: str, dataset: Any) -> None:
    """Refuses rasters whose pixels are not all there, where GDAL reads zeros for them.

    Raises:
      StorageError: if a file that it names is missing, or an ENVI file is shorter than its header says.
    """
    for file in dataset.files:
        if not (file.startswith("/vsi") or "://" in file or os.path.exists(file)):
            raise StorageError(f"{name}: it is read from {file}, which is not there; copy that file, too")
    if dataset.driver == "ENVI":
        size = dataset.height * dataset.width * sum(_dtype(name, one).itemsize for one in dataset.dtypes)
        size += int(dataset.tags(ns="ENVI").get("header_offset", 0))
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"  # ENVI's "file compression" is gzip
        if size > os.path.getsize(path) and not compressed:
            values = shape_text((dataset.height, dataset.width, dataset.count))
            raise StorageError(
                f"{name}: its header says {values} values and {size} "
                f"bytes, the file has {os.path.getsize(path)}; take a complete copy of the file"
            )


def _subdataset(path: str, inside: str) -> str:
    """GDAL's name of a dataset in a file."""
    with _open(path, os.path.abspath(path)) as whole:
        found = [one for one in whole.subdatasets if one.rsplit(":", 1)[-1].lstrip("/") == inside.lstrip("/")]
        if len(found) != 1:
            names = ", ".join(one.rsplit(":", 1)[-1].lstrip("/") for one in whole.subdatasets[:8])
            raise StorageError(
                f"{path}: there is no dataset {inside} in it; its datasets are {names or 'only its own'}"
            )
    if found[0].lower().startswith("netcdf:"):  # GDAL takes a colon in a path for its end, unless it stands in quotes
        return f'NETCDF:"{os.path.abspath(path)}":{inside.lstrip("/")}'
    return found[0]


def _transform(
    dataset: Any, size: Sequence[int], level: Sequence[int]
) -> tuple[float, float, float, float, float, float] | None:
    """From pixels of a level to the Earth; None: the file says nothing of it."""
    if dataset.transform.is_identity:
        return None
    a, b, c, d, e, f = (float(value) for value in dataset.transform[:6])
    down, across = (whole / part for whole, part in zip(size, level, strict=True))
    return a * across, b * down, c, d * across, e * down, f


def _spacing(transform: Sequence[float] | None, crs: Any) -> Spacing | None:
    if transform is None or not crs:
        return None
    a, b, _, d, e, _ = transform
    if not crs.is_geographic and not crs.is_projected:  # of a plan or a ship: its unit is not known
        return None
    factor, unit = (1.0, "degree") if crs.is_geographic else (crs.linear_units_factor[1], "metre")
    return units.spacing(math.hypot(b, e) * factor, math.hypot(a, d) * factor, unit)


class _Bands:
    """The bands of a dataset; one thread reads at a time, as GDAL demands.

    Attributes:
      masked: whether a mask or a band of opacity says which pixels hold something.
    """

    def __init__(self, dataset: Any, cache_bytes: int) -> None:
        import rasterio.enums

        self._dataset, self._lock = dataset, threading.Lock()
        self._options: Any = {"GDAL_CACHEMAX": max(1, cache_bytes // 2**20)}  # megabytes
        self._size = (dataset.height, dataset.width)
        meant = [int(one) for one in dataset.colorinterp]
        self._alpha = [i for i, one in enumerate(meant, 1) if one == ALPHA]
        self._colours = [i for i in dataset.indexes if i not in self._alpha] or list(dataset.indexes)
        self._dtype = np.result_type(*(_dtype(dataset.name, one) for one in dataset.dtypes))
        self._palette = dataset.colormap(1) if meant == [PALETTE] and self._dtype == np.uint8 else None
        flag = rasterio.enums.MaskFlags.per_dataset
        self.masked = bool(self._alpha) or any(flag in flags for flags in dataset.mask_flag_enums)

    def image(self, channels: int | None) -> Computed:
        """The image [H, W, C]: as it is stored where that many channels are wanted, else without opacity."""
        if channels == self._dataset.count and self._palette is None:
            return Computed((*self._size, self._dataset.count), self._dtype, self.stored)
        if self._palette is not None:
            return Computed((*self._size, 3), np.uint8, self.through_palette)
        over = bool(self._alpha) and self._dtype == np.uint8 and len(self._colours) in MODES
        read = self.over_white if over else self.coloured
        return Computed((*self._size, len(self._colours)), self._dtype, read)

    def as_stored(self, channels: int | None) -> bool:
        """Whether the image has the values that are stored, and is neither laid over white nor through a palette."""
        over = bool(self._alpha) and self._dtype == np.uint8 and channels != self._dataset.count
        return self._palette is None and not over

    def names(self, channels: int | None) -> tuple[str, ...] | None:
        """The descriptions of the bands that are read, if each has one."""
        bands = self._dataset.indexes if channels == self._dataset.count else self._colours
        found = [self._dataset.descriptions[i - 1] for i in bands]
        return None if self._palette is not None or not all(found) else tuple(found)

    def stored(self, *region: int) -> np.ndarray:
        """All bands of a region [h, w, C]."""
        return self._read(list(self._dataset.indexes), region)

    def coloured(self, *region: int) -> np.ndarray:
        """All bands of a region but its opacity."""
        return self._read(self._colours, region)

    def over_white(self, *region: int) -> np.ndarray:
        """Grey or RGB bytes, laid over white by their opacity, as Pillow does it."""
        from PIL import Image

        pixels = self._read([*self._colours, self._alpha[0]], region)
        grey = pixels.shape[2] == 2
        picture = Image.fromarray(pixels[..., [0, 0, 0, 1]] if grey else pixels)
        laid = np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture))
        return laid[..., :1] if grey else laid[..., :3]

    def through_palette(self, *region: int) -> np.ndarray:
        """RGB bytes of a palette's entries; entries that it lacks are black."""
        assert self._palette is not None
        table = np.zeros((256, 3), np.uint8)
        for entry, colour in self._palette.items():
            table[entry] = colour[:3]
        return table[self._read([1], region)[..., 0]]

    def holding(self, *region: int) -> np.ndarray:
        """bool [h, w]: which pixels hold something."""
        y0, y1, x0, x1 = region
        with self._lock, _errors():
            return self._dataset.dataset_mask(window=((y0, y1), (x0, x1))) > 0

    def _read(self, bands: list[int], region: Sequence[int]) -> np.ndarray:
        import rasterio

        y0, y1, x0, x1 = region
        with self._lock, rasterio.Env(**self._options), _errors():
            pixels = self._dataset.read(bands, window=((y0, y1), (x0, x1)), out_dtype=self._dtype)
        return np.ascontiguousarray(np.moveaxis(pixels, 0, -1))


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Says what GDAL says of an error: rasterio's own words are that there was one."""
    import rasterio.errors

    try:
        yield
    except rasterio.errors.RasterioError as error:
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise OSError(str(cause).strip()) from error


def _dtype(name: str, dtype: str) -> np.dtype:
    if np.dtype(dtype).kind not in "uif":
        raise StorageError(f"{name}: values of {dtype} are no intensities; save their magnitude as an image of its own")
    return np.dtype(dtype)
