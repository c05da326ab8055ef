"""Pages of the course as programs: cells of prose and code, run in order, with what each cell prints and draws.

A page is a Python file in the percent format that editors and notebooks read: a line `# %% [markdown]` begins prose,
written as comments, and a line `# %%` begins code. `python -m docs.course.NAME` runs one without this module.
"""

import contextlib
import io
import pathlib
from typing import Any, NamedTuple

from docs.course import tools

MARK = "# %%"


class Cell(NamedTuple):
    """A piece of a page.

    Attributes:
      text: Markdown, or Python.
      code: whether it is Python.
      line: number of its first line in the file.
    """

    text: str
    code: bool
    line: int


class Result(NamedTuple):
    """A cell, and what it printed and drew when it was run; prose does neither.

    Attributes:
      cell: the cell.
      printed: its output as text, without the lines that name pictures.
      pictures: the pictures that it drew.
    """

    cell: Cell
    printed: str
    pictures: tuple[tools.Picture, ...]


class Page(NamedTuple):
    """A page that was run.

    Attributes:
      results: one for each cell.
      names: the program's variables at its end.
    """

    results: list[Result]
    names: dict[str, Any]


def parse(path: pathlib.Path) -> list[Cell]:
    """Splits a page into cells; lines before the first mark are left out."""
    cells: list[Cell] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if line.startswith(MARK):
            cells.append(Cell("", "[markdown]" not in line, number + 1))
        elif cells:
            last = cells[-1]
            text = line if last.code else line.removeprefix("#").removeprefix(" ")
            cells[-1] = last._replace(text=f"{last.text}{text}\n")
    return [cell._replace(text=cell.text.rstrip("\n") + "\n") for cell in cells]


def run(path: pathlib.Path, folder: pathlib.Path) -> Page:
    """Runs a page.

    Args:
      path: path of the Python file.
      folder: directory to which its pictures are written.

    Returns:
      The page. An exception in a cell is raised with its line number in the file.
    """
    names: dict[str, Any] = {"__name__": f"docs.course.{path.stem}"}
    results = []
    before, tools.folder = tools.folder, folder
    try:
        for cell in parse(path):
            if not cell.code:
                results.append(Result(cell, "", ()))
                continue
            tools.pictures.clear()
            printed = io.StringIO()
            source = "\n" * (cell.line - 1) + cell.text
            with contextlib.redirect_stdout(printed):
                exec(compile(source, str(path), "exec"), names)  # nosec B102 # the course of this checkout
            lines = [line for line in printed.getvalue().splitlines() if not line.startswith("[picture: ")]
            results.append(Result(cell, "\n".join(lines), tuple(tools.pictures)))
    finally:
        tools.folder = before
    return Page(results, names)
