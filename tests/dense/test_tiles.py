"""Tiles: sizes, places, images of many sizes by one program."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnn import data, dense, nets
from cnn.dense import pixel_tables, tile_runs, tiles
from cnn.layers import Activation, AvgPool, Conv, Dense, Flatten, MaxPool, NMaxPool
from cnn.windows import GeometryError
from tests.made import random_variables

UNPADDED = nets.net([Conv(8, 3), Activation("relu"), MaxPool(2), Conv(10, 3), Flatten("chw"), Dense(4)])
PADDED = nets.net(
    [Conv(8, 3, padding=1), Activation("relu"), MaxPool(3, 2, padding=1, rounding="floor")],
    [Conv(10, 3, padding="same"), AvgPool(2, 2, rounding="ceil"), Flatten(), Dense(4)],
)
SIZES = [(80, 91), (57, 64), (120, 75), (60, 130), (33, 40)]


def prepare(net, window, channels=2):
    return dense.prepare(net, window, channels, position_invariant=True)


def pictures(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(*size, 2)).astype(np.float32) for size in SIZES]


@pytest.mark.slow
@pytest.mark.parametrize("net, window", [(UNPADDED, (8, 10)), (PADDED, (13, 13))], ids=["unpadded", "padded"])
@pytest.mark.parametrize("stride", [None, 1])
def test_images_of_different_sizes_are_one_program(net, window, stride):
    variables, images = random_variables(net, window, 2), pictures()
    before = tile_runs.run_schedule.programs
    maps = dense.score_maps(net, variables, images, window, stride, tile=24)
    assert tile_runs.run_schedule.programs - before == 1
    for image, found in zip(images, maps, strict=True):
        alone = dense.score_map(
            net, variables, jnp.asarray(image)[None], window, stride, "atrous", position_invariant=True
        )
        assert found.context == alone.context and found.scores.shape == alone.scores.shape
        np.testing.assert_array_equal(found.boxes, alone.boxes)
        if min(alone.scores.shape[1:3]) >= tiles.LEAST_OUTPUTS:
            np.testing.assert_array_equal(found.scores, alone.scores)
        else:  # smaller products are summed in another order
            assert np.abs(found.scores - alone.scores).max() <= 1e-5 * np.abs(alone.scores).max()


@pytest.mark.parametrize("classes", [2, 10])
def test_products_of_few_classes_are_summed_alike_in_tiles_of_every_size(classes):
    """XLA splits the sums of such products over the threads for some numbers of rows, of 100 values from 64 rows on."""
    net = nets.net([Conv(100, 3), Activation("relu"), Flatten(), Dense(classes)])
    variables = random_variables(net, (3, 3), 2)
    image = np.random.default_rng(0).normal(size=(100, 90, 2)).astype(np.float32)
    whole = dense.score_map(net, variables, image[None], (3, 3), position_invariant=True)
    for tile in (16, 20, 30, 64):
        (found,) = dense.score_maps(net, variables, [image], (3, 3), tile=tile)
        np.testing.assert_array_equal(found.scores, whole.scores)


def test_places_of_tiles():
    tiling = tiles.plan_tiles(prepare(UNPADDED, (8, 10)), (100, 120, 2), None, "mpf", outputs=(20, 17))
    assert (tiling.grid.stride, tiling.grid.size, tiling.outputs, tiling.counts) == ((2, 2), (47, 56), (20, 17), (3, 4))
    assert tiling.extent == (19 * 2 + 8, 16 * 2 + 10) and tiling.before == (0, 0)
    assert [tile.corner for tile in tiling.tiles()][2 * 4 + 3] == (80, 102)
    padded = tiles.plan_tiles(prepare(PADDED, (13, 13)), (100, 120, 2), None, "mpf", outputs=20)
    # Receptive field of the first score: 1 (conv) + 1 (pool) + 1 * 2 (conv) pixels of padding before it.
    assert padded.before == (4, 4)
    corners = [tile.corner for tile in padded.tiles()]
    assert corners[padded.counts[1]] == (20 * 4 - 4, -4)
    few = tiles.plan_tiles(prepare(UNPADDED, (8, 10)), (100, 120, 2), 1, "shift", outputs=1)
    assert few.outputs == (2 * tiles.LEAST_OUTPUTS,) * 2  # each of its two by two shifts is large enough


def test_tiles_fit_a_limit_and_say_when_none_does():
    for limit in (2**20, 2**23):
        tiling = tiles.plan_tiles(prepare(UNPADDED, (8, 10)), (4000, 4000, 2), memory_limit=limit)
        assert 0.5 * limit < tiles.tile_bytes(tiling) <= limit
    with pytest.raises(MemoryError, match=r"a tile of 16x16 scores .* needs [\d.]+ KiB, the limit is 0.977 KiB"):
        tiles.plan_tiles(prepare(UNPADDED, (8, 10)), (4000, 4000, 2), memory_limit=1000)


def test_bytes_are_normalised_by_a_table_to_the_bit():
    mean, std = (0.485, 0.2), (0.229, 0.31)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 61, 2), np.uint8)
    expected = np.asarray(data.normalise(pixels, mean, std))
    table = pixel_tables.normalised_values("uint8", (0.0, 255.0), mean, std)
    for channel in range(2):
        np.testing.assert_array_equal(table[pixels[..., channel], channel], expected[..., channel])


def test_what_cannot_be_tiled():
    edge = nets.net([Conv(3, 3, padding=1, padding_mode="edge"), Flatten(), Dense(2)])
    with pytest.raises(GeometryError, match="conv1 .*only constant padding can be continued from tile to tile"):
        tiles.plan_tiles(prepare(edge, (8, 8), 1), (40, 40, 1))
    n_max = nets.net([NMaxPool(3, 2, padding=1, n=2, rounding="floor"), Flatten(), Dense(2)])
    variables = random_variables(n_max, (8, 8), 1)
    with pytest.raises(GeometryError, match=r"max.* cannot leave out single values.*context='crop'"):
        dense.score_maps(n_max, variables, [np.zeros((40, 40, 1), np.float32)], (8, 8))
    assert dense.score_maps(UNPADDED, {}, [], (8, 10)) == []
    with pytest.raises(GeometryError, match="image 1: .*window 8x10 is larger than the image 5x50"):
        images = [np.zeros((40, 40, 2), np.float32), np.zeros((5, 50, 2), np.float32)]
        dense.score_maps(UNPADDED, random_variables(UNPADDED, (8, 10), 2), images, (8, 10))
