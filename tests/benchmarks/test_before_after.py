"""`benchmarks.before_after`: two checkouts take turns; here the checkout is its own other."""

import pytest

from tests.helpers import ROOT, run_python


@pytest.mark.slow
def test_the_checkout_against_itself():
    done = run_python("-m", "benchmarks.before_after", f"--other={ROOT}", "--smoke")
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| dense qa_net 40x36"))
    other, this, ratio = (float(cell.split()[0]) for cell in row.split("|")[2:5])
    assert other > 0 and this > 0 and ratio == pytest.approx(this / other, rel=1)


def test_without_another_checkout_it_says_what_is_missing():
    done = run_python("-m", "benchmarks.before_after")
    assert done.returncode != 0 and "--other=CHECKOUT is missing" in done.stdout + done.stderr
