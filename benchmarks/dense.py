"""Dense evaluation side by side with PyTorch, MONAI and crops: `python -m benchmarks.dense`; see README.md.

All contenders of a case have the same weights and the same image. Their scores are compared, and they are timed in turn
in one process. Writes dense.json and dense.md to --output.
"""

import gc
from typing import Any

from absl import flags

from benchmarks import comparison, machine, options, timing
from cnn.commands import program
from cnn.runtime import process

flags.adopt_module_key_flags(options)
SLOW_SECONDS = flags.DEFINE_float("slow_seconds", 30.0, "A contender slower than this takes two turns.")
CROP_GMACS = flags.DEFINE_float("crop_gmacs", 600.0, "Billions of multiply-adds to spend on windows one by one.")
CROP_WINDOWS = flags.DEFINE_integer("crop_windows", 20000, "Windows that MONAI may cut.")


def main() -> None:
    """Runs the cases, writes the results and prints them."""
    process.keep_memory()
    cases = comparison.SMOKE_CASES if options.SMOKE.value else comparison.CASES
    names = options.names(cases)
    results: dict[str, Any] = {"cases": {}, **machine.first_facts()}
    for name in names:
        problem = comparison.problem_of(cases[name], int(1e9 * CROP_GMACS.value), CROP_WINDOWS.value)
        found, absent = comparison.gather(problem, options.COMPILE.value)
        differences = comparison.check(found, absent)
        print(f"{name}: {', '.join(found)}", flush=True)
        rounds = 2 if options.SMOKE.value else options.ROUNDS.value
        times = timing.alternate({who: one.run for who, one in found.items()}, rounds, SLOW_SECONDS.value)
        rows = [row | {"difference": differences[row["name"]]} for row in comparison.rows_of(problem, found, times)]
        results["cases"][name] = {"about": cases[name].about, "rows": rows, "absent": absent}
        del problem, found
        gc.collect()  # several copies of weights of half a gigabyte
    results |= machine.last_facts()
    table = comparison.text(results)
    print(table)
    if not options.SMOKE.value:
        machine.write(options.OUTPUT.value, "dense", results, table)


if __name__ == "__main__":
    program.start(main, "--case=qa_native,qa_1")
