"""A report as one HTML file that opens from disk: tables that sort, pictures inside, nothing fetched from anywhere.

Pure: data in, file out. How it looks and what can be pressed is in the files of `STYLES` and `SCRIPTS` beside this
module; they are copied into every page.
"""

import base64
import collections
import hashlib
import html
import pathlib
import re
import struct
import unicodedata
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnn.reports import html_tables, overview
from cnn.reports.html_cells import DASH
from cnn.reports.overview import Overview
from cnn.reports.tables import Notes, Table
from cnn.runtime import whole

STYLES = ("page.css", "tables.css", "figures.css")
SCRIPTS = ("tables.js", "figures.js")
_PNG = b"\x89PNG\r\n\x1a\n"


class Picture(NamedTuple):
    """A picture, copied into the page; pressed, it opens large.

    Attributes:
      path: path of a PNG.
      caption: text below the picture, behind its number; also what is read out in place of the picture.
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
      values: values by name, shown in their order; a mapping or a list in one line.
    """

    values: Mapping[str, Any]


class Numbers(NamedTuple):
    """The few numbers that a reader came for, in large type; the first is the one.

    Attributes:
      values: name -> the number as text.
    """

    values: Mapping[str, str]


class Links(NamedTuple):
    """Other pages.

    Attributes:
      pages: name -> path, relative to the page.
    """

    pages: Mapping[str, str]


Item = Table | Notes | Picture | Text | Listing | Facts | Numbers | Links | Overview


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
      path: path of the HTML file.
      title: title of the page.
      sections: its parts.
      subtitle: a sentence below the title.

    Raises:
      ValueError: if a row of a table has another number of cells than there are columns, it has too many leading
        columns, or a picture is not a PNG.
      FileNotFoundError: if a picture is not there.
    """
    text = render(title, sections, subtitle)
    with whole.written(path) as part, open(part, "w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(text)


def render(title: str, sections: Sequence[Section], subtitle: str = "") -> str:
    """The page as text.

    Everything given is shown as text, never taken for HTML. Besides, a policy in the page forbids every request and
    every script and style but its own, which are known by their hashes.

    Args:
      title: title of the page.
      sections: its parts.
      subtitle: a sentence below the title.

    Returns:
      HTML.

    Raises:
      ValueError: if a table or a picture cannot be shown (`write`).
      FileNotFoundError: if a picture is not there.
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
    looked_at = any(isinstance(item, Overview) for section in sections for item in section.items)
    styles, scripts = (STYLES + overview.STYLES, SCRIPTS + overview.SCRIPTS) if looked_at else (STYLES, SCRIPTS)
    style = "\n".join(map(_asset, styles)) + "".join(context.rules)
    script = "\n".join(map(_asset, scripts))
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
            number = context.number("Table")
            return html_tables.table(item, f"table-{number}", _caption("Table", number, item.caption))
        case Picture():
            return _picture(item, context)
        case Text(text):
            paragraphs = re.split(r"\n\s*\n", text.strip())
            return "".join(f"<p>{_escape(paragraph)}</p>\n" for paragraph in paragraphs if paragraph)
        case Notes(lines):
            points = "".join(f"<li>{_escape(line)}</li>\n" for line in lines)
            return f"<ul>\n{points}</ul>\n" if points else ""
        case Listing(text):
            # HTML drops a first line break inside <pre>; one more keeps the text's own.
            return f"<pre>\n<code>{_escape(text)}</code></pre>\n"
        case Facts(values):
            return _pairs("facts", {name: _fact(value) for name, value in values.items()})
        case Numbers(values):
            return _pairs("numbers", values)
        case Links(pages):
            return f"<ul>\n{''.join(_link(name, path) for name, path in pages.items())}</ul>\n"
        case Overview():
            text, rules = overview.figure(item, context.number("Overview"))
            context.rules.append(rules)
            return text
    raise TypeError(
        f"page: cannot show a {type(item).__name__}; items are Table, Notes, Picture, Text, Listing, Facts, Numbers, "
        f"Links, Overview"
    )


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
    image = f'<img src="{source}" width="{width}" height="{height}" alt="{_escape(alt)}">'
    return (
        f'<figure id="figure-{number}">\n'
        f'<button type="button" class="enlarge" aria-label="Open figure {number} large: {_escape(alt)}">\n{image}\n'
        f"</button>\n<figcaption>{_caption('Figure', number, picture.caption)}</figcaption>\n</figure>\n"
    )


def _link(name: str, path: str) -> str:
    """A link to a file beside the page, whatever letters its name has."""
    return f'<li><a href="./{_escape(urllib.parse.quote(path))}">{_escape(name)}</a></li>\n'


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
