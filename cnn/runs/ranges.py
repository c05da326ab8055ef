"""Which values a field of a config may have: one record for each field, checked before a run reads or writes anything.

Fields of `data` are not among them: `cnn.data.load` checks these, for whoever calls it. What depends on the data or on
the net is checked by `cnn.training.checks`, once they are there.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

from cnn import ops
from cnn.data.augment import PAD_MODES
from cnn.runs.config import Config

SCHEDULES = ("constant", "step", "cosine")
OPTIMIZERS = ("sgd", "adam", "adamw")
DTYPES = ("float32", "bfloat16")
LARGEST_SEED = 2**32 - 1  # of what NumPy's RandomState takes, which scenes are drawn with
MOST_STEPS = 2**31 - 1  # steps are counted in int32

Test = Callable[[Any], bool]


class Range(NamedTuple):
    """The values that a field may have.

    Attributes:
      field: full name of the field, "train.momentum".
      holds: whether a value is one of them.
      words: what follows "must be" in the message about another value.
      may_be_absent: whether the field may be None.
    """

    field: str
    holds: Test
    words: str
    may_be_absent: bool = False


def _number(test: Test) -> Test:
    """Finite numbers for which a test holds; True and False are none."""
    return lambda value: (
        isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and bool(test(value))
    )


def _whole(low: int, high: int | None = None) -> Test:
    return _number(
        lambda value: isinstance(value, Integral) and low <= int(value) and (high is None or int(value) <= high)
    )


def _each(test: Test) -> Test:
    return lambda value: isinstance(value, Sequence) and not isinstance(value, str) and all(test(one) for one in value)


def _one_of(names: Sequence[str]) -> Test:
    return lambda value: isinstance(value, str) and value in names


def _is_zoom(value: Any) -> bool:
    return _each(_number(lambda one: one > 0))(value) and len(value) == 2 and value[0] <= value[1]


_ABOVE_0 = _number(lambda value: value > 0)
_NOT_NEGATIVE = _number(lambda value: value >= 0)
_FRACTION = _number(lambda value: 0 <= value <= 1)
_PART = _number(lambda value: 0 <= value < 1)

RANGES = (
    Range("seed", _whole(0, LARGEST_SEED), f"a whole number from 0 to {LARGEST_SEED:,}"),
    Range("net.num_classes", _whole(1), "a whole number, at least 1", may_be_absent=True),
    Range("augment.pad", _whole(0), "a whole number of pixels, at least 0"),
    Range("augment.pad_mode", _one_of(tuple(PAD_MODES)), f"one of {', '.join(PAD_MODES)}"),
    Range("augment.flip", lambda value: isinstance(value, bool), "True or False"),
    Range("augment.scale", _is_zoom, "two numbers (low, high), both above 0, low at most high, such as (0.8, 1.2)"),
    Range("augment.brightness", _FRACTION, "a number from 0 to 1"),
    Range("augment.contrast", _FRACTION, "a number from 0 to 1"),
    Range("train.epochs", _ABOVE_0, "a number above 0", may_be_absent=True),
    Range("train.steps", _whole(1, MOST_STEPS), f"a whole number from 1 to {MOST_STEPS:,}", may_be_absent=True),
    Range("train.batch_size", _whole(1), "a whole number, at least 1"),
    Range("train.optimizer", _one_of(OPTIMIZERS), f"one of {', '.join(OPTIMIZERS)}"),
    Range("train.learning_rate", _ABOVE_0, "a number above 0"),
    Range("train.momentum", _PART, "a number, at least 0 and below 1"),
    Range("train.schedule", _one_of(SCHEDULES), f"one of {', '.join(SCHEDULES)}"),
    Range("train.warmup", _FRACTION, "a fraction of the run, from 0 to 1"),
    Range("train.milestones", _each(_FRACTION), "fractions of the run, each from 0 to 1, such as (0.5, 0.75)"),
    Range("train.decay_factor", _number(lambda value: 0 < value <= 1), "a number above 0, at most 1"),
    Range("train.weight_decay", _NOT_NEGATIVE, "a number, at least 0"),
    Range("train.frozen", _each(lambda one: isinstance(one, str)), "names of layers, such as ('conv1',)"),
    Range("train.frozen_until", _FRACTION, "a fraction of the run, from 0 to 1"),
    Range("train.label_smoothing", _PART, "a probability, at least 0 and below 1"),
    Range("train.background", _FRACTION, "a fraction of the examples, from 0 to 1"),
    Range("train.clip_norm", _NOT_NEGATIVE, "a number, at least 0"),
    Range("train.dtype", _one_of(DTYPES), f"one of {', '.join(DTYPES)}"),
    Range("train.ops", _one_of(ops.CHOICES), f"one of {', '.join(ops.CHOICES)}"),
    Range("train.steps_per_dispatch", _whole(1), "a whole number, at least 1"),
    Range("eval.batch_size", _whole(1), "a whole number, at least 1"),
    Range("eval.every_epochs", _ABOVE_0, "a number above 0"),
    Range("eval.scenes", _whole(0), "a whole number, at least 0"),
    Range("eval.scene_size", _whole(1), "a whole number of pixels, at least 1"),
    Range("checkpoint.every_steps", _whole(1), "a whole number, at least 1"),
    Range("checkpoint.keep", _whole(1), "a whole number, at least 1: a run resumes from its last checkpoint"),
)
_BY_FIELD = {one.field: one for one in RANGES}


def check(config: Config) -> None:
    """Checks every field of a config by itself.

    Args:
      config: the config of a run; fields that it does not have, as those of older runs, are not checked.

    Raises:
      ValueError: if fields are out of range; one line that names them all, with their values and what they may be.
    """
    wrong = []
    for one in RANGES:
        group, _, last = one.field.rpartition(".")
        part = config.get(group, {}) if group else config
        if last in part:
            wrong += _wrong(one, part[last])
    if wrong:
        raise ValueError("; ".join(wrong))


def check_fields(group: str, part: Config, *names: str) -> None:
    """Checks some fields of one group of a config, for functions that are given that group alone.

    Args:
      group: name of the group, "train".
      part: the group.
      *names: names of the fields within it, "momentum".

    Raises:
      ValueError: if one is out of range; says its full name, its value and what it may be.
    """
    wrong = [text for name in names if name in part for text in _wrong(_BY_FIELD[f"{group}.{name}"], part[name])]
    if wrong:
        raise ValueError("; ".join(wrong))


def _wrong(one: Range, value: Any) -> list[str]:
    """What is wrong with a value: a message, or none."""
    if one.may_be_absent and value is None:
        return []
    return [] if one.holds(value) else [f"{one.field} (={value!r}) must be {one.words}"]
