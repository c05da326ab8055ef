"""The training step.

The batch of a step, its augmentation and its dropout are pure functions of (seed, step), so a run that is stopped and
started again is, on one kind of machine, bit for bit the run that was never stopped.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from cnn import data, nets, ops
from cnn.data import augment
from cnn.nets import Net, outputs
from cnn.runs import ranges
from cnn.runs.config import Config
from cnn.runtime.compiler import jit_once
from cnn.runtime.devices import Devices
from cnn.training import sharded


class State(NamedTuple):
    """All that changes in training.

    Attributes:
      step: number of steps done, int32 scalar.
      params: the parameters of the net.
      statistics: the net's other variables (of batch normalisation), {} if it has none.
      optimizer: the optimiser's state.
      key: the random key of the run, which never changes. It is part of the state so that one compiled program serves
        every seed.
    """

    step: jax.Array
    params: Any
    statistics: Any
    optimizer: Any
    key: jax.Array

    @property
    def variables(self) -> dict[str, Any]:
        """What `net.apply` takes."""
        return {"params": self.params, **self.statistics}


def total_steps(train: Config, num_examples: int) -> int:
    """Length of a run in steps.

    Args:
      train: the config's `train` part: epochs or steps, and batch_size.
      num_examples: size of the training split.

    Returns:
      The number of steps; a last part of an epoch counts as one step.

    Raises:
      ValueError: unless exactly one of epochs and steps is given, in its range, and the steps can be counted.
    """
    ranges.check_fields("train", train, "epochs", "steps", "batch_size")
    epochs, count = train.epochs, train.steps
    if (epochs is None) == (count is None):
        raise ValueError(f"give train.epochs (={epochs}) or train.steps (={count}): one of them, not both")
    total = count if epochs is None else epochs * num_examples / train.batch_size
    if total > ranges.MOST_STEPS:
        raise ValueError(f"train.epochs (={epochs}) are {total:.3g} steps; there may be {ranges.MOST_STEPS:,}")
    return max(1, math.ceil(total))


class StepResult(NamedTuple):
    """What a step measures on its batch, before it changes the parameters.

    Attributes:
      loss: mean cross-entropy, nats, float32 scalar; weighted by class where the config says so.
      correct: examples that show their object and are classified right, int32 scalar.
      shown: examples that show their object, int32 scalar: the whole batch, but for those that
        `cnn.data.augment.shift_out_of_window` moved.
    """

    loss: Any
    correct: Any
    shown: Any


Step = Callable[[State, jax.Array, jax.Array], tuple[State, StepResult]]


def init_state(net: Net, optimizer: optax.GradientTransformation, image_shape: tuple[int, ...], seed: int) -> State:
    """The state before the first step.

    Args:
      net: the classifier.
      optimizer: the optimiser, as `cnn.training.optimizer.make_optimizer` makes it.
      image_shape: (H, W, C).
      seed: the seed of the run.

    Returns:
      The state, with float32 parameters.
    """

    variables = nets.init(net, image_shape, seed)
    params = variables.pop("params")
    return State(jnp.zeros((), jnp.int32), params, variables, _init_optimizer(optimizer, params), jax.random.key(seed))


@functools.partial(jit_once, static_argnums=0)
def _init_optimizer(optimizer: optax.GradientTransformation, params: Any) -> Any:
    """The optimiser's first state, compiled once for each optimiser."""
    return optimizer.init(params)


def measure(
    logits: jax.Array,
    labels: jax.Array,
    label_smoothing: float,
    missed: jax.Array | None = None,
    output_activation: str = "softmax",
    class_weights: np.ndarray | None = None,
    own: jax.Array | None = None,
) -> StepResult:
    """Mean cross-entropy against smoothed labels, and how many examples are right.

    Args:
      logits: [N, K].
      labels: int32 [N].
      label_smoothing: probability mass spread evenly over all classes.
      missed: bool [N], examples that do not show their object: their target is `outputs.without_object`, and they are
        neither right nor wrong. None: all show it.
      output_activation: what the logits mean, the net's output activation.
      class_weights: what the loss of each class's examples is multiplied by, float32 [K], before the mean over all;
        None: all count alike. That of examples that do not show their object counts once.
      own: the part of each example that is its own, float32 [N], as `cnn.data.augment.mixup` gives it: the rest of its
        loss is against the target of the example at its mirrored place. None: all of it.

    Returns:
      The `StepResult`.
    """
    logits = logits.astype(jnp.float32)
    classes = outputs.class_scores(logits)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, classes.shape[1]), label_smoothing)
    right = classes.argmax(axis=1) == labels
    shown = jnp.int32(len(labels))
    if missed is not None:
        targets = jnp.where(missed[:, None], outputs.without_object(logits.shape[1], output_activation), targets)
        right, shown = right & ~missed, (~missed).sum(dtype=jnp.int32)
    weights = jnp.ones(len(labels), jnp.float32) if class_weights is None else jnp.asarray(class_weights)[labels]
    weights = weights if missed is None else jnp.where(missed, 1, weights)

    def against(targets: jax.Array, weights: jax.Array) -> jax.Array:
        loss = outputs.cross_entropy(logits, targets, output_activation)
        return loss if class_weights is None else loss * weights

    loss = against(targets, weights)
    if own is not None:
        loss = own * loss + (1 - own) * against(targets[::-1], weights[::-1])
    return StepResult(loss.mean(), right.sum(), shown)


def make_step(
    net: Net,
    optimizer: optax.GradientTransformation,
    config: Config,
    mean: Sequence[float],
    std: Sequence[float],
    class_weights: np.ndarray | None = None,
    devices: Devices | None = None,
    num_examples: int | None = None,
) -> Step:
    """One step of training as a pure function.

    Gradients of half-precision activations are summed in float32, over examples and over devices.

    Args:
      net: the classifier.
      optimizer: the optimiser, as `cnn.training.optimizer.make_optimizer` makes it.
      config: config of the run; its augment and train parts are read.
      mean, std: mean and standard deviation of each channel, in units of the full range.
      class_weights: weights of the classes in the loss, as `cnn.training.class_weights.of` gives them; None: none.
      devices: the devices that parameters may be split over, in a step that is compiled for them; None: each device
        has all parameters.
      num_examples: size of the training split; needed with augment.flip_in_turn.

    Returns:
      (state, uint8 images [B, H, W, C], int32 labels [B]) -> (state, `StepResult`).

    Raises:
      ValueError: if train.dtype, train.background or train.label_smoothing is out of range, or num_examples is missing
        or too large.
    """
    ranges.check_fields("train", config.train, "dtype", "background", "label_smoothing")
    options, mixup = augment.options(config.augment), config.augment.get("mixup", 0.0)
    half = jnp.dtype(config.train.dtype).itemsize < 4
    turns = _turns(config, num_examples) if config.augment.get("flip_in_turn", False) else None

    def step(state: State, images: jax.Array, labels: jax.Array) -> tuple[State, StepResult]:
        # fold_in(key, step), not a split chain: the keys of a step do not depend on how the run got there.
        key = jax.random.fold_in(state.key, state.step)
        augment_key, dropout_key, missed_key = jax.random.split(key, 3)
        if turns is not None:
            images = augment.in_turn(jax.random.fold_in(state.key, 2**31), images, turns(state.step, len(images)))
        x = augment.augment(augment_key, images.astype(jnp.float32) / 255, **options)
        missed = None
        missed_fraction = config.train.background  # the field's name is that of the first runs
        if missed_fraction:
            x, missed = augment.shift_out_of_window(missed_key, x, missed_fraction)
        own = None
        if mixup:  # a key apart from those that runs without it draw from
            x, own = augment.mixup(jax.random.fold_in(key, 3), x, mixup)
        x = data.normalise(x, mean, std).astype(config.train.dtype)

        def objective(params: Any) -> tuple[jax.Array, tuple[Any, StepResult]]:
            logits, statistics = sharded.apply(
                net,
                devices,
                {"params": params, **state.statistics},
                x,
                train=True,
                rngs={"dropout": dropout_key},
                mutable=list(state.statistics),
            )
            options = (missed, net.output_activation, class_weights, own)
            result = measure(logits, labels, config.train.label_smoothing, *options)
            return result.loss, (dict(statistics), result)

        _, pull, (statistics, result) = jax.vjp(objective, state.params, has_aux=True)
        (gradient,) = (ops.with_wide_sums(pull) if half else pull)(jnp.ones((), jnp.float32))
        if devices is not None:
            gradient = lax.with_sharding_constraint(gradient, devices.state_shardings(gradient))
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(state.step + 1, params, statistics, optimizer_state, state.key), result

    return step


def _turns(config: Config, num_examples: int | None) -> Callable[[jax.Array, int], jax.Array]:
    """How often each example of a batch was seen before, up to whole multiples of 2^32: (step, B) -> int32 [B]."""
    size = config.train.batch_size
    count_of_all = check_turns(size, num_examples)

    def turns(step: jax.Array, count: int) -> jax.Array:
        # The stream of examples is cut into epochs of num_examples. Only whole * size can exceed 32 bits.
        whole, rest = step // count_of_all, step % count_of_all
        return whole * size + (rest * size + jnp.arange(count)) // count_of_all

    return turns


def check_turns(batch_size: int, num_examples: int | None) -> int:
    """Checks that the epochs of examples can be counted, for augment.flip_in_turn.

    Args:
      batch_size: examples in a step.
      num_examples: size of the training split; None if it is not known.

    Returns:
      The size of the training split.

    Raises:
      ValueError: if it is not known, or the numbers are too large.
    """
    most = 2**31 - 1
    if num_examples is None or num_examples * (batch_size + 1) > most:
        raise ValueError(
            f"augment.flip_in_turn: train.batch_size (={batch_size}) times the number of training examples "
            f"(={num_examples}) must be known and at most {most:,}; augment.flip has no such limit"
        )
    return num_examples
