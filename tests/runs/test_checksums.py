"""Checkpoints are complete and right, or not used: every byte of a step counts, and its number and name do."""

import errno
import os
import shutil

import numpy as np
import pytest

from cnn.runs import checksums
from cnn.runs.checkpoint import CheckpointError, Checkpoints

STATE = {"params": {"fc1": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)}}}
TEMPLATE = {"params": {"fc1": {"kernel": np.zeros((3, 4), np.float32)}}}


def saved(workdir, *steps, keep=3):
    with Checkpoints(str(workdir), keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, STATE, {"count": np.int32(step)})
    return workdir / "checkpoints"


def latest(workdir):
    with Checkpoints(str(workdir), 3) as checkpoints:
        return checkpoints.restore_latest(variables=TEMPLATE)


def test_a_flipped_byte_in_any_file_of_a_step_is_found(tmp_path, capsys):
    """One byte of each file, at a random place; then each file cut, emptied, zeroed and removed."""
    (tmp_path / "config.json").write_text("{}")
    folder = saved(tmp_path, 1, 2)
    rng = np.random.default_rng(0)
    files = [path for path in sorted((folder / "2").rglob("*")) if path.is_file()]
    assert {"checksums.json", "_CHECKPOINT_METADATA", "config.json", "manifest.ocdbt"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        place = int(rng.integers(len(content)))
        flipped = content[:place] + bytes([content[place] ^ 1 << int(rng.integers(8))]) + content[place + 1 :]
        for damaged in (flipped, content[:place], b"", bytes(len(content)), None):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            fault = checksums.fault(str(folder), 2)
            assert fault and path.name in fault, (path, damaged)
        path.write_bytes(flipped)
        if path.parent.name in ("2", "d"):
            step, found = latest(tmp_path) or (None, None)
            assert step == 1 and found is not None
            np.testing.assert_array_equal(
                found["variables"]["params"]["fc1"]["kernel"], STATE["params"]["fc1"]["kernel"]
            )
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith("warning: the checkpoint of step 2 cannot be read: ") and path.name in line
            assert line.endswith("; step 1 before it is used") and len(line) < 400
        path.write_bytes(content)
    assert latest(tmp_path)[0] == 2 and checksums.fault(str(folder), 2) is None
    shutil.copy(files[0], files[0].with_name("notes.txt"))  # what is not of the step does not matter
    assert latest(tmp_path)[0] == 2


def test_what_is_no_step_of_the_run_is_never_the_newest(tmp_path, capsys):
    folder = saved(tmp_path, 7)
    before = checksums.latest(str(folder))
    for name in ("999", "0012", "12.writing", "13.orbax-checkpoint-tmp-5", "-3", "x", "99999999999999"):
        (folder / name).mkdir()
    (folder / "14").write_text("a file")
    shutil.copytree(folder / "7", folder / "70")
    os.symlink(folder / "7", folder / "71")
    assert before == checksums.latest(str(folder)) == 7
    assert checksums.steps(str(folder)) == [999, 71, 70, 7]
    assert latest(tmp_path)[0] == 7
    said = capsys.readouterr().err
    assert "999: it is empty; step 7" in said and "70: it is a copy of step 7; step 7 before it is used" in said
    with Checkpoints(str(tmp_path), 3) as checkpoints:
        checkpoints.drop_after(7)
    left = {path.name for path in folder.iterdir()}
    assert left == {"7", "0012", "-3", "x", "99999999999999", "14"}


def test_the_older_one_goes_when_the_newer_is_known_to_be_whole(tmp_path, monkeypatch):
    """Also with room for one; where the newer cannot be written, nothing is left of it and a line says so."""
    folder = saved(tmp_path, 1, keep=1)
    saved(tmp_path, 2, keep=1)
    assert [path.name for path in folder.iterdir()] == ["2"]

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("write", "keep_copies"):
        with monkeypatch.context() as patch:
            patch.setattr(checksums, name, full)
            match = r"checkpoint of step 3 in .* cannot be written: No space left.*make room.*; that of step 2 stays$"
            with pytest.raises(OSError, match=match):
                saved(tmp_path, 3, keep=1)
        assert [path.name for path in folder.iterdir()] == ["2"] and latest(tmp_path)[0] == 2
    # A damaged one under the number that is written now is replaced.
    (folder / "3").mkdir()
    saved(tmp_path, 3, keep=1)
    assert [path.name for path in folder.iterdir()] == ["3"] and latest(tmp_path)[0] == 3


def test_a_step_without_its_list_is_not_used_unless_it_is_older_than_lists(tmp_path):
    folder = saved(tmp_path, 1)
    (folder / "1" / "checksums.json").unlink()
    with pytest.raises(CheckpointError, match=r"step 1 .*checksums.json is missing; no other checkpoint"):
        latest(tmp_path)
    metadata = folder / "1" / "_CHECKPOINT_METADATA"
    metadata.write_text(metadata.read_text().replace('"checksums": "checksums.json"', ""))  # as Orbax wrote it before
    assert latest(tmp_path)[0] == 1
