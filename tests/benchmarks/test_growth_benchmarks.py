"""Benchmarks of growth and start-up: exponents and seconds are those of known numbers."""

import sys

import numpy as np
import pytest

from benchmarks import growth, machine, startup_times


def test_exponents_of_known_powers():
    sizes = [10, 20, 80]
    assert growth.fitted_exponent(sizes, [7.0 * n**1.5 for n in sizes]) == pytest.approx(1.5)
    assert growth.fitted_exponent(sizes, [3.0] * 3) == pytest.approx(0)


@pytest.mark.long
@pytest.mark.parametrize("name", ["batch", "pixels", "pixels_stride1", "classes"])
def test_a_series_counts_operations_and_memory(name, monkeypatch):
    """Times are made up, proportional to the size: the exponent is 1. Operations are the points' own."""
    sizes = growth.SMOKE_SIZES[name]
    ran = []

    def alternate(runs, rounds):
        for size, run in runs.items():
            ran.append(int(size))
            run()
        return {size: [0.001 * int(size)] * rounds for size in runs}

    monkeypatch.setattr(growth.timing, "alternate", alternate)
    measured = growth.measure(name, sizes, 2)
    assert ran == list(sizes) and measured["time_exponent"] == pytest.approx(1)
    small, large = measured["rows"]
    assert [small["size"], large["size"]] == list(sizes)
    flops = [row["gflops"] * row["milliseconds"] for row in measured["rows"]]
    if name == "batch":
        assert flops[1] == pytest.approx(2 * flops[0])
        assert large["memory"] > 1.5 * small["memory"]  # activations double, parameters stay
    if name == "pixels":
        # Convolutions grow with the pixels, the converted layers over 1 and 5 x 5 windows: by 8 rows and 8 columns.
        assert flops[1] > 4 * flops[0]
    if name == "pixels_stride1":
        assert flops[1] > flops[0] and large["memory"] is None and measured["memory_exponent"] is None
    if name == "classes":
        # 256x256 holds 7 x 7 windows of 64 at stride 32: each has two more products with 4,096 values.
        assert 1e6 * (flops[1] - flops[0]) == pytest.approx(2 * 7 * 7 * 4096 * 2)


@pytest.mark.slow
def test_a_point_of_devices_trains():
    """Two steps on the first device of however many there are: the loss is a number, and another one."""
    (point,) = growth.devices([1])
    first, second = point.run(), point.run()
    assert first.shape == (1,) and np.isfinite(first).all() and first[0] != second[0]


def test_unknown_cases_are_named():
    assert machine.chosen([], {"a": 1, "b": 2}) == ["a", "b"] and machine.chosen(["b"], {"a": 1, "b": 2}) == ["b"]
    with pytest.raises(ValueError, match="unknown case c; cases: a, b"):
        machine.chosen(["c", "a"], {"a": 1, "b": 2})


def test_seconds_of_commands():
    taken = startup_times.whole_command(sys.executable, "-c", "import time; time.sleep(0.3)")
    assert 0.3 < taken.seconds < 30 and 0 < taken.cpu < 10
    with pytest.raises(RuntimeError, match="(?s)failed: .*ZeroDivisionError"):
        startup_times.whole_command(sys.executable, "-c", "1 / 0")


@pytest.mark.slow
def test_first_step_is_waited_for(tmp_path):
    taken = startup_times.first_step("configs/smoke.py", str(tmp_path))
    assert 0.5 < taken.seconds < startup_times.LONGEST  # Python and JAX alone take half a second
    assert taken.cpu > 0.5
    assert any(tmp_path.rglob("*")), "its programs are in the cache it was given"
    with pytest.raises(RuntimeError, match="(?s)ended without a step: .*no_such"):
        startup_times.first_step("configs/no_such.py", str(tmp_path))
