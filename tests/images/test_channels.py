"""Channels by number and name: by value, and what is said where there is no such channel."""

import numpy as np
import pytest
from PIL import Image

from cnn.images.errors import StorageError
from cnn.images.facts import Facts
from cnn.images.source import Source, open_image
from cnn.images.views import Coloured

PIXELS = np.random.default_rng(0).integers(0, 65536, (11, 13, 5), np.uint16)
NAMED = Source(PIXELS, "cells", None, Facts(channel_names=("DAPI", "GFP", "dapi", "Cy5", "2nd")))


@pytest.mark.parametrize(
    "asked, numbers",
    [((2, 1, 0), (2, 1, 0)), (("4", "0"), (4, 0)), ((1, 1, 1), (1, 1, 1)), (["GFP", "cy5", 0], (1, 3, 0))],
)
def test_channels_in_the_order_that_is_asked_for(asked, numbers):
    source = open_image(NAMED, channels=asked, net_channels=len(numbers))
    assert source.shape == (11, 13, len(numbers)) and source.dtype == np.uint16
    np.testing.assert_array_equal(source.read(-1, 12, 2, 20)[1:-1, :11], PIXELS[:, 2:][..., list(numbers)])
    assert source.facts.channel_names == tuple(NAMED.facts.channel_names[i] for i in numbers)
    assert open_image(source).facts is source.facts


def test_a_picture_has_the_channels_of_its_file_where_some_are_chosen(tmp_path):
    colours = (PIXELS[..., :3] >> 8).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_image(tmp_path / "a.png", channels=(2,)).read(0, 11, 0, 13), colours[..., 2:])
    Image.fromarray(colours[..., 0]).save(tmp_path / "b.png")
    grey = open_image(tmp_path / "b.png", channels=(0, 0, 0, 0), net_channels=4)
    np.testing.assert_array_equal(grey.read(0, 11, 0, 13), np.repeat(colours[..., :1], 4, axis=2))


def test_channels_that_there_are_not():
    def check(message, **options):
        with pytest.raises(StorageError, match=message):
            open_image(NAMED, **options)

    has = "it has 5 channels, 0 to 4: DAPI, GFP, dapi, Cy5, 2nd"
    check(rf"cells: there is no channel 5; {has}", channels=(5,))
    check(rf"cells: there is no channel -1; {has}", channels=(0, -1))
    check(rf"cells: no channel is called 'RFP'; {has}", channels=("RFP",))
    check(r"cells: 2 channels are called 'Dapi'", channels=("Dapi",))
    check(r"there is no channel 1.0", channels=(1.0,))
    for wrong in ((), "210", 2):
        check(r"must be numbers or names, in order", channels=wrong)
    check(r"has 2 channels, the net takes 3", channels=(0, 1), net_channels=3)
    check(r"5 channels, the net takes 3; choose 3 of them in order \(it has .*GFP.*--channels=0,1,2", net_channels=3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_and_colours_of_8_and_16_bits(dtype):
    colours = PIXELS[..., :3].astype(dtype)
    grey = Coloured(colours, 1)[2:9, 1:12]
    exact = colours[2:9, 1:12] @ np.array([0.299, 0.587, 0.114])
    assert grey.dtype == dtype and np.abs(grey[..., 0] - exact).max() <= 0.5 + 65535 * 1e-5
    if dtype == np.uint8:
        np.testing.assert_array_equal(grey[..., 0], np.asarray(Image.fromarray(colours).convert("L"))[2:9, 1:12])
    white = np.full((1, 1, 3), np.iinfo(dtype).max, dtype)
    assert Coloured(white, 1)[0:1, 0:1] == np.iinfo(dtype).max
    np.testing.assert_array_equal(Coloured(colours[..., 0], 3)[0:4, 0:5], np.repeat(colours[:4, :5, :1], 3, axis=2))
