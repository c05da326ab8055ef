"""Processes that are killed at random moments and started again to their end: the result must be that of one start."""

import contextlib
import hashlib
import os
import pathlib
import pickle  # nosec B403: only what a child of this process writes to its pipe is read
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks import survival_subjects as subjects
from cnn.runs.checkpoint import Checkpoints
from experiments.ablation.store import Store

KILLS_IN_A_ROW = 5


def _save(folder: pathlib.Path) -> Any:
    """Saves steps of a megabyte, of which one is kept, from the one after the latest on; gives what is read back."""
    values = np.arange(2**18, dtype=np.float32)
    template = {"params": {"kernel": np.zeros_like(values)}}
    with Checkpoints(str(folder), 1) as checkpoints:
        found = checkpoints.restore_latest(variables=template)
        first = found[0] if found else 0
        if found and not np.array_equal(found[1]["variables"]["params"]["kernel"], values + first):
            raise ValueError(f"step {first} has other values than were saved")
        checkpoints.drop_after(first)
        for step in range(first + 1, 13):
            checkpoints.save(step, {"params": {"kernel": values + step}})
    with Checkpoints(str(folder), 1) as checkpoints:
        found = checkpoints.restore_latest(variables=template)
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    return names, hashlib.sha256(found[1]["variables"]["params"]["kernel"].tobytes()).hexdigest() if found else None


def _write_lines(folder: pathlib.Path) -> Any:
    """Adds results of 200 seeds to a study, those that are missing; gives the file."""
    config = subjects.config()
    store = Store(str(folder), {"study": "kills", "measures": []}, {"one": (config,)})
    for seed in sorted(set(range(200)) - store.seeds_done("one")):
        values = {"test accuracy": seed / 200}
        store.add([{"kind": "seed", "cell": "one", "seed": seed, "chosen": 0, "values": values}])
    return (folder / "results.jsonl").read_bytes()


JOBS: Mapping[str, Callable[[pathlib.Path], Any]] = {
    "training": subjects.train,
    "ablation": subjects.study,
    "saving checkpoints": _save,
    "writing a study's results": _write_lines,
    **{f"streaming into {sink}": lambda folder, sink=sink: subjects.stream(folder, sink) for sink in subjects.SINKS},
}


class Killed(NamedTuple):
    """A job that was killed some times and ended.

    Attributes:
      job: what it did.
      moments: when it was killed, seconds after its start.
      word: "same result", or "FAULT: ..." with the reason.
    """

    job: str
    moments: tuple[float, ...]
    word: str


def run(jobs: list[str], kills: int, seed: int, place: pathlib.Path, end: float, show: Any = print) -> list[Killed]:
    """Kills jobs, each in a process of its own.

    Args:
      jobs: names of `JOBS`, taken in turn.
      kills: number of kills in all, at least.
      seed: seed of the moments.
      place: an empty folder to work in.
      end: moment of `time.monotonic` after which no further job begins.
      show: called with a line for each job that ended.

    Returns:
      What came of each job.
    """
    rng, found = np.random.default_rng(seed), []
    whole: dict[str, tuple[float, Any]] = {}
    done, turn = 0, 0
    while done < kills and time.monotonic() < end:
        job = jobs[turn % len(jobs)]
        turn += 1
        if job not in whole:
            for folder in ("first", "whole"):  # the first one compiles
                start = time.monotonic()
                result = _child(job, place / folder / job.replace(" ", "_"), None)
            if result is None or result[0] == "error":
                raise RuntimeError(f"{job} fails undisturbed: {result and result[1]}")
            whole[job] = time.monotonic() - start, result
        seconds, expected = whole[job]
        folder = place / f"killed_{turn}"
        moments: list[float] = []
        result = None
        for _ in range(KILLS_IN_A_ROW):
            moment = float(rng.uniform(0, seconds))
            result = _child(job, folder, moment)
            if result is not None:  # it had ended before
                whole[job] = moment, expected
                break
            moments.append(round(moment, 3))
        result = _child(job, folder, None)
        done += len(moments)
        word = (
            "same result" if result == expected else f"FAULT: {result[1] if result[0] == 'error' else 'another result'}"
        )
        found.append(Killed(job, tuple(moments), word))
        show(f"{done} kills: {job}, killed after {moments} s of {seconds:.1f}: {word}")
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _child(job: str, folder: pathlib.Path, kill_after: float | None) -> Any:
    """What a job gives in a process of its own; None if it was killed before its end."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _work(job, folder, writing)
    os.close(writing)
    killed = False
    if kill_after is not None:
        deadline = time.monotonic() + kill_after
        while time.monotonic() < deadline and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
            killed = True
    with os.fdopen(reading, "rb") as file:
        content = file.read()
    _, status = os.waitpid(child, 0)
    if content:
        return pickle.loads(content)  # nosec B301: of the child that this process has made
    return None if killed else ("error", f"ended with {os.waitstatus_to_exitcode(status)}")


def _work(job: str, folder: pathlib.Path, writing: int) -> None:
    """The child's work; it never returns."""
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silent, stream)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with subjects.small():
            result: Any = ("result", JOBS[job](folder))
    except BaseException as error:
        result = ("error", f"{type(error).__name__}: {error}")
    with os.fdopen(writing, "wb") as file:
        pickle.dump(result, file)
    os._exit(0)
