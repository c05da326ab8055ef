"""result.json, and whether what a finished run wrote is what it wrote: by a list of checksums beside it.

Where one of these is damaged, a line says so, and it is computed again from the last checkpoint.
"""

import os
from typing import Any

from cnn.runs import checksums, records, small_files

NAME = "result.json"
LIST = checksums.NAME
LISTED = (NAME, "confusion.csv", "predictions.csv", "metrics.jsonl")


def close(workdir: str) -> None:
    """Writes the list of what a run wrote, once it is all there.

    Args:
      workdir: directory of the run.
    """
    there = [name for name in LISTED if os.path.isfile(os.path.join(workdir, name))]
    checksums.write_list(os.path.join(workdir, LIST), workdir, there)


def read(workdir: str) -> dict[str, Any]:
    """Reads result.json.

    Args:
      workdir: directory of a finished run.

    Returns:
      Its contents.

    Raises:
      FileNotFoundError: if it is missing.
      ValueError: if it, or another file of the list, is damaged; names it and the way out.
    """
    path = os.path.join(workdir, NAME)
    try:
        found = small_files.read_object(path, lambda found: records.wrong(found, records.RESULT, ["test_accuracy"]))
        fault = checksums.list_fault(os.path.join(workdir, LIST), workdir)
    except ValueError as error:
        raise ValueError(f"{str(error).split('; restore it')[0]}; {WAY_OUT}") from error
    if fault:
        raise ValueError(f"{workdir}: {fault}; {WAY_OUT}")
    return found


WAY_OUT = "main.py with the config and --workdir of the run evaluates it again, and writes it anew"


def read_or_none(path: str) -> dict[str, Any] | None:
    """The contents of a result.json, if it can be read.

    Args:
      path: path of the file.

    Returns:
      What it holds; None, after a line on standard error if it is damaged.
    """
    if not os.path.exists(path):
        return None
    try:
        return small_files.read_object(path, lambda found: records.wrong(found, records.RESULT))
    except ValueError as error:
        small_files.note(f"{str(error).split('; restore it')[0]}; what it says is left out")
        return None
