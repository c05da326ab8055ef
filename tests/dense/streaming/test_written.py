"""What is written of scores: by value, to the bit in any tiles, for thousands of classes, and what does not fit."""

import numpy as np
import pytest
import scipy.special

from cnn import dense
from cnn.dense.streaming import written
from cnn.dense.streaming.pipeline import Written
from cnn.images.errors import StorageError
from tests.dense.streaming.small_stream import CONSTANTS, NET, PIXELS, run


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    "write, map_dtype", [("probabilities", "float32"), ("class", "float32"), ("scores", "float16")]
)
def test_tiles_do_not_matter(tmp_path, expected, write, map_dtype):
    maps = []
    for tile in (16, (9, 14)):
        kind = written.resolve(write, map_dtype, 5, "softmax")
        maps.append(np.zeros((42, 53, kind.bands), kind.dtype))
        result = run(maps[-1], tile=tile, write=write, map_dtype=map_dtype)
        assert result.shape == maps[-1].shape
    np.testing.assert_array_equal(maps[0], maps[1])
    wide = scipy.special.softmax(expected.astype(np.float64), axis=-1)
    if write == "probabilities":
        np.testing.assert_array_equal(maps[0], wide.astype(np.float32))
    elif write == "class":
        np.testing.assert_array_equal(maps[0][..., 0], expected.argmax(axis=-1))
        np.testing.assert_array_equal(maps[0][..., 1], np.round(255 * wide.max(axis=-1)))
    else:
        np.testing.assert_array_equal(maps[0], expected.astype(np.float16))


@pytest.mark.usefixtures("small_tiles")
def test_what_is_written_is_part_of_what_a_map_is(tmp_path):
    path = tmp_path / "m.npy"
    run(path, write="probabilities")
    before = path.read_bytes()
    for options, message in (
        ({}, r"write \(probabilities there, scores now\)"),
        ({"write": "probabilities", "map_dtype": "float16"}, r"map dtype \(float32 there, float16 now\)"),
        ({"write": "probabilities", "net": NET.clone(output_activation="sigmoid")}, "output activation"),
    ):
        with pytest.raises(StorageError, match=f"begun with another .*{message}"):
            run(path, **{**CONSTANTS, "source": PIXELS, **options})
    assert path.read_bytes() == before
    run(path, write="class", overwrite=True)
    run(path, overwrite=True)  # and a map of bytes is known as ours
    assert dense.open_map(path).written == "scores"


@pytest.mark.parametrize("classes, dtype", [(254, np.uint8), (255, np.uint16), (5000, np.uint16)])
def test_thousands_of_classes(classes, dtype):
    kind = written.resolve("class", "float32", classes, "softmax")
    scores = np.random.default_rng(1).normal(0, 3, (9, 31, classes)).astype(np.float32)
    scores[2, 3, 7] = np.nan
    scores[4, 5] = np.nan
    made = kind.of(scores)
    assert made.dtype == dtype and made.shape == (9, 31, 2)
    top = np.iinfo(dtype).max
    known = ~np.isnan(scores).any(axis=-1)
    wide = scipy.special.softmax(scores.astype(np.float64), axis=-1).max(axis=-1)
    np.testing.assert_array_equal(made[known, 0], scores[known].argmax(axis=-1))
    np.testing.assert_array_equal(made[known, 1], np.round(top * wide[known]))
    np.testing.assert_array_equal(made[~known], [[top, 0], [top, 0]])
    parts = [kind.of(scores[y : y + 2, x : x + 7]) for y in range(0, 9, 2) for x in range(0, 31, 7)]
    whole = [made[y : y + 2, x : x + 7] for y in range(0, 9, 2) for x in range(0, 31, 7)]
    assert all(np.array_equal(a, b) for a, b in zip(parts, whole, strict=True))


def test_activations_ties_and_extremes():
    scores = np.array([[[1, 1, -np.inf], [np.inf, 3, 2], [200, 100, 199.5], [np.nan, 0, 1]]], np.float32)
    softmax, sigmoid = (written.resolve("probabilities", "float32", 3, name) for name in ("softmax", "sigmoid"))
    np.testing.assert_allclose(softmax.of(scores)[0, 0], [0.5, 0.5, 0])
    np.testing.assert_array_equal(softmax.of(scores)[0, 1], [1, 0, 0])
    assert np.isnan(softmax.of(scores)[0, 3]).all() and np.isnan(sigmoid.of(scores)[0, 3]).tolist() == [
        True,
        False,
        False,
    ]
    wide = scores.astype(np.float64)
    np.testing.assert_allclose(sigmoid.of(scores), scipy.special.expit(wide), rtol=1e-6)
    for name in ("softmax", "sigmoid"):
        found = written.resolve("class", "float32", 3, name).of(scores)
        assert found[0, :, 0].tolist() == [0, 0, 0, 255]  # the first of equal ones; where there is a NaN, none
    one = written.resolve("class", "float32", 1, "sigmoid").of(np.array([[[-1], [2], [0]]], np.float32))
    assert one.tolist() == [[[0, 186], [1, 225], [0, 128]]]


def test_float16_holds_no_larger_score():
    kind = written.resolve("scores", "float16", 2, "softmax")
    assert isinstance(kind, Written)
    np.testing.assert_array_equal(kind.of(np.array([[[np.inf, np.nan]]], np.float32)), [[[np.inf, np.nan]]])
    with pytest.raises(StorageError, match="a score of 70000 is larger than float16 holds, 65504; .*'float32'"):
        kind.of(np.array([[[70000, 1]]], np.float32))
    with pytest.raises(ValueError, match="numbers up to 65534 classes, the net has 70000"):
        written.resolve("class", "float32", 70_000, "softmax")


def test_a_score_that_does_not_fit_names_the_map(tmp_path):
    with pytest.raises(StorageError, match=r"m\.npy: a score of .* is larger than float16 holds, 65504; .*'float32'"):
        run(tmp_path / "m.npy", tile=50, map_dtype="float16", std=1e-6)
