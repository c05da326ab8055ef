"""The report and the page of a study that ran."""

import numpy as np
import pytest

from cnn.runs import logs
from experiments.ablation import (
    analysis,
    plots,
    store,
    study_report,
    study_tables,
    study_words,
)
from experiments.ablation.study import TEST, Contrast
from tests.experiments.small_study import lines, small_study


@pytest.mark.slow
def test_the_report_in_words_and_numbers(finished):
    text = (finished / "report.md").read_text()
    values = {(line["cell"], line["seed"]): line["values"] for line in lines(finished)}
    difference = np.mean([values["average", seed][TEST] - values["max", seed][TEST] for seed in (0, 1)])
    row = next(line for line in text.splitlines() if line.startswith("| average "))
    mean = np.mean([values["average", seed][TEST] for seed in (0, 1)])
    assert f"{mean:.2%}" in row and f"{100 * difference:+.2f} (" in row
    assert f"- command: {logs.command()}\n" in text  # a study made in Python is made again by its program
    assert "Holm's over all 3 comparisons." in text
    assert text.count("\n- ") >= 3 + 6
    for name in ("effects.png", "effects_other.png", "series_0.png"):
        assert f"({name})" in text and (finished / name).stat().st_size > 5000


@pytest.mark.slow
def test_the_report_names_the_data_and_marks_notes_of_another_base(finished):
    assert "- data: fake\n" in (finished / "report.md").read_text()
    study = small_study(notes="Pictures are grey.")
    assert study_words.notes(study, study.base, {"train.steps": 6}) == "Pictures are grey."
    marked = study_words.notes(study, "mini.py", {"data.name": "digits"})
    assert marked == (
        "The study was declared for configs/smoke.py, not for the base mini.py, data.name = 'digits'; its notes on "
        "that: Pictures are grey."
    )
    assert study_words.notes(small_study(), "mini.py", {}) == ""


@pytest.mark.slow
def test_the_accuracy_stands_behind_the_name_and_stays_there(finished):
    study = small_study()
    found = analysis.cells(study, lines(finished), 2)
    compared = analysis.comparisons(study, found)
    main = study_tables.main_table(study, found, compared)
    assert (main.headers[:2], main.lead) == (["cell", TEST], 2)
    assert [row[1].text for row in main.full_rows] == [f"{cell.summaries[TEST].mean:.2%}" for cell in found]
    comparisons = study_tables.comparisons_table(study, compared)
    assert (comparisons.headers[:3], comparisons.lead) == (["first", "second", "difference (95 % interval)"], 3)
    assert comparisons.full_rows[0][2].text.startswith(f"{100 * compared[0].difference.mean:+.2f} (")
    # Every number that needs a word has one, in Markdown as on the page.
    text = (finished / "report.md").read_text()
    assert all(f"- *{title}*: {meaning}\n" in text for title, meaning in (*main.meanings, *comparisons.meanings))


@pytest.mark.slow
def test_the_page_opens_in_a_browser_and_sorts(finished, browser):
    browser.open(finished / "report.html")
    assert "Does <it> matter?" in browser.driver.find_element("tag name", "body").text
    widths = browser.driver.execute_script("return [...document.images].map((i) => i.naturalWidth)")
    assert len(widths) == 3 + 2 * 2 and min(widths) > 100
    column = browser.driver.execute_script(
        "return [...document.querySelectorAll('table')[0].querySelectorAll('th')].findIndex("
        "(th) => th.innerText.startsWith('test accuracy'))"
    )
    browser.header(column).click()
    shown = [float(row[column].rstrip("%")) for row in browser.cells()]
    browser.header(column).click()
    assert [float(row[column].rstrip("%")) for row in browser.cells()] == shown[::-1]
    assert browser.requests() == [] and browser.complaints() == []


def test_a_picture_of_any_cell_is_a_file_of_its_own(tmp_path):
    opened = store.Store(str(tmp_path), {"study": "x", "measures": []}, {})
    for cell in ("5x5, 3x3/../x", "a b", "a-b", "a_b"):
        opened.add_pictures(cell, {"kernels.png": cell.encode()})
        with open(opened.picture(cell, "kernels.png"), "rb") as file:
            assert file.read() == cell.encode()
    assert len(list((tmp_path / "pictures").iterdir())) == 4


@pytest.mark.slow
def test_rows_of_the_effects_say_both_sides(finished, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(plots, "effects_picture", lambda path, rows, title, unit: drawn.update({unit: rows}))
    study = small_study(contrasts=(Contrast(("max", TEST), ("max", "shifted 1 px")),))
    cells_found = analysis.cells(study, lines(finished), 2)
    study_report.draw_plots(str(tmp_path), study, cells_found, analysis.comparisons(study, cells_found))
    names = [row.name for row in drawn["points"]]
    assert names == ["max", "average (test accuracy)", "max: test accuracy less shifted 1 px"]
    assert [row.name for row in drawn[""]] == ["max", "average (feature distance 1 px)"]


@pytest.mark.slow
def test_the_report_says_what_the_cells_started_from(finished):
    text = (finished / "report.md").read_text()
    assert "all: configs/smoke.py, train.steps = 6, net.options.features = 4, net.options.width = 8" in text
    assert "the same order of examples" in text
    assert "other examples" in study_words.legend([{"train_examples": n, "test_examples": 5} for n in (1, 2)])
