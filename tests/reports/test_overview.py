"""The overview of an image, as a reader meets it in a browser, and what its colours and its scale bar say."""

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from cnn.images import Spacing
from cnn.reports import html, overview, thumbnails
from cnn.reports.html import Links, Section
from cnn.reports.overview import Overview
from tests.chromium import at_width

HOSTILE = "<script>document.title = 'owned'</script>\"'&"


def made(found=3):
    rng = np.random.default_rng(0)
    winner = rng.integers(-1, 3, (60, 80))
    certainty = np.where(winner >= 0, rng.integers(1, 256, winner.shape), 0).astype(np.uint8)
    palette = overview.colours([0, 1, 2])
    names = ["0", HOSTILE, "tumour"]
    layers = [("every class", thumbnails.data_uri(*overview.class_picture(winner, certainty, palette)))]
    for name in names:
        small = rng.integers(0, 256, (60, 80), np.uint8)
        layers.append((name, thumbnails.data_uri(small, overview.probability_palette())))
    window = thumbnails.data_uri(rng.integers(0, 256, (32, 32), np.uint8))
    return Overview(
        f"slide {HOSTILE}",
        (600, 800),
        thumbnails.data_uri(rng.integers(0, 256, (60, 80, 3), np.uint8)),
        layers,
        [(name, palette[k], 1 / 3) for k, name in enumerate(names)],
        overview.scale_bar(800, Spacing(0.5, 0.5, "micrometre")),
        [(name, 0.9, (10 * k, 20, 10 * k + 32, 52), window) for k, name in enumerate(names)],
        [(name, 0.8, (100 * k, 50, 100 * k + 32, 82)) for k, name in enumerate(names)],
        found,
        "Shown from 0 to 1",
    )


@pytest.fixture(name="path", scope="module")
def _path(tmp_path_factory):
    path = tmp_path_factory.mktemp("overview") / "report.html"
    items = [made(), Links({HOSTILE: "a b#.html"})]
    html.write(str(path), "Overview", [Section("One", items), Section("Two", [made(4000)])])
    return path


@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_page_and_asks_for_nothing(browser, path, width):
    driver = browser.open(path)
    at_width(driver, width)
    driver = browser.open(path)
    at_width(driver, width)
    assert browser.requests() == [] and browser.complaints() == [] and driver.title == "Overview"
    script = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    whole, room = driver.execute_script(script)
    assert whole <= room
    stage = driver.find_element(By.CSS_SELECTOR, "#overview-1 .stage")
    base, layer = (driver.find_element(By.CSS_SELECTOR, f"#overview-1 .{name}") for name in ("base", "layer"))
    assert base.rect == layer.rect == stage.rect and stage.size["width"] > 0.8 * min(width, 800) - 60
    assert stage.size["width"] / stage.size["height"] == pytest.approx(800 / 600, rel=0.02)
    bar = driver.find_element(By.CSS_SELECTOR, "#overview-1 .bar")
    for label in ("100 µm", "100 µm", "50 µm"):  # enlarged, a bar for scrolling takes a part of the frame's width
        script = "return [...arguments].map((one) => one.getBoundingClientRect().width)"
        whole, long = driver.execute_script(script, stage, bar)
        assert bar.text == label and long / whole * 400 == pytest.approx(float(label[:-3]), rel=0.005)
        driver.execute_script("document.querySelector('#overview-1 .zoom .in').click()")
    for control in driver.find_elements(By.CSS_SELECTOR, ".controls select, .controls input, .zoom button"):
        assert control.rect["x"] >= 0 and control.rect["x"] + control.rect["width"] <= width


def test_class_opacity_and_detections_are_chosen_from_the_keyboard(browser, path):
    driver = browser.open(path)
    figure = driver.find_element(By.ID, "overview-1")
    chooser = figure.find_element(By.TAG_NAME, "select")
    slider = figure.find_element(By.CSS_SELECTOR, "input[type=range]")
    assert chooser.accessible_name == "Class" and slider.accessible_name.startswith("Opacity")

    def shown(selector):
        return [one.is_displayed() for one in figure.find_elements(By.CSS_SELECTOR, selector)]

    assert shown(".layer") == [True, False, False, False] and shown(".key") == [True, False]
    Select(chooser).select_by_visible_text(HOSTILE)
    assert shown(".layer") == [False, False, True, False] and shown(".key") == [False, True]
    assert shown(".outlines rect") == [False, True, False]
    slider.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert figure.find_element(By.TAG_NAME, "output").text == "65 %"
    layer = figure.find_element(By.CSS_SELECTOR, '.layer[data-layer="2"]')
    assert float(layer.value_of_css_property("opacity")) == pytest.approx(0.65)
    chooser.send_keys(Keys.HOME)
    assert shown(".outlines rect") == [True] * 3
    figure.find_element(By.CSS_SELECTOR, ".outlined").send_keys(Keys.SPACE)
    assert not any(shown(".outlines rect"))
    assert "all 3 detections" in figure.find_element(By.TAG_NAME, "figcaption").text
    other = driver.find_element(By.CSS_SELECTOR, "#overview-2 figcaption").text
    assert "the 3 most probable of 4,000 detections" in other


def test_it_is_enlarged_with_its_scale_and_a_window_is_marked(browser, path):
    driver = browser.open(path)
    figure = driver.find_element(By.ID, "overview-1")
    stage, bar = (figure.find_element(By.CSS_SELECTOR, f".{name}") for name in ("stage", "bar"))
    before = stage.size["width"], bar.size["width"]
    larger = figure.find_element(By.CSS_SELECTOR, ".in")
    larger.click()
    larger.click()
    assert not larger.is_enabled()
    assert stage.size["width"] == pytest.approx(4 * before[0], rel=0.05)
    assert bar.text == "50 µm"  # half of what it was, as the whole would not fit
    assert bar.size["width"] / stage.size["width"] == pytest.approx(before[1] / before[0] / 2, rel=0.03)
    button = driver.find_elements(By.CSS_SELECTOR, '.windows[data-overview="overview-1"] button')[2]
    assert button.accessible_name == "tumour, 90.0%, at row 20, column 20: show on the map"
    button.send_keys(Keys.ENTER)
    mark = figure.find_element(By.CSS_SELECTOR, ".mark")
    assert [mark.get_attribute(name) for name in ("x", "y", "width", "height")] == ["20", "20", "32", "32"]
    assert button.get_attribute("aria-pressed") == "true"
    button.send_keys(Keys.ENTER)
    assert mark.get_attribute("width") == "0" and button.get_attribute("aria-pressed") == "false"
    link = driver.find_element(By.CSS_SELECTOR, "main ul:not(.key) a")
    assert link.get_attribute("href").endswith("/a%20b%23.html") and link.text == HOSTILE
    assert browser.complaints() == []


def test_a_scale_bar_is_round_and_at_most_a_quarter():
    bars = {
        (6000, None): (1000 / 6000, "1,000 px"),
        (3, None): (1 / 3, "1 px"),
        (1000, Spacing(0.25, 0.25, "micrometre")): (0.2, "50 µm"),
        (100_000, Spacing(0.5, 0.5, "micrometre")): (0.2, "10 mm"),
        (791, Spacing(300.0, 300.0, "metre")): (50_000 / 237_300, "50 km"),
        (360, Spacing(1.0, 1.0, "degree")): (50 / 360, "50 °"),
    }
    for (width, spacing), (fraction, label) in bars.items():
        assert overview.scale_bar(width, spacing) == (pytest.approx(fraction), label)


@pytest.mark.slow
def test_the_map_of_all_classes_has_their_colours_and_probabilities():
    winner = np.array([[0, 7, -1, 20]])
    certainty = np.array([[255, 128, 0, 1]], np.uint8)
    palette = overview.colours([0, 7])
    values, table = overview.class_picture(winner, certainty, palette)
    assert palette == {0: "#1f77b4", 7: "#ff7f0e"}
    assert table[values[0]].tolist() == [[31, 119, 180, 255], [255, 127, 14, 128], [0, 0, 0, 0], [138, 138, 138, 0]]
    many = overview.colours(range(20))
    values, table = overview.class_picture(np.arange(20)[None], np.full((1, 20), 255, np.uint8), many)
    shown = ["#{:02x}{:02x}{:02x}".format(*table[v][:3]) for v in values[0]]
    assert shown == [many[k] for k in range(20)] and shown[-1] == overview.GREY
