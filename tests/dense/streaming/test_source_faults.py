"""Sources that change, are damaged, hold NaN or lie where the map would: refused in a line, never mixed into a map."""

import re

import numpy as np
import pytest
import tifffile

from cnn import dense
from cnn.images.errors import StorageError
from tests.dense.streaming.fault_cases import (
    FILES,
    IMAGE,
    SINKS,
    SIZE,
    SOURCES,
    TILE,
    dense_run,
    files_of,
    make_sink,
    make_source,
    same_as_undisturbed,
    stop_at,
    values,
)
from tests.dense.streaming.small_stream import run

pytestmark = pytest.mark.usefixtures("tiny_tiles")


@pytest.mark.parametrize("sink", FILES)
@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_changed_is_refused(tmp_path, monkeypatch, source, sink, undisturbed):
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
        np.testing.assert_array_equal(values(where), undisturbed)
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


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("source", SOURCES[1:])
def test_a_damaged_source_is_named_and_the_map_goes_on_later(tmp_path, source, sink, undisturbed):
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
    np.testing.assert_array_equal(values(where), undisturbed)


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
