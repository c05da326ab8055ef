"""Windows that are left out are exactly those that see what does not count; all other scores stay equal to the bit."""

import json

import jax
import numpy as np
import pytest

from cnn import dense
from cnn.dense import tile_runs
from cnn.dense.streaming import progress, skipping
from cnn.images.errors import StorageError
from tests.dense.streaming.small_stream import CONSTANTS, NET, PADDED, PIXELS, WINDOW, contents, journal_of, run

pytestmark = pytest.mark.usefixtures("small_tiles")
RNG = np.random.default_rng(5)


def scene():
    """PIXELS with a large part of one colour, in which one pixel differs, and pixels without data here and there."""
    pixels = PIXELS.copy()
    pixels[40:98, :60] = 99
    pixels[70, 20, 1] = 98
    pixels[:30, 80:] = 0
    pixels[:, 119:] = 0
    pixels[60, 100] = 0
    return pixels


SCENE = scene()
MASK = np.ones(SCENE.shape[:2], bool)
MASK[10:45, 5:60] = False
MASK[80, 90] = False


def seen(net, context=None, stride=None, cover=False):
    """The boxes of the pixels that scores see, by the public functions, [h, w, 4]."""
    grid = dense.plan_grid(net, SCENE.shape, WINDOW, stride, cover=cover)
    return dense.boxes(net, SCENE.shape, grid, context or "both")


def left_out(boxes, valid, windows, constant=False):
    """Which windows are left out, box by box."""
    found = np.zeros(boxes.shape[:2], bool)
    for place in np.ndindex(*found.shape):
        y0, x0, y1, x1 = boxes[place]
        part, pixels = valid[y0:y1, x0:x1], SCENE[y0:y1, x0:x1]
        found[place] = not (part.all() if windows == "any" else part.any())
        found[place] |= constant and (pixels == pixels[0, 0]).all()
    return found


def check(whole, found, expected):
    """NaN where windows are left out, and the same bits elsewhere."""
    assert 0.02 < expected.mean() < 0.98  # the case shows something
    np.testing.assert_array_equal(np.isnan(found).all(axis=2), expected)
    np.testing.assert_array_equal(found[~expected], whole[~expected])


HOLDS = (SCENE != 0).any(axis=2)
CASES = [
    ("nodata", "any", HOLDS & MASK),
    ("nodata", "all", HOLDS & MASK),
    ("constant", "all", MASK),
    (None, "any", MASK),
]
STREAMS = [
    (NET, dict(backend="atrous")),
    (NET, dict(backend="mpf", stride=3, cover=True)),
    pytest.param(NET, dict(backend="crops", stride=5), marks=pytest.mark.slow),
    pytest.param(NET, dict(backend="shift", stride=1), marks=pytest.mark.slow),
    pytest.param(PADDED, dict(context="image", stride=3, cover=True), marks=pytest.mark.slow),
    pytest.param(PADDED, dict(context="crop", stride=4), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("net, options", STREAMS)
def test_windows_that_are_left_out(net, options):
    """All kinds of skipping, of a source with a no-data value and a mask, in tiles."""
    boxes = seen(net, **{name: value for name, value in options.items() if name != "backend"})
    shape = (*boxes.shape[:2], 5)
    whole = np.full(shape, np.nan, np.float32)
    run(whole, SCENE, net=net, **CONSTANTS, **options)
    for skip, windows, valid in CASES:
        source = dense.open_image(SCENE, nodata=0, mask=MASK)
        found = np.zeros(shape, np.float32)
        result = run(found, source, net=net, skip=skip, skip_windows=windows, **CONSTANTS, **options)
        expected = left_out(boxes, valid, windows, skip == "constant")
        check(whole, found, expected)
        assert result.skipped_windows == expected.sum()


def test_tiles_of_nothing_else_are_not_computed(monkeypatch):
    run_tile, ran = tile_runs.run_tile, []
    monkeypatch.setattr(tile_runs, "run_tile", lambda *given: ran.append(given[3]) or run_tile(*given))
    sink = np.zeros((42, 53, 5), np.float32)
    mask = np.zeros(SCENE.shape[:2])
    mask[50:52, 3] = 1
    result = run(sink, dense.open_image(SCENE, mask=mask), skip_windows="all", **CONSTANTS)
    expected = left_out(seen(NET), mask != 0, "all")
    np.testing.assert_array_equal(np.isnan(sink).all(axis=2), expected)
    blocks = [expected[y : y + 16, x : x + 16].all() for y in range(0, 42, 16) for x in range(0, 53, 16)]
    assert result.skipped_tiles == sum(blocks) and len(ran) == len(blocks) - sum(blocks) == 1
    ran.clear()
    result = run(sink, dense.open_image(SCENE, mask=np.zeros((49, 60))), **CONSTANTS)  # of a lower level
    assert not ran and np.isnan(sink).all() and result.skipped_tiles == result.tiles == 12


def test_a_stopped_stream_that_skips_ends_in_the_same_bytes(tmp_path, monkeypatch):
    """Also in smaller tiles, and its mask is part of what the map is of."""
    options = dict(skip="nodata", **CONSTANTS)

    def opened(mask=MASK, nodata=0, change=None):
        pixels = SCENE.copy()
        if change:
            pixels[change] ^= 1
        return dense.open_image(pixels, mask=mask, nodata=nodata)

    whole, stopped = tmp_path / "whole.npy", tmp_path / "stopped.npy"
    result = run(whole, opened(), **options)
    kept = json.loads(journal_of(whole).read_text())["skipped"]
    assert kept == [result.skipped_windows, result.skipped_tiles] and kept[0] == np.isnan(np.load(whole)[..., 0]).sum()
    run_tile, left = tile_runs.run_tile, [5]

    def limited(*given):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return run_tile(*given)

    monkeypatch.setattr(tile_runs, "run_tile", limited)
    monkeypatch.setattr(progress, "JOURNAL_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(stopped, opened(), **options)
    monkeypatch.setattr(tile_runs, "run_tile", run_tile)
    begun = contents(stopped)
    other = MASK.copy()
    other[2, 3] = False  # which no window of the first tiles sees otherwise
    for source, changed, message in [
        (opened(other), {}, r"another image, or mask: the pixels of its \d finished tiles differ"),
        (opened(change=(1, 2, 0)), {}, "another image, or mask"),
        (opened(nodata=1), {}, r"another nodata \(0.0 there, 1.0 now\)"),
        (opened(None), {}, r"another mask \(True there, False now\)"),
        (opened(), {"skip": "constant"}, r"another nodata .*, skip \(nodata there, constant now\)"),
        (opened(), {"skip_windows": "all"}, r"another skip_windows \(any there, all now\)"),
    ]:
        with pytest.raises(StorageError, match=f"was begun with {message}"):
            run(stopped, source, **{**options, **changed})
        assert contents(stopped) == begun

    def starved(tiling, *rest):
        if tiling.outputs[0] > 8:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")
        return run_tile(tiling, *rest)

    monkeypatch.setattr(tile_runs, "run_tile", starved)
    again = run(stopped, opened(), **options)
    assert again.tiles_done_before > 0 and again.shrunk
    assert contents(stopped) == contents(whole)
    assert run(stopped, opened(), **options)[-2:] == result[-2:]


@pytest.mark.slow
def test_floating_pixels_of_one_colour(caplog):
    """NaN is as NaN where all are."""
    pixels = np.zeros((40, 40, 3), np.float32)
    pixels[:20] = np.nan
    pixels[:, 36:] = RNG.random((40, 4, 3))
    sink = np.zeros((13, 13, 5), np.float32)
    result = run(sink, pixels, skip="constant")
    boxes = dense.boxes(NET, pixels.shape, dense.plan_grid(NET, pixels.shape, WINDOW, None), "both")
    y0, x0, y1, x1 = np.moveaxis(boxes, 2, 0)
    same = ((y1 <= 20) | (y0 >= 20)) & (x1 <= 36)
    assert result.skipped_windows == same.sum() > 0
    np.testing.assert_array_equal(np.isnan(sink).all(axis=2), same | (y0 < 20))
    assert (
        run(sink, pixels, skip="nodata").skipped_windows == 0
        and "says of no pixel that it holds nothing" in caplog.text
    )


def test_what_is_refused(tmp_path):
    """A mask is no sink; words that mean nothing here."""
    pixels, sink = np.zeros((40, 40, 3), np.float32), np.zeros((13, 13, 5), np.float32)
    np.save(tmp_path / "mask.npy", np.ones((40, 40), np.float32))
    with pytest.raises(StorageError, match=r"mask.npy: the map would lie in its source"):
        run(tmp_path / "mask.npy", dense.open_image(pixels, mask=tmp_path / "mask.npy"), overwrite=True)
    for options in ({"skip": "empty"}, {"skip_windows": "some"}, {"skip": True}):
        with pytest.raises(ValueError, match=r"stream: skip(_windows)? \(=.*\) must be one of"):
            run(sink, pixels, **options)


@pytest.mark.parametrize("band", [2**22, 40])
def test_counts_in_boxes(monkeypatch, band):
    monkeypatch.setattr(skipping, "BAND", band)
    flags = RNG.random((31, 17)) > 0.6
    tops, lefts = np.array([0, 0, 3, 9, 9, 20, 29]), np.array([0, 5, 5, 12])
    rows, columns = (tops, np.minimum(tops + 7, 31)), (lefts, np.minimum(lefts + 6, 17))
    found = skipping.box_counts(flags, rows, columns)
    for i, j in np.ndindex(7, 4):
        assert found[i, j] == flags[rows[0][i] : rows[1][i], columns[0][j] : columns[1][j]].sum()
