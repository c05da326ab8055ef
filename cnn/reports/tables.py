"""Tables and short reports as plain values, and their rendering as Markdown and as text for a terminal.

A report is built once, as a `Document` of prose, tables and notes. Every form of it shows the same rows: Markdown and
terminal text are made here, HTML by `cnn.reports.html_tables` from the same `Table` values.
"""

import shutil
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from cnn.reports import html_cells, markdown
from cnn.reports.html_cells import Cell

MOST_LEADS = 3  # columns that can stay in view
GAP = "  "  # between the columns of a table on the terminal
TERMINAL_WIDTH = 80  # columns, where the terminal does not say how wide it is


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      title: its header.
      meaning: a sentence that says what its values mean, shown with the table; "" for a column that needs none.
      short: the header on a terminal that is too narrow for all titles; "" where that is the title.
      rank: how early a narrow terminal leaves the column out: the highest rank goes first, rank 0 always stays.
    """

    title: str
    meaning: str = ""
    short: str = ""
    rank: int = 0


class Table(NamedTuple):
    """A table, for every form of a report.

    A column whose cells are all numbers, or missing, is one of numbers: right-aligned, and sorted by number on a page.

    Attributes:
      columns: the columns; a text stands for a `Column` with that title.
      rows: cells: texts, numbers, None for a missing value, or `Cell` for a text that sorts by another value. Texts
        such as "1,024", "9.5 %" and "3.1x" are numbers, "" and a dash are missing.
      caption: what the table shows, in one sentence.
      lead: number of leading columns that stay in view where the table is wider than the page: the name, and behind it
        what matters most. From 0 to `MOST_LEADS`.
    """

    columns: Sequence[Column | str]
    rows: Sequence[Sequence[str | Cell | float | int | None]]
    caption: str = ""
    lead: int = 1

    @property
    def headers(self) -> list[str]:
        """The titles of the columns."""
        return [column.title for column in self.full_columns]

    @property
    def meanings(self) -> list[tuple[str, str]]:
        """(title, meaning) of the columns that need an explanation."""
        return [(column.title, column.meaning) for column in self.full_columns if column.meaning]

    @property
    def full_columns(self) -> list[Column]:
        """The columns, each a `Column`."""
        return [Column(column) if isinstance(column, str) else column for column in self.columns]

    @property
    def full_rows(self) -> list[list[Cell]]:
        """The rows with a text and a value in each cell; raises ValueError if a row does not fit the columns."""
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.caption!r}: row {i} has {len(row)} cells, there are {len(self.columns)} columns"
                )
        return [[html_cells.complete(cell) for cell in row] for row in self.rows]


class Notes(NamedTuple):
    """Remarks that each stand by themselves.

    Attributes:
      lines: the remarks.
    """

    lines: Sequence[str]


class Document(NamedTuple):
    """A short report.

    Attributes:
      title: its heading.
      items: paragraphs (plain texts), tables and notes, in the order of reading.
    """

    title: str
    items: Sequence[str | Table | Notes]


def document_markdown(document: Document) -> str:
    """A report as Markdown, ending in a newline.

    Args:
      document: the report.

    Returns:
      Markdown; every column of every table, and below each table what its columns mean.

    Raises:
      ValueError: if a row of a table has another number of cells than there are columns.
    """
    parts = [f"# {document.title}\n"]
    for item in document.items:
        if isinstance(item, Table):
            parts.append(table_markdown(item))
        elif isinstance(item, Notes):
            parts.append("".join(f"- {line}\n" for line in item.lines))
        else:
            parts.append(f"{item}\n")
    return "\n".join(part for part in parts if part)


def document_text(document: Document, width: int | None = None) -> str:
    """A report for a terminal, ending in a newline; no line of prose is longer than the terminal is wide.

    Args:
      document: the report.
      width: width of the terminal, columns; None: as wide as it says it is, else `TERMINAL_WIDTH`.

    Returns:
      Plain text. Columns for which there is no room are left out of tables, and named.

    Raises:
      ValueError: if a row of a table has another number of cells than there are columns.
    """
    width = width or shutil.get_terminal_size((TERMINAL_WIDTH, 24)).columns
    parts = [_wrapped(document.title, width)]
    for item in document.items:
        if isinstance(item, Table):
            parts.append(table_text(item, width))
        elif isinstance(item, Notes):
            parts.append("".join(_wrapped(line, width, "- ") for line in item.lines))
        else:
            parts.append(_wrapped(item, width))
    return "\n".join(part for part in parts if part)


def table_markdown(table: Table) -> str:
    """A table in Markdown, all of its columns, followed by what they mean.

    Args:
      table: the table; its caption is left to the text around it.

    Returns:
      Markdown, ending in a newline.

    Raises:
      ValueError: if a row has another number of cells than there are columns.
    """
    rows = [[f"**{cell.text}**" if cell.strong else cell.text for cell in row] for row in table.full_rows]
    text = markdown.markdown(table.headers, rows)
    meanings = "".join(f"- *{title}*: {meaning}\n" for title, meaning in table.meanings)
    return f"{text}\n{meanings}" if meanings else text


def table_text(table: Table, width: int) -> str:
    """A table for a terminal, its columns lined up, followed by what they mean.

    Where the table is too wide its short headers are used, then the columns of the highest rank are left out, one after
    another, until the rest fits. A table of rank 0 columns that still does not fit is shown as wide as it is.

    Args:
      table: the table; its caption is left to the text around it.
      width: width of the terminal, columns.

    Returns:
      Plain text, ending in a newline.

    Raises:
      ValueError: if a row has another number of cells than there are columns.
    """
    columns, rows = table.full_columns, table.full_rows
    headers = [column.title for column in columns]
    kept = list(range(len(columns)))
    widths = _widths(headers, rows)
    if _total(widths, kept) > width:
        headers = [column.short or column.title for column in columns]
        widths = _widths(headers, rows)
    while _total(widths, kept) > width and max(columns[i].rank for i in kept):
        # Of equal ranks the last column goes first.
        kept.remove(max(kept, key=lambda i: (columns[i].rank, i)))
    right = [html_cells.numeric([row[i] for row in rows]) for i in range(len(columns))]

    def line(texts: Sequence[str]) -> str:
        cells = [texts[i].rjust(widths[i]) if right[i] else texts[i].ljust(widths[i]) for i in kept]
        return GAP.join(cells).rstrip() + "\n"

    text = line(headers) + line(["-" * n for n in widths])
    text += "".join(line([cell.text for cell in row]) for row in rows)
    notes = [f"{headers[i]}: {columns[i].meaning}" for i in kept if columns[i].meaning]
    lost = [column.title for i, column in enumerate(columns) if i not in kept]
    if lost:
        notes.append(f"Columns in the files but not shown here: {', '.join(lost)}.")
    return text + ("\n" if notes else "") + "".join(_wrapped(note, width, "- ") for note in notes)


def _widths(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[int]:
    return [max(len(header), *(len(row[i].text) for row in rows), 0) for i, header in enumerate(headers)]


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    """How wide a table of some of the columns is."""
    return sum(widths[i] for i in kept) + len(GAP) * (len(kept) - 1)


def _wrapped(text: str, width: int, bullet: str = "") -> str:
    """Prose broken into lines between words, ending in a newline; lines after the first stand under a bullet's text."""
    indent = " " * len(bullet)
    lines = textwrap.wrap(
        text, width, initial_indent=bullet, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines) + "\n"
