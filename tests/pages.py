"""Reads the project's Markdown: its pages, their links, anchors and blocks of code, and what commands they name."""

import pathlib
import re
import shlex
from typing import NamedTuple

from markdown_it import MarkdownIt

from docs import build, cells
from tests.helpers import ROOT

MARKDOWN = MarkdownIt("commonmark").enable("table")
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    *(f"docs/{name}.md" for name in build.GUIDES),
    *(f"docs/course/{name}.py" for name in build.COURSE),
)


class Block(NamedTuple):
    """A fenced block of code.

    Attributes:
      language: "python", or "" for commands.
      text: its lines.
      line: of the page, where it begins.
    """

    language: str
    text: str
    line: int


def source(page: str) -> str:
    """A page's Markdown; of a page of the course, its prose."""
    path = ROOT / page
    if path.suffix == ".py":
        return "\n".join(cell.text for cell in cells.parse(path) if not cell.code)
    return path.read_text()


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    tokens = MARKDOWN.parse(source(page))
    return [Block(t.info.strip(), t.content, (t.map or [0])[0] + 2) for t in tokens if t.type == "fence"]


def has_python(page: str) -> bool:
    """Whether a page has blocks of Python."""
    return any(block.language == "python" for block in blocks(page))


def links(page: str) -> list[str]:
    """Addresses of the links and pictures of a page, in order."""
    children = [child for token in MARKDOWN.parse(source(page)) for child in token.children or []]
    return [str(child.attrs.get("href") or child.attrs.get("src")) for child in children if child.attrs]


def anchors(page: str) -> set[str]:
    """What a link to a place on a page may say behind its #."""
    tokens = MARKDOWN.parse(source(page))
    heads = [tokens[i + 1] for i, token in enumerate(tokens) if token.type == "heading_open"]
    return {build.slug("".join(child.content for child in head.children or [])) for head in heads}


def commands(page: str) -> list[list[str]]:
    """The commands of a page, each split as a shell splits it; those joined by && apart."""
    result = []
    for block in blocks(page):
        if block.language == "":
            for line in block.text.splitlines():
                parts = re.split(r"\s&&\s", line.partition(" #")[0])
                result += [shlex.split(part) for part in parts if part.strip()]
    return result


def files_of(text: str) -> str | None:
    """The file that a block of Python is the content of: its first line names it, "# my_nets.py"."""
    first = re.match(r"# (\w+\.py)\n", text)
    return first[1] if first else None


def module_file(module: str) -> pathlib.Path:
    """The file that `python -m MODULE` runs."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
