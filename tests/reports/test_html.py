"""The report page: as text, and as a reader meets it, in a browser."""

import base64
import math
import re

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from cnn.reports import html
from cnn.reports.html import Facts, Listing, Numbers, Picture, Section, Text
from cnn.reports.html_cells import Cell
from cnn.reports.tables import Notes, Table
from tests.chromium import at_width

HOSTILE = "<script>document.title = 'owned'; console.error('owned')</script><img src=x onerror=alert(1)>\"'&amp;"
ROWS = [
    ["layers_10", "1,024", Cell("9.5 %", 0.095), 3, Cell("2 h", 120), "b"],
    ["layers_2", "37", Cell("10.1 %", 0.101), -1.5, Cell("45 min", 45), "a"],
    [HOSTILE, "–", Cell("–", math.nan), math.nan, "", ""],
    ["Äpfel", "9", Cell("0.7 %", 0.007), 1e7, Cell("3 h", 180), "a"],
    ["Zebra", "1,000", Cell("100 %", 1.0), 0, Cell("never", math.inf), "b"],
]
HEADERS = ["name", "count", "share", "number", "time", HOSTILE]
# Rows by position, ascending; the hostile row has no values.
ASCENDING = {1: [3, 1, 4, 0, 2], 2: [3, 0, 1, 4, 2], 3: [1, 4, 0, 3, 2], 4: [1, 0, 3, 4, 2]}


@pytest.fixture(name="path", scope="module")
def _path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 300, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "plain.png")
    Image.fromarray(np.repeat(pixels, 8, axis=1)).save(folder / "wide.png", dpi=(192, 192))
    sections = [
        Section("Tables", [Table(HEADERS, ROWS, HOSTILE), Table(["only"], [], "no rows")]),
        Section(HOSTILE, [Picture(str(folder / "plain.png"), HOSTILE), Picture(str(folder / "wide.png"))]),
        Section("Tables", [Text(f"One.\n\n{HOSTILE}\n \nThree."), Listing(f"\n  - a: 1\n{HOSTILE}")]),
        Section("Überblick", [Facts({HOSTILE: HOSTILE, "packages": {"jax": "1.2"}}), Numbers({"accuracy": "98.61%"})]),
    ]
    html.write(str(folder / "report.html"), f"Title {HOSTILE}", sections, f"Subtitle {HOSTILE}")
    assert sorted(file.name for file in folder.iterdir()) == ["plain.png", "report.html", "wide.png"]
    return folder / "report.html"


def names(rows):
    return [row[0] for row in rows]


def test_it_opens_without_a_request_and_without_a_complaint(browser, path):
    driver = browser.open(path)
    assert driver.title == f"Title {HOSTILE}"
    for i in range(len(HEADERS)):
        browser.header(i).click()
    assert browser.requests() == []
    assert browser.complaints() == []


def test_the_browser_tells_what_a_page_asks_for(browser, tmp_path):
    """What the test above rests on: requests and errors are seen, and the policy of a page stops them."""
    bad = "<img src='other.png'><script>console.error('seen')</script>"
    (tmp_path / "bad.html").write_text(f"<!DOCTYPE html>{bad}")
    driver = browser.open(tmp_path / "bad.html")
    assert any(address.endswith("/other.png") for address in browser.requests())
    assert any("seen" in message for message in browser.complaints())
    written = tmp_path / "good.html"
    html.write(str(written), "t", [])
    written.write_text(written.read_text().replace("</main>", f"{bad}<p style='color: red'>x</p></main>"))
    driver = browser.open(written)
    assert browser.requests() == []
    refused = [message for message in browser.complaints() if "Content Security Policy" in message]
    assert len(refused) == 3 and not any("seen" in message for message in refused)
    assert driver.find_element(By.CSS_SELECTOR, "main p").value_of_css_property("color") != "rgba(255, 0, 0, 1)"


@pytest.mark.parametrize("column", ASCENDING)
def test_a_column_of_numbers_sorts_by_value(browser, path, column):
    browser.open(path)
    before = names(browser.cells())
    assert before == [row[0] for row in ROWS] and browser.order() == ["none"] * 6
    browser.header(column).click()
    up = ASCENDING[column]
    assert names(browser.cells()) == [before[i] for i in up]
    assert browser.order() == ["ascending" if i == column else "none" for i in range(6)]
    browser.header(column).click()
    assert names(browser.cells()) == [before[i] for i in [*up[3::-1], up[4]]]  # missing: last again
    assert browser.order()[column] == "descending"
    browser.header(column).click()
    assert names(browser.cells()) == [before[i] for i in up]


def test_words_sort_as_people_sort_them_and_ties_keep_their_order(browser, path):
    browser.open(path)
    browser.header(0).click()
    assert names(browser.cells()) == [HOSTILE, "Äpfel", "layers_2", "layers_10", "Zebra"]
    browser.header(5).click()  # a, a, b, b, missing: within a letter as before
    assert names(browser.cells()) == ["Äpfel", "layers_2", "layers_10", "Zebra", HOSTILE]
    assert browser.order() == ["none"] * 5 + ["ascending"]
    browser.header(5).click()
    assert names(browser.cells()) == ["layers_10", "Zebra", "Äpfel", "layers_2", HOSTILE]


def test_tables_sort_from_the_keyboard(browser, path):
    driver = browser.open(path)
    body = driver.find_element(By.TAG_NAME, "body")
    for _ in range(30):
        body.send_keys(Keys.TAB)
        if driver.switch_to.active_element == browser.header(1):
            break
        body = driver.switch_to.active_element
    assert driver.switch_to.active_element == browser.header(1)
    outline = driver.switch_to.active_element.value_of_css_property("outline-style")
    assert outline == "solid"
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert names(browser.cells()) == [ROWS[i][0] for i in ASCENDING[1]]
    driver.switch_to.active_element.send_keys(Keys.SPACE)
    assert browser.order()[1] == "descending"
    assert driver.switch_to.active_element == browser.header(1)  # sorting takes the focus nowhere


def test_pictures_are_inside_at_their_printed_size(browser, path):
    driver = browser.open(path)
    sizes = driver.execute_script(
        "return [...document.images].map((i) => [i.naturalWidth, i.naturalHeight, i.getAttribute('width'), "
        "i.getAttribute('height'), i.alt, parseFloat(getComputedStyle(i).width)])"
    )
    plain, wide = sizes
    assert plain == [300, 40, "300", "40", HOSTILE, 300]
    assert wide[:5] == [2400, 40, "2400", "40", "wide"]
    room, frame = driver.execute_script(
        "const box = document.querySelector('main').getBoundingClientRect();"
        "return [box.width, document.images[1].getBoundingClientRect().width]"
    )
    assert frame == pytest.approx(room, abs=1) and room < 1200  # 12.5 inches at 96 pixels an inch are more than fit
    script = "return [...document.querySelectorAll('figcaption b')].map((b) => b.innerText)"
    assert driver.execute_script(script) == ["Table 1.", "Table 2.", "Figure 1.", "Figure 2"]


def test_what_comes_from_outside_is_shown_as_text(browser, path):
    driver = browser.open(path)
    assert driver.execute_script("return document.scripts.length") == 1
    shown = {
        "h1": f"Title {HOSTILE}",
        ".subtitle": f"Subtitle {HOSTILE}",
        "nav li:nth-child(2)": HOSTILE,
        "section:nth-child(2) h2": HOSTILE,
        "figcaption": f"Table 1. {HOSTILE}",
        "th:nth-child(6)": HOSTILE,
        "tr:nth-child(3) td": HOSTILE,
        "p:nth-of-type(2)": HOSTILE,
        "pre": f"\n  - a: 1\n{HOSTILE}",
        ".facts dt": HOSTILE,
        ".facts dd": HOSTILE,
    }
    for selector, text in shown.items():
        script = "return document.querySelector(arguments[0]).textContent"
        assert driver.execute_script(script, f"{selector}").strip("\n") == text.strip("\n"), selector


def test_contents_lead_to_each_section(browser, path):
    driver = browser.open(path)
    links = driver.find_elements(By.CSS_SELECTOR, "nav a")
    targets = [driver.execute_script("return document.querySelector(arguments[0].hash).innerText", a) for a in links]
    assert [text.splitlines()[0] for text in targets] == [link.text for link in links]
    assert [link.text for link in links] == ["Tables", HOSTILE, "Tables", "Überblick"]
    assert len({link.get_attribute("href") for link in links}) == 4


def test_pictures_open_large_from_the_keyboard_and_close(browser, path):
    driver = browser.open(path)
    count = len(driver.find_elements(By.TAG_NAME, "img"))
    button = driver.find_element(By.CSS_SELECTOR, "#figure-2 button")
    assert button.accessible_name == "Open figure 2 large: wide"
    driver.execute_script("arguments[0].focus()", button)
    button.send_keys(Keys.ENTER)
    dialog = driver.find_element(By.CSS_SELECTOR, "dialog[open]")
    shown = dialog.find_element(By.TAG_NAME, "img")
    small = driver.find_element(By.CSS_SELECTOR, "#figure-2 img")
    assert shown.get_property("naturalWidth") == 2400 and small.size["width"] * 1.2 < shown.size["width"] <= 1200
    at_width(driver, 400)  # pixel by pixel on a phone, where the page has no more room
    assert shown.size["width"] == pytest.approx(2420, abs=1) and dialog.size["width"] <= 400
    assert dialog.find_element(By.TAG_NAME, "p").text == "Figure 2"
    assert driver.switch_to.active_element.text == "Close"
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    closed = WebDriverWait(driver, 5).until_not
    closed(lambda page: page.find_elements(By.TAG_NAME, "dialog"))
    assert driver.switch_to.active_element == button
    button.click()
    driver.find_element(By.CSS_SELECTOR, "dialog button").click()
    closed(lambda page: page.find_elements(By.TAG_NAME, "dialog"))
    assert len(driver.find_elements(By.TAG_NAME, "img")) == count
    assert browser.requests() == [] and browser.complaints() == []


def test_remarks_are_a_list_and_strong_cells_are_bold(browser, tmp_path):
    table = Table(["field", "value"], [["seed", Cell("3", strong=True)], ["name", Cell(HOSTILE, strong=True)]])
    html.write(str(tmp_path / "page.html"), "t", [Section("s", [Notes(["One.", HOSTILE]), Notes([]), table])])
    driver = browser.open(tmp_path / "page.html")
    assert [item.text for item in driver.find_elements(By.CSS_SELECTOR, "main li")] == ["One.", HOSTILE]
    assert [item.text for item in driver.find_elements(By.TAG_NAME, "strong")] == ["3", HOSTILE]
    assert len(driver.find_elements(By.CSS_SELECTOR, "main ul")) == 1 and browser.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_both_schemes(browser, path, scheme):
    """Contrast of at least 4.5 to 1 against the page, as WCAG asks of text."""
    driver = browser.open(path)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        paper = colour(driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color"))
        assert (luminance(paper) > 0.5) == (scheme == "light")
        for selector in ("p", ".subtitle", "nav a", "figcaption", "td", "th button", "dt", ".numbers dd"):
            ink = colour(driver.find_element(By.CSS_SELECTOR, selector).value_of_css_property("color"))
            light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, selector
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def colour(text):
    return [int(part) / 255 for part in re.findall(r"\d+", text)[:3]]


def luminance(rgb):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_holds_its_pictures_and_no_address(path):
    text = path.read_text(encoding="utf-8")
    found = re.findall(r'src="([^"]*)"', text)
    assert [source.partition(",")[0] for source in found] == ["data:image/png;base64"] * 2
    assert base64.b64decode(found[0].partition(",")[2]) == (path.parent / "plain.png").read_bytes()
    assert "http:" not in text and "https:" not in text and "//" not in re.sub(r'src="[^"]*"|// .*', "", text)


@pytest.mark.slow
def test_a_page_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "report.html"
    html.write(str(path), "old", [])
    old = path.read_text()
    (tmp_path / "not.png").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match="not.png is not a PNG"):
        html.write(str(path), "new", [Section("s", [Picture(str(tmp_path / "not.png"))])])
    with pytest.raises(FileNotFoundError, match="gone.png"):
        html.write(str(path), "new", [Section("s", [Picture(str(tmp_path / "gone.png"))])])
    with pytest.raises(ValueError, match=r"table 'c': row 1 has 1 cells, there are 2 columns"):
        html.write(str(path), "new", [Section("s", [Table(["a", "b"], [[1, 2], [3]], "c")])])
    with pytest.raises(ValueError, match=r"table-1 \('c'\): lead \(=4\) must be between 0 and 3"):
        html.write(str(path), "new", [Section("s", [Table(list("abcd"), [], "c", lead=4)])])
    with pytest.raises(TypeError, match="cannot show a str"):
        html.write(str(path), "new", [Section("s", ["text"])])
    assert path.read_text() == old and len(list(tmp_path.iterdir())) == 2
