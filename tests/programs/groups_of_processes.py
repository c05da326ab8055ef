"""Groups of processes that run commands together on one machine: FOLDER; groups are lines of JSON on standard input.

A group has a name, its number of processes, the module of the command (`main` or another program), its arguments, and
which process is killed at which event: [INDEX, EVENT, NUMBER, PATH], where PATH must be there first and may be left
out. All are forked from this program, which has imported what is heavy once. What process I says goes to
FOLDER/NAME.I.txt; a line of JSON has the exit statuses, and the seconds that the others went on after one was killed.
"""

import importlib
import json
import os
import pathlib
import runpy
import signal
import socket
import sys
import time

from cnn.dense import tiles
from cnn.dense.streaming import map_files, progress, together
from cnn.dense.streaming.sinks import pyramid
from cnn.reports import image_report, trained  # noqa: F401  heavy: imported once
from cnn.runs import checkpoint, saved_steps, silent
from cnn.runtime import arrays_of_all, signals, turns
from cnn.train import train_and_evaluate  # noqa: F401  likewise

# What is called at an event. A step is hit between its sums: the others are inside of the next one, and wait.
EVENTS = {
    "step": [(turns.Stop, "check"), (signals.Request, "after_step")],
    "save": [(saved_steps.Checkpoints, "save"), (silent.Checkpoints, "save")],
    "publish": [(saved_steps.checksums, "write")],
    "evaluate": [(arrays_of_all, "own_rows")],
    "tile": [(progress.Progress, "add"), (together.PartProgress, "add")],
    "part": [(map_files, "replace_json")],
    "finish": [(pyramid, "halve")],
}
LIMIT = 900  # seconds for one group, on a machine that does much else
assert checkpoint.Checkpoints is saved_steps.Checkpoints


def die_at(event: str, number: int, path: str = "") -> None:
    """Kills this process at an event's call of that number, once others had time to go on and there is a path."""
    seen = [0]

    def deadly(function):
        def call(*arguments, **options):
            seen[0] += 1
            if seen[0] == number:
                time.sleep(0.3)
                while path and not os.path.exists(path):  # what is written in the background
                    time.sleep(0.02)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for owner, name in EVENTS[event]:
        setattr(owner, name, deadly(getattr(owner, name)))


def become(folder: pathlib.Path, group: dict, index: int, address: str) -> None:
    """Turns this process into one of a group."""
    file = os.open(folder / f"{group['name']}.{index}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for one in (1, 2):
        os.dup2(file, one)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    flags = [f"--coordinator={address}", f"--num_processes={group['count']}", f"--process_id={index}"]
    kill = group.get("kill")
    if kill and kill[0] == index:
        die_at(*kill[1:])
    sys.argv = [group["module"], *group["arguments"], *(flags if group["count"] > 1 else [])]
    runpy.run_module(group["module"], run_name="__main__", alter_sys=False)


def run(folder: pathlib.Path, group: dict) -> bool:
    """Runs a group to its end; whether this is one of its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    children = []
    for index in range(group["count"]):
        child = os.fork()
        if not child:
            become(folder, group, index, address)
            return True
        children.append(child)
    statuses, killed, begin = [None] * len(children), None, time.monotonic()
    while None in statuses and time.monotonic() < begin + LIMIT:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            time.sleep(0.02)
            continue
        statuses[children.index(child)] = os.waitstatus_to_exitcode(status)
        if group.get("kill") and child == children[group["kill"][0]]:
            killed = time.monotonic()
    for child, status in zip(children, statuses, strict=True):
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    seconds = None if killed is None else time.monotonic() - killed
    print(json.dumps({"statuses": statuses, "seconds": seconds, "took": time.monotonic() - begin}), flush=True)
    return False


def main(folder: str) -> None:
    tiles.LEAST_OUTPUTS, pyramid.SMALLEST, progress.JOURNAL_SECONDS = 8, 8, 0.0
    for name in ("matplotlib.pyplot", "orbax.checkpoint", "tensorstore"):
        importlib.import_module(name)
    for line in sys.stdin:
        if run(pathlib.Path(folder), json.loads(line)):
            return


if __name__ == "__main__":
    main(sys.argv[1])
