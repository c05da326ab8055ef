"""Never lose or mix: every kind of source into every kind of sink, through every fault, with what must come of it.

A fault that a stream cannot go on with is one line that names the file and the way out; what was begun is whole, and
the same call ends in the same bytes as one that nothing disturbed.
"""

import errno
import json
import os
import re
import resource
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from cnn import dense
from cnn.dense import tiles
from cnn.dense.streaming import sink as sinks
from cnn.dense.streaming.sinks import pyramid
from cnn.images.errors import StorageError
from cnn.windows import GeometryError
from tests.dense.streaming.small_stream import CONSTANTS, PIXELS, run
from tests.helpers import PROGRAMS, run_python
from tests.made import make_zarr

IMAGE = PIXELS[:50, :46]  # 18 x 16 scores, 9 tiles
SIZE, TILE, TILES = (18, 16), 8, 6
SOURCES = ("array", "s.npy", "s.zarr", "s.tif", "s.png")
FILES = ("m.npy", "m.zarr", "m.ome.zarr", "m.tif")
SINKS = (*FILES, "array")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(tiles, "LEAST_OUTPUTS", 8)
    monkeypatch.setattr(pyramid, "SMALLEST", 8)


@pytest.fixture(scope="module")
def expected():
    sink = np.full((*SIZE, 5), np.nan, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "LEAST_OUTPUTS", 8)
        dense_run(sink, IMAGE)
    return sink


def dense_run(sink, source, **options):
    return run(sink, source, **{"tile": TILE, **CONSTANTS, **options})


def make_source(folder, name, image=IMAGE):
    """The image as a file of that name, or as it is."""
    path = folder / name
    if name == "array":
        return image
    if name == "s.npy":
        np.save(path, image)
    elif name == "s.zarr":
        shutil.rmtree(path, ignore_errors=True)
        make_zarr(path, image)
    elif name == "s.tif":
        tifffile.imwrite(path, image, tile=(16, 16), compression="zlib", photometric="rgb")
    else:
        Image.fromarray(image).save(path)
    return path


def make_sink(folder, name):
    return np.full((*SIZE, 5), np.nan, np.float32) if name == "array" else folder / name


def values(sink):
    return sink if isinstance(sink, np.ndarray) else dense.open_map(sink).read()


def files_of(folder, but=()):
    """Every file below a folder, by its path, with its bytes; and every folder."""
    return {
        str(one.relative_to(folder)): one.read_bytes() if one.is_file() else None
        for one in sorted(folder.rglob("*"))
        if one.name not in but
    }


def stop_at(monkeypatch, tile, error=KeyboardInterrupt):
    """Makes the computation of one tile fail."""
    run_tile, calls = tiles.run_tile, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) > tile:
            raise error("stopped")
        return run_tile(*arguments)

    monkeypatch.setattr(tiles, "run_tile", stopping)


def same_as_undisturbed(sink, source, folder):
    """Whether a map has the bytes of one of the same source that nothing disturbed."""
    folder.mkdir()
    whole = folder / sink.name
    dense_run(whole, source)
    beside = [one for one in sink.parent.iterdir() if one.name.startswith(sink.name)]
    found = {one.name: files_of(one) if one.is_dir() else one.read_bytes() for one in beside}
    there = {one.name: files_of(one) if one.is_dir() else one.read_bytes() for one in folder.iterdir()}
    return found == there


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_into_every_sink_is_the_same_map(tmp_path, source, sink, expected):
    where = make_sink(tmp_path, sink)
    dense_run(where, make_source(tmp_path, source))
    np.testing.assert_array_equal(values(where), expected)


@pytest.mark.parametrize("sink", FILES)
@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_changed_is_refused(tmp_path, monkeypatch, source, sink, expected):
    """Begun or finished; the map stays as it was, and is whole once the image is the old one again."""
    where, path = make_sink(tmp_path, sink), make_source(tmp_path, source)
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            dense_run(where, path)
    changed = IMAGE.copy()
    changed[3, 5, 1] ^= 1
    for _ in range(2):
        other = make_source(tmp_path, source, changed)
        before = files_of(tmp_path)
        with pytest.raises(StorageError, match=r"begun with another image: .* name another sink, or overwrite=True"):
            dense_run(where, other)
        assert files_of(tmp_path) == before
        path = make_source(tmp_path, source)
        dense_run(where, path)
        np.testing.assert_array_equal(values(where), expected)
    assert same_as_undisturbed(where, path, tmp_path / "whole")


@pytest.mark.parametrize("source", SOURCES)
def test_a_sink_is_never_its_source_or_in_it(tmp_path, source):
    path = make_source(tmp_path, source)
    if source == "array":
        pixels = np.zeros((*IMAGE.shape[:2], 5), np.float32)
        with pytest.raises(StorageError, match="the sink lies in the memory of the source"):
            run(pixels[: SIZE[0], : SIZE[1]], pixels[..., :3], tile=TILE)
        return
    before = files_of(tmp_path)
    for sink in (path, *(path / name for name in FILES)):
        with pytest.raises(StorageError, match="would lie in its source|maps are written as"):
            dense_run(sink, path, overwrite=True)
        assert files_of(tmp_path) == before
    for sink in FILES[1:]:  # and never around it: a map's folder, also the one that a TIFF is made of
        folder = tmp_path / (f"{sink}.part.zarr" if sink == "m.tif" else sink)
        folder.mkdir()
        inside = make_source(folder, source)
        before = files_of(tmp_path)
        with pytest.raises(StorageError, match="would lie in its source"):
            dense_run(tmp_path / sink, inside, overwrite=True)
        assert files_of(tmp_path) == before


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
def test_stopped_at_any_tile_and_while_it_is_finished(tmp_path, monkeypatch, source, sink, expected):
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
    np.testing.assert_array_equal(values(where), expected)
    assert result.tiles_done_before == (TILES if calls else result.tiles_done_before) <= TILES
    assert same_as_undisturbed(where, path, tmp_path / "whole")


@pytest.mark.parametrize("sink", FILES)
def test_a_full_disk(tmp_path, monkeypatch, sink, expected):
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
    np.testing.assert_array_equal(values(where), expected)
    assert same_as_undisturbed(where, IMAGE, tmp_path / "whole")


@pytest.mark.parametrize("sink", FILES)
def test_a_file_that_cannot_grow(tmp_path, sink, expected):
    """The system refuses what TensorStore and tifffile write, as on a full disk: all of one size, and larger."""
    where, options = make_sink(tmp_path, sink), {"tile": 100}
    dense_run(np.zeros_like(expected), IMAGE, **options)  # compiled programs may be kept in files, too
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000 if sink != "m.ome.zarr" else 3000, hard))
    try:
        with pytest.raises(StorageError, match=rf"{sink}.*: cannot be (written|opened as a map): .*too large"):
            dense_run(where, IMAGE, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    dense_run(where, IMAGE, **options)
    assert dense.open_map(where).shape == expected.shape


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("source", SOURCES[1:])
def test_a_damaged_source_is_named_and_the_map_goes_on_later(tmp_path, source, sink, expected):
    where, path = make_sink(tmp_path, sink), make_source(tmp_path, source)
    damaged = path / "c/2/1/0" if source == "s.zarr" else path
    whole = damaged.read_bytes()
    if source == "s.tif":
        with tifffile.TiffFile(path) as file:
            offset = file.pages[0].dataoffsets[7]
        damaged.write_bytes(whole[:offset] + b"\x00" * 40 + whole[offset + 40 :])
    else:
        damaged.write_bytes(whole[: len(whole) // 2])
    before = files_of(tmp_path)
    with pytest.raises(StorageError, match=rf"{re.escape(source)}(: | as an image: )") as caught:
        dense_run(where, path)
    assert "\n" not in str(caught.value)
    if source in ("s.npy", "s.png"):  # known when it is opened
        assert files_of(tmp_path) == before
    damaged.write_bytes(whole)
    dense_run(where, path)
    np.testing.assert_array_equal(values(where), expected)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("source", SOURCES[:4])
def test_a_pixel_that_is_nan_is_in_no_score_but_those_that_see_it(tmp_path, source, sink):
    pixels = (IMAGE / 255 - 0.5).astype(np.float32)
    pixels[20, 30] = np.nan
    where = make_sink(tmp_path, sink)
    path = make_source(tmp_path, source, pixels)
    run(where, path, tile=TILE)
    y, x = 2 * np.arange(SIZE[0])[:, None], 2 * np.arange(SIZE[1])[None]
    sees = (y <= 20) & (y + 16 > 20) & (x <= 30) & (x + 16 > 30)
    found = values(where)
    np.testing.assert_array_equal(np.isnan(found), np.repeat(sees[..., None], 5, axis=2))
    if sink != "array":
        classes = where.with_name(f"classes_{sink}")
        run(classes, path, tile=TILE, write="class")
        read = dense.open_map(classes).read()
        np.testing.assert_array_equal(read[..., 0], np.where(sees, 255, np.where(sees[..., None], 0, found).argmax(-1)))
        assert not read[sees, 1].any() and read[~sees, 1].all()


@pytest.mark.parametrize("sink", FILES)
def test_a_map_that_was_damaged_is_not_continued(tmp_path, sink, expected):
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
    np.testing.assert_array_equal(values(where), expected)


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
