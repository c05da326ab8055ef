"""Makes a static site of README, the guides and the course: `python -m docs.build [--output=site]`.

The site has the folders of the repository. Every Markdown or Python file that is linked from README, the guides or
another page becomes a page, and every other linked file is copied. The pages of the course are run, and show what they
print and draw. The site loads nothing from other servers.
"""

import argparse
import html
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

from docs import cells

ROOT = pathlib.Path(__file__).parents[1]
Run = Callable[[pathlib.Path, pathlib.Path], cells.Page]
GUIDES = (
    "architecture",
    "nets",
    "training",
    "bad_input",
    "robustness",
    "devices",
    "scaling",
    "dense",
    "streaming",
    "images",
    "maps",
    "exchange",
    "protocols",
    "studies",
    "performance",
    "results",
)
COURSE = ("a_from_32x32_to_fc", "b_full_cnn", "c_lecture", "d_notes")


class Page(NamedTuple):
    """A page of the site.

    Attributes:
      title: the first heading of the page.
      body: the contents of the page, HTML.
      links: paths of the files that it links, relative to the repository.
    """

    title: str
    body: str
    links: list[str]


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it: lower case, punctuation left out, spaces to hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def target(path: str) -> str:
    """Path on the site of a file of the repository."""
    if path == "README.md":
        return "index.html"
    course = re.fullmatch(r"docs/course/([a-d]_\w+)\.py", path)
    if course:
        return f"docs/course/{course[1]}.html"
    return re.sub(r"\.(md|py)$", r".html", path)


def _parser() -> Any:
    """Markdown as GitHub reads it: CommonMark with tables, and code coloured by Pygments."""
    # Imported here, so that the functions above can be used without them.
    from markdown_it import MarkdownIt
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name

    def colour(code: str, language: str, _: str) -> str:
        if language != "python":
            return ""
        return highlight(code, get_lexer_by_name("python"), HtmlFormatter(nowrap=True))

    return MarkdownIt("commonmark", {"highlight": colour}).enable("table")


def render(path: str, text: str) -> Page:
    """Turns Markdown into the body of a page.

    Args:
      path: path of the file, relative to the repository; its links are relative to this path.
      text: contents of the file, Markdown.

    Returns:
      The page, whose links to files are replaced by links to pages.
    """
    parser = _parser()
    tokens = parser.parse(text)
    title, links, seen = "", [], {}
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            words = "".join(child.content for child in tokens[place + 1].children)
            title = title or words
            anchor = slug(words)
            seen[anchor] = seen.get(anchor, -1) + 1
            token.attrSet("id", anchor if not seen[anchor] else f"{anchor}-{seen[anchor]}")
        for child in token.children or []:
            for name in ("href", "src"):
                address = child.attrGet(name)
                if not address or re.match(r"[a-z]+:", address):
                    continue
                file, _, anchor = address.partition("#")
                if not file:
                    continue
                linked = os.path.normpath(os.path.join(os.path.dirname(path), file))
                links.append(linked)
                here = os.path.dirname(target(path))
                new = os.path.relpath(target(linked), here or ".")
                child.attrSet(name, f"{new}#{anchor}" if anchor else new)
    body = parser.renderer.render(tokens, parser.options, {})
    body = body.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")
    body = re.sub(r'<img src="([^"]*)"([^>]*)>', r'<a href="\1"><img src="\1"\2></a>', body)
    return Page(title or path, body, links)


def course_page(path: str, site: pathlib.Path, run: Run = cells.run) -> Page:
    """Runs a page of the course and turns it into HTML; its pictures are written into the site.

    Args:
      path: path of the Python file, relative to the repository.
      site: directory of the site.
      run: what runs the page.

    Returns:
      The page.
    """
    name = pathlib.Path(path).stem
    title, parts, links = "", [], []
    for result in run(ROOT / path, site / "docs" / "course" / name).results:
        if not result.cell.code:
            page = render(path, result.cell.text)
            title = title or page.title
            parts.append(page.body)
            links += page.links
            continue
        parts.append(render(path, f"```python\n{result.cell.text}```\n").body)
        if result.printed:
            parts.append(f'<pre class="output">{html.escape(result.printed)}</pre>\n')
        for picture in result.pictures:
            address, caption = f"{name}/{picture.path.name}", html.escape(picture.caption)
            parts.append(
                f'<figure><a href="{address}"><img src="{address}" alt="{caption}"></a>'
                f"<figcaption>{caption}</figcaption></figure>\n"
            )
    return Page(title, "".join(parts), links)


def source_page(path: str) -> Page:
    """A page with the contents of a Python file, coloured."""
    code = (ROOT / path).read_text()
    body = render(path, f"````python\n{code}````\n").body
    return Page(path, f"<h1><code>{html.escape(path)}</code></h1>\n{body}", [])


def navigation(path: str, titles: dict[str, str]) -> str:
    """Links to the guides and the course, as HTML; the page at `path` is marked."""
    here = os.path.dirname(target(path)) or "."
    items = []
    for group, paths in (
        ("Guides", ["README.md", *(f"docs/{name}.md" for name in GUIDES)]),
        ("Course", [f"docs/course/{name}.py" for name in COURSE]),
    ):
        items.append(f"<h2>{group}</h2><ul>")
        for other in paths:
            current = ' aria-current="page"' if other == path else ""
            label = "Start" if other == "README.md" else titles.get(other, other)
            address = os.path.relpath(target(other), here)
            items.append(f'<li><a href="{address}"{current}>{html.escape(label)}</a></li>')
        items.append("</ul>")
    return "".join(items)


def build(site: pathlib.Path, run: Run = cells.run) -> list[str]:
    """Writes the site.

    Args:
      site: directory to write to; made if missing. Files of an earlier site are replaced.
      run: what runs a page of the course: its file and the folder of its pictures to the page.

    Returns:
      Paths of the files that became pages, relative to the repository.

    Raises:
      FileNotFoundError: if a page links a file that does not exist in the repository.
    """
    pages: dict[str, Page] = {}
    waiting = ["README.md", *(f"docs/{name}.md" for name in GUIDES), *(f"docs/course/{name}.py" for name in COURSE)]
    copied = set()
    while waiting:
        path = waiting.pop(0)
        if path in pages or path in copied:
            continue
        if not (ROOT / path).is_file():
            users = [name for name, page in pages.items() if path in page.links]
            raise FileNotFoundError(f"{path} is linked from {', '.join(users)} and is no file of the repository")
        if path.startswith("docs/course/") and pathlib.Path(path).stem in COURSE:
            pages[path] = course_page(path, site, run)
        elif path.endswith(".md"):
            pages[path] = render(path, (ROOT / path).read_text())
        elif path.endswith(".py"):
            pages[path] = source_page(path)
        else:
            copied.add(path)
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, site / path)
            continue
        waiting += pages[path].links
    titles = {path: page.title for path, page in pages.items()}
    frame = (ROOT / "docs" / "page.html").read_text()
    for path, page in pages.items():
        file = site / target(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        style = os.path.relpath("style.css", os.path.dirname(target(path)) or ".")
        text = frame.replace("{title}", html.escape(page.title)).replace("{style}", style)
        text = text.replace("{navigation}", navigation(path, titles)).replace("{body}", page.body)
        file.write_text(text)
    shutil.copyfile(ROOT / "docs" / "style.css", site / "style.css")
    return list(pages)


def main() -> None:
    """Reads the flags and writes the site."""
    parser = argparse.ArgumentParser(description="Makes a static site of README, the guides and the course.")
    parser.add_argument("--output", default="site", help="folder to write to; default: site")
    site = pathlib.Path(parser.parse_args().output)
    pages = build(site)
    print(f"{len(pages)} pages; open {site / 'index.html'}")


if __name__ == "__main__":
    main()
