"""Learning-rate schedules and optimisers, from the `train` part of a config."""

from typing import Any

import jax
import optax

from cnn.config import Config

SCHEDULES = ("constant", "step", "cosine")
OPTIMIZERS = ("sgd", "adam", "adamw")


def make_schedule(train: Config, total_steps: int) -> optax.Schedule:
    """Learning rate as a function of the step.

    Args:
      train: the config's `train` part: learning_rate, schedule, warmup (fraction of all steps, linear from 0),
        milestones and decay_factor ("step"). "cosine" falls from the peak at the end of the warm-up to 0.
      total_steps: length of the run.

    Returns:
      step -> learning rate.

    Raises:
      ValueError: for an unknown schedule or a fraction outside [0, 1].
    """
    if train.schedule not in SCHEDULES:
        raise ValueError(f"train.schedule (={train.schedule!r}) must be one of {', '.join(SCHEDULES)}")
    for field, values in (("warmup", (train.warmup,)), ("milestones", train.milestones)):
        if not all(0 <= value <= 1 for value in values):
            raise ValueError(f"train.{field} (={train[field]}) is in fractions of the run, between 0 and 1")
    peak = train.learning_rate
    warmup = round(train.warmup * total_steps)
    if train.schedule == "constant":
        main = optax.constant_schedule(peak)
    elif train.schedule == "step":
        # Milestones are fractions of the whole run; this part of it starts after the warm-up.
        drops = {max(0, round(m * total_steps) - warmup): train.decay_factor for m in train.milestones}
        main = optax.piecewise_constant_schedule(peak, drops)
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


def make_optimizer(train: Config, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The optimiser.

    "sgd" and "adam" add L2 regularisation to the gradient, before momentum, as AlexNet and VGG do; "adamw" decays the
    weights apart from the gradient.

    Args:
      train: the config's `train` part: optimizer, momentum, weight_decay, clip_norm.
      schedule: step -> learning rate.

    Returns:
      An Optax transformation.

    Raises:
      ValueError: for an unknown optimiser.

    Source: Krizhevsky et al. (2012), section 5; Kingma, Ba (2015); Loshchilov, Hutter (2019).
    """
    if train.optimizer not in OPTIMIZERS:
        raise ValueError(f"train.optimizer (={train.optimizer!r}) must be one of {', '.join(OPTIMIZERS)}")
    clip = [optax.clip_by_global_norm(train.clip_norm)] if train.clip_norm else []
    if train.optimizer == "adamw":
        return optax.chain(*clip, optax.adamw(schedule, weight_decay=train.weight_decay, mask=kernel_mask))
    l2 = [optax.add_decayed_weights(train.weight_decay, mask=kernel_mask)] if train.weight_decay else []
    if train.optimizer == "adam":
        return optax.chain(*clip, *l2, optax.adam(schedule))
    return optax.chain(*clip, *l2, optax.sgd(schedule, momentum=train.momentum))
