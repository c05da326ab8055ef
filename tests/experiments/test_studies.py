"""Declarations of studies: what they must hold, how their fields are set, and that all of them can be built."""

import json

import pytest

from experiments.ablation import analysis, runner, study_words
from experiments.ablation import study as study_lib
from experiments.ablation.study import TEST, Contrast, Outcome
from tests.experiments.small_study import small_study
from tests.helpers import ROOT


def test_who_sets_epochs_takes_steps_away_and_the_other_way_round():
    study = small_study(shared={"train.epochs": None, "train.steps": 9})
    base = runner.load_base(study.base)
    lengths = [
        study_lib.cell_config(study, "max", base, overrides).train
        for overrides in ({}, {"train.epochs": 2.0}, {"train.steps": 5})
    ]
    assert [(train.epochs, train.steps) for train in lengths] == [(None, 9), (2.0, None), (None, 5)]


def test_an_option_may_change_its_type():
    base = runner.load_base("configs/ablation.py")
    config = study_lib.cell_config(small_study(tune={}), "max", base, {"net.options.features": 8})
    assert config.net.options.features == 8 and base.net.options.features == (16, 32)


def test_a_study_says_what_is_wrong_with_it():
    with pytest.raises(ValueError, match="baseline 'none' is none of the cells max, average"):
        small_study(baseline="none")
    with pytest.raises(ValueError, match="'speed' is measured by nothing; outcomes: test accuracy, shifted 1 px"):
        small_study(compared=("speed",))
    with pytest.raises(ValueError, match="a contrast names 'median'"):
        small_study(contrasts=(Contrast(("median", TEST), ("max", TEST)),))
    with pytest.raises(ValueError, match="tune names 2 fields"):
        small_study(tune={"train.learning_rate": (1,), "train.momentum": (0,)})


@pytest.mark.parametrize("name", study_lib.names())
def test_a_committed_report_concludes_what_its_results_say(name):
    """With "Inconclusive" before what compares a cell that was tuned to the edge of what was tried."""
    study, folder = study_lib.load(name), ROOT / "experiments" / "results" / name
    records = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    found = analysis.cells(study, records, study.seeds)
    expected = study_words.conclusions(study, analysis.comparisons(study, found), found)
    written = (folder / "report.md").read_text().partition("## What can be concluded\n\n")[2].partition("\n\n")[0]
    assert written.splitlines() == [f"- {sentence}" for sentence in expected]
    edge = study_words.at_edge(study, found)
    assert any(line.startswith("- Inconclusive, as the best") for line in written.splitlines()) == bool(edge)


def test_the_edge_of_what_was_tried():
    study = small_study(tune={"train.learning_rate": (0.1, 0.4, 0.2)})
    cells = [analysis.Cell(name, {}, {}, {}, 0, 0, 0, 0.0, chosen, []) for name, chosen in (("max", 1), ("average", 2))]
    assert study_words.at_edge(study, cells) == ["max"]
    assert study_words.edges(study, cells).endswith("may lie beyond, in: max.")
    assert study_words.at_edge(small_study(tune={}), cells) == []


@pytest.mark.slow
def test_every_declared_study_can_be_built():
    """On paper: nets, sizes, options and outcomes of all cells, at the shapes of their data."""
    shapes = {"fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
    shapes["experiments.digit_pages.crops:load"] = (28, 28, 1)
    names = study_lib.names()
    assert len(names) == 16
    for name in names:
        study = study_lib.load(name)
        base = runner.load_base(study.base)
        tables = {}
        for cell in study.cells:
            for config in runner.cell_configs(study, cell, base, {}):
                tables[cell] = study_lib.check(config, shapes[config.data.name], 10, 5000)[0]
                assert (config.train.epochs is None) != (config.train.steps is None)
        assert study.question.endswith("?") and len(study.comparisons) >= 2
        if name == "weight_sharing":
            rows = [tables[cell][0 if cell != "fully connected" else 1].params for cell in study.cells]
            assert rows == [136, 13 * 13 * (4 * 4 + 1) * 8, (28 * 28 + 1) * 13 * 13 * 8]
        if name == "kernel_size":
            assert {row.receptive_field for table in tables.values() for row in table if row.name == "pool1"} == {
                (8, 8)
            }


def test_outcomes_of_a_study():
    study = small_study()
    assert [outcome.name for outcome in study.outcomes] == [TEST, "shifted 1 px", "feature distance 1 px"]
    assert study.outcomes[2] == Outcome("feature distance 1 px", "", False)
    assert study.comparisons[0] == Contrast(("average", TEST), ("max", TEST)) and len(study.comparisons) == 3
