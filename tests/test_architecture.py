"""Imports go one way: each package imports only those on lower floors, and no module stands outside of a package."""

import ast
import pathlib

import pytest

from tests.helpers import ROOT

# From the ground up. What stands on one line does not import each other.
FLOORS = (
    ("windows", "runtime"),
    ("images", "ops"),
    ("data", "layers"),
    ("geometry",),
    ("nets",),
    ("convert", "runs"),
    ("dense", "training"),
    ("protocols", "exchange"),
    ("reports",),
    ("train",),
    ("prepare", "commands"),
    ("__main__",),
)
FLOOR = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}


def imported(path: pathlib.Path) -> set[str]:
    """Packages of `cnn` that a file imports, also within its functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path} has a relative import; write `from cnn.... import ...`")
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module] if node.module != "cnn" else [f"cnn.{alias.name}" for alias in node.names]
        found |= {module.split(".")[1] for module in modules if module.startswith("cnn.")}
    return found


def upward(library: pathlib.Path) -> list[str]:
    """Imports that do not go down: "a.py imports b, which is not below it"."""
    wrong = []
    for path in sorted(library.rglob("*.py")):
        place = path.relative_to(library)
        package = place.parts[0].removesuffix(".py")
        if package == "__init__":
            continue
        for other in sorted(imported(path) - {package}):
            if FLOOR.get(other, len(FLOORS)) >= FLOOR.get(package, -1):
                wrong.append(f"cnn/{place} imports cnn.{other}, which is not below cnn.{package}")
    return wrong


def test_imports_go_one_way():
    assert upward(ROOT / "cnn") == []


def test_every_module_is_in_a_package():
    """What stands beside the packages are the promised names alone."""
    modules = {path.stem for path in (ROOT / "cnn").glob("*.py")} - {"__init__"}
    assert modules == {"windows", "convert", "train", "prepare", "__main__"}
    folders = {path.parent.name for path in (ROOT / "cnn").glob("*/__init__.py")}
    assert modules | folders == set(FLOOR)


@pytest.mark.parametrize("line", ["from cnn.reports import html", "import cnn.dense", "from cnn import train"])
def test_a_planted_import_is_found(tmp_path, line):
    package = tmp_path / "layers"
    package.mkdir()
    (package / "sliding.py").write_text(f"def f():\n    {line}\n")
    wrong = upward(tmp_path)
    assert len(wrong) == 1 and wrong[0].startswith("cnn/layers/sliding.py imports cnn.")
