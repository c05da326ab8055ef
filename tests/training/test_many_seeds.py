"""Seeds trained together: each ends where it ends by itself, and where the main job ends."""

import dataclasses

import jax
import numpy as np
import pytest

from cnn import data
from cnn.data import Split
from cnn.runs import checkpoint, logs
from cnn.runtime.devices import Devices
from cnn.train import train_and_evaluate
from cnn.training import many_seeds
from cnn.training.evaluate import score_split
from tests.helpers import PROGRAMS, run_python
from tests.made import regularised_config


@pytest.fixture(scope="module")
def dataset():
    return data.load(**regularised_config().data)


def assert_close(one, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


@pytest.mark.long
def test_a_seed_ends_where_the_main_job_ends(dataset, tmp_path):
    """Order, augmentation, dropout, batch statistics, schedule: all of them the same."""
    found = many_seeds.train_seeds(regularised_config(), dataset, [3], Devices(1))
    config = regularised_config()
    config.seed = 3
    result = train_and_evaluate(config, str(tmp_path))
    (run,) = found.runs
    # One program picks its batch in a shard_map, the other does not: float32 rounding, twelve steps of it.
    assert_close(run.variables, checkpoint.load_run(str(tmp_path)).variables, rtol=2e-3, atol=1e-5)
    lines = [line for line in logs.read_metrics(str(tmp_path)) if line["split"] == "validation"]
    examples = len(dataset.train.labels)
    assert [point["epoch"] for point in run.curve] == [round(line["step"] * 32 / examples, 4) for line in lines]
    assert [point["validation_accuracy"] for point in run.curve] == [line["accuracy"] for line in lines]
    np.testing.assert_allclose([p["validation_loss"] for p in run.curve], [x["loss"] for x in lines], rtol=1e-4)
    assert score_split(found.net, run.variables, config, dataset, "test").accuracy == result["test_accuracy"]


@pytest.mark.slow
def test_side_by_side_in_one_kernel_is_each_by_itself(dataset):
    """`vmap` over seeds, as on accelerators, against one seed at a time."""
    one = many_seeds.train_seeds(regularised_config(), dataset, [0, 1, 2], Devices(1), each=1)
    other = many_seeds.train_seeds(regularised_config(), dataset, [0, 1, 2], Devices(1), each=3)
    for a, b in zip(one.runs, other.runs, strict=True):
        assert a.seed == b.seed
        # Grouped convolutions sum in another order: rounding, twelve steps of it.
        assert_close(a.variables, b.variables, rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose([p["train_loss"] for p in a.curve], [p["train_loss"] for p in b.curve], rtol=1e-4)
    kernels = [run.variables["params"]["conv1"]["kernel"] for run in other.runs]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1 and np.abs(kernels[1] - kernels[2]).max() > 0.1


@pytest.mark.slow
def test_spread_over_two_devices(dataset, tmp_path):
    """Three seeds on two devices: the odd one too ends where it ends on one device."""
    path = tmp_path / "two.npz"
    done = run_python(PROGRAMS / "seeds_on_two_devices.py", path, JAX_NUM_CPU_DEVICES=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0, 1, 2] 2"
    runs = many_seeds.train_seeds(regularised_config(), dataset, [0, 1, 2], Devices(1), each=1).runs
    two = np.load(path)
    leaves = [leaf for run in runs for leaf in jax.tree.leaves(run.variables)]
    assert len(leaves) == len(two.files)
    # Compiled for one device or for two, YNNPACK computes the products or XLA does: rounding, twelve steps of it.
    for leaf, name in zip(leaves, two.files, strict=True):
        np.testing.assert_allclose(leaf, two[name], rtol=2e-3, atol=1e-5)


@pytest.mark.long
def test_costs_are_those_of_one_seed(dataset):
    config = regularised_config(steps=3)
    one = many_seeds.train_seeds(config, dataset, [0], Devices(1), each=1)
    other = many_seeds.train_seeds(config, dataset, [0, 1, 2, 3], Devices(1), each=4)
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(one.runs[0].variables["params"]))
    assert one.step_bytes > 3 * parameters  # parameters, momentum and gradients at least
    assert one.step_bytes < 50 * dataset.train.images[:32].nbytes * 4 + 4 * parameters
    assert 0.5 < other.step_bytes / one.step_bytes < 1.5
    assert one.epoch_seconds > 0


@pytest.mark.slow
def test_a_diverged_seed_is_named_and_the_others_go_on(dataset):
    found = many_seeds.train_seeds(regularised_config(learning_rate=1e30), dataset, [0, 1], Devices(1))
    assert [run.diverged is not None and run.diverged < 12 for run in found.runs] == [True, True]
    assert many_seeds.train_seeds(regularised_config(), dataset, [0], Devices(1)).runs[0].diverged is None


@pytest.mark.slow
def test_nothing_held_out(dataset):
    empty = Split(dataset.validation.images[:0], dataset.validation.labels[:0])
    found = many_seeds.train_seeds(
        regularised_config(steps=3), dataclasses.replace(dataset, validation=empty), [0], Devices(1)
    )
    assert set(found.runs[0].curve[-1]) == {"epoch", "train_loss"}


@pytest.mark.parametrize("seeds", [[], [1, 1]])
def test_seeds_must_differ(dataset, seeds):
    with pytest.raises(ValueError, match=r"seeds .* must be different"):
        many_seeds.train_seeds(regularised_config(), dataset, seeds, Devices(1))


@pytest.mark.parametrize(
    ("platform", "devices", "seeds", "expected"),
    [
        ("cpu", 2, 6, (2, 1)),
        ("cpu", 2, 5, (2, 1)),  # three turns, the last with a copy
        ("cpu", 4, 6, (3, 1)),  # two turns of three, not of four and two
        ("cpu", 64, 5, (5, 1)),
        ("cpu", 2, 1, (1, 1)),
        ("gpu", 1, 6, (1, 6)),
        ("gpu", 4, 6, (3, 2)),
        ("gpu", 8, 5, (5, 1)),
    ],
)
def test_no_device_trains_what_nobody_asked_for(platform, devices, seeds, expected):
    class Some:
        count = devices

    Some.platform = platform
    assert many_seeds.share(Some(), seeds) == expected
