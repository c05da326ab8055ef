"""The small files of a run: repaired from their copies in a checkpoint, or refused in a line that names the file."""

import json
import math

import numpy as np
import pytest

from cnn.runs import config as config_lib
from cnn.runs import facts, logs, results
from cnn.runs.checkpoint import Checkpoints
from cnn.runtime import json_files
from configs import default

FACTS = {"mean": [0.5], "std": [0.25], "class_names": ["a", "b"], "image_shape": [8, 8, 1]}


@pytest.fixture(name="workdir")
def _workdir(tmp_path):
    """A run with one checkpoint, of step 4, and two lines of metrics after it."""
    config_lib.save(default.get_config(), str(tmp_path))
    logs.write_json(str(tmp_path / "data.json"), FACTS)
    with logs.MetricWriter(str(tmp_path), 0) as writer:
        for step in (2, 4):
            writer.write(step, "train", {"loss": 1 / step, "seconds": float(step)})
        with Checkpoints(str(tmp_path), 2) as checkpoints:
            checkpoints.save(4, {"params": {"bias": np.zeros(2, np.float32)}})
        for step in (6, 8):
            writer.write(step, "train", {"loss": 1 / step, "seconds": float(step)})
    return tmp_path


@pytest.mark.parametrize("name, read", [("config.json", config_lib.load), ("data.json", facts.read)])
def test_a_damaged_file_is_read_from_its_copy(workdir, name, read, capsys):
    path = workdir / name
    content = path.read_bytes()
    whole = json.loads(json.dumps(read(str(workdir)), default=dict))
    for number, damaged in enumerate(
        (content[:40], b"", bytes(len(content)), content.replace(b":", b";", 1), b"[]", None)
    ):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        assert json.loads(json.dumps(read(str(workdir)), default=dict)) == whole
        said = capsys.readouterr().err
        assert number in (0, 2, 3, 4) or "its copy in the checkpoint of step 4 is used" in said
        assert not said or (said.startswith(f"warning: {path} is ") and said.count("\n") == 1)
    (workdir / "checkpoints" / "4" / "checksums.json").unlink()
    path.write_bytes(content[:40])
    with pytest.raises(ValueError, match=f"{name} is damaged, it is no JSON from line .*; restore it, or train again"):
        read(str(workdir))


def test_a_file_that_says_something_else_than_its_copy_is_refused(workdir):
    saved = json.loads((workdir / "config.json").read_text())
    saved["eval"]["batch_size"] += 1  # may change when a run goes on
    saved["train"]["steps"], saved["train"]["epochs"] = 7, None  # as --longer writes it
    (workdir / "config.json").write_text(json.dumps(saved))
    assert config_lib.load(str(workdir)).eval.batch_size == saved["eval"]["batch_size"]
    saved["train"]["dtype"] = "bfloat16"
    (workdir / "config.json").write_text(json.dumps(saved))
    with pytest.raises(
        ValueError, match="train.dtype is bfloat16 in it and float32 in the copy; restore it, or remove it"
    ):
        config_lib.load(str(workdir))
    (workdir / "data.json").write_text(json.dumps({**FACTS, "mean": [0.51]}))
    with pytest.raises(ValueError, match=r"data.json is not as .*mean is \[0.51\] in it and \[0.5\] in the copy"):
        facts.read(str(workdir))


WRONG_FACTS = [
    ({"std": [0.0]}, "std .* must be numbers above 0"),
    ({"std": [-1.0]}, "std"),
    ({"std": [math.nan]}, "std"),
    ({"std": None}, "std"),
    ({"mean": ["x"]}, "mean"),
    ({"mean": []}, "mean"),
    ({"mean": [True]}, "mean"),
    ({"mean": [0.1, 0.2]}, "do not go together"),
    ({"class_names": ["a", 3]}, "class_names .* must be texts"),
    ({"class_names": "ab"}, "class_names"),
    ({"class_names": []}, "class_names"),
    ({"image_shape": [8.0, 8, 1]}, "image_shape .* must be three whole numbers"),
    ({"image_shape": [10**9, 10**9, 1]}, "image_shape"),
    ({"image_shape": [8, 8]}, "image_shape"),
    ({"image_shape": [8, 8, 0]}, "image_shape"),
    ({"examples": {"train": -1}}, "examples"),
    ({"digest": {"train": 7}}, "digest"),
    ({"border_brightness": [1]}, "border_brightness"),
    ({"notes": "x"}, "notes"),
]


def test_saved_values_are_checked(tmp_path):
    for wrong, message in WRONG_FACTS:
        (tmp_path / "data.json").write_text(json.dumps({**FACTS, **wrong}))
        with pytest.raises(ValueError, match=f"data.json is damaged.*{message}.*; restore it, or train again") as error:
            facts.read(str(tmp_path))
        assert "\n" not in str(error.value)


def test_what_is_wrong_with_a_text_is_said_in_plain_words(tmp_path):
    cases = {
        b"": "is empty",
        b" \n": "is empty",
        b"\0\0\0": "holds zeros only",
        b'{"a": 1\0}': "is no JSON from line 1, column 8 on",
        b'{"a"\n 1}': "is no JSON from line 2, column 2 on",
        b'{"a": "\xff"}': "is no text from byte 7 on",
        b"[" * 100_000: "is nested too deep",
        b"[" * 200 + b"]" * 200: "is nested too deep",
        b'{"a": 1, "b": 2, "a": 3}': "names 'a' twice",
        b"1" * 5000: "holds a number that is too long",
    }
    for content, message in cases.items():
        with pytest.raises(json_files.JsonError, match=f"^{message}$"):
            json_files.parse(content)
    assert json_files.parse(b'{"a": [1, null, NaN]}')["a"][:2] == [1, None]
    assert json_files.digest({"a": (1, 2.5), "b": None}) == json_files.digest({"b": None, "a": [1, 2.5]})
    (tmp_path / "data.json").mkdir()
    with pytest.raises(ValueError, match="data.json cannot be read: Is a directory; restore it"):
        facts.read(str(tmp_path))


def test_lines_of_metrics_are_those_of_the_checkpoint_and_the_whole_ones_after_it(workdir, capsys):
    path = workdir / "metrics.jsonl"
    whole, content = logs.read_metrics(str(workdir)), path.read_bytes()
    assert [line["step"] for line in whole] == [2, 4, 6, 8]
    lines = content.splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0].replace(b"0.5", b"0.7"), *lines[1:]]))  # a number that is not the run's
    assert logs.read_metrics(str(workdir)) == whole
    assert "metrics.jsonl is damaged; the lines up to step 4 are those of its copy" in capsys.readouterr().err
    for damaged in (b"", content[30:], lines[1] + lines[0]):
        path.write_bytes(damaged)
        assert [line["step"] for line in logs.read_metrics(str(workdir))][:2] == [2, 4]
    path.unlink()
    assert logs.read_metrics(str(workdir)) == whole[:2]
    path.write_bytes(b"".join([*lines[:2], b'{"step": true, "split": "train"}\n', lines[3], b'{"step": 9']))
    assert [line["step"] for line in logs.read_metrics(str(workdir))] == [2, 4, 8]
    assert "metrics.jsonl is damaged at line 3, after step 4" in capsys.readouterr().err
    with logs.MetricWriter(str(workdir), 4):
        assert path.read_bytes() == b"".join(lines[:2])
    (workdir / "checkpoints" / "4" / "checksums.json").unlink()  # no copy is known to be right
    for line in (b'{"step": -1, "split": "train"}', b'{"step": 1, "split": "x"}', b'{"step": 1}', b"[]", b"\xff", b"{"):
        path.write_bytes(lines[0] + line + b"\n" + lines[1])
        with pytest.raises(ValueError, match="metrics.jsonl, line 2, is damaged, it .*; take the line out"):
            logs.read_metrics(str(workdir))
    with logs.MetricWriter(str(workdir), 0):  # all steps are taken again
        assert path.read_bytes() == b""


def test_a_result_is_what_the_run_wrote(tmp_path):
    path = tmp_path / "result.json"
    logs.write_json(str(path), {"test_accuracy": 0.75, "steps": 4})
    (tmp_path / "confusion.csv").write_text("a,b\n")
    assert results.read(str(tmp_path))["steps"] == 4  # of a run of before there were lists
    results.close(str(tmp_path))
    assert results.read(str(tmp_path))["test_accuracy"] == 0.75
    for name, old, new, message in (
        ("result.json", "0.75", "0.85", "result.json has other bytes than were written"),
        ("confusion.csv", "a,b", "a,c", "confusion.csv has other bytes"),
        ("result.json", "0.75", "7.5", r"test_accuracy \(=7.5\) must be a number from 0 to 1"),
        ("result.json", "{", "", "is no JSON from line"),
        ("checksums.json", "{", "", "checksums.json is no JSON"),
    ):
        content = (tmp_path / name).read_text()
        (tmp_path / name).write_text(content.replace(old, new, 1))
        with pytest.raises(ValueError, match=f"{message}.*main.py with the config and --workdir of the run"):
            results.read(str(tmp_path))
        (tmp_path / name).write_text(content)
    logs.write_json(str(path), {"steps": 4})
    with pytest.raises(ValueError, match="result.json is damaged, it has no test_accuracy"):
        results.read(str(tmp_path))
