"""Cells of a page's tables: what they show, and what they are sorted by."""

import math

import numpy as np
import pytest

from cnn.reports import html_cells
from cnn.reports.html_cells import Cell


@pytest.mark.parametrize(
    "given, text, value",
    [
        ("1,024", "1,024", 1024.0),
        ("-9.5 %", "-9.5 %", -9.5),
        ("\N{MINUS SIGN}3", "\N{MINUS SIGN}3", -3.0),
        ("2.2e-05", "2.2e-05", 2.2e-5),
        ("13.6x", "13.6x", 13.6),
        (12345, "12,345", 12345.0),
        (np.float32(0.25), "0.25", 0.25),
        (np.int64(7), "7", 7.0),
        (True, "yes", "yes"),
        ("1,2", "1,2", "1,2"),
        ("-e5", "-e5", "-e5"),
        (".", ".", "."),
        ("x", "x", "x"),
        ("5x5", "5x5", "5x5"),
        (Cell("5x5", 25), "5x5", 25.0),
        (Cell("Monday", "1"), "Monday", "1"),
    ],
)
def test_cells_by_value(given, text, value):
    assert html_cells.complete(given) == Cell(text, value)


@pytest.mark.parametrize("given", [None, math.nan, "", " – ", "-", "nan", "n/a", Cell("not run", math.nan)])
def test_missing_values_are_known(given):
    cell = html_cells.complete(given)
    assert html_cells.missing(cell) and html_cells.sort_key(cell, True) == html_cells.sort_key(cell, False) == ""


def test_sort_keys_are_what_javascript_reads():
    keys = [html_cells.sort_key(html_cells.complete(value), True) for value in ("1,024", math.inf, -math.inf, 1e-7, 0)]
    assert keys == ["1024.0", "Infinity", "-Infinity", "1e-07", "0.0"]
    assert html_cells.sort_key(Cell("Monday", "1"), False) == "1" and html_cells.sort_key(Cell("a", "a"), False) is None
    assert not html_cells.numeric([html_cells.complete(cell) for cell in ("1", "all")])
    assert html_cells.numeric([html_cells.complete(cell) for cell in ("1", "")])
    assert not html_cells.numeric([html_cells.complete("")])
