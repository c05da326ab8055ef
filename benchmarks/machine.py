"""The machine that a benchmark ran on: its rate in matrix products, its load, and the files of results."""

import importlib.util
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp

from cnn.runs import logs
from cnn.runtime.devices import Devices

MATRIX = 2048  # rows and columns of the matrices by which the machine's rate is measured
PEERS = ("torch", "monai")


def matrix_product_gflops(seconds: float = 1.0, dtype: str = "float32") -> float:
    """The rate of the machine in large matrix products, over all local devices.

    Args:
      seconds: duration of the measurement, seconds.
      dtype: dtype of the matrices.

    Returns:
      The median rate, in 1e9 operations per second, two for each multiply-add.
    """
    devices = Devices()
    rows = jax.device_put(jnp.ones((MATRIX * devices.count, MATRIX), dtype), devices.split())
    square = devices.replicate(jnp.ones((MATRIX, MATRIX), dtype))
    multiply = jax.jit(lambda a, b: a @ b, out_shardings=devices.split())
    jax.block_until_ready(multiply(rows, square))
    taken: list[float] = []
    while sum(taken) < seconds:
        start = time.perf_counter()
        jax.block_until_ready(multiply(rows, square))
        taken.append(time.perf_counter() - start)
    return 2e-9 * devices.count * MATRIX**3 / statistics.median(taken)


def first_facts(dtype: str = "float32") -> dict[str, Any]:
    """The facts about the machine that are noted before a benchmark.

    Args:
      dtype: dtype of the matrices in `matrix_product_gflops`.

    Returns:
      load_before (load average) and matrix_product_gflops.
    """
    return {"load_before": os.getloadavg()[0], "matrix_product_gflops": matrix_product_gflops(dtype=dtype)}


def last_facts() -> dict[str, Any]:
    """The facts that are noted after a benchmark.

    Returns:
      Versions of all packages, PyTorch and MONAI included, device, command, commit, threads of PyTorch, load_after.
    """
    facts = logs.environment()
    facts["packages"] |= {name: metadata.version(name) for name in PEERS if importlib.util.find_spec(name)}
    if importlib.util.find_spec("torch"):
        import torch

        facts["torch_threads"] = torch.get_num_threads()
    return facts | {"load_after": os.getloadavg()[0]}


def lines(results: Mapping[str, Any]) -> str:
    """The facts about machine and versions, for the end of a report.

    Args:
      results: the results of a benchmark, which include those of `first_facts` and `last_facts`.

    Returns:
      A list in Markdown.
    """
    packages = ", ".join(f"{name} {version}" for name, version in results["packages"].items())
    facts = [
        f"command `{results['command']}`, device {results['device']}, python {results['python']}, {packages}",
        f"load average: {results['load_before']:.2f} before (of others), {results['load_after']:.2f} after (with ours)",
        f"commit {results['commit']}",
    ]
    if "torch_threads" in results:
        facts.insert(1, f"PyTorch threads: {results['torch_threads']}")
    if "matrix_product_gflops" in results:
        rate = f"{results['matrix_product_gflops']:.0f} GFLOP/s"
        facts.insert(0, f"matrix products of {MATRIX} rows and columns on this machine: {rate}")
    return "".join(f"- {line}\n" for line in facts)


def write(folder: str, stem: str, results: Mapping[str, Any], text: str) -> None:
    """Writes a benchmark's results.

    Args:
      folder: directory to write to; made if missing.
      stem: name of the files STEM.json and STEM.md.
      results: all measurements and facts.
      text: the report, Markdown.
    """
    os.makedirs(folder, exist_ok=True)
    logs.write_json(os.path.join(folder, f"{stem}.json"), results)
    with open(os.path.join(folder, f"{stem}.md"), "w") as file:
        file.write(text)


def chosen(wanted: Sequence[str], cases: Mapping[str, Any]) -> list[str]:
    """The names of cases to run.

    Args:
      wanted: names of the cases asked for; empty: all.
      cases: all cases by name.

    Returns:
      Names of the cases to run.

    Raises:
      ValueError: if a name is unknown.
    """
    unknown = sorted(set(wanted) - set(cases))
    if unknown:
        raise ValueError(f"unknown case {', '.join(unknown)}; cases: {', '.join(cases)}")
    return list(wanted or cases)
