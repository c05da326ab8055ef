"""The process that `benchmarks.before_after` starts for a checkout: reads cases from its input, and prints their times.

It uses only functions that old and new checkouts have in common, and imports nothing from the checkout that it belongs
to.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

SECONDS = 1.0  # about how long a turn takes


def main(folder: str) -> None:
    """Prints a line "seconds NUMBER" for each case that it reads, one on each line of its input.

    Args:
      folder: path of the checkout whose code is run.
    """
    os.chdir(folder)
    sys.path[0] = folder  # in place of the folder of this file
    import jax
    import numpy as np

    try:
        from cnn.runtime.process import keep_memory
    except ImportError:  # checkouts that are older than the packages of the library
        keep_memory = __import__("importlib").import_module("cnn.devices").keep_memory
    keep_memory()
    made: dict[str, tuple[Callable[[int], Any], int]] = {}
    for line in sys.stdin:
        kind, *words = line.split()
        if line not in made:
            run = _training(*words) if kind == "train" else _dense(jax, np, *words)
            run(2)
            start = time.perf_counter()
            run(2)
            made[line] = run, max(1, round(2 * SECONDS / (time.perf_counter() - start)))
        run, count = made[line]
        start = time.perf_counter()
        run(count)
        print(f"seconds {(time.perf_counter() - start) / count}", flush=True)


def _training(case: str) -> Callable[[int], Any]:
    """A function that takes a given number of training steps."""
    from benchmarks import training

    return training.ours(training.problem_of(training.CASES[case]), most_steps=10_000)


def _dense(jax: Any, np: Any, name: str, *numbers: str) -> Callable[[int], Any]:
    """A function that computes a given number of score maps of whole images."""
    from cnn import dense, nets

    height, width, channels, window, stride, count = map(int, numbers)
    net, rng = nets.create(name), np.random.default_rng(0)
    images = jax.numpy.asarray(rng.normal(size=(count, height, width, channels)), "float32")
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), images[:1, :window, :window])

    def draw(leaf: Any) -> Any:
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.1
        return jax.numpy.asarray(rng.normal(size=leaf.shape) * scale, "float32")

    variables = jax.tree.map(draw, shapes)
    options: dict[str, Any] = {"stride": stride} if stride else {}

    def run(times: int) -> None:
        for _ in range(times):
            jax.block_until_ready(dense.score_map(net, variables, images, window=(window, window), **options).scores)

    return run


if __name__ == "__main__":
    main(sys.argv[1])
