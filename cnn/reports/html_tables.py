"""Tables as HTML, in boxes that scroll by themselves; how they look and sort is in tables.css and tables.js."""

import html
from collections.abc import Sequence

from cnn.reports import html_cells
from cnn.reports.html_cells import Cell
from cnn.reports.tables import MOST_LEADS, Table

# Letters: a column of texts up to SHORT long is never broken into lines, and one up to PHRASE not where there is room.
SHORT, PHRASE = 12, 32
TALL = 60  # a table of more rows scrolls in a box of its own, below its header
HINT = "This table is wider than the page: it scrolls sideways."


def table(given: Table, name: str, caption: str) -> str:
    """A table in a box that scrolls by itself, and below it what its columns mean.

    Args:
      given: the table.
      name: name of the table within its page, for links.
      caption: what stands above it, as HTML.

    Returns:
      HTML.

    Raises:
      ValueError: if a row has another number of cells than there are columns, or more than `MOST_LEADS` columns lead.
    """
    if not 0 <= given.lead <= MOST_LEADS:
        raise ValueError(f"{name} ({given.caption!r}): lead (={given.lead}) must be between 0 and {MOST_LEADS}")
    rows = given.full_rows
    columns = [[row[i] for row in rows] for i in range(len(given.columns))]
    numeric = [html_cells.numeric(column) for column in columns]
    kinds = [_classes(column, numeric[i], i, given.lead) for i, column in enumerate(columns)]
    heads = "".join(
        f'<th scope="col" aria-sort="none"{kind}><button type="button">{html.escape(header)}</button></th>'
        for header, kind in zip(given.headers, kinds, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(_cell, row, kinds, numeric))}</tr>\n" for row in rows)
    box = "scroll tall" if len(rows) > TALL else "scroll"
    return (
        f'<figure>\n<figcaption id="{name}">{caption}</figcaption>\n'
        f'<div class="table">\n<div class="{box}" role="group" aria-labelledby="{name}">\n'
        f'<table aria-labelledby="{name}">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n'
        f'</div>\n</div>\n<p class="hint" hidden>{HINT}</p>\n{_meanings(given)}</figure>\n'
    )


def _classes(column: Sequence[Cell], is_number: bool, place: int, leads: int) -> str:
    """The classes of a column's cells: its kind, whether it stays in view, and whether it is the last that does."""
    letters = max((len(cell.text) for cell in column), default=0)
    names = ["number" if is_number else "short" if letters <= SHORT else "phrase" if letters <= PHRASE else "prose"]
    if place < leads:
        names += ["lead", f"lead-{place}"] + ["lead-end"] * (place == leads - 1)
    return f' class="{" ".join(names)}"'


def _cell(cell: Cell, kind: str, is_number: bool) -> str:
    key = html_cells.sort_key(cell, is_number)
    value = "" if key is None else f' data-value="{html.escape(key)}"'
    text = html.escape(cell.text)
    return f"<td{kind}{value}>{f'<strong>{text}</strong>' if cell.strong else text}</td>"


def _meanings(given: Table) -> str:
    """What the columns mean, as a list."""
    lines = [f"<li><b>{html.escape(title)}</b>: {html.escape(text)}</li>\n" for title, text in given.meanings]
    return f'<ul class="meanings">\n{"".join(lines)}</ul>\n' if lines else ""
