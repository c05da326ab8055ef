"""Random cuts of pictures: inside, of the areas, ratios and sides that are asked for, with their place's pixels."""

import numpy as np
import pytest
from PIL import Image

from cnn.data import image_files
from cnn.data.random_cuts import Cuts
from cnn.data.streamed import Streamed
from cnn.images import resizing, whole
from cnn.images.errors import DataError

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (60, 90, 3), np.uint8)


def generator(number):
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((0, number))))


def box_of(cuts, shape, size, number):
    found = cuts.box(shape, size, generator(number))
    assert found is not None
    return found


def boxes(cuts, shape, size=(16, 16), count=2000):
    return np.array([cuts.box(shape, size, generator(i)) for i in range(count)])


def test_areas_and_ratios_are_those_that_are_asked_for():
    found = boxes(Cuts(area=(0.2, 0.6), aspect=(0.5, 2)), (400, 600))
    left, top, right, bottom = found.T
    assert left.min() >= 0 and top.min() >= 0 and right.max() <= 600 and bottom.max() <= 400
    area, ratio = (right - left) * (bottom - top) / 240_000, (right - left) / (bottom - top)
    assert 0.19 < area.min() < 0.21 and 0.59 < area.max() < 0.61
    assert 0.49 < ratio.min() < 0.52 and 1.95 < ratio.max() < 2.05
    # Half of the ratios are below 1 and half above, but for those that the picture has no room for.
    assert 0.4 < (ratio < 1).mean() < 0.55
    # Places are uniform: their means are the middles of what is left beside the cut.
    for first, last, length in ((left, right, 600), (top, bottom, 400)):
        room = length - (last - first)
        assert (first[room > 0] / room[room > 0]).mean() == pytest.approx(0.5, abs=0.03)


def test_a_shortest_side_is_drawn_and_an_image_cut_out_of_what_it_gives():
    found = boxes(Cuts(shortest_side=(20, 40)), (60, 90))
    sides = 16 * 60 / (found[:, 3] - found[:, 1])
    assert set(np.round(sides).astype(int)) == set(range(20, 41))  # both ends too
    np.testing.assert_allclose(found[:, 2] - found[:, 0], found[:, 3] - found[:, 1], rtol=0.02)
    assert found.min() >= 0 and found[:, 2].max() <= 90 + 1e-9 and found[:, 3].max() <= 60 + 1e-9
    assert found[:, 0].min() == 0 and found[:, 2].max() == pytest.approx(90)


def test_an_image_is_a_part_of_the_resized_picture():
    """Pillow rounds its weights, in another order of steps: a value may differ by 1."""
    cuts = Cuts(shortest_side=(25, 45))
    for i in range(5):
        left, top, right, bottom = box_of(cuts, PICTURE.shape, (16, 16), i)
        scale = 16 / (bottom - top)
        whole = resizing.resize(PICTURE, (round(60 * scale), round(90 * 16 / (right - left))))
        y, x = round(top * scale), round(left * 16 / (right - left))
        difference = cuts.cut(PICTURE, (16, 16), generator(i)).astype(int) - whole[y : y + 16, x : x + 16]
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_are_those_of_the_box(channels):
    """Cut out first and resized then: nothing beside the box counts."""
    picture = RNG.integers(0, 256, (60, 90, channels), np.uint8)
    cuts = Cuts(area=(0.3, 0.9))
    for i in range(5):
        left, top, right, bottom = box_of(cuts, picture.shape, (16, 12), i)
        expected = resizing.resize(picture[top:bottom, left:right], (16, 12))
        np.testing.assert_array_equal(cuts.cut(picture, (16, 12), generator(i)), expected)


def test_a_side_of_the_pictures_own_size_gives_its_very_pixels():
    cuts = Cuts(shortest_side=(60, 60))
    for i in range(5):
        left, top, right, bottom = map(int, box_of(cuts, PICTURE.shape, (16, 16), i))
        np.testing.assert_array_equal(cuts.cut(PICTURE, (16, 16), generator(i)), PICTURE[top:bottom, left:right])


def test_where_no_draw_fits_the_centre_is_cut_out():
    narrow = RNG.integers(0, 256, (8, 400, 3), np.uint8)
    cuts = Cuts(area=(0.9, 1.0), aspect=(1.0, 1.0))
    assert cuts.box(narrow.shape, (8, 8), generator(0)) is None
    expected = resizing.resize_and_crop(Image.fromarray(narrow), 8, 8)
    np.testing.assert_array_equal(cuts.cut(narrow, (8, 8), generator(0)), np.asarray(expected))


def test_images_as_large_as_the_picture_are_covered():
    """A side that is too small for an image of another shape is enlarged until it covers it."""
    left, top, right, bottom = box_of(Cuts(shortest_side=(16, 16)), (60, 60, 3), (16, 32), 0)
    assert (right - left, bottom - top) == (60, 30) and left == 0 and top >= 0


def smooth_picture(height, width):
    """Waves that a quarter of the pixels can show."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 40 + k) + np.cos(y / 50 - k) for k in range(3)]
    return (127 + 60 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.mark.parametrize("cuts", [Cuts(area=(0.3, 0.9)), Cuts(shortest_side=(20, 30))])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_no_finer_than_its_cut_needs(tmp_path, monkeypatch, cuts, orientation):
    """The cut is the same place of the picture, on its side too; pixels differ by how the decoder averages."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(smooth_picture(400, 601))
    for name in ("a.jpg", "a.png"):
        picture.save(tmp_path / name, exif=exif, **({"quality": 95} if name == "a.jpg" else {}))
    decoder = image_files.Decoder((16, 16), 3)
    shapes, whole = [], image_files.Decoder.whole

    def noted(self, item, reduced=None):
        pixels = whole(self, item, reduced)
        shapes.append(pixels.shape[:2])
        return pixels

    monkeypatch.setattr(image_files.Decoder, "whole", noted)
    for i in range(4):
        found = {}
        for name in ("a.jpg", "a.png"):
            images = Streamed([str(tmp_path / name)], decoder, np.zeros((1, 32), np.uint8))
            found[name] = images.cut_of_all(0, cuts, generator(i)).astype(int)
        np.testing.assert_allclose(found["a.jpg"], found["a.png"], atol=12)
        assert np.abs(found["a.jpg"] - found["a.png"]).mean() < 2.5
        assert np.ptp(found["a.png"]) > 60
        large, small = ((601, 400), shapes[-2]) if orientation == 6 else ((400, 601), shapes[-2])
        assert shapes[-1] == large
        factor = round(large[0] / small[0])
        assert factor in (2, 4, 8) and small == tuple(-(-length // factor) for length in large)


def test_a_jpeg_that_is_needed_as_it_is_is_decoded_as_ever(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.jpg", quality=95)
    decoder, cuts = image_files.Decoder((16, 16), 3), Cuts(area=(0.3, 0.9))
    images = Streamed([str(tmp_path / "a.jpg")], decoder, np.zeros((1, 32), np.uint8))
    pixels = decoder.whole(str(tmp_path / "a.jpg"))
    for i in range(5):
        expected = cuts.cut(pixels, (16, 16), generator(i))
        np.testing.assert_array_equal(images.cut_of_all(0, cuts, generator(i)), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_that_is_opened_once_is_read_as_any_other_picture(mode, channels, tmp_path):
    """Turned as its EXIF says, converted, and by its content: a PNG that is called .jpg is no JPEG."""
    pixels = np.random.default_rng(0).integers(0, 256, (14, 22, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its right side
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.jpg", quality=90, exif=exif)
    Image.fromarray(pixels).save(tmp_path / "b.png")
    (tmp_path / "b.png").rename(tmp_path / "b.jpg")
    decoder = image_files.Decoder((14, 14), channels)
    for name in ("a.jpg", "b.jpg"):
        expected = whole.read_bytes(tmp_path / name, channels)
        np.testing.assert_array_equal(decoder.whole(str(tmp_path / name)), expected)
    assert decoder.whole(str(tmp_path / "a.jpg")).shape == (22, 14, channels)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    with pytest.raises(DataError, match=r"cannot read .*a.jpg as an image"):
        decoder.whole(str(tmp_path / "a.jpg"))
