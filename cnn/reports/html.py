"""A report as one HTML file that opens from disk: tables that sort, pictures inside, nothing fetched from anywhere.

Pure: data in, file out. How it looks and how its tables sort is in page.css and page.js beside this module; both are
copied into every page.
"""

import base64
import collections
import hashlib
import html
import os
import pathlib
import re
import struct
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnn.reports import html_cells
from cnn.reports.html_cells import DASH, Cell

SHORT = 32  # letters; a column of texts up to this long is not broken into lines
TALL = 60  # a table of more rows scrolls in a box of its own, below its header
_PNG = b"\x89PNG\r\n\x1a\n"


class Table(NamedTuple):
    """A table that sorts by the column whose header is pressed.

    A column whose cells are all numbers, or missing, sorts by number and is right-aligned; any other by words.

    Attributes:
      headers: one for each column.
      rows: cells; texts such as "1,024", "9.5 %" and "3.1x" are numbers, "" and a dash are missing.
      caption: said above the table, behind its number.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str | Cell | float | int | None]]
    caption: str = ""


class Picture(NamedTuple):
    """A picture, copied into the page.

    Attributes:
      path: of a PNG.
      caption: said below the picture, behind its number; also what is read out in place of the picture.
    """

    path: str
    caption: str = ""


class Text(NamedTuple):
    """Prose.

    Attributes:
      text: paragraphs, separated by blank lines.
    """

    text: str


class Listing(NamedTuple):
    """Text whose lines stay as they are: a command, a difference of configs.

    Attributes:
      text: the lines.
    """

    text: str


class Facts(NamedTuple):
    """Names and values: versions, device, commit.

    Attributes:
      values: shown in their order; a mapping or a list in one line.
    """

    values: Mapping[str, Any]


class Numbers(NamedTuple):
    """The few numbers that a reader came for, in large type; the first is the one.

    Attributes:
      values: name -> the number as text.
    """

    values: Mapping[str, str]


Item = Table | Picture | Text | Listing | Facts | Numbers


class Section(NamedTuple):
    """A part of a page, listed in its contents.

    Attributes:
      title: its heading.
      items: what it shows, in order.
    """

    title: str
    items: Sequence[Item]


def write(path: str, title: str, sections: Sequence[Section], subtitle: str = "") -> None:
    """Writes a page, whole or not at all.

    Args:
      path: of the HTML file.
      title: of the page.
      sections: its parts.
      subtitle: a sentence below the title.

    Raises:
      ValueError: if a row of a table has another number of cells than there are headers, or a picture is not a PNG.
      FileNotFoundError: if a picture is not there.
    """
    text = render(title, sections, subtitle)
    with open(path + ".part", "w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(text)
    os.replace(path + ".part", path)


def render(title: str, sections: Sequence[Section], subtitle: str = "") -> str:
    """The page as text.

    Everything given is shown as text, never taken for HTML. Besides, a policy in the page forbids every request and
    every script and style but its own two, told by their hashes.

    Args:
      title: of the page.
      sections: its parts.
      subtitle: a sentence below the title.

    Returns:
      HTML.

    Raises:
      ValueError: as `write`.
      FileNotFoundError: as `write`.
    """
    ids = _ids([section.title for section in sections])
    links = "".join(
        f'<li><a href="#{name}">{_escape(section.title)}</a></li>\n'
        for name, section in zip(ids, sections, strict=True)
    )
    context = _Context()
    parts = []
    for name, section in zip(ids, sections, strict=True):
        items = "".join(_item(item, context) for item in section.items)
        heading = f'<h2 id="{name}-title">{_escape(section.title)}</h2>'
        parts.append(f'<section id="{name}" aria-labelledby="{name}-title">\n{heading}\n{items}</section>\n')
    style, script = _asset("page.css") + "".join(context.rules), _asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        f"base-uri 'none'; form-action 'none'"
    )
    lead = f'<p class="subtitle">{_escape(subtitle)}</p>\n' if subtitle else ""
    # The policy stands before all that it governs; the empty icon keeps browsers from asking for one.
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_escape(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>
<h1>{_escape(title)}</h1>
{lead}</header>
<div class="columns">
<nav aria-label="Contents">
<ol>
{links}</ol>
</nav>
<main>
{"".join(parts)}</main>
</div>
<script>{script}</script>
</body>
</html>
"""


class _Context:
    """What the items of a page share: the numbers of tables and pictures, and rules that belong to single ones."""

    def __init__(self) -> None:
        self._counts: collections.Counter[str] = collections.Counter()
        self.rules: list[str] = []

    def number(self, kind: str) -> int:
        """The next number of its kind, from 1."""
        self._counts[kind] += 1
        return self._counts[kind]


def _item(item: Item, context: _Context) -> str:
    """One item as HTML."""
    match item:
        case Table():
            return _table(item, context.number("Table"))
        case Picture():
            return _picture(item, context)
        case Text(text):
            paragraphs = re.split(r"\n\s*\n", text.strip())
            return "".join(f"<p>{_escape(paragraph)}</p>\n" for paragraph in paragraphs if paragraph)
        case Listing(text):
            # HTML drops a first line break inside <pre>; one more keeps the text's own.
            return f"<pre>\n<code>{_escape(text)}</code></pre>\n"
        case Facts(values):
            return _pairs("facts", {name: _fact(value) for name, value in values.items()})
        case Numbers(values):
            return _pairs("numbers", values)
    raise TypeError(
        f"page: cannot show a {type(item).__name__}; items are Table, Picture, Text, Listing, Facts, Numbers"
    )


def _table(table: Table, number: int) -> str:
    """A table in a box that scrolls by itself."""
    for i, row in enumerate(table.rows):
        if len(row) != len(table.headers):
            raise ValueError(
                f"page: row {i} of table {number} ({table.caption!r}) has {len(row)} cells, there are "
                f"{len(table.headers)} headers"
            )
    rows = [[html_cells.complete(cell) for cell in row] for row in table.rows]
    columns = [[row[i] for row in rows] for i in range(len(table.headers))]
    numeric = [html_cells.numeric(column) for column in columns]
    kinds = [_kind(column, is_number) for column, is_number in zip(columns, numeric, strict=True)]
    heads = "".join(
        f'<th scope="col" aria-sort="none"{kind}><button type="button">{_escape(header)}</button></th>'
        for header, kind in zip(table.headers, kinds, strict=True)
    )
    lines = []
    for row in rows:
        keys = [html_cells.sort_key(cell, is_number) for cell, is_number in zip(row, numeric, strict=True)]
        values = ["" if key is None else f' data-value="{_escape(key)}"' for key in keys]
        line = "".join(
            f"<td{kind}{value}>{_escape(cell.text)}</td>" for cell, kind, value in zip(row, kinds, values, strict=True)
        )
        lines.append(f"<tr>{line}</tr>\n")
    name = f"table-{number}"
    box = "scroll tall" if len(rows) > TALL else "scroll"
    return (
        f'<figure>\n<figcaption id="{name}">{_caption("Table", number, table.caption)}</figcaption>\n'
        f'<div class="{box}" role="group" aria-labelledby="{name}">\n<table aria-labelledby="{name}">\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody>\n</table>\n</div>\n</figure>\n"
    )


def _kind(column: Sequence[Cell], is_number: bool) -> str:
    """The class of a column's cells; short texts stay in one line."""
    if is_number:
        return ' class="number"'
    return ' class="short"' if max((len(cell.text) for cell in column), default=0) <= SHORT else ""


def _picture(picture: Picture, context: _Context) -> str:
    """A PNG as data, with its size, so that the page does not jump while it is read."""
    data = pathlib.Path(picture.path).read_bytes()
    if data[:8] != _PNG or data[12:16] != b"IHDR":
        raise ValueError(f"page: {picture.path} is not a PNG; save the picture as one")
    width, height = struct.unpack(">II", data[16:24])
    number = context.number("Figure")
    # Drawn for paper at many dots an inch, a picture would fill a screen at one of its pixels for one of the screen's.
    context.rules.append(f"#figure-{number} img {{ width: {width * 96 / _dots_per_inch(data):.0f}px; }}\n")
    alt = picture.caption or pathlib.Path(picture.path).stem.replace("_", " ")
    source = "data:image/png;base64," + base64.b64encode(data).decode()
    return (
        f'<figure id="figure-{number}">\n<img src="{source}" width="{width}" height="{height}" alt="{_escape(alt)}">\n'
        f"<figcaption>{_caption('Figure', number, picture.caption)}</figcaption>\n</figure>\n"
    )


def _dots_per_inch(png: bytes) -> float:
    """The resolution that a PNG says it has; 96, a pixel of CSS for each of its own, where it says none."""
    at = 8
    while at + 12 <= len(png) and png[at + 4 : at + 8] != b"IDAT":
        if png[at + 4 : at + 8] == b"pHYs":
            per_metre, _, unit = struct.unpack(">IIB", png[at + 8 : at + 17])
            return per_metre * 0.0254 if unit == 1 and per_metre else 96.0
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    return 96.0


def _caption(kind: str, number: int, text: str) -> str:
    return f"<b>{kind} {number}.</b> {_escape(text)}" if text else f"<b>{kind} {number}</b>"


def _pairs(kind: str, values: Mapping[str, str]) -> str:
    """A definition list; headline numbers stand in boxes of their own."""
    start, end = ("<div>", "</div>") if kind == "numbers" else ("", "")
    lines = (f"{start}<dt>{_escape(name)}</dt><dd>{_escape(text)}</dd>{end}\n" for name, text in values.items())
    return f'<dl class="{kind}">\n{"".join(lines)}</dl>\n'


def _fact(value: Any) -> str:
    """A value in one line."""
    if value is None or (isinstance(value, Sequence | Mapping) and not len(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_fact, value))
    return str(value)


def _escape(text: str) -> str:
    return html.escape(str(text), quote=True)


def _ids(titles: Sequence[str]) -> list[str]:
    """A name for each title, for links: plain letters and digits, no two alike."""
    names: list[str] = []
    for title in titles:
        plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
        stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "section"
        # "part" keeps a section's name apart from those of tables.
        name, count = f"part-{stem}", 1
        while name in names:
            count += 1
            name = f"part-{stem}-{count}"
        names.append(name)
    return names


def _asset(name: str) -> str:
    return (pathlib.Path(__file__).parent / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
