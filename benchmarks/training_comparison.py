"""The measurements of `benchmarks.train`: first losses of the contenders are compared, and their turns are timed."""

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks import machine, timing
from benchmarks.training import Problem, Run, flops_per_example, input_seconds, ours, pytorch
from cnn.reports import markdown

CHECKED = 3  # number of first steps whose losses must agree
# Largest relative difference of a loss. Sums in another order give 1e-6 in float32; bfloat16 rounds activations by
# 4e-3.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
OURS, TORCH, COMPILED = "ours", "PyTorch", "PyTorch, compiled"


def measure(
    problem: Problem, rounds: int, seconds: float, compiled: bool, matrix_gflops: float
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Compares the contenders' first losses, and times them in turn.

    Args:
      problem: the net, weights and examples.
      rounds: number of turns of each contender.
      seconds: approximate duration of a turn, seconds.
      compiled: whether `torch.compile` is a contender.
      matrix_gflops: rate of the machine in matrix products, GFLOP/s, from `machine.matrix_product_gflops`.

    Returns:
      A dict for each contender: name, images_per_second (median; `slowest` and `fastest` turn), gflops, `of_matrix`
      (gflops divided by matrix_gflops), first losses, and for ours `input_share` (the time of a step's input alone as a
      fraction of the step) and `to_torch` (the median over turns of its rate divided by that of the faster PyTorch);
      and the reason for each contender that is left out.

    Raises:
      ArithmeticError: if the first losses differ.
    """
    makers: dict[str, Callable[[], Run]] = {OURS: lambda: ours(problem, most_steps=10_000)}
    absent: dict[str, str] = {}
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    for name in (TORCH, COMPILED):
        if importlib.util.find_spec("torch") is None:
            absent[name] = "torch is not installed"
        elif name == COMPILED and not compiled:
            absent[name] = "not asked for"
        else:
            makers[name] = lambda name=name: pytorch(problem, name == COMPILED, device)
    runs: dict[str, Callable[[], Any]] = {}
    steps_of, losses = {}, {}
    for name, make in makers.items():
        run = make()
        try:
            losses[name] = run(CHECKED)
        except Exception as error:
            if name != COMPILED:
                raise
            absent[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
            continue
        apart = np.abs(losses[name] / losses[OURS] - 1).max()
        if not apart <= TOLERANCE[problem.config.train.dtype]:
            raise ArithmeticError(f"{name}: first losses {losses[name]}, ours {losses[OURS]}")
        start = time.perf_counter()
        run(CHECKED)
        steps_of[name] = max(1, round(seconds * CHECKED / (time.perf_counter() - start)))
        runs[name] = lambda run=run, count=steps_of[name]: run(count)
    times = timing.alternate(runs, rounds)
    each = {name: [t and t / steps_of[name] for t in taken] for name, taken in times.items()}
    torches = [name for name in (TORCH, COMPILED) if name in each]
    best = min(torches, key=lambda name: timing.median(each[name]), default=None)
    batch = problem.config.train.batch_size
    flops = batch * flops_per_example(problem.net, problem.images.shape[1:])
    rows = []
    for name, taken in each.items():
        known = [t for t in taken if t is not None]
        gflops = 1e-9 * flops / statistics.median(known)
        row: dict[str, Any] = {
            "name": name,
            "images_per_second": batch / statistics.median(known),
            "slowest": batch / max(known),
            "fastest": batch / min(known),
            "gflops": gflops,
            "of_matrix": gflops / matrix_gflops,
            "first_losses": losses[name].tolist(),
        }
        if name == OURS:
            row["input_share"] = input_seconds(problem) / statistics.median(known)
        if name == OURS and best:
            row |= {"to_torch": timing.median_ratio(each[best], taken), "best_torch": best}
        rows.append(row)
    return rows, absent


def text(results: Mapping[str, Any]) -> str:
    """The report as Markdown.

    Args:
      results: the contents of train.json.

    Returns:
      One table, and the facts about the machine.
    """
    headers = ["net", "images", "contender", "images / s", "slowest to fastest turn", "GFLOP/s", "of a matrix product"]
    cells, notes = [], []
    for name, case in results["cases"].items():
        for row in case["rows"]:
            ratio = f"{row['to_torch']:.2f}x {row['best_torch']}" if "to_torch" in row else "-"
            spread = f"{row['slowest']:,.0f} to {row['fastest']:,.0f}"
            size = "x".join(map(str, case["image"]))
            numbers = [f"{row['images_per_second']:,.0f}", spread, f"{row['gflops']:.1f}", f"{row['of_matrix']:.0%}"]
            cells.append([name, f"{case['batch']} of {size}", row["name"], *numbers, ratio])
        shares = [row["input_share"] for row in case["rows"] if "input_share" in row]
        notes += [f"Input of {name}: {share:.1%} of a step.\n" for share in shares]
        notes += [f"Left out of {name}: {who} ({why}).\n" for who, why in case["absent"].items()]
    table = markdown.markdown([*headers, "ours by PyTorch"], cells)
    parts = [f"# Training, side by side ({results['dtype']})\n", table, *notes, machine.lines(results)]
    return "\n".join(parts)
