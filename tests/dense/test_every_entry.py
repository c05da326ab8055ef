"""Every way in, every dtype, rank, backend and context, values that are NaN or infinite: against slow NumPy.

`HYPOTHESIS_PROFILE=thorough python -m pytest -n 0 tests/dense/test_every_entry.py` draws 500 cases.
"""

import contextlib
import functools

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from cnn import convert, dense, nets
from cnn.images.errors import StorageError
from cnn.layers import Activation, AvgPool, BatchNorm, Conv, Dense, Flatten, MaxPool, NMaxPool, PReLU, Scale
from cnn.windows import GeometryError
from tests.made import random_variables
from tests.reference import dense as reference

WINDOW, SIZE = (8, 8), (11, 12, 2)
NETS = {
    "max": nets.net([Conv(3, 3), Activation("relu"), MaxPool(2), Flatten(), Dense(4)]),
    "average": nets.net(
        [Conv(9, 3), BatchNorm(), AvgPool(2), Conv(4, 2), Activation("tanh"), Flatten("chw"), Dense(3)]
    ),
    "n-max": nets.net([Conv(4, 3), NMaxPool(2, n=3), Flatten(), Dense(3)]),
    "padded": nets.net([MaxPool(3, 1, padding=1), Conv(3, 3, padding=1), MaxPool(2, padding=1), Flatten(), Dense(3)]),
    "padded average that counts": nets.net(
        [AvgPool(2, padding=1, rounding="ceil", count_padding=True), PReLU()],
        [Conv(4, 3, padding="same", padding_mode="constant", padding_value=0.5), Scale(), Flatten(), Dense(3)],
    ),
    "padded average": nets.net([AvgPool(2, padding=1), Conv(4, 3, padding="same"), Flatten(), Dense(3)]),
}
# Differences that rounding makes, as a fraction of the largest score.
TOLERANCE = {"float64": 1e-10, "float32": 1e-5, "float16": 2e-2, "bfloat16": 2e-1}
BACKENDS = ("crops", "shift", "atrous", "mpf", "auto")
CONTEXTS = ("plain", "jit", "vmap", "gradient", "64 bits", "strict", "64 bits, strict")
REFUSED = ("uint8", "int32", "bool", "complex64", "float8_e4m3fn", "list")
DTYPES = (*TOLERANCE, ">f4", "masked", *REFUSED)
IMAGES, SCORES = ("score_map", "score_maps", "stream"), ("average", "best_boxes", "heat_map", "class_map")
VALUES = {
    "NaN": (np.nan,),
    "+inf": (np.inf,),
    "-inf": (-np.inf,),
    "+-inf": (np.inf, -np.inf),
    "all": (np.nan, np.inf, -np.inf),
}


@st.composite
def cases(draw):
    """One call: what is called, with what, by which backend, in which context of JAX."""
    return {
        "entry": draw(st.sampled_from([*IMAGES, *IMAGES, *SCORES])),
        "net": draw(st.sampled_from(sorted(NETS))),
        "dtype": draw(st.sampled_from([*DTYPES, *TOLERANCE, *TOLERANCE, *TOLERANCE])),
        "axes": draw(st.sampled_from([0] * 10 + [-1, 1])),  # more than the entry takes
        "count": draw(st.sampled_from([2, 2, 2, 2, 0])),
        "values": draw(st.sampled_from([None, *VALUES])),
        "places": draw(st.sampled_from([1, 4, 40, 10**6, "block"])),
        "backend": draw(st.sampled_from(BACKENDS)),
        "stride": draw(st.sampled_from([1, 2, (2, 3)])),
        "cover": draw(st.booleans()),
        "context": draw(st.sampled_from(CONTEXTS)),
        "seed": draw(st.integers(0, 3)),
    }


def planted(case, shape):
    """Normal float64 numbers, some of them replaced by values that are not finite."""
    rng = np.random.default_rng(case["seed"])
    numbers = rng.normal(size=shape)
    if case["values"] and case["places"] == "block":
        numbers[..., 2:7, 2:7, :] = rng.choice(VALUES[case["values"]])
    elif case["values"] and numbers.size:
        flat = numbers.reshape(-1)
        at = rng.permutation(flat.size)[: case["places"]]
        flat[at] = rng.choice(VALUES[case["values"]], len(at))
    return numbers


def given_as(numbers, dtype):
    """What is handed over: the numbers in a dtype, or as something that is no array of floats."""
    with np.errstate(invalid="ignore"):
        if dtype == "list":
            return numbers.tolist()
        if dtype == "masked":
            numbers = numbers.astype(np.float32)
            return np.ma.MaskedArray(np.nan_to_num(numbers, posinf=np.inf, neginf=-np.inf), np.isnan(numbers))
        return numbers.astype(getattr(ml_dtypes, dtype, None) or dtype)


@contextlib.contextmanager
def settings_of(context):
    """JAX's settings within a context."""
    with contextlib.ExitStack() as stack:
        if "64 bits" in context:
            stack.enter_context(jax.enable_x64(True))
        if "strict" in context:
            stack.enter_context(jax.numpy_dtype_promotion("strict"))
        yield


@functools.cache
def variables_of(name):
    return random_variables(NETS[name], WINDOW, SIZE[2])


@functools.cache
def mapped(name, backend, stride, cover, context):
    """`score_map` as a function of images alone; the same one for the same arguments, so that it stays compiled."""

    def scores(images):
        return dense.score_map(NETS[name], variables_of(name), images, WINDOW, stride, backend, cover=cover).scores

    def beside_gradient(images):
        return jax.grad(lambda x: (scores(x).sum(), scores(x)), has_aux=True)(images)[1]

    return {
        "jit": jax.jit(scores),
        "vmap": lambda images: jax.vmap(scores)(images[None])[0],
        "gradient": jax.jit(beside_gradient),
    }.get(context, scores)


def grid_of(case):
    """Where the windows of a case lie."""
    return dense.plan_grid(NETS[case["net"]], SIZE, WINDOW, case["stride"], cover=case["cover"])


def starts(case, axis):
    """The starts of a case's windows along one axis, spelt out."""
    stride, end = np.broadcast_to(case["stride"], 2)[axis], SIZE[axis] - WINDOW[axis]
    found = list(range(0, end + 1, stride))
    return [*found, end] if case["cover"] and found[-1] < end else found


def found_maps(case, images):
    """The scores that an entry point gives for images, [N, h, w, K]; a list of arrays, or one array."""
    name, backend, stride, cover = case["net"], case["backend"], case["stride"], case["cover"]
    net, variables = NETS[name], variables_of(name)
    if case["entry"] == "score_map":
        return mapped(name, backend, stride, cover, case["context"])(images)
    if case["entry"] == "score_maps":
        maps = dense.score_maps(net, variables, images, WINDOW, stride, backend, tile=16, cover=cover)
        return [one.scores[0] for one in maps]
    shape = (*grid_of(case).size, net.layers[-1].features)
    options = {"window": WINDOW, "stride": stride, "backend": backend, "cover": cover, "progress": False}
    sinks = [np.zeros(shape, np.float32) for _ in images]
    for image, sink in zip(images, sinks, strict=True):
        dense.stream(net, variables, image, sink, **options)
    return sinks


def expected_maps(case, images):
    """The maps in NumPy, float64: windows one by one, or position by position within the image."""
    net, variables = NETS[case["net"]], jax.tree.map(np.asarray, variables_of(case["net"]))
    rows, columns = starts(case, 0), starts(case, 1)
    everywhere = ((1, 1), (SIZE[0] - WINDOW[0] + 1, SIZE[1] - WINDOW[1] + 1))
    conv_net, variables = convert.fc_to_conv(net, variables, (*WINDOW, SIZE[2]))
    in_image = dense.has_padding(net, WINDOW, SIZE[2]) and case["backend"] != "crops"
    with np.errstate(all="ignore"):
        if in_image:
            maps = [reference.score_map(conv_net, variables, image, *everywhere) for image in images]
        else:
            maps = [reference.window_scores(conv_net, variables, image, WINDOW, *everywhere) for image in images]
    return [one[rows][:, columns] for one in maps]


def assert_same(found, wanted, tolerance):
    """NaN where NaN is expected, infinities of the same sign, and numbers within the tolerance of the largest."""
    found, wanted = np.asarray(found).astype(np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(np.where(np.isfinite(found), 0, found), np.where(finite, 0, wanted))
    if finite.any():
        largest = np.abs(wanted[finite]).max()
        assert np.abs(found[finite] - wanted[finite]).max() <= tolerance * max(largest, 1e-30)


def check_images(case):
    """Images through one of the functions that run a net."""
    entry, dtype, axes = case["entry"], case["dtype"], case["axes"]
    if entry != "score_map" or axes or dtype in (">f4", "masked", *REFUSED):
        case["context"] = case["context"] if "64" in case["context"] or case["context"] == "strict" else "plain"
    single = SIZE[:2] if axes < 0 else SIZE if axes == 0 else (1, *SIZE)
    numbers = planted(case, (case["count"], *single))
    given = given_as(numbers, dtype)
    images = given if entry == "score_map" else list(given)
    with settings_of(case["context"]):
        if entry != "score_map" and not case["count"]:
            assert len(found_maps(case, images)) == 0
            return
        if dtype in REFUSED or axes:
            wrong = [dtype] * (dtype in REFUSED) + [r"\[.*H, W, C\]", "channels"] * (axes != 0)
            with pytest.raises((TypeError, GeometryError, StorageError), match="|".join(wrong)):
                found_maps(case, images)
            return
        found = found_maps(case, images)
    if not case["count"]:
        assert len(found) == 0 and found.shape[1:3] == grid_of(case).size
        return
    # What is computed: float64 is float32 unless JAX has 64 bits, and always in a stream.
    narrow = "64" not in case["context"] or entry == "stream"
    computed = {">f4": "float32", "masked": "float32", "float64": "float32" if narrow else "float64"}.get(dtype, dtype)
    if entry != "stream":
        assert str(found[0].dtype) == computed
    seen = given_as(numbers, computed).astype(np.float64)
    assert_same(np.stack([np.asarray(one) for one in found]), expected_maps(case, seen), TOLERANCE[computed])


def probabilities_of(row):
    """Softmax of one window's scores, spelt out: the largest share all where they are infinite."""
    if np.isnan(row).any():
        return np.full(len(row), np.nan)
    if np.isinf(row.max()):
        return (row == row.max()) / (row == row.max()).sum()
    exponentials = np.exp(row - row.max())
    return exponentials / exponentials.sum()


def check_scores(case):
    """Scores through one of the functions that choose among them; odd windows at stride 1, one on each pixel."""
    entry, dtype = case["entry"], case["dtype"]
    size, classes = (4, 5), 3
    scores = planted(case, (2, *size, classes))
    grid = dense.Grid((3, 3), (1, 1), size, (1, 1))
    given = given_as(scores, dtype)
    over, class_index = ("probabilities", None) if case["stride"] == 1 else ("logits", 1)

    def call():
        if entry == "average":
            return dense.average(given, over)
        if entry == "best_boxes":
            return dense.best_boxes(dense.ScoreMap(given, grid.boxes((6, 7)), "both", "crops", grid), class_index, over)
        if entry == "heat_map":
            return dense.heat_map(given[0], grid, (6, 7), "cells" if case["stride"] == 1 else "bilinear")
        return dense.class_map(given[0], grid, (6, 7))

    with settings_of(case["context"]), np.errstate(all="ignore"):
        if dtype in ("bool", "complex64"):
            with pytest.raises(TypeError, match=f"scores are {dtype}"):
                call()
            return
        found = call()
        known = scores if dtype in ("masked", "list") else np.asarray(given).astype(np.float64)
        chances = np.apply_along_axis(probabilities_of, -1, known)
        values = chances if over == "probabilities" else known
        if entry == "average":
            assert_same(found, values.reshape(2, -1, classes).mean(axis=1), 1e-5)
        elif entry == "heat_map":
            assert_same(found[1:5, 1:6], known[0], 1e-6)
            assert np.isnan(found[0]).all() and np.isnan(found[:, 0]).all()
        elif entry == "class_map":
            wanted = [[-1 if np.isnan(row).any() else row.argmax() for row in line] for line in known[0]]
            np.testing.assert_array_equal(found[1:5, 1:6], wanted)
        else:
            check_best(found, known, values, grid.boxes((6, 7)), class_index)


def check_best(found, known, values, boxes, class_index):
    """No window is better than the best; a window with a NaN is none."""
    for n in range(len(known)):
        defined = ~np.isnan(known[n]).any(axis=-1)
        if not defined.any():
            assert found.classes[n] == -1 and np.isnan(found.scores[n]) and not found.boxes[n].any()
            continue
        choices = values[n] if class_index is None else values[n][..., class_index : class_index + 1]
        assert_same(found.scores[n], choices[defined].max(), 1e-6)
        at = np.argwhere((boxes == found.boxes[n]).all(axis=-1))
        assert len(at) == 1 and defined[tuple(at[0])]
        assert class_index in (None, found.classes[n])
        assert_same(values[n][tuple(at[0])][found.classes[n]], found.scores[n], 1e-6)


@pytest.mark.slow
@settings(max_examples=2 * settings.default.max_examples)
@given(cases())
def test_every_entry_equals_the_reference(case):
    note(str(case))
    (check_images if case["entry"] in IMAGES else check_scores)(dict(case))
