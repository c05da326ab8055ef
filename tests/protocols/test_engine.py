"""What combinations are made of; the engine by value is tested by the two protocols that use it."""

import numpy as np
import pytest

from cnn.protocols import measuring
from cnn.protocols.engine import Combination, Cost, Outcome
from cnn.protocols.methods import Method


def method(name, context="both", has_mirrored=False):
    def scores(batch, mirror):
        raise NotImplementedError

    return Method(name, context, scores, has_mirrored)


def test_looks_are_every_scale_method_and_orientation_but_mirrored_crops_once():
    ways = (method("dense", "image"), method("ten crops", "crop", has_mirrored=True))
    combination = Combination((8, 11), ways, True, "max")
    assert combination.looks == [
        (scale, *look) for scale in (8, 11) for look in (("dense", False), ("dense", True), ("ten crops", False))
    ]
    assert Combination((8,), ways, False, "max").looks == [(8, "dense", False), (8, "ten crops", False)]
    assert (combination.name, combination.context) == ("dense + ten crops", "crop+image")
    assert Combination((8,), ways[:1], False, "max").context == "image"


def test_a_fraction_comes_with_its_interval():
    outcome = Outcome(Combination((8,), (method("dense"),), False, "max"), np.array([0, 3, 0, 1]), Cost(1, 1, 1, 1, 1))
    assert outcome.fraction(outcome.ranks == 0) == (0.5, *measuring.wilson(2, 4))
    assert outcome.fraction(outcome.ranks >= 3)[0] == pytest.approx(0.25)
