"""Learning-rate schedules and optimisers, from the `train` part of a config."""

import difflib
import functools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from cnn.geometry import Table
from cnn.layers import LocallyConnected
from cnn.runs import ranges
from cnn.runs.config import Config

_RMS_OF_ADAM = 0.2  # root mean square of Muon's updates, at a learning rate of 1, after which AdamW's rates suit it


def make_schedule(train: Config, total_steps: int) -> optax.Schedule:
    """Learning rate as a function of the step.

    Args:
      train: the config's `train` part: learning_rate, schedule, warmup (fraction of all steps, linear from 0),
        milestones and decay_factor ("step"). "cosine" falls from the peak at the end of the warm-up to 0, "linear"
        likewise along a line.
      total_steps: length of the run, steps.

    Returns:
      step -> learning rate.

    Raises:
      ValueError: if one of these fields is out of range.
    """
    ranges.check_fields("train", train, "learning_rate", "schedule", "warmup", "milestones", "decay_factor")
    peak = train.learning_rate
    warmup = round(train.warmup * total_steps)
    if train.schedule == "constant":
        main = optax.constant_schedule(peak)
    elif train.schedule == "step":
        # Milestones are fractions of the whole run; this part of it starts after the warm-up.
        drops: dict[int, float] = {}
        for milestone in train.milestones:  # several may fall on one step of a short run
            step = max(0, round(milestone * total_steps) - warmup)
            drops[step] = drops.get(step, 1.0) * train.decay_factor
        main = optax.piecewise_constant_schedule(peak, drops)
    elif train.schedule == "linear":
        main = optax.linear_schedule(peak, 0.0, max(1, total_steps - warmup))
    else:
        main = optax.cosine_decay_schedule(peak, max(1, total_steps - warmup))
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def kernel_mask(params: Any) -> Any:
    """Which parameters weight decay is for: kernels, not biases, scales or offsets.

    Args:
      params: a parameter tree.

    Returns:
      A tree of the same shape with True at every leaf named "kernel".
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def make_optimizer(
    train: Config,
    schedule: optax.Schedule,
    *,
    total_steps: int | None = None,
    head: str | None = None,
    local: Collection[str] = (),
) -> optax.GradientTransformation:
    """The optimiser that a config asks for.

    "sgd" and "adam" add L2 regularisation to the gradient, before momentum, as AlexNet and VGG do; "adamw" decays the
    weights apart from the gradient. "muon" steps kernels of convolutions and fully connected layers along their
    momentum, Nesterov's, with all singular values made about equal (the groups of a convolution are one matrix), and
    leaves the last layer, locally connected ones, biases and what normalises to adamw. Its steps have a root mean
    square of 0.2 learning rates, as Adam's have later in training, so that rates and decays of adamw suit it.

    Frozen layers keep their parameters: nothing decays, no momentum gathers, and their gradients do not count in the
    norm that clip_norm bounds. From step `round(frozen_until * total_steps)` on they learn as the others do, at the
    run's learning rate, with an optimiser state that starts there. The running statistics of batch normalisation are
    no parameters and are still updated.

    The learning rate of biases, those of normalisations among them, is multiplied by bias_rate, and that of the last
    layer by head_rate.

    Args:
      train: the config's `train` part: optimizer, momentum, nesterov, weight_decay, clip_norm, bias_rate, head_rate,
        frozen and frozen_until (absent in configs of older runs: nothing is frozen or multiplied).
      schedule: step -> learning rate.
      total_steps: length of the run, steps; needed if layers are frozen for a part of it.
      head: name of the last layer with parameters (`head_of`); needed by muon, and if its learning rate is another one.
      local: names of the locally connected layers (`local_layers`), needed by muon.

    Returns:
      An Optax transformation. Its `init` raises a ValueError if a frozen layer is none of the net's with parameters.

    Raises:
      ValueError: if one of these fields is out of range, or there is no total_steps or head where it is needed.

    Source: Krizhevsky et al. (2012), section 5; Kingma, Ba (2015); Loshchilov, Hutter (2019); Jordan et al., "Muon"
    (2024); Liu, Su et al., "Muon is Scalable for LLM Training" (2025), section 2.2, for the size of its steps.
    """
    ranges.check_fields("train", train, "optimizer", "momentum", "nesterov", "weight_decay", "clip_norm")
    ranges.check_fields("train", train, "bias_rate", "head_rate", "frozen", "frozen_until")
    if train.get("head_rate", 1.0) != 1 and head is None:
        raise ValueError(f"make_optimizer needs head: train.head_rate (={train.head_rate}) is for the last layer")
    if train.optimizer == "muon" and head is None:
        raise ValueError("make_optimizer needs head: train.optimizer=muon leaves the last layer to adamw")
    clip = [optax.clip_by_global_norm(train.clip_norm)] if train.clip_norm else []
    frozen, until = tuple(train.get("frozen", ())), train.get("frozen_until", 1.0)
    if not frozen:
        return optax.chain(*clip, *_rule(train, schedule, head, local))
    held, held_gradient = optax.set_to_zero(), optax.set_to_zero()
    if until < 1 and total_steps is None:
        raise ValueError(f"make_optimizer needs total_steps: train.frozen_until (={until}) is a fraction of them")
    first = thaw_step(train, total_steps or 0)
    if first is not None:

        def thawed(step: Any, **_: Any) -> Any:
            return step >= first

        # What is held back counts its steps from `first` on; the learning rate is the run's.
        late = optax.chain(*_rule(train, lambda step: schedule(step + first), head, local))
        held = optax.conditionally_mask(late, thawed)
        held_gradient = optax.conditionally_mask(optax.identity(), thawed)
    if clip:
        clip.insert(0, _grouped(frozen, held_gradient, optax.identity()))
    return optax.chain(*clip, _grouped(frozen, held, optax.chain(*_rule(train, schedule, head, local))))


def for_net(train: Config, table: Table, total_steps: int) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """The schedule and the optimiser of a config for one net, whose layers say which is the last and which are local.

    Args:
      train: the config's `train` part, as for `make_schedule` and `make_optimizer`.
      table: the net's layers, as `cnn.geometry.table` gives them.
      total_steps: length of the run, steps.

    Returns:
      step -> learning rate, and the Optax transformation.

    Raises:
      ValueError: as `make_schedule` and `make_optimizer`.
    """
    schedule = make_schedule(train, total_steps)
    return schedule, make_optimizer(
        train, schedule, total_steps=total_steps, head=head_of(table), local=local_layers(table)
    )


def thaw_step(train: Config, total_steps: int) -> int | None:
    """The first step in which frozen layers learn.

    Args:
      train: the config's `train` part: frozen and frozen_until.
      total_steps: length of the run, steps.

    Returns:
      The step; None if no layer is frozen, or those that are never learn.
    """
    until = train.get("frozen_until", 1.0)
    return round(until * total_steps) if train.get("frozen") and until < 1 else None


def head_of(table: Table) -> str:
    """The last layer with parameters.

    Args:
      table: the net's layers, as `cnn.geometry.table` gives them.

    Returns:
      Its name; "" where no layer has any.
    """
    return next((row.name for row in reversed(table) if row.params), "")


def local_layers(table: Table) -> list[str]:
    """The locally connected layers, whose kernels are a matrix for each place.

    Args:
      table: the net's layers, as `cnn.geometry.table` gives them.

    Returns:
      Their names, with those of the blocks that they are in.
    """
    rows = [one for row in table for one in (row, *row.inside)]
    return [row.name for row in rows if row.kind == LocallyConnected.kind]


def _rule(
    train: Config, schedule: optax.Schedule, head: str | None, local: Collection[str]
) -> list[optax.GradientTransformation]:
    """The transformations that turn a gradient, clipped or not, into a step."""
    factors = {"bias": train.get("bias_rate", 1.0), "head": train.get("head_rate", 1.0)}
    scaled = [] if set(factors.values()) == {1} else [optax.stateless(functools.partial(_scaled, factors, head))]
    adamw = optax.adamw(schedule, weight_decay=train.weight_decay, mask=kernel_mask)
    if train.optimizer == "muon":
        return [
            optax.partition({True: _muon(train, schedule), False: adamw}, functools.partial(_matrices, head, local)),
            *scaled,
        ]
    if train.optimizer == "adamw":
        return [adamw, *scaled]
    l2 = [optax.add_decayed_weights(train.weight_decay, mask=kernel_mask)] if train.weight_decay else []
    sgd = optax.sgd(schedule, momentum=train.momentum, nesterov=train.get("nesterov", False))
    return [*l2, optax.adam(schedule) if train.optimizer == "adam" else sgd, *scaled]


def _muon(train: Config, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Muon for kernels, each seen as one matrix whose last axis is the outputs."""

    def axes(params: Any) -> Any:
        return jax.tree.map(lambda x: MuonDimensionNumbers(tuple(range(x.ndim - 1)), x.ndim - 1), params)

    options = {"beta": train.momentum, "nesterov": True, "consistent_rms": _RMS_OF_ADAM}
    options |= {"weight_decay": train.weight_decay, "muon_weight_dimension_numbers": axes}
    return muon(schedule, **options)


def _matrices(head: str | None, local: Collection[str], params: Any) -> Any:
    """Which parameters Muon is for: kernels of convolutions and fully connected layers, but for the last layer's."""

    def one(path: Any, x: Any) -> bool:
        layer = "/".join(part.key for part in path[:-1])
        return path[-1].key == "kernel" and x.ndim in (2, 4) and path[0].key != head and layer not in local

    return jax.tree_util.tree_map_with_path(one, params)


def _scaled(factors: Mapping[str, float], head: str | None, updates: Any, _: Any) -> Any:
    """Updates, those of biases and of the last layer multiplied."""

    def one(path: Any, update: Any) -> Any:
        factor = factors["bias"] if path[-1].key == "bias" else 1.0
        return update * (factor * factors["head"] if path[0].key == head else factor)

    return jax.tree_util.tree_map_with_path(one, updates)


def _grouped(
    frozen: Sequence[str], held: optax.GradientTransformation, free: optax.GradientTransformation
) -> optax.GradientTransformation:
    """One transformation for the frozen layers, another for the rest."""
    return optax.partition({"frozen": held, "free": free}, functools.partial(_labels, frozen=frozen))


def _labels(params: Any, frozen: Sequence[str]) -> Any:
    """The group of every leaf: "frozen" or "free"."""
    unknown = sorted(set(frozen) - set(params))
    if unknown:
        # A tuple that lost its comma or gained quotes, "('conv1')", is near to the name in it.
        bare = (part for name in unknown for part in re.findall(r"\w+", name))
        near = [one for name in bare for one in difflib.get_close_matches(name, params, n=1)]
        meant = f"; did you mean {', '.join(dict.fromkeys(near))}?" if near else ""
        raise ValueError(
            f"train.frozen (={tuple(frozen)}) names {', '.join(map(repr, unknown))}, which no layer with parameters is "
            f"called{meant}; layers: {', '.join(params)}"
        )
    return {
        name: jax.tree.map(lambda _, label="frozen" if name in frozen else "free": label, own)
        for name, own in params.items()
    }
