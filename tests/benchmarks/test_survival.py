"""The survival program: its words for what comes of a damage, its table, and a small part of it at work."""

import numpy as np
import pytest

from benchmarks import survival, survival_damages
from benchmarks.survival_subjects import Use
from tests.helpers import run_python


def test_words_for_what_comes_of_a_damage(tmp_path, capsys):
    import sys

    def use(result, line=""):
        def run(folder):
            print(line, file=sys.stderr)
            if isinstance(result, Exception):
                raise result
            return result

        return Use("try", run)

    def word(result, line=""):
        return survival_damages.classify(tmp_path, use(result, line), 1, 2)[0]

    assert word(1) == survival_damages.SAME and word(1, "warning: x") == survival_damages.NOTED
    assert word(2, "warning: x") == survival_damages.BEFORE
    assert word(2) == "FAULT: another result, silent" and word(3, "warning: x").startswith("FAULT: another result")
    assert word(ValueError(f"{tmp_path}/a.json is damaged")) == survival_damages.REFUSED
    assert word(ValueError("Expecting ':' delimiter")) == "FAULT: the file is not named"
    assert word(ValueError(f"{tmp_path}\nand more")) == "FAULT: several lines"
    assert word(KeyError("step")) == "FAULT: traceback of KeyError"
    assert word({"best": 1, "a": 2}, "the best of the steps from here on is kept").startswith("FAULT")


def test_damages_are_what_they_say(tmp_path):
    content = bytes(range(200))
    rng = np.random.default_rng(0)
    for how in survival_damages.DAMAGES:
        folder = tmp_path / how
        folder.mkdir()
        (folder / "a").write_bytes(content)
        survival_damages.damage(folder, "a", how, rng)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        if how == "flip":
            assert sum(x != y for x, y in zip(files["a"], content, strict=True)) == 3
        expected = {"zero": {"a": bytes(200)}, "delete": {}, "empty": {"a": b""}, "rename": {"a.copy": content}}
        expected["duplicate"] = {"a": content, "a.copy": content}
        assert how in ("flip", "truncate") or files == expected[how]
        assert how != "truncate" or (len(files["a"]) < 200 and content.startswith(files["a"]))
    kinds = {"checkpoints/12/variables/d/0123456789abcdef0123456789abcdef": "checkpoints/STEP/variables/d/ARRAY"}
    kinds |= {
        "m.ome.zarr/0/c/0/1/2": "m.ome.zarr/0/CHUNK",
        "m.zarr/1.0.2": "m.zarr/CHUNK",
        "config.json": "config.json",
    }
    assert {name: survival_damages.kind_of(name) for name in kinds} == kinds


def test_kinds_of_files_take_turns():
    cases = [("run", f"{name}.json", how, None) for name in "abc" for how in survival_damages.DAMAGES]
    order = survival_damages._in_turn(cases, np.random.default_rng(0))
    assert sorted(order) == list(range(21))
    for first in range(0, 21, 3):
        assert {cases[number][1] for number in order[first : first + 3]} == {"a.json", "b.json", "c.json"}


def test_the_table_counts_words():
    damage = {"subject": "run", "file": "config.json", "damage": "zero", "use": "train", "said": ""}
    results = {
        "kills": [{"job": "training", "moments": (1.0, 2.0), "word": "same result"}],
        "damages": [{**damage, "word": word} for word in ("refused", "refused", "same result")],
    }
    text = survival.report(results)
    assert "SIGKILL at 2 random moments" in text and "3 damages" in text and "refused: 2; same result: 1" in text
    assert "refused (2); same result" in text


def test_parts_are_put_together():
    kill = {"job": "training", "moments": (1.0,), "word": "same result"}
    damage = {"subject": "run", "file": "a", "damage": "zero", "use": "train", "said": "", "word": "refused"}
    facts = {"command": "a", "commit": "1", "python": "3.11", "load_before": 2.0, "load_after": 3.0}
    one = {"kills": [kill], "damages": [], **facts}
    other = {"kills": [], "damages": [damage, damage], **facts, "command": "b", "load_before": 1.0, "load_after": 4.0}
    found = survival.merged([one, other])
    assert found["kills"] == [kill] and found["damages"] == [damage, damage]
    assert (found["command"], found["commit"], found["load_before"], found["load_after"]) == ("a; b", "1", 1.0, 4.0)
    assert "SIGKILL at 1 random moments" in survival.report(found) and "refused (2)" in survival.report(found)


@pytest.mark.long
def test_a_small_part_of_it():
    done = run_python("-m", "benchmarks.survival", "--smoke")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "12 damages" in done.stdout and "FAULT" not in done.stdout
