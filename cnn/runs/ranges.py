"""Which values a field of a config may have: one record for each field, checked before a run reads or writes anything.

Those of `data` are in `cnn.data.fields`, because `cnn.data.load` checks them for whoever calls it. What depends on the
data or on the net is checked by `cnn.training.checks`, once they are there.
"""

from typing import Any

from cnn import ops
from cnn.data import fields as data_fields
from cnn.data.arrays import MOST_UNNAMED
from cnn.data.augment import PAD_MODES
from cnn.data.rand_augment import LARGEST, OPERATIONS
from cnn.nets.outputs import ACTIVATIONS
from cnn.runs.defaults import Config
from cnn.runtime.devices import SHARDINGS
from cnn.runtime.ranges import MOST, Range, each, number, one_of, short, text, whole

SCHEDULES = ("constant", "step", "linear", "cosine")
OPTIMIZERS = ("sgd", "adam", "adamw", "muon")
DTYPES = ("float32", "bfloat16")
BALANCED = "balanced"  # the word for class weights that follow from the numbers of examples
LARGEST_SEED = 2**32 - 1  # of what NumPy's RandomState takes, which scenes are drawn with
MOST_STEPS = MOST  # steps are counted in int32


def _is_zoom(value: Any) -> bool:
    return each(number(lambda one: one > 0))(value) and len(value) == 2 and value[0] <= value[1]


def _is_randaugment(value: Any) -> bool:
    return len(value) == 2 and whole(1, len(OPERATIONS))(value[0]) and number(lambda one: 0 <= one <= LARGEST)(value[1])


def _are_weights(value: Any) -> bool:
    # The command line makes a tuple of one text.
    weights = each(number(lambda one: 1e-30 <= one <= 1e30))
    return value == BALANCED or (isinstance(value, tuple | list) and (list(value) == [BALANCED] or weights(value)))


def _flag(field: str) -> Range:
    return Range(field, lambda value: isinstance(value, bool), "True or False")


_ABOVE_0 = number(lambda value: value > 0)
_NOT_NEGATIVE = number(lambda value: value >= 0)
_FRACTION = number(lambda value: 0 <= value <= 1)
_PART = number(lambda value: 0 <= value < 1)

_COUNT = f"a whole number from 1 to {MOST:,}"

RANGES = (
    Range("seed", whole(0, LARGEST_SEED), f"a whole number from 0 to {LARGEST_SEED:,}"),
    Range("net.name", text(1), "the name of a net, or a function of your own"),
    # As many as data may have without names: its table of confusions has as many rows and columns.
    Range("net.num_classes", whole(1, MOST_UNNAMED), f"a whole number from 1 to {MOST_UNNAMED:,}", may_be_absent=True),
    Range("net.output_activation", one_of(ACTIVATIONS), f"one of {', '.join(ACTIVATIONS)}", may_be_absent=True),
    Range("net.options", lambda value: hasattr(value, "items"), "options by name"),
    *data_fields.RANGES,
    Range("augment.pad", whole(0), f"a whole number of pixels from 0 to {MOST:,}"),
    Range("augment.pad_mode", one_of(tuple(PAD_MODES)), f"one of {', '.join(PAD_MODES)}"),
    _flag("augment.flip"),
    _flag("augment.flip_in_turn"),
    Range("augment.scale", _is_zoom, "two numbers (low, high), both above 0, low at most high, such as (0.8, 1.2)"),
    Range(
        "augment.area",
        lambda value: each(number(lambda one: 0 < one <= 1))(value) and (len(value) == 0 or _is_zoom(value)),
        "two fractions (low, high), above 0 and at most 1, such as (0.08, 1), or () for the whole picture",
    ),
    Range("augment.aspect", _is_zoom, "two ratios (low, high), both above 0, low at most high, such as (0.75, 1.33)"),
    Range(
        "augment.shortest_side",
        lambda value: each(whole(1))(value) and (len(value) == 0 or len(value) == 2 and value[0] <= value[1]),
        "two whole numbers of pixels (low, high), such as (256, 512), or () for data.image_size",
    ),
    Range("augment.brightness", _FRACTION, "a number from 0 to 1"),
    Range("augment.contrast", _FRACTION, "a number from 0 to 1"),
    Range("augment.colour_noise", _NOT_NEGATIVE, "a number, at least 0"),
    Range(
        "augment.randaugment",
        lambda value: each(number(lambda one: True))(value) and (len(value) == 0 or _is_randaugment(value)),
        "(a whole number of operations from 1 to 14, a magnitude from 0 to 30), such as (2, 9), or () for none",
    ),
    Range("augment.mixup", _NOT_NEGATIVE, "a number, at least 0"),
    Range("train.epochs", _ABOVE_0, "a number above 0", may_be_absent=True),
    Range("train.steps", whole(1, MOST_STEPS), _COUNT, may_be_absent=True),
    Range("train.batch_size", whole(1), _COUNT),
    Range("train.optimizer", one_of(OPTIMIZERS), f"one of {', '.join(OPTIMIZERS)}"),
    Range("train.learning_rate", _ABOVE_0, "a number above 0"),
    Range("train.momentum", _PART, "a number, at least 0 and below 1"),
    _flag("train.nesterov"),
    Range("train.bias_rate", _NOT_NEGATIVE, "a number, at least 0"),
    Range("train.head_rate", _NOT_NEGATIVE, "a number, at least 0"),
    Range("train.schedule", one_of(SCHEDULES), f"one of {', '.join(SCHEDULES)}"),
    Range("train.warmup", _FRACTION, "a fraction of the run, from 0 to 1"),
    Range("train.milestones", each(_FRACTION), "fractions of the run, each from 0 to 1, such as (0.5, 0.75)"),
    Range("train.decay_factor", number(lambda value: 0 < value <= 1), "a number above 0, at most 1"),
    Range("train.weight_decay", _NOT_NEGATIVE, "a number, at least 0"),
    Range("train.initial_run", text(), "the directory of a run, or empty"),
    Range("train.whitened", text(), "the name of a layer, such as conv1, or empty"),
    Range("train.frozen", each(lambda one: isinstance(one, str)), "names of layers, such as ('conv1',)"),
    Range("train.frozen_until", _FRACTION, "a fraction of the run, from 0 to 1"),
    Range("train.label_smoothing", _PART, "a probability, at least 0 and below 1"),
    Range(
        "train.class_weights",
        _are_weights,
        f"'{BALANCED}', or numbers from 1e-30 to 1e30, one for each class, such as (1, 5), or () for none",
    ),
    Range("train.background", _FRACTION, "a fraction of the examples, from 0 to 1"),
    Range("train.clip_norm", _NOT_NEGATIVE, "a number, at least 0"),
    Range("train.dtype", one_of(DTYPES), f"one of {', '.join(DTYPES)}"),
    Range("train.sharding", one_of(SHARDINGS), f"one of {', '.join(SHARDINGS)}"),
    Range("train.ops", one_of(ops.CHOICES), f"one of {', '.join(ops.CHOICES)}"),
    Range("train.steps_per_dispatch", whole(1), _COUNT),
    Range("eval.batch_size", whole(1), _COUNT),
    _flag("eval.mirror"),
    Range("eval.shift", whole(0), f"a whole number of pixels from 0 to {MOST:,}"),
    Range("eval.every_epochs", _ABOVE_0, "a number above 0"),
    Range("eval.scenes", whole(0), f"a whole number from 0 to {MOST:,}"),
    Range("eval.scene_size", whole(1), f"a whole number of pixels from 1 to {MOST:,}"),
    Range("checkpoint.every_steps", whole(1), _COUNT),
    Range("checkpoint.keep", whole(1), f"{_COUNT}: a run resumes from its last checkpoint"),
    _flag("checkpoint.best"),
)
_BY_FIELD = {one.field: one for one in RANGES}


def check(config: Config) -> None:
    """Checks every field of a config by itself.

    Args:
      config: the config of a run; fields that it does not have, as those of older runs, are not checked.

    Raises:
      ValueError: if fields are out of range; one line that names them all, with their values and what they may be.
    """
    wrong = problems(config)
    if wrong:
        raise ValueError("; ".join(wrong))


def problems(config: Config) -> list[str]:
    """What is wrong with fields of a config, each by itself.

    Args:
      config: the config of a run; fields that it does not have are not looked at.

    Returns:
      A text for each field that is out of range, with its value and what it may be.
    """
    wrong = []
    for one in RANGES:
        group, _, last = one.field.rpartition(".")
        part = config.get(group, {}) if group else config
        if not hasattr(part, "keys"):
            wrong.append(f"{group} (={short(part)}) must be a group of fields, as cnn.runs.defaults has it")
        elif last in part:
            wrong += one.wrong(part[last])
    return list(dict.fromkeys(wrong))


def check_fields(group: str, part: Config, *names: str) -> None:
    """Checks some fields of one group of a config, for functions that are given that group alone.

    Args:
      group: name of the group, "train".
      part: the group.
      *names: names of the fields within it, "momentum".

    Raises:
      ValueError: if one is out of range; says its full name, its value and what it may be.
    """
    wrong = [text for name in names if name in part for text in _BY_FIELD[f"{group}.{name}"].wrong(part[name])]
    if wrong:
        raise ValueError("; ".join(wrong))
