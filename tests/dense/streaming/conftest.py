"""Fixtures of the tests of streams."""

import numpy as np
import pytest

from cnn.dense import tiles
from tests.dense.streaming.small_stream import LEAST_OUTPUTS, run


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "LEAST_OUTPUTS", LEAST_OUTPUTS)


@pytest.fixture(scope="module")
def expected():
    """The map of PIXELS."""
    sink = np.full((42, 53, 5), np.nan, np.float32)
    run(sink, tile=1000)
    return sink
