"""While a process writes to a workdir, a study, an import or an export, a second one is refused at once."""

import os

import numpy as np
import pytest

from cnn import exchange
from cnn.exchange import workdirs
from cnn.exchange.classifier import Classifier
from cnn.nets import create, init
from cnn.runtime import locks
from cnn.train import train_and_evaluate
from experiments.ablation.runner import run_study
from tests.disks import fill, read_only, small_disk
from tests.experiments.small_study import SMALL, small_study
from tests.training.tiny_runs import DATA, leaves_of, tiny_config, without_pictures


def classifier():
    net = create("layer_pattern", 2, blocks=1, convs=1, features=2, width=4)
    return Classifier(net, init(net, (8, 8, 1)), (8, 8, 1), (0.5,), (0.5,), ("a", "b"))


def test_the_second_is_refused_and_writes_nothing(tmp_path):
    run = workdirs.as_run(classifier())
    study = {"study": small_study(), "seeds": 1, "overrides": SMALL}
    for write in (
        lambda: train_and_evaluate(tiny_config(), str(tmp_path), DATA),
        lambda: run_study("small", str(tmp_path), **study),
        lambda: workdirs.write(run, str(tmp_path), {}),
    ):
        with locks.alone(str(tmp_path / locks.NAME), "x"):
            with pytest.raises(
                locks.Taken, match=rf"^--workdir={tmp_path}: process {os.getpid()} on .* is writing here"
            ):
                write()
            assert os.listdir(tmp_path) == [locks.NAME]
    with (
        locks.alone(f"{tmp_path}/net.safetensors.lock", "x"),
        pytest.raises(locks.Taken, match="net.safetensors: proc"),
    ):
        exchange.save(f"{tmp_path}/net.safetensors", run)
    assert os.listdir(tmp_path) == []
    exchange.save(f"{tmp_path}/net.safetensors", run)
    assert os.listdir(tmp_path) == ["net.safetensors"]


def test_a_read_only_disk_is_refused_before_anything_is_done(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        read_only(disk)
        with pytest.raises(
            ValueError, match=f"^--workdir={disk}/run: {disk} cannot be written to; name another folder"
        ):
            train_and_evaluate(tiny_config(), str(disk / "run"), DATA)
        with pytest.raises(OSError, match=f"^--workdir={disk}/study: .* Read-only file system"):
            run_study("small", str(disk / "study"), study=small_study(), seeds=1, overrides=SMALL)
        with pytest.raises(OSError, match="net.safetensors: its lock .* cannot be written: Read-only file system"):
            exchange.save(f"{disk}/net.safetensors", workdirs.as_run(classifier()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of TensorStore, after failed writes
def test_a_run_whose_disk_becomes_full_goes_on_and_ends_in_the_same_numbers(tmp_path):
    """Before the first step, in the middle, and in the report."""
    config = tiny_config(steps=6)
    config.checkpoint.every_steps = 1
    with without_pictures(), small_disk(tmp_path / "disk", "4m") as disk:
        expected = train_and_evaluate(config, str(tmp_path / "there"), DATA)
        here = disk / "run"
        ends = []
        for left in (0, 10_000, 60_000, 110_000, 160_000, 210_000):
            filler = fill(disk, left)
            try:
                train_and_evaluate(config, str(here), DATA)
            except OSError as error:
                ends.append(str(error))
                assert "No space left on device" in ends[-1] and "\n" not in ends[-1]
                assert not (here / "report.html").exists() and not (here / "lock").exists()
            finally:
                os.remove(filler)
        assert len(ends) >= 3
        result = train_and_evaluate(config, str(here), DATA)
        for ours, theirs in zip(leaves_of(here), leaves_of(tmp_path / "there"), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert result["test_loss"] == expected["test_loss"]
