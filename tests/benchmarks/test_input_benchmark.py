"""The benchmark of input: all contenders give the same batches, and another one's pixels are found."""

import numpy as np
import pytest

from benchmarks import input_contenders as contenders
from tests.helpers import run_python


@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning", "ignore:.*fork:DeprecationWarning")  # by PyTorch's workers
def test_contenders_give_the_same_batches(tmp_path):
    paths = contenders.write_pictures(str(tmp_path), 26, 24)
    made = contenders.contenders(paths, 16, 4)
    contenders.check_same(made)
    whole = {name: [np.asarray(batch) for batch in begin()] for name, begin in made.items()}
    for batches in whole.values():
        assert len(batches) == 6
        np.testing.assert_array_equal(batches, whole[contenders.BARE])
    made["wrong"] = lambda: iter([whole[contenders.BARE][1]])
    with pytest.raises(ValueError, match="wrong gives other pixels than a loop over Pillow"):
        contenders.check_same(made)


@pytest.mark.slow
def test_it_runs():
    done = run_python("-m", "benchmarks.input", "--smoke")
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[1].strip() for row in rows if row[1].strip() in (contenders.OURS, contenders.GRAIN)] == [
        contenders.GRAIN,
        contenders.OURS,
    ]
