"""Cells of a study spread over processes that share its directory: each takes the next cell that none has taken.

A process other than the first leaves what it has measured in a file, parts/CELL.json, from which the first process
takes it into the results. So a cell that is done is done, whichever process is lost.
"""

import base64
import hashlib
import json
import os
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnn.runs import config as config_lib
from cnn.runs import logs
from cnn.runs.config import Config
from cnn.runtime import processes, turns
from experiments.ablation import executors
from experiments.ablation.cells import Done, Job

FOLDER = "parts"  # in the directory of the study
LOOK_SECONDS = 1.0  # between two looks for files of others


def identities(facts: Mapping[str, Any], configs: Mapping[str, Sequence[Config]]) -> dict[str, str]:
    """Short texts by which what was measured of a cell is known to be of this study.

    Args:
      facts: name, measures, and further facts of the study, that JSON can hold.
      configs: the configs of each cell.

    Returns:
      Cell -> text.
    """
    return {
        cell: hashlib.sha256(
            json.dumps([facts, [config_lib.identity(config) for config in found]], sort_keys=True).encode()
        ).hexdigest()
        for cell, found in configs.items()
    }


def left(workdir: str, known: Mapping[str, str]) -> list[tuple[str, Done]]:
    """What other processes have measured and the first one has not taken yet; the files are removed by `taken`.

    Args:
      workdir: directory of the study.
      known: as `identities` gives them; files of other cells, and damaged ones, are removed.

    Returns:
      (cell, what was measured), a cell each.
    """
    found = []
    folder = os.path.join(workdir, FOLDER)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        part = _read(os.path.join(folder, name))
        if part and "error" not in part and known.get(part["cell"]) == part["of"]:
            found.append((part["cell"], _done(part)))
        elif name.endswith(".json"):
            os.remove(os.path.join(folder, name))
    return found


def taken(workdir: str, cell: str) -> None:
    """Removes what was left of a cell that is in the results now.

    Args:
      workdir: directory of the study.
      cell: its name.
    """
    path = _path(workdir, cell)
    if os.path.exists(path):
        os.remove(path)


def run(jobs: Sequence[Job], workdir: str, known: Mapping[str, str]) -> Iterator[executors.Outcome]:
    """Runs jobs in all processes, which all call this alike.

    Args:
      jobs: the cells to run, the same in all.
      workdir: directory of the study, which all processes see.
      known: as `identities` gives them.

    Yields:
      In the first process (job, its result or error), as each comes; in the others nothing.
    """
    claim, waiting = turns.Turns(), dict(enumerate(jobs))
    while (number := claim.next()) < len(jobs):
        ((job, done),) = executors.here([jobs[number]])
        if processes.is_first():
            del waiting[number]
            yield job, done
            yield from _come(waiting, workdir, known)
        else:
            _leave(workdir, job.cell, known[job.cell], done)
    while processes.is_first() and waiting:
        yield from _come(waiting, workdir, known)
        time.sleep(LOOK_SECONDS)


def _come(waiting: dict[int, Job], workdir: str, known: Mapping[str, str]) -> Iterator[executors.Outcome]:
    """Outcomes that other processes have left."""
    for number, job in list(waiting.items()):
        part = _read(_path(workdir, job.cell))
        if part and part["of"] == known[job.cell]:
            del waiting[number]
            yield job, ValueError(part["error"]) if "error" in part else _done(part)
            taken(workdir, job.cell)


def _leave(workdir: str, cell: str, of: str, done: Done | Exception) -> None:
    os.makedirs(os.path.join(workdir, FOLDER), exist_ok=True)
    part: dict[str, Any] = {"cell": cell, "of": of}
    if isinstance(done, Done):
        pictures = {name: base64.b64encode(content).decode() for name, content in done.pictures.items()}
        part |= {"records": done.records, "pictures": pictures}
    else:
        part["error"] = str(done)
    logs.write_json(_path(workdir, cell), part)


def _path(workdir: str, cell: str) -> str:
    return os.path.join(workdir, FOLDER, f"{urllib.parse.quote(cell, safe=' ,')}.json")


def _read(path: str) -> dict[str, Any] | None:
    """What a process left; None if there is nothing, or it is damaged and is measured again."""
    try:
        with open(path) as file:
            part = json.load(file)
        assert isinstance(part["cell"], str) and isinstance(part["of"], str)
        assert "error" in part or (isinstance(part["records"], list) and isinstance(part["pictures"], dict))
        return part
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        return None


def _done(part: Mapping[str, Any]) -> Done:
    pictures = {os.path.basename(name): base64.b64decode(content) for name, content in part["pictures"].items()}
    return Done(part["records"], pictures)
