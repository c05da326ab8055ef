"""Pictures in files by value: modes, transparency, orientation, resizing, and every error."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from cnn import data, dense
from cnn.data import image_files
from cnn.images import pictures


def gradient(height, width):
    """uint8 [height, width, 3] with all rows and columns different."""
    y, x = np.mgrid[:height, :width]
    channels = [y * 255 // height, x * 255 // width, (x + y) * 255 // (height + width)]
    return np.stack(channels, -1).astype(np.uint8)


def one_colour(mode, path, **options):
    """Saves a 20x12 picture of one colour in a mode, and says what RGB it must be read as."""
    red, grey = (200, 40, 10), 77
    colours = {
        "RGB": (red, red),
        "RGBA": ((*red, 0), (255, 255, 255)),  # transparent: what lies under it is seen
        "L": (grey, (grey,) * 3),
        "LA": ((grey, 255), (grey,) * 3),
        "1": (1, (255,) * 3),
        "CMYK": ((0, 255, 255, 0), (255, 0, 0)),
        "I;16": (77 * 257, (77,) * 3),
        "P": (3, red),
    }
    colour, want = colours[mode]
    picture = Image.new(mode, (20, 12), colour)
    if mode == "P":
        picture.putpalette([0, 0, 0] * 3 + list(red))
    picture.save(path, **options)
    return want


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "1", "I;16", "P", "CMYK"])
def test_pictures_of_any_mode(mode, tmp_path):
    suffix = ".jpg" if mode == "CMYK" else ".png"
    want = one_colour(mode, tmp_path / f"a{suffix}")
    got = data.load_images([tmp_path / f"a{suffix}"], 8, 3)
    assert got.shape == (1, 8, 8, 3) and got.dtype == np.uint8
    assert np.abs(got.astype(int) - want).max() <= (3 if mode == "CMYK" else 0)  # JPEG rounds
    grey = data.load_images([tmp_path / f"a{suffix}"], 8, 1)
    assert grey.shape == (1, 8, 8, 1)
    assert np.abs(grey.astype(int) - np.dot(want, [0.299, 0.587, 0.114])).max() <= 3


def test_half_transparent_and_palette_transparency_show_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 51)).save(tmp_path / "a.png")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30])
    palette.save(tmp_path / "b.png", transparency=0)
    got = data.load_images([tmp_path / "a.png", tmp_path / "b.png"], 4, 3)
    assert np.unique(got[0]).tolist() == [204] and np.unique(got[1]).tolist() == [255]


def test_exif_orientation_is_applied(tmp_path):
    upright = gradient(16, 16)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me clockwise to show me"
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(data.load_images([str(tmp_path / "a.png")], 16, 3)[0], upright)


def test_a_picture_with_invalid_exif_fields_is_read_by_its_orientation(tmp_path):
    """As cameras write: XResolution is a signed fraction with denominator 0, which cannot be written anew."""
    upright = gradient(16, 24)
    fields = [(0x0112, 3, 1, struct.pack(">HH", 6, 0)), (0x011A, 10, 1, struct.pack(">I", 38))]
    tags = b"".join(struct.pack(">HHI", tag, kind, count) + value for tag, kind, count, value in fields)
    header = b"MM\x00*" + struct.pack(">IH", 8, len(fields)) + tags + struct.pack(">I", 0)
    exif = b"Exif\x00\x00" + header + struct.pack(">ii", -1, 0)
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    assert np.abs(np.asarray(pictures.decode(tmp_path / "a.jpg", 3)).astype(int) - upright).max() <= 4
    assert pictures.picture_size(tmp_path / "a.jpg") == (16, 24)
    Image.fromarray(upright).save(tmp_path / "b.png", exif=b"Exif\x00\x00MM\x00*broken")
    assert np.array_equal(pictures.decode(tmp_path / "b.png", 3), upright)


def test_a_large_picture_is_read_if_it_fits_in_memory(tmp_path, monkeypatch):
    """Pillow's limit is against hostile uploads; it is there again afterwards, whatever threads were reading."""
    files = [tmp_path / f"{i}.png" for i in range(8)]
    for path in files:
        Image.fromarray(gradient(30, 20)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert data.load_images(files, (30, 20), 3).shape == (8, 30, 20, 3)
    assert pictures.picture_size(files[0]) == (30, 20) and Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
    with pytest.raises(data.DataError, match=r"0\.png .*20x30x3|0\.png .*30x20x3 is .* GiB.*--image and --output=MAP"):
        pictures.decode(files[0], 3)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_several_pictures_in_one_file_are_not_one(tmp_path, suffix):
    first, second = (Image.fromarray(gradient(8, 8 + i)[:, :8]) for i in range(2))
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second])
    with pytest.raises(data.DataError, match=rf"a\.{suffix} .*several pictures, one after the other; save the one"):
        pictures.decode(tmp_path / f"a.{suffix}", 3)
    with open(tmp_path / f"a.{suffix}", "rb") as file, pytest.raises(data.DataError, match="cannot read it as an"):
        pictures.picture_size(file)


def test_a_picture_that_fits_is_untouched_and_a_longer_one_is_cut_in_the_centre(tmp_path):
    picture = gradient(16, 24)
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert np.array_equal(data.load_images([tmp_path / "a.png"], (16, 24), 3)[0], picture)
    assert np.array_equal(data.load_images([tmp_path / "a.png"], 16, 3)[0], picture[:, 4:20])


def test_shortest_side_is_resized_with_antialiasing(tmp_path):
    y, x = np.mgrid[:64, :96]
    board = ((x + y) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "a.png")
    got = data.load_images([tmp_path / "a.png"], 16, 1)[0]
    assert np.abs(got.astype(int) - 127).max() <= 2  # without it, all black, all white, or stripes
    smooth = np.asarray(Image.fromarray(gradient(64, 96)).resize((24, 16), Image.Resampling.BICUBIC))
    Image.fromarray(gradient(64, 96)).save(tmp_path / "b.png")
    assert np.array_equal(data.load_images([tmp_path / "b.png"], 16, 3)[0], smooth[:, 4:20])
    assert data.load_images([tmp_path / "b.png"], (40, 10), 3).shape == (1, 40, 10, 3)


def test_a_narrow_picture_that_would_become_huge_is_refused(tmp_path):
    Image.fromarray(np.zeros((1, 60_000), np.uint8)).save(tmp_path / "line.png")
    for load in (lambda path: data.load_images([path], 224, 1), lambda path: image_files.load_image(path, 224, 1)):
        with pytest.raises(data.DataError, match=r"line\.png: 1x60000 pixels become 224x13440000 where .*; cut"):
            load(str(tmp_path / "line.png"))
    assert data.load_images([str(tmp_path / "line.png")], 8, 1).shape == (1, 8, 8, 1)


def test_load_images_errors(tmp_path):
    (tmp_path / "no.png").write_bytes(b"this is no picture")
    with pytest.raises(data.DataError, match=r"cannot read .*no\.png as an image"):
        data.load_images([tmp_path / "no.png"], 8, 3)
    with pytest.raises(data.DataError, match=r"missing\.png: there is no such file"):
        data.load_images([tmp_path / "missing.png"], 8, 3)
    with pytest.raises(data.DataError, match=r"channels \(=4\) must be 1 \(grey\) or 3"):
        data.load_images([], 8, 4)
    with pytest.raises(data.DataError, match=r"image_size \(=0x8\)"):
        data.load_images([], (0, 8), 3)
    assert data.load_images([], 8, 3).shape == (0, 8, 8, 3)


@pytest.mark.parametrize("name, options", [("a.gif", {}), ("a.png", {}), ("a.webp", {"lossless": True}), ("a.mpo", {})])
def test_a_file_of_several_pictures_is_not_read_as_its_first_by_another_library(tmp_path, name, options):
    """GDAL reads the first of what Pillow refuses, and numbers of a palette as values."""
    several = [Image.fromarray(gradient(24, 24) // (1 + i)) for i in range(2)]
    several[0].save(tmp_path / name, save_all=True, append_images=several[1:], **options)
    with pytest.raises(data.DataError, match=rf"{name} .*several pictures, one after the other; save the one"):
        dense.open_image(tmp_path / name)
    with pytest.raises(data.DataError, match=rf"{name} .*several pictures, one after the other; save the one"):
        data.load_images([str(tmp_path / name)], 8, 3)


def test_the_previews_of_a_photograph_are_left_out(tmp_path):
    large, small = (Image.fromarray(gradient(n, n)) for n in (24, 12))
    large.save(tmp_path / "a.mpo", save_all=True, append_images=[small])
    with Image.open(tmp_path / "a.mpo") as first:
        np.testing.assert_array_equal(dense.open_image(tmp_path / "a.mpo").read(0, 24, 0, 24), np.asarray(first))


@pytest.mark.parametrize("name", ["a.lsm", "a.stk", "a.btf", "a"])
def test_a_tiff_is_one_under_any_name(tmp_path, name):
    """Of several pages none is read unasked, and a page that is asked for is that page."""
    pages = np.stack([gradient(24, 24)[..., 2].astype(np.uint16) * (200 - i) for i in range(2)])
    for bigtiff in (False, True):
        tifffile.imwrite(tmp_path / name, pages, photometric="minisblack", metadata=None, bigtiff=bigtiff)
        with pytest.raises(data.DataError, match=rf"{name}: 2 pages, together 2x24x24 .*choose one by"):
            dense.open_image(tmp_path / name)
        np.testing.assert_array_equal(dense.open_image(tmp_path / name, page=1).read(0, 24, 0, 24)[..., 0], pages[1])


@pytest.mark.parametrize("largest", [65535, 4095])
@pytest.mark.parametrize(
    "head", ["{} 5 4 {}\n", "{}\n# made\n5 4 # columns, rows\n#\n{}\n", "{}\n" + "# long\n" * 500 + "5 4 {}\n"]
)
def test_a_ppm_of_more_than_8_bits_has_them_all(tmp_path, head, largest):
    """Of bytes and of words, with comments; Pillow itself keeps 8 bits."""
    values = np.random.default_rng(3).integers(0, largest + 1, (4, 5, 3))
    words = "# values\n" + " ".join(map(str, values.ravel()))
    for kind, content in (("P6", values.astype(">u2").tobytes()), ("P3", words.encode())):
        (tmp_path / "a.ppm").write_bytes(head.format(kind, largest).encode() + content)
        source = dense.open_image(tmp_path / "a.ppm")
        assert source.dtype == np.uint16
        np.testing.assert_array_equal(source.read(0, 4, 0, 5), np.round(values * (65535 / largest)))
