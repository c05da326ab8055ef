"""Files that are written whole or not at all, also where the disk is full, and files that grow by whole pieces."""

import os

import numpy as np
import pytest

from cnn.reports import html
from cnn.runs import events, logs
from cnn.runs.checkpoint import Checkpoints
from cnn.runtime import whole
from cnn.training import predict
from tests.disks import fill, read_only, small_disk, writable

FULL = r"cannot be written: No space left on device; make room on the disk, the same command goes on"


def test_what_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "result.json"
    logs.write_json(str(path), {"a": 1})
    with pytest.raises(TypeError):
        logs.write_json(str(path), {"a": object()})
    with pytest.raises(KeyboardInterrupt), whole.written(str(path)) as part, open(part, "w"):
        raise KeyboardInterrupt
    assert logs.read_json(str(path)) == {"a": 1} and os.listdir(tmp_path) == ["result.json"]
    with pytest.raises(
        OSError, match=r"no/x.json cannot be written: No such file or directory; when the cause is gone"
    ):
        logs.write_json(str(tmp_path / "no" / "x.json"), {})


def test_on_a_full_and_on_a_read_only_disk(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        writers = {
            "a.json": lambda path, n: logs.write_json(path, ["x" * n]),
            "a.csv": lambda path, n: logs.write_csv(path, ["x"], [["x" * n]]),
            "a.html": lambda path, n: html.write(path, "x" * n, []),
            "p.json": lambda path, n: predict.write_predictions(path, [_prediction("x" * n)], 1),
        }
        for name, write in writers.items():
            write(str(disk / name), 1)
        before = {name: (disk / name).read_bytes() for name in writers}
        lines = whole.Appended(str(disk / "metrics.jsonl"))
        lines.add(b"first\n")
        curves = events.Events(str(disk / "tensorboard"), 0)
        filler = fill(disk)
        for name, write in writers.items():
            with pytest.raises(OSError, match=f"^{disk / name} {FULL}$"):
                write(str(disk / name), 10**6)
        for _ in range(2):
            with pytest.raises(OSError, match=f"metrics.jsonl {FULL}$"):
                lines.add(b"x" * 10**5 + b"\n")  # of which a part fits
        curves.add(1, {f"train/{i}": 0.0 for i in range(200)})
        os.remove(filler)
        lines.add(b"second\n")
        lines.sync()
        lines.close()
        curves.close()
        read_only(disk)
        del before["p.json"], writers["p.json"]  # refused before anything is predicted, in a line of its own
        for name, write in writers.items():
            with pytest.raises(OSError, match=f"^{disk / name} cannot be written: Read-only file system; make it wri"):
                write(str(disk / name), 1)
        with pytest.raises(OSError, match="Read-only file system"):
            whole.Appended(str(disk / "metrics.jsonl"))
        assert (disk / "metrics.jsonl").read_bytes() == b"first\nsecond\n"
        assert {name: (disk / name).read_bytes() for name in writers} == before
        assert sorted(os.listdir(disk)) == sorted([*before, "p.json", "metrics.jsonl", "tensorboard"])


def test_curves_for_tensorboard_end_where_the_disk_is_full(tmp_path, capsys):
    """Training does not: metrics.jsonl has them. What was written can be read by TensorBoard's reader of records."""
    from tensorboardX.proto.event_pb2 import Event

    with small_disk(tmp_path / "disk") as disk:
        curves = events.Events(str(disk / "tensorboard"), 6)
        curves.add(7, {"train/loss": 0.5})
        filler = fill(disk)
        curves.add(8, {f"train/{i}": 0.0 for i in range(1000)})
        curves.add(9, {"train/loss": 0.25})
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "TensorBoard's curves end here" in said and "No space left" in said
        os.remove(filler)
        (path,) = (disk / "tensorboard").iterdir()
        found = [Event.FromString(record) for record in _records(path.read_bytes())]
    assert [one.step for one in found[:4]] == [0, 7, 7, 7] and found[2].session_log.status == 1
    assert (found[3].summary.value[0].tag, found[3].summary.value[0].simple_value) == ("train/loss", 0.5)
    assert all(one.step == 8 for one in found[4:])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of TensorStore, after failed writes
def test_checkpoints_on_a_full_disk_end_in_one_line_and_keep_those_before(tmp_path, caplog):
    large, small = {"params": np.random.default_rng(0).normal(size=400_000)}, {"params": np.arange(3.0)}
    with small_disk(tmp_path / "disk", "2m") as disk:
        with Checkpoints(str(disk), 3) as checkpoints:
            checkpoints.save(1, small, small)
        said = f"^the checkpoint of step 2 in {disk}/checkpoints {FULL}; that of step 1 stays$"
        with pytest.raises(OSError, match=said), Checkpoints(str(disk), 3) as checkpoints:
            checkpoints.save(2, large, large)
        with pytest.raises(KeyError), Checkpoints(str(disk), 3) as checkpoints:
            checkpoints.save(2, large, large)
            raise KeyError  # the error of the block came first, and is the one that is raised
        assert os.listdir(disk / "checkpoints") == ["1"]  # nothing is left that takes the room of another
        read_only(disk)
        with Checkpoints(str(disk), 3) as checkpoints:  # reading writes nothing
            found = checkpoints.restore(1, variables=small)
            with pytest.raises(OSError, match="the checkpoint of step 2 in .* cannot be written: .*Read-only"):
                checkpoints.save(2, small, small)
        writable(disk)
        with Checkpoints(str(disk), 3) as checkpoints:
            checkpoints.save(2, small, small)
        assert sorted(os.listdir(disk / "checkpoints")) == ["1", "2"]
    np.testing.assert_array_equal(found["variables"]["params"], small["params"])
    assert "Traceback" not in caplog.text


def _records(data):
    """The records of a file of TensorFlow's, whose last may be cut: there is none here, as pieces are taken back."""
    place = 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 8], "little")
        yield data[place + 12 : place + 12 + size]
        place += size + 16
    assert place == len(data)


def _prediction(name):
    return predict.Prediction("a.png", name, 1.0, np.ones(1, np.float32), [name], 0.0)
