"""Ways to train several seeds of one net, timed in turn; `cnn.training.many_seeds` chooses between them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine, timing, training
from benchmarks.training import Case
from cnn import geometry
from cnn.reports import markdown
from cnn.runtime.devices import Devices
from cnn.training import many_seeds, steps

CASES = {
    "ablation": Case("layer_pattern", (28, 28, 1), {"features": (16, 32), "width": 64}, batch=64),
    "full_cnn28": Case("full_cnn", (28, 28, 1)),
    "qa_net": Case("qa_net", (32, 32, 3)),
}
SMOKE = {"ablation": Case("layer_pattern", (8, 8, 1), {"features": 2, "width": 4}, batch=16)}
IN_TURN, IN_TURN_ALONE = "one after another, on all devices", "one after another, on one device"
SPREAD, VMAP = "one on each device", "side by side in each kernel, on one device"
STEPS = 20  # training steps in a turn


def ways(case: Case) -> dict[str, Callable[[], Any]]:
    """A function for each way; it takes `STEPS` training steps with as many seeds as there are devices, at least two.

    Args:
      case: the net and batch to train.

    Returns:
      The functions by name; with one device, without the ways that need several.
    """
    problem = training.problem_of(case)
    everywhere, alone = Devices(), Devices(1)
    seeds = max(2, everywhere.count)
    found = {
        IN_TURN_ALONE: _in_turn(training.ours(problem, STEPS, alone), seeds),
        VMAP: at_once(problem, alone, seeds),
    }
    if everywhere.count > 1:
        found[IN_TURN] = _in_turn(training.ours(problem, STEPS, everywhere), seeds)
        found[SPREAD] = at_once(problem, everywhere, seeds)
    return found


def _in_turn(run: training.Run, seeds: int) -> Callable[[], Any]:
    return lambda: [run(STEPS) for _ in range(seeds)]


def at_once(problem: training.Problem, devices: Devices, seeds: int) -> Callable[[], Any]:
    """Several seeds in one compiled step, spread over the devices.

    Args:
      problem: the net, its data and the order of its examples.
      devices: the devices that the seeds are spread over.
      seeds: number of seeds.

    Returns:
      A function that takes `STEPS` steps of all seeds and waits for them.
    """
    channels = problem.images.shape[3]
    optimizer = training.optimizer_of(problem.config)
    constants = ([value] * channels for value in (training.MEAN, training.STD))
    step = steps.make_step(problem.net, optimizer, problem.config, *constants)
    options = devices.compiler_options(geometry.table(problem.net, problem.images.shape[1:]).macs)
    compiled = many_seeds.step_of_seeds(step, devices, options)
    images, labels = devices.replicate((problem.images, problem.labels))
    states = [steps.init_state(problem.net, optimizer, problem.images.shape[1:], seed) for seed in range(seeds)]
    state = jax.device_put(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), devices.split())

    def run() -> steps.State:
        nonlocal state
        for row in problem.batches(0, STEPS):
            state, *_ = compiled(state, images, labels, np.stack([row] * seeds))
        return jax.block_until_ready(state)

    return run


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Times the ways in turn.

    Args:
      case: the net and batch to train.
      rounds: number of turns of each way.

    Returns:
      {"seeds", "batch", "ways": {name: {"ms", "by_spread"}}}: the median time of one step of one seed in milliseconds,
      and the median over turns of this time divided by that of one seed on each device.
    """
    runs = ways(case)
    taken = timing.alternate(runs, rounds)
    seeds = max(2, jax.local_device_count())
    best = taken.get(SPREAD, taken[IN_TURN_ALONE])
    return {
        "seeds": seeds,
        "batch": case.batch,
        "ways": {
            name: {
                "ms": 1e3 * timing.median(seconds) / STEPS / seeds,
                "by_spread": timing.median_ratio(seconds, best),
            }
            for name, seconds in taken.items()
        },
    }


def text(results: Mapping[str, Any]) -> str:
    """The report.

    Args:
      results: the cases, and the facts about the machine.

    Returns:
      Markdown.
    """
    rows = [
        (name, case["batch"], case["seeds"], way, f"{found['ms']:.2f}", f"{found['by_spread']:.2f}")
        for name, case in results["cases"].items()
        for way, found in case["ways"].items()
    ]
    headers = ("case", "batch", "seeds", "way", "ms for a step of one seed", "time by one on each device")
    return f"# Seeds trained together\n\n{markdown.markdown(headers, rows)}\n{machine.lines(results)}"
