"""Tables in Markdown."""

from collections.abc import Sequence
from typing import Any


def markdown(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown, its columns lined up; columns of numbers are right-aligned.

    Args:
      headers: titles of the columns.
      rows: rows of cells, each shown by `str`; format numbers before.

    Returns:
      The table, ending in a newline.

    Raises:
      ValueError: if a row has another number of cells than there are headers.
    """
    for i, row in enumerate(rows):
        if len(row) != len(headers):
            raise ValueError(f"markdown: row {i} has {len(row)} cells, there are {len(headers)} headers")
    table = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (headers, *rows)]
    widths = [max(3, *(len(row[i]) for row in table)) for i in range(len(headers))]
    right = [bool(rows) and all(_is_number(row[i]) for row in table[1:]) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
        return "| " + " | ".join(padded) + " |\n"

    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    return line(table[0]) + line(rule) + "".join(line(row) for row in table[1:])


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "").removesuffix("%").removesuffix("x"))
    except ValueError:
        return False
    return True
