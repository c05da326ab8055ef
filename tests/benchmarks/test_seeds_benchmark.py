"""The benchmark of seeds trained together: every way takes as many steps with each seed."""

import jax
import numpy as np
import pytest

from benchmarks import seeds_comparison, training
from cnn.runtime.devices import Devices


@pytest.mark.slow
def test_every_way_takes_its_steps(monkeypatch):
    monkeypatch.setattr(seeds_comparison, "STEPS", 3)
    case = seeds_comparison.SMOKE["ablation"]
    ways = seeds_comparison.ways(case)
    assert set(ways) == {seeds_comparison.IN_TURN_ALONE, seeds_comparison.VMAP}  # tests have one device
    each = ways[seeds_comparison.IN_TURN_ALONE]()
    assert [len(losses) for losses in each] == [3, 3]
    assert np.asarray(ways[seeds_comparison.VMAP]().step).tolist() == [3, 3]
    spread = seeds_comparison.at_once(training.problem_of(case), Devices(1), 1)
    spread()
    state = spread()
    assert np.asarray(state.step).tolist() == [6] and np.isfinite(jax.tree.leaves(state.params)[0]).all()


@pytest.mark.slow
def test_the_report_says_what_was_measured(monkeypatch):
    monkeypatch.setattr(seeds_comparison, "STEPS", 2)
    taken = {seeds_comparison.IN_TURN_ALONE: [0.4, 0.4, 0.8], seeds_comparison.VMAP: [0.2, 0.1, 0.2]}
    monkeypatch.setattr(seeds_comparison.timing, "alternate", lambda runs, rounds: taken)
    found = seeds_comparison.measure(seeds_comparison.SMOKE["ablation"], 3)
    assert found["ways"][seeds_comparison.VMAP] == {"ms": pytest.approx(50.0), "by_spread": pytest.approx(0.25)}
    facts = {"command": "c", "device": "d", "python": "3", "packages": {}, "commit": "x", "load_before": 0.0}
    table = seeds_comparison.text({"cases": {"ablation": found}, "load_after": 0.0, **facts})
    assert "|    16 |     2 | side by side in each kernel, on one device |                     50.00 |" in table
