"""Many training steps in one jitted call, or one call each, over data on the devices or batches from the host."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn.runtime import processes
from cnn.runtime.compiler import Options
from cnn.runtime.devices import Devices
from cnn.training import examples
from cnn.training.steps import State, Step, StepResult

RunSteps = Callable[[State, jax.Array, jax.Array, np.ndarray], tuple[State, StepResult]]


def make_run_steps(
    step: Step,
    devices: Devices,
    length: int,
    looped: bool | None = None,
    options: Options | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> RunSteps:
    """Many steps with no work on the host between them.

    On an accelerator they are one call: a loop whose number of turns is an argument, not part of its shape. Where a run
    pauses to log, save or stop then makes no difference to the compiled program or to a result. On CPU they are one
    asynchronous call each: XLA runs convolutions inside a loop an order of magnitude slower there
    (https://github.com/jax-ml/jax/issues/12868), and a call costs little.

    Args:
      step: one step of training, as `make_step` makes it.
      devices: the devices that batches are split over.
      length: the most steps of one call.
      looped: whether the steps of a call are one loop on the device; None: by the devices.
      options: options for the compiler, as `Devices.compiler_options` gives them.
      stop: whether to take no further step, asked after each step that is a call of its own.

    Returns:
      (state (donated), uint8 images, int32 labels, int32 indices [S, B]) -> (state, `StepResult` of NumPy arrays [S],
      or of fewer where it was stopped), for 1 <= S <= length.
    """
    looped = devices.platform != "cpu" if looped is None else looped
    compiled_for = _at_the_first_call(
        devices, lambda state: jit_steps(step, devices, state, length if looped else None, options)
    )
    return _in_one_call(compiled_for, length) if looped else _one_by_one(compiled_for, devices, stop)


def make_fed_steps(
    step: Step,
    devices: Devices,
    batches: Iterator[tuple[jax.Array, jax.Array]],
    options: Options | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Callable[[State, int], tuple[State, StepResult]]:
    """Steps on batches that come from the host, one call each.

    Args:
      step: one step of training, as `make_step` makes it.
      devices: the devices that batches are split over.
      batches: (uint8 [B, H, W, C], int32 [B]) of each step in turn, on the devices.
      options: options for the compiler, as `Devices.compiler_options` gives them.
      stop: whether to take no further step, asked after each.

    Returns:
      (state (donated), number of steps) -> (state, `StepResult` of NumPy arrays [S], or of fewer where it was stopped).
    """
    compiled_for = _at_the_first_call(devices, lambda state: jit_fed_step(step, devices, state, options))

    def take(state: State, batch: tuple[jax.Array, jax.Array]) -> tuple[State, StepResult]:
        return compiled_for(state, *batch)(state, *batch)

    return lambda state, count: _each(take, state, itertools.islice(batches, count), devices, stop)


def jit_steps(
    step: Step, devices: Devices, state: Any, length: int | None = None, options: Options | None = None
) -> Any:
    """Steps compiled for devices, with the state, the data and the batch placed as in training.

    Args:
      step: one step of training, as `make_step` makes it for these devices.
      devices: the devices, which may be descriptions of devices that are not here.
      state: the state, or its shapes (`jax.eval_shape` of `init_state`).
      length: the most steps of a loop on the device; None: one step, no loop.
      options: options for the compiler, as `Devices.compiler_options` gives them.

    Returns:
      What `jax.jit` makes, to be called or lowered: (state (donated), uint8 images, int32 labels, int32 indices [B]) ->
      (state, `StepResult`); of a loop, indices are [length, B], the number of steps, int32, follows them, and results
      are [length].
    """

    def pick(state: State, images: jax.Array, labels: jax.Array, indices: jax.Array) -> tuple[State, StepResult]:
        return step(state, *examples.pick(devices, images, labels, indices))

    images_at, indices_at = examples.shardings(devices)
    if length is not None and indices_at == devices.split():
        indices_at = devices.split(1)
    batch = (indices_at,) if length is None else (indices_at, devices.everywhere)
    taken = pick if length is None else _loop(pick, length)
    return _jitted(taken, devices, state, (images_at, devices.everywhere, *batch), options)


def jit_fed_step(step: Step, devices: Devices, state: Any, options: Options | None = None) -> Any:
    """A step on a batch that is given, compiled for devices, each of which is given its part.

    Args:
      step, devices, state, options: as for `jit_steps`.

    Returns:
      What `jax.jit` makes, to be called or lowered: (state (donated), uint8 images [B, H, W, C], int32 labels [B]) ->
      (state, `StepResult`).
    """
    return _jitted(step, devices, state, (devices.split(), devices.split()), options)


def _jitted(function: Any, devices: Devices, state: Any, inputs_at: Sequence[Any], options: Options | None) -> Any:
    """A function of the state and of what lies as `inputs_at` says, which gives the next state and a result."""
    placed = devices.state_shardings(state)
    return jax.jit(
        function,
        in_shardings=(placed, *inputs_at),
        out_shardings=(placed, devices.everywhere),
        donate_argnums=0,
        compiler_options=dict(options or {}),
    )


def _at_the_first_call(devices: Devices, jitted: Callable[[State], Any]) -> Callable[..., Any]:
    """What gives the compiled steps for the arguments of the first; on shared devices all processes compile first."""
    compiled: Any = None

    def compiled_for(state: State, *arguments: Any) -> Any:
        nonlocal compiled
        if compiled is None:
            compiled = jitted(state)
            if devices.are_shared:  # no process waits in a sum for another that still compiles
                compiled = compiled.lower(state, *arguments).compile()
                processes.barrier("compiled")
        return compiled

    return compiled_for


def _one_by_one(compiled_for: Callable[..., Any], devices: Devices, stop: Callable[[], bool]) -> RunSteps:
    """A call for each step; `compiled_for` gives the compiled step."""

    def run(state: State, images: jax.Array, labels: jax.Array, indices: np.ndarray) -> tuple[State, StepResult]:
        one = compiled_for(state, images, labels, indices[0])
        return _each(lambda state, row: one(state, images, labels, row), state, indices, devices, stop)

    return run


def _each(
    one: Callable[[State, Any], tuple[State, StepResult]],
    state: State,
    inputs: Iterable[Any],
    devices: Devices,
    stop: Callable[[], bool],
) -> tuple[State, StepResult]:
    """A step for each input, until there is no more or it is stopped."""
    results = []
    for given in inputs:
        state, result = one(state, given)
        if devices.count > 1:
            # Sums over CPU devices wait inside the threads that compute; steps queued behind each other can take all
            # threads for waiting, and none is left to reach what they wait for.
            jax.block_until_ready(result)
        results.append(result)
        if stop():
            break
    return state, stacked(results)


def _loop(pick: Any, length: int) -> Any:
    """A loop on the device over the first `count` rows of `length`; `pick` is a step on a row of indices."""

    def loop(
        state: State, images: jax.Array, labels: jax.Array, indices: jax.Array, count: jax.Array
    ) -> tuple[State, StepResult]:
        def body(i: jax.Array, carry: tuple[State, StepResult]) -> tuple[State, StepResult]:
            state, result = pick(carry[0], images, labels, indices[i])
            return state, jax.tree.map(lambda values, value: values.at[i].set(value), carry[1], result)

        counts = jnp.zeros(length, jnp.int32)
        return lax.fori_loop(0, count, body, (state, StepResult(jnp.zeros(length, jnp.float32), counts, counts)))

    return loop


def _in_one_call(compiled_for: Callable[..., Any], length: int) -> RunSteps:
    """One call for all steps; `compiled_for` gives the compiled loop."""

    def run(state: State, images: jax.Array, labels: jax.Array, indices: np.ndarray) -> tuple[State, StepResult]:
        count = len(indices)
        padded = np.pad(indices, ((0, length - count), (0, 0)))
        arguments = (state, images, labels, padded, np.int32(count))
        state, result = compiled_for(*arguments)(*arguments)
        return state, StepResult(*(np.asarray(values)[:count] for values in result))

    return run


def stacked(results: Sequence[StepResult]) -> StepResult:
    """Results of steps as arrays of NumPy; waits for all of them.

    Args:
      results: one `StepResult` for each step, still on the devices.

    Returns:
      A `StepResult` whose arrays have a leading axis of steps.
    """
    return StepResult(*(np.stack(values) for values in zip(*jax.device_get(results), strict=True)))
