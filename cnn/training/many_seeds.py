"""Several seeds of one config, trained together in one compiled program: what a study's cell is made of.

The seeds differ in initialisation, order of the examples, augmentation and dropout, and in nothing else. Each ends in
the numbers that it would end in by itself, whichever seeds stand beside it; side by side in one kernel, to rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from cnn import ops
from cnn.data import Dataset
from cnn.data.streamed import Streamed
from cnn.nets import Net
from cnn.runs.config import Config
from cnn.runtime.compiler import Options
from cnn.runtime.devices import AXIS, Devices
from cnn.training import dispatch, early, initial, loop, steps
from cnn.training.evaluate import Metrics
from cnn.training.loop import Pauses, Program, Task
from cnn.training.steps import StepResult


class SeedRun(NamedTuple):
    """One seed's trained net.

    Attributes:
      seed: its seed.
      variables: the variables of the net.
      curve: one dict for each validation: epoch, train_loss (mean since the one before), validation_accuracy and
        validation_loss; without the last two where nothing is held out.
      diverged: the step whose loss was not finite any more; None: none was. Training is not stopped by it, as the
        seeds beside it go on.
    """

    seed: int
    variables: dict[str, Any]
    curve: list[dict[str, float]]
    diverged: int | None


class TrainedSeeds(NamedTuple):
    """Seeds that were trained together.

    Attributes:
      net: the classifier.
      runs: one for each seed, in the order asked for.
      epoch_seconds: seconds that one epoch of training took for one seed: an epoch's time over the seeds that shared
        it, without compiling and validation.
      step_bytes: largest memory of a step of one seed, as compiled: parameters, optimiser, activations; without the
        data set.
    """

    net: Net
    runs: list[SeedRun]
    epoch_seconds: float
    step_bytes: int


def share(devices: Devices, seeds: int, each: int | None = None) -> tuple[int, int]:
    """How many devices to use, and how many seeds to train on each of them at a time.

    On CPU one seed on each device: a kernel for each seed turns a convolution into a grouped one, which XLA:CPU
    computes more slowly than one after another (benchmarks/results/seeds.md). On accelerators all of them, side by side
    in each kernel. No more devices are used than keep busy: six seeds on four CPU devices are two turns of three.

    Args:
      devices: the devices to train on.
      seeds: number of seeds to train.
      each: seeds on each device at a time; None: by the devices.

    Returns:
      (devices, seeds on each).
    """
    if each is None:
        each = 1 if devices.platform == "cpu" else -(-seeds // devices.count)
    turns = -(-seeds // (each * devices.count))
    return -(-seeds // (each * turns)), each


def train_seeds(
    config: Config, dataset: Dataset, seeds: Sequence[int], devices: Devices | None = None, each: int | None = None
) -> TrainedSeeds:
    """Trains one net for each seed, as `cnn.train` would train each; nothing is written.

    Args:
      config: the config of the run (`cnn.runs.defaults` has its fields); its seed is not used.
      dataset: all of `config.data`, loaded.
      seeds: different ones, at least one.
      devices: the devices that the seeds are spread over, each seed whole; None: all local devices.
      each: seeds trained on each device at a time; None: see `share`.

    Returns:
      The trained nets and what training cost.

    Raises:
      ValueError: if a field is out of range, train.sharding is not "data", or the seeds are not different.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds (={list(seeds)}) must be different ones, at least one")
    early.check(config, given=True)
    sharding = config.train.get("sharding", "data")
    if sharding != "data":
        raise ValueError(
            f"train.sharding (={sharding!r}) splits one net over devices, and several seeds are spread over them, each "
            "net whole on one; leave it at 'data'"
        )
    if isinstance(dataset.train.images, Streamed):
        raise ValueError(
            "several seeds at once train on pictures in memory, which each of them draws from in an order of its own; "
            "data.in_memory=yes reads them, and a smaller data.image_size or data.train_examples makes them fit"
        )
    config, dataset = initial.prepared(config, dataset)
    with ops.use(config.train.get("ops", "fast")):
        return _train_groups(loop.make_task(config, dataset), seeds, devices or Devices(jax.local_devices()), each)


def _train_groups(task: Task, seeds: Sequence[int], devices: Devices, each: int | None) -> TrainedSeeds:
    """Trains as many seeds at a time as `share` says, until all are trained."""
    # The options for all devices, even where a few seeds use only some: a seed's result must not depend on how many.
    options = devices.compiler_options(task.macs)
    count, each = share(devices, len(seeds), each)
    trainer = _Trainer(task, Devices(count), options)
    runs: list[SeedRun] = []
    seconds = 0.0
    for start in range(0, len(seeds), count * each):
        group = list(seeds[start : start + count * each])
        missing = -len(group) % count  # the last group may be smaller, but each device has as many
        trained, took = trainer.train(group + group[-1:] * missing)
        runs += trained[: len(group)]
        seconds += took
    return TrainedSeeds(task.net, runs, seconds / task.epochs(task.total) / len(seeds), trainer.step_bytes)


class _Trainer:
    """What all groups of seeds share: the compiled step above all."""

    def __init__(self, task: Task, devices: Devices, options: Options) -> None:
        self.task, self.devices, self.options = task, devices, options
        train = task.dataset.train
        self.data = devices.replicate((train.images, train.labels))
        self.step = task.step()
        self.compiled: dict[int, Callable[..., Any]] = {}
        self.step_bytes = 0
        self.initial_run = initial.load(task.config.train.get("initial_run", ""))

    def train(self, seeds: Sequence[int]) -> tuple[list[SeedRun], float]:
        """Trains a group of seeds; returns them and the seconds that the steps took."""
        task = self.task
        states = [task.first_state(seed) for seed in seeds]
        if self.initial_run:
            states = [initial.begin(state, self.initial_run)[0] for state in states]
        state = jax.device_put(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), self.devices.split())
        run = self._compile(state)

        def advance(state: steps.State, indices: list[np.ndarray]) -> tuple[steps.State, list[StepResult]]:
            results = []
            for rows in np.stack(indices, axis=1):
                state, result = run(state, *self.data, rows)
                results.append(result)
            together = dispatch.stacked(results)
            return state, [StepResult(*(values[:, i] for values in together)) for i in range(len(seeds))]

        def variables(state: steps.State, i: int) -> dict[str, Any]:
            return jax.tree.map(lambda leaf: np.asarray(leaf[i]), state.variables)

        logs = [_SeedLog(task) for _ in seeds]
        pauses = Pauses(validate=task.validate_every)
        program = Program(seeds, advance, variables)
        state = loop.train(task, program, state, pauses, logs, devices=self.devices)
        runs = [SeedRun(seed, variables(state, i), logs[i].curve, logs[i].diverged) for i, seed in enumerate(seeds)]
        return runs, logs[0].seconds

    def _compile(self, state: steps.State) -> Callable[..., Any]:
        """The step of as many seeds as the state holds."""
        count = len(state.step)
        if count not in self.compiled:
            jitted = step_of_seeds(self.step, self.devices, self.options)
            rows = np.zeros((count, self.task.config.train.batch_size), np.int32)
            self.compiled[count] = jitted.lower(state, *self.data, rows).compile()
            self.step_bytes = max(self.step_bytes, self._bytes(self.compiled[count]) * self.devices.count // count)
        return self.compiled[count]

    def _bytes(self, compiled: Any) -> int:
        """What the program holds at once on one device: its inputs without the data set, outputs and workspace."""
        sizes = compiled.memory_analysis()
        own = sum(part.nbytes for part in self.data)
        outputs = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
        return sizes.argument_size_in_bytes - own + outputs + sizes.temp_size_in_bytes


class _SeedLog:
    """Keeps one seed's curve; a loss that is not finite is noted, and training goes on."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.curve: list[dict[str, float]] = []
        self.diverged: int | None = None
        self.seconds = 0.0

    def steps(self, first: int, stop: int, result: StepResult, seconds: float) -> None:
        self.seconds += seconds
        bad = np.flatnonzero(~np.isfinite(result.loss))
        if len(bad) and self.diverged is None:
            self.diverged = first + int(bad[0])
        epoch = round(self._task.epochs(stop), 4)
        self.curve.append({"epoch": epoch, "train_loss": float(result.loss.mean())})

    def validation(self, step: int, metrics: Metrics, variables: Any) -> None:
        del variables  # studies compare nets that were trained equally long
        self.curve[-1] |= {"validation_accuracy": metrics.accuracy, "validation_loss": metrics.loss}


def step_of_seeds(step: steps.Step, devices: Devices, options: Options) -> Any:
    """One step of several seeds.

    Args:
      step: one step of training, as `cnn.training.steps.make_step` makes it.
      devices: the devices that the seeds are spread over, equally many on each.
      options: options for the compiler, as `Devices.compiler_options` gives them.

    Returns:
      Compiled: (states with a leading axis of seeds (donated), uint8 images, int32 labels, int32 indices [seeds, B])
      -> (states, `StepResult` of arrays [seeds]).
    """

    def one(state: steps.State, images: jax.Array, labels: jax.Array, row: jax.Array) -> tuple[steps.State, StepResult]:
        return step(state, images[row], labels[row])

    def of_a_device(states: Any, images: jax.Array, labels: jax.Array, rows: jax.Array) -> Any:
        if len(rows) == 1:  # by itself: under vmap, also of one, a convolution becomes a grouped one
            single = one(jax.tree.map(lambda leaf: leaf[0], states), images, labels, rows[0])
            return jax.tree.map(lambda leaf: leaf[None], single)
        return jax.vmap(one, in_axes=(0, None, None, 0))(states, images, labels, rows)

    each, whole = PartitionSpec(AXIS), PartitionSpec()
    mapped = jax.shard_map(
        of_a_device, mesh=devices.mesh, in_specs=(each, whole, whole, each), out_specs=each, check_vma=False
    )
    return jax.jit(mapped, donate_argnums=0, compiler_options=dict(options))
