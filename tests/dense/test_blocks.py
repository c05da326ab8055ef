"""Blocks: what tiles read, keep and write covers the map once, and reads what its scores see."""

import numpy as np
import pytest

from cnn.dense.blocks import Cut, product
from cnn.windows import overlap


def test_overlap_by_walking():
    array = np.arange(10, 15)
    for first in range(-8, 9):
        for length in range(1, 15):
            read, place = overlap(first, length, len(array))
            stretch = np.zeros(length, int)
            stretch[place] = array[read]
            expected = [array[p] if 0 <= p < 5 else 0 for p in range(first, first + length)]
            np.testing.assert_array_equal(stretch, expected)


# 23 pixels, windows of 5 every 2: 10 scores; tiles of 4 scores read 3 * 2 + 5 pixels, and 2 more on each side if padded
@pytest.mark.parametrize("cut", [Cut(23, 10, 4, 11, 0, 2), Cut(23, 10, 4, 15, 2, 2)], ids=["unpadded", "padded"])
def test_blocks_of_an_axis(cut):
    blocks = cut.blocks()
    assert cut.count == len(blocks) == 3
    assert [(b.write, b.keep) for b in blocks] == [
        (slice(0, 4), slice(0, 4)),
        (slice(4, 8), slice(0, 4)),
        (slice(8, 10), slice(0, 2)),
    ]
    assert [b.first for b in blocks] == [-cut.before, 8 - cut.before, 16 - cut.before]
    for block in blocks:
        assert block.read.start == max(0, block.first) and block.read.stop == min(23, block.first + cut.extent)
        assert block.place.start == block.read.start - block.first
    assert [(b.first, b.write) for b in cut.blocks(slice(4, 9))] == [
        (8 - cut.before, slice(4, 8)),
        (16 - cut.before, slice(8, 9)),
    ]


def test_a_tiles_parts_are_cut_likewise():
    coarse, fine = ((Cut(50, 40, 16, 26, 0, 1),) * 2, (Cut(50, 40, 6, 16, 0, 1),) * 2)
    written = np.zeros((40, 40), int)
    for tile in product(coarse):
        inside = np.zeros((40, 40), bool)
        inside[tile.write] = True
        for piece in product(fine, within=tile):
            assert inside[piece.write].all() and piece.corner == (piece.write[0].start, piece.write[1].start)
            written[piece.write] += 1
    assert (written == 1).all()
