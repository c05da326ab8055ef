"""Damage to files, what comes of it, and the word for that."""

import collections
import contextlib
import io
import os
import pathlib
import re
import shutil
import time
import warnings
from typing import Any, NamedTuple

import numpy as np

from benchmarks import survival_subjects as subjects
from benchmarks.survival_subjects import Subject, Use
from cnn.commands.program import MENDABLE

SAME, NOTED, BEFORE, REFUSED = "same result", "same result, with a line", "the one before, with a line", "refused"
LATER = "the same net; the best of later steps, with a line"
GOOD = (SAME, NOTED, BEFORE, LATER, REFUSED)
FLIPPED = 3  # bytes
DAMAGES = ("truncate", "flip", "zero", "delete", "rename", "duplicate", "empty")
OF_FOLDERS = ("delete", "rename", "duplicate", "empty")


class Outcome(NamedTuple):
    """What came of a damage.

    Attributes:
      subject, file, damage, use: what was damaged, how, and the command after it; the file's kind, not its name.
      word: one of `GOOD`, or "FAULT: ..." with the reason.
      said: the lines that the command printed on standard error, and its error.
    """

    subject: str
    file: str
    damage: str
    use: str
    word: str
    said: str


def damage(folder: pathlib.Path, name: str, how: str, rng: np.random.Generator) -> None:
    """Damages a file, or a folder (its name ends in "/").

    Args:
      folder: the folder of the subject.
      name: name of the file in it.
      how: one of `DAMAGES`.
      rng: where bytes are flipped, and the file is cut.
    """
    path = folder / name
    if how == "delete":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif how in ("rename", "duplicate"):
        number = name.rstrip("/").rpartition("/")[2]
        other = path.with_name(f"{number}0" if name.endswith("/") else f"{path.name}.copy")
        if how == "rename":
            path.rename(other)
        else:
            shutil.copytree(path, other) if path.is_dir() else shutil.copy(path, other)
    elif how == "empty":
        if path.is_dir():
            shutil.rmtree(path)
            path.mkdir()
        else:
            path.write_bytes(b"")
    else:
        content = bytearray(path.read_bytes())
        if how == "truncate":
            content = content[: int(rng.integers(0, max(1, len(content))))]
        elif how == "zero":
            content = bytearray(len(content))
        else:
            for place in rng.choice(max(1, len(content)), min(FLIPPED, len(content)), replace=False):
                content[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(content))


def kind_of(name: str) -> str:
    """The kind of a file: numbers of steps, chunks and hashes are left out of its name."""
    name = re.sub(r"[0-9a-f]{32}", "ARRAY", name.replace(os.sep, "/"))
    name = re.sub(r"(?<=/)c(/\d+)+$|(?<=/)\d+(\.\d+)+$", "CHUNK", name)
    return re.sub(r"(checkpoints|checkpoints_best)/\d+(?=/)", r"\1/STEP", name)


def classify(folder: pathlib.Path, use: Use, expected: Any, before: Any) -> tuple[str, str]:
    """Runs a command on a damaged folder.

    Args:
      folder: the damaged folder.
      use: the command.
      expected: what it gives of the whole one.
      before: what it gives of the checkpoint before; None: there is none.

    Returns:
      (the word, what it printed on standard error).
    """
    said, shown = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = use.run(folder)
    except MENDABLE as error:
        text = str(error)
        printed = f"{said.getvalue()}{type(error).__name__}: {text}"
        named = str(folder) in text
        if "\n" in text.strip() or not named:
            return f"FAULT: {'several lines' if named else 'the file is not named'}", printed
        return REFUSED, printed
    except Exception as error:
        return f"FAULT: traceback of {type(error).__name__}", f"{said.getvalue()}{type(error).__name__}: {error}"
    printed = said.getvalue()
    line = "warning:" in printed or "note:" in printed or str(folder) in printed
    if found == expected:
        return (NOTED if line else SAME), printed
    if before is not None and found == before and line:
        return BEFORE, printed
    if (
        isinstance(found, dict)
        and isinstance(expected, dict)
        and "from here on is kept" in printed
        and _but_best(found) == _but_best(expected)
    ):
        return LATER, printed
    return f"FAULT: another result, {'with a line' if line else 'silent'}", printed


def _but_best(found: Any) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "best"}


def run(names: list[str], count: int, seed: int, place: pathlib.Path, end: float, show: Any = print) -> list[Outcome]:
    """Damages files of subjects, one at a time, each followed by a command that uses it.

    Args:
      names: names of the subjects.
      count: number of damages; kinds of files take turns, so that few damages are of many kinds.
      seed: seed of the choice of files and of the damages.
      place: an empty folder to work in.
      end: moment of `time.monotonic` after which no further damage is done.
      show: called with a line for each.

    Returns:
      What came of each.
    """
    rng = np.random.default_rng(seed)
    cases: list[tuple[str, str, str, Use]] = []
    known: dict[tuple[str, str], tuple[Any, Any]] = {}
    for name in names:
        subject = subjects.SUBJECTS[name]
        whole = place / "whole" / name.replace(" ", "_")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            whole.parent.mkdir(parents=True, exist_ok=True)
            subject.make(whole)
            for use in subject.uses:
                copies = [_copied(whole, place / f"known_{number}") for number in range(2)]
                before = use.before(copies[1]) if use.before else None
                known[name, use.name] = use.run(copies[0]), before
        cases += _cases(name, subject, whole, rng)
    order = _in_turn(cases, rng)
    outcomes = []
    for number in range(count):
        if time.monotonic() > end:
            break
        name, file, how, use = cases[order[number % len(order)]]
        folder = _copied(place / "whole" / name.replace(" ", "_"), place / "damaged")
        damage(folder, file, how, rng)
        word, said = classify(folder, use, *known[name, use.name])
        outcomes.append(Outcome(subjects.SUBJECTS[name].name, kind_of(file), how, use.name, word, said[-600:]))
        show(f"{number + 1}: {name}, {file}, {how}, {use.name}: {word}")
        if word not in GOOD:
            show(f"    {said[-600:]}")
    return outcomes


def _cases(name: str, subject: Subject, whole: pathlib.Path, rng: np.random.Generator) -> list[Any]:
    """One file of each kind with each damage and each use."""
    by_kind: dict[str, list[str]] = {}
    for file in subjects.files_of(whole, subject):
        by_kind.setdefault(kind_of(file), []).append(file)
    found = []
    for files in by_kind.values():
        for how in OF_FOLDERS if files[0].endswith("/") else DAMAGES:
            # Mostly of the latest step, which is the one that is read.
            found += [
                (name, files[-1] if rng.random() < 0.8 else str(rng.choice(files)), how, use) for use in subject.uses
            ]
    return found


def _in_turn(cases: list[Any], rng: np.random.Generator) -> list[int]:
    """A random order of cases in which each kind of file comes once before any comes twice."""
    turns: collections.Counter[tuple[str, str]] = collections.Counter()
    ranked = []
    for place, number in enumerate(rng.permutation(len(cases)).tolist()):
        kind = cases[number][0], kind_of(cases[number][1])
        ranked.append((turns[kind], place, number))
        turns[kind] += 1
    return [number for _, _, number in sorted(ranked)]


def _copied(whole: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A fresh copy under a name of its own, as a command says a line of a place only once."""
    _copied.number = getattr(_copied, "number", 0) + 1
    target = folder.with_name(f"{folder.name}_{_copied.number}")
    for old in folder.parent.glob(f"{folder.name}_*"):
        shutil.rmtree(old)
    return shutil.copytree(whole, target)
