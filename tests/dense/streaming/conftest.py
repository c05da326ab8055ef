"""Fixtures of the tests of streams."""

import numpy as np
import pytest

from cnn.dense import tiles
from cnn.dense.streaming.sinks import pyramid
from tests.dense.streaming import fault_cases
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


@pytest.fixture
def tiny_tiles(monkeypatch):
    """Tiles and pyramids small enough that the image of the tests of faults has several."""
    monkeypatch.setattr(tiles, "LEAST_OUTPUTS", fault_cases.TILE)
    monkeypatch.setattr(pyramid, "SMALLEST", 8)


@pytest.fixture(scope="module")
def undisturbed():
    """The map of the image of the tests of faults."""
    sink = np.full((*fault_cases.SIZE, 5), np.nan, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "LEAST_OUTPUTS", fault_cases.TILE)
        fault_cases.dense_run(sink, fault_cases.IMAGE)
    return sink
