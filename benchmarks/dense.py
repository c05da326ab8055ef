"""Dense evaluation side by side with PyTorch, MONAI and crops: `python -m benchmarks.dense`; see README.md.

All contenders of a case have the same weights and the same image, are checked against each other, and take turns in one
process. Writes dense.json and dense.md to --output.
"""

import gc
import importlib.util
import os
from importlib import metadata
from typing import Any

from absl import app, flags, logging

from benchmarks import comparison, timing
from cnn import devices, logs

CASE = flags.DEFINE_list("case", [], "Which; default: all.")
OUTPUT = flags.DEFINE_string("output", "benchmarks/results", "Where to write; with --smoke nothing is written there.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of each contender.", lower_bound=1)
SLOW_SECONDS = flags.DEFINE_float("slow_seconds", 30.0, "A contender slower than this takes two turns.")
CROP_GMACS = flags.DEFINE_float("crop_gmacs", 600.0, "Billions of multiply-adds to spend on windows one by one.")
CROP_WINDOWS = flags.DEFINE_integer("crop_windows", 20000, "Windows that MONAI may cut.")
COMPILE = flags.DEFINE_bool("torch_compile", True, "Whether torch.compile takes part at the net's own stride.")
SMOKE = flags.DEFINE_bool("smoke", False, "Small nets and images, two rounds: does it run?")


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", "monai") if importlib.util.find_spec(name)}


def main(argv: list[str]) -> None:
    """Runs the cases, writes and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; flags look like --case=qa_native,qa_1")
    devices.keep_memory()
    logging.set_verbosity(logging.WARNING)
    cases = comparison.SMOKE_CASES if SMOKE.value else comparison.CASES
    unknown = sorted(set(CASE.value) - set(cases))
    if unknown:
        raise app.UsageError(f"unknown case {', '.join(unknown)}; cases: {', '.join(cases)}")
    threads = None
    if importlib.util.find_spec("torch"):
        import torch

        threads = torch.get_num_threads()
    results: dict[str, Any] = {"cases": {}, "load_before": os.getloadavg()[0], "torch_threads": threads}
    for name in CASE.value or cases:
        problem = comparison.problem_of(cases[name], int(1e9 * CROP_GMACS.value), CROP_WINDOWS.value)
        found, absent = comparison.gather(problem, COMPILE.value)
        differences = comparison.check(found, absent)
        print(f"{name}: {', '.join(found)}", flush=True)
        rounds = 2 if SMOKE.value else ROUNDS.value
        times = timing.alternate({who: one.run for who, one in found.items()}, rounds, SLOW_SECONDS.value)
        rows = [row | {"difference": differences[row["name"]]} for row in comparison.rows_of(problem, found, times)]
        results["cases"][name] = {"about": cases[name].about, "rows": rows, "absent": absent}
        del problem, found
        gc.collect()  # weights of half a gigabyte, several times over
    results.update(logs.environment())
    results["packages"] |= _versions()
    results["load_after"] = os.getloadavg()[0]
    table = comparison.text(results)
    print(table)
    if not SMOKE.value:
        os.makedirs(OUTPUT.value, exist_ok=True)
        logs.write_json(os.path.join(OUTPUT.value, "dense.json"), results)
        with open(os.path.join(OUTPUT.value, "dense.md"), "w") as file:
            file.write(table)


if __name__ == "__main__":
    app.run(main)
