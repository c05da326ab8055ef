"""What a study found in a few lines: every comparison in the group that its numbers put it in."""

import json

import pytest

from experiments.ablation import analysis, runner, store, study_findings, study_tables
from experiments.ablation.study import TEST, Contrast, Measure, Outcome, Study

DISTANCE = Outcome("distance", "px", higher_is_better=False)
COUNT = Outcome("count", "", higher_is_better=None)
STUDY = Study(
    question="?",
    cells={"a": {}, "b": {}, "c": {}, "d, wide": {}},
    baseline="a",
    measures=(Measure((DISTANCE, COUNT), lambda trained: {}),),
    contrasts=(Contrast(("b", "distance"), ("a", "distance")), Contrast(("c", "count"), ("b", "count"))),
    tune={"train.learning_rate": (0.1, 0.2, 0.4)},
)
SPREAD = (0.0, 0.001, -0.001, 0.0005)  # of seeds
MEANS = {  # test accuracy, distance, count
    "a": (0.5, 3.0, 10.0),
    "b": (0.6, 2.0, 10.0),
    "c": (0.4, 3.0, 12.0),
    "d, wide": (0.7, 3.0, 10.0),
}


def record(cell, seed):
    accuracy, distance, count = MEANS[cell]
    values = {
        TEST: accuracy + (SPREAD[seed] if cell != "a" else 0),
        "distance": distance + (10 * SPREAD[seed] if cell == "b" else 0),
        "count": count + (100 * SPREAD[seed] if cell == "c" else 0),
    }
    curve = [{"epoch": 2.9, "validation_accuracy": accuracy - 0.1, "validation_loss": 1.0}]
    line = {"kind": "seed", "cell": cell, "seed": seed, "values": values, "diverged": None, "curve": curve}
    line |= {"chosen": 2 if cell == "d, wide" else 1, "train_examples": 1000 if cell == "a" else 2000}
    costs = {"parameters": 7000 + ord(cell[0]), "multiply_adds": 11, "step_bytes": 13, "epoch_seconds": 1.0}
    return {**line, **costs}


LINES = [record(cell, seed) for cell in STUDY.cells for seed in range(4)]
FOUND = analysis.cells(STUDY, LINES, 4)


def test_comparisons_stand_in_groups():
    lines = study_findings.findings(STUDY, analysis.comparisons(STUDY, FOUND), FOUND)
    assert [line.partition(": ")[0] for line in lines] == [
        "better than a",
        "worse than a",
        "inconclusive (tuned to the edge of what was tried), less a",
        "others, higher",
    ]
    better, worse, edge, other = (line.partition(": ")[2] for line in lines)
    # A smaller distance is better; a comparison of the baseline's outcome is not one of the "others".
    first, second = better.split("; ")
    assert first.startswith("b (test accuracy) +10.0") and second.startswith("b (distance) -0.999 (-1.0")
    assert second.endswith(" px")
    assert worse.startswith("c (test accuracy) -9.99 (-10.") and worse.endswith(")")
    assert edge.startswith("d, wide (test accuracy) +20.0")
    assert other.startswith("c (count) less b: +2.01 (+1.")


def test_what_differs_by_chance_alone_is_said_to():
    lines = [json.loads(json.dumps(line)) for line in LINES]
    for line in lines:
        line["chosen"] = 1
        line["values"][TEST] = 0.5 + (-1) ** line["seed"] * (0.01 if line["cell"] != "a" else 0)
    found = analysis.cells(STUDY, lines, 4)
    first = study_findings.findings(STUDY, analysis.comparisons(STUDY, found), found)[1]
    assert first.startswith("no significant difference from a: b (test accuracy) +0.00 (-1.84 to +1.84); c ")


def test_one_seed_allows_no_conclusion():
    found = analysis.cells(STUDY, LINES, 1)
    lines = study_findings.findings(STUDY, analysis.comparisons(STUDY, found), found)
    assert lines[1].startswith("no conclusion from one seed, less a: b (test accuracy) +10.00; ")


def test_what_is_missing_is_said():
    lines = [json.loads(json.dumps(line)) for line in LINES if line["cell"] != "b"]
    for line in lines:
        line["diverged"] = 7 if (line["cell"], line["seed"]) == ("c", 2) else None
        line["values"] = {**line["values"], TEST: MEANS["a"][0]} if line["cell"] == "c" else line["values"]
    found = analysis.cells(STUDY, lines, 4)
    told = study_findings.findings(STUDY, analysis.comparisons(STUDY, found), found)
    assert told[0] == "equal for each seed with a: c (test accuracy) +0.00 (+0.00 to +0.00)"
    assert "b (test accuracy) and a were not compared: b has no results." in told
    assert told[-1].endswith("c (seeds 2).") and told[-1].startswith("Diverged")
    two = [record(cell, seed) for cell in STUDY.cells for seed in (0, 1)]
    for line in two:
        line["values"][TEST] = 0.5 + (0.4 if line["cell"] != "a" and line["seed"] else 0)
    found = analysis.cells(STUDY, two, 2)
    told = study_findings.findings(STUDY, analysis.comparisons(STUDY, found), found)
    assert any(
        line.startswith("too few seeds for a conclusion, less a: b (test accuracy) +20.00 (n too") for line in told
    )


def test_limits():
    assert study_findings.limits(STUDY, [], "digits") == "Limits: there are no results."
    short = [{**LINES[0], "curve": [{"epoch": epoch}]} for epoch in (0.256, 2.56, 102.4)]
    assert "0.3 to 102 epochs" in study_findings.limits(STUDY, short, "digits")
    assert study_findings.limits(STUDY, LINES, "fashion_mnist") == (
        "Limits: data fashion_mnist, 1,000 to 2,000 training pictures, 2.9 epochs, nets of 7,097 to 7,100 parameters, "
        "4 seeds; nothing is said of other data, larger nets or longer training."
    )


def test_each_seed_has_its_accuracies():
    table = study_tables.seeds_table(FOUND)
    assert table.headers == ["test / validation, %", "seed 0", "seed 1", "seed 2", "seed 3"]
    assert [[cell.text for cell in row] for row in table.full_rows][1] == [
        "b",
        "60.00 / 50.00",
        "60.10 / 50.00",
        "59.90 / 50.00",
        "60.05 / 50.00",
    ]
    without = [{**line, "curve": []} for line in LINES if (line["cell"], line["seed"]) != ("b", 3)]
    rows = study_tables.seeds_table(analysis.cells(STUDY, without, 4)).full_rows
    assert [cell.text for cell in rows[1]] == ["b", "60.00 / –", "60.10 / –", "59.90 / –", "– / –"]


def test_results_with_and_without_mirror_images_are_not_mixed(tmp_path):
    config, facts = runner.load_base("configs/smoke.py"), {"study": "small", "measures": []}
    store.Store(str(tmp_path), facts, {"a": (config,)}).add([{**record("a", 0), "chosen": 0}])
    with config.unlocked():
        config.eval.batch_size += 1  # changes speed alone
    assert len(store.Store(str(tmp_path), facts, {"a": (config,)}).records) == 1
    with config.unlocked():
        config.eval.mirror = True
    with pytest.raises(ValueError, match="eval.mirror is False there and True here"):
        store.Store(str(tmp_path), facts, {"a": (config,)})


def test_a_study_of_an_earlier_version_goes_on(tmp_path):
    """Its configs lack the fields that were added since: numbers, lists, and those without a value."""
    config = runner.load_base("configs/smoke.py")
    facts = {"study": "small", "measures": []}
    opened = store.Store(str(tmp_path), facts, {"a": (config,)})
    opened.add([{**record("a", 0), "chosen": 0}])
    path = tmp_path / "study.json"
    older = json.loads(path.read_text())
    fields = older["cells"]["a"][0]
    for group, name in (("augment", "aspect"), ("augment", "mixup"), ("net", "output_activation"), ("train", "frozen")):
        del fields[group][name]
    path.write_text(json.dumps(older))
    assert len(store.Store(str(tmp_path), facts, {"a": (config,)}).records) == 1
    assert "aspect" in json.loads(path.read_text())["cells"]["a"][0]["augment"]
