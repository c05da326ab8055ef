"""One map that several processes write: each computes its tiles, and the first one alone begins and finishes it.

Of the tiles that are missing each process has every n-th, in order, and counts them in a part of the journal of its
own, `map.zarr.progress.I.json`. Whoever goes on with the map, any number of processes, first takes the tiles that are
done without a gap into the journal, which then is that of one process; what is beyond the first gap is computed again.
The chunks of a zarr divide its tiles, so that no two processes write one chunk.
"""

import contextlib
import functools
import glob
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from cnn.dense.streaming import fingerprints, map_files, planned
from cnn.dense.streaming import journal as journals
from cnn.dense.streaming import sink as sinks
from cnn.dense.streaming.alone import alone, lock_path
from cnn.dense.streaming.begun import begin, resume
from cnn.dense.streaming.pipeline import Task, run_all
from cnn.dense.streaming.progress import JOURNAL_SECONDS, Progress, journal_of
from cnn.dense.streaming.sinks.base import Sink
from cnn.images import paths
from cnn.images.errors import StorageError
from cnn.runtime import processes

SHARED = (".zarr", ".ome.zarr", ".tif", ".tiff")  # a TIFF is made of a zarr when all tiles are there


def check_shared(sink: Any, cover: bool) -> None:
    """Refuses a map that several processes cannot write.

    Args:
      sink: where it is to be written.
      cover: whether windows lie off the stride.

    Raises:
      StorageError: if its kind has no chunks, or windows off the stride would share one; says what to take.
    """
    path = paths.resolve(sink) if isinstance(sink, (str, os.PathLike)) else None
    if path is None or sinks.suffix_of(path) not in SHARED:
        raise StorageError(
            f"{path or 'an array'}: {processes.count()} processes cannot write it together; name one of "
            f"{', '.join(SHARED)}, or write it by one process"
        )
    if cover:
        raise StorageError(
            f"{path}: windows off the stride (cover) lie in chunks of other tiles, which {processes.count()} processes "
            "would write at once; leave out cover, or write it by one process"
        )


def part_path(path: str, index: int) -> str:
    """The path of the part of a journal that one process writes.

    Args:
      path: path of the journal.
      index: number of the process.

    Returns:
      `map.zarr.progress.3.json` for `map.zarr.progress.json`.
    """
    return f"{path.removesuffix('.json')}.{index}.json"


def take_parts(path: str, overwrite: bool = False) -> None:
    """Takes what several processes have done into the journal of a map, and removes their parts.

    Args:
      path: path of the journal; its map's lock is held.
      overwrite: whether the map is begun anew, and the parts are removed only.

    Raises:
      StorageError: if the journal is damaged or cannot be written.
    """
    found = _parts(path)
    if not found:
        return
    journal = None if overwrite else journals.read_journal(path)
    parts = [part for part in (_read_part(one) for one in found) if part]
    count = max((part["processes"] for part in parts), default=0)
    own = {part["process"]: part["tiles"] for part in parts if journal and part["first"] == journal["done"]}
    if journal and len({part["processes"] for part in parts}) == 1 and own:
        skipped = list(journal.get("skipped", (0, 0)))
        done, read, written = journal["done"], journal["read"], journal["written"]
        for k in range(journal["tiles"] - journal["done"]):
            mine = own.get(k % count, [])
            if k // count >= len(mine):
                break
            tile = mine[k // count]
            done, read, written = done + 1, fingerprints.chain(read, tile[0]), fingerprints.chain(written, tile[1])
            skipped = [skipped[0] + tile[2], skipped[1] + tile[3]]
        more: dict[str, Any] = {"skipped": skipped} if "skipped" in journal else {}
        if done == journal["tiles"] and sinks.suffix_of(path.removesuffix(".progress.json")) == ".zarr":
            more["complete"] = True  # it has nothing beside its tiles
        journals.write_journal(path, {**journal, "done": done, "read": read, "written": written, **more})
    for one in found:
        os.remove(one)


def _parts(path: str) -> list[str]:
    return sorted(glob.glob(f"{glob.escape(path.removesuffix('.json'))}.[0-9]*.json"))


def _read_part(path: str) -> dict[str, Any] | None:
    """A part of a journal; None of one that is damaged, whose tiles are computed again."""
    try:
        with open(path) as file:
            part = json.load(file)
        numbers = [part["first"], part["process"], part["processes"], *(n for tile in part["tiles"] for n in tile)]
        whole = all(isinstance(n, int) for n in numbers) and all(len(tile) == 4 for tile in part["tiles"])
        return part if whole and 0 <= part["process"] < part["processes"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


class PartProgress(Progress):
    """The tiles of this process that are done, in its part of the journal."""

    def __init__(self, sink: Sink, path: str, facts: Mapping[str, Any], first: int) -> None:
        """Begins a part.

        Args:
          sink: the sink that scores are written to.
          path: path of the journal.
          facts: the journal's fields.
          first: number of tiles that were done before, by all.
        """
        super().__init__(sink, path, facts, first, fingerprints.EMPTY, fingerprints.EMPTY)
        self.step = processes.count()
        self.next = first + processes.index()
        self._first, self._tiles = first, []

    def add(self, read: int, written: int, skipped: int = 0, alone: bool = False) -> None:
        self.done, self.next = self.done + 1, self.next + self.step
        self._tiles.append((read, written, skipped, int(alone)))
        if time.monotonic() >= self._time + JOURNAL_SECONDS or self.next >= self._facts["tiles"]:
            self.save()

    def finish(self) -> None:
        """Leaves that to the first process, when all are done."""

    def _write(self, finished: bool = False) -> None:
        part = {"first": self._first, "process": processes.index(), "processes": self.step, "tiles": self._tiles}
        map_files.replace_json(part_path(str(self._path), processes.index()), part)
        self._saved, self._time = self.done, time.monotonic()


def run(
    plan: Callable[..., planned.Planned],
    variables: Any,
    sink: Any,
    overwrite: bool,
    show: bool,
    said: Callable[..., None] | None,
) -> tuple[planned.Planned, Any, int, int, tuple[int, int]]:
    """Computes this process's tiles of what is missing of a map, which all processes call alike.

    Args:
      plan: `plan(opened=...)` plans the stream (`cnn.dense.streaming.planned.plan_stream`).
      variables: the classifier's variables.
      sink: path of the map.
      overwrite: whether an existing map may be replaced.
      show: whether to show a progress bar.
      said: called with the image when it is open; None: nothing is.

    Returns:
      (what was planned, the tiles at the end, number of tiles done before, number of times that memory ran out here,
      (windows, tiles) that were left out, by all).
    """
    path = str(journals.journal_path(sink))
    with contextlib.ExitStack() as held:
        opened: list[Any] = []

        def first() -> int:
            held.enter_context(alone(paths.resolve(sink)))
            take_parts(path, overwrite)
            job = plan(opened=said)
            if job.begun is not None:
                target, counter = resume(sink, job.image, job.counted, job.facts, job.begun, job.skips)
            else:
                replaced = overwrite or job.journal is not None
                target, counter = begin(sink, job.counted, job.facts, replaced, job.skips)
            opened[:] = [job, target]
            return counter.done

        done = processes.from_first(first)
        place = paths.resolve(sink)
        processes.check_seen(lock_path(place), place)  # or this one would write its tiles elsewhere
        job = opened[0] if opened else plan()
        facts = job.facts
        processes.agree("stream", {**facts["computes"], "tiles": facts["tiles"], "map": facts["map"]})
        target = opened[1] if opened else _open(sink, facts)
        placed = [jax.device_put(variables, device) for device in job.budget.devices]
        constants = job.mean, job.std
        task = Task(
            placed, job.budget.devices, job.image, target, job.counted, True, *constants, job.written, job.skips
        )
        counter = PartProgress(target, path, facts, done)
        smaller = functools.partial(job.plan, backend=job.counted.backend)
        shrunk, running = run_all(task, job.running, smaller, counter, show and processes.is_first())
        processes.barrier("streamed")
        skipped = processes.from_first(lambda: _finish(sink, path, facts))
        return job, running, done, shrunk, (skipped[0], skipped[1])


def _open(sink: Any, facts: Mapping[str, Any]) -> Sink:
    """The map that is there."""
    begun = journals.read_journal(str(journals.journal_path(sink))) or facts
    dtype = facts["computes"]["map dtype"]
    return sinks.open_sink(sink, facts["map"], dtype, existing=True, about=begun["about"])


def _finish(sink: Any, path: str, facts: Mapping[str, Any]) -> list[int]:
    """Makes one journal of the parts, and what the map has beside its tiles; gives what was left out of it."""
    take_parts(path)
    journal = journals.read_journal(path) or {}
    if journal.get("done") != facts["tiles"]:
        raise StorageError(
            f"{path}: {journal.get('done')} of {facts['tiles']} tiles are there; the same command goes on"
        )
    skipped = list(journal.get("skipped", (0, 0)))
    if not journal["complete"]:
        target = _open(sink, facts)
        counted = (journal["done"], journal["read"], journal["written"], journal.get("skipped"))
        if target.unfinished:
            target.finish()
        complete = journal_of({**facts, "about": journal["about"]}, *counted, complete=True, beside=target.digest())
        journals.write_journal(path, complete)
        target.tidy()
        target.close()
    map_files.mark(paths.resolve(sink), whole=True)
    return skipped
