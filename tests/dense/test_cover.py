"""Windows flush with the bottom and right border: against crops, against stride 1, in tiles, streams and pictures."""

import json

import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import dense, nets
from cnn.dense import to_pixels
from cnn.dense.backends import BACKENDS
from cnn.images.errors import StorageError
from cnn.layers import Activation, AvgPool, Conv, Dense, Flatten, MaxPool
from cnn.windows import GeometryError
from tests.made import draw
from tests.made import random_variables as make

WINDOW = (8, 9)
NET = nets.net([Conv(3, 3), Activation("relu"), MaxPool(2, rounding="floor"), Flatten(), Dense(3)])
PADDED = nets.net(
    [Conv(3, 3, padding=1), MaxPool(3, 2, padding=1, rounding="floor")],
    [Conv(4, 3, padding="same"), AvgPool(2, rounding="ceil"), Flatten(), Dense(3)],
)


def starts(pixels, window, stride):
    """The starts of windows along one axis, spelt out."""
    found = list(range(0, pixels - window + 1, stride))
    return found if found[-1] + window == pixels else [*found, pixels - window]


def at_stride_1(net, images, backend):
    return np.asarray(dense.score_map(net, make(net, WINDOW, 2), images, WINDOW, 1, backend).scores)


@pytest.mark.slow
@pytest.mark.parametrize(
    "net, size, stride, backends",
    [
        (NET, (14, 16), (4, 3), ("crops", "mpf")),
        pytest.param(NET, (13, 11), (3, 7), BACKENDS, marks=pytest.mark.slow),
        pytest.param(PADDED, (14, 16), (4, 3), BACKENDS, marks=pytest.mark.slow),
        pytest.param(PADDED, (13, 9), (2, 7), BACKENDS, marks=pytest.mark.slow),
    ],
    ids=["unpadded, two", "unpadded", "padded", "padded, one column"],
)
def test_every_backend_equals_windows_at_the_border(net, size, stride, backends):
    images, variables = jnp.asarray(draw(0, (2, *size, 2))), make(net, WINDOW, 2)
    rows, columns = (starts(*axis) for axis in zip(size, WINDOW, stride, strict=True))
    padded = dense.has_padding(net, WINDOW, 2)
    known = {"crops": at_stride_1(net, images, "crops")}
    known |= dict.fromkeys(BACKENDS[1:], at_stride_1(net, images, "atrous") if padded else known["crops"])
    for backend in backends:
        found = dense.score_map(net, variables, images, WINDOW, stride, backend, cover=True)
        wanted = known[backend][:, rows][:, :, columns]
        assert found.scores.shape == wanted.shape and found.grid.extent == size
        assert np.abs(found.scores - wanted).max() <= 1e-5 * np.abs(wanted).max(), backend
        assert found.grid.window_boxes()[-1, -1].tolist() == [size[0] - WINDOW[0], size[1] - WINDOW[1], *size]
        assert found.boxes.shape == (*wanted.shape[1:3], 4) and found.boxes.max() <= max(size)
        assert "and at the border" in repr(found)
    np.testing.assert_allclose(dense.average(found, "logits"), wanted.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)


def test_a_stride_that_fits_gives_the_same_map_and_a_symbolic_size_is_refused():
    images, variables = jnp.asarray(draw(0, (1, 12, 15, 2))), make(NET, WINDOW, 2)
    plain, covered = (dense.score_map(NET, variables, images, WINDOW, 2, "mpf", cover=c) for c in (False, True))
    np.testing.assert_array_equal(plain.scores, covered.scores)
    assert plain.grid == covered.grid and plain.grid.last == (None, None)
    assert dense.plan_grid(NET, (12, 16, 2), WINDOW, 2, cover=True).last == (None, 7)
    for backend in BACKENDS:
        none = dense.score_map(NET, variables, images[:0], WINDOW, (4, 5), backend, cover=True)
        assert none.scores.shape == (0, 2, 3, 3)
        assert dense.score_map(NET, variables, images[:0, :8, :9], WINDOW, 1, backend).scores.shape == (0, 1, 1, 3)
    assert dense.plan(NET, (12, 16, 2), 2, window=WINDOW, cover=True)["crops"].map_size == (3, 5)
    height = jax.export.symbolic_shape("h", constraints=["h >= 20"])[0]
    with pytest.raises(GeometryError, match="cover=True needs to know where the image hx16 ends"):
        dense.plan_grid(NET, (height, 16, 2), WINDOW, 2, cover=True)


@pytest.mark.slow
def test_padding_that_is_not_zero_is_one_pass_or_refused():
    net = nets.net([Conv(3, 3, padding=1, padding_mode="edge"), MaxPool(2), Flatten(), Dense(3)])
    variables, images = make(net, (8, 8), 2), jnp.asarray(draw(0, (1, 14, 12, 2)))
    found = dense.score_map(net, variables, images, (8, 8), 4, cover=True)
    fine = dense.score_map(net, variables, images, (8, 8), 2)
    np.testing.assert_array_equal(found.scores, fine.scores[:, [0, 2, 3]][:, :, [0, 2]])
    with pytest.raises(GeometryError, match=r"conv1.*cover=True the last windows start at \(5, None\), no multiple"):
        dense.score_map(net, variables, images[:, :13], (8, 8), 4, cover=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "net, backend",
    [(NET, "mpf"), (NET, "shift"), (NET, "crops"), (PADDED, "atrous"), (PADDED, "mpf"), (PADDED, "crops")],
    ids=lambda value: value if isinstance(value, str) else "padded" if value is PADDED else "unpadded",
)
def test_tiles_have_the_bits_of_one_pass(net, backend):
    image, variables = draw(1, (75, 62, 2)), make(net, WINDOW, 2)
    whole = dense.score_map(net, variables, image[None], WINDOW, 2, backend, position_invariant=True, cover=True)
    assert whole.grid.last == (67, 53)
    for tile in (16, (17, 20)):
        (found,) = dense.score_maps(net, variables, [image], WINDOW, 2, backend, tile=tile, cover=True)
        np.testing.assert_array_equal(found.scores, whole.scores)
        assert found.grid == whole.grid and (found.boxes == whole.boxes).all()


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [None, 7])
def test_a_stream_says_where_its_last_windows_lie_and_goes_on(tmp_path, stop_after):
    image, variables, sink = draw(1, (75, 62, 2)), make(NET, WINDOW, 2), str(tmp_path / "m.zarr")
    options = {"window": WINDOW, "stride": 2, "backend": "mpf", "tile": 16, "progress": False}
    whole = dense.score_map(NET, variables, image[None], WINDOW, 2, "mpf", position_invariant=True, cover=True)

    class Stopping:
        shape, dtype, reads = image.shape, image.dtype, 0

        def __getitem__(self, place):
            self.reads += 1
            if stop_after and self.reads > stop_after:
                raise OSError("stopped")
            return image[place]

    if stop_after:
        with pytest.raises(OSError, match="stopped"):
            dense.stream(NET, variables, Stopping(), sink, **options, cover=True)
    done = dense.stream(NET, variables, image, sink, **options, cover=True)
    assert (done.last, done.tiles, done.shape) == ((67, 53), 12, (35, 28, 3))
    assert (done.tiles_done_before > 0) == bool(stop_after)
    from cnn.dense.streaming.sink import open_sink

    stored = open_sink(sink, done.shape, existing=True)
    np.testing.assert_array_equal(stored.read(slice(None), slice(None)), whole.scores[0])
    stored.close()
    about = json.loads((tmp_path / "m.zarr.progress.json").read_text())
    assert about["computes"]["last"] == about["about"]["last"] == [67, 53]
    with pytest.raises(StorageError, match=r"was begun with another last \(\[67, 53\] there, None now\)"):
        dense.stream(NET, variables, image, sink, **options)


def by_loop(centres, size, stride, values):
    """The value of the nearest centre along one axis, within half a stride of the outermost; of two the later."""
    result = np.full(size, np.nan)
    for pixel in range(size):
        if centres[0] - stride / 2 <= pixel + 0.5 < centres[-1] + stride / 2:
            near = min(range(len(centres)), key=lambda i: (abs(centres[i] - pixel - 0.5), -i))
            result[pixel] = values[near]
    return result


@pytest.mark.parametrize("pixels, window, stride", [(14, 5, 4), (15, 6, 4), (13, 4, 5), (11, 8, 2)])
def test_pixels_belong_to_the_nearest_window(pixels, window, stride):
    at = starts(pixels, window, stride)
    last = at[-1] if at[-1] % stride else None
    grid = dense.Grid((window, 3), (stride, 1), (len(at), 5), (1, 1), last=(last, None))
    values = draw(0, (len(at),))
    scores = np.repeat(values[:, None], 5, axis=1)
    centres = [start + window / 2 for start in at]
    heat = to_pixels.heat_map(scores, grid, (pixels, 7))
    np.testing.assert_array_equal(heat[:, 3], by_loop(centres, pixels, stride, values))
    smooth = to_pixels.heat_map(scores, grid, (pixels, 7), "bilinear")[:, 3]
    np.testing.assert_array_equal(np.isnan(smooth), np.isnan(heat[:, 3]))
    seen = ~np.isnan(smooth)
    expected = np.interp(np.arange(pixels) + 0.5, centres, values)
    np.testing.assert_allclose(smooth[seen], expected[seen], atol=1e-6)
    logits = np.stack([scores == v for v in values], axis=-1).astype(np.float32)
    classes = to_pixels.class_map(logits, grid, (pixels, 7))[:, 3]
    for pixel in range(pixels):
        start = pixel - (window - 1) // 2
        near = min(range(len(at)), key=lambda i: (abs(at[i] + window / 2 - pixel - 0.5), -i))
        assert classes[pixel] == (near if 0 <= start <= pixels - window else -1)
