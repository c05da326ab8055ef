"""What a run was trained by: written when its steps begin, and kept whatever is done with the run afterwards."""

import os
import shutil
from collections.abc import Mapping
from typing import Any

from cnn.runs import checkpoint, checksums, facts, logs, records, results, small_files
from cnn.runs import config as config_lib
from cnn.runs.config import Config

NAME = "provenance.json"
FINISHED = "report.html"  # written last; a run without it is not finished
# What a run leaves that another must not find; the first ones belong to a run that goes on.
NETS = (checkpoint.LATEST, checkpoint.BEST)
LEFT = (*NETS, results.NAME, results.LIST, config_lib.DIVERGED)


def begin(
    config: Config,
    workdir: str,
    data_facts: Mapping[str, Any],
    step: int,
    environment: Mapping[str, Any],
    *,
    goes_on: bool,
) -> None:
    """Writes what is known before the first step, or before the next one of a run that goes on.

    Args:
      config: the config of the run.
      workdir: directory of the run; made if missing.
      data_facts: the contents of data.json.
      step: number of steps done.
      environment: command, versions, device and commit of this process (`cnn.runs.logs.environment`).
      goes_on: whether the directory holds this run already; what is left of another one is removed.
    """
    _unfinish(workdir)
    for name in LEFT if not goes_on else LEFT[len(NETS) :]:
        path = os.path.join(workdir, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)
    config_lib.save(config, workdir)
    logs.write_json(os.path.join(workdir, facts.NAME), data_facts)
    before = _read(workdir) if goes_on else []
    processes = [one for one in before if one["step"] < step] + [{"step": step, **environment}]
    logs.write_json(os.path.join(workdir, NAME), {"processes": processes})


def again(config: Config, workdir: str, data_facts: Mapping[str, Any]) -> None:
    """Writes what a trained run is evaluated by anew; what it was trained by stays.

    Args:
      config: the config of the run, which may have other fields of evaluation.
      workdir: directory of the run.
      data_facts: the contents of data.json.
    """
    _unfinish(workdir)
    config_lib.save(config, workdir)
    logs.write_json(os.path.join(workdir, facts.NAME), data_facts)


def of_result(workdir: str, environment: Mapping[str, Any], *, trained: bool) -> dict[str, Any]:
    """The part of result.json that says what the run was trained by.

    Args:
      workdir: directory of the run.
      environment: that of this process.
      trained: whether this process took steps of it.

    Returns:
      Command, versions, device and commit of the process that took the first step; "resumed", a list of the same for
      each further one with its first step; and "evaluated", those of this process, if it took none.
    """
    processes = _read(workdir)
    if not processes:  # a run that is older than the file: its result knows
        path = os.path.join(workdir, "result.json")
        result = results.read_or_none(path) or {}
        processes = [{"step": 0, **{key: result.get(key, value) for key, value in environment.items()}}]
    first = {key: value for key, value in processes[0].items() if key != "step"}
    resumed = {"resumed": processes[1:]} if len(processes) > 1 else {}
    return {**first, **resumed, **({} if trained else {"evaluated": dict(environment)})}


def lengthened(workdir: str) -> bool:
    """Whether a run was trained for longer than it was begun for (`cnn.training.longer`).

    Args:
      workdir: directory of the run.

    Returns:
      Whether it was.
    """
    return any("steps_before" in one for one in _read(workdir))


def _unfinish(workdir: str) -> None:
    """Takes the page away that says that all of a run is there: from here on it is not, until the next is written."""
    path = os.path.join(workdir, FINISHED)
    if os.path.exists(path):
        os.remove(path)


def _read(workdir: str) -> list[dict[str, Any]]:
    if not os.path.exists(os.path.join(workdir, NAME)) and checksums.copy_of(workdir, NAME) is None:
        return []
    return small_files.read(workdir, NAME, lambda found: records.wrong(found, records.PROVENANCE, ["processes"]))[
        "processes"
    ]
