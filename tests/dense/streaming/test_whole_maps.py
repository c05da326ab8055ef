"""A map is opened if it is whole and as its stream wrote it: by its journal, and by a mark where that is lost."""

import json
import shutil

import numpy as np
import pytest

from cnn import dense
from cnn.images.errors import StorageError
from tests.dense.streaming.small_stream import CONSTANTS, PIXELS, Watched, journal_of, run

IMAGE = PIXELS[:50, :46]


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 16
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("sink", ["m.npy", "m.zarr", "m.ome.zarr", "m.tif"])
def test_a_score_that_changed_is_found_when_the_map_is_opened(tmp_path, sink):
    path = tmp_path / sink
    run(path, IMAGE, **CONSTANTS, cover=sink in ("m.npy", "m.zarr"))
    whole = dense.open_map(path).read()
    scores = path / {"m.zarr": "0.0.0", "m.ome.zarr": "0/c/0/0/0"}.get(sink, "")
    place = -40 if sink == "m.npy" else scores.stat().st_size // 2 if sink == "m.tif" else 41
    flip(scores, place)
    with pytest.raises(StorageError, match="its scores are not those that its stream wrote|cannot be|damaged") as error:
        dense.open_map(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    if sink != "m.tif":  # where the file's own compression may notice
        assert dense.open_map(path, check=False).read().shape == whole.shape
    flip(scores, place)
    np.testing.assert_array_equal(dense.open_map(path, check=True).read(), whole)


def test_a_damaged_journal_is_said_and_what_a_map_says_is_compared_with_it(tmp_path):
    path = tmp_path / "m.npy"
    run(path, IMAGE, **CONSTANTS)
    journal, sidecar = journal_of(path), tmp_path / "m.npy.json"
    content, said = journal.read_bytes(), sidecar.read_text()
    for damaged in (content[:50], b"", content.replace(b"cpu", b"gpu", 1), content.replace(b'"done"', b'"dune"')):
        journal.write_bytes(damaged)
        with pytest.raises(StorageError, match="progress.json: it is damaged .*; restore it, or remove it if they are"):
            dense.open_map(path)
        with pytest.raises(StorageError, match="progress.json: not the journal of a stream .*begins anew"):
            run(path, IMAGE, **CONSTANTS)
        assert dense.open_map(path, unfinished=True).shape[2] == 5
    journal.write_bytes(content)
    about = json.loads(said)
    about["score_map"]["stride"] = [3, 3]
    sidecar.write_text(json.dumps(about))
    with pytest.raises(StorageError, match=r"its stride is \[3, 3\], and .* in its journal"):
        dense.open_map(path)
    run(path, IMAGE, **CONSTANTS)  # which writes the sidecar anew
    assert sidecar.read_text() == said
    journal.unlink()  # a finished map does without
    assert dense.open_map(path).shape[2] == 5


@pytest.mark.parametrize("sink", ["m.npy", "m.zarr", "m.ome.zarr"])
def test_an_unfinished_map_without_its_journal_is_not_taken_for_a_whole_one(tmp_path, sink):
    def see(reads):
        if reads > 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / sink, Watched(see), **CONSTANTS)
    copy = tmp_path / "moved"
    shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("moved", "*.progress.json"))
    with pytest.raises(StorageError, match="it is not finished, some tiles are computed"):
        dense.open_map(copy / sink)
    assert dense.open_map(copy / sink, unfinished=True).shape[2] == 5
