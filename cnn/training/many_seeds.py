"""Several seeds of one config, trained together in one compiled program: what a study's cell is made of.

The seeds differ in initialisation, order of the examples, augmentation and dropout, and in nothing else. Each ends in
the numbers that it would end in by itself, whichever seeds stand beside it; side by side in one kernel, to rounding.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from cnn import data, geometry
from cnn.data import Dataset
from cnn.nets import Net
from cnn.runs import checkpoint
from cnn.runs.config import Config
from cnn.runtime.compiler import Options
from cnn.runtime.devices import AXIS, Devices
from cnn.training import optimizer, steps
from cnn.training.evaluate import Metrics, evaluate
from cnn.training.steps import total_steps


class SeedRun(NamedTuple):
    """One seed's trained net.

    Attributes:
      seed: its seed.
      variables: of the net.
      curve: one dict for each validation: epoch, train_loss (mean since the one before), validation_accuracy and
        validation_loss; without the last two where nothing is held out.
      diverged: the step whose loss was not finite any more; None: none was. Training is not stopped by it, as the
        seeds beside it go on.
    """

    seed: int
    variables: dict[str, Any]
    curve: list[dict[str, float]]
    diverged: int | None


class Together(NamedTuple):
    """Seeds that were trained together.

    Attributes:
      net: the classifier.
      runs: one for each seed, in the order asked for.
      epoch_seconds: of training, of one epoch of one seed: an epoch's time over the seeds that shared it, without
        compiling and validation.
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
      devices: where.
      seeds: how many there are to train.
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
) -> Together:
    """Trains one net for each seed, as `cnn.train` would train each; nothing is written.

    Args:
      config: see `configs/default.py`; its seed is not used.
      dataset: all of `config.data`, loaded.
      seeds: different ones, at least one.
      devices: over which seeds are spread, whole; None: all local devices.
      each: seeds trained on each device at a time; None: see `share`.

    Returns:
      The trained nets and what training cost.

    Raises:
      ValueError: if a field is out of range, or the seeds are not different.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds (={list(seeds)}) must be different ones, at least one")
    devices = devices or Devices()
    net = checkpoint.make_net(config, dataset.num_classes)
    # Of all the devices, also where a few seeds take a part of them: what a seed ends in must not depend on how many.
    options = devices.compiler_options(geometry.table(net, dataset.image_shape).macs)
    count, each = share(devices, len(seeds), each)
    trainer = _Trainer(config, dataset, net, Devices(count), options)
    runs: list[SeedRun] = []
    seconds = 0.0
    for start in range(0, len(seeds), count * each):
        group = list(seeds[start : start + count * each])
        missing = -len(group) % count  # the last group may be smaller, but each device has as many
        trained, took = trainer.train(group + group[-1:] * missing)
        runs += trained[: len(group)]
        seconds += took
    return Together(net, runs, seconds / trainer.epochs / len(seeds), trainer.step_bytes)


class _Trainer:
    """What all groups of seeds share: the compiled step above all."""

    def __init__(self, config: Config, dataset: Dataset, net: Net, devices: Devices, options: Options) -> None:
        self.config, self.dataset, self.net, self.devices, self.options = config, dataset, net, devices, options
        count, batch_size = len(dataset.train.labels), config.train.batch_size
        self.total = total_steps(config.train, count)
        self.epochs = self.total * batch_size / count
        self.validate = max(1, round(config.eval.every_epochs * count / batch_size))
        schedule = optimizer.make_schedule(config.train, self.total)
        self.optimizer = optimizer.make_optimizer(config.train, schedule, total_steps=self.total)
        self.step = steps.make_step(net, self.optimizer, config, dataset.mean, dataset.std)
        self.data = devices.replicate((dataset.train.images, dataset.train.labels))
        self.compiled: dict[int, Callable[..., Any]] = {}
        self.step_bytes = 0

    def train(self, seeds: Sequence[int]) -> tuple[list[SeedRun], float]:
        """Trains a group of seeds; returns them and the seconds that the steps took."""
        shape = self.dataset.image_shape
        states = [steps.init_state(self.net, self.optimizer, shape, seed) for seed in seeds]
        state = jax.device_put(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), self.devices.split())
        run = self._compile(state)
        curves: list[list[dict[str, float]]] = [[] for _ in seeds]
        lost = np.full(len(seeds), -1)
        seconds, done = 0.0, 0
        while done < self.total:
            stop = min(done + self.validate, self.total)
            rows = np.stack([self._indices(seed, done, stop - done) for seed in seeds], axis=1)
            start = time.monotonic()
            losses = []
            for row in rows:
                state, loss, _ = run(state, *self.data, row)
                losses.append(loss)
            found = np.stack(jax.device_get(losses))  # waits for all of them
            seconds += time.monotonic() - start
            bad = ~np.isfinite(found)
            lost = np.where((lost < 0) & bad.any(axis=0), done + bad.argmax(axis=0), lost)
            done = stop
            for i, line in enumerate(self._validation(state, done)):
                curves[i].append({**line, "train_loss": float(found[:, i].mean())})
        variables = [self._variables(state, i) for i in range(len(seeds))]
        found_lost = [None if step < 0 else int(step) for step in lost]
        parts = zip(seeds, variables, curves, found_lost, strict=True)
        return [SeedRun(*part) for part in parts], seconds

    def _indices(self, seed: int, step: int, count: int) -> np.ndarray:
        examples, batch_size = len(self.dataset.train.labels), self.config.train.batch_size
        return data.batch_indices(seed, step, batch_size=batch_size, num_examples=examples, steps=count)

    def _compile(self, state: steps.State) -> Callable[..., Any]:
        """The step of as many seeds as the state holds."""
        count = len(state.step)
        if count not in self.compiled:
            jitted = step_of_seeds(self.step, self.devices, self.options)
            rows = np.zeros((count, self.config.train.batch_size), np.int32)
            self.compiled[count] = jitted.lower(state, *self.data, rows).compile()
            self.step_bytes = max(self.step_bytes, self._bytes(self.compiled[count]) * self.devices.count // count)
        return self.compiled[count]

    def _bytes(self, compiled: Any) -> int:
        """Of one device: what the program holds at once, its inputs (but for the data set) among it."""
        found = compiled.memory_analysis()
        own = sum(part.nbytes for part in self.data)
        outputs = found.output_size_in_bytes - found.alias_size_in_bytes
        return found.argument_size_in_bytes - own + outputs + found.temp_size_in_bytes

    def _variables(self, state: steps.State, i: int) -> dict[str, Any]:
        return jax.tree.map(lambda leaf: np.asarray(leaf[i]), state.variables)

    def _validation(self, state: steps.State, step: int) -> list[dict[str, float]]:
        """A line of each seed's curve."""
        epoch = round(step * self.config.train.batch_size / len(self.dataset.train.labels), 4)
        lines: list[dict[str, float]] = [{"epoch": epoch} for _ in range(len(state.step))]
        if len(self.dataset.validation.labels):
            for i, line in enumerate(lines):
                found = score(
                    self.net, self._variables(state, i), self.config, self.dataset, "validation", self.devices
                )
                line |= {"validation_accuracy": found.accuracy, "validation_loss": found.loss}
        return lines


def score(
    net: Net, variables: Any, config: Config, dataset: Dataset, split: str, devices: Devices | None = None
) -> Metrics:
    """Metrics of a trained net on a split of the data it was trained on.

    Args:
      net: the classifier.
      variables: its variables.
      config: of the run.
      dataset: with the constants that images are normalised by.
      split: "train", "validation" or "test".
      devices: where; None: all local devices.

    Returns:
      The split's `Metrics`.

    Raises:
      ValueError: if the split is empty.
    """
    options = {"batch_size": config.eval.batch_size, "dtype": config.train.dtype, "devices": devices}
    return evaluate(net, variables, getattr(dataset, split), dataset.mean, dataset.std, **options)


def step_of_seeds(step: steps.Step, devices: Devices, options: Options) -> Any:
    """One step of several seeds.

    Args:
      step: from `cnn.training.steps.make_step`.
      devices: over which seeds are spread; each has as many.
      options: for the compiler, from `Devices.compiler_options`.

    Returns:
      Compiled: (states with a leading axis of seeds (donated), uint8 images, int32 labels, int32 indices [seeds, B])
      -> (states, mean losses [seeds], numbers right [seeds]).
    """

    def one(state: steps.State, images: jax.Array, labels: jax.Array, row: jax.Array) -> steps.Stepped:
        return step(state, images[row], labels[row])

    def of_a_device(states: Any, images: jax.Array, labels: jax.Array, rows: jax.Array) -> Any:
        if len(rows) == 1:  # by itself: under vmap, also of one, a convolution becomes a grouped one
            stepped = one(jax.tree.map(lambda leaf: leaf[0], states), images, labels, rows[0])
            return jax.tree.map(lambda leaf: leaf[None], stepped)
        return jax.vmap(one, in_axes=(0, None, None, 0))(states, images, labels, rows)

    each, whole = PartitionSpec(AXIS), PartitionSpec()
    mapped = jax.shard_map(
        of_a_device, mesh=devices.mesh, in_specs=(each, whole, whole, each), out_specs=each, check_vma=False
    )
    return jax.jit(mapped, donate_argnums=0, compiler_options=dict(options))
