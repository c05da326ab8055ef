"""What benchmarks/fuzz.py has found: inputs that once ended otherwise than in an error of one line."""

import json

import numpy as np
import pytest
import tifffile

from cnn import geometry, nets
from cnn.data import DataError
from cnn.images.source import open_image
from cnn.layers import LRN, Conv, Dense, Dropout, Flatten
from cnn.runs import config, defaults
from cnn.windows import GeometryError

CONVOLVED = [Flatten(), Dense(3)]


@pytest.mark.parametrize(
    "layers, words",
    [
        ([Conv("x", 3), *CONVOLVED], r"features \(='x'\) must be at least 1, a whole number"),
        ([Conv(4, 3, groups=2.5), *CONVOLVED], "groups"),
        ([LRN(size="x"), *CONVOLVED], r"size \(='x'\) must be at least 1"),
        ([Flatten(), Dropout((0, 1)), Dense(3)], r"rate \(=\(0, 1\)\) must be at least 0 and below 1"),
        ([Flatten(), Dense(None)], r"features \(=None\) must be at least 1"),
    ],
)
def test_layers_with_fields_of_another_type(layers, words):
    with pytest.raises(GeometryError, match=words):
        geometry.table(nets.net(*layers), (8, 8, 2))


def test_options_that_no_net_is_built_with():
    for options in ({"dropout": 10**400}, {"features": [10**400]}, {"features": 3}):
        with pytest.raises(ValueError) as error:
            geometry.table(nets.create("full_cnn", **options), (8, 8, 2))
        assert "\n" not in str(error.value)


def test_a_config_file_with_names_that_no_config_has(tmp_path):
    tree = json.loads(defaults.get_config().to_json())
    (tmp_path / "config.json").write_text(json.dumps(tree | {"a.b\nc": 1}))
    with pytest.raises(ValueError, match=r"config.json is damaged: ConfigDict does not accept dots") as error:
        config.load(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_tiff_that_lists_fewer_tiles_than_it_needs(tmp_path):
    """Each of a hundred thousand was looked for, in half a minute."""
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(
        path, np.zeros((20, 24, 3), np.uint8), tile=(16, 16), compression="zlib", photometric="rgb", metadata=None
    )
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["ImageWidth"].overwrite(60_000)
    with pytest.raises(DataError, match=r"page 0 of 20x60000 pixels needs 7,500 tiles and lists 4; take an undamaged"):
        open_image(path)
