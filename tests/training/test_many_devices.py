"""Training on eight devices is training on one: values, resuming, places, and in what precision devices are summed."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.data import from_arrays
from cnn.runtime.devices import Devices
from cnn.training import many_seeds
from tests.helpers import PROGRAMS, run_python
from tests.made import small_config


class Described:
    """A device that is not here, as far as placing arrays asks for it."""

    platform, device_kind = "tpu", "described"

    def __init__(self, number: int, process_index: int = 0) -> None:
        self.id, self.process_index = number, process_index


def described(count, sharding, processes=1, connected=()):
    return Devices([Described(i, i * processes // count) for i in range(count)], sharding, connected)


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


STATE = {
    "conv1": {"kernel": shape(3, 3, 64, 512), "bias": shape(512)},
    "fc1": {"kernel": shape(4096, 512), "bias": shape(512)},
    "fc2": {"kernel": shape(4099, 10), "bias": shape(10)},
    "step": shape(),
}


def test_where_arrays_lie():
    """The longest axis that divides, or outputs of fully connected layers; small arrays are whole, and odd ones."""

    def specs(sharding, count=8, connected=()):
        placed = described(count, sharding, connected=connected).state_shardings(STATE)
        return [tuple(leaf.spec) for leaf in jax.tree.leaves({name: placed[name] for name in ("conv1", "fc1", "fc2")})]

    # In the order of names: bias and kernel of conv1, of fc1, of fc2.
    assert specs("data") == [()] * 6 == specs("fsdp", count=1) == specs("model", count=1)
    assert specs("fsdp") == [(), (None, None, None, "batch"), (), ("batch",), (), ()]
    assert specs("model") == [(), (), ("batch",), (None, "batch"), (), ()]
    split = ("batch",), (None, None, None, "batch")
    assert specs("model", connected=["conv1"]) == [*split, *specs("model")[2:]]  # a convolution of one position
    one = Devices(1, "model")
    assert one != Devices(1, "model", ["conv1"])
    assert one == Devices(1, "model") != Devices(1, "fsdp") and hash(one) == hash(Devices(1, "model"))


def test_what_is_said_of_memory():
    text = described(8, "fsdp").state_text("parameters", STATE)
    total, each = 4 * (294912 + 512 + 2097152 + 512 + 40990 + 10 + 1), 4 * (36864 + 512 + 262144 + 512 + 40990 + 10 + 1)
    assert (round(total / 1e6, 1), round(each / 1e6, 2)) == (9.7, 1.36)
    assert text == (
        "parameters: 9.7 MB in all, 1.4 MB on each of 8 devices; whole on each, as 8 divides no axis: "
        "fc2.kernel [4099, 10]"
    )
    assert "9.7 MB on each of 8" in described(8, "data").state_text("parameters", STATE)


def test_a_batch_that_does_not_divide_is_refused_with_the_numbers():
    with pytest.raises(
        ValueError, match=r"train.batch_size \(=12\) must be a positive multiple of the 8 local devices, e.g. 16"
    ):
        described(8, "data").per_device(12, "train.batch_size")
    with pytest.raises(ValueError, match=r"\(=12\).* the 8 devices \(4 of each of 2 processes\), e.g. 16"):
        described(8, "data", processes=2).per_device(13, "b (=12)")


@pytest.mark.parametrize("sharding", ["fsdp", "model"])
def test_several_seeds_are_not_split(sharding):
    config = small_config()
    config.train.sharding = sharding
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.arange(4) % 2
    with pytest.raises(
        ValueError, match=f"train.sharding \\(='{sharding}'\\) .*each net whole on one; leave it at 'da"
    ):
        many_seeds.train_seeds(config, from_arrays((images, labels)), [0, 1])


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    cases = "qa_net,full_cnn,lenet5,normalised,own,connected,bfloat16"
    folder = tmp_path_factory.mktemp("eight")
    done = run_python(PROGRAMS / "train_on_eight_devices.py", cases, folder, JAX_NUM_CPU_DEVICES=8)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_eight_devices_train_as_one(lines):
    """Twenty steps, in which only sums are rounded otherwise: sums of examples, in another order."""
    trained = [line for line in lines if "losses" in line]
    assert len(trained) == 12
    for line in trained:
        # bfloat16 has 8 bits, so that a float32 sum that differs in its last bit may turn an activation's rounding,
        # by 1/256 of it; of thousands of activations a few do, each an example's share of a gradient.
        tolerance = 2e-3 if line["case"] == "bfloat16" else 1e-5
        assert line["losses"] < tolerance and line["variables"] < tolerance, line


@pytest.mark.slow
def test_devices_are_summed_in_float32(lines):
    """XLA:CPU adds in float32 what a program sums in half precision, under a name that says so; none is found."""
    assert {line["sharding"] for line in lines if line["case"] == "bfloat16"} == {"data", "fsdp", "model"}
    assert not [line for line in lines if line.get("rounded")]


@pytest.mark.slow
def test_what_devices_send_each_other(lines):
    """With "model" activations before a split layer, and no gradient of its kernel; with "fsdp" the kernel itself."""
    sent = {(line["case"], line["sharding"]): line["collectives"] for line in lines if "collectives" in line}
    assert ["all-reduce", "120,400"] in sent["lenet5", "data"]
    assert ["all-gather", "400,120"] in sent["lenet5", "fsdp"]
    assert ["all-gather", "16,5,5,16"] in sent["lenet5", "model"]
    for case in ("lenet5", "full_cnn", "own", "connected", "bfloat16"):
        kernel = {"connected": 16_384, "lenet5": 48_000, "full_cnn": 16_384, "own": 131_072, "bfloat16": 16_384}[case]
        values = [np.prod([int(n) for n in sizes.split(",")]) for _, sizes in sent[case, "model"]]
        assert kernel not in values, sent[case, "model"]


@pytest.mark.slow
def test_a_run_goes_on_however_it_was_split(lines):
    """A checkpoint has the same arrays whoever wrote it, and they are read into the places of whoever reads it."""
    found = [line for line in lines if line["case"] in ("resumed", "made")]
    assert len(found) == 5 and all(line["equal"] and line["in place"] for line in found), found


@pytest.mark.slow
def test_scores_of_split_nets(lines):
    """The mean loss over 40 examples, of nets that differ by rounding; batches of 13 are filled up to 16."""
    found = [line for line in lines if line["case"] == "scored"]
    assert len(found) == 3 and all(line["same"] and line["loss"] < 1e-6 for line in found), found
