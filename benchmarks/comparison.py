"""The cases of `benchmarks.dense`: the contenders, whether their scores agree, their measurements, and the report."""

import importlib.util
import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks import contenders, machine, timing
from benchmarks.contenders import COMPILED, MONAI, OURS, TORCH, Contender, Problem
from cnn import nets, windows
from cnn.dense.backends import BACKENDS
from cnn.reports import markdown

TOLERANCE = 1e-4  # largest difference between libraries, as a fraction of the largest logit
NATIVE = "ours: one pass, native stride"


class Case(NamedTuple):
    """A score map that all contenders compute.

    Attributes:
      net: name of a net in the registry.
      options: further arguments of `nets.create`.
      window: height and width of the net's window, pixels.
      stride: distance between windows along both axes, pixels.
      image: (height, width, channels) of the image, pixels.
      about: description of the case in the report.
    """

    net: str
    options: Mapping[str, Any]
    window: int
    stride: int
    image: tuple[int, int, int]
    about: str


CASES = {
    "vgg16_native": Case("vgg16", {}, 224, 32, (384, 384, 3), "VGG-16, 384x384, native stride: 36 windows"),
    "vgg16_16": Case("vgg16", {}, 224, 16, (384, 384, 3), "VGG-16, 384x384, half the native stride: 121 windows"),
    "qa_native": Case("qa_net", {}, 32, 4, (512, 512, 3), "small unpadded net, 512x512, native stride: 14,641 windows"),
    "qa_1": Case("qa_net", {}, 32, 1, (512, 512, 3), "small unpadded net, 512x512, stride 1: 231,361 windows"),
    "giusti": Case("giusti_n4", {}, 95, 1, (606, 606, 1), "giusti_n4, every pixel of 512x512 with its mirrored border"),
    "resnet18_native": Case("resnet18", {}, 224, 32, (512, 512, 3), "ResNet-18, 512x512, native stride: 100 windows"),
    "resnet18_16": Case("resnet18", {}, 224, 16, (512, 512, 3), "ResNet-18, 512x512, stride 16: 361 windows"),
    "resnet18_8": Case("resnet18", {}, 224, 8, (512, 512, 3), "ResNet-18, 512x512, stride 8: 1,369 windows"),
    "resnet18_4": Case("resnet18", {}, 224, 4, (512, 512, 3), "ResNet-18, 512x512, stride 4: 5,329 windows"),
}
SMALL_VGG = {"width": 64, "num_classes": 10}
SMOKE_CASES = {
    "vgg16_native": Case("vgg11", SMALL_VGG, 64, 32, (128, 128, 3), "smoke test"),
    "vgg16_16": Case("vgg11", SMALL_VGG, 64, 16, (128, 128, 3), "smoke test"),
    "qa_native": Case("qa_net", {}, 32, 4, (64, 64, 3), "smoke test"),
    "qa_1": Case("qa_net", {}, 32, 1, (64, 64, 3), "smoke test"),
    "giusti": Case("giusti_n4", {"features": 8}, 95, 1, (110, 110, 1), "smoke test"),
    "resnet18_native": Case("resnet18", {"width": 4}, 64, 32, (128, 128, 3), "smoke test"),
    "resnet18_16": Case("resnet18", {"width": 4}, 64, 16, (128, 128, 3), "smoke test"),
    "resnet18_8": Case("resnet18", {"width": 4}, 64, 8, (96, 96, 3), "smoke test"),
    "resnet18_4": Case("resnet18", {"width": 4}, 64, 4, (80, 80, 3), "smoke test"),
}


def problem_of(case: Case, crop_macs: int, crop_windows: int) -> Problem:
    """Draws weights and an image.

    Args:
      case: the net, image and windows.
      crop_macs: most multiply-adds for classifying windows one by one, see `Problem`.
      crop_windows: most windows for it, see `Problem`.

    Returns:
      A `Problem`, with the same numbers in every call.
    """
    net = nets.create(case.net, **case.options)
    image = np.random.default_rng(0).normal(size=case.image).astype(np.float32)
    variables = nets.init(net, (case.window, case.window, case.image[2]))
    window, stride = (case.window, case.window), (case.stride, case.stride)
    return Problem(net, variables, image, window, stride, crop_macs, crop_windows)


def gather(problem: Problem, compiled: bool) -> tuple[dict[str, Contender], dict[str, str]]:
    """All contenders for a score map.

    Args:
      problem: the score map to compute.
      compiled: whether PyTorch with its compiler is a contender, at the native stride.

    Returns:
      The contenders by name, and the reason for each one that is left out.
    """
    found = {OURS + backend: contenders.ours(problem, backend) for backend in BACKENDS}
    absent: dict[str, str] = {}
    native = problem.grid.native == problem.stride
    if not native:
        found[NATIVE] = contenders.native_pass(problem)
    for name in (TORCH, COMPILED, MONAI):
        package = "monai" if name == MONAI else "torch"
        if importlib.util.find_spec("torch") is None or importlib.util.find_spec(package) is None:
            absent[name] = f"{package} is not installed"
        elif name == MONAI:
            found[name] = contenders.monai(problem)
        elif name == TORCH:
            found[name] = contenders.pytorch(problem)
        elif native and compiled:
            found[name] = contenders.pytorch(problem, compiled=True)
        else:
            absent[name] = "not asked for" if native else "shifted passes are of many sizes, a compilation for each"
    return found, absent


def attempt(name: str, run: Callable[[], Any], absent: dict[str, str]) -> Any:
    """Runs a contender; an error of PyTorch's compiler is noted and does not end the benchmark.

    Args:
      name: name of the contender.
      run: function that runs the contender.
      absent: reasons by name; receives the compiled contender if it fails.

    Returns:
      The value that `run` returns; None if the compiled contender failed.
    """
    try:
        return run()
    except Exception as error:
        if name != COMPILED:
            raise
        first_line = str(error).partition("\n")[0]  # works for an error without a text, too
        absent[name] = f"{type(error).__name__}: {first_line[:100]}"
        return None


def check(found: dict[str, Contender], absent: dict[str, str]) -> dict[str, float]:
    """Compares the scores of each contender with those of the first contender of the same context.

    Args:
      found: contenders by name; the compiled one is removed if its compiler fails.
      absent: reasons by name; receives the compiled contender if it fails.

    Returns:
      The largest difference of each contender by name, as a fraction of the largest logit.

    Raises:
      ArithmeticError: if a difference exceeds `TOLERANCE`.
    """
    references: dict[str, np.ndarray] = {}
    differences = {}
    for name, one in list(found.items()):
        scores = attempt(name, one.run, absent)
        if scores is None:
            del found[name]
            continue
        scores = np.asarray(scores)
        reference = references.setdefault(one.context, scores)
        rows = min(len(reference), len(scores))
        difference = np.abs(scores[:rows] - reference[:rows]).max() / np.abs(reference).max()
        if not difference <= TOLERANCE:
            raise ArithmeticError(f"{name} differs from the others by {difference:.1e} of the largest logit")
        differences[name] = float(difference)
    return differences


def rows_of(
    problem: Problem, found: Mapping[str, Contender], times: Mapping[str, list[float | None]]
) -> list[dict[str, Any]]:
    """The measurements of each contender.

    Args:
      problem: the score map that was computed.
      found: contenders by name.
      times: seconds of each contender in each round by name, from `timing.alternate`.

    Returns:
      A dict for each contender: name, milliseconds for the whole map (median, fastest, slowest), rounds, number of rows
      that were timed and of all rows, context, multiply_adds, gflops, and ratios, each the median of quotients within
      rounds: `speedup` (time of crops divided by its time), `predicted` (the same of multiply-adds), `reached` (speedup
      divided by predicted, for ours), `to_torch` (its time divided by that of the faster PyTorch), `monai_to_it` (time
      of MONAI divided by its time), `to_native` and `to_native_predicted` (its time, and its multiply-adds, divided by
      those of one pass at the native stride).
    """
    # Each row of the map is assumed to take the same time, whether it was computed or not.
    whole = {
        name: [seconds and seconds * _rows(problem, name) / one.rows for seconds in times[name]]
        for name, one in found.items()
    }
    torches = [name for name in (TORCH, COMPILED) if name in found]
    torch = min(torches, key=lambda name: timing.median(whole[name]), default=None)
    crops = OURS + "crops"
    rows = []
    for name, one in found.items():
        taken = [seconds for seconds in whole[name] if seconds is not None]
        row: dict[str, Any] = {
            "name": name,
            "milliseconds": 1e3 * statistics.median(taken),
            "fastest": 1e3 * min(taken),
            "slowest": 1e3 * max(taken),
            "rounds": len(taken),
            "rows_timed": one.rows,
            "rows": _rows(problem, name),
            "context": one.context,
            "multiply_adds": one.macs,
            "gflops": 2e-9 * one.macs / statistics.median(taken),
            "speedup": timing.median_ratio(whole[crops], whole[name]),
            "predicted": found[crops].macs / one.macs,
        }
        if name.startswith(OURS):
            row["reached"] = row["speedup"] / row["predicted"]
        if torch:
            row["to_torch"] = timing.median_ratio(whole[name], whole[torch])
        if MONAI in found:
            row["monai_to_it"] = timing.median_ratio(whole[MONAI], whole[name])
        if NATIVE in found:
            row["to_native"] = timing.median_ratio(whole[name], whole[NATIVE])
            row["to_native_predicted"] = one.macs / found[NATIVE].macs
        rows.append(row)
    return rows


def _rows(problem: Problem, name: str) -> int:
    """Number of rows of a contender's whole map."""
    grid = problem.grid
    return windows.count(problem.image.shape[0], grid.window[0], grid.native[0]) if name == NATIVE else grid.size[0]


def text(results: Mapping[str, Any]) -> str:
    """The report as Markdown.

    Args:
      results: the contents of dense.json.

    Returns:
      A table for each case, and the facts about the machine.
    """
    headers = ["contender", "ms", "GFLOP/s", "faster than crops", "predicted", "reached", "time / PyTorch"]
    headers += ["faster than MONAI", "time / native pass", "predicted", "rows timed", "rounds"]
    parts = ["# Dense evaluation, side by side\n"]
    for name, case in results["cases"].items():
        cells = []
        for row in case["rows"]:
            ratios = [
                f"{row[key]:.3g}{sign}" if key in row else "-"
                for key, sign in (
                    ("speedup", "x"),
                    ("predicted", "x"),
                    ("reached", ""),
                    ("to_torch", ""),
                    ("monai_to_it", "x"),
                    ("to_native", ""),
                    ("to_native_predicted", ""),
                )
            ]
            numbers = [f"{row['milliseconds']:,.1f}", f"{row['gflops']:.1f}", *ratios]
            cells.append([row["name"], *numbers, f"{row['rows_timed']} of {row['rows']}", row["rounds"]])
        parts.append(f"## {name}: {case['about']}\n\n{markdown.markdown(headers, cells)}")
        parts += [f"Left out: {who} ({why}).\n" for who, why in case["absent"].items()]
    return "\n".join([*parts, machine.lines(results)])
