"""Training of one seed in its workdir: batches split over all devices, metrics.jsonl, checkpoints, resuming."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnn.data import rand_augment, random_cuts
from cnn.data.streamed import Streamed
from cnn.runs import best, checkpoint, logs, silent, stopping
from cnn.runs.checkpoint import Checkpoints
from cnn.runtime import arrays_of_all, processes, turns
from cnn.runtime.devices import Devices
from cnn.training import dispatch, examples, feed, loop
from cnn.training.evaluate import Metrics
from cnn.training.loop import Task
from cnn.training.steps import State, StepResult


def latest_state(state: State, devices: Devices, workdir: str, keep: int) -> State:
    """The latest checkpoint's state, or a new one where there is no checkpoint; nothing is written.

    Args:
      state: the state before the first step, placed on the devices: the checkpoint is read into the same places,
        however the run that wrote it was split.
      devices: the devices.
      workdir: directory of the run, which may be missing.
      keep: number of checkpoints to keep.

    Returns:
      The state.

    Raises:
      ValueError: if there are checkpoints, and none of them can be read.
    """
    if processes.count() > 1:
        return _latest_of_first(state, devices, workdir, keep)
    with Checkpoints(workdir, keep) as checkpoints:
        found = checkpoints.restore_latest(variables=state.variables, optimizer=state.optimizer)
    if found is None:
        return state
    latest, saved = found
    params = saved["variables"].pop("params")
    step = devices.replicate(jnp.asarray(latest, jnp.int32))
    return State(step, params, saved["variables"], saved["optimizer"], state.key)


def _latest_of_first(state: State, devices: Devices, workdir: str, keep: int) -> State:
    """`latest_state` of several processes: the first one alone reads, and tells the others."""
    like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), (state.variables, state.optimizer))
    found: list[Any] = [None]

    def read() -> int | None:
        if checkpoint.latest_step(workdir) is None:
            return None
        with Checkpoints(workdir, keep) as checkpoints:
            found[0] = checkpoints.restore_latest(variables=like[0], optimizer=like[1])
        return None if found[0] is None else found[0][0]

    step = processes.from_first(read)
    if step is None:
        return state
    own = (found[0][1]["variables"], found[0][1]["optimizer"]) if found[0] else like
    variables, optimizer = arrays_of_all.tree_from_first(jax.tree.map(np.asarray, own))
    params = variables.pop("params")
    placed: Any = devices.place((np.int32(step), params, variables, optimizer))
    return State(placed[0], placed[1], placed[2], placed[3], state.key)


def train(
    task: Task,
    devices: Devices,
    state: State,
    writer: logs.MetricWriter | silent.Writer,
    checkpoints: Checkpoints | silent.Checkpoints,
    keeper: best.Keeper | silent.Keeper | None = None,
) -> State:
    """Runs the steps that are left.

    Args:
      task: the net, the data and the config that it is trained by.
      devices: the devices that each batch is split over.
      state: the state to start from, as `latest_state` gives it.
      writer: writer of metrics.jsonl.
      checkpoints: the checkpoints of the run.
      keeper: keeps the net of the best validation; None: it is not kept.

    Returns:
      The last state.

    Raises:
      FloatingPointError: if the loss is not finite any more; names the step and the learning rate.
      Stopped: after Ctrl-C or SIGTERM; the step that the run stands at is saved, if one was taken here.
    """
    config, first = task.config, int(state.step)
    pauses = loop.Pauses(task.validate_every, config.checkpoint.every_steps, config.train.steps_per_dispatch)

    def save(step: int, state: State) -> None:
        # A copy: the next step reuses (donates) the arrays while the checkpoint is still being written.
        checkpoints.save(step, *devices.fetch((state.variables, state.optimizer)))

    with stopping.requests() as asked, logs.Progress(task.total, first, config.train.batch_size) as progress:
        together = turns.Stop(asked) if devices.are_shared else None
        take = _taker(task, devices, first, together.check if together else asked.after_step)

        def advance(state: State, indices: list[np.ndarray]) -> tuple[State, list[StepResult]]:
            if together:  # what a pause was for may have taken one of them longer than sums wait
                processes.barrier("steps")
            checks = together.checks if together else 0
            state, result = take(state, indices[0])
            if together and together.checks == checks:  # all steps were one call
                together.check()
            return state, [result]

        def variables(state: State, _: int) -> Any:
            return devices.fetch(state.variables) if devices.are_shared and keeper else state.variables

        program = loop.Program([config.seed], advance, variables)
        log = _RunLog(task.schedule, writer, progress, keeper)
        pieces = {"first": first, "save": save, "devices": devices, "asked": together or asked}
        return loop.train(task, program, state, pauses, [log], **pieces)


def _taker(
    task: Task, devices: Devices, first: int, stop: Callable[[], bool]
) -> Callable[[State, np.ndarray], tuple[State, StepResult]]:
    """What takes steps, given int32 indices [S, B] of their examples; the first call is of step `first`."""
    config, train = task.config, task.dataset.train
    step, options = task.step(devices), devices.compiler_options(task.macs)
    if isinstance(train.images, Streamed):  # the batches that the indices are of, begun ahead of the step
        at_random = {
            "cuts": random_cuts.of_config(config.augment),
            "changes": rand_augment.of_config(config.augment),
        }
        steps_left = {"first": first, "total": task.total}
        coming = feed.batches(train, config.seed, config.train.batch_size, devices, **steps_left, **at_random)
        run_fed = dispatch.make_fed_steps(step, devices, coming, options, stop)
        return lambda state, indices: run_fed(state, len(indices))
    images, labels = examples.place(train, devices)
    run_steps = dispatch.make_run_steps(step, devices, config.train.steps_per_dispatch, options=options, stop=stop)
    return lambda state, indices: run_steps(state, images, labels, indices)


class _RunLog:
    """Writes metrics.jsonl and shows progress; ends training where the loss is not finite."""

    def __init__(
        self,
        schedule: optax.Schedule,
        writer: logs.MetricWriter | silent.Writer,
        progress: logs.Progress,
        keeper: best.Keeper | silent.Keeper | None,
    ) -> None:
        self._schedule, self._writer, self._progress, self._keeper = schedule, writer, progress, keeper
        self._start = time.monotonic() - writer.seconds_before
        self.seconds = writer.seconds_before

    def steps(self, first: int, stop: int, result: StepResult, seconds: float) -> None:
        del seconds  # of the steps alone; a run's seconds include validation and checkpoints
        bad = np.flatnonzero(~np.isfinite(result.loss))
        if len(bad):
            step = first + int(bad[0])
            raise FloatingPointError(
                f"the loss is {result.loss[bad[0]]} at step {step}, where the learning rate is {self._rate(step):g}; "
                f"lower train.learning_rate, or set train.warmup or train.clip_norm"
            )
        self.seconds = round(time.monotonic() - self._start, 3)
        values, shown = {"loss": float(result.loss.mean())}, int(result.shown.sum())
        if shown:
            values["accuracy"] = int(result.correct.sum()) / shown
        images_per_second = self._progress.update(stop, values["loss"], values.get("accuracy"))
        values |= {"learning_rate": self._rate(stop - 1), "images_per_second": round(images_per_second, 1)}
        self._writer.write(stop, "train", {**values, "seconds": self.seconds})

    def validation(self, step: int, metrics: Metrics, variables: Any) -> None:
        if self._keeper:
            self._keeper.offer(step, variables, metrics.accuracy, metrics.loss)
        self._writer.write(step, "validation", {**metrics.as_dict(), "seconds": self.seconds})
        self._progress.note(f"step {step}: validation accuracy {metrics.accuracy:.4f}, loss {metrics.loss:.4f}")

    def _rate(self, step: int) -> float:
        return float(np.asarray(self._schedule(step)))
