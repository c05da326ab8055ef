"""Training side by side with PyTorch: `python -m benchmarks.train`; see README.md.

All contenders of a case begin with the same weights, are trained on the same batches, must have the same first losses,
and take turns in one process. Writes train.json and train.md to --output.
"""

import gc
from typing import Any

from absl import flags

from benchmarks import options
from cnn.commands import program

flags.adopt_module_key_flags(options)
SECONDS = flags.DEFINE_float("seconds", 2.0, "Approximate duration of a turn, seconds.")
CPU_DEVICES = flags.DEFINE_integer("cpu_devices", 1, "Number of devices that the CPU counts as; 0: one for each core.")


def main() -> None:
    """Runs the cases, writes the results and prints them."""
    from benchmarks import machine, training, training_comparison
    from cnn.runtime import process

    cases = training.SMOKE_CASES if options.SMOKE.value else training.CASES
    names = options.names(cases)
    process.keep_memory()
    process.use_cpu_devices(CPU_DEVICES.value, min(case.batch for case in cases.values()))
    results: dict[str, Any] = {"cases": {}, "dtype": options.DTYPE.value, **machine.first_facts(options.DTYPE.value)}
    rate = results["matrix_product_gflops"]
    for name in names:
        problem = training.problem_of(cases[name], options.DTYPE.value)
        rounds, seconds = (2, 0.05) if options.SMOKE.value else (options.ROUNDS.value, SECONDS.value)
        rows, absent = training_comparison.measure(problem, rounds, seconds, options.COMPILE.value, rate)
        results["cases"][name] = {**cases[name]._asdict(), "rows": rows, "absent": absent}
        print(f"{name}: " + ", ".join(f"{row['name']} {row['images_per_second']:,.0f}" for row in rows), flush=True)
        del problem
        gc.collect()
    results |= machine.last_facts()
    table = training_comparison.text(results)
    print(table)
    if not options.SMOKE.value:
        stem = "train" if options.DTYPE.value == "float32" else f"train_{options.DTYPE.value}"
        machine.write(options.OUTPUT.value, stem, results, table)


if __name__ == "__main__":
    program.start(main, "--case=qa_net,lenet5")
