"""The cases of `benchmarks.forward`: the contenders, whether they agree, their measurements, and the report."""

import functools
import importlib.util
import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine, timing
from benchmarks.comparison import COMPILED, TORCH, attempt
from cnn import convert, geometry, nets
from cnn.nets import Net
from cnn.reports import markdown
from cnn.runtime.devices import Devices

OURS, FREE = "ours", "ours, not position-invariant"
# Largest difference as a fraction of the largest logit. In bfloat16 each of 16 layers rounds its output to 8 bits.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


class Case(NamedTuple):
    """A batch of images and a net.

    Attributes:
      count: number of images in the batch.
      size: height and width of the images, pixels; images larger than the window are run through the converted net.
      net: name of a registered net (`cnn.nets.create`).
      window: height and width of the classifier's input, pixels.
      options: further arguments of the net.
    """

    count: int
    size: int
    net: str = "vgg16"
    window: int = 224
    options: Mapping[str, Any] = {}


CASES = {"224x1": Case(1, 224), "224x8": Case(8, 224), "384x1": Case(1, 384), "512x1": Case(1, 512)}
_SMALL = {"net": "vgg11", "window": 32, "options": {"width": 16, "num_classes": 10}}
SMOKE_CASES = {"32x2": Case(2, 32, **_SMALL), "64x1": Case(1, 64, **_SMALL)}


def problem_of(case: Case) -> tuple[dict[str, Net], Any, np.ndarray]:
    """Draws weights and images.

    Args:
      case: the batch and the net.

    Returns:
      Our nets by name, which are the classifier or, if the images are larger than its window, the converted net with
      position-invariant convolutions and the one without; their variables; and the images, float32 [N, H, W, 3]. The
      numbers are the same in every call.
    """
    net = nets.create(case.net, **case.options)
    window = (case.window, case.window, 3)
    variables = nets.init(net, window)
    images = np.random.default_rng(0).normal(size=(case.count, case.size, case.size, 3)).astype(np.float32)
    if case.size == case.window:
        return {OURS: net}, variables, images
    invariant, variables = convert.fc_to_conv(net, variables, window)
    return {OURS: invariant, FREE: convert.convolutional(net, window, position_invariant=False)}, variables, images


def contenders(case: Case, dtype: str, compiled: bool) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """All contenders; each reads images from the device's memory and leaves the scores there.

    Args:
      case: the batch and the net.
      dtype: dtype of weights, activations and products.
      compiled: whether PyTorch with its compiler is a contender.

    Returns:
      Functions by name that return scores [N, K] or [N, h, w, K], and the reason for each contender that is left out.
    """
    own, variables, images = problem_of(case)
    arguments = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (variables, images))
    found: dict[str, Callable[[], Any]] = {}
    for name, net in own.items():
        options = Devices().compiler_options(
            geometry.table(net, images.shape[1:]).macs
        )  # as `cnn.training.evaluate` compiles
        apply = jax.jit(functools.partial(net.apply, train=False), compiler_options=options)
        found[name] = lambda apply=apply: jax.block_until_ready(apply(*arguments))
    absent: dict[str, str] = {}
    if importlib.util.find_spec("torch") is None:
        return found, {TORCH: "torch is not installed"}
    import torch

    from benchmarks.torch_nets import to_torch

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    module: Any = to_torch(own[OURS], variables, (case.window, case.window, 3)).to(device, getattr(torch, dtype))
    pixels = torch.tensor(images).permute(0, 3, 1, 2).to(device, getattr(torch, dtype))
    pixels = pixels.contiguous(memory_format=torch.channels_last)

    def theirs(module: Any) -> Callable[[], Any]:
        @torch.inference_mode()
        def run() -> Any:
            scores = module(pixels)
            if device == "cuda":
                torch.cuda.synchronize()
            return scores if scores.ndim == 2 else scores.permute(0, 2, 3, 1)

        return run

    found[TORCH] = theirs(module)
    if compiled:
        found[COMPILED] = theirs(torch.compile(module))
    else:
        absent[COMPILED] = "not asked for"
    return found, absent


def check(found: dict[str, Callable[[], Any]], absent: dict[str, str], tolerance: float) -> dict[str, float]:
    """Compares the scores of all contenders with ours.

    Args:
      found: contenders by name; the compiled one is removed if its compiler fails.
      absent: reasons by name; receives the compiled contender if it fails.
      tolerance: largest difference allowed, as a fraction of the largest logit.

    Returns:
      The largest difference of each contender by name, as a fraction of the largest logit.

    Raises:
      ArithmeticError: if a difference exceeds the tolerance.
    """
    reference = np.asarray(found[OURS](), np.float32)
    differences = {}
    for name, run in list(found.items()):
        scores = attempt(name, run, absent)
        if scores is None:
            del found[name]
            continue
        scores = np.asarray(scores if name.startswith(OURS) else scores.float().cpu(), np.float32)
        differences[name] = float(np.abs(scores - reference).max() / np.abs(reference).max())
        if not differences[name] <= tolerance:
            raise ArithmeticError(f"{name} differs from ours by {differences[name]:.1e} of the largest logit")
    return differences


def measure(case: Case, dtype: str, compiled: bool, rounds: int, matrix_gflops: float) -> dict[str, Any]:
    """Times all contenders in turn.

    Args:
      case: the batch and the net.
      dtype: dtype of weights, activations and products.
      compiled: whether `torch.compile` is a contender.
      rounds: number of turns of each contender.
      matrix_gflops: rate of the machine in matrix products, GFLOP/s, from `machine.matrix_product_gflops`.

    Returns:
      The fields of the case; `rows`, for each contender: name, milliseconds (median; fastest, slowest), gflops,
      `of_matrix` (gflops divided by matrix_gflops), difference, and for ours `to_torch`: the median over rounds of its
      time divided by that of the faster PyTorch; and `absent`, the reasons for contenders that are left out.
    """
    found, absent = contenders(case, dtype, compiled)
    differences = check(found, absent, TOLERANCE[dtype])
    times = timing.alternate(found, rounds)
    own, _, images = problem_of(case)
    flops = 2 * len(images) * geometry.table(own[OURS], images.shape[1:]).macs
    torches = [name for name in (TORCH, COMPILED) if name in found]
    best = min(torches, key=lambda name: timing.median(times[name]), default=None)
    rows = []
    for name in found:
        taken = [seconds for seconds in times[name] if seconds is not None]
        gflops = 1e-9 * flops / statistics.median(taken)
        row: dict[str, Any] = {
            "name": name,
            "milliseconds": 1e3 * statistics.median(taken),
            "fastest": 1e3 * min(taken),
            "slowest": 1e3 * max(taken),
            "gflops": gflops,
            "of_matrix": gflops / matrix_gflops,
            "difference": differences[name],
        }
        if name.startswith(OURS) and best:
            row |= {"to_torch": timing.median_ratio(times[name], times[best]), "best_torch": best}
        rows.append(row)
    return {**case._asdict(), "rows": rows, "absent": absent}


def text(results: Mapping[str, Any]) -> str:
    """The report as Markdown.

    Args:
      results: the contents of forward.json.

    Returns:
      One table, and the facts about the machine.
    """
    headers = ["net", "images", "contender", "ms", "fastest to slowest", "GFLOP/s", "of a matrix product"]
    cells, notes = [], []
    for name, case in results["cases"].items():
        dense = "" if case["size"] == case["window"] else ", dense"
        for row in case["rows"]:
            ratio = f"{row['to_torch']:.2f} of {row['best_torch']}" if "to_torch" in row else "-"
            numbers = [f"{row['milliseconds']:,.1f}", f"{row['fastest']:,.1f} to {row['slowest']:,.1f}"]
            numbers += [f"{row['gflops']:.0f}", f"{row['of_matrix']:.0%}", ratio]
            images = f"{case['count']} of {case['size']}x{case['size']}x3"
            cells.append([f"{case['net']}{dense}", images, row["name"], *numbers])
        notes += [f"Left out of {name}: {who} ({why}).\n" for who, why in case["absent"].items()]
    table = markdown.markdown([*headers, "our time"], cells)
    return "\n".join([f"# Forward pass, side by side ({results['dtype']})\n", table, *notes, machine.lines(results)])
