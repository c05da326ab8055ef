"""Training side by side with PyTorch: `python -m benchmarks.train`; see README.md.

All contenders of a case begin with the same weights, see the same batches, must have the same first losses, and take
turns in one process. Writes train.json and train.md to --output.
"""

import gc
import importlib.util
import os
from typing import Any

from absl import app, flags, logging

CASE = flags.DEFINE_list("case", [], "Which; default: all.")
OUTPUT = flags.DEFINE_string("output", "benchmarks/results", "Where to write; with --smoke nothing is written there.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of each contender.", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", 2.0, "About how long a turn takes.")
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of activations and products.")
COMPILE = flags.DEFINE_bool("torch_compile", True, "Whether torch.compile takes part.")
CPU_DEVICES = flags.DEFINE_integer("cpu_devices", 0, "As for main.py: 0 is one for each core.")
SMOKE = flags.DEFINE_bool("smoke", False, "A small net, two short rounds: does it run?")


def main(argv: list[str]) -> None:
    """Runs the cases, writes and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; flags look like --case=qa_net,lenet5")
    logging.set_verbosity(logging.WARNING)
    from benchmarks import training, training_comparison
    from cnn import devices, logs

    cases = training.SMOKE_CASES if SMOKE.value else training.CASES
    unknown = sorted(set(CASE.value) - set(cases))
    if unknown:
        raise app.UsageError(f"unknown case {', '.join(unknown)}; cases: {', '.join(cases)}")
    devices.keep_memory()
    devices.use_cpu_devices(CPU_DEVICES.value, min(case.batch for case in cases.values()))
    results: dict[str, Any] = {"cases": {}, "dtype": DTYPE.value, "load_before": os.getloadavg()[0]}
    results["matrix_product_gflops"] = rate = training_comparison.matrix_product_gflops()
    for name in CASE.value or cases:
        problem = training.problem_of(cases[name], DTYPE.value)
        rounds, seconds = (2, 0.05) if SMOKE.value else (ROUNDS.value, SECONDS.value)
        rows, absent = training_comparison.measure(problem, rounds, seconds, COMPILE.value, rate)
        results["cases"][name] = {**cases[name]._asdict(), "rows": rows, "absent": absent}
        print(f"{name}: " + ", ".join(f"{row['name']} {row['images_per_second']:,.0f}" for row in rows), flush=True)
        del problem
        gc.collect()
    results.update(logs.environment())
    if importlib.util.find_spec("torch"):
        import torch

        results["packages"]["torch"] = torch.__version__
        results["torch_threads"] = torch.get_num_threads()
    results["load_after"] = os.getloadavg()[0]
    table = training_comparison.text(results)
    print(table)
    if not SMOKE.value:
        os.makedirs(OUTPUT.value, exist_ok=True)
        stem = "train" if DTYPE.value == "float32" else f"train_{DTYPE.value}"
        logs.write_json(os.path.join(OUTPUT.value, f"{stem}.json"), results)
        with open(os.path.join(OUTPUT.value, f"{stem}.md"), "w") as file:
            file.write(table)


if __name__ == "__main__":
    app.run(main)
