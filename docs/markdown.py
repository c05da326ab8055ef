"""Tables in Markdown, and their places in a page."""

from collections.abc import Sequence

END = "<!-- end of table -->"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; headers that end in ":" are those of columns of numbers."""
    names = [header.removesuffix(":") for header in headers]
    lines = ["---:" if header.endswith(":") else "---" for header in headers]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, lines, *rows))


def replace(text: str, name: str, new: str) -> str:
    """Puts a table between its marks.

    Args:
      text: a page.
      name: the table's name.
      new: the table, Markdown.

    Returns:
      The page's new text.

    Raises:
      ValueError: if the page has no such marks.
    """
    before, mark, after = text.partition(f"<!-- table: {name} -->\n")
    if not mark or END not in after:
        raise ValueError(f"the page has no marks for a table {name!r}")
    return f"{before}{mark}\n{new}\n\n{END}{after.partition(END)[2]}"


def read(text: str, name: str) -> str:
    """The table that stands between its marks."""
    return text.partition(f"<!-- table: {name} -->\n")[2].partition(END)[0].strip()
