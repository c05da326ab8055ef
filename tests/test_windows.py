"""The arithmetic of sliding windows, against jax's own and against walking them one by one."""

import itertools

import jax
import numpy as np
import pytest

from cnn.windows import GeometryError, Window, as_pair, output_size, resolve_padding, shape_text
from tests.reference.layers import window_starts

AXES = list(itertools.product(range(1, 12), range(1, 6), range(1, 5), range(1, 4)))  # size, kernel, stride, dilation


def test_same_padding_is_that_of_jax():
    for size, kernel, stride, dilation in AXES:
        extent = (kernel - 1) * dilation + 1
        expected = jax.lax.padtype_to_pads((size, 7), (extent, 3), (stride, 1), "SAME")
        got = resolve_padding("same", (size, 7), (kernel, 3), (stride, 1), (dilation, 1), "conv")
        assert got == tuple(map(tuple, expected)), (size, kernel, stride, dilation)


def test_same_padding_gives_input_over_stride_rounded_up():
    for size, kernel, stride, dilation in AXES:
        extent = (kernel - 1) * dilation + 1
        if extent >= stride:  # else pixels between the windows are unseen, and the size need not divide
            pads = resolve_padding("same", (size, 9), (kernel, 1), (stride, 1), (dilation, 1), "conv")
            window = Window((kernel, 1), (stride, 1), pads, (dilation, 1))
            assert output_size((size, 9), window, "exact", "conv") == (-(-size // stride), 9)


@pytest.mark.parametrize("rounding", ["exact", "floor", "ceil"])
@pytest.mark.parametrize("padding", [(0, 0), (1, 0), (0, 2), (2, 1)])
def test_output_size_by_walking_the_windows(rounding, padding):
    for size, kernel, stride, dilation in AXES:
        window = Window((kernel, 1), (stride, 1), (padding, (0, 0)), (dilation, 1))
        starts = window_starts(size, kernel, stride, *padding, dilation, rounding == "ceil")
        fit = window_starts(size, kernel, stride, *padding, dilation)
        divides = bool(fit) and fit[-1] + (kernel - 1) * dilation + 1 == size + padding[1]
        if fit and (divides or rounding != "exact"):
            assert output_size((size, 4), window, rounding, "pool") == (len(starts), 4), (size, window)
        else:
            why = "does not divide" if fit else "is larger than its input"
            with pytest.raises(GeometryError, match=f"pool: .*{why}"):
                output_size((size, 4), window, rounding, "pool")


def test_ceil_by_hand():
    # 8 pixels, windows of 3 every 2: 0-2, 2-4, 4-6 and, hanging over, 6-8.
    assert output_size((8, 8), Window((3, 3), (2, 2)), "floor", "pool") == (3, 3)
    assert output_size((8, 8), Window((3, 3), (2, 2)), "ceil", "pool") == (4, 4)
    # One more would start in the far padding: at 5 of 5 pixels.
    assert output_size((5, 5), Window((2, 2), (3, 3), ((1, 1), (1, 1))), "ceil", "pool") == (2, 2)


def test_errors_give_the_numbers():
    with pytest.raises(GeometryError, match=r"conv1: width does not divide: \(32 - 5 \+ 1\+0\) / 3 \+ 1 = 10\.3333 "):
        output_size((32, 32), Window((1, 5), (1, 3), ((0, 0), (1, 0))), "exact", "conv1")
    with pytest.raises(GeometryError, match=r"conv1: kernel 3 \(9 with dilation 4\) .*: height 6 \+ padding 1\+1"):
        output_size((6, 32), Window((3, 3), (1, 1), ((1, 1), (0, 0)), (4, 1)), "exact", "conv1")
    with pytest.raises(GeometryError, match="conv1: rounding .*'up'.* must be 'exact', 'floor' or 'ceil'"):
        output_size((6, 6), Window(), "up", "conv1")


@pytest.mark.parametrize("value", [3, (3, 3), [3, 3], np.int64(3), (np.int32(3), 3)])
def test_a_pair_is_two_ints(value):
    pair = as_pair(value, "kernel", "conv1")
    assert pair == (3, 3) and all(type(n) is int for n in pair)


@pytest.mark.parametrize("value", [2.5, (2.5, 1), (1, 2, 3), (3,), (), "33", "3", None, (3, None), ((1, 2), (3, 4))])
def test_no_pair(value):
    with pytest.raises(GeometryError, match="conv1: kernel .* must be one whole number or two"):
        as_pair(value, "kernel", "conv1")


@pytest.mark.parametrize(("value", "minimum"), [(0, 1), ((1, 0), 1), (-1, 0)])
def test_pair_too_small(value, minimum):
    with pytest.raises(GeometryError, match=f"conv1: stride .* must be at least {minimum}"):
        as_pair(value, "stride", "conv1", minimum)


@pytest.mark.parametrize(
    ("padding", "amounts"),
    [
        ("valid", ((0, 0), (0, 0))),
        (2, ((2, 2), (2, 2))),
        (np.int64(2), ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        ([[1, 2], 3], ((1, 2), (3, 3))),
        ("same", ((1, 2), (0, 1))),
    ],
)
def test_padding(padding, amounts):
    assert resolve_padding(padding, (7, 8), (4, 2), (1, 1), (1, 1), "conv1") == amounts


@pytest.mark.parametrize(
    "padding",
    ["SAME", "full", "11", -1, (0, -1), ((0, -2), (0, 0)), 1.5, (1.5, 1), None, (1, 2, 3), ((1, 2, 3), 1), ((1,), 2)],
)
def test_no_padding(padding):
    with pytest.raises(GeometryError, match="conv1: padding .* must be 'valid', 'same', a number,"):
        resolve_padding(padding, (7, 8), (4, 2), (1, 1), (1, 1), "conv1")


def test_extent_and_text():
    assert Window((3, 5), dilation=(4, 1)).extent == (9, 5)
    assert shape_text((55, 55, 96)) == "55x55x96"


def test_pairs_are_taken_from_arrays():
    for value in (np.array([3, 5]), [3, 5], np.array([3, 5], np.uint8)):
        assert as_pair(value, "window", "dense") == (3, 5)
    assert as_pair(np.array(3), "window", "dense") == as_pair(np.int32(3), "window", "dense") == (3, 3)
    for wrong in (np.array([3.0, 5.0]), np.array([[3, 5]]), b"ab", {3: 1, 5: 2}, {3, 5}, "35", np.array([1, 2, 3])):
        with pytest.raises(GeometryError, match="must be one whole number or two"):
            as_pair(wrong, "window", "dense")
