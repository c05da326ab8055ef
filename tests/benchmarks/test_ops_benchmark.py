"""`benchmarks.ops`: it times the same values; its cases lie on both sides of each rule; its verdict is right."""

import jax
import pytest

from benchmarks import ops_comparison
from benchmarks.ops_comparison import CASES, SMOKE


@pytest.mark.parametrize("name", SMOKE)
def test_contenders_give_the_same_values(name):
    row = ops_comparison.measure(SMOKE[name], rounds=1)
    # Sums of up to 54 terms in another order.
    assert row["difference"] < 1e-5 and row["xla"] > 0 and row["own"] > 0


@pytest.mark.skipif(jax.device_count() > 1, reason="batch-last layout is for one device")
def test_cases_lie_on_both_sides_of_the_rules():
    sides: dict[str, set[bool]] = {}
    for case in CASES.values():
        sides.setdefault(case.threshold, set()).add(ops_comparison.is_used(case))
    one_sided = {threshold for threshold, used in sides.items() if len(used) == 1}
    # The rules that have no other side, or whose other side is another rule's.
    assert one_sided == {"batch >= 16", "map < kernel", "no padding", "always"}
    assert all(True in used for used in sides.values())


@pytest.mark.parametrize("ratio, used, agrees", [(0.5, True, True), (1.5, True, False), (0.5, False, False)])
def test_the_verdict(monkeypatch, ratio, used, agrees):
    monkeypatch.setattr(ops_comparison.timing, "alternate", lambda runs, rounds: {"own": [ratio], "xla": [1.0]})
    monkeypatch.setattr(ops_comparison, "is_used", lambda case: used)
    row = ops_comparison.measure(SMOKE["direct"], rounds=1)
    assert (row["ratio"], row["agrees"]) == (ratio, agrees)
    table = ops_comparison.text({"cases": {"direct": row}})
    assert f"{ratio:.2f}" in table and ("NO" in table) == (not agrees)
