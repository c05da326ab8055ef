"""The tiled map equals the untiled one to the bit, also after being stopped, killed, starved of memory or spread."""

import json
import signal
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import data, dense
from cnn.dense import tile_runs, tiles
from cnn.dense.streaming import progress
from cnn.images.errors import StorageError
from cnn.windows import GeometryError
from tests.dense.streaming.small_stream import (
    CONSTANTS,
    LEAST_OUTPUTS,
    NET,
    NORMALISED,
    PADDED,
    PIXELS,
    WINDOW,
    Watched,
    contents,
    journal_of,
    load,
    make,
    run,
)
from tests.helpers import PROGRAMS, start_python

pytestmark = pytest.mark.usefixtures("small_tiles")


CASES = [(NET, None, None, tile) for tile in (11, 12, (20, 9), (9, 100))]
CASES += [(NET, stride, None, tile) for stride in (1, 3) for tile in (20, (30, 25))]
CASES += [(PADDED, stride, "image", tile) for stride in (None, 1, 4) for tile in (10, (13, 21))]


@pytest.mark.parametrize("net, stride, context, tile", CASES, ids=str)
def test_tiled_equals_untiled_to_the_bit(net, stride, context, tile):
    whole = dense.score_map(
        net, make(net), NORMALISED[None], WINDOW, stride, "shift", context=context, position_invariant=True
    )
    sink = np.full(whole.scores.shape[1:], np.nan, np.float32)
    result = run(sink, NORMALISED, net, stride=stride, context=context, backend="shift", tile=tile)
    np.testing.assert_array_equal(sink, whole.scores[0])
    assert result.shape == sink.shape and result.tiles > 1 and result.context == whole.context
    grid = dense.plan_grid(net, result.image_shape, result.window, result.stride)
    np.testing.assert_array_equal(dense.boxes(net, result.image_shape, grid, result.context), whole.boxes)


def test_bytes_are_normalised_as_in_training(expected):
    images = data.normalise(PIXELS[None], **CONSTANTS)
    scores = np.asarray(dense.score_map(NET, make(NET), images, WINDOW).scores[0])
    assert np.abs(scores - expected).max() <= 1e-5 * np.abs(scores).max()
    sink = np.full_like(expected, np.nan)
    run(sink, tile=(9, 14))
    np.testing.assert_array_equal(sink, expected)


@pytest.mark.parametrize("name", ["m.npy", "m.zarr"])
def test_a_stopped_stream_ends_in_the_same_bytes(tmp_path, name, expected):
    whole, stopped = tmp_path / f"whole_{name}", tmp_path / f"stopped_{name}"
    run(whole)

    done = []
    for allowed in (0, 3, 6, 4):

        def fail(reads, allowed=allowed + (done[-1] if done else 0)):  # what is finished is read again, and compared
            if reads > allowed:
                raise OSError("the disk is unplugged")

        with pytest.raises(OSError, match="unplugged"):
            run(stopped, Watched(fail), **CONSTANTS)
        done.append(json.loads(journal_of(stopped).read_text())["done"])
    assert done[0] == 0 and done == sorted(done) and 3 < done[-1] < 12
    result = run(stopped)
    assert result.tiles_done_before == done[-1] and result.tiles == 12
    assert contents(stopped) == contents(whole)
    np.testing.assert_array_equal(load(stopped), expected)


def child(sink):
    """What the killed process runs: it is slow, and counts every tile at once."""

    progress.JOURNAL_SECONDS, tiles.LEAST_OUTPUTS = 0.0, LEAST_OUTPUTS
    run(sink, Watched(lambda _: time.sleep(0.02)), tile=8, **CONSTANTS)


@pytest.mark.parametrize("name", ["m.npy", "m.zarr"])
def test_a_killed_stream_ends_in_the_same_bytes(tmp_path, name):
    whole, killed = tmp_path / f"whole_{name}", tmp_path / f"killed_{name}"
    run(whole, tile=8)
    process = start_python(PROGRAMS / "stream_child.py", "child", killed, stderr=subprocess.PIPE)
    try:
        journal, deadline = journal_of(killed), time.monotonic() + 60
        while not (journal.exists() and json.loads(journal.read_text())["done"] >= 5):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    result = run(killed, tile=8)
    assert 5 <= result.tiles_done_before < result.tiles == 42
    assert contents(killed) == contents(whole)


def spread(sink):
    """What the process with several devices runs; every device must have been used."""
    used, run_tile, tiles.LEAST_OUTPUTS = [], tile_runs.run_tile, LEAST_OUTPUTS

    def noted(tiling, variables, pixels, *rest):
        used.append(pixels.devices())
        assert jax.tree.leaves(variables)[0].devices() == pixels.devices()
        return run_tile(tiling, variables, pixels, *rest)

    tile_runs.run_tile = noted
    run(sink)
    assert used == [{jax.local_devices()[i % 2]} for i in range(12)]


@pytest.mark.slow
def test_spread_over_devices(tmp_path, expected):
    process = start_python(
        PROGRAMS / "stream_child.py",
        "spread",
        tmp_path / "m.npy",
        env={"JAX_NUM_CPU_DEVICES": 2},
        stderr=subprocess.PIPE,
    )
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), expected)


@pytest.mark.slow
def test_half_precision_scores_are_written_as_float32(expected):
    sink = np.full_like(expected, np.nan)
    run(sink, jnp.asarray(NORMALISED, jnp.bfloat16))
    whole = dense.score_map(NET, make(NET), jnp.asarray(NORMALISED, jnp.bfloat16)[None], WINDOW)
    assert np.abs(sink - np.asarray(whole.scores[0], np.float32)).max() <= 0.05 * np.abs(sink).max()


def test_a_finished_stream_does_nothing(tmp_path, monkeypatch, capsys):
    path = tmp_path / "m.zarr"
    first = run(path, progress=True)
    assert first.megapixels_per_second > 0 and "MP" in capsys.readouterr().err
    before = contents(path)
    monkeypatch.setattr(tile_runs, "run_tile", None)
    again = run(path, progress=True, tile=None)
    assert (again.tiles_done_before, again.tiles, again.megapixels_per_second) == (12, 12, 0)
    assert "finished already, all 12 tiles" in capsys.readouterr().err
    assert contents(path) == before


ERRORS = [
    (NORMALISED[..., 0], {}, StorageError, "has 1 channels, the net takes 3"),
    (NORMALISED[:10], {}, GeometryError, "window 16x16 is larger than the image 10x121"),
    (NORMALISED[1:], {"stride": 4}, StorageError, "it is 42x53x5 .* the map is 21x27x5"),
    (PIXELS, {"tile": 0}, GeometryError, r"tile \(=0\) must be at least 1"),
    (PIXELS, {"tile": None, "memory_limit": 10**5}, MemoryError, "give more memory"),
    (PIXELS, {"std": None}, ValueError, "go together"),
]


@pytest.mark.parametrize("source, options, error, message", ERRORS)
def test_errors_say_the_way_out(source, options, error, message):
    with pytest.raises(error, match=message):
        run(np.zeros((42, 53, 5), np.float32), source, **options)
