"""VGG-16's forward pass side by side with PyTorch: `python -m benchmarks.forward`; see README.md.

Batches of 224x224 images are classified, and larger images are run through the converted net. All contenders of a case
have the same weights and images, must give the same scores, and take turns in one process. Writes forward.json and
forward.md to --output.
"""

import gc
from typing import Any

from absl import flags

from benchmarks import forward_comparison as comparison
from benchmarks import machine, options
from cnn.commands import program
from cnn.runtime import process

flags.adopt_module_key_flags(options)


def main() -> None:
    """Runs the cases, writes the results and prints them."""
    process.keep_memory()
    cases = comparison.SMOKE_CASES if options.SMOKE.value else comparison.CASES
    names = options.names(cases)
    results: dict[str, Any] = {"cases": {}, "dtype": options.DTYPE.value, **machine.first_facts(options.DTYPE.value)}
    for name in names:
        rounds = 2 if options.SMOKE.value else options.ROUNDS.value
        rate = results["matrix_product_gflops"]
        case = comparison.measure(cases[name], options.DTYPE.value, options.COMPILE.value, rounds, rate)
        results["cases"][name] = case
        times = [f"{row['name']} {row['milliseconds']:,.1f} ms" for row in case["rows"]]
        print(f"{name}: {', '.join(times)}", flush=True)
        gc.collect()  # several copies of weights of half a gigabyte
    results |= machine.last_facts()
    table = comparison.text(results)
    print(table)
    if not options.SMOKE.value:
        stem = "forward" if options.DTYPE.value == "float32" else f"forward_{options.DTYPE.value}"
        machine.write(options.OUTPUT.value, stem, results, table)


if __name__ == "__main__":
    program.start(main, "--case=224x1,384x1")
