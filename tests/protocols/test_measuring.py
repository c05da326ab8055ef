"""Times, intervals and differences of maps by value."""

import numpy as np
import pytest

from cnn.protocols import measuring


def test_agreement_adds_up_over_batches():
    crops = np.array([[[1.0, -4.0], [0.5, 0.0]], [[2.0, 1.0], [0.0, 3.0]]])
    dense_run = np.array([[[1.5, -4.0], [0.5, 1.0]], [[2.0, 1.0], [0.0, 3.0]]])
    parts = [measuring.map_difference(crops[:1], dense_run[:1]), measuring.map_difference(crops[1:], dense_run[1:])]
    assert parts[0] == (2, 1.0, 4.0, 1) and parts[1] == (2, 0.0, 3.0, 0)
    assert measuring.agreement(parts, True) == (True, 4, 0.25, 1)
    assert measuring.agreement([measuring.map_difference(crops * 0, crops * 0)], False).difference == 0


def test_timed_calls_take_turns(monkeypatch):
    monkeypatch.setattr(measuring, "TIMING_ROUNDS", 2)
    calls = []
    found = measuring.median_seconds({name: lambda name=name: calls.append(name) for name in "ab"})
    assert calls == ["a", "b"] * 3 and set(found) == {"a", "b"} and min(found.values()) >= 0


@pytest.mark.parametrize("right, low, high", [(8, 0.490162, 0.943318), (0, 0.0, 0.277533), (10, 0.722467, 1.0)])
def test_wilson_interval_of_ten(right, low, high):
    assert measuring.wilson(right, 10) == pytest.approx((low, high), abs=1e-6)
    z, p = 1.959964, right / 10
    centre, half = (p + z * z / 20) / (1 + z * z / 10), z * (p * (1 - p) / 10 + z * z / 400) ** 0.5 / (1 + z * z / 10)
    assert measuring.wilson(right, 10) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_one_score_that_is_not_a_number_shows_in_the_agreement():
    scores = np.zeros((2, 3, 4), np.float32)
    broken = scores.copy()
    broken[0, 1, 2] = np.nan
    parts = [measuring.map_difference(scores + 1, scores), measuring.map_difference(scores + 1, broken)]
    for order in (parts, parts[::-1]):
        found = measuring.agreement(order, True)
        assert np.isnan(found.difference) and found.argmax_differs == 1 and found.windows == 12


def test_equal_infinite_scores_do_not_differ():
    crops = np.array([[[np.inf, 1.0], [-np.inf, 4.0]]])
    dense_run = crops + np.array([[[0, 0.5], [0, 0]]])
    assert measuring.map_difference(crops, dense_run) == (2, 0.5, 4.0, 0)
    assert measuring.map_difference(crops, -crops).difference == np.inf
    crops[0, 0, 1] = np.nan
    found = measuring.map_difference(crops, crops)
    assert np.isnan(found.difference) and found.argmax_differs == 1
