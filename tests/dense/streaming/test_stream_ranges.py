"""Streams of integers of any width: what the net sees of a pixel follows from its value and the range alone."""

import json

import numpy as np
import pytest

from cnn import data, dense
from cnn.images.errors import StorageError
from tests.dense.streaming.small_stream import CONSTANTS, PIXELS, contents, journal_of, run

pytestmark = pytest.mark.usefixtures("small_tiles")
SHAPE = (42, 53, 5)
DEEP = PIXELS.astype(np.uint16) * 257 ^ 77


def mapped(source, **options):
    sink = np.full(SHAPE, np.nan, np.float32)
    run(sink, source, **options)
    assert np.isfinite(sink).all()
    return sink


CASES = [
    (DEEP, (1000, 50000), (1000, 50000)),
    (PIXELS.view(np.int8), None, (-128, 127)),
    (DEEP, None, (0, 65535)),
    ((DEEP.astype(np.int32) - 32768).astype(np.int16), None, (-32768, 32767)),
    (PIXELS, (20, 200), (20, 200)),
    (DEEP.astype(np.uint32) << 16, None, (0, 2**32 - 1)),
    (DEEP.astype(np.float64), (0, 65535), (0, 65535)),
]


@pytest.mark.parametrize(
    "backend, cases",
    [("atrous", CASES[:1]), *(pytest.param(b, CASES, marks=pytest.mark.slow) for b in ("mpf", "shift", "crops"))],
)
def test_integers_are_fractions_of_their_range_to_the_bit(backend, cases):
    """Equal to a stream of the normalised image."""
    for pixels, said, (low, high) in cases:
        fractions = np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)
        normalised = np.asarray(data.normalise(fractions, **CONSTANTS))
        found = mapped(pixels, value_range=said, backend=backend, **CONSTANTS)
        np.testing.assert_array_equal(found, mapped(normalised, backend=backend))
    # Bytes are as they ever were: by the arithmetic of `normalise`, and whatever says that their range is the full one.
    expected = mapped(np.asarray(data.normalise(PIXELS, **CONSTANTS)), backend=backend)
    for said in (None, (0, 255)):
        np.testing.assert_array_equal(mapped(PIXELS, value_range=said, backend=backend), expected)
    source = dense.open_image(DEEP, channels=(2, 0, 1), value_range=(0, 40000))
    again = dense.open_image(np.ascontiguousarray(DEEP[..., [2, 0, 1]]))
    np.testing.assert_array_equal(mapped(source, **CONSTANTS), mapped(again, value_range=(0, 40000), **CONSTANTS))


def test_a_map_is_of_one_range(tmp_path):
    run(tmp_path / "bytes.npy", value_range=(0, 255))
    assert "value range" not in json.loads(journal_of(tmp_path / "bytes.npy").read_text())["computes"]
    assert run(tmp_path / "bytes.npy").tiles_done_before == 12  # as maps of before the range was kept
    path = tmp_path / "deep.npy"
    run(path, DEEP, value_range=(0, 4095), **CONSTANTS)
    before = contents(path)
    for said, there in ((None, "None"), ((0, 1000), r"\[0.0, 1000.0\]")):
        with pytest.raises(StorageError, match=rf"another value range \(\[0.0, 4095.0\] there, {there} now\)"):
            run(path, DEEP, value_range=said, **CONSTANTS)
    assert contents(path) == before
    assert run(path, dense.open_image(DEEP, value_range=(0, 4095)), **CONSTANTS).tiles_done_before == 12


def test_pixels_without_a_meaning_are_refused():
    sink = np.zeros(SHAPE, np.float32)
    for pixels in (DEEP, DEEP.astype(np.uint32)):
        with pytest.raises(TypeError, match=r"its pixels are uint(16|32); .* give mean and std of the training data"):
            run(sink, pixels)
    with pytest.raises(StorageError, match=r"float32 pixels are .*say which values are 0 and 1 \(--range=LOW,HIGH"):
        run(sink, DEEP.astype(np.float32), **CONSTANTS)
    with pytest.raises(ValueError, match="is a fraction of the full range"):
        run(sink, DEEP, mean=(30000,) * 3, std=(9000,) * 3)
