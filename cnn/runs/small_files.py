"""The small files of a run, read with what is known of them: their record, and their copy in the latest checkpoint.

A file that is missing or damaged is read from its copy, and a line says so. Where a file can be read and says something
else than its copy, nobody can know which of them is meant: it is refused.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from cnn.runs import checksums
from cnn.runtime import json_files
from cnn.runtime.json_files import JsonError

WAY_OUT = "restore it, or train again in another --workdir"

Check = Callable[[dict[str, Any]], list[str]]
Differ = Callable[[dict[str, Any], dict[str, Any]], list[str]]


def read(workdir: str, name: str, check: Check, differ: Differ | None = None, missing: str = "") -> dict[str, Any]:
    """Reads a JSON file of a run.

    Args:
      workdir: directory of the run.
      name: name of the file, one of `cnn.runs.checksums.KEPT`.
      check: gives what is wrong with the object that it holds.
      differ: (object, that of the copy) -> what of the first cannot be; None: they are not compared.
      missing: what follows "is missing" in the error; "": that a run writes it.

    Returns:
      The object that it holds; if it is missing or damaged that of its copy, after a line on standard error.

    Raises:
      FileNotFoundError: if it is missing, and there is no copy.
      ValueError: if it is damaged and there is no copy, or if it says something else than its copy.
    """
    path = os.path.join(workdir, name)
    copied = _copy(workdir, name, check)
    try:
        found = _object(path, check, missing)
    except (FileNotFoundError, ValueError) as error:
        if copied is None:
            raise
        note(f"{str(error).split(': a run writes')[0].split('; restore it')[0]}; {_said(copied[0])} is used")
        return copied[1]
    differing = differ(found, copied[1]) if copied and differ else []
    if copied and differing:
        raise ValueError(
            f"{path} is not as it was when the run was trained, by {_said(copied[0])}: {'; '.join(differing)}; restore "
            "it, or remove it: the copy is used then"
        )
    return found


def _object(path: str, check: Check, missing: str) -> dict[str, Any]:
    """The object that a file holds, checked."""
    if not os.path.lexists(path):
        raise FileNotFoundError(f"{path} is missing: {missing or f'a run writes it; {WAY_OUT}'}")
    try:
        found = json_files.read(path)
    except JsonError as error:
        raise ValueError(f"{path} is damaged, it {error}; {WAY_OUT}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}; {WAY_OUT}") from error
    if not isinstance(found, dict):
        raise ValueError(
            f"{path} is damaged, it holds a {type(found).__name__} where a run writes an object; {WAY_OUT}"
        )
    wrong = check(found)
    if wrong:
        joint = ", it " if wrong[0].startswith("has no") else ", " if wrong[0].startswith("its ") else ": "
        raise ValueError(f"{path} is damaged{joint}{'; '.join(wrong)}; {WAY_OUT}")
    return found


def difference(name: str, found: Any, copied: Any) -> str:
    """Says how a value differs from that of the copy."""
    return f"{name} is {str(found)[:80]} in it and {str(copied)[:80]} in the copy"


def read_object(path: str, check: Check) -> dict[str, Any]:
    """Reads a JSON file that has no copy.

    Args:
      path: path of the file.
      check: gives what is wrong with the object that it holds.

    Returns:
      The object.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged; names the file and what is wrong with it.
    """
    return _object(path, check, "")


def _copy(workdir: str, name: str, check: Check) -> tuple[int, dict[str, Any]] | None:
    """(step, the object) of the file's copy, if there is one."""
    copied = checksums.copy_of(workdir, name)
    if copied is None:
        return None
    try:
        found = json_files.parse(copied[1])
    except JsonError:  # the checkpoint was taken when the file was damaged already
        return None
    return (copied[0], found) if isinstance(found, dict) and not check(found) else None


def _said(step: int) -> str:
    return f"its copy in the checkpoint of step {step:,}"


@functools.lru_cache(maxsize=256)
def note(text: str) -> None:
    """Prints a line on standard error, once: a command reads some files several times.

    Args:
      text: the line.
    """
    print(f"warning: {text}", file=sys.stderr, flush=True)
