"""Tables of README and the guides that are generated: `python -m docs.tables` writes them into their pages.

A table stands in its page between `<!-- table: NAME -->` and `<!-- end of table -->`. Tests compare it with the
code, or with the results files that it is made from.
"""

import ast
import pathlib
from collections.abc import Callable, Sequence

from cnn import geometry, nets
from cnn.runs import defaults
from docs import findings, measured
from docs.markdown import replace, table

ROOT = pathlib.Path(__file__).parents[1]
# Image sizes that the nets were published for, and classes where they differ from the default.
SIZES = {
    "qa_net": (32, 32, 3),
    "full_cnn": (28, 28, 1),
    "lenet5": (32, 32, 1),
    "alexnet": (227, 227, 3),
    "alexnet_owt": (224, 224, 3),
    "caffenet": (227, 227, 3),
    "zfnet512": (224, 224, 3),
    "lenet_caffe": (28, 28, 1),
    "cifar10_quick": (32, 32, 3),
    "vgg11": (224, 224, 3),
    "vgg13": (224, 224, 3),
    "vgg16": (224, 224, 3),
    "vgg19": (224, 224, 3),
    "giusti_n4": (95, 95, 3),
    "resnet18": (224, 224, 3),
    "resnet34": (224, 224, 3),
    "resnet50": (224, 224, 3),
    "se_resnet18": (224, 224, 3),
    "mobilenet_v2": (224, 224, 3),
    "googlenet": (224, 224, 3),
    "squeezenet": (224, 224, 3),
    "densenet121": (224, 224, 3),
    "preact_resnet": (32, 32, 3),
    "resnet9": (32, 32, 3),
    "whitened_resnet": (32, 32, 3),
    "nin": (32, 32, 3),
    "all_cnn": (32, 32, 3),
    "layer_pattern": (32, 32, 3),
    "sharing_net": (28, 28, 1),
}


def fields() -> str:
    """Every field of a config: name, default, meaning."""
    rows = []
    for field in defaults.FIELDS:
        default = "" if isinstance(field.default, type) or field.default in ("", {}) else f"`{field.default}`"
        rows.append([f"`{field.name}`", default, field.meaning.replace("|", "\\|")])
    return table(["field", "default", "meaning"], rows)


def registry() -> str:
    """Every registered net: name, pattern, parameters and multiply-adds at its usual image size."""
    rows = []
    for name in nets.names():
        net = nets.create(name)
        shape = SIZES.get(name, (32, 32, 3))
        rows_of = geometry.table(net, shape)
        size = "x".join(map(str, shape))
        pattern = str(net).replace("|", "\\|")  # concatenated paths; a bar would end the cell
        rows.append([f"`{name}`", size, f"{rows_of.params:,}", f"{rows_of.macs / 1e6:,.1f} M", f"`{pattern}`"])
    return table(["name", "image", "parameters:", "multiply-adds:", "pattern"], rows)


def lines_of(place: str) -> int:
    """Lines of Python in a module or package of `cnn`."""
    path = ROOT / "cnn" / place
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return sum(len(file.read_text().splitlines()) for file in files)


def purpose(place: str) -> str:
    """The first sentence of a module's or package's docstring."""
    path = ROOT / "cnn" / place
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def packages(floors: Sequence[Sequence[str]]) -> str:
    """Every package and module of `cnn`, from the top floor down.

    Args:
      floors: names, lowest floor first (`FLOORS` of tests/test_architecture.py).

    Returns:
      The table: floor, place, lines rounded to tens, purpose.
    """
    rows = []
    for floor in reversed(range(len(floors))):
        for place in floors[floor]:
            name = f"`cnn/{place}/`" if (ROOT / "cnn" / place).is_dir() else f"`cnn/{place}.py`"
            rows.append([str(floor + 1), name, f"{round(lines_of(place), -1):,}", purpose(place)])
    return table(["floor:", "place", "lines:", "what lives there"], rows)


# Page and name of every table that is made from code or results, except that of packages.
TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("docs/training.md", "fields"): fields,
    ("docs/nets.md", "nets"): registry,
    ("docs/performance.md", "dense"): measured.dense,
    ("docs/performance.md", "forward"): measured.forward,
    ("docs/performance.md", "training"): measured.training,
    ("docs/performance.md", "growth"): measured.growth,
    ("docs/performance.md", "start-up"): measured.startup,
    ("docs/scaling.md", "accelerators"): measured.accelerators,
    ("docs/streaming.md", "stream"): measured.stream,
    ("docs/studies.md", "findings"): findings.studies,
    ("docs/results.md", "data sets"): measured.data_sets,
    ("docs/results.md", "scenes"): measured.scenes,
    ("docs/results.md", "photographs"): measured.photos,
    ("README.md", "speed"): measured.speed,
}


def main() -> None:
    """Writes all tables."""
    from tests.test_architecture import FLOORS

    makers = {**TABLES, ("docs/architecture.md", "packages"): lambda: packages(FLOORS)}
    for (page, name), make in makers.items():
        path = ROOT / page
        path.write_text(replace(path.read_text(), name, make()))


if __name__ == "__main__":
    main()
