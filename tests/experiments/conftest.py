"""Fixtures of the tests of studies."""

import pytest

from experiments.ablation import runner
from tests.experiments.small_study import SMALL, small_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small study with two seeds, in one go."""
    workdir = tmp_path_factory.mktemp("study")
    runner.run_study("small", str(workdir), seeds=2, overrides=SMALL, study=small_study())
    return workdir
