"""Tables of the guides that repeat committed results, generated from the results' JSON files (see `docs.tables`).

A generated table cannot differ from its results file, and is updated with each new measurement.
"""

import json
import pathlib
import statistics
from typing import Any

from docs.markdown import table

ROOT = pathlib.Path(__file__).parents[1]
BACKENDS = ("ours: shift", "ours: atrous", "ours: mpf")
DENSE = {
    "vgg16_native": "VGG-16, 384x384, native stride",
    "vgg16_16": "VGG-16, 384x384, half the native stride",
    "qa_native": "`qa_net`, 512x512, native stride",
    "qa_1": "`qa_net`, 512x512, stride 1",
    "giusti": "`giusti_n4`, every pixel of 512x512",
}
FORWARD = {
    "224x1": "VGG-16, one image of 224x224",
    "224x8": "VGG-16, eight images of 224x224",
    "384x1": "converted VGG-16, 384x384",
    "512x1": "converted VGG-16, 512x512",
}
SCENES = (
    ("resize the whole", "none"),
    ("centre crop", "none"),
    ("ten crops", "max"),
    ("all crops, stride 4", "max"),
    ("dense, stride 4", "max"),
    ("dense, stride 4", "probabilities"),
    ("dense, stride 1", "max"),
)
PHOTOS = (
    ([64], "centre crop", False),
    ([80], "dense", True),
    ([128], "dense", True),
    ([64, 80, 96, 128], "ten crops", True),
    ([64, 80, 96, 128], "multi-crop", True),
    ([64, 80, 96, 128], "dense", True),
    ([64, 80, 96, 128], "dense + multi-crop", True),
)


def _results(name: str) -> Any:
    return json.loads((ROOT / name).read_text())


def _rows(case: Any) -> dict[str, Any]:
    return {row["name"]: row for row in case["rows"]}


def _time(milliseconds: float) -> str:
    """Milliseconds with three significant digits, or seconds from 100 s on."""
    if milliseconds >= 1e5:
        return f"{milliseconds / 1e3:,.0f} s"
    return f"{milliseconds:,.0f} ms" if milliseconds >= 100 else f"{milliseconds:.3g} ms"


def _best(rows: dict[str, Any], names: tuple[str, ...]) -> Any:
    return min((rows[name] for name in names if name in rows), key=lambda row: row["milliseconds"])


def dense() -> str:
    """Dense evaluation: crops, our best backend, PyTorch's best, MONAI."""
    lines = []
    for case, about in DENSE.items():
        rows = _rows(_results("benchmarks/results/dense.json")["cases"][case])
        ours, torch = _best(rows, BACKENDS), _best(rows, ("PyTorch", "PyTorch, compiled"))
        crops, monai = rows["ours: crops"], rows["MONAI sliding windows"]
        gain = f"{ours['speedup']:.3g}x ({ours['predicted']:.3g}x)"
        compiled = " (compiled)" if "compiled" in torch["name"] else ""
        name = ours["name"].removeprefix("ours: ")
        lines.append(
            [
                about,
                _time(crops["milliseconds"]),
                f"{_time(ours['milliseconds'])} ({name})",
                gain,
                _time(torch["milliseconds"]) + compiled,
                f"{ours['to_torch']:.2f}",
                _time(monai["milliseconds"]),
            ]
        )
    headers = ["case", "all crops:", "dense, best backend:", "gain (predicted):", "PyTorch's best:"]
    return table([*headers, "time by PyTorch's:", "MONAI:"], lines)


def forward() -> str:
    """Forward passes of VGG-16, beside PyTorch."""
    lines = []
    for case, about in FORWARD.items():
        rows = _rows(_results("benchmarks/results/forward.json")["cases"][case])
        torch = _best(rows, ("PyTorch", "PyTorch, compiled"))
        for name, row in rows.items():
            if name.startswith("ours"):
                note = name.removeprefix("ours").removeprefix(", ")
                times = [_time(row["milliseconds"]), _time(torch["milliseconds"])]
                lines.append([f"{about} ({note})" if note else about, *times, f"{row['to_torch']:.2f}"])
    return table(["what", "ours:", "PyTorch's best:", "time by PyTorch's:"], lines)


def training() -> str:
    """Training steps, beside PyTorch."""
    lines = []
    for case in _results("benchmarks/results/train.json")["cases"].values():
        rows = _rows(case)
        ours, torch = rows["ours"], rows[rows["ours"]["best_torch"]]
        size = "x".join(map(str, case["image"]))
        rates = [f"{row['images_per_second']:,.0f}" for row in (ours, torch)]
        lines.append([f"`{case['net']}`, {size}", *rates, f"{ours['to_torch']:.2f}", f"{ours['input_share']:.1%}"])
    headers = ["net, images", "ours, images/s:", "PyTorch's best:", "rate by PyTorch's:", "of a step: its input:"]
    return table(headers, lines)


def growth() -> str:
    """The exponents with which time and memory grow."""
    lines = []
    for case in _results("benchmarks/results/scaling.json")["cases"].values():
        powers = [case["time_exponent"], case["memory_exponent"]]
        lines.append([case["about"], *("" if power is None else f"{power:.2f}" for power in powers)])
    return table(["what grows", "power of time:", "power of memory:"], lines)


def startup() -> str:
    """Seconds until a command responds."""
    seconds = _results("benchmarks/results/startup.json")["seconds"]
    return table(
        ["until", "seconds, median:"], [[name, f"{statistics.median(turns):.2f}"] for name, turns in seconds.items()]
    )


def stream() -> str:
    """The stream of an image of one gigapixel."""
    result = _results("benchmarks/results/stream_32768.json")
    run = result["stream"]
    lines = [
        ["image", f"{result['size']} x {result['size']} x 3, uint8 zarr"],
        ["net", f"`{result['net']}` at its native stride"],
        ["memory limit", f"{result['memory_limit_bytes'] / 1e9:.2f} GB"],
        ["peak resident memory", f"{run['peak_bytes'] / 1e9:.2f} GB"],
        ["speed", f"{run['megapixels_per_second']:.1f} megapixels/s"],
        ["scores compared with their crops", f"{result['sample']['scores']:,}"],
        ["largest difference", f"{result['sample']['largest_relative_difference']:.1e} of the largest score"],
        ["device", result["environment"]["device"]],
    ]
    return table(["what", "measured"], lines)


def data_sets() -> str:
    """Accuracy of the configs on their data sets, over seeds."""
    lines = []
    for name in ("digits", "mnist", "fashion_mnist", "cifar10", "cifar10_resnet", "photos", "speedrun_mnist"):
        runs = _results(f"experiments/results/{name}/runs.json")
        mean, spread = (100 * f([run["test_accuracy"] for run in runs]) for f in (statistics.mean, statistics.stdev))
        seconds = statistics.mean(run["seconds"] for run in runs)
        lines.append(
            [
                f"[`{name}`](../experiments/results/{name}/summary.md)",
                f"{mean:.2f} % +- {spread:.2f}",
                str(len(runs)),
                f"{runs[0]['examples']:,}",
                f"{seconds:.0f}",
                f"`{runs[0]['net']}`",
                f"{runs[0]['parameters']:,}",
            ]
        )
    return table(["config", "test accuracy:", "seeds:", "test examples:", "seconds:", "net", "parameters:"], lines)


def _percent(value: float, row: Any, key: str) -> str:
    return f"{value:.1%} ({100 * row[key + 'low']:.1f} to {100 * row[key + 'high']:.1f})"


def scenes() -> str:
    """Ways to classify scenes of digits larger than the window."""
    rows = {(r["method"], r["averaging"]): r for r in _results("experiments/results/digits/result.json")["rows"]}
    lines = []
    for method, averaging in SCENES:
        row = rows[method, averaging]
        windows = f"{row['windows']:,}"
        work = f"{row['multiply_adds'] / 1e6:.2f} M"
        accuracy = _percent(row["accuracy"], row, "")
        lines.append([f"{method}, {averaging}", accuracy, f"{row['milliseconds']:.2f}", work, windows])
    return table(["method, averaging", "accuracy (95 %):", "ms / image:", "multiply-adds:", "windows:"], lines)


def photos() -> str:
    """The VGG paper's protocol on photographs, probabilities averaged."""
    rows = [r for r in _results("experiments/results/photos/result.json")["rows"] if r["averaging"] == "probabilities"]
    found = {(tuple(row["scales"]), row["method"], row["flip"]): row for row in rows}
    lines = []
    for scales, method, flip in PHOTOS:
        row = found[tuple(scales), method, flip]
        lines.append(
            [
                f"{method}{', flip' if flip else ''}",
                str(scales[0]) if len(scales) == 1 else "all",
                _percent(row["top1"], row, "top1_"),
                _percent(row["top5"], row, "top5_"),
                f"{row['images_per_second']:.3g}",
                f"{row['windows']:g}",
                f"{row['predicted_saving']:.2f}",
                f"{row['measured_saving']:.2f}",
            ]
        )
    headers = ["method", "Q:", "top-1 error (95 %):", "top-5 error (95 %):", "images/s:", "windows:"]
    return table([*headers, "crops cost, multiply-adds:", "crops cost, time:"], lines)


def speed() -> str:
    """The rows of README: some of dense evaluation and of training."""
    lines = []
    cases = _results("benchmarks/results/dense.json")["cases"]
    for case in ("vgg16_native", "vgg16_16", "qa_native", "qa_1"):
        rows = _rows(cases[case])
        ours, torch = _best(rows, BACKENDS), _best(rows, ("PyTorch", "PyTorch, compiled"))
        crops = _time(rows["ours: crops"]["milliseconds"])
        times = [_time(row["milliseconds"]) for row in (ours, torch)]
        lines.append([f"dense: {DENSE[case]}", *times, f"{ours['to_torch']:.2f} of its time", crops])
    trained = _results("benchmarks/results/train.json")["cases"]
    for case in (trained[name] for name in ("full_cnn28", "qa_net", "vgg11")):
        rows = _rows(case)
        ours, torch = rows["ours"], rows[rows["ours"]["best_torch"]]
        rates = [f"{row['images_per_second']:,.0f} images/s" for row in (ours, torch)]
        size = "x".join(map(str, case["image"]))
        lines.append([f"training: `{case['net']}`, {size}", *rates, f"{ours['to_torch']:.2f} of its rate", ""])
    return table(["what", "ours:", "PyTorch's best:", "ours by PyTorch's:", "all crops one by one:"], lines)


def accelerators() -> str:
    """Training steps that were compiled for TPUs which were not there."""
    lines = []
    for row in _results("benchmarks/results/accelerators.json")["rows"]:
        if row["what"] != "training":
            continue
        sharding = "any" if row["topology"].endswith(":1x1") else row["sharding"]
        name = [f"`{row['net']}`", row["topology"], sharding, f"{row['batch']:,}"]
        if "needs" in row:
            lines.append([*name, f"needs {row['needs'] / 2**30:.1f} of {row['has'] / 2**30:.1f}", *[""] * 5])
            continue
        bounds = row["limits"]
        times = [_time(1e3 * bounds[limit]) for limit in ("compute", "memory", "links")]
        used = f"{row['memory']['used'] / 2**30:.2f}"
        lines.append([*name, used, f"{row['bytes_sent'] / 1e6:,.0f}", *times, f"{row['utilisation']:.0%}"])
    headers = ["net", "slice", "sharding", "batch:", "GiB used:", "MB sent:", "operations:", "memory:", "links:"]
    return table([*headers, "utilisation at most:"], lines)
