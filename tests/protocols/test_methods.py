"""Averages over the windows of an image, as the methods of the protocols take them."""

import numpy as np
import pytest

from cnn import dense
from cnn.protocols import methods


@pytest.mark.parametrize("over", methods.AVERAGES)
def test_pooling_of_scores_that_are_not_finite_is_that_of_whole_maps(over):
    scores = np.zeros((4, 1, 2, 3), np.float32)
    scores[0, 0, 0, 1], scores[1, 0, 1, 2], scores[2, 0, 0, 0], scores[3] = np.inf, -np.inf, np.nan, np.inf
    got = methods.pooled(methods.WindowScores(scores, np.ones((4, 1, 2), bool), 0), over)
    np.testing.assert_allclose(got, dense.average(scores, over), rtol=1e-6)
    inside = np.ones((4, 1, 2), bool)
    inside[2, 0, 0] = False  # a NaN beside the image does not count
    assert np.isfinite(methods.pooled(methods.WindowScores(scores, inside, 0), over)[2]).all()
    assert methods.pooled(methods.WindowScores(scores[:0], inside[:0], 0), over).shape == (0, 3)
