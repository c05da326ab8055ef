"""The training step, and many of them in one jitted call, over data that stays on the device.

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

from cnn import data, nets
from cnn.data.augment import augment, misplace
from cnn.nets import Net
from cnn.runs.config import Config
from cnn.runtime.compiler import Options, jit_once
from cnn.runtime.devices import Devices

DTYPES = ("float32", "bfloat16")


class State(NamedTuple):
    """All that changes in training.

    Attributes:
      step: number of steps done, int32 scalar.
      params: of the net.
      statistics: the net's other variables (of batch normalisation), {} if it has none.
      optimizer: the optimiser's state.
      key: of the run; it never changes. Part of the state, so that one compiled program serves every seed.
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
      num_examples: of the training split.

    Returns:
      The number of steps; a last part of an epoch counts as one step.

    Raises:
      ValueError: unless exactly one of epochs and steps is given, above 0.
    """
    epochs, count = train.epochs, train.steps
    if (epochs is None) == (count is None):
        raise ValueError(f"give train.epochs (={epochs}) or train.steps (={count}): one of them, not both")
    total = count if epochs is None else math.ceil(epochs * num_examples / train.batch_size)
    if total < 1:
        raise ValueError(f"train.epochs (={epochs}) or train.steps (={count}) must be above 0")
    return total


Stepped = tuple[State, jax.Array, jax.Array]  # state, mean loss, number right
Step = Callable[[State, jax.Array, jax.Array], Stepped]
RunSteps = Callable[[State, jax.Array, jax.Array, np.ndarray], tuple[State, np.ndarray, np.ndarray]]


def init_state(net: Net, optimizer: optax.GradientTransformation, image_shape: tuple[int, ...], seed: int) -> State:
    """The state before the first step.

    Args:
      net: the classifier.
      optimizer: from `cnn.training.optimizer.make_optimizer`.
      image_shape: (H, W, C).
      seed: config.seed.

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


def loss_and_correct(
    logits: jax.Array, labels: jax.Array, label_smoothing: float, missed: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Mean cross-entropy against smoothed labels, and the number right.

    Args:
      logits: [N, K].
      labels: int32 [N].
      label_smoothing: probability mass spread evenly over all classes.
      missed: bool [N], examples that do not show their object: their target is even over all classes. None: all show.

    Returns:
      float32 scalar in nats, int32 scalar.
    """
    logits = logits.astype(jnp.float32)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[1]), label_smoothing)
    if missed is not None:
        targets = jnp.where(missed[:, None], 1 / logits.shape[1], targets)
    return optax.softmax_cross_entropy(logits, targets).mean(), (logits.argmax(axis=1) == labels).sum()


def make_step(
    net: Net,
    optimizer: optax.GradientTransformation,
    config: Config,
    mean: Sequence[float],
    std: Sequence[float],
) -> Step:
    """One step of training as a pure function.

    Args:
      net: the classifier.
      optimizer: from `cnn.training.optimizer.make_optimizer`.
      config: of the run: augment and train.
      mean: per channel, in units of the full range.
      std: likewise.

    Returns:
      (state, uint8 images [B, H, W, C], int32 labels [B]) -> (state, mean loss, number right).

    Raises:
      ValueError: for an unknown train.dtype.
    """
    if config.train.dtype not in DTYPES:
        raise ValueError(f"train.dtype (={config.train.dtype!r}) must be one of {', '.join(DTYPES)}")
    options = config.augment.to_dict()

    def step(state: State, images: jax.Array, labels: jax.Array) -> Stepped:
        # fold_in(key, step), not a split chain: the keys of a step do not depend on how the run got there.
        key = jax.random.fold_in(state.key, state.step)
        augment_key, dropout_key, background_key = jax.random.split(key, 3)
        x = augment(augment_key, images.astype(jnp.float32) / 255, **options)
        missed = None
        if config.train.background:
            x, missed = misplace(background_key, x, config.train.background)
        x = data.normalise(x, mean, std).astype(config.train.dtype)

        def objective(params: Any) -> tuple[jax.Array, tuple[Any, jax.Array]]:
            logits, statistics = net.apply(
                {"params": params, **state.statistics},
                x,
                train=True,
                rngs={"dropout": dropout_key},
                mutable=list(state.statistics),
            )
            loss, correct = loss_and_correct(logits, labels, config.train.label_smoothing, missed)
            return loss, (dict(statistics), correct)

        (loss, (statistics, correct)), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(state.step + 1, params, statistics, optimizer_state, state.key), loss, correct

    return step


def make_run_steps(
    step: Step,
    devices: Devices,
    length: int,
    looped: bool | None = None,
    options: Options | None = None,
) -> RunSteps:
    """Many steps with no work on the host between them.

    On an accelerator they are one call: a loop whose number of turns is an argument, not part of its shape, so that
    it makes no difference to the compiled program, or to a result, where a run paused to log, save or stop. On CPU
    they are one asynchronous call each: XLA runs convolutions inside a loop an order of magnitude slower there (123
    against 1,420 images per second for `full_cnn`, on a busy machine; https://github.com/jax-ml/jax/issues/12868),
    and a call costs little.

    Args:
      step: from `make_step`.
      devices: over which batches are split.
      length: the most steps of one call.
      looped: which of the two; None: by the devices.
      options: for the compiler, from `Devices.compiler_options`.

    Returns:
      (state (donated), uint8 images, int32 labels, int32 indices [S, B]) -> (state, float32 losses [S], numbers right
      [S]), for 1 <= S <= length.
    """
    everywhere, split = devices.everywhere, devices.split()
    jit = functools.partial(jax.jit, donate_argnums=0, out_shardings=everywhere, compiler_options=dict(options or {}))

    def pick(state: State, images: jax.Array, labels: jax.Array, indices: jax.Array) -> Stepped:
        return step(state, *lax.with_sharding_constraint((images[indices], labels[indices]), split))

    if looped is None:
        looped = devices.platform != "cpu"
    if not looped:
        shardings = (everywhere, everywhere, everywhere, split)
        one = jit(pick, in_shardings=shardings)

        def run_one_by_one(
            state: State, images: jax.Array, labels: jax.Array, indices: np.ndarray
        ) -> tuple[State, np.ndarray, np.ndarray]:
            outputs = []
            for row in indices:
                state, *output = one(state, images, labels, row)
                if devices.count > 1:
                    # Sums over CPU devices wait inside the threads that compute; steps queued behind each other can
                    # take all threads for waiting, and none is left to reach what they wait for.
                    jax.block_until_ready(output)
                outputs.append(output)
            losses, corrects = zip(*jax.device_get(outputs), strict=True)
            return state, np.stack(losses), np.stack(corrects)

        return run_one_by_one

    def loop(state: State, images: jax.Array, labels: jax.Array, indices: jax.Array, count: jax.Array) -> Stepped:
        def body(i: jax.Array, carry: Stepped) -> Stepped:
            state, losses, corrects = carry
            state, loss, correct = pick(state, images, labels, indices[i])
            return state, losses.at[i].set(loss), corrects.at[i].set(correct)

        empty = jnp.zeros(length, jnp.float32), jnp.zeros(length, jnp.int32)
        return lax.fori_loop(0, count, body, (state, *empty))

    shardings = (everywhere, everywhere, everywhere, devices.split(1), everywhere)
    many = jit(loop, in_shardings=shardings)

    def run_looped(
        state: State, images: jax.Array, labels: jax.Array, indices: np.ndarray
    ) -> tuple[State, np.ndarray, np.ndarray]:
        count = len(indices)
        padded = np.pad(indices, ((0, length - count), (0, 0)))
        state, losses, corrects = many(state, images, labels, padded, np.int32(count))
        return state, np.asarray(losses)[:count], np.asarray(corrects)[:count]

    return run_looped
