"""What several processes have done of a map is taken into its journal as far as there is no gap, and no further."""

import json
import os

import pytest

from cnn.dense.streaming import fingerprints, journal, together

BEGUN = {"computes": {}, "tiles": 6, "done": 1, "complete": False, "read": "r", "written": "w", "skipped": [3, 0]}


def part(path, first, index, count, tiles):
    with open(together.part_path(path, index), "w") as file:
        json.dump({"first": first, "process": index, "processes": count, "tiles": tiles}, file)


def chained(start, *sums):
    for one in sums:
        start = fingerprints.chain(start, one)
    return start


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "map.zarr.progress.json")
    journal.write_journal(path, BEGUN)
    return path


def test_tiles_without_a_gap_are_taken(path):
    part(path, 1, 0, 2, [[10, 11, 1, 0], [30, 31, 0, 0], [50, 51, 0, 0]])
    part(path, 1, 1, 2, [[20, 21, 5, 1]])  # its second tile is missing: the others' third is beyond the gap
    together.take_parts(path)
    found = journal.read_journal(path)
    assert found is not None and found["done"] == 4 and found["skipped"] == [9, 1] and not found["complete"]
    assert (found["read"], found["written"]) == (chained("r", 10, 20, 30), chained("w", 11, 21, 31))
    assert os.listdir(os.path.dirname(path)) == ["map.zarr.progress.json"]


def test_all_tiles_of_a_zarr_complete_it(path):
    for index in range(5):
        part(path, 1, index, 5, [[index, index, 0, 0]])
    together.take_parts(path)
    found = journal.read_journal(path)
    assert found is not None and found["done"] == 6 and found["complete"]


@pytest.mark.parametrize("kind", ["older", "damaged", "overwrite"])
def test_other_parts_are_removed_and_change_nothing(path, kind):
    part(path, 0 if kind == "older" else 1, 0, 1, [[10, 11, 0]] if kind == "damaged" else [[10, 11, 0, 0]])
    together.take_parts(path, overwrite=kind == "overwrite")
    assert journal.read_journal(path) == BEGUN
    assert os.listdir(os.path.dirname(path)) == ["map.zarr.progress.json"]
