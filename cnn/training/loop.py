"""The loop of training, for one seed or for several: steps, then a pause to write, to validate and to save."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import optax

from cnn import data, geometry
from cnn.data import Dataset
from cnn.nets import Net
from cnn.runs import checkpoint, ranges, stopping
from cnn.runs.config import Config
from cnn.runtime import turns
from cnn.runtime.devices import Devices
from cnn.training import checks, class_weights, steps, whitening
from cnn.training.evaluate import Metrics, score_split
from cnn.training.optimizer import for_net, make_optimizer, make_schedule
from cnn.training.steps import State, StepResult


class Task(NamedTuple):
    """What is trained; nothing of it changes in training, and nothing depends on the seed.

    Attributes:
      config: the config of the run; its seed is not read here.
      dataset: all of `config.data`, loaded.
      net: the classifier.
      macs: multiply-adds of the net for one example.
      total: length of training, steps.
      schedule: learning rate by step.
      optimizer: the optimiser, as `cnn.training.optimizer.make_optimizer` makes it.
      class_weights: what the loss of each class's examples is multiplied by, float32 [K]; None: all count alike.
    """

    config: Config
    dataset: Dataset
    net: Net
    macs: int
    total: int
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    class_weights: np.ndarray | None = None

    @property
    def validate_every(self) -> int:
        """Steps between two evaluations on the validation split, at least one; from `eval.every_epochs`."""
        epoch = len(self.dataset.train.labels) / self.config.train.batch_size
        return max(1, round(self.config.eval.every_epochs * epoch))

    def epochs(self, steps: int) -> float:
        """How often each training example is drawn in a number of steps, on average."""
        return steps * self.config.train.batch_size / len(self.dataset.train.labels)

    def step(self, devices: Devices | None = None) -> steps.Step:
        """One step of training as a pure function (`cnn.training.steps.make_step`), for devices."""
        constants = (self.dataset.mean, self.dataset.std, self.class_weights)
        count = len(self.dataset.train.labels)
        return steps.make_step(self.net, self.optimizer, self.config, *constants, devices, count)

    def first_state(self, seed: int) -> State:
        """The state before the first step, on the first device."""
        state = steps.init_state(self.net, self.optimizer, self.dataset.image_shape, seed)
        return whitening.begin(state, self.dataset, self.config.train.get("whitened", ""))

    def score(self, variables: Any, split: str, devices: Devices | None = None) -> Metrics:
        """Metrics of the net on a split: "train", "validation" or "test"."""
        return score_split(self.net, variables, self.config, self.dataset, split, devices)


def make_task(config: Config, dataset: Dataset, also: Sequence[Callable[[Net], Any]] = ()) -> Task:
    """Makes the net, its schedule and its optimiser, and checks without computing that they can be trained.

    Args:
      config: the config of the run; `cnn.runs.defaults` has its fields.
      dataset: all of `config.data`, loaded.
      also: further checks of the net, each of which raises a ValueError for what is wrong.

    Returns:
      The `Task`.

    Raises:
      ValueError: if a field is out of range, or the net, the data and the config do not go together; one line that
        says all that is wrong with the net and these data.
    """
    ranges.check(config)
    net = checkpoint.make_net(config, dataset.num_classes)
    checks.all_of(
        lambda: checks.check_net(config, net, dataset.image_shape, dataset.num_classes),
        lambda: class_weights.of(config.train, dataset),
        lambda: checks.check_cuts(config, dataset),
        lambda: whitening.check(net, config.train.get("whitened", ""), dataset.image_shape),
        lambda: _check_steps(config, net, dataset),
        *(functools.partial(check, net) for check in also),
    )
    table = geometry.table(net, dataset.image_shape)
    total = steps.total_steps(config.train, len(dataset.train.labels))
    schedule, optimizer = for_net(config.train, table, total)
    weights = class_weights.of(config.train, dataset)
    return Task(config, dataset, net, table.macs, total, schedule, optimizer, weights)


def _check_steps(config: Config, net: Net, dataset: Dataset) -> None:
    count = len(dataset.train.labels)
    total = steps.total_steps(config.train, count)
    # Which layer is the last makes no difference to the shapes of a step.
    optimizer = make_optimizer(config.train, make_schedule(config.train, total), total_steps=total, head="")
    checks.check_step(config, net, optimizer, dataset.image_shape, count)


class Program(NamedTuple):
    """How steps are computed: one seed split over all devices, or several seeds spread over them.

    Attributes:
      seeds: the seed of each net, which its order of examples, augmentation and dropout are drawn from.
      advance: (state of all seeds, for each seed int32 indices [S, B]) -> (state, for each seed a `StepResult` of NumPy
        arrays [S]); waits until the steps are done.
      variables: (state of all seeds, number of a seed) -> that seed's variables.
    """

    seeds: Sequence[int]
    advance: Callable[[State, list[np.ndarray]], tuple[State, Sequence[StepResult]]]
    variables: Callable[[State, int], Any]


class Pauses(NamedTuple):
    """Where the loop pauses, in steps; at the last step it always does.

    Attributes:
      validate: between two evaluations on the validation split.
      save: between two calls of `save`; None: none but the last.
      write: the most steps between two pauses; None: as many as there are.
    """

    validate: int
    save: int | None = None
    write: int | None = None

    def after(self, step: int, total: int) -> int:
        """The first pause after a step."""
        return min([total, *((step // every + 1) * every for every in self if every)])


class Log(Protocol):
    """Where one seed's numbers go."""

    def steps(self, first: int, stop: int, result: StepResult, seconds: float) -> None:
        """Takes what steps `first` up to `stop` measured, and the seconds that they took; may raise to end training."""

    def validation(self, step: int, metrics: Metrics, variables: Any) -> None:
        """Takes a step's metrics on the validation split and the net's variables, which the next step reuses."""


def train(
    task: Task,
    program: Program,
    state: State,
    pauses: Pauses,
    logs: Sequence[Log],
    *,
    first: int = 0,
    save: Callable[[int, State], None] | None = None,
    devices: Devices | None = None,
    asked: stopping.Request | turns.Stop | None = None,
) -> State:
    """Runs the steps that are left.

    Args:
      task: the net, the data and the config that it is trained by.
      program: the compiled steps.
      state: the state of all seeds, at step `first`; its arrays are reused (donated).
      pauses: the steps at which the loop pauses.
      logs: one `Log` for each seed.
      first: number of steps done already.
      save: called with the step and the state where checkpoints are due.
      devices: the devices that compute the validation; None: all local devices.
      asked: whether the run is asked to stop; None: it never is.

    Returns:
      The state after the last step.

    Raises:
      Stopped: if the run is asked to stop before its last step; the step that it stands at is saved.
    """
    config, step = task.config, first
    while step < task.total:
        stop = pauses.after(step, task.total)
        indices = [
            data.batch_indices(
                seed,
                step,
                batch_size=config.train.batch_size,
                num_examples=len(task.dataset.train.labels),
                steps=stop - step,
            )
            for seed in program.seeds
        ]
        start = time.monotonic()
        state, results = program.advance(state, indices)
        if asked is not None:
            asked.begun = True  # from here on a stop has something to save
        seconds = time.monotonic() - start
        for log, result in zip(logs, results, strict=True):
            log.steps(step, step + len(result.loss), result, seconds)
        step += len(results[0].loss)  # fewer than were asked for where the run is asked to stop
        stopped = asked.signal if asked is not None and step < task.total else None
        if (step % pauses.validate == 0 or step == task.total) and len(task.dataset.validation.labels):
            for i, log in enumerate(logs):
                variables = program.variables(state, i)
                log.validation(step, task.score(variables, "validation", devices), variables)
        if save and (step == task.total or stopped or (pauses.save and step % pauses.save == 0)):
            save(step, state)
        if stopped is not None:
            raise stopping.Stopped(stopped, together=isinstance(asked, turns.Stop))
    return state
