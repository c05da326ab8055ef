"""Training a run for longer than it was begun for: allowed where the steps that are done would be the same ones."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from cnn.runs.config import Config
from cnn.training import steps
from cnn.training.loop import Task
from cnn.training.optimizer import make_schedule, thaw_step


def check(task: Task, before: Config, step: int, workdir: str) -> dict[str, Any]:
    """Checks that a run may go on to another length.

    Args:
      task: what is trained, with the config of the longer run.
      before: the config that the run was begun with.
      step: number of steps done.
      workdir: directory of the run, for the error.

    Returns:
      {"steps_before": the length that the run was begun for}; {} if that is the length asked for, by the same config.

    Raises:
      ValueError: if the run would have no step left, or steps that are done would have another learning rate or other
        frozen layers; names step and rates, and the way out.
    """
    after, examples = task.config.train, len(task.dataset.train.labels)
    length = steps.total_steps(before.train, examples)
    names = ("epochs", "steps", "schedule", "warmup", "milestones", "decay_factor", "frozen_until")
    if all(_plain(before.train.get(name)) == _plain(after.get(name)) for name in names if name in before.train):
        return {}
    if task.total <= step:
        raise ValueError(
            f"--longer: {workdir} stands at step {step:,} and the config asks for {task.total:,}; ask for more by "
            "train.steps or train.epochs, or choose another --workdir"
        )
    _check_rates(before.train, length, task, step, workdir)
    there, here = thaw_step(before.train, length), thaw_step(after, task.total)
    # What never thaws has no state in the optimiser that could go on.
    if (there is None) != (here is None) or (there != here and min(there or 0, here or 0) < step):
        fraction = f"; train.frozen_until={_rounded(there / task.total)} would keep it" if there is not None else ""
        said = ["never" if one is None else f"from step {one:,} on" for one in (there, here)]
        raise ValueError(
            f"--longer: frozen layers of {workdir} learn {said[0]}, and would {said[1]}, which changes steps that are "
            f"done{fraction}"
        )
    return {"steps_before": length}


def _check_rates(before: Config, length: int, task: Task, step: int, workdir: str) -> None:
    """Raises where a step that is done would have another learning rate."""
    there, here = _rates(before, length, step), _rates(task.config.train, task.total, step)
    differ = np.flatnonzero(there != here)
    if not len(differ):
        return
    # The same schedule, its fractions of the length at the same steps: for a cosine that is none.
    kept = before.copy_and_resolve_references()
    kept.warmup = _rounded(before.warmup * length / task.total)
    kept.milestones = tuple(_rounded(one * length / task.total) for one in before.milestones)
    way_out = ""
    if np.array_equal(_rates(kept, task.total, step), there):
        shown = {name: _plain(kept[name]) for name in ("schedule", "warmup", "milestones")}
        given = {name: _plain(task.config.train[name]) for name in shown}
        texts = [f"train.{name}={value}" for name, value in shown.items() if value != given[name]]
        way_out = f"{' and '.join(texts)} would keep the rates; or "
    first = int(differ[0])
    raise ValueError(
        f"--longer: step {first:,} of {workdir} had the learning rate {there[first]:.6g}, and would have "
        f"{here[first]:.6g} in a run of {task.total:,} steps; {way_out}begin another run with its weights: "
        f"--config.train.initial_run={workdir}"
    )


def _rates(train: Config, length: int, count: int) -> np.ndarray:
    """The learning rates of the first steps, float32 [count]."""
    return np.broadcast_to(np.asarray(make_schedule(train, length)(jnp.arange(count)), np.float32), count)


def _rounded(fraction: float) -> float:
    """A fraction as one types it."""
    return float(f"{fraction:.6g}")


def _plain(value: Any) -> Any:
    """A field's value, the same for lists, as saved configs have them, and tuples."""
    return tuple(value) if isinstance(value, list | tuple) else value
