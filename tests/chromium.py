"""A real browser for tests of pages: Chromium without a window, driven by the driver that is installed with it."""

import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # containers run tests as root, where Chromium's own sandbox cannot start
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    # Chromium itself stays off the network too, so that what is asked for is asked for by the page.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
    "--force-prefers-reduced-motion",  # a page that still glides to a header is clicked beside it
    "--lang=en-US",
)


class Browser:
    """A browser that has one page open at a time, and remembers what the page asked for and complained about."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: str | pathlib.Path) -> Any:
        """Opens a page from disk; returns Selenium's driver."""
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})  # the width that a test set before
        for log in ("browser", "performance"):
            self.driver.get_log(log)  # what the last page left
        self.driver.get(pathlib.Path(path).resolve().as_uri())
        return self.driver

    def complaints(self) -> list[str]:
        """Errors and warnings of the console since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that the page asked for, but for itself, the data in it, and what its policy stopped."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        page = self.driver.current_url.partition("#")[0]
        sent = {
            m["params"]["requestId"]: m["params"]["request"]["url"]
            for m in messages
            if m["method"] == "Network.requestWillBeSent" and m["params"]["documentURL"] == page
        }
        assert page in sent.values(), "the log holds not even the page itself"
        stopped = {
            sent.get(m["params"]["requestId"])
            for m in messages
            if m["method"] == "Network.loadingFailed" and m["params"].get("blockedReason") == "csp"
        }
        timed = self.driver.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
        asked = {*sent.values(), *timed} - stopped - {page}
        return sorted(address for address in asked if not address.startswith("data:"))

    def cells(self, table: int = 0) -> list[list[str]]:
        """The cells of a table, row by row, as shown."""
        script = (
            "return [...document.querySelectorAll('table')[arguments[0]].tBodies[0].rows]"
            ".map((row) => [...row.cells].map((cell) => cell.innerText))"
        )
        return self.driver.execute_script(script, table)

    def header(self, column: int, table: int = 0) -> Any:
        """The button of a column."""
        return self.driver.execute_script(
            "return document.querySelectorAll('table')[arguments[0]].querySelectorAll('th button')[arguments[1]]",
            table,
            column,
        )

    def order(self, table: int = 0) -> list[str]:
        """aria-sort of each column."""
        script = (
            "return [...document.querySelectorAll('table')[arguments[0]].querySelectorAll('th')]"
            ".map((th) => th.ariaSort)"
        )
        return self.driver.execute_script(script, table)


@pytest.fixture(name="browser", scope="module")
def browser_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A `Browser` for the tests of a module; skips them where Chromium is not installed."""
    # Both are looked for here: Selenium would download what it misses.
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    absent = [name for name, path in programs.items() if path is None]
    if absent:
        pytest.skip(f"opens pages in a browser: install {' and '.join(absent)} (Debian: chromium, chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(programs["chromedriver"]))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def at_width(driver, width, height=800):
    """Sets the width of the window until the next page is opened, pixels; below 600 it is a phone's."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    # The tables are measured after the next frame.
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
