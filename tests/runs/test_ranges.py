"""Ranges of fields: every field with values at its ends, that are taken, and beside them, that are refused."""

import math

import numpy as np
import pytest

from cnn.runs import defaults, ranges

NAN, INF = math.nan, math.inf
NUMBERS = ("0.5", None, NAN, INF, -INF)  # no field with a number takes these
WHOLE = (1.5, True, 2**32, *NUMBERS)  # nor does one with a whole number take these
# field -> values that are taken, values that are refused.
CASES = {
    "net.name": (["qa_net", "my_nets.py:my_net"], ["", None, 3]),
    "net.options": ([{}, {"width": 8}], [None, 3, "width"]),
    "data.name": (["digits", "my.npz"], ["", None, 3]),
    "data.dir": (["", "pictures"], [None, 3]),
    "data.validation_fraction": ([0, 0.1, 0.999], [-0.1, 1, 1.5, *NUMBERS]),
    "data.train_examples": ([None, 1, 2**31 - 1], [0, -1, 2**31, 1.5, NAN, "1", True]),
    "data.image_size": ([None, 1, 64], [0, -1, 2**31, 10**30, 1.5, NAN, "1", True]),
    "data.value_range": (
        [None, (), [], (0, 4095), [-1.5, 2]],
        [(0,), (1, 1), (2, 1), (0, NAN), (0, 1, 2), "0,1", ("0", "1"), 3],
    ),
    "augment.area": ([(), (0.08, 1.0), (0.5, 0.5)], [(0, 1), (0.5, 1.1), (0.9, 0.1), (0.5,), None, "x"]),
    "augment.aspect": ([(0.75, 1.33), (1, 1)], [(), (0, 1), (2, 1), None]),
    "augment.shortest_side": ([(), (256, 512)], [(0, 1), (512, 256), (1.5, 2), (256,), None]),
    "augment.colour_noise": ([0.0, 0.1, 3], [-0.1, NAN, "x", None]),
    "data.in_memory": (["auto", "yes", "no"], ["never", None, True]),
    "data.on_error": (["stop", "skip"], ["ignore", None, True]),
    "data.channels": ([None, (), (2, 1, 0), ["DAPI", 0]], [(-1,), (1.5,), ("",), "210", 2]),
    "seed": ([0, 7, 2**32 - 1, np.int64(3)], [-1, 2**32, *WHOLE]),
    "net.num_classes": ([None, 1, 1000, 30_000], [0, -1, 30_001, 2**31, 2.5, "10", NAN, True]),
    "net.output_activation": ([None, "softmax", "sigmoid"], ["Softmax", "", "tanh", 1]),
    "augment.randaugment": ([(), (2, 9), (14, 0.5), [1, 30]], [(0, 9), (2, 31), (15, 1), (2,), (1.5, 3), None, "x"]),
    "augment.mixup": ([0, 0.2, 1], [-0.1, *NUMBERS]),
    "train.nesterov": ([True, False], [1, 0, "yes", None]),
    "eval.shift": ([0, 1, 4], [-1, 0.5, True, None]),
    "eval.mirror": ([True, False], [1, 0, "yes", None]),
    "train.bias_rate": ([0, 1, 64.0], [-1, *NUMBERS]),
    "train.head_rate": ([0, 1, 0.1], [-1, *NUMBERS]),
    "train.whitened": (["", "conv1"], [None, 1, ("conv1",)]),
    "augment.pad": ([0, 4], [-1, *WHOLE]),
    "augment.pad_mode": (["zero", "reflect", "edge"], ["Zero", "wrap", "", None, 0]),
    "augment.flip": ([True, False], [1, 0, "yes", None]),
    "augment.flip_in_turn": ([True, False], [1, 0, "yes", None]),
    "augment.scale": (
        [(1.0, 1.0), (0.8, 1.2), [0.5, 2], (1e-3, 1e3)],
        [(1.0,), 1.0, (), (1, 1, 1), (0.0, 1.0), (-1, 1), (1.2, 0.8), (NAN, 1), (1, INF), ("a", "b"), "12", None],
    ),
    "augment.brightness": ([0, 0.1, 1], [-0.1, 1.1, *NUMBERS]),
    "augment.contrast": ([0, 0.1, 1], [-0.1, 1.1, *NUMBERS]),
    "train.epochs": ([None, 1e-6, 1, 100.0], [0, -1.0, NAN, INF, "1"]),
    "train.steps": ([None, 1, 2**31 - 1], [0, -5, 2**31, 1.5, NAN, "1", True]),
    "train.batch_size": ([1, 128], [0, -1, *WHOLE]),
    "train.optimizer": (["sgd", "adam", "adamw"], ["SGD", "lion", None, 1]),
    "train.learning_rate": ([1e-9, 0.05, 1e30, np.float32(0.1)], [0, -0.1, *NUMBERS]),
    "train.momentum": ([0, 0.9, 0.999], [-0.1, 1, 2, *NUMBERS]),
    "train.schedule": (["constant", "step", "linear", "cosine"], ["exponential", None]),
    "train.warmup": ([0, 0.5, 1], [-0.1, 1.1, *NUMBERS]),
    "train.milestones": ([(), (0.5,), [0, 0.75, 1]], [("(0.5",), (0.5, 1.5), (-0.1,), (NAN,), 0.5, "0.5", None]),
    "train.decay_factor": ([0.1, 1], [0, -0.1, 1.1, *NUMBERS]),
    "train.weight_decay": ([0, 5e-4, 10], [-1, *NUMBERS]),
    "train.initial_run": (["", "runs/other"], [None, 3]),
    "train.frozen": ([(), ("conv1",), ["conv1", "fc1"]], ["conv1", (1,), None]),
    "train.frozen_until": ([0, 0.5, 1], [-0.1, 1.5, *NUMBERS]),
    "train.label_smoothing": ([0, 0.1, 0.999], [-0.1, 1, 2, *NUMBERS]),
    "train.class_weights": (
        [(), "balanced", ("balanced",), (1, 0.5), [1e-3, 1e3]],
        [(0, 1), (1, -1), (NAN, 1), (INF, 1), (1e-60, 1), ("1", 1), ("balanced", 1), "even", 1, None],
    ),
    "train.background": ([0, 0.3, 1], [-0.1, 1.1, *NUMBERS]),
    "train.clip_norm": ([0, 1.0, 100], [-1, *NUMBERS]),
    "train.dtype": (["float32", "bfloat16"], ["float16", "float64", None]),
    "train.sharding": (["data", "fsdp", "model"], ["tensor", None]),
    "train.ops": (["fast", "plain"], ["slow", None]),
    "train.steps_per_dispatch": ([1, 100], [0, -1, *WHOLE]),
    "eval.batch_size": ([1, 1000], [0, -1, *WHOLE]),
    "eval.every_epochs": ([1e-6, 1, 100.0], [0, -1, *NUMBERS]),
    "eval.scenes": ([0, 200], [-1, *WHOLE]),
    "eval.scene_size": ([1, 80], [0, -80, *WHOLE]),
    "checkpoint.every_steps": ([1, 500], [0, -1, *WHOLE]),
    "checkpoint.keep": ([1, 2], [0, -1, *WHOLE]),
    "checkpoint.best": ([True, False], [1, 0, "yes", None]),
}


def config_with(field, value):
    config = defaults.get_config()
    *path, last = field.split(".")
    group = config[path[0]] if path else config
    with config.ignore_type():
        group[last] = value
    return config


def test_every_field_has_a_range_and_a_case():
    """A field that is added without a range fails here; every case has values below and above, or beside."""
    fields = [field.name for field in defaults.FIELDS]
    assert sorted(one.field for one in ranges.RANGES) == sorted(fields) == sorted(CASES)


def test_the_defaults_are_in_range():
    ranges.check(defaults.get_config())


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, (taken, _) in CASES.items() for value in taken])
def test_values_that_are_taken(field, value):
    ranges.check(config_with(field, value))


@pytest.mark.parametrize(("field", "value"), [(f, value) for f, (_, refused) in CASES.items() for value in refused])
def test_values_that_are_refused(field, value):
    with pytest.raises(ValueError) as error:
        ranges.check(config_with(field, value))
    message = str(error.value)
    assert message.startswith(f"{field} (=") and ") must be " in message and "\n" not in message
    if not isinstance(value, tuple):  # a config makes of a tuple what it likes
        assert repr(value) in message


def test_all_wrong_fields_are_named_at_once():
    config = config_with("train.momentum", 2.0)
    config.eval.batch_size = 0
    message = (
        r"^train.momentum \(=2.0\) must be a number, at least 0 and below 1; "
        r"eval.batch_size \(=0\) must be a whole number from 1 to 2,147,483,647$"
    )
    with pytest.raises(ValueError, match=message):
        ranges.check(config)


def test_a_field_that_an_older_config_lacks_is_not_checked():
    config = defaults.get_config()
    with config.unlocked():
        del config.train.frozen, config.train.ops, config.checkpoint
    ranges.check(config)


def test_some_fields_of_a_group():
    train = config_with("train.momentum", 2.0).train
    ranges.check_fields("train", train, "learning_rate", "schedule")
    with pytest.raises(ValueError, match=r"train.momentum \(=2.0\) must be"):
        ranges.check_fields("train", train, "learning_rate", "momentum")
