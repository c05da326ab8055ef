"""The time until a command responds: `python -m benchmarks.startup`; see README.md.

Times whole commands in new processes, in turn: imports, `--help`, and `main.py` until its first training step, with an
empty and with a full compilation cache. Writes startup.json and startup.md to --output.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from absl import flags

from benchmarks import machine, options
from benchmarks.startup_times import COLD, HELP, IMPORTS, WARM, command_seconds, first_step_seconds, text
from cnn.commands import program

flags.adopt_module_key_flags(options)
CONFIG = flags.DEFINE_string("config", "configs/digits.py", "Config of the run whose first training step is timed.")


def main() -> None:
    """Times the commands, writes the results and prints them."""
    results: dict[str, Any] = {"config": CONFIG.value, "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as full:
        runs: dict[str, Callable[[], float]] = {
            name: lambda code=code: command_seconds(sys.executable, "-c", code) for name, code in IMPORTS.items()
        }
        runs[HELP] = lambda: command_seconds(sys.executable, "main.py", "--help")

        def cold() -> float:
            with tempfile.TemporaryDirectory() as empty:
                return first_step_seconds(CONFIG.value, empty)

        runs[COLD], runs[WARM] = (
            cold,
            lambda: first_step_seconds(CONFIG.value, full),
        )
        for run in runs.values():  # not timed: brings files into the system's memory, and fills the folder `full`
            run()
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(1 if options.SMOKE.value else options.ROUNDS.value):
            for name, run in runs.items():
                taken[name].append(run())
    results |= {"seconds": taken, **machine.last_facts()}
    table = text(results)
    print(table)
    if not options.SMOKE.value:
        machine.write(options.OUTPUT.value, "startup", results, table)


if __name__ == "__main__":
    program.start(main, "--rounds=3")
