"""Kills streams at many moments, each in a process of its own, and ends them in another: FOLDER SINK SEED COUNT.

Events are what changes files: a tile that is computed, a file that is synced, replaced or removed, an array that is
made, a page that is written. The process dies at once at a random one, without a chance to clean up. Prints each event.
"""

import os
import pathlib
import shutil
import sys

import numpy as np
import tifffile

from cnn.dense import tile_runs, tiles
from cnn.dense.streaming import progress
from cnn.dense.streaming.sinks import pyramid, zarr_arrays
from tests.dense.streaming.small_stream import CONSTANTS, PIXELS, run

EVENTS = (
    (tile_runs, "run_tile"),
    (os, "fsync"),
    (os, "replace"),
    (os, "remove"),
    (shutil, "rmtree"),
    (zarr_arrays, "create"),
    (tifffile.TiffWriter, "write"),
)


def stream(path: pathlib.Path, fatal: int) -> int:
    """Streams in a child, which dies before or after its event of that number; returns its number of events, or 0."""
    ready, told = os.pipe()
    child = os.fork()
    if child:
        os.close(told)
        _, status = os.waitpid(child, 0)
        with os.fdopen(ready) as file:
            text = file.read()
        assert status == 0 or (fatal and os.waitstatus_to_exitcode(status) == 9), (status, text)
        return int(text or 0)
    seen = [0]

    def counted(function):
        def call(*arguments, **options):
            seen[0] += 1
            if seen[0] == fatal and fatal % 2:
                os._exit(9)
            result = function(*arguments, **options)
            if seen[0] == fatal:
                os._exit(9)
            return result

        return call

    for owner, name in EVENTS:
        setattr(owner, name, counted(getattr(owner, name)))
    run(path, PIXELS[:50, :46], tile=8, **CONSTANTS)
    os.write(told, str(seen[0]).encode())
    os._exit(0)


def contents(path: pathlib.Path) -> dict[str, bytes]:
    found = [one for one in path.parent.rglob("*") if one.is_file() and path.name in str(one)]
    return {str(one.relative_to(path.parent)): one.read_bytes() for one in found}


def main(folder: str, sink: str, seed: str, count: str) -> None:
    tiles.LEAST_OUTPUTS, pyramid.SMALLEST, progress.JOURNAL_SECONDS = 8, 8, 0.0
    whole = pathlib.Path(folder) / "whole" / sink
    events = stream(whole, 0)
    expected = contents(whole)
    # Most events are tiles; half of those that are tried lie in the finish.
    rng = np.random.default_rng(int(seed))
    late = rng.integers(events // 2, events + 1, int(count) // 2)
    for fatal in [*rng.integers(1, events + 1, int(count) - len(late)).tolist(), *late.tolist()]:
        killed = pathlib.Path(folder) / f"killed_{fatal}" / sink
        stream(killed, fatal)
        stream(killed, max(1, events - fatal))  # and once more, wherever that is
        stream(killed, 0)
        assert contents(killed) == expected, fatal
        print(f"killed at event {fatal} of {events}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
