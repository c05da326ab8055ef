"""The commands that `benchmarks.startup` times, each in a process of its own, and the report."""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks import machine
from cnn.reports import markdown

IMPORTS = {
    "import jax, flax.linen, optax": "import jax, flax.linen, optax",
    "import cnn.nets, cnn.dense": "import cnn.nets, cnn.dense",
    "import cnn.train": "import cnn.train",
}
HELP, COLD, WARM = "main.py --help", "first step of {}, empty caches", "first step of {}, full caches"
LONGEST = 300  # seconds until the first step, after which the benchmark fails


class Taken(NamedTuple):
    """What a command took.

    Attributes:
      seconds: time since the process was started, seconds.
      cpu: CPU time of the process and its children, seconds; says more where others use the machine too.
    """

    seconds: float
    cpu: float


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def first_step(config: str, cache: str) -> Taken:
    """Starts `main.py`, waits until its log has the first training step, and ends it.

    Args:
      config: name or path of a config.
      cache: folder of compiled programs (`--compilation_cache`) and of decoded data (`--data_cache`).

    Returns:
      What it took until that step.

    Raises:
      RuntimeError: if the process ends without a step; holds the end of its output.
      TimeoutError: if there is no step after `LONGEST` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        log, said = os.path.join(folder, "run", "metrics.jsonl"), os.path.join(folder, "said")
        command = [sys.executable, "main.py", f"--config={config}", f"--workdir={folder}/run"]
        command += [f"--compilation_cache={cache}/programs", f"--data_cache={cache}/data"]
        command += ["--config.train.steps_per_dispatch=1"]
        start, before = time.perf_counter(), _cpu_of_children()
        with open(said, "w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            while not (os.path.exists(log) and os.path.getsize(log)):
                if process.poll() is not None:
                    with open(said) as file:
                        raise RuntimeError(f"{' '.join(command)} ended without a step: {file.read()[-500:]}")
                if time.perf_counter() - start > LONGEST:
                    raise TimeoutError(f"{' '.join(command)}: no step in {LONGEST} s")
                time.sleep(0.005)
            taken = time.perf_counter() - start
        finally:
            process.kill()
            process.wait()
        return Taken(taken, _cpu_of_children() - before)


def whole_command(*command: str) -> Taken:
    """Runs a command to its end.

    Args:
      *command: program and arguments.

    Returns:
      What it took.

    Raises:
      RuntimeError: if the command fails; holds the end of its error output. Absl's --help ends with status 1, which is
        not a failure.
    """
    start, before = time.perf_counter(), _cpu_of_children()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    taken = Taken(time.perf_counter() - start, _cpu_of_children() - before)
    if done.returncode and not (done.returncode == 1 and command[-1] == "--help"):
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    return taken


def text(results: Mapping[str, Any]) -> str:
    """The report as Markdown.

    Args:
      results: the contents of startup.json.

    Returns:
      One table, and the facts about the machine.
    """
    rows = []
    for name, taken in results["seconds"].items():
        cpu = statistics.median(results["cpu_seconds"][name])
        numbers = (statistics.median(taken), min(taken), max(taken), cpu)
        rows.append([name, *(f"{number:.2f}" for number in numbers), len(taken)])
    table = markdown.markdown(["until", "seconds, median", "fastest", "slowest", "CPU seconds, median", "turns"], rows)
    return f"# Start-up\n\n{table}\n{machine.lines(results)}"
