"""Memory and compiled programs over many score maps: `python -m benchmarks.load`; see README.md.

Computes thousands of maps of one shape, then maps of hundreds of shapes, by `score_map` (which compiles a program for
each) and by `score_maps` (which compiles one for all). Writes load.json and load.md to --output.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from absl import flags

from benchmarks import options
from cnn.commands import program
from cnn.dense import tile_runs

flags.adopt_module_key_flags(options)
CALLS = flags.DEFINE_integer("calls", 2000, "Number of maps of one shape.", lower_bound=10)
SHAPES = flags.DEFINE_integer("shapes", 300, "Number of shapes.", lower_bound=10)
PARTS = 10  # the memory is noted after each tenth of the calls


def main() -> None:
    """Makes the calls, writes the results and prints them."""
    from benchmarks import machine
    from cnn import dense, nets
    from cnn.dense import backends
    from cnn.layers import Activation, Conv, Dense, Flatten, MaxPool

    few = 20 if options.SMOKE.value else None
    calls, shapes = few or CALLS.value, few or SHAPES.value
    # A small net: what grows with calls and shapes, if anything does, is what is kept of each program.
    net, window = nets.net([Conv(8, 3), Activation("relu"), MaxPool(2), Conv(10, 3), Flatten(), Dense(4)]), (8, 8)
    results: dict[str, Any] = {"load_before": os.getloadavg()[0], "net": str(net)}
    variables = nets.init(net, (*window, 3))
    rng = np.random.default_rng(0)
    largest = rng.normal(size=(1, 40 + shapes, 64, 3)).astype(np.float32)

    def one(i: int) -> None:
        del i
        dense.score_map(net, variables, largest[:, :64], window).scores.block_until_ready()

    def other(i: int) -> None:
        dense.score_map(net, variables, largest[:, : 40 + i], window).scores.block_until_ready()

    def tiled(i: int) -> None:
        dense.score_maps(net, variables, [largest[0, : 40 + i]], window, tile=64)

    series: dict[str, tuple[Callable[[int], None], int]] = {
        f"score_map, {calls:,} calls of one shape": (one, calls),
        f"score_map, {shapes:,} shapes": (other, shapes),
        f"score_maps, {shapes:,} shapes": (tiled, shapes),
    }
    results["series"] = {}
    for name, (call, count) in series.items():
        memory = list(_memory(call, count))
        kept = {"run_pass": backends.run_pass.programs, "run_schedule": tile_runs.run_schedule.programs}
        results["series"][name] = {"resident_bytes": memory, "programs": kept}
        print(name, [round(bytes_ / 2**20) for bytes_ in memory], kept, flush=True)
    results |= machine.last_facts()
    table = text(results)
    print(table)
    if not options.SMOKE.value:
        machine.write(options.OUTPUT.value, "load", results, table)


def _memory(call: Callable[[int], None], count: int) -> Iterator[int]:
    """Resident memory after the first call and after each tenth of the calls, bytes."""
    for i in range(count):
        call(i)
        if i == 0 or (i + 1) % (count // PARTS) == 0:
            yield resident_bytes()


def resident_bytes() -> int:
    """Resident memory of this process, bytes (Linux, proc(5))."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def text(results: Mapping[str, Any]) -> str:
    """The report as Markdown.

    Args:
      results: the contents of load.json.

    Returns:
      One table, and the facts about the machine.
    """
    from benchmarks import machine
    from cnn.reports import markdown

    rows = []
    for name, found in results["series"].items():
        memory = [f"{bytes_ / 2**20:,.0f}" for bytes_ in found["resident_bytes"]]
        half = memory[len(memory) // 2]
        rows.append([name, memory[0], half, memory[-1], *(str(n) for n in found["programs"].values())])
    headers = ["calls", "MiB after the first", "after half", "after all", "programs kept: passes", "tiles"]
    return f"# Many score maps ({results['net']})\n\n{markdown.markdown(headers, rows)}\n{machine.lines(results)}"


if __name__ == "__main__":
    program.start(main, "--calls=2000")
