"""TIFFs that cannot be read: one line that says which part or which coding it is."""

import numpy as np
import pytest
import tifffile

from cnn.images.errors import StorageError
from cnn.images.facts import Choice
from cnn.images.files import open_file
from cnn.images.tiff_arrays import open_tiff
from tests.images import test_tiff_table as table


def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path):
    """Bytes cut off, overwritten in the pixels, and in the tags; nothing but the error of images comes of it."""
    rng = np.random.default_rng(5)
    named = {"layouts": ("big-endian tiles", "planes"), "compressions": ("JPEG in planes", "CCITT, group 4"),
             "colours": ("palette",), "axes": ("OME, five axes", "ImageJ, channels")}  # fmt: skip
    rows = [table.TABLE[group][name] for group, names in named.items() for name in names]
    refused = 0
    for number, (write, _, *choice) in enumerate(rows):
        path = tmp_path / f"{number}.tif"
        write(path)
        whole = path.read_bytes()
        for kind in (0, 1, 2) * 4:
            damaged = bytearray(whole)
            place = int(rng.integers(8, len(damaged) if kind < 2 else 300))
            damaged[place : None if kind == 0 else place + 4 * kind] = b"" if kind == 0 else rng.bytes(4 * kind)
            path.write_bytes(damaged)
            try:
                array, said = open_file(str(path), None, 2**20, *filter(None, choice))
                if np.prod(array.shape) < 10**6:
                    array[0 : array.shape[0], 0 : array.shape[1]]
            except StorageError as error:
                assert "\n" not in str(error) and f"{number}.tif" in str(error)
                refused += 1
    assert refused > 20


def test_a_compression_that_nobody_decodes_is_named(tmp_path):
    path = tmp_path / "a.tif"
    for array in (table.GREY, table.DEEP[..., 0]):
        tifffile.imwrite(path, array, photometric="minisblack", compression="zlib", metadata=None)
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages[0].tags["Compression"].overwrite(34661)
        with pytest.raises(StorageError, match=r"a\.tif: page 0 is compressed with JBIG.*no codec for it; write"):
            open_tiff(str(path), None, 2**20)


def test_values_that_are_not_read_in_parts(tmp_path):
    """YCbCr without JPEG is a picture for Pillow alone; where it is no picture, the line says what is stored."""
    path = tmp_path / "a.tif"
    colours = np.dstack([table.GREY, table.GREY, table.GREY])
    tifffile.imwrite(path, colours.astype(np.uint16), photometric="cielab", metadata=None)
    what = r"\(3 channels of uint16, CIELAB, compression NONE\)"
    with pytest.raises(StorageError, match=rf"a\.tif: cannot be read in parts {what} nor as a picture: .*; save it as"):
        open_tiff(str(path), None, 2**20)
    with pytest.raises(StorageError, match=rf"a\.tif: page 0 {what} is not read in parts; save it as grey or RGB"):
        open_tiff(str(path), None, 2**20, Choice(page=0))


def test_a_damaged_part_of_a_plane_is_named(tmp_path):
    """Strips of planes and of named channels: by page, number, rows and columns."""
    path = tmp_path / "a.tif"
    planes = np.ascontiguousarray(np.moveaxis(table.DEEP, -1, 0))
    for options, page, what in (
        (dict(photometric="rgb", planarconfig="separate"), 0, r"strip 5 \(rows 10 to 20, columns 0 to 43\)"),
        (dict(photometric="minisblack", ome=True, metadata={"axes": "CYX"}), 1, r"strip 1 \(rows 10 to 20, columns 0"),
    ):
        tifffile.imwrite(path, planes, rowsperstrip=10, compression="zlib", **options)
        with tifffile.TiffFile(path) as file:
            place = file.pages[page].dataoffsets[5 if page == 0 else 1]
        damaged = bytearray(path.read_bytes())
        damaged[place + 8 : place + 24] = b"\xff" * 16
        path.write_bytes(damaged)
        array, _ = open_tiff(str(path), None, 2**20)
        array[0:10, 0:43]
        with pytest.raises(StorageError, match=rf"a\.tif: page {page}, {what}.* is damaged: .*undamaged copy"):
            array[0:37, 3:9]
