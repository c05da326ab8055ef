"""Files of many formats for tests, written by other libraries than the project's own, and what each holds."""

import json
import warnings
import zipfile
from typing import Any

import h5py
import numpy as np
import rasterio
import scipy.io
import tifffile
import zarr
from PIL import Image

RNG = np.random.default_rng(5)
RGB = np.kron(RNG.integers(0, 256, (13, 15, 3)), np.ones((3, 3, 1))).astype(np.uint8)[:37, :43]
GREY, DEEP = RGB[..., 0], (RGB.astype(np.uint16) << 4) + 5
WIDE, FLOATS = DEEP.astype(np.int32) * 70_000 - 9, (DEEP / 7).astype(np.float32)
FIRST = np.ascontiguousarray(np.moveaxis(DEEP, 2, 0))  # channels first
STACK = np.stack([np.stack([FIRST + 100 * z + 1000 * t for z in range(3)], 1) for t in range(2)])  # t, c, z, y, x
CHOSEN = np.moveaxis(STACK[1, :, 2], 0, -1)  # of it at t = 1, z = 2


def zarr_array(folder, array, **options: Any):
    """A zarr array that zarr-python writes and reads."""
    made = zarr.create_array(
        folder / "a.zarr", shape=array.shape, dtype=array.dtype, **({"chunks": (16,) * array.ndim} | options)
    )
    made[...] = array
    return folder / "a.zarr", made[...]


def holes(folder):
    """A zarr array whose chunks are not all there."""
    made = zarr.create_array(folder / "a.zarr", shape=GREY.shape, dtype="u2", chunks=(16, 16), fill_value=7)
    made[:16, 16:32] = GREY[:16, 16:32]
    return folder / "a.zarr", made[...]


def ome(folder, version, array=STACK, axes="tczyx", name="a.ome.zarr"):
    """An OME-Zarr of two levels, the second every second pixel of the first; y is in micrometres, x in nanometres."""
    datasets, path = [], folder / name
    group = zarr.create_group(path, zarr_format=2 if version == "0.4" else 3)
    for level in range(2):
        part = array[..., :: 2**level, :: 2**level]
        chunks = (2,) * (part.ndim - 2) + (32, 16)
        group.create_array(str(level), shape=part.shape, dtype=part.dtype, chunks=chunks)[...] = part
        scale = [1.0] * (part.ndim - 2) + [0.25 * 2**level, 500.0 * 2**level]
        moved = [0.0] * (part.ndim - 2) + [2.0, 3000.0]
        transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": moved}]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    kinds, units = {"t": "time", "c": "channel"}, {"y": "micrometer", "x": "nanometer"}
    named = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for entry in named:
        entry.update({"unit": units[entry["name"]]} if entry["name"] in units else {})
    image = {"version": version, "axes": named, "datasets": datasets}
    labels = ["DAPI", "GFP", "Cy5"] if "c" in axes else []
    said = {"multiscales": [image], "omero": {"channels": [{"label": label} for label in labels]}}
    group.attrs.update(said if version == "0.4" else {"ome": {"version": version, **said}})
    group.create_group("labels").attrs.update({"labels": ["cells"]})
    return path


def several(folder):
    """An OME-Zarr of two images; the second is the first one's second level."""
    path = ome(folder, "0.4", STACK[0], "czyx")
    group = zarr.open_group(path)
    image: Any = group.attrs["multiscales"]
    image = image[0]
    group.attrs["multiscales"] = [image, {**image, "name": "small", "datasets": image["datasets"][1:]}]
    return path, np.moveaxis(STACK[0, :, 1, ::2, ::2], 0, -1)


def raw2zarr(folder):
    """Two images as bioformats2raw writes them; gives the second at z = 0."""
    zarr.create_group(folder / "a.zarr", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    for i in range(2):
        ome(folder / "a.zarr", "0.4", STACK[i], "czyx", name=str(i))
    return folder / "a.zarr", np.moveaxis(STACK[1, :, 0], 0, -1)


def spelled(folder, spelling):
    """A zarr array by another name of its place: with dots, two slashes, or a link."""
    (folder / "new").mkdir()
    (folder / "link").symlink_to(".")
    return spelling.format(folder), zarr_array(folder, DEEP)[1]


def dotted(folder):
    """An OME-Zarr that names its levels "./0" and "./1"."""
    path = ome(folder, "0.4")
    group = zarr.open_group(path)
    image: Any = group.attrs["multiscales"]
    datasets = [{**one, "path": f"./{one['path']}"} for one in image[0]["datasets"]]
    group.attrs["multiscales"] = [{**image[0], "datasets": datasets}]
    return path, CHOSEN


def zipped(folder, name, deflated=False, top="", array=STACK, extra=None):
    """An OME-Zarr in a zip file, at its root or in a folder, perhaps with another file."""
    path = ome(folder, "0.5", array)
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as file:
        for one in sorted(path.rglob("*")):
            if one.is_file():
                file.write(one, f"{top}{one.relative_to(path)}")
        if extra:
            file.writestr(extra, "x")
    return folder / name


def hdf(folder, array, names=None, attributes=None, name="a.h5", **options):
    """An HDF5 file that holds one image, and a table; `names` are those of dimension scales."""
    with h5py.File(folder / name, "w") as file:
        made = file.create_dataset("deep/image", data=array, **options)
        made.attrs.update(attributes or {})
        file["deep/table"] = np.arange(5)
        for i, label in enumerate(names or ()):
            file[label] = np.arange(array.shape[i])
            file[label].make_scale(label)
            made.dims[i].attach_scale(file[label])
    return folder / name


def matlab(folder, array):
    """A file as MATLAB's save -v7.3 writes it: a block of its own before HDF5's, and arrays columns first."""
    with h5py.File(folder / "a.mat", "w", userblock_size=512) as file:
        file.create_dataset("scan", data=array.T).attrs["MATLAB_class"] = np.bytes_("uint16")
    content = bytearray((folder / "a.mat").read_bytes())
    content[:19] = b"MATLAB 7.3 MAT-file"
    (folder / "a.mat").write_bytes(content)
    return folder / "a.mat"


def tags(*keys):
    """Axes as ilastik names them."""
    return {"axistags": json.dumps({"axes": [{"key": key} for key in keys]})}


def raster(folder, name, array, driver, nodata=None, level=None, crs=None, **options):
    """A raster that GDAL writes and reads."""
    bands = array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
    shape = {"height": array.shape[0], "width": array.shape[1], "count": len(bands), "dtype": array.dtype}
    shape["transform"] = rasterio.Affine(30.0, 0.0, 500_000.0, 0.0, -20.0, 4_000_000.0)
    with rasterio.open(folder / name, "w", driver=driver, nodata=nodata, crs=crs, **shape, **options) as file:
        file.write(bands)
    with rasterio.open(folder / name, **({} if level is None else {"overview_level": level - 1})) as file:
        return folder / name, np.moveaxis(file.read(), 0, -1)


def netcdf(folder, name="a.nc"):
    """A netCDF 3 of two variables, which is no HDF5, and the first of them; GDAL turns it north up."""
    with scipy.io.netcdf_file(folder / "a.nc", "w") as file:
        for axis, size in (("y", 37), ("x", 43)):
            file.createDimension(axis, size)
            file.createVariable(axis, "f8", (axis,))[:] = np.arange(size)
        for variable in ("heat", "rain"):
            file.createVariable(variable, "i2", ("y", "x"))[:] = WIDE[..., 0] % 999
    with warnings.catch_warnings(action="ignore"), rasterio.open(f"netcdf:{folder / 'a.nc'}:heat") as file:
        found = file.read(1)
    (folder / "a.nc").rename(folder / name)
    return f"{folder / name}::heat", found


def mosaic(folder, bands=(1, 2, 3), meaning=("Red", "Green", "Blue")):
    """A .vrt of two files, one beside the other."""
    text = ""
    for band, colour in zip(bands, meaning, strict=True):
        text += f'<VRTRasterBand dataType="Byte"><ColorInterp>{colour}</ColorInterp>'
        for name, x, width in (("0.tif", 0, 20), ("1.tif", 20, 23)):
            place = f'xOff="{{}}" yOff="0" xSize="{width}" ySize="37"'
            text += f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename>'
            text += f"<SourceBand>{band}</SourceBand><SrcRect {place.format(0)}/><DstRect {place.format(x)}/>"
            text += "</SimpleSource>"
        text += "</VRTRasterBand>"
    for name, part in (("0.tif", RGB[:, :20]), ("1.tif", RGB[:, 20:])):
        raster(folder, name, part, "GTiff")
    (folder / "a.vrt").write_text(
        f'<VRTDataset rasterXSize="43" rasterYSize="37"><GeoTransform>9,2,0,9,0,-2</GeoTransform>{text}</VRTDataset>'
    )
    return folder / "a.vrt"


def transparent(folder):
    """Grey with opacity, which all pictures lay over white."""
    path = mosaic(folder, (1, 3), ("Gray", "Alpha"))
    picture = Image.merge("LA", [Image.fromarray(np.ascontiguousarray(RGB[..., i])) for i in (0, 2)]).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return path, np.asarray(Image.alpha_composite(white, picture))[..., 0]


def palette(folder):
    """A raster of numbers of colours."""
    path, _ = raster(folder, "a.img", GREY // 8, "HFA")
    colours = {i: (*(int(c) for c in colour), 255) for i, colour in enumerate(RNG.integers(0, 256, (256, 3)))}
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, colours)
    with rasterio.open(path) as file:
        return path, np.array([file.colormap(1)[i][:3] for i in range(256)], np.uint8)[file.read(1)]


def slide(folder, stored=RGB, more=0):
    """A slide as Aperio's scanners write it, of two levels, the second the first one's quarter (less `more` pixels)."""
    large = np.kron(stored, np.ones((4, 4, 1))).astype(np.uint8)
    large = np.pad(large, ((0, more), (0, more), (0, 0)), mode="edge")
    said = "Aperio Image Library v12\r\n172x148 (16x16) zlib|AppMag = 20|MPP = 0.5"
    options = dict(photometric="rgb", description=said, metadata=None, compression="zlib")
    with tifffile.TiffWriter(folder / "a.svs") as file:
        file.write(large, tile=(32, 32), **options)
        file.write(stored[::3, ::3], rowsperstrip=8, **options)
        file.write(stored, tile=(32, 32), subfiletype=0, **options)
    return folder / "a.svs", large
