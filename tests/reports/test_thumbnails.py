"""Thumbnails are made of pixels that a stream read, and of the image itself where it read none."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cnn.images import open_image
from cnn.reports import thumbnails
from cnn.reports.thumbnails import Watched


class Counted:
    """An array that counts the pixels that are read of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, 0

    def __getitem__(self, region):
        part = self.array[region]
        self.read += part.shape[0] * part.shape[1]
        return part


def smooth(dtype=np.uint8, top=255):
    y, x = np.mgrid[:403, :611]
    return (top * (0.5 + 0.25 * np.sin(y / 60) + 0.25 * np.cos(x / 90)))[..., None].astype(dtype)


@pytest.mark.parametrize("tile", [64, 403])
def test_what_was_streamed_is_not_read_again(tile):
    array = Counted(smooth())
    watched = Watched(open_image(array), longest=100)
    for y in range(0, 403, tile):
        for x in range(0, 608, tile):  # the last three columns are left out, as by a stride
            watched.read(y, min(y + tile + 8, 403), x, min(x + tile + 8, 608))
    before = array.read
    picture = watched.thumbnail(watched.brightness())
    assert array.read == before and picture.shape == watched.small == (66, 100)
    whole = np.asarray(Image.fromarray(array.array[..., 0]).resize((100, 66), Image.Resampling.BOX))
    assert abs(picture.astype(int) - whole).max() <= 6  # of a picture whose values change by 2 a pixel


def test_parts_that_were_not_read_are_read_for_it_and_no_others():
    array = Counted(smooth())
    watched = Watched(open_image(array), longest=100)
    watched.read(0, 200, 0, 611)
    watched.read(300, 403, 0, 300)
    array.read = 0
    picture = watched.thumbnail(watched.brightness())
    whole = np.asarray(Image.fromarray(array.array[..., 0]).resize((100, 66), Image.Resampling.BOX))
    assert abs(picture.astype(int) - whole).max() <= 6
    assert array.read <= 103 * 611 + 103 * 311


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_floating_values_are_stretched_and_nan_is_black(dtype):
    array = smooth(dtype, 3)
    array[100:150, 100:150] = np.nan
    watched = Watched(open_image(array), longest=200)
    shown = watched.brightness()
    picture = watched.thumbnail(shown)
    finite = array[np.isfinite(array)]
    assert finite.min() <= shown.low < shown.high <= finite.max() and "shown from" in shown.remark
    assert picture[40, 40] == 0 and picture.max() == 255
    assert watched.read(0, 5, 0, 5).dtype == dtype
    cut = thumbnails.cut_out(watched, (10, 20, 42, 52), shown)
    assert cut.shape == (32, 32) and cut.dtype == np.uint8


def test_images_smaller_than_a_thumbnail_are_shown_pixel_by_pixel():
    array = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    watched = Watched(open_image(array))
    np.testing.assert_array_equal(watched.thumbnail(watched.brightness()), array)
    assert watched.mean() == pytest.approx(array.mean() / 255)
    uri = thumbnails.data_uri(array)
    decoded = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    np.testing.assert_array_equal(np.asarray(decoded), array)


def test_a_picture_with_a_palette_keeps_colours_and_opacity():
    values = np.array([[0, 1], [2, 1]], np.uint8)
    palette = np.array([[0, 0, 0, 0], [255, 127, 14, 80], [1, 2, 3, 255]], np.uint8)
    uri = thumbnails.data_uri(values, palette)
    decoded = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA")
    np.testing.assert_array_equal(np.asarray(decoded), palette[values])
