"""Never lose or mix: every kind of source into every kind of sink, through every fault, with what must come of it.

A fault that a stream cannot go on with is one line that names the file and the way out; what was begun is whole, and
the same call ends in the same bytes as one that nothing disturbed.
"""

import errno
import json
import os
import resource
import shutil

import numpy as np
import pytest
import tifffile

from cnn import dense
from cnn.dense.streaming import sink as sinks
from cnn.dense.streaming.sinks import pyramid
from cnn.images.errors import StorageError
from cnn.windows import GeometryError
from tests.dense.streaming.fault_cases import (
    FILES,
    IMAGE,
    SINKS,
    SIZE,
    SOURCES,
    TILES,
    dense_run,
    files_of,
    make_sink,
    make_source,
    same_as_undisturbed,
    stop_at,
    values,
)
from tests.helpers import PROGRAMS, run_python

pytestmark = pytest.mark.usefixtures("tiny_tiles")


@pytest.mark.slow
@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_into_every_sink_is_the_same_map(tmp_path, source, sink, undisturbed):
    where = make_sink(tmp_path, sink)
    dense_run(where, make_source(tmp_path, source))
    np.testing.assert_array_equal(values(where), undisturbed)


@pytest.mark.parametrize("sink", FILES)
def test_a_foreign_file_is_never_replaced(tmp_path, sink):
    """In the map's place, beside it and in it; asked to overwrite or not."""

    def refused(message, **options):
        before = files_of(tmp_path)
        with pytest.raises(StorageError, match=message):
            dense_run(where, IMAGE, **options)
        assert files_of(tmp_path) == before

    where = make_sink(tmp_path, sink)
    image = {"m.npy": "s.npy", "m.tif": "s.tif"}.get(sink, "s.zarr")
    make_source(tmp_path, image).rename(where)
    journal = tmp_path / f"{sink}.progress.json"
    for text in (None, "{}", json.dumps({"map": [50, 46, 3], "done": 1, "about": {"written": "scores"}})):
        if text is not None:
            journal.write_text(text)  # left behind by a map that is gone
        refused("not known as a map of this program", overwrite=True)
    journal.unlink()
    refused("it exists; name another, or overwrite=True")
    shutil.rmtree(where) if where.is_dir() else where.unlink()
    for beside in (f"{sink}.part", f"{sink}.json") if sink in ("m.npy", "m.tif") else ():
        (tmp_path / beside).write_text("mine")
        for overwrite in (False, True):
            refused(f"{beside} is no file of a map and would be replaced", overwrite=overwrite)
        (tmp_path / beside).unlink()
    dense_run(where, IMAGE)
    inner = {"m.zarr": where, "m.ome.zarr": where / "0" / "c"}.get(sink)
    if sink == "m.tif":
        inner = tmp_path / "m.tif.part.zarr"  # a folder of the user's that has this name
        inner.mkdir()
    if inner:
        (inner / "notes.txt").write_text("mine")
        refused("notes.txt, which is no part of a map and would be removed", overwrite=True)
        (inner / "notes.txt").unlink()
    dense_run(where, IMAGE[::-1], overwrite=True)
    assert dense.open_map(where).shape == (*SIZE, 5)


@pytest.mark.parametrize("sink", FILES)
@pytest.mark.parametrize("source", SOURCES)
def test_stopped_at_any_tile_and_while_it_is_finished(tmp_path, monkeypatch, source, sink, undisturbed):
    where, path = make_sink(tmp_path, sink), make_source(tmp_path, source)
    for tile in (np.random.default_rng(len(source) + len(sink)).integers(1, 4), 1):
        with monkeypatch.context() as patch:
            stop_at(patch, tile)
            with pytest.raises(KeyboardInterrupt):
                dense_run(where, path)
        with pytest.raises(
            StorageError, match=r"it is not finished, \d of 6 tiles .* open_map\(..., unfinished=True\)"
        ):
            dense.open_map(where)
        assert dense.open_map(where, unfinished=True).shape == (*SIZE, 5)
    halve, calls = pyramid.halve, []

    def stopping(block):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt("stopped")
        return halve(block)

    if sink in ("m.ome.zarr", "m.tif"):
        monkeypatch.setattr(pyramid, "halve", stopping)
        with pytest.raises(KeyboardInterrupt):
            dense_run(where, path)
        with pytest.raises(StorageError, match="it is not finished, 6 of 6 tiles"):
            dense.open_map(where)
    result = dense_run(where, path)
    np.testing.assert_array_equal(values(where), undisturbed)
    assert result.tiles_done_before == (TILES if calls else result.tiles_done_before) <= TILES
    assert same_as_undisturbed(where, path, tmp_path / "whole")


@pytest.mark.parametrize("sink", FILES)
def test_a_full_disk(tmp_path, monkeypatch, sink, undisturbed):
    """Told before anything is written where it can be foreseen; else in a line, and the stream goes on later."""
    folder = tmp_path / "maps"
    where = make_sink(folder, sink)
    with monkeypatch.context() as patch:
        patch.setattr(sinks.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(99, 0, 99))
        with pytest.raises(StorageError, match="takes .* and 99 bytes are free; name another disk"):
            dense_run(where, IMAGE)
    assert not folder.exists()
    with monkeypatch.context() as patch:
        fsync, calls = os.fsync, []

        def full(file):
            calls.append(1)
            if len(calls) > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return fsync(file)

        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=f"{sink}.*: cannot be written: .*No space left.* make room on the disk"):
            dense_run(where, IMAGE)
    dense_run(where, IMAGE)
    np.testing.assert_array_equal(values(where), undisturbed)
    assert same_as_undisturbed(where, IMAGE, tmp_path / "whole")


@pytest.mark.parametrize("sink", FILES)
def test_a_file_that_cannot_grow(tmp_path, sink, undisturbed):
    """The system refuses what TensorStore and tifffile write, as on a full disk: all of one size, and larger."""
    where, options = make_sink(tmp_path, sink), {"tile": 100}
    dense_run(np.zeros_like(undisturbed), IMAGE, **options)  # compiled programs may be kept in files, too
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000 if sink != "m.ome.zarr" else 3000, hard))
    try:
        with pytest.raises(StorageError, match=rf"{sink}.*: cannot be (written|opened as a map): .*too large"):
            dense_run(where, IMAGE, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    dense_run(where, IMAGE, **options)
    assert dense.open_map(where).shape == undisturbed.shape


@pytest.mark.parametrize("sink", FILES)
def test_a_map_that_was_damaged_is_not_continued(tmp_path, sink, undisturbed):
    """Truncated, or changed in a score: told in a line, and computed anew where that is asked for."""
    where = make_sink(tmp_path, sink)
    dense_run(where, IMAGE)
    file = {"m.zarr": where / "1.1.0", "m.ome.zarr": where / "0/c/1/1/1"}.get(sink, where)
    whole, place = file.read_bytes(), -40
    if sink == "m.tif":
        with tifffile.TiffFile(file) as tiff:
            place = tiff.pages[0].dataoffsets[4] + 30
    for damaged in (whole[: len(whole) // 2], whole[:place] + b"\x01" * 20 + whole[place:][20:]):
        file.write_bytes(damaged)
        with pytest.raises(StorageError, match=f"{sink}.* overwrite=True") as caught:
            dense_run(where, IMAGE)
        assert "\n" not in str(caught.value)
    file.write_bytes(whole)
    dense_run(where, IMAGE, overwrite=True)
    np.testing.assert_array_equal(values(where), undisturbed)


REFUSED = [
    ({"write": "logits"}, ValueError, "write .='logits'. must be one of scores, probabilities, class"),
    ({"map_dtype": "int8"}, ValueError, "map_dtype .='int8'. must be one of float32, float16"),
    ({"write": "class", "map_dtype": "float16"}, ValueError, "write='class' gives uint8 or uint16"),
    ({"class_names": ["a"]}, ValueError, "1 class_names, and the net has 5 classes"),
    ({"mean": None, "std": None}, TypeError, "give mean and std"),
    ({"window": (20, 16)}, GeometryError, "its kernel takes 192 values"),
    ({"tile": None, "memory_limit": 10**5}, MemoryError, "give more memory"),
]


@pytest.mark.parametrize("sink", FILES)
def test_a_refused_call_leaves_no_files(tmp_path, sink):
    where = tmp_path / "new" / sink
    for options, error, message in REFUSED:
        with pytest.raises(error, match=message):
            dense_run(where, IMAGE, **options)
    if sink in ("m.ome.zarr", "m.tif"):
        message = r"the last row at pixel 32 lies off the stride .*name a .zarr or .npy"
        with pytest.raises(StorageError, match=message):
            dense_run(where, IMAGE[:48], stride=3, cover=True)
    for name in ("m.csv", "m.geojson", "m", "m.zarr.zip"):
        with pytest.raises(StorageError, match=r"maps are written as \.npy, \.zarr, \.ome\.zarr, \.tif or \.tiff, not"):
            dense_run(where.with_name(name), IMAGE)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("sink, count", list(zip(FILES, (1, 1, 3, 3), strict=True)))
def test_killed_at_any_moment_ends_in_the_same_bytes(tmp_path, sink, count):
    process = run_python(PROGRAMS / "kill_streams.py", tmp_path, sink, 3, count)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("killed at event") == count
