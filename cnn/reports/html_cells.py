"""Cells of a table: what they show, what they sort by, and whether they stand out."""

import math
import numbers
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

MISSING = ("", "-", "–", "—", "nan", "n/a")  # texts of a cell without a value, in lower case
DASH = "–"
_NUMBER = re.compile(r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?", re.ASCII | re.IGNORECASE)


class Cell(NamedTuple):
    """A cell of a table that sorts by something else than its text.

    Attributes:
      text: what is shown.
      value: what it sorts by; NaN: missing, last in both directions; None: its text.
      strong: whether it stands out from its column: bold on a page and in Markdown.
    """

    text: str
    value: float | str | None = None
    strong: bool = False


def complete(cell: Any) -> Cell:
    """Gives a cell its text and its value.

    Args:
      cell: a `Cell`, a text, a number, a bool, or None for a missing value.

    Returns:
      A `Cell` whose value is a number, a text, or NaN where it is missing; "1,024", "9.5 %" and "3.1x" are numbers.
    """
    if cell is None:
        return Cell(DASH, math.nan)
    if isinstance(cell, bool):
        return Cell("yes" if cell else "no", "yes" if cell else "no")
    if isinstance(cell, numbers.Real):
        value = float(cell)
        text = f"{int(cell):,}" if isinstance(cell, numbers.Integral) else f"{value:,.6g}"
        return Cell(DASH if math.isnan(value) else text, value)
    given = cell if isinstance(cell, Cell) else Cell(str(cell))
    if given.value is None:
        return given._replace(value=_value(given.text))
    return given._replace(value=given.value if isinstance(given.value, str) else float(given.value))


def _value(text: str) -> float | str:
    """1024.0 for "1,024", 9.5 for "9.5 %", NaN for a dash, else the text."""
    plain = text.strip()
    if plain.lower() in MISSING:
        return math.nan
    plain = plain.removesuffix("%").removesuffix("x").rstrip().replace("\N{MINUS SIGN}", "-")
    return float(plain.replace(",", "")) if _NUMBER.fullmatch(plain) else text


def numeric(column: Sequence[Cell]) -> bool:
    """Whether a column sorts by number.

    Args:
      column: its cells, each `complete`.

    Returns:
      True if it has numbers, and nothing else but missing values.
    """
    return not any(isinstance(cell.value, str) for cell in column) and not all(map(missing, column))


def missing(cell: Cell) -> bool:
    """Whether a `complete` cell has no value."""
    return isinstance(cell.value, float) and math.isnan(cell.value)


def sort_key(cell: Cell, is_number: bool) -> str | None:
    """What page.js sorts a cell by.

    Args:
      cell: a `complete` cell.
      is_number: whether its column is `numeric`.

    Returns:
      A number as JavaScript reads it, a text, "" for a missing value; None where it is the cell's own text.
    """
    if missing(cell):
        return ""
    if is_number and isinstance(cell.value, float):
        return repr(cell.value).replace("inf", "Infinity")
    return cell.value if isinstance(cell.value, str) and cell.value != cell.text else None
