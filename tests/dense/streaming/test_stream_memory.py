"""Streams within their memory: tiles shrink, few are held at a time, and the map is the same."""

import functools
import logging
import time

import jax
import numpy as np
import pytest

from cnn import dense
from cnn.dense import tile_runs, tiles
from cnn.dense.streaming import memory, pipeline, progress, sink
from tests.dense.streaming.small_stream import CONSTANTS, LEAST_OUTPUTS, NET, WINDOW, Watched, contents, load, run

pytestmark = pytest.mark.usefixtures("small_tiles")


def starve(monkeypatch, largest, error):
    """Makes tiles of more scores fail, from the third on."""
    run_tile, sizes = tile_runs.run_tile, []

    def limited(tiling, *rest):
        sizes.append(tiling.outputs)
        if tiling.outputs[0] * tiling.outputs[1] > largest and len(sizes) > 2:
            raise error
        return run_tile(tiling, *rest)

    monkeypatch.setattr(tile_runs, "run_tile", limited)
    return sizes


@pytest.mark.parametrize("error", [jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), MemoryError()])
def test_without_memory_the_tiles_shrink_and_the_map_is_the_same(tmp_path, monkeypatch, caplog, expected, error):
    run(tmp_path / "whole.zarr", tile=(20, 26))
    sizes = starve(monkeypatch, 150, error)
    with caplog.at_level(logging.WARNING):
        result = run(tmp_path / "m.zarr", tile=(20, 26))
    assert result.shrunk == 2 and result.outputs == (20, 26)
    assert sizes[-1] == (10, 13)
    assert "tiles of 20x26 scores are cut to 20x13" in caplog.text and "20x13 scores are cut to 10x13" in caplog.text
    np.testing.assert_array_equal(load(tmp_path / "m.zarr"), expected)
    assert contents(tmp_path / "m.zarr") == contents(tmp_path / "whole.zarr")


def test_errors_that_smaller_tiles_do_not_help_are_raised(monkeypatch, expected):
    for error in (MemoryError("no more"), jax.errors.JaxRuntimeError("INTERNAL: a bug")):
        starve(monkeypatch, 1, error)
        with pytest.raises(type(error), match="no more|a bug"):
            run(np.zeros_like(expected))
        monkeypatch.undo()


def test_a_stream_goes_on_with_less_memory(tmp_path, monkeypatch):
    whole, path = tmp_path / "whole.npy", tmp_path / "m.npy"
    run(whole, tile=(21, 27))
    starve(monkeypatch, 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(path, tile=(21, 27))
    monkeypatch.undo()
    monkeypatch.setattr(tiles, "LEAST_OUTPUTS", LEAST_OUTPUTS)
    sizes = starve(monkeypatch, 10**9, None)
    monkeypatch.setattr(memory, "largest_tiles", lambda plan, budget: plan(outputs=(9, 14)))
    result = run(path, tile=None)
    assert set(sizes) == {(9, 14)} and result.outputs == (21, 27) and result.tiles == 4
    assert contents(path) == contents(whole)


def test_few_tiles_are_in_memory(monkeypatch, expected):
    counts, most = {"read": 0, "run": 0, "written": 0}, {"waiting": 0, "running": 0}
    run_tile = tile_runs.run_tile

    def reading(reads):
        counts["read"] = max(reads, 0)
        most["waiting"] = max(most["waiting"], reads - counts["run"])

    class Sink:
        shape, dtype = expected.shape, expected.dtype

        def __setitem__(self, region, block):
            counts["written"] += 1
            time.sleep(0.01)  # the reader would run away if nothing held it

    def counted(*arguments):
        counts["run"] += 1
        most["running"] = max(most["running"], counts["run"] - counts["written"])
        return run_tile(*arguments)

    monkeypatch.setattr(tile_runs, "run_tile", counted)
    run(Sink(), Watched(reading), tile=8, **CONSTANTS)
    assert counts == {"read": 42, "run": 42, "written": 42}
    assert most["running"] == pipeline.IN_FLIGHT and most["waiting"] <= pipeline.READ_AHEAD + 1


def test_the_journal_counts_what_is_on_the_disk(tmp_path, monkeypatch, expected):
    write_journal, seen = progress.write_journal, []

    def checked(path, journal):
        on_disk, done = np.load(tmp_path / "m.npy"), journal["done"]
        for n in range(done):
            part = (slice(n // 4 * 16, n // 4 * 16 + 16), slice(n % 4 * 16, n % 4 * 16 + 16))
            np.testing.assert_array_equal(on_disk[part], expected[part])
        seen.append(done)
        write_journal(path, journal)

    monkeypatch.setattr(progress, "write_journal", checked)
    monkeypatch.setattr(progress, "JOURNAL_SECONDS", 0.0)
    run(tmp_path / "m.npy")
    assert seen == list(range(1, 13))


@pytest.mark.slow
def test_tiles_fit_the_memory_limit():
    shape, devices, outputs = (20_000, 30_000, 3), jax.local_devices()[:1], []
    for limit in (2**24, 2**29):
        plan = functools.partial(tiles.plan_tiles, dense.prepare(NET, WINDOW, 3, position_invariant=True), shape)
        budget = memory.Budget(limit, devices, 1)
        tiling = memory.largest_tiles(plan, budget)
        assert memory.stream_bytes(tiling, budget) <= limit
        outputs.append(tiling.outputs)
        for o, count, size in zip(tiling.outputs, tiling.counts, tiling.grid.size, strict=True):
            assert o < 64 or (o % 64 == 0 and count * o < size + 64 * count)  # whole chunks, little waste
    assert outputs == sorted(set(outputs))
    assert [sink.chunk_of(n) for n in (2048, 1088, 512, 64, 40, 1021)] == [512, 272, 512, 64, 40, 1021]
