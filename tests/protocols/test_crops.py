"""Views by value: places worked out by hand, mirror images, sizes, and resizing against Pillow."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnn.protocols import crops
from cnn.windows import GeometryError

IMAGE = np.arange(6 * 9).reshape(1, 6, 9, 1)


def test_ten_crops_are_the_corners_the_centre_and_their_mirror_images():
    image = jnp.arange(6 * 9).reshape(1, 6, 9, 1)
    got = np.asarray(crops.ten_crops(image, (4, 4)))
    assert got.shape == (1, 10, 4, 4, 1)
    assert got[0, :5, 0, 0, 0].tolist() == [0, 5, 2 * 9, 2 * 9 + 5, 9 + 2]
    assert np.array_equal(got[0, 3, ..., 0], np.arange(54).reshape(6, 9)[2:6, 5:9])
    assert np.array_equal(got[:, 5:], got[:, :5, :, ::-1])


def test_centre_crop_is_the_middle_or_the_upper_left_of_two():
    image = jnp.arange(6 * 9).reshape(1, 6, 9, 1)
    assert np.array_equal(crops.centre_crop(image, (4, 4))[0, 0, ..., 0], np.arange(54).reshape(6, 9)[1:5, 2:6])
    assert np.array_equal(crops.centre_crop(image, (6, 9))[0, 0], image[0])


def test_resize_is_that_of_pillow():
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 1)).astype(np.uint8)
    got = np.asarray(crops.resize(jnp.asarray(images, jnp.float32) / 255, (16, 11)))
    assert got.shape == (2, 1, 16, 11, 1)
    for image, result in zip(images, got, strict=True):
        wanted = np.asarray(Image.fromarray(image[..., 0]).resize((11, 16), Image.Resampling.BICUBIC))
        assert np.abs(result[0, ..., 0] * 255 - wanted).max() < 1.5  # Pillow rounds twice, once for each axis


@pytest.mark.parametrize("cut", [crops.ten_crops, crops.centre_crop])
def test_a_crop_larger_than_the_image_is_an_error(cut):
    with pytest.raises(GeometryError, match="window 8x4 is larger than the image 6x9"):
        cut(jnp.zeros((1, 6, 9, 1)), (8, 4))


def test_regular_places_run_from_corner_to_corner():
    # 20x30 under a window of 10x14: the window moves 10 down and 16 right, thirds of which are 3.33 and 5.33.
    places = crops.regular_places((20, 30), (10, 14), 4)
    assert places[:, 0].tolist() == [0] * 4 + [3] * 4 + [6] * 4 + [10] * 4
    assert places[:, 1].tolist() == [0, 5, 10, 16] * 4
    assert not places[:, 2].any()
    assert len(crops.regular_places((256, 256), (224, 224), 5)) == 25
    assert crops.regular_places((256, 300), (224, 224), 5)[:5, 1].tolist() == [0, 19, 38, 57, 76]


def test_regular_places_of_one_are_the_centre_and_those_that_coincide_are_there_once():
    assert np.array_equal(crops.regular_places((21, 30), (10, 14), 1), crops.centre_place((21, 30), (10, 14)))
    assert crops.regular_places((10, 16), (10, 14), 5)[:, :2].tolist() == [[0, 0], [0, 1], [0, 2]]
    assert crops.regular_places((10, 14), (10, 14), 5).tolist() == [[0, 0, 0]]
    with pytest.raises(ValueError, match=r"count \(=0\) must be at least 1 place"):
        crops.regular_places((20, 30), (10, 14), 0)


def test_multi_crop_with_flip_adds_the_mirror_images():
    upright = crops.multi_crop(jnp.asarray(IMAGE), (4, 4), 3)
    assert upright.shape == (1, 9, 4, 4, 1)
    assert np.asarray(upright)[0, :, 0, 0, 0].tolist() == [y * 9 + x for y in (0, 1, 2) for x in (0, 2, 5)]
    both = np.asarray(crops.multi_crop(jnp.asarray(IMAGE), (4, 4), 3, flip=True))
    assert np.array_equal(both[:, :9], upright) and np.array_equal(both[:, 9:], both[:, :9, :, ::-1])


def test_mirrored_places_turn_back():
    places = crops.ten_places((6, 9), (4, 4))
    assert np.array_equal(crops.mirrored(crops.mirrored(places)), places)
    assert np.array_equal(crops.mirrored(places[:5]), places[5:])
    assert np.array_equal(
        crops.cut(IMAGE, crops.mirrored(places), (4, 4)), crops.cut(IMAGE, places, (4, 4))[:, :, :, ::-1]
    )


def test_cut_keeps_the_kind_of_array():
    places = crops.ten_places((6, 9), (4, 4))
    host = crops.cut(IMAGE, places, (4, 4))
    assert isinstance(host, np.ndarray)
    assert np.array_equal(crops.ten_crops(jnp.asarray(IMAGE), (4, 4)), host)


@pytest.mark.parametrize(
    "size, shortest, wanted",
    [
        ((500, 375), 256, (341, 256)),
        ((375, 500), 256, (256, 341)),
        ((224, 224), 80, (80, 80)),
        ((10, 25), 5, (5, 13)),  # 12.5 is rounded up
        ((3, 1000), 8, (8, 2667)),
    ],
)
def test_scaled_size_keeps_the_aspect_ratio(size, shortest, wanted):
    assert crops.scaled_size(size, shortest) == wanted
