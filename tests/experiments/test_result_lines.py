"""The results of a study: damaged lines are computed again, and a damaged study.json is known from them."""

import json

import pytest

from configs import smoke
from experiments.ablation.cells import TUNING_SEEDS
from experiments.ablation.store import Store

STUDY = {"study": "pools", "measures": []}


def configs(rates=(0.1,), steps=6):
    found = []
    for rate in rates:
        config = smoke.get_config()
        config.train.steps, config.train.learning_rate = steps, rate
        found.append(config)
    return {"max": tuple(found), "average": tuple(found)}


def opened(workdir, **options):
    return Store(str(workdir), STUDY, configs(**options))


def seed_line(cell, seed, accuracy=0.5):
    return {"kind": "seed", "cell": cell, "seed": seed, "chosen": 0, "values": {"test accuracy": accuracy}}


@pytest.fixture(name="workdir")
def _workdir(tmp_path):
    store = opened(tmp_path)
    for cell in ("max", "average"):
        store.add([seed_line(cell, seed) for seed in (0, 1)])
    return tmp_path


def keys(store):
    return [(record["cell"], record["seed"]) for record in store.records]


ALL = [("max", 0), ("max", 1), ("average", 0), ("average", 1)]


def test_a_damaged_line_is_left_out_and_its_seed_is_missing(workdir, capsys):
    path = workdir / "results.jsonl"
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    for damaged in (
        b"half a line\n",
        lines[1].replace(b"0.5", b"0.6"),
        b"\xff\n",
        b"[]\n",
        b"\n",
        lines[1][:-9] + b"\n",
    ):
        path.write_bytes(lines[0] + damaged + b"".join(lines[2:]))
        store = opened(workdir)
        assert keys(store) == [ALL[0], *ALL[2:]] and store.seeds_done("max") == {0}
        store.add([seed_line("max", 1)])
        assert opened(workdir).seeds_done("max") == {0, 1}
    assert "results.jsonl: line 2 is damaged; the seeds without a line are trained again" in capsys.readouterr().err
    path.write_bytes(content + lines[0] + lines[1][:20])  # a line twice, and one that a kill cut off
    assert keys(opened(workdir)) == ALL and path.read_bytes() == content
    path.write_bytes(content)
    (workdir / "results.checksums").write_text("")  # without its checksum no line is known to be right
    assert keys(opened(workdir)) == []


def test_results_of_an_older_study_are_taken_and_get_checksums(workdir):
    (workdir / "results.checksums").unlink()
    assert keys(opened(workdir)) == ALL
    content = (workdir / "results.jsonl").read_text()
    (workdir / "results.jsonl").write_text(content.replace("0.5", "0.9", 1))
    assert keys(opened(workdir)) == ALL[1:]


def test_a_damaged_study_is_known_from_its_results(workdir, capsys):
    path = workdir / "study.json"
    whole = path.read_text()
    for damaged in ("", whole[:200], "[]", whole.replace("pools", "polls", 1), whole.replace("smoke", "x"), None):
        path.unlink() if damaged is None else path.write_text(damaged)
        assert keys(opened(workdir)) == ALL and path.read_text() == whole
    assert "written anew, as the lines of results.jsonl are of this study" in capsys.readouterr().err
    with pytest.raises(ValueError, match="holds another study.*train.steps is 6 there and 7 here.*Choose another"):
        opened(workdir, steps=7)
    for damaged in (whole[:200], None):
        path.unlink() if damaged is None else path.write_text(damaged)
        with pytest.raises(ValueError, match=r"study.json is .*does not say what it is of; restore it") as error:
            opened(workdir, steps=7)
        assert "\n" not in str(error.value)
    assert len((workdir / "results.jsonl").read_text().splitlines()) == 4


def test_a_cell_that_lost_a_tuning_line_is_run_again(tmp_path):
    """Which config it chose is known from all of them together."""
    store = opened(tmp_path, rates=(0.1, 0.2))
    tried = [
        {"kind": "tuning", "cell": "max", "seed": seed, "chosen": number, "validation_accuracy": 0.5}
        for number in (0, 1)
        for seed in TUNING_SEEDS
    ]
    store.add([*tried, seed_line("max", 0)])
    store.add(tried[:0] or [{**one, "cell": "average"} for one in tried])  # a kill between tuning and the first seed
    assert {record["cell"] for record in opened(tmp_path, rates=(0.1, 0.2)).records} == {"max"}
    lines = (tmp_path / "results.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 5 and json.loads(lines[0])["kind"] == "tuning"
    (tmp_path / "results.jsonl").write_text("".join(["{\n", *lines[1:]]))
    assert opened(tmp_path, rates=(0.1, 0.2)).records == []
