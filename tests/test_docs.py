"""README, the guides, the examples: links lead somewhere, blocks of code run, tables and numbers are the code's own."""

import functools
import json
import pathlib
import re
import runpy
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from cnn import exchange
from cnn.runs import checkpoint, config_files, defaults
from docs import build, findings, markdown, measured, tables
from experiments.ablation import study as study_lib
from experiments.ablation import study_findings
from tests import pages
from tests.helpers import ROOT, run_python
from tests.test_architecture import FLOORS

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))

# What makes a command of the pages quick, by its program; the rest of it runs as it is written.
QUICK = {
    "main.py": ["--config.train.epochs=0.5", "--config.eval.scenes=0"],
    "experiments.ablate": ["--config=smoke", "--config.train.steps=2", "--seeds=2"],
    "experiments.dense_eval": ["--timing_images=2", "--scenes=10"],
    "experiments.giusti": ["--size=100", "--runs=5", "--samples=2"],
}
# What the run of the pages is trained with; its own command goes on with it.
TRAINED = ["--config.train.epochs=2", "--config.eval.scenes=0"]
# Commands that do not run here, and why.
NOT_RUN = {
    "-m pip": "CI runs them",
    "-m pytest": "it would start these tests again",
    "-m cnn.prepare": "fetches data",
    "-m benchmarks.": "tests/benchmarks runs them with --smoke",
    "-m experiments.seeds": "trains whole configs; tests/experiments",
    "-m experiments.speedrun": "trains for a record",
    "-m experiments.pages": "reads a prepared TFDS set",
    "--config=pages": "reads a prepared TFDS set",
    "--config=mnist": "reads a prepared TFDS set",
    "--config=folder": "needs pictures",
    "--config=configs/mnist.py": "reads a prepared TFDS set",
    "--config=configs/folder.py": "needs pictures",
    "--weights=november_model.h5": "a file of another project; tests/exchange/test_keras_model.py",
    "--protocol=grid": "needs pictures; tests/protocols",
    "ruff": "CI runs it",
    "pyright": "CI runs it",
    "docs.build": "tests/test_course.py",
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder as the pages assume it: runs/digits after a few steps, pictures, and the files that blocks show."""
    folder = tmp_path_factory.mktemp("pages")
    done = run_python(ROOT / "main.py", f"--workdir={folder / 'runs' / 'digits'}", *TRAINED)
    assert done.returncode == 0, done.stderr
    rng = np.random.default_rng(0)
    for name, size in {"a": 32, "b": 40, "page": 80}.items():
        Image.fromarray(rng.integers(0, 256, (size, size), np.uint8)).save(folder / f"{name}.png")
    tifffile.imwrite(folder / "slide.tif", rng.integers(0, 256, (150, 130), np.uint8), tile=(64, 64))
    (folder / "slides").mkdir()
    for name in ("a", "b"):
        shutil.copyfile(folder / "slide.tif", folder / "slides" / f"{name}.tif")
    exchange.save(folder / "net.onnx", checkpoint.load_run(str(folder / "runs" / "digits")))
    (folder / "experiments").symlink_to(ROOT / "experiments")
    for page in pages.PAGES:
        for block in pages.blocks(page):
            name = pages.files_of(block.text)
            if name:
                (folder / name).write_text(block.text)
    return folder


@pytest.mark.parametrize("page", pages.PAGES)
def test_links(page):
    for address in pages.links(page):
        if re.match(r"[a-z]+:", address):
            continue
        file, _, anchor = address.partition("#")
        path = ((ROOT / page).parent / file).resolve() if file else ROOT / page
        assert path.is_file(), f"{page} links {address}, which is no file"
        if anchor:
            linked = str(path.relative_to(ROOT))
            assert anchor in pages.anchors(linked), f"{page} links {address}; anchors: {pages.anchors(linked)}"


@pytest.mark.pages
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in pages.PAGES if pages.has_python(page)])
def test_python_blocks(page, trained, tmp_path, monkeypatch):
    """The blocks of a page run one after another, with shared names."""
    for entry in trained.iterdir():  # a copy, as blocks write files
        copy = shutil.copytree if entry.is_dir() and not entry.is_symlink() else shutil.copyfile
        if entry.name == "experiments":
            (tmp_path / entry.name).symlink_to(ROOT / "experiments")
        else:
            copy(entry, tmp_path / entry.name)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for block in pages.blocks(page):
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, str(ROOT / page), "exec"), names)


@functools.cache
def flags_of(*program):
    """The flags that a program's help lists."""
    text = run_python(*program, "--help").stdout
    return set(re.findall(r"--(?:\[no\])?([a-z_]+)", text))


ALL_COMMANDS = [(page, command) for page in pages.PAGES for command in pages.commands(page)]


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS, ids=[" ".join(c) for _, c in ALL_COMMANDS])
def test_commands_name_what_exists(page, command):
    """Programs, flags, configs, their fields, studies and requirement files."""
    if command[0] in ("ruff", "pyright", "export"):
        return
    assert command[0] == "python", command
    if command[1] == "-m" and command[2] == "pip":
        given = [argument for argument in command[3:] if argument.startswith("requirements")]
        assert all((ROOT / name).is_file() for name in given)
        return
    program = command[1:3] if command[1] == "-m" else command[1:2]
    if program[-1] == "pytest":
        assert set(command[3:]) <= {"--everything"}
        return
    path = pages.module_file(program[1]) if len(program) == 2 else ROOT / program[0]
    assert path.is_file(), command
    given = dict(argument[2:].partition("=")[::2] for argument in command if argument.startswith("--"))
    fields = {field.name for field in defaults.FIELDS}
    known = flags_of(*program) if given else set()
    for name, value in given.items():
        if name.startswith("config."):
            field = name.removeprefix("config.")
            assert field in fields or field.startswith("net.options."), name
        else:
            assert name in known, f"{page}: {' '.join(program)} has no flag --{name}; {sorted(known)}"
        if name == "config":
            assert pathlib.Path(config_files.find(value)).is_file()
        if name == "study" and not value.endswith(".py"):
            assert (ROOT / "experiments" / "studies" / f"{value}.py").is_file()


def shorter(command):
    """A command as a quick test runs it: the flags that make its program long are replaced, the others stay."""
    program = command[2] if command[1] == "-m" else command[1]
    flags = () if "--list" in command or any(part.startswith("--mode") for part in command) else QUICK.get(program, ())
    if any(part.startswith(("--image=", "--images=")) for part in command):
        flags = []  # those are of scenes
    if list(command[1:]) == ["main.py"]:
        flags = TRAINED
    replaced = {flag.partition("=")[0] for flag in flags}
    if program == "experiments.ablate":
        replaced.add("--workdir")  # by default there is one too
    return (*(part for part in command if part.partition("=")[0] not in replaced), *flags)


# Each once: pages repeat commands, and some differ only in how long they take.
RUNNABLE = list(
    dict.fromkeys(
        shorter(command) for _, command in ALL_COMMANDS if not any(part in " ".join(command) for part in NOT_RUN)
    )
)


def makers_of(command, folder):
    """Commands that make the workdir that a command reads, where it is not there yet: cases may run in any order."""
    flag = next((part for part in command if part.startswith("--workdir=")), None)
    if flag is None or (folder / flag.partition("=")[2]).exists():
        return []
    return [other for other in RUNNABLE[: RUNNABLE.index(command)] if flag in other][:1]


@pytest.mark.pages
@pytest.mark.slow
@pytest.mark.parametrize("command", RUNNABLE, ids=[" ".join(c) for c in RUNNABLE])
def test_commands_run(command, trained):
    """Each command as it is written, only shorter where it trains; in the folder that the pages assume."""
    for needed in [*makers_of(command, trained), command]:
        arguments = [str(ROOT / "main.py") if part == "main.py" else part for part in needed[1:]]
        done = run_python(*arguments, cwd=trained)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporter of PyTorch that needs onnx alone
@pytest.mark.pages
@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name, tmp_path, monkeypatch, capsys):
    if name == "from_pytorch.py":
        pytest.importorskip("torch", reason="PyTorch trains the classifier: requirements-peers.txt")
    path = ROOT / "examples" / name
    assert len(path.read_text().splitlines()) < 30
    assert f"python examples/{name}" in path.read_text().splitlines()[0]
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    expected = {
        "export_dense.py": r"images of at least 32x32 pixels.*\n(pip|map \(2, 9, 19, 3\) .* \d\.\de-0[6-9])",
        "convert_vgg16.py": r"6x6 scores of 1000 classes: 49\.6 G multiply-adds in one pass,\n557 G as 36 crops",
        "from_pytorch.py": r"3,[89]\d\d of 4,000 digits on a page of 640x1600 pixels are read right",
        "numpy_dataset.py": r"test accuracy (9\d\.\d|100\.0)% on 120 pictures",
        "own_net.py": r"map \(2, 35, 45, 4\) by \w+; largest difference from crops \d\.\de[-+]0[5-9]|0\.0e\+00",
        "scene_to_maps.py": r"\(118, 168, 3\) scores; (\d+) detections, \1 rectangles: {'cell': \d+, 'debris': \d+",
        "stream_large_image.py": r"\(1000, 1200, 3\) pixels -> \(243, 293, 3\) scores",
        "train_and_score.py": r"best window \[\d+, \d+, \d+, \d+\]: (\d); the digit is a \1",
    }
    assert re.search(expected[name], printed), printed


def page_text(name):
    return (ROOT / "docs" / name).read_text()


@pytest.mark.parametrize(("page", "name"), tables.TABLES, ids=[name for _, name in tables.TABLES])
def test_tables(page, name):
    """Tables say what the code and the committed results say; `python -m docs.tables` writes them."""
    assert markdown.read((ROOT / page).read_text(), name) == tables.TABLES[page, name]()


def test_a_table_follows_its_results(tmp_path, monkeypatch):
    """A number that changes in a results file changes the table."""
    before = measured.training()
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    results = json.loads((ROOT / "benchmarks" / "results" / "train.json").read_text())
    results["cases"]["vgg11"]["rows"][0]["images_per_second"] = 1234.5
    (folder / "train.json").write_text(json.dumps(results))
    monkeypatch.setattr(measured, "ROOT", tmp_path)
    assert measured.training() != before and "| 1,234 |" in measured.training()


def cells_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_table_of_packages():
    """docs/architecture.md has every package on its floor; its numbers of lines may be a fifth out of date."""
    written = cells_of(markdown.read(page_text("architecture.md"), "packages"))
    now = cells_of(tables.packages(FLOORS))
    assert [row[:2] for row in written] == [row[:2] for row in now]
    for old, new in zip(written, now, strict=True):
        old_lines, new_lines = (int(row[2].replace(",", "")) for row in (old, new))
        assert abs(old_lines - new_lines) <= 30 + 0.2 * new_lines, f"{old[1]}: python -m docs.tables"
    floors = [int(row[0]) for row in written]
    assert floors == sorted(floors, reverse=True) and max(floors) == len(FLOORS)


def test_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert "python -m pip install -r requirements.txt && python main.py" in text.splitlines()
    assert "python -m pip install -r requirements-dev.txt && python -m pytest" in text.splitlines()


@pytest.mark.parametrize("name", study_lib.names())
def test_findings_are_those_of_the_reports(name):
    """Each effect with its interval in docs/studies.md stands in the study's report, and so do its limits."""
    effect = re.compile(r"([-+][\d.e-]+ \([-+][\d.e-]+ to [-+][\d.e-]+\))")
    report = (ROOT / "experiments" / "results" / name / "report.md").read_text()
    *lines, limits = findings.of(name)
    stated = [found for line in lines for found in effect.findall(line)]
    assert len(stated) == len(study_lib.load(name).comparisons) and set(stated) <= set(effect.findall(report))
    assert limits in report.splitlines()
    assert ("- Inconclusive" in report) == any(line.startswith(study_findings.INCONCLUSIVE) for line in lines)


def test_a_broken_link_stops_the_site(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "GUIDES", ())
    monkeypatch.setattr(build, "COURSE", ())
    (tmp_path / "README.md").write_text("# Title\n\n[there](nowhere.md)\n")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.md is linked from README\.md"):
        build.build(tmp_path / "site")
