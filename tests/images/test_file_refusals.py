"""The line that each refusal of a file is: it names the file, what is wrong, and the way out."""

import io
import warnings
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from cnn.images.errors import StorageError
from cnn.images.source import open_image

EXTRA = "python -m pip install -r requirements-images.txt"
h5py, openslide, rasterio = (pytest.importorskip(name, reason=EXTRA) for name in ("h5py", "openslide", "rasterio"))
CHECKS = "python -m pip install -r requirements-checks.txt"
zarr, numcodecs = (pytest.importorskip(name, reason=CHECKS) for name in ("zarr", "numcodecs"))

from tests.images import written  # noqa: E402
from tests.images.written import DEEP, FLOATS, GREY, RGB, STACK, hdf, ome, raster, slide  # noqa: E402


def plate(folder):
    group = zarr.create_group(folder / "plate.zarr", zarr_format=2)
    group.attrs["plate"] = {"wells": [{"path": "A/1"}], "version": "0.4"}
    well = group.create_group("A/1")
    well.attrs["well"] = {"images": [{"path": "0"}], "version": "0.4"}
    ome(folder / "plate.zarr/A/1", "0.4", STACK[0, :, 0], "cyx", name="0")
    return folder / "plate.zarr"


def group_of(folder, **arrays):
    group = zarr.create_group(folder / "group.zarr")
    for name, array in arrays.items():
        group.create_array(name, data=array)
    return folder / "group.zarr"


def two(folder):
    with h5py.File(folder / "two.h5", "w") as file:
        file["a"], file["b/c"], file["line"] = RGB, GREY, np.arange(4)
        file["text"] = np.array([[b"a", b"b"]])
        file["far"] = h5py.ExternalLink("a.h5", "/deep/image")
        layout = h5py.VirtualLayout(GREY.shape, GREY.dtype)
        layout[:] = h5py.VirtualSource(str(folder / "a.h5"), "deep/image", GREY.shape)
        file.create_virtual_dataset("view", layout)
        for number, shown in enumerate(("view", "far", "raw", "gone"), 2):
            layout = h5py.VirtualLayout(GREY.shape, GREY.dtype)
            layout[:] = h5py.VirtualSource(".", shown, GREY.shape)
            file.create_virtual_dataset(f"view{number}", layout)
        file.create_dataset("raw", GREY.shape, "u1", external=[(str(folder / "raw.bin"), 0, GREY.size)])
    hdf(folder, GREY)
    return folder / "two.h5"


def write(folder, name, data):
    (folder / name).write_bytes(data)
    return folder / name


def zip_of(folder, names):
    with zipfile.ZipFile(folder / "other.zip", "w") as file:
        for name in names:
            file.writestr(name, "x")
    return folder / "other.zip"


def zip_in(folder, change):
    """A zarr in a zip file, one of whose chunks is stored in another way."""
    path = array(folder, GREY, chunks=GREY.shape)
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.write(path / "zarr.json", "zarr.json")
        change(file, path / "c/0/0", "c/0/0")
    return folder / "a.zip"


def zip_of_lzma(folder):
    return zip_in(folder, lambda file, path, name: file.write(path, name, zipfile.ZIP_LZMA))


def zip_of_two(folder):
    def twice(file, path, name):
        file.writestr(name, path.read_bytes())
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr(name, path.read_bytes())

    return zip_in(folder, twice)


def zip_of_secrets(folder):
    """Whose chunk is marked as encrypted, in both of its headers."""
    path = zip_in(folder, lambda file, path, name: file.write(path, name))
    data = bytearray(path.read_bytes())
    for size, flags in ((30, 6), (46, 8)):
        start = data.index(b"c/0/0", 0 if size == 30 else data.index(b"PK\x01\x02")) - size
        data[start + flags] |= 1
    path.write_bytes(data)
    return path


def short(path):
    path.write_bytes(path.read_bytes()[:4000])
    return path


def stack(folder):
    tifffile.imwrite(folder / "a.tif", STACK[0, 0], metadata={"axes": "ZYX"}, photometric="minisblack")
    return folder / "a.tif"


def nitf(folder):
    for part, more in ((GREY, {"NUMI": "2"}), (255 - GREY, {"APPEND_SUBDATASET": "YES"})):
        options = dict(driver="NITF", height=part.shape[0], width=part.shape[1], count=1, dtype="uint8")
        with warnings.catch_warnings(action="ignore"), rasterio.open(folder / "a.ntf", "w", **options, **more) as file:
            file.write(part, 1)
    return folder / "a.ntf"


def ring(folder, name):
    """A group that links lead back into."""
    group = zarr.create_group(folder / name)
    for link in "ab":
        (folder / name / link).symlink_to(".")
    (folder / name / "none").symlink_to("none")
    group.create_array("one", data=RGB)
    return folder / name


def saved(folder, name):
    Image.fromarray(RGB).save(folder / name)
    return folder / name


def array(folder, values=RGB, **options):
    return written.zarr_array(folder, values, **options)[0]


def damaged(path, name, text):
    (path / name).write_text(text)
    return path


def damaged_hdf5(folder):
    """Whose first chunk does not have its checksum."""
    path = hdf(folder, RGB, chunks=(16, 16, 3), fletcher32=True)
    with h5py.File(path) as file:
        offset = file["deep/image"].id.get_chunk_info(0).byte_offset
    return flipped(path, offset)


def damaged_zip(folder):
    path = written.zipped(folder, "a.zarr.zip", array=STACK.astype(np.uint8))
    return flipped(path, path.read_bytes().index(b"0/c/0/0/0/0/0") + len("0/c/0/0/0/0/0"))


def damaged_slide(folder):
    path = slide(folder)[0]
    return flipped(path, path.read_bytes().index(b"x\x9c") + 20)


def damaged_raster(folder):
    path = raster(folder, "a.jp2", np.tile(RGB, (9, 9, 1)), "JP2OpenJPEG")[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    return path


def flipped(path, offset):
    data = bytearray(path.read_bytes())
    data[offset : offset + 24] = bytes(255 - byte for byte in data[offset : offset + 24])
    path.write_bytes(data)
    return path


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


REFUSED = {}
NO_OME = '{"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"multiscales": [{"axes": []}]}}}'


def refused(name, make, message, **choice):
    """A row: `make` writes a file into a folder and gives its path; `message` is what its refusal says."""
    REFUSED[name] = (make, message, choice)


refused("page of an array", lambda f: array(f), "page .=3. is for files of several pages, and this is a zarr", page=3)
refused(
    "level of hdf5", lambda f: hdf(f, RGB), "level .=1. is for image pyramids, and this is an HDF5 dataset", level=1
)
refused("select of a picture", lambda f: saved(f, "a.png"), "select .*is for files with named axes", select={"t": 0})
refused("page of a slide", lambda f: slide(f)[0], "page .=1. .*a whole slide", page=1)
refused("page of a raster", lambda f: raster(f, "a.img", DEEP, "HFA")[0], "page .=1. .*a raster", page=1)
refused("level of npy", lambda f: write(f, "a.npy", npy(RGB)), "level .=2. .*a .npy file", level=2)
refused("several t and z", lambda f: ome(f, "0.5"),
        "2 images along t and 3 images along z; choose one with select=.'t': 0, 'z': 0. .--select=t=0,z=0")  # fmt: skip
refused("no such axis", lambda f: ome(f, "0.4"), "no axis 'q' to select along; its axes are t=2, c=3, z=3, y=37, x=43",
        select={"q": 0})  # fmt: skip
refused("no such entry", lambda f: ome(f, "0.4"), r"select of z \(=3\) must be 0 to 2", select={"t": 0, "z": 3})
refused("no number", lambda f: ome(f, "0.4"), "select of t .='b'. must be a whole number", select={"t": "b"})
refused("no number of a tiff", lambda f: stack(f), "select of z .=1.5. must be a whole number", select={"z": 1.5})
refused("no page of a tiff", lambda f: stack(f), "page .='a'. must be a whole number", page="a")
refused("no level of a tiff", lambda f: stack(f), "level .=0.5. must be a whole number", level=0.5)
refused("no names", lambda f: stack(f), "select .=3. must give an entry for each name of an axis", select=3)
refused("rows", lambda f: ome(f, "0.4"), "beside rows and columns, and y is one", select={"y": 0})
refused(
    "no such level", lambda f: ome(f, "0.4"), "level .=2. must be 0 to 1; its levels are 0: 37x43, 1: 19x22", level=2
)
refused("several images", lambda f: written.several(f)[0], "2 images .0: image 0, 1: small.; choose one with page=")
refused("several series", lambda f: written.raw2zarr(f)[0], "2 images .0: 0, 1: 1.; choose one with page=")
refused(
    "no such series", lambda f: written.raw2zarr(f)[0], "page .=2. must be 0 to 1; its images are 0: 0, 1: 1", page=2
)
refused("plate", plate, "plate.zarr: a plate of 1 wells .*name one of its arrays: A/1/0$")
refused("well", lambda f: plate(f) / "A/1", "A/1: a well of 1 fields .*name one of its arrays: 0$")
refused("group", lambda f: group_of(f, one=RGB, two=RGB), "group.zarr: a zarr group; name one of its arrays: one, two$")
refused("group of links", lambda f: ring(f, "ring.zarr"), "a zarr group; name one of its arrays: one$")
refused("level outside", lambda f: damaged(group_of(f, one=RGB), "zarr.json", NO_OME.replace(
        '"axes": []', '"axes": ["y", "x"], "datasets": [{"path": "../a.zarr"}]')),
        "group.zarr: its entry ../a.zarr lies outside of it, which is not followed; open that path")  # fmt: skip
refused(
    "zip of lzma", zip_of_lzma, "a.zip: its c/0/0 is stored in zip's method 14, which is not read; unpack it, and zip"
)
refused(
    "zip of secrets", zip_of_secrets, "a.zip: its c/0/0 is stored encrypted, which is not read; unpack it, and zip it"
)
refused(
    "zip of two", zip_of_two, "a.zip: it holds c/0/0 twice, as if written in several steps; unpack it, and zip it anew"
)
refused("no attributes", lambda f: damaged(group_of(f), "zarr.json", '{"node_type": "group", "attributes": [1]}'),
        "its zarr.json is damaged: it is no JSON object; take an undamaged copy")  # fmt: skip
refused("no multiscales", lambda f: damaged(group_of(f), "zarr.json", NO_OME.replace('{"axes": []}', "1")),
        "what it says of its image is not OME-Zarr's .*; take an undamaged copy, or name")  # fmt: skip
refused("empty group", group_of, "a zarr group; name one of its arrays: it has none")
refused("no rows", lambda f: write(f, "a.npy", npy(RGB[:0])), "a.npy: it is 0x43x3 and has no pixels; take a whole")
refused("four axes", lambda f: array(f, STACK[0]), r"0=3, 1=3, 2=37, 3=43 has 4 axes.*select=\{'0': 0\}")
refused("two axes of channels", lambda f: array(f, STACK[0], dimension_names=["c", "band", "y", "x"]),
        "channels along c and band; choose an entry along one of them, e.g. select=")  # fmt: skip
refused("filters", lambda f: array(f, DEEP, zarr_format=2, filters=[numcodecs.Delta("u2")]),
        "filters are not supported; TensorStore reads blosc")  # fmt: skip
refused("damaged metadata", lambda f: damaged(array(f), "zarr.json", "{"), "its zarr.json is damaged")
refused("damaged ome", lambda f: damaged(ome(f, "0.5"), "1/zarr.json", "[]"), "1: its zarr.json is damaged")
refused(
    "no ome", lambda f: damaged(ome(f, "0.5"), "zarr.json", NO_OME), "is not OME-Zarr's .KeyError: 'datasets'.; take"
)
refused("other zip", lambda f: zip_of(f, ["a.txt", "b/c"]), "other.zip: a zip file without zarr.json")
refused("no zip", lambda f: write(f, "a.zip", b"PK"), "a.zip: cannot be read")
refused("not in zip", lambda f: f"{written.zipped(f, 'a.zip')}::9", "there is no 9 in it; it holds 0, 1")
refused("hdf5 of several", two, "it holds 8 datasets that may be images; name one: two.h5::/a, two.h5::/b/c")
refused("not in hdf5", lambda f: f"{two(f)}::/z", "two.h5: /z is not in it; name a dataset: two.h5::/a")
refused("hdf5 group", lambda f: f"{two(f)}::b", "b is a group; name a dataset: two.h5::/b/c$")
refused("hdf5 link", lambda f: f"{two(f)}::far", "it is a link into .*a.h5, which is not followed")
refused("hdf5 view", lambda f: f"{two(f)}::view", "its values lie in .*a.h5, which is not followed")
refused("hdf5 raw", lambda f: f"{two(f)}::raw", "its values lie in .*raw.bin, which is not followed")
refused("hdf5 view of a view", lambda f: f"{two(f)}::view2", "its values lie in .*a.h5, which is not followed")
refused("hdf5 view of a link", lambda f: f"{two(f)}::view3", "its values lie in .*a.h5, which is not followed")
refused("hdf5 view of raw", lambda f: f"{two(f)}::view4", "its values lie in .*raw.bin, which is not followed")
refused("hdf5 view of nothing", lambda f: f"{two(f)}::view5", "its values lie in gone, which is not in this file")
refused("large chunks of hdf5", lambda f: hdf(f, GREY, maxshape=(None, None), chunks=(5000, 5000)),
        "a.h5: stored in chunks of 5000x5000 values, 24 MiB each, and 16 MiB may be kept; write it anew with smaller",
        cache_bytes=2**24)  # fmt: skip
refused("large chunks of zarr", lambda f: array(f, GREY, chunks=(5000, 5000)),
        "a.zarr: stored in chunks of 5000x5000 values, 24 MiB each, and 16 MiB may be kept; write it anew with smaller",
        cache_bytes=2**24)  # fmt: skip
refused("hdf5 text", lambda f: f"{two(f)}::text", "values of .S1 are no intensities")
refused("damaged hdf5", lambda f: write(f, "a.h5", hdf(f, RGB).read_bytes()[:900]), "a.h5: cannot be read")
refused("in a picture", lambda f: f"{saved(f, 'a.png')}::x", "a.png: it holds no datasets with names such as x")
refused("no slide", lambda f: write(f, "a.mrxs", b"x" * 99), "it is none of the whole slides that OpenSlide")
refused("no raster", lambda f: write(f, "a.vrt", b"<VRTDataset"), "a.vrt: GDAL cannot read it")
refused("several in nitf", lambda f: nitf(f), r"a.ntf: it holds 2 images; save the one .* gdal_translate NITF_IM:0")
refused("no source of a mosaic", lambda f: (written.mosaic(f), (f / "1.tif").unlink())[0],
        "a.vrt: it is read from .*1.tif, which is not there; copy that file, too")  # fmt: skip
refused("short envi", lambda f: short(raster(f, "a.bsq", DEEP, "ENVI")[0]),
        "a.bsq: its header says 37x43x3 values and 9546 bytes, the file has 4000; take a complete copy")  # fmt: skip
refused("complex", lambda f: raster(f, "a.img", FLOATS[..., 0].astype(np.complex64), "HFA")[0],
        "values of complex64 are no intensities")  # fmt: skip
refused("nothing at all", lambda f: write(f, "a.what", b"x" * 99), "cannot (be )?read")
refused("not there", lambda f: f"{f}/no.h5::/x", "no.h5: there is no such file")


@pytest.mark.parametrize(
    "make, choice",
    [(damaged_hdf5, {}), (damaged_zip, {"select": {"t": 0, "z": 0}}), (damaged_slide, {}), (damaged_raster, {})],
)
def test_damaged_parts(tmp_path, make, choice):
    path = make(tmp_path)
    with pytest.raises(StorageError, match=r"rows 0 to 9, columns 0 to 20 cannot be read: ") as error:
        open_image(path, **choice).read(0, 9, 0, 20)
    assert path.name in str(error.value) and "undamaged copy" in str(error.value) and "\n" not in str(error.value)
    assert "previous exception" not in str(error.value)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name, tmp_path):
    make, message, choice = REFUSED[name]
    path = str(make(tmp_path))
    with pytest.raises(StorageError, match=message) as error:
        open_image(path, **choice)
    assert "\n" not in str(error.value) and path.split("::")[0] in str(error.value)
