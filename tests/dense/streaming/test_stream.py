"""The tiled map equals the untiled one to the bit, also after being stopped, killed, starved of memory or spread."""

import functools
import importlib
import json
import logging
import os
import signal
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import data, dense, nets
from cnn.dense import tiles
from cnn.dense.streaming import memory, pipeline
from cnn.dense.streaming.errors import StorageError
from cnn.dense.streaming.image_arrays import open_file
from cnn.dense.streaming.sink import open_sink
from cnn.dense.streaming.stream_map import stream
from cnn.layers import Activation, Conv, Dense, Flatten, MaxPool
from cnn.windows import GeometryError
from tests.helpers import PROGRAMS, start_python
from tests.made import make_zarr

module = importlib.import_module("cnn.dense.streaming.stream_map")
LEAST_OUTPUTS = 8  # many tiles of a small image; enough rows for these nets' products

NET = nets.net([Conv(10, 5), Activation("relu"), MaxPool(2), Conv(12, 3), Activation("relu")], [Flatten(), Dense(5)])
PADDED = nets.net([Conv(10, 3, padding="same"), MaxPool(2), Conv(12, 3, padding=1)], [Flatten(), Dense(5)])
WINDOW = (16, 16)
PIXELS = np.random.default_rng(3).integers(0, 256, (98, 121, 3), np.uint8)
NORMALISED = (PIXELS / 255 - 0.5).astype(np.float32)
CONSTANTS = {"mean": (0.5, 0.4, 0.6), "std": (0.2, 0.3, 0.25)}


@functools.cache
def make(net, seed=0):
    """Variables with biases that are not zero."""
    variables = jax.jit(lambda key: net.init(key, jnp.zeros((1, *WINDOW, 3)), train=False))(jax.random.key(seed))
    return jax.tree.map(lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape), variables)


def run(sink, source=PIXELS, net=NET, seed=0, **options):
    options = {"window": WINDOW, "tile": 16, "progress": False, **(CONSTANTS if source is PIXELS else {}), **options}
    return stream(net, make(net, seed), source, sink, **options)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "LEAST_OUTPUTS", LEAST_OUTPUTS)


class Watched:
    """PIXELS; before each read it calls `see` with how many tiles were read."""

    shape, dtype, reads = PIXELS.shape, PIXELS.dtype, 0

    def __init__(self, see):
        self._see = see

    def __getitem__(self, region):
        self.reads += 1
        self._see(self.reads)
        return PIXELS[region]


def contents(path):
    """Every file's bytes, of a file or a directory, and of the journal beside it."""
    files = [file for file in path.rglob("*") if file.is_file()] or [path]
    inside = {str(file.relative_to(path)): file.read_bytes() for file in files}
    return inside | {"journal": journal_of(path).read_bytes()}


def journal_of(path):
    return path.with_name(f"{path.name}.progress.json")


@pytest.fixture(scope="module")
def expected():
    """The map of PIXELS."""
    sink = np.full((42, 53, 5), np.nan, np.float32)
    run(sink, tile=1000)
    return sink


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


def load(path):
    return np.load(path) if str(path).endswith(".npy") else np.asarray(open_file(str(path), None, 0)[:, :])


def child(sink):
    """What the killed process runs: it is slow, and counts every tile at once."""

    pipeline.JOURNAL_SECONDS, tiles.LEAST_OUTPUTS = 0.0, LEAST_OUTPUTS
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
    used, run_tile, tiles.LEAST_OUTPUTS = [], tiles.run_tile, LEAST_OUTPUTS

    def noted(tiling, variables, pixels, *rest):
        used.append(pixels.devices())
        assert jax.tree.leaves(variables)[0].devices() == pixels.devices()
        return run_tile(tiling, variables, pixels, *rest)

    tiles.run_tile = noted
    run(sink)
    assert used == [{jax.local_devices()[i % 2]} for i in range(12)]


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


def test_what_differs_is_named(tmp_path):
    path = tmp_path / "m.npy"
    run(path)
    before = contents(path)
    for message, options in {
        "variables": {"seed": 1},
        "mean": {"mean": (0.1, 0.2, 0.3)},
        r"image: the pixels of its 12 finished tiles differ": {"source": PIXELS[::-1], **CONSTANTS},
        r"stride \(\[2, 2\] there, \[4, 4\] now\)": {"stride": 4},
        "tile": {"tile": 24},
        "backend": {"backend": "crops"},
    }.items():
        with pytest.raises(StorageError, match=f"begun with another .*{message}.*overwrite=True"):
            run(path, **options)
    assert contents(path) == before
    run(path, seed=1, overwrite=True)
    assert contents(path) != before
    run(path, overwrite=True)
    assert contents(path) == before
    journal_of(path).unlink()
    with pytest.raises(StorageError, match="it exists; name another, or overwrite=True"):
        run(path)
    with pytest.raises(StorageError, match="not known as a map of this program"):
        run(path, overwrite=True)
    journal_of(path).write_text("{}")
    with pytest.raises(StorageError, match="not the journal of a stream.*overwrite=True"):
        run(path)
    run(path, overwrite=True)
    path.unlink()
    with pytest.raises(StorageError, match="was begun and is gone"):
        run(path)


@pytest.mark.parametrize("name", ["m.npy", "m.zarr"])
def test_a_map_is_of_one_image(tmp_path, name):
    """Begun or finished: one pixel that any finished tile read, and one score that it wrote, are enough."""
    path = tmp_path / name
    changed = PIXELS.copy()
    changed[57, 70, 1] ^= 1

    def fail(reads):
        if reads > 9:
            raise OSError("the disk is unplugged")

    with pytest.raises(OSError, match="unplugged"):
        run(path, Watched(fail), **CONSTANTS)
    begun = contents(path)
    for _ in range(2):
        with pytest.raises(StorageError, match="begun with another image: the pixels of its .* finished tiles differ"):
            run(path, changed, **CONSTANTS)
        assert contents(path) == begun
        run(path)
        begun = contents(path)
    target = open_sink(path, (42, 53, 5), existing=True)
    target.write(20, 30, np.zeros((1, 1, 5), np.float32))
    target.flush()
    target.close()
    with pytest.raises(StorageError, match="is not the map that its journal describes: the scores of"):
        run(path)
    run(path, overwrite=True)
    assert contents(path) == begun


def test_a_refused_call_leaves_nothing_that_binds_the_next(tmp_path):
    with pytest.raises(TypeError, match="its pixels are uint8; .* or give mean and std of the training data"):
        run(tmp_path / "m.npy", PIXELS.copy())
    with pytest.raises(ValueError, match="2 class_names, and the net has 5 classes"):
        run(tmp_path / "m.npy", class_names=["a", "b"])
    with pytest.raises(StorageError, match=r"written as \.npy or \.zarr"):
        run(tmp_path / "new" / "m.csv")
    assert not list(tmp_path.iterdir())

    def fail(reads):
        raise OSError("the disk is unplugged")

    with pytest.raises(OSError, match="unplugged"):
        run(tmp_path / "m.npy", Watched(fail), stride=4, tile=24, seed=1, **CONSTANTS)
    result = run(tmp_path / "m.npy")  # nothing of the other was finished
    assert result.tiles_done_before == 0 and result.shape == (42, 53, 5)


def test_a_sink_is_apart_from_its_source(tmp_path):
    """By every name that a path may have; the source is there afterwards."""
    np.save(tmp_path / "a.npy", NORMALISED)
    os.link(tmp_path / "a.npy", tmp_path / "hard.npy")
    (tmp_path / "soft.npy").symlink_to(tmp_path / "a.npy")
    make_zarr(tmp_path / "a.zarr", NORMALISED)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    store = open_file(str(tmp_path / "a.zarr"), None, 0)
    pairs = [("a.npy", name) for name in ("a.npy", "hard.npy", "soft.npy", "link/a.npy")]
    pairs += [("a.zarr", name) for name in ("a.zarr", "a.zarr/", "link/a.zarr", "a.zarr/c/m.npy", "link/a.zarr/m.zarr")]
    pairs += [("link/a.zarr", "a.zarr"), ("hard.npy", "a.npy")]
    for source, sink in [*((tmp_path / one, f"{tmp_path}/{other}") for one, other in pairs)]:
        with pytest.raises(StorageError, match="would lie in its source .* name another sink"):
            run(sink, source, overwrite=True)
    for source, sink in ((mapped[:90], "a.npy"), (store, "a.zarr")):
        with pytest.raises(StorageError, match="would lie in its source"):
            run(tmp_path / sink, source, overwrite=True)
    with pytest.raises(StorageError, match=r"it lies in the zarr array .*a\.zarr; name a sink outside of it"):
        run(tmp_path / "a.zarr" / "m.npy", NORMALISED)
    pixels = np.zeros((98, 121, 8), np.float32)
    with pytest.raises(StorageError, match="the sink lies in the memory of the source"):
        run(pixels[:42, :53, :5], pixels[..., 2:5])
    run(pixels[:42, :53, 3:], pixels[..., :3])  # in turns with it, and apart
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), NORMALISED)
    np.testing.assert_array_equal(np.asarray(store), NORMALISED)


def test_a_map_carries_what_its_scores_are(tmp_path, monkeypatch):
    names = ["a", "b", "c", "d", "e"]
    monkeypatch.setenv("HOME", str(tmp_path))
    run("~/m.zarr/", class_names=names)  # as a shell leaves it that does not know `~` there
    expected = {
        "image_shape": [98, 121, 3],
        "window": [16, 16],
        "stride": [2, 2],
        "offset": [0, 0],
        "context": "both",
        "class_names": names,
    }
    assert json.loads((tmp_path / "m.zarr" / "zarr.json").read_text())["attributes"]["score_map"] == expected
    assert json.loads(journal_of(tmp_path / "m.zarr").read_text())["about"] == expected


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
    monkeypatch.setattr(tiles, "run_tile", None)
    again = run(path, progress=True, tile=None)
    assert (again.tiles_done_before, again.tiles, again.megapixels_per_second) == (12, 12, 0)
    assert "finished already, all 12 tiles" in capsys.readouterr().err
    assert contents(path) == before


def starve(monkeypatch, largest, error):
    """Makes tiles of more scores fail, from the third on."""
    run_tile, sizes = tiles.run_tile, []

    def limited(tiling, *rest):
        sizes.append(tiling.outputs)
        if tiling.outputs[0] * tiling.outputs[1] > largest and len(sizes) > 2:
            raise error
        return run_tile(tiling, *rest)

    monkeypatch.setattr(tiles, "run_tile", limited)
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
    monkeypatch.setattr(module, "largest_tiles", lambda plan, budget: plan(outputs=(9, 14)))
    result = run(path, tile=None)
    assert set(sizes) == {(9, 14)} and result.outputs == (21, 27) and result.tiles == 4
    assert contents(path) == contents(whole)


def test_few_tiles_are_in_memory(monkeypatch, expected):
    counts, most = {"read": 0, "run": 0, "written": 0}, {"waiting": 0, "running": 0}
    run_tile = tiles.run_tile

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

    monkeypatch.setattr(tiles, "run_tile", counted)
    run(Sink(), Watched(reading), tile=8, **CONSTANTS)
    assert counts == {"read": 42, "run": 42, "written": 42}
    assert most["running"] == pipeline.IN_FLIGHT and most["waiting"] <= pipeline.READ_AHEAD + 1


def test_the_journal_counts_what_is_on_the_disk(tmp_path, monkeypatch, expected):
    write_journal, seen = pipeline.write_journal, []

    def checked(path, journal):
        on_disk, done = np.load(tmp_path / "m.npy"), journal["done"]
        for n in range(done):
            part = (slice(n // 4 * 16, n // 4 * 16 + 16), slice(n % 4 * 16, n % 4 * 16 + 16))
            np.testing.assert_array_equal(on_disk[part], expected[part])
        seen.append(done)
        write_journal(path, journal)

    monkeypatch.setattr(pipeline, "write_journal", checked)
    monkeypatch.setattr(pipeline, "JOURNAL_SECONDS", 0.0)
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
    assert [module.chunk_of(n) for n in (2048, 1088, 512, 64, 40, 1021)] == [512, 272, 512, 64, 40, 1021]


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
