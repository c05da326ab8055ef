"""Tables that are wider than the page: what stays in view, and how the page says that they scroll."""

import pytest
from selenium.webdriver.common.by import By

from cnn.reports import html
from cnn.reports.html import Facts, Listing, Section, Text
from cnn.reports.tables import Column, Table
from tests.chromium import at_width

HOSTILE = "<script>document.title = 'owned'; console.error('owned')</script><img src=x onerror=alert(1)>\"'&amp;"


@pytest.mark.parametrize("width", [360, 1200])
def test_only_tables_scroll_sideways(browser, tmp_path, width):
    headers = [f"a long header {i}" for i in range(30)]
    word = "w" * 300
    items = [Table(headers, [[i] * 30 for i in range(100)]), Text(word), Listing(word), Facts({word: word})]
    html.write(str(tmp_path / "wide.html"), word, [Section(word, items)], word)
    driver = browser.open(tmp_path / "wide.html")
    at_width(driver, width)
    root = driver.find_element(By.TAG_NAME, "html")
    assert root.get_property("scrollWidth") == root.get_property("clientWidth") > 0.95 * width
    box = driver.find_element(By.CSS_SELECTOR, ".scroll")
    assert box.size["width"] < width < int(box.get_property("scrollWidth"))
    assert box.get_attribute("tabindex") == "0"  # so that arrow keys scroll it
    driver.execute_script("arguments[0].scrollTop = 500", box)
    head = driver.find_element(By.CSS_SELECTOR, "th")
    assert head.rect["y"] == pytest.approx(box.rect["y"], abs=2)  # a long table's header stays in view


@pytest.fixture(name="results", scope="module")
def _results(tmp_path_factory):
    """A page with a table of accuracies and many costs, and one that fits any window."""
    columns = [Column("method", "how an image is classified."), "accuracy", *(f"a cost of kind {i}" for i in range(14))]
    names = ["dense, stride 1", "a convolution of stride 2", "x"]
    rows = [[name, f"{90 + i}.25%", *range(1000, 1014)] for i, name in enumerate(names)]
    small = Table(["class", Column("right", "fraction that is right.")], [["cat", "90%"]], lead=2)
    long = Table([*columns[:1], "second", *columns[1:]], [[row[0], row[0], *row[1:]] for row in rows], lead=3)
    page = tmp_path_factory.mktemp("results") / "report.html"
    html.write(str(page), "t", [Section("s", [Table(columns, rows, "wide", lead=2), small, long])])
    return page


STATE = """
const figure = document.querySelectorAll('figure')[arguments[0]], box = figure.querySelector('.scroll');
const frame = box.getBoundingClientRect();
const place = (cell) => ['left', 'right'].map((side) => cell.getBoundingClientRect()[side] - frame.left);
return {
  scrolls: box.scrollWidth > box.clientWidth, left: box.scrollLeft, width: frame.width,
  hint: !figure.querySelector('.hint').hidden,
  shade: getComputedStyle(figure.querySelector('.table'), '::after').opacity,
  cells: [...box.querySelector('tbody tr').cells].map(place), heads: [...box.querySelectorAll('th')].map(place),
};
"""


@pytest.mark.parametrize("width", [400, 1280])
def test_the_name_and_what_matters_stay_in_view_while_a_table_scrolls(browser, results, width):
    driver = browser.open(results)
    at_width(driver, width)
    before = driver.execute_script(STATE, 0)
    assert before["scrolls"] and before["hint"] and before["left"] == 0
    assert (
        driver.find_element(By.CSS_SELECTOR, ".hint").text == "This table is wider than the page: it scrolls sideways."
    )
    assert (before["cells"][1][1] <= before["width"]) and before["heads"][1][1] <= before["width"]
    driver.execute_script("document.querySelector('.scroll').scrollLeft = 300")
    driver.execute_async_script("setTimeout(arguments[0], 300)")  # the shade changes over 150 ms
    after = driver.execute_script(STATE, 0)
    assert after["left"] == 300 and after["shade"] == "1"
    for part in ("cells", "heads"):
        for column in (0, 1):
            assert after[part][column] == pytest.approx(before[part][column], abs=1.5)
        assert after[part][2][0] == pytest.approx(before[part][2][0] - 300, abs=1)
    driver.execute_script("document.querySelector('.scroll').scrollLeft = 1e6")
    driver.execute_async_script("setTimeout(arguments[0], 300)")
    end = driver.execute_script(STATE, 0)
    assert end["shade"] == "0"  # nothing is hidden on the right any more
    assert end["cells"][1] == pytest.approx(before["cells"][1], abs=1.5)
    assert browser.complaints() == []


def test_a_table_that_fits_says_nothing_of_scrolling(browser, results):
    driver = browser.open(results)
    at_width(driver, 400)
    state = driver.execute_script(STATE, 1)
    assert not state["scrolls"] and not state["hint"] and state["shade"] == "0"


def test_on_a_phone_columns_in_the_middle_give_way(browser, results):
    """Two names and a number would leave no room for the rest: the first name and the number stay."""
    driver = browser.open(results)
    at_width(driver, 400)
    driver.execute_script("document.querySelectorAll('.scroll')[2].scrollLeft = 400")
    driver.execute_async_script("setTimeout(arguments[0], 300)")
    state = driver.execute_script(STATE, 2)
    first, second, third = state["cells"][:3]
    assert first[0] == pytest.approx(1, abs=1) and third[0] == pytest.approx(first[1], abs=1)
    assert second[1] <= third[0] and third[1] < 0.8 * state["width"]
    # What stays lies above what does not.
    driver.execute_script("document.querySelectorAll('.scroll')[2].scrollLeft = 60")
    script = (
        "const cells = [...document.querySelectorAll('table')[2].querySelector('tbody tr').cells];"
        "cells[0].scrollIntoView({ block: 'center', inline: 'nearest' });"
        "return [cells[0], cells[2]].map((cell) => { const box = cell.getBoundingClientRect();"
        " return document.elementFromPoint(box.right - 4, box.top + 8) === cell })"
    )
    assert driver.execute_script(script) == [True, True]


def test_what_columns_mean_stands_as_a_list_below_their_table(browser, results):
    driver = browser.open(results)
    lists = driver.find_elements(By.CSS_SELECTOR, "figure .meanings")
    assert [item.text for item in lists] == [
        "method: how an image is classified.",
        "right: fraction that is right.",
        "method: how an image is classified.",
    ]
    figure = driver.find_element(By.CSS_SELECTOR, "figure")
    table = figure.find_element(By.TAG_NAME, "table")
    assert lists[0].rect["y"] >= table.rect["y"] + table.rect["height"]
