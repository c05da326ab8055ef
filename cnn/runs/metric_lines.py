"""metrics.jsonl, line by line: what is whole, what its copy in the latest checkpoint repairs, and what is refused."""

import math
import os
from typing import Any

from cnn.runs import checksums, records, small_files
from cnn.runtime import json_files
from cnn.runtime.json_files import JsonError

NAME = "metrics.jsonl"
NEEDED = ("step", "split")

Line = dict[str, Any]


def read(workdir: str) -> list[Line]:
    """Reads metrics.jsonl.

    A checkpoint has a copy of the lines before it, with which the file begins. Where it does not, these lines are taken
    from the copy; damaged ones after them are of steps that a run takes again, and are left out. A line says so.

    Args:
      workdir: directory of the run.

    Returns:
      One dict a line, NaN for null; empty if there is no file. A last line cut off by a kill is left out.

    Raises:
      ValueError: if a line before the last is damaged, and no checkpoint has a copy; names the file and the line.
    """
    path = os.path.join(workdir, NAME)
    content = b""
    if os.path.exists(path):
        with open(path, "rb") as file:
            content = file.read()
    copied = checksums.copy_of(workdir, NAME)
    if copied is None:
        lines, faults = parse(content)
        if faults:
            number, why = next(iter(faults.items()))
            raise ValueError(
                f"{path}, line {number}, is damaged, it {why}; take the line out, or train again in another --workdir"
            )
        return lines
    step, before = copied
    kept, _ = parse(before)
    if content.startswith(before):
        later, faults = parse(content[len(before) :])
        if faults:
            number = before.count(b"\n") + min(faults)
            small_files.note(f"{path} is damaged at line {number}, after step {step:,}: such lines are left out")
        return kept + later
    lines, _ = parse(content)
    small_files.note(f"{path} is damaged; the lines up to step {step:,} are those of its copy in that checkpoint")
    return kept + [line for line in lines if line["step"] > step or line["split"] == "test"]


def parse(content: bytes) -> tuple[list[Line], dict[int, str]]:
    """The lines of a metrics.jsonl.

    Args:
      content: its bytes.

    Returns:
      (the lines, NaN for null; for each damaged one, counted from 1, what is wrong with it). A last line without an end
      is none.
    """
    lines, faults = [], {}
    for number, text in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            line = json_files.parse(text)
            wrong = records.wrong(line, records.METRICS, NEEDED) if isinstance(line, dict) else ["is no object"]
        except JsonError as error:
            line, wrong = {}, [str(error).split(" from line")[0]]
        if wrong:
            faults[number] = f"{'' if wrong[0].startswith(('is', 'has', 'holds', 'names')) else 'says that '}{wrong[0]}"
        else:
            lines.append({key: math.nan if value is None else value for key, value in line.items()})
    return lines, faults
