"""The time until a command responds: `python -m benchmarks.startup`; see README.md.

Times whole commands in new processes, in turn: imports, `--help`, and `main.py` until its first training step, with
empty and with full caches of compiled programs and decoded data. Writes startup.json and startup.md to --output.
"""

import functools
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from absl import flags

from benchmarks import machine, options
from benchmarks.startup_times import COLD, HELP, IMPORTS, WARM, Taken, first_step, text, whole_command
from cnn.commands import program

flags.adopt_module_key_flags(options)
CONFIG = flags.DEFINE_list("config", ["digits", "mnist"], "Configs of the runs whose first training step is timed.")


def main() -> None:
    """Times the commands, writes the results and prints them."""
    results: dict[str, Any] = {"config": CONFIG.value, "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as full:
        runs: dict[str, Callable[[], Taken]] = {
            name: functools.partial(whole_command, sys.executable, "-c", code) for name, code in IMPORTS.items()
        }
        runs[HELP] = functools.partial(whole_command, sys.executable, "main.py", "--help")
        for config in CONFIG.value:
            runs[COLD.format(config)] = functools.partial(_cold, config)
            runs[WARM.format(config)] = functools.partial(first_step, config, full)
        for name, run in runs.items():  # not timed: brings files into the system's memory, and fills the folder `full`
            if "empty" not in name:
                run()
        taken: dict[str, list[Taken]] = {name: [] for name in runs}
        for _ in range(1 if options.SMOKE.value else options.ROUNDS.value):
            for name, run in runs.items():
                taken[name].append(run())
    results["seconds"] = {name: [one.seconds for one in turns] for name, turns in taken.items()}
    results["cpu_seconds"] = {name: [one.cpu for one in turns] for name, turns in taken.items()}
    results |= machine.last_facts()
    table = text(results)
    print(table)
    if not options.SMOKE.value:
        machine.write(options.OUTPUT.value, "startup", results, table)


def _cold(config: str) -> Taken:
    """The first step with empty caches."""
    with tempfile.TemporaryDirectory() as empty:
        return first_step(config, empty)


if __name__ == "__main__":
    program.start(main, "--rounds=3")
